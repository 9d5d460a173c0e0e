"""LMTP command lines → commands (RFC 2033, RFC 5321 §4.1.2, RFC 6531 §3.3).

Every pattern is matched once at an offset and cannot backtrack: repetitions are
possessive. What a pattern allows beyond the RFC says who needs it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final

import attrs

from mailserver.wire.lmtp.commands import (
    Bdat,
    Body,
    Command,
    Data,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    SyntaxFault,
    Vrfy,
)
from mailserver.wire.lmtp.replies import Reply

MAX_PATH = 900
"""Octets of an address: RFC 5321 §4.5.3.1.3 wants 256 at least, rewritten senders (SRS,
VERP) have more, and one must fit in a header line of 998."""

_MAX_NUMBER: Final = 2**63 - 1  # S3


@attrs.frozen
class Leniency:
    """Which faulty clients are served (T55); none unless the administrator says so.

    Attributes:
        whitespace_before_path: `MAIL FROM: <a@b>`.
        mailbox_for_path: `MAIL FROM:a@b`, without angle brackets.
    """

    whitespace_before_path: bool = False
    mailbox_for_path: bool = False


STRICT: Final = Leniency()

# Path = "<" [ A-d-l ":" ] Mailbox ">"
# A-d-l = At-domain *( "," At-domain ); At-domain = "@" Domain
#   Source routes are accepted and not looked at.
# Mailbox = Local-part "@" ( Domain / address-literal )
#   The domain may be missing: Postmaster (§4.1.1.3), and local users whom an MTA hands
#   over by their bare name.
# Local-part = Dot-string / Quoted-string
#   Dots may stand anywhere: Japanese mobile carriers have given out such addresses.
# sub-domain = Let-dig [Ldh-str] / U-label
#   `_` too: hosts with it in their names send mail, and it was accepted long before it
#   comes here; to refuse it now would be to lose it.
_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff\-"
_DOTTED = rb"[" + _ATEXT + rb".]++"
_QUOTED = rb'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*+"'
_LABEL = rb"[A-Za-z0-9_\x80-\xff\-]++"
_DOMAIN = rb"(?:" + _LABEL + rb"(?:\." + _LABEL + rb")*+\.?+|\[[!-Z^-~]*+\])"
_ROUTE = rb"(?:@" + _DOMAIN + rb"(?:,@" + _DOMAIN + rb")*+:)?+"
_MAILBOX = rb"(?P<local>" + _DOTTED + rb"|" + _QUOTED + rb")(?:@(?P<domain>" + _DOMAIN + rb"))?+"

_PATH: Final = re.compile(rb"<" + _ROUTE + _MAILBOX + rb">")
_BARE_PATH: Final = re.compile(_MAILBOX)
_NULL_PATH: Final = b"<>"
_DOT_STRING: Final = re.compile(_DOTTED)
_CLIENT: Final = re.compile(_DOMAIN)
# esmtp-param = esmtp-keyword ["=" esmtp-value]
_PARAMETER: Final = re.compile(
    rb" ++(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*+)(?:=(?P<value>[!-<>-~\x80-\xff]++))?+(?=[ ]|$)"
)
_BDAT: Final = re.compile(rb"(?P<size>[0-9]{1,19}+)(?: ++(?P<last>LAST))?+ *+", re.IGNORECASE)
_UNPRINTABLE: Final = re.compile(rb"[\x00-\x1f\x7f]")


class _Refused(Exception):
    """A line is no command; carries the fault to return."""

    def __init__(self, code: int, status: str, text: str, *, is_fatal: bool = False) -> None:
        super().__init__(text)
        self.fault = SyntaxFault(Reply(code, status, text), is_fatal)


def parse_command(line: bytes, leniency: Leniency = STRICT) -> Command | SyntaxFault:
    """Parse a command line.

    Args:
        line: without CRLF; any octets.
        leniency: which faulty forms are taken too.

    Returns:
        The command, or the fault with the reply that tells the client what was wrong.
    """
    verb, _, argument = line.partition(b" ")
    try:
        parse = _VERBS.get(verb.upper())
        if parse is None:
            raise _unknown_verb(verb)
        if _UNPRINTABLE.search(line):
            raise _Refused(501, "5.5.2", "Control characters are not allowed in a command")
        return parse(argument, leniency)
    except _Refused as refused:
        return refused.fault


def _unknown_verb(verb: bytes) -> _Refused:
    name = verb[:20].decode("ascii", "replace")
    if verb.upper() in (b"HELO", b"EHLO"):
        return _Refused(500, "5.5.1", f"This is LMTP, not SMTP: send LHLO instead of {name}")
    return _Refused(500, "5.5.1", f"Unknown command {name}" if name else "Empty command")


def _lhlo(argument: bytes, leniency: Leniency) -> Command:
    client = argument.strip(b" ")
    if not client:
        raise _Refused(501, "5.5.4", "LHLO needs the name of the client: LHLO host.example")
    if not _CLIENT.fullmatch(client) or not client.isascii() or len(client) > 255:
        raise _Refused(501, "5.5.4", "LHLO needs a domain name or an [address]")
    return Lhlo(_text(client))


def _mail(argument: bytes, leniency: Leniency) -> Command:
    sender, rest = _path(argument, b"FROM:", leniency, null_allowed=True)
    size: int | None = None
    body = Body.SEVEN_BIT
    smtputf8 = False
    seen = set()
    for keyword, value in _parameters(rest):
        if keyword in seen:
            raise _Refused(501, "5.5.4", f"{keyword} is given twice")
        seen.add(keyword)
        if keyword == "SIZE":
            size = _size(value)
        elif keyword == "BODY":
            body = _body(value)
        elif keyword == "SMTPUTF8":
            if value is not None:
                raise _Refused(501, "5.5.4", "SMTPUTF8 takes no value")
            smtputf8 = True
        else:
            raise _Refused(555, "5.5.4", f"MAIL parameter {keyword} is not supported")
    if not smtputf8 and not sender.isascii():
        raise _Refused(550, "5.6.7", "A sender that is not ASCII needs the SMTPUTF8 parameter")
    return Mail(sender, size, body, smtputf8)


def _rcpt(argument: bytes, leniency: Leniency) -> Command:
    recipient, rest = _path(argument, b"TO:", leniency, null_allowed=False)
    for keyword, _ in _parameters(rest):
        raise _Refused(555, "5.5.4", f"RCPT parameter {keyword} is not supported")
    return Rcpt(recipient)


def _bdat(argument: bytes, leniency: Leniency) -> Command:
    match = _BDAT.fullmatch(argument.lstrip(b" "))
    size = int(match["size"]) if match else 0
    if match is None or size > _MAX_NUMBER:
        # The message's octets follow without waiting: unread, they would be commands.
        raise _Refused(501, "5.5.4", "Syntax: BDAT octets [LAST]", is_fatal=True)
    return Bdat(size, match["last"] is not None)


def _vrfy(argument: bytes, leniency: Leniency) -> Command:
    if not argument.strip(b" "):
        raise _Refused(501, "5.5.4", "Syntax: VRFY address")
    return Vrfy(_text(argument.strip(b" ")))


def _bare(command: Command) -> Callable[[bytes, Leniency], Command]:
    """A parser for a command without argument."""

    def parse(argument: bytes, leniency: Leniency) -> Command:
        if argument.strip(b" "):
            name = type(command).__name__.upper()
            raise _Refused(501, "5.5.4", f"{name} takes no argument")
        return command

    return parse


def _ignoring(command: Command) -> Callable[[bytes, Leniency], Command]:
    """A parser for a command whose argument is not looked at (RFC 5321 §4.1.1.9)."""

    def parse(argument: bytes, leniency: Leniency) -> Command:
        return command

    return parse


_VERBS: Final[dict[bytes, Callable[[bytes, Leniency], Command]]] = {
    b"LHLO": _lhlo,
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _bare(Data()),
    b"BDAT": _bdat,
    b"RSET": _bare(Rset()),
    b"VRFY": _vrfy,
    b"NOOP": _ignoring(Noop()),
    b"HELP": _ignoring(Help()),
    b"STARTTLS": _bare(StartTls()),
    b"QUIT": _bare(Quit()),
}

VERBS: Final = tuple(verb.decode() for verb in _VERBS)
"""Names of all commands, for HELP."""


def _path(
    argument: bytes, clause: bytes, leniency: Leniency, *, null_allowed: bool
) -> tuple[str, bytes]:
    """Read `FROM:<path>` or `TO:<path>`; the address, empty for `<>`, and what follows."""
    name = "MAIL FROM" if null_allowed else "RCPT TO"
    status = "5.1.7" if null_allowed else "5.1.3"
    argument = argument.lstrip(b" ")
    if argument[: len(clause)].upper() != clause:
        raise _Refused(501, "5.5.4", f"Syntax: {name}:<address>")
    rest = argument[len(clause) :]
    unspaced = rest.lstrip(b" ")
    if unspaced != rest:
        if not leniency.whitespace_before_path:
            raise _Refused(501, "5.5.2", f"No space is allowed after {name}:")
        rest = unspaced
    if rest.startswith(_NULL_PATH):
        if not null_allowed:
            raise _Refused(501, "5.1.3", "A recipient must have an address")
        return "", rest[2:]
    if not rest.startswith(b"<") and not leniency.mailbox_for_path:
        raise _Refused(501, "5.5.2", f"The address must stand in angle brackets: {name}:<address>")
    match = (_PATH if rest.startswith(b"<") else _BARE_PATH).match(rest)
    if match is None or rest[match.end() : match.end() + 1] not in (b"", b" "):
        raise _Refused(501, status, "This is not a valid address")
    if match.end() > MAX_PATH:
        raise _Refused(501, status, f"Path too long: at most {MAX_PATH} octets")
    return _address(match, status), rest[match.end() :]


def _address(match: re.Match[bytes], status: str) -> str:
    local, domain = match["local"], match["domain"]
    if local.startswith(b'"'):
        local = _least_quoted(local)
    if domain is None:
        return _text(local, status)
    if domain.startswith(b"[") and not _is_address_literal(domain[1:-1]):
        raise _Refused(501, status, "This is not a valid address literal")
    return _text(local + b"@" + domain, status)


def _least_quoted(quoted: bytes) -> bytes:
    """The form with the least quoting: all quoted forms are equal (RFC 5321 §4.1.2)."""
    content = re.sub(rb"\\(.)", rb"\1", quoted[1:-1])
    if _DOT_STRING.fullmatch(content):
        return content
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", content) + b'"'


def _is_address_literal(content: bytes) -> bool:
    """RFC 5321 §4.1.3; tags other than IPv6 are registered nowhere."""
    text = content.decode("ascii")
    try:
        if text[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _parameters(rest: bytes) -> list[tuple[str, bytes | None]]:
    """Read ` KEYWORD[=value]…` to the end of the line; keywords in upper case."""
    found: list[tuple[str, bytes | None]] = []
    position, end = 0, len(rest.rstrip(b" "))
    while position < end:
        match = _PARAMETER.match(rest, position)
        if match is None:
            raise _Refused(501, "5.5.4", "After the address: KEYWORD or KEYWORD=value")
        found.append((match["keyword"].decode("ascii").upper(), match["value"]))
        position = match.end()
    return found


def _size(value: bytes | None) -> int:
    # size-value ::= 1*20DIGIT (RFC 1870 §3)
    if value is None or not value.isdigit() or len(value) > 20:
        raise _Refused(501, "5.5.4", "Syntax: SIZE=octets")
    return int(value)


def _body(value: bytes | None) -> Body:
    word = (value or b"").upper()
    if word == b"BINARYMIME":
        raise _Refused(555, "5.5.4", "BODY=BINARYMIME is not supported")
    try:
        return Body(word.decode("ascii", "replace"))
    except ValueError:
        raise _Refused(501, "5.5.4", "BODY is 7BIT or 8BITMIME") from None


def _text(octets: bytes, status: str = "5.5.2") -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused(501, status, "Not valid UTF-8") from None
