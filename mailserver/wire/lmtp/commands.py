"""LMTP commands as values (RFC 2033 §4, RFC 5321 §4.1.1 and its extensions)."""

from __future__ import annotations

from enum import Enum

import attrs

from mailserver.wire.lmtp.replies import Reply


class Body(Enum):
    """What the client says of the message's octets (RFC 1652 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


@attrs.frozen
class Lhlo:
    """LHLO: the client's name, a domain or an address literal as given (RFC 2033 §4.1)."""

    client: str


@attrs.frozen
class Mail:
    """MAIL: a transaction begins.

    Attributes:
        sender: address for failures; empty for the null reverse-path `<>`.
        size: octets declared (RFC 1870), None if not.
        body: kind of octets declared (RFC 1652).
        smtputf8: the envelope or the message is internationalized (RFC 6531 §3.4).
    """

    sender: str
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False


@attrs.frozen
class Rcpt:
    """RCPT: one recipient."""

    recipient: str


@attrs.frozen
class Data:
    """DATA: the message follows the 354 reply."""


@attrs.frozen
class Bdat:
    """BDAT: `size` octets of the message follow this line at once (RFC 3030 §2)."""

    size: int
    last: bool


@attrs.frozen
class Rset:
    """RSET: the transaction is dropped."""


@attrs.frozen
class Vrfy:
    """VRFY: is this a user? `text` as given."""

    text: str


@attrs.frozen
class Noop:
    """NOOP."""


@attrs.frozen
class Help:
    """HELP."""


@attrs.frozen
class StartTls:
    """STARTTLS (RFC 3207)."""


@attrs.frozen
class Quit:
    """QUIT."""


@attrs.frozen
class SyntaxFault:
    """A line that is no command.

    Attributes:
        reply: what to answer.
        is_fatal: where the next command begins is not known, so none can be read.
    """

    reply: Reply
    is_fatal: bool = False


Command = Lhlo | Mail | Rcpt | Data | Bdat | Rset | Vrfy | Noop | Help | StartTls | Quit
