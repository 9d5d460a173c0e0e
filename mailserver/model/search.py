"""Search programmes as values (RFC 9051 §6.4.4).

What a client may write in sequence numbers or `\\Recent` the session has turned into
`Uids` before a store sees it, so a programme means the same to every session.
Days are proleptic Gregorian ordinals (`datetime.date.toordinal`); no clock is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import attrs

from mailserver.model.flags import System
from mailserver.model.numset import NumSet, SequenceSet


@attrs.frozen
class All:
    """Every message."""


@attrs.frozen
class And:
    """All of the keys hold."""

    keys: tuple[SearchKey, ...]


@attrs.frozen
class Or:
    """One of the two holds."""

    first: SearchKey
    second: SearchKey


@attrs.frozen
class Not:
    """The key does not hold."""

    key: SearchKey


@attrs.frozen
class HasFlag:
    """The system flag is set."""

    flag: System


@attrs.frozen
class HasKeyword:
    """The keyword is set, compared without regard to case."""

    keyword: str


@attrs.frozen
class IsRecent:
    r"""`\Recent` in this session; only before the session resolved it."""


@attrs.frozen
class Sequence:
    """Sequence numbers as written; only before the session resolved them."""

    numbers: SequenceSet


@attrs.frozen
class UidSequence:
    """UIDs as written, `*` included; only before the session resolved them."""

    uids: SequenceSet


@attrs.frozen
class Uids:
    """The message's UID is in the set."""

    uids: NumSet


class DateField(Enum):
    """Which date a `DateKey` looks at; all without time and zone (T32)."""

    INTERNAL = "internal"
    SENT = "sent"
    SAVED = "saved"  # RFC 8514


class DateRelation(Enum):
    """How the message's day relates to the given one."""

    BEFORE = "<"
    ON = "="
    SINCE = ">="


@attrs.frozen
class DateKey:
    """The message's day stands in the relation to `day` (an ordinal)."""

    field: DateField
    relation: DateRelation
    day: int


@attrs.frozen
class Larger:
    """More octets than this."""

    size: int


@attrs.frozen
class Smaller:
    """Fewer octets than this."""

    size: int


@attrs.frozen
class Header:
    """A header field of this name holds the text; the empty text asks for presence (T33).

    SUBJECT is this with its name.
    """

    field: str
    text: str


@attrs.frozen
class Addresses:
    """The list of addresses that the envelope has of a field holds the text: FROM, TO, CC and
    BCC (RFC 3501 §6.4.4).

    Attributes:
        field: its name in lower case.
        text: in an address as `name <mailbox@host>`; the empty text asks for presence.
    """

    field: str
    text: str


@attrs.frozen
class Body:
    """The decoded body holds the text."""

    text: str


@attrs.frozen
class Text:
    """The decoded header or body holds the text."""

    text: str


@attrs.frozen
class ModSeqAtLeast:
    """The message's mod-sequence is at least this (RFC 7162 §3.1.5)."""

    mod_sequence: int


SearchKey = (
    All
    | And
    | Or
    | Not
    | HasFlag
    | HasKeyword
    | IsRecent
    | Sequence
    | UidSequence
    | Uids
    | DateKey
    | Larger
    | Smaller
    | Header
    | Addresses
    | Body
    | Text
    | ModSeqAtLeast
)


def rewrite(key: SearchKey, leaf: Callable[[SearchKey], SearchKey]) -> SearchKey:
    """Return the programme with each leaf replaced by what `leaf` gives for it.

    Recursion is as deep as the parser let a programme nest (S3: at most 32).
    """
    if isinstance(key, And):
        return And(tuple(rewrite(inner, leaf) for inner in key.keys))
    if isinstance(key, Or):
        return Or(rewrite(key.first, leaf), rewrite(key.second, leaf))
    if isinstance(key, Not):
        return Not(rewrite(key.key, leaf))
    return leaf(key)
