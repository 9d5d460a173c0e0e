"""POP3 command lines → commands (RFC 2449 §3; RFC 1939 §5, §7).

Every pattern is matched once and cannot backtrack: repetitions are possessive. What is
taken beyond the RFC says who needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mailserver.wire.pop3.commands import (
    Apop,
    Auth,
    Capa,
    Command,
    Dele,
    Lang,
    Last,
    List,
    Noop,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    SyntaxFault,
    Top,
    Uidl,
    User,
    Utf8,
)

# command = keyword *(SP param) CRLF; keyword = 3*4VCHAR; param = 1*VCHAR
#   Spaces at the end are passed over: people type them, and so do old clients.
_NUMBER: Final = re.compile(rb"[0-9]{1,19}+")
_TOP: Final = re.compile(rb"([0-9]{1,19}+) ++([0-9]{1,19}+)")
_AUTH: Final = re.compile(rb"([A-Za-z0-9_-]{1,20}+)(?: ++([A-Za-z0-9+/=*]++))?+")
_APOP: Final = re.compile(rb"([^ ]++) ++([0-9a-fA-F]{32})")
# basic language range (RFC 4647)
_RANGE: Final = re.compile(rb"\*|[A-Za-z]{1,8}+(?:-[A-Za-z0-9]{1,8}+)*+")
_UNPRINTABLE: Final = re.compile(rb"[\x00-\x1f\x7f]")
_MAX_NUMBER: Final = 2**63 - 1  # S3


class _Refused(Exception):
    """A line is no command; carries the reason."""


def parse_command(line: bytes) -> Command | SyntaxFault:
    """Parse a command line.

    Args:
        line: without CRLF; any octets.

    Returns:
        The command, or the fault with a text that tells the client what was wrong.
    """
    verb, _, argument = line.partition(b" ")
    try:
        parse = _VERBS.get(verb.upper())
        if parse is None:
            raise _Refused("unknown command" if verb else "a command is missing")
        if _UNPRINTABLE.search(line):
            raise _Refused("control characters are not allowed in a command")
        return parse(argument)
    except _Refused as refused:
        return SyntaxFault(str(refused))


def _user(argument: bytes) -> Command:
    name = argument.strip(b" ")
    if not name:
        raise _Refused("syntax: USER name")
    if b" " in name:
        raise _Refused("a user name has no spaces")
    return User(_text(name))


def _pass(argument: bytes) -> Command:
    # Its one argument is the rest of the line, spaces included: RFC 1939 §7.
    if not argument:
        raise _Refused("syntax: PASS password")
    return Pass(_text(argument))


def _auth(argument: bytes) -> Command:
    argument = argument.strip(b" ")
    if not argument:
        return Auth(None)  # Outlook Express asks so which mechanisms there are
    match = _AUTH.fullmatch(argument)
    if match is None:
        raise _Refused("syntax: AUTH mechanism [initial-response]")
    return Auth(match[1].upper(), match[2])


def _apop(argument: bytes) -> Command:
    match = _APOP.fullmatch(argument.strip(b" "))
    if match is None:
        raise _Refused("syntax: APOP name digest")
    return Apop(_text(match[1]), match[2].lower())


def _lang(argument: bytes) -> Command:
    argument = argument.strip(b" ")
    if not argument:
        return Lang(None)
    if _RANGE.fullmatch(argument) is None:
        raise _Refused("syntax: LANG [language]")
    return Lang(argument.decode("ascii").lower())


def _top(argument: bytes) -> Command:
    match = _TOP.fullmatch(argument.strip(b" "))
    if match is None:
        raise _Refused("syntax: TOP message lines")
    return Top(_count(match[1]), _count(match[2]))


def _numbered(make: Callable[[int], Command], name: str) -> Callable[[bytes], Command]:
    """A parser for a command about one message."""

    def parse(argument: bytes) -> Command:
        word = argument.strip(b" ")
        if _NUMBER.fullmatch(word) is None:
            raise _Refused(f"syntax: {name} message")
        return make(_count(word))

    return parse


def _optional(make: Callable[[int | None], Command], name: str) -> Callable[[bytes], Command]:
    """A parser for a command about one message or all."""

    def parse(argument: bytes) -> Command:
        word = argument.strip(b" ")
        if not word:
            return make(None)
        if _NUMBER.fullmatch(word) is None:
            raise _Refused(f"syntax: {name} [message]")
        return make(_count(word))

    return parse


def _bare(command: Command) -> Callable[[bytes], Command]:
    """A parser for a command without argument."""

    def parse(argument: bytes) -> Command:
        if argument.strip(b" "):
            raise _Refused("this command takes no argument")
        return command

    return parse


_VERBS: Final[dict[bytes, Callable[[bytes], Command]]] = {
    b"USER": _user,
    b"PASS": _pass,
    b"AUTH": _auth,
    b"APOP": _apop,
    b"UTF8": _bare(Utf8()),
    b"LANG": _lang,
    b"CAPA": _bare(Capa()),
    b"STLS": _bare(Stls()),
    b"STAT": _bare(Stat()),
    b"LIST": _optional(List, "LIST"),
    b"UIDL": _optional(Uidl, "UIDL"),
    b"RETR": _numbered(Retr, "RETR"),
    b"TOP": _top,
    b"DELE": _numbered(Dele, "DELE"),
    b"RSET": _bare(Rset()),
    b"LAST": _bare(Last()),
    b"NOOP": _bare(Noop()),
    b"QUIT": _bare(Quit()),
}


def _count(digits: bytes) -> int:
    number = int(digits)
    if number > _MAX_NUMBER:
        raise _Refused("this number is too large")
    return number


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused("expected text in UTF-8") from None
