"""COPY and MOVE: places are made and removed, octets stay where they are (T26)."""

from __future__ import annotations

from collections import Counter

import attrs

from mailserver.model.changes import Copied, EventKind
from mailserver.model.ids import MAX_UID, ModSeq, Uid
from mailserver.model.numset import NumSet
from mailserver.store.blobs import Blobs
from mailserver.store.engine import Connection, Row, Transaction
from mailserver.store.sql import messages as sql
from mailserver.store.transactions import quota
from mailserver.store.transactions.messages import NewPlace, place, release, take_out
from mailserver.store.transactions.rows import (
    Counted,
    Mailbox,
    by_id,
    pack_keywords,
    spell_keywords,
)
from mailserver.store.transactions.threads import join_thread


def places_of(connection: Connection, mailbox: Mailbox, uids: NumSet) -> list[Row]:
    """The rows of `sql.PLACES_IN` for those of `uids` that are there, ascending."""
    return [
        row
        for low, high in uids.clip(1, mailbox.uid_next - 1).ranges
        for row in connection.rows(sql.PLACES_IN, (mailbox.number, low, high))
    ]


def _new_places(transaction: Transaction, target: Mailbox, rows: list[Row]) -> list[NewPlace]:
    """The same messages in another mailbox, with keywords as that one spells them."""
    combinations = dict.fromkeys(row[3] for row in rows)
    words = [word for packed in combinations for word in packed.split()]
    spelled = spell_keywords(transaction.connection, target, words, transaction.limits.keywords)
    packed = {
        old: pack_keywords(spelled[word.lower()] for word in old.split()) for old in combinations
    }
    return [
        NewPlace(row[1], row[2], packed[row[3]], row[4], (row[5], row[6], row[7])) for row in rows
    ]


def copy(transaction: Transaction, source: Mailbox, uids: NumSet, target: Mailbox) -> Copied:
    """Copy messages within the account.

    Raises:
        MailError: OVER_QUOTA, LIMIT.
    """
    connection = transaction.connection
    rows = places_of(connection, source, uids)
    quota.charge(transaction, target.quota_root, sum(row[4] for row in rows), len(rows))
    copied = place(
        transaction, target, _new_places(transaction, target, rows), EventKind.UPDATE_MSG
    )
    more = Counter(row[1] for row in rows)
    connection.run_many(sql.MORE_PLACES, ((number, message) for message, number in more.items()))
    return attrs.evolve(copied, source=tuple(Uid(row[0]) for row in rows))


def move(transaction: Transaction, source: Mailbox, uids: NumSet, target: Mailbox) -> Copied:
    """Move messages within the account; the quota is not checked (CGP-15).

    Into the mailbox where they are, they get new UIDs at its end (RFC 6851 §3.3 leaves
    that to the server).

    Raises:
        MailError: LIMIT.
    """
    connection = transaction.connection
    rows = places_of(connection, source, uids)
    if not rows:
        return Copied(
            target.uid_validity,
            (),
            (),
            ModSeq(target.highest_modseq),
            ModSeq(source.highest_modseq),
        )
    moved = Counted()
    for row in rows:
        moved.add(row[2], row[4], -1)
    copied = place(
        transaction, target, _new_places(transaction, target, rows), EventKind.UPDATE_MSG
    )
    if source.number == target.number:
        again = by_id(connection, source.id)
        assert again is not None
        source = again
    if source.quota_root != target.quota_root:
        quota.give_back(transaction, source.quota_root, -moved.size, len(rows))
        quota.give_back(transaction, target.quota_root, moved.size, -len(rows))
    modseq = take_out(transaction, source, [row[0] for row in rows], moved)
    transaction.changed(source.id, modseq, EventKind.DELETE_MSG)
    target_modseq = modseq if source.number == target.number else copied.mod_sequence
    return attrs.evolve(
        copied,
        source=tuple(Uid(row[0]) for row in rows),
        mod_sequence=ModSeq(target_modseq),
        source_mod_sequence=ModSeq(modseq),
    )


def move_all(transaction: Transaction, source: Mailbox, target: Mailbox) -> None:
    """Move everything: RENAME INBOX."""
    move(transaction, source, NumSet(((1, MAX_UID),)), target)


def copy_from(
    transaction: Transaction,
    origin: Connection,
    blobs: Blobs,
    source: Mailbox,
    uids: NumSet,
    target: Mailbox,
) -> Copied:
    """Copy messages of another account, octets and all; runs in the target's transaction.

    Args:
        origin: the other account, in one state.
        blobs: its files.

    Raises:
        MailError: OVER_QUOTA, LIMIT, DISK_FULL.
    """
    rows = places_of(origin, source, uids)
    quota.charge(transaction, target.quota_root, sum(row[4] for row in rows), len(rows))
    taken = [(row[0], _take_over(transaction, origin, blobs, row[1]), *row[2:]) for row in rows]
    copied = place(
        transaction, target, _new_places(transaction, target, taken), EventKind.UPDATE_MSG
    )
    return attrs.evolve(copied, source=tuple(Uid(row[0]) for row in rows))


def _take_over(transaction: Transaction, origin: Connection, blobs: Blobs, message: int) -> int:
    """Keep another account's message in this one; returns its id here."""
    found = origin.row(sql.COPY_MESSAGE, (message,))
    assert found is not None
    row = dict(zip(sql.MESSAGE_COLUMNS, found, strict=True))
    row["places"] = 1
    row["thread"] = join_thread(
        transaction.connection, row["message_id"], tuple(row["ancestors"].split())
    )
    if row["digest"] is not None:
        transaction.blobs.keep(row["digest"], str(blobs.path(row["digest"])))
    number = transaction.connection.insert(sql.INSERT_MESSAGE, tuple(row.values()))
    if origin.row(sql.IS_WITHOUT_NUL, (message,)):
        transaction.connection.run(sql.SAY_WITHOUT_NUL, (number,))
    rest = origin.row(sql.REST, (message,))
    if rest is not None:
        transaction.connection.run(sql.INSERT_OCTETS, (number, rest[0]))
    transaction.arrived = True
    return number


def remove(transaction: Transaction, source: Mailbox, uids: NumSet) -> ModSeq:
    """Remove messages whatever their flags, after they were copied to another account."""
    rows = places_of(transaction.connection, source, uids)
    if not rows:
        return ModSeq(source.highest_modseq)
    moved = Counted()
    for row in rows:
        moved.add(row[2], row[4], -1)
    modseq = take_out(transaction, source, [row[0] for row in rows], moved)
    release(transaction, Counter(row[1] for row in rows))
    quota.give_back(transaction, source.quota_root, -moved.size, len(rows))
    transaction.changed(source.id, modseq, EventKind.DELETE_MSG)
    return ModSeq(modseq)
