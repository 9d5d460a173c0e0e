"""Filters as values, and what they decide about a client (SUN-20 … SUN-23).

Knows no text and no network. What is not known yet about a client, its name or who is going
to log in, makes a comparison neither true nor false but None (Kleene's logic), and so may
leave a decision open: then it depends on it, whatever it will be. Who decides in the end
takes an open decision for a refusal, so a lookup that fails never lets anybody in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Generic, TypeAlias, TypeVar

import attrs

from mailserver.model.networks import Network

T = TypeVar("T")

Truth: TypeAlias = bool | None
"""None: it depends on what is not known."""


class Lookup(Enum):
    """What is known of a client's name when none can be believed."""

    PENDING = "not looked up"
    FAILED = "the lookup failed"
    NONE = "has no name"
    SPOOFED = "forward and reverse lookups disagree"


Name: TypeAlias = str | Lookup
"""A name that forward and reverse lookups agree on, lower case, or why there is none."""


@attrs.frozen
class Client:
    """Who wants something.

    Attributes:
        address: None for a Unix socket.
        name: see `Name`.
        user: canonical name of the account; None before login.
    """

    address: IPv4Address | IPv6Address | None
    name: Name = Lookup.PENDING
    user: str | None = None

    @classmethod
    def at(cls, address: str) -> Client:
        """A client by its address as the transport tells it.

        Args:
            address: IP address, mapped IPv4 and zones allowed; anything else is a Unix
                socket, whose client is on this host.
        """
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return cls(None, "localhost")
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return cls(parsed)


class Wildcard(Enum):
    """Words that stand for many clients (SUN-21)."""

    ALL = "ALL"
    LOCAL = "LOCAL"  # a name without a dot
    KNOWN = "KNOWN"  # has a name that can be believed
    UNKNOWN = "UNKNOWN"  # has no name at all
    DNSSPOOFER = "DNSSPOOFER"  # forward and reverse lookups disagree


@attrs.frozen
class HostName:
    """One name, or with a dot in front every name below it; lower case."""

    name: str


Host: TypeAlias = Wildcard | Network | HostName


@attrs.frozen
class ClientPattern:
    """Which clients are meant.

    Attributes:
        host: where they are.
        user: who they are: empty for everybody, `ann@example.org`, or `@example.org` for
            all of a domain. Nobody is meant before login.
    """

    host: Host
    user: str = ""

    @property
    def asks_name(self) -> bool:
        """The client's name matters."""
        return isinstance(self.host, HostName) or (
            isinstance(self.host, Wildcard) and self.host is not Wildcard.ALL
        )

    def matches(self, client: Client) -> Truth:
        """Say whether a client is meant."""
        host = _host_matches(self.host, client)
        if not self.user or host is False:
            return host
        if client.user is None:
            return None
        user = self.user
        named = client.user.endswith(user) if user[0] == "@" else client.user == user
        return host if named else False


def _host_matches(host: Host, client: Client) -> Truth:
    if host is Wildcard.ALL:
        return True
    if not isinstance(host, Wildcard | HostName):
        address = client.address
        return address is not None and address.version == host.version and address in host
    name = client.name
    if name in (Lookup.PENDING, Lookup.FAILED):
        return None
    if host is Wildcard.UNKNOWN:
        return name is Lookup.NONE
    if host is Wildcard.DNSSPOOFER:
        return name is Lookup.SPOOFED
    if isinstance(name, Lookup):
        return False
    if host is Wildcard.KNOWN:
        return True
    if host is Wildcard.LOCAL:
        return "." not in name
    return name.endswith(host.name) if host.name[0] == "." else name == host.name


@attrs.frozen
class OneOf(Generic[T]):
    """A list: any of these, `EXCEPT` what another list names (SUN-22)."""

    items: tuple[T, ...]
    exceptions: OneOf[T] | None = None

    def matches(self, test: Callable[[T], Truth]) -> Truth:
        """Say whether an item passes the test and no exception does."""
        found = _any(test(item) for item in self.items)
        if found is False or self.exceptions is None:
            return found
        excepted = self.exceptions.matches(test)
        if excepted:
            return False
        return found if excepted is False else None

    def every(self) -> tuple[T, ...]:
        """All items, those of the exceptions too."""
        return self.items + (self.exceptions.every() if self.exceptions else ())


def _any(values: Iterator[Truth]) -> Truth:
    result: Truth = False
    for value in values:
        if value:
            return True
        if value is None:
            result = None
    return result


@attrs.frozen
class Rule:
    """One filter.

    Attributes:
        allows: what it says about whom it matches.
        services: lower case; `all` for every service.
        clients: see `ClientPattern`.
        text: as written.
        source: where, for people: an option, or the attribute of an account.
    """

    allows: bool
    services: OneOf[str]
    clients: OneOf[ClientPattern]
    text: str
    source: str = ""

    @property
    def asks_name(self) -> bool:
        """The client's name may matter."""
        return any(pattern.asks_name for pattern in self.clients.every())

    def matches(self, service: str, client: Client) -> Truth:
        """Say whether the rule is about this client and service."""
        if not self.services.matches(lambda name: name in ("all", service)):
            return False
        return self.clients.matches(lambda pattern: pattern.matches(client))


@attrs.frozen
class Verdict:
    """What rules say.

    Attributes:
        granted: None if it depends on what is not known of the client.
        rule: that decided, or that it depends on; None if none matched.
        reason: a sentence without its full stop, for an administrator.
    """

    granted: Truth
    rule: Rule | None
    reason: str


def decide(rules: Sequence[Rule], service: str, client: Client) -> Verdict:
    """Apply rules: those that allow first, then those that deny; the first that matches
    decides. No match grants, except that it denies where there are rules that allow and
    none that deny (SUN-23).

    Args:
        service: `imap`, `imaps`, `pop`, `pops`, `lmtp`, `http`, `https`, `smtp`.
    """
    ordered = [rule for rule in rules if rule.allows] + [rule for rule in rules if not rule.allows]
    doubtful = []
    for rule in ordered:
        matches = rule.matches(service, client)
        if matches:
            reason = f"{rule.source}: {rule.text}"
            verdict = Verdict(rule.allows, rule, reason)
            break
        if matches is None:
            doubtful.append(rule)
    else:
        verdict = _without_match(ordered)
    against = [rule for rule in doubtful if rule.allows != verdict.granted]
    if not against:
        return verdict
    rule = against[0]
    has_name = client.name not in (Lookup.PENDING, Lookup.FAILED)
    if has_name or not rule.asks_name:
        unknown = "who logs in"
    else:
        unknown = f"the client's name: {_why(client.name)}"
    return Verdict(None, rule, f"{rule.source}: {rule.text}, which depends on {unknown}")


def _without_match(rules: Sequence[Rule]) -> Verdict:
    if not rules:
        return Verdict(True, None, "there are no rules")
    if all(rule.allows for rule in rules):
        return Verdict(False, None, "no rule matches, and all of them are rules that allow")
    return Verdict(True, None, "no rule matches, and not all of them are rules that allow")


def _why(name: Name) -> str:
    return name.value if isinstance(name, Lookup) else name
