"""Filters as text (SUN-20 … SUN-22, SUN-8).

    filters  = filter *( "$" filter )           ; of a service
    rules    = rule *( "$" rule )               ; of an account
    rule     = ( "+" / "-" ) filter
    filter   = services ":" clients
    services = list of "imap" / "imaps" / "pop" / "pops" / "http" / "https" / "smtp"
                     / "lmtp" / "ALL" / "*"
    clients  = list of [ user "@" ] host
    list     = item *( separator item ) [ "EXCEPT" list ]       ; nests to the right
    user     = account / "*@" domain / "ALL" / "*"
    host     = address / address "/" mask / network "/" prefix / "192.0.2." / name
             / ".suffix" / "ALL" / "*" / "LOCAL" / "KNOWN" / "UNKNOWN" / "DNSSPOOFER"

Separators are commas and spaces. The first colon ends the services, so IPv6 addresses stand
as they are, or in brackets. The last `@` ends the user. Case does not matter. What cannot be
understood is an error with its position, so that a rule never grants what it does not say.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, TypeVar

from mailserver.auth.filters.rules import ClientPattern, Host, HostName, OneOf, Rule, Wildcard
from mailserver.errors import ErrorKind, MailError
from mailserver.model.addresses import canonical_address, canonical_domain
from mailserver.model.networks import Network

T = TypeVar("T")

SERVICES: Final = ("imap", "imaps", "pop", "pops", "http", "https", "smtp", "lmtp")
"""Services as filters call them."""

ALIASES: Final = {"pop3": "pop", "pop3s": "pops", "*": "all"}
"""Other words for services."""

_EVERYTHING: Final = frozenset({"*", "ALL"})
_WILDCARDS: Final = {"*": Wildcard.ALL, **{one.value: one for one in Wildcard}}
_MAX_EXCEPT: Final = 20
_WORD: Final = re.compile(r"[^\s,]+")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"\.?{_LABEL}(?:\.{_LABEL})*")
_LEADING_OCTETS: Final = re.compile(r"(?:\d{1,3}\.){1,3}")  # "192.0.2."
_NUMBERS: Final = re.compile(r"[\d./]++|[0-9a-f./]*+:[0-9a-f:./]*+")  # is meant as an address


def parse_account_rules(text: str, default_domain: str = "") -> tuple[Rule, ...]:
    """Read `mailAllowedServiceAccess` (SUN-8): rules that begin with `+` or `-`.

    Args:
        text: empty for no rules.
        default_domain: of users that are written without one, may be empty.

    Raises:
        MailError: INVALID, with position and reason; the caller must deny.
    """
    return _parsed(text, None, "mailAllowedServiceAccess", default_domain)


def parse_filters(
    text: str, source: str, *, allows: bool, default_domain: str = ""
) -> tuple[Rule, ...]:
    """Read the filters of an option (SUN-20).

    Args:
        text: empty for none.
        source: name of the option.
        allows: what the option says about whom its filters match.

    Raises:
        MailError: INVALID, with position and reason.
    """
    return _parsed(text, allows, source, default_domain)


# Accounts have few different rules, and each login reads those of its account.
@lru_cache(maxsize=1024)
def _parsed(text: str, allows: bool | None, source: str, default_domain: str) -> tuple[Rule, ...]:
    if not text.strip():
        return ()
    try:
        return tuple(
            _rule(text, start, end, allows, source, default_domain) for start, end in _pieces(text)
        )
    except _Fault as fault:
        # Not chained: the whole is told.
        raise MailError(ErrorKind.INVALID, str(fault)) from None


class _Fault(Exception):
    """A place and what is wrong there."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(f"at character {at + 1}: {reason}")


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where each rule begins and ends."""
    start = 0
    for end in [match.start() for match in re.finditer(r"\$", text)] + [len(text)]:
        yield start, end
        start = end + 1


def _rule(
    text: str, start: int, end: int, allows: bool | None, source: str, default_domain: str
) -> Rule:
    while start < end and text[start].isspace():
        start += 1
    if start == end:
        raise _Fault(start, "a rule is missing")
    written = text[start:end].strip()
    if allows is None:
        if text[start] not in "+-":
            raise _Fault(start, "a rule begins with + or -")
        allows = text[start] == "+"
        start += 1
    elif text[start] in "+-":
        raise _Fault(start, "a filter of a service has no sign; the option says what it does")
    colon = text.find(":", start, end)
    if colon < 0:
        raise _Fault(start, "a rule has the form SERVICES:CLIENTS, and here is no colon")
    services = _list(text, start, colon, "a service", _service)
    clients = _list(text, colon + 1, end, "a client", lambda word: _client(word, default_domain))
    return Rule(allows, services, clients, written, source)


def _list(text: str, start: int, end: int, what: str, read: Callable[[str], T]) -> OneOf[T]:
    """Read a list; what follows EXCEPT is one of its own."""
    lists: list[list[T]] = [[]]
    at = end
    for match in _WORD.finditer(text, start, end):
        at = match.start()
        if match[0].upper() == "EXCEPT":
            if not lists[-1]:
                raise _Fault(at, f"{what} is missing before EXCEPT")
            if len(lists) > _MAX_EXCEPT:
                raise _Fault(at, f"more than {_MAX_EXCEPT} EXCEPT in a list")
            lists.append([])
            at = end
            continue
        try:
            lists[-1].append(read(match[0]))
        except (ValueError, MailError) as error:
            raise _Fault(at, str(error)) from None
    if not lists[-1]:
        where = " after EXCEPT" if len(lists) > 1 else ""
        raise _Fault(at, f"{what} is missing{where}")
    result: OneOf[T] | None = None
    for items in reversed(lists):
        result = OneOf(tuple(items), result)
    assert result is not None
    return result


def _service(word: str) -> str:
    name = ALIASES.get(word.lower(), word.lower())
    if name == "all" or name in SERVICES:
        return name
    nearest = difflib.get_close_matches(name[:20], SERVICES, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f": {', '.join(SERVICES)}, ALL"
    raise ValueError(f"{_cut(word)} is not a service{hint}")


def _client(word: str, default_domain: str) -> ClientPattern:
    user, at, host = word.rpartition("@")
    if not at:
        return ClientPattern(_host(word))
    if not user or not host:
        raise ValueError(f"{_cut(word)} is not of the form USER@HOST")
    return ClientPattern(_host(host), _user(user, default_domain))


def _user(text: str, default_domain: str) -> str:
    if text.upper() in _EVERYTHING:
        return ""
    if text.startswith("*@"):
        return f"@{canonical_domain(text[2:])}"
    if "@" not in text and not default_domain:
        raise ValueError(f"user {_cut(text)} has no domain, and there is no service.defaultdomain")
    return canonical_address(text if "@" in text else f"{text}@{default_domain}")


def _host(word: str) -> Host:
    wildcard = _WILDCARDS.get(word.upper())
    if wildcard is not None:
        return wildcard
    text = word.lower().replace("[", "").replace("]", "")
    if _LEADING_OCTETS.fullmatch(text):
        given = text.count(".")
        return _network(f"{text}{'.'.join(['0'] * (4 - given))}/{8 * given}", word)
    if _NUMBERS.fullmatch(text):
        return _network(text, word)
    if not _NAME.fullmatch(text) or len(text) > 253:
        hint = "" if text.isascii() else "; write it in A-labels (xn--…)"
        raise ValueError(f"{_cut(word)} is neither an address nor a name nor a wildcard{hint}")
    return HostName(text)


def _network(text: str, word: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{_cut(word)} has bits set behind its mask") from None
        raise ValueError(f"{_cut(word)} is not an address or network") from None


def _cut(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:59] + "…")
