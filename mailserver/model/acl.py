"""Rights on mailboxes (RFC 4314 §2.1)."""

from __future__ import annotations

from enum import Enum


class Right(Enum):
    """One right; the value is its letter."""

    LOOKUP = "l"
    READ = "r"
    SEEN = "s"
    WRITE = "w"
    INSERT = "i"
    POST = "p"
    CREATE = "k"
    DELETE_MAILBOX = "x"
    DELETE_MESSAGES = "t"
    EXPUNGE = "e"
    ADMINISTER = "a"


Rights = frozenset[Right]

ALL_RIGHTS: Rights = frozenset(Right)
NO_RIGHTS: Rights = frozenset()

VISIBLE_RIGHTS: Rights = frozenset(
    {Right.LOOKUP, Right.READ, Right.INSERT, Right.CREATE, Right.DELETE_MAILBOX, Right.ADMINISTER}
)
"""Without one of these a mailbox is answered as if it did not exist (T39)."""


def parse_rights(letters: str) -> Rights:
    """Read rights letters, the virtual `c` and `d` of RFC 2086 included (RFC 4314 §2.1.1).

    Raises:
        ValueError: a letter that is no right; the text names it.
    """
    out: set[Right] = set()
    for letter in letters:
        if letter == "c":
            out.update((Right.CREATE, Right.DELETE_MAILBOX))
        elif letter == "d":
            out.update((Right.DELETE_MESSAGES, Right.EXPUNGE))
        else:
            try:
                out.add(Right(letter))
            except ValueError:
                raise ValueError(f"{letter!r} is not a right") from None
    return frozenset(out)


def format_rights(rights: Rights) -> str:
    """Write rights as letters in the order of RFC 4314 §2.1."""
    return "".join(right.value for right in Right if right in rights)
