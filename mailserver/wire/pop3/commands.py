"""POP3 commands as values (RFC 1939 §5, §7; RFC 2449 §5; RFC 2595 §4; RFC 1734 §2; RFC 6856)."""

from __future__ import annotations

import attrs


@attrs.frozen
class User:
    """USER: who is going to log in, as typed."""

    name: str


@attrs.frozen
class Pass:
    """PASS: the password of the USER before it; kept out of `repr` (S13)."""

    password: str = attrs.field(repr=False)


@attrs.frozen
class Auth:
    """AUTH: log in by a SASL mechanism.

    Attributes:
        mechanism: upper case; None asks which there are.
        initial: the initial response, still in base64 (RFC 2449 §6.3), None if not given.
    """

    mechanism: bytes | None
    initial: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Apop:
    """APOP: log in by a digest of the greeting's timestamp and the password.

    Attributes:
        name: as typed.
        digest: 32 hexadecimal digits, lower case.
    """

    name: str
    digest: bytes = attrs.field(repr=False)


@attrs.frozen
class Utf8:
    """UTF8: the client takes UTF-8 in messages and in what it is told."""


@attrs.frozen
class Lang:
    """LANG: in which language the client wants to be told things.

    Attributes:
        range: a basic language range (RFC 4647), lower case, or `*` for the one that the
            administrator prefers; None asks which there are.
    """

    range: str | None


@attrs.frozen
class Capa:
    """CAPA: which extensions are there."""


@attrs.frozen
class Stls:
    """STLS: TLS begins after the answer."""


@attrs.frozen
class Stat:
    """STAT: number of messages and their octets."""


@attrs.frozen
class List:
    """LIST: sizes, of one message or of all (None)."""

    number: int | None = None


@attrs.frozen
class Uidl:
    """UIDL: unique ids, of one message or of all (None)."""

    number: int | None = None


@attrs.frozen
class Retr:
    """RETR: a whole message."""

    number: int


@attrs.frozen
class Top:
    """TOP: the header of a message and the first `lines` lines of its body."""

    number: int
    lines: int


@attrs.frozen
class Dele:
    """DELE: mark a message, to be removed at QUIT."""

    number: int


@attrs.frozen
class Rset:
    """RSET: take all marks away."""


@attrs.frozen
class Last:
    """LAST: the highest number that was accessed; of older versions of POP3 (RFC 1460)."""


@attrs.frozen
class Noop:
    """NOOP."""


@attrs.frozen
class Quit:
    """QUIT: remove what is marked, and leave."""


@attrs.frozen
class SyntaxFault:
    """A line that is no command; `text` tells the client why."""

    text: str


Command = (
    User
    | Pass
    | Auth
    | Apop
    | Utf8
    | Lang
    | Capa
    | Stls
    | Stat
    | List
    | Uidl
    | Retr
    | Top
    | Dele
    | Rset
    | Last
    | Noop
    | Quit
)
