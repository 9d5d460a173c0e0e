"""A mailbox's row, and the counters that go with every change of its messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.model.flags import System
from mailserver.model.ids import MailboxId
from mailserver.model.names import DELIMITER
from mailserver.store.engine import Connection
from mailserver.store.sql import mailboxes as sql


class Mailbox(NamedTuple):
    """The row of a mailbox, as it is read; the meaning of each column stands in the schema.

    Attributes:
        subscribed: the owner has subscribed to its name.
    """

    number: int
    id: MailboxId
    name: str
    selectable: int
    special_use: str | None
    quota_root: int
    uid_validity: int
    uid_next: int
    highest_modseq: int
    pruned_modseq: int
    first_recent: int
    keywords: int
    messages: int
    unseen: int
    deleted: int
    size: int
    deleted_size: int
    subscribed: int


def no_such_mailbox(name: str | None = None) -> MailError:
    """The one answer for what is not there and for what may not be seen (T39)."""
    return MailError(ErrorKind.NONEXISTENT, "no such mailbox", subject=name)


def by_id(connection: Connection, mailbox: MailboxId) -> Mailbox | None:
    """Find a mailbox by its id."""
    return connection.kept(mailbox, lambda: _one(connection, sql.BY_ID, mailbox))


def by_name(connection: Connection, name: str) -> Mailbox | None:
    """Find a mailbox by its canonical name."""
    return connection.kept((name,), lambda: _one(connection, sql.BY_NAME, name))


def _one(connection: Connection, statement: str, argument: str) -> Mailbox | None:
    row = connection.row(statement, (argument,))
    return None if row is None else Mailbox(*row)


def inferiors(connection: Connection, name: str) -> list[Mailbox]:
    """The mailboxes below a name, ascending by name."""
    assert DELIMITER == "/"  # the statement knows the character after it
    return [Mailbox(*row) for row in connection.rows(sql.INFERIORS, (name, name))]


# As integers: an operation on members of a Flag costs 1 µs, which was half of a large STORE.
_SEEN, _DELETED = int(System.SEEN), int(System.DELETED)


@attrs.define
class Counted:
    """How far a change moves the counters of a mailbox."""

    messages: int = 0
    unseen: int = 0
    deleted: int = 0
    size: int = 0
    deleted_size: int = 0

    def add(self, system: int, size: int, sign: int = 1) -> None:
        """Count a message in, or out with `sign` -1."""
        self.messages += sign
        self.size += sign * size
        if not system & _SEEN:
            self.unseen += sign
        if system & _DELETED:
            self.deleted += sign
            self.deleted_size += sign * size

    def change(self, old: int, new: int, size: int) -> None:
        """Count a message whose system flags change."""
        changed = old ^ new
        if changed & _SEEN:
            self.unseen += -1 if new & _SEEN else 1
        if changed & _DELETED:
            sign = 1 if new & _DELETED else -1
            self.deleted += sign
            self.deleted_size += sign * size


def count(
    connection: Connection, mailbox: Mailbox, uid_next: int, modseq: int, moved: Counted
) -> None:
    """Write what a change did to the mailbox's row."""
    connection.run(
        sql.COUNTED,
        (
            uid_next,
            modseq,
            moved.messages,
            moved.unseen,
            moved.deleted,
            moved.size,
            moved.deleted_size,
            mailbox.number,
        ),
    )


def spell_keywords(
    connection: Connection, mailbox: Mailbox, words: Iterable[str], limit: int
) -> dict[str, str]:
    """Learn keywords that are new to a mailbox, and how it spells all of them (T11).

    Args:
        words: keywords in any case; of several spellings of a new one the first is learnt.
        limit: different keywords that a mailbox may have.

    Returns:
        Lower-case word → the spelling of this mailbox, for each of `words`.

    Raises:
        MailError: LIMIT; INVALID for a word that could not be told from two.
    """
    wanted: dict[str, str] = {}
    for word in words:
        wanted.setdefault(word.lower(), word)
    if not wanted:
        return {}
    known = {folded: word for word, folded in connection.rows(sql.KEYWORDS, (mailbox.number,))}
    number = len(known)
    for folded, word in wanted.items():
        if folded in known:
            continue
        if not word or " " in word:
            raise MailError(ErrorKind.INVALID, f"{word!r} cannot be a keyword")
        if number >= limit:
            raise MailError(
                ErrorKind.LIMIT, f"a mailbox may have at most {limit} different keywords"
            )
        connection.run(sql.ADD_KEYWORD, (mailbox.number, number, word, folded))
        known[folded] = word
        number += 1
    if number != mailbox.keywords:
        connection.run(sql.COUNT_KEYWORDS, (number, mailbox.number))
    return {folded: known[folded] for folded in wanted}


def pack_keywords(words: Iterable[str]) -> str:
    """Keywords as a row keeps them: sorted without regard to case, between spaces."""
    return " ".join(sorted(words, key=str.lower))
