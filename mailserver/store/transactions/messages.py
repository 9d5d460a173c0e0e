"""Messages come into mailboxes, and leave them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.describe import prefixed
from mailserver.model.changes import Copied, EventKind
from mailserver.model.flags import Flags
from mailserver.model.ids import MAX_UID, ModSeq, Uid
from mailserver.model.message import Description, InternalDate
from mailserver.model.numset import NumSet
from mailserver.store.content import checksum
from mailserver.store.engine import Connection, Transaction
from mailserver.store.limits import KEPT_INLINE
from mailserver.store.spool import Spooled
from mailserver.store.sql import mailboxes as mailbox_sql
from mailserver.store.sql import messages as sql
from mailserver.store.transactions import quota
from mailserver.store.transactions.rows import (
    Counted,
    Mailbox,
    count,
    pack_keywords,
    spell_keywords,
)
from mailserver.store.transactions.threads import join_thread


@attrs.frozen
class Incoming:
    """A message on its way into a mailbox.

    Attributes:
        spooled: its octets, without `prefix`.
        description: of `prefix` and octets together.
        prefix: header lines of this recipient alone.
        import_key: what an import knows it by, or None.
        unique_id: what POP3 called it on another server, or None.
    """

    spooled: Spooled
    description: Description
    flags: Flags
    date: InternalDate
    prefix: bytes = b""
    import_key: str | None = None
    unique_id: str | None = None


def incoming(
    spooled: Spooled,
    flags: Flags,
    date: InternalDate,
    prefix: bytes = b"",
    import_key: str | None = None,
    unique_id: str | None = None,
) -> Incoming:
    """Make an `Incoming`; with a prefix its description is derived, not computed anew."""
    description = spooled.description
    if prefix:
        description = prefixed(description, prefix)
    return Incoming(spooled, description, flags, date, prefix, import_key, unique_id)


@attrs.frozen
class NewPlace:
    """A row of `place` to be made."""

    message: int
    system: int
    keywords: str
    size: int
    date: tuple[int, int, int]  # seconds, zone, day


def append(
    transaction: Transaction,
    mailbox: Mailbox,
    messages: Sequence[Incoming],
    kind: EventKind = EventKind.UPDATE_MSG,
) -> Copied:
    """Add messages at the end of a mailbox (T25).

    Raises:
        MailError: OVER_QUOTA, LIMIT, DISK_FULL.
    """
    connection = transaction.connection
    if len(messages) > transaction.limits.messages_per_append:
        raise MailError(
            ErrorKind.LIMIT,
            f"at most {transaction.limits.messages_per_append} messages come in at once",
        )
    messages = [message for message in messages if _is_new(connection, message)]
    quota.charge(
        transaction,
        mailbox.quota_root,
        sum(message.description.size for message in messages),
        len(messages),
    )
    words = [word for message in messages for word in message.flags.keywords]
    spelled = spell_keywords(connection, mailbox, words, transaction.limits.keywords)
    places = [
        NewPlace(
            keep(transaction, message),
            int(message.flags.system),
            pack_keywords(spelled[word.lower()] for word in message.flags.keywords),
            message.description.size,
            (message.date.seconds, message.date.zone, message.date.day),
        )
        for message in messages
    ]
    copied = place(transaction, mailbox, places, kind)
    named = [
        (mailbox.number, uid, message.unique_id)
        for uid, message in zip(copied.target, messages, strict=True)
        if message.unique_id is not None
    ]
    if named:
        connection.run_many(sql.NAME_UNIQUELY, named)
    return copied


def _is_new(connection: Connection, message: Incoming) -> bool:
    """Say whether an import brings it for the first time, and remember that it did."""
    if message.import_key is None:
        return True
    if connection.row(sql.IMPORTED, (message.import_key,)):
        return False
    connection.run(sql.IMPORT, (message.import_key,))
    return True


def keep(transaction: Transaction, message: Incoming) -> int:
    """Keep the octets and what they say, in one place for now; returns the EMAILID."""
    connection = transaction.connection
    d, spooled, prefix = message.description, message.spooled, message.prefix
    if spooled.octets is None:
        assert spooled.digest is not None
        transaction.blobs.keep(spooled.digest, spooled.synced_path())
        header, rest, crc = _header_of_file(transaction, d, spooled.digest, prefix), None, 0
    else:
        octets = prefix + spooled.octets if prefix else spooled.octets
        header, rest = octets[: d.header_size], octets[d.header_size :]
        crc = checksum(octets) if prefix else spooled.crc
    number = connection.insert(
        sql.INSERT_MESSAGE,
        (
            join_thread(connection, d.message_id, d.references),
            1,
            d.size,
            d.header_size,
            len(prefix),
            crc,
            spooled.digest,
            d.format,
            d.sent_seconds,
            d.sent_day,
            int(d.has_attachment),
            int(d.has_media),
            d.base_subject,
            d.from_mailbox,
            d.to_mailbox,
            d.cc_mailbox,
            d.from_display,
            d.to_display,
            d.envelope,
            d.body,
            d.body_structure,
            d.sections,
            d.header_index,
            d.preview,
            d.message_id,
            " ".join(d.references),
            header,
        ),
    )
    if rest is not None:
        connection.run(sql.INSERT_OCTETS, (number, rest))
    elif spooled.without_nul:
        connection.run(sql.SAY_WITHOUT_NUL, (number,))
    transaction.arrived = True
    return number


def _header_of_file(
    transaction: Transaction, description: Description, digest: str, prefix: bytes
) -> bytes:
    """The header of a message in a file, whole; at least the prefix is kept of a long one.

    The prefix stands nowhere else, so it always begins what is kept. A header over
    `KEPT_INLINE` is cut to its prefix, which readers tell by its length.
    """
    if description.header_size - len(prefix) > KEPT_INLINE:
        return prefix
    with open(transaction.blobs.open(digest), "rb") as octets:
        return prefix + octets.read(description.header_size - len(prefix))


def place(
    transaction: Transaction, mailbox: Mailbox, places: Sequence[NewPlace], kind: EventKind
) -> Copied:
    """Give messages their UIDs in a mailbox; quota is the caller's matter.

    Raises:
        MailError: LIMIT when the mailbox has no UIDs left.
    """
    first, modseq = mailbox.uid_next, mailbox.highest_modseq + 1
    if not places:
        return Copied(mailbox.uid_validity, (), (), ModSeq(mailbox.highest_modseq))
    after = first + len(places)
    if after > MAX_UID:
        raise MailError(ErrorKind.LIMIT, "this mailbox has no unique identifiers left")
    moved = Counted()
    rows: list[tuple[Any, ...]] = []
    for uid, new in enumerate(places, first):
        moved.add(new.system, new.size)
        rows.append(
            (
                mailbox.number,
                uid,
                new.message,
                modseq,
                new.system,
                new.keywords,
                new.size,
                *new.date,
                transaction.now,
            )
        )
    transaction.connection.run_many(sql.INSERT_PLACE, rows)
    count(transaction.connection, mailbox, after, modseq, moved)
    transaction.changed(mailbox.id, modseq, kind)
    return Copied(
        mailbox.uid_validity, (), tuple(Uid(uid) for uid in range(first, after)), ModSeq(modseq)
    )


def expunge(transaction: Transaction, mailbox: Mailbox, uids: NumSet | None) -> ModSeq:
    r"""Remove the messages with `\Deleted`, all or those among `uids`."""
    connection = transaction.connection
    ranges = ((1, MAX_UID),) if uids is None else uids.clip(1, mailbox.uid_next - 1).ranges
    found = [
        row
        for low, high in ranges
        for row in connection.rows(sql.DELETED_IN, (mailbox.number, low, high))
    ]
    if not found:
        return ModSeq(mailbox.highest_modseq)
    moved = Counted()
    for _, _, system, size in found:
        moved.add(system, size, -1)
    modseq = take_out(transaction, mailbox, [row[0] for row in found], moved)
    release(transaction, Counter(row[1] for row in found))
    quota.give_back(transaction, mailbox.quota_root, -moved.size, -moved.messages)
    transaction.changed(mailbox.id, modseq, EventKind.DELETE_MSG)
    return ModSeq(modseq)


def take_out(
    transaction: Transaction, mailbox: Mailbox, uids: Sequence[int], moved: Counted
) -> int:
    """Remove places and leave tombstones; the messages themselves are the caller's matter.

    Args:
        uids: ascending, all there.
        moved: what they count, negative.

    Returns:
        The mod-sequence of the change.
    """
    connection = transaction.connection
    modseq = mailbox.highest_modseq + 1
    connection.run_many(sql.REMOVE_PLACE, ((mailbox.number, uid) for uid in uids))
    connection.run_many(
        sql.BURY, ((mailbox.number, modseq, low, high) for low, high in NumSet.of(uids).ranges)
    )
    count(connection, mailbox, mailbox.uid_next, modseq, moved)
    kept = transaction.limits.tombstones
    pruned = connection.row(sql.OLDEST_TOMBSTONE_KEPT, (mailbox.number, kept))
    if pruned is not None:
        connection.run(sql.PRUNE, (mailbox.number, pruned[0]))
        connection.run(sql.PRUNED, (pruned[0], mailbox.number))
    return modseq


def release(transaction: Transaction, places: Mapping[int, int]) -> None:
    """Take places from messages; remove those that have none left, with their octets.

    Args:
        places: message → number of places it loses.
    """
    connection = transaction.connection
    fewer: list[tuple[int, int]] = []
    gone: list[tuple[int]] = []
    for message, there, digest in connection.rows(sql.UNPLACED, (json.dumps(list(places)),)):
        lost = places[message]
        if there > lost:
            fewer.append((-lost, message))
            continue
        gone.append((message,))
        if digest is not None:
            transaction.unused.append(digest)
    connection.run_many(sql.MORE_PLACES, fewer)
    connection.run_many(sql.REMOVE_MESSAGE, gone)
    connection.run_many(sql.REMOVE_OCTETS, gone)
    connection.run_many(sql.REMOVE_WITHOUT_NUL, gone)
    transaction.left = transaction.left or bool(gone)


def empty(transaction: Transaction, mailbox: Mailbox) -> None:
    """Remove all that belongs to a mailbox, for its deletion."""
    connection = transaction.connection
    release(transaction, dict(connection.rows(sql.MESSAGES_OF, (mailbox.number,))))
    quota.give_back(transaction, mailbox.quota_root, mailbox.size, mailbox.messages)
    for statement in mailbox_sql.FORGET:
        connection.run(statement, (mailbox.number,))
