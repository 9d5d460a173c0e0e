"""STORE: flags of messages, changed inside the transaction that reads them (T7)."""

from __future__ import annotations

from functools import lru_cache

from mailserver.errors import ErrorKind, MailError
from mailserver.model.acl import Right, Rights
from mailserver.model.changes import EventKind, FlagsStored
from mailserver.model.flags import FlagOp, Flags, System, apply_flags
from mailserver.model.ids import ModSeq, Uid
from mailserver.model.numset import NumSet
from mailserver.store.engine import Transaction
from mailserver.store.sql import messages as sql
from mailserver.store.transactions.rows import (
    Counted,
    Mailbox,
    count,
    pack_keywords,
    spell_keywords,
)

ALL_SYSTEM = System(0)
for _bit in System:
    ALL_SYSTEM |= _bit
WRITTEN = ALL_SYSTEM & ~(System.SEEN | System.DELETED)


@lru_cache(maxsize=64)
def permitted(rights: Rights) -> tuple[System, bool]:
    """The system flags that the rights allow to change, and whether keywords are (RFC 4314 §4)."""
    system = System(0)
    if Right.SEEN in rights:
        system |= System.SEEN
    if Right.DELETE_MESSAGES in rights:
        system |= System.DELETED
    if Right.WRITE in rights:
        system |= WRITTEN
    return system, Right.WRITE in rights


def store_flags(
    transaction: Transaction,
    mailbox: Mailbox,
    rights: Rights,
    uids: NumSet,
    op: FlagOp,
    given: Flags,
    unchanged_since: int | None,
) -> FlagsStored:
    """Change flags; see `IMailStore.store_flags`.

    Raises:
        MailError: NO_PERMISSION, LIMIT.
    """
    connection = transaction.connection
    system, with_keywords = permitted(rights)
    touches = given.system if op is not FlagOp.REPLACE else ALL_SYSTEM
    keyword_wanted = bool(given.keywords) or op is FlagOp.REPLACE
    nothing_asked = not (given.system or given.keywords) and op is not FlagOp.REPLACE
    if not (touches & system or (keyword_wanted and with_keywords) or nothing_asked):
        raise MailError(ErrorKind.NO_PERMISSION, "you have no right to change these flags")
    words = given.keywords if with_keywords else ()
    if op is not FlagOp.REMOVE:
        spelled = spell_keywords(connection, mailbox, words, transaction.limits.keywords)
        words = tuple(spelled[word.lower()] for word in words)
    given = Flags(given.system & system, words)
    kept = ALL_SYSTEM & ~system if op is FlagOp.REPLACE else System(0)

    memo: dict[tuple[int, str], tuple[int, str]] = {}
    moved = Counted()
    modseq = mailbox.highest_modseq + 1
    changed: list[Uid] = []
    runs = _Runs()
    refused: list[Uid] = []
    gained = 0
    for low, high in uids.clip(1, mailbox.uid_next - 1).ranges:
        runs.end()  # what lies between the ranges is not looked at
        for uid, old, old_words, size, since in connection.rows(
            sql.FLAGS_IN, (mailbox.number, low, high)
        ):
            if unchanged_since is not None and since > unchanged_since:
                refused.append(Uid(uid))
                runs.end()
                continue
            before = (old, old_words)
            after = memo.get(before)
            if after is None:
                flags = apply_flags(Flags(System(old), tuple(old_words.split())), op, given)
                after = memo[before] = (
                    int(flags.system | (System(old) & kept)),
                    pack_keywords(flags.keywords) if with_keywords else old_words,
                )
            if after == before:
                runs.end()
                continue
            gained |= after[0] & ~old
            moved.change(old, after[0], size)
            changed.append(Uid(uid))
            runs.add(uid, after)
    if not changed:
        return FlagsStored(ModSeq(mailbox.highest_modseq), (), tuple(refused))
    connection.run_many(
        sql.SET_FLAGS, ((*after, modseq, mailbox.number, *span) for after, span in runs.found)
    )
    count(connection, mailbox, mailbox.uid_next, modseq, moved)
    transaction.changed(mailbox.id, modseq, _kind(gained))
    return FlagsStored(ModSeq(modseq), tuple(changed), tuple(refused))


class _Runs:
    """Neighbours that get the same flags, to be written by one statement: for 10,000
    messages that costs a fifth of a statement each.

    Attributes:
        found: what they get, and the first and last UID, between which are no others.
    """

    def __init__(self) -> None:
        self.found: list[tuple[tuple[int, str], tuple[int, int]]] = []
        self._is_open = False

    def add(self, uid: int, after: tuple[int, str]) -> None:
        """The next message there is gets these flags."""
        if self._is_open and self.found[-1][0] == after:
            self.found[-1] = after, (self.found[-1][1][0], uid)
        else:
            self.found.append((after, (uid, uid)))
            self._is_open = True

    def end(self) -> None:
        """The next message there is stays as it is."""
        self._is_open = False


def _kind(gained: int) -> EventKind:
    """The event for system flags that messages gained (SUN-55)."""
    if gained & System.DELETED:
        return EventKind.TRASH_MSG
    return EventKind.READ_MSG if gained & System.SEEN else EventKind.MSG_FLAGS
