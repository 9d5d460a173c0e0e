"""What a client is called: its name in the DNS, if forward and reverse lookups agree (SUN-21).

Whoever owns an address chooses the name that a reverse lookup gives. So such a name counts
only if the name's own addresses contain the client's; otherwise the client is a spoofer. A
line of the hosts file is the administrator's word and is believed as it stands.

Nothing here blocks: queries are datagrams, each lookup has a deadline, and lookups for one
address are shared. An owner of a slow reverse zone delays nobody but himself.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.error import DNSNameError, DomainError, ResolverError

from mailserver.auth.filters.rules import Lookup, Name

HOSTS: Final = Path("/etc/hosts")
RESOLV_CONF: Final = Path("/etc/resolv.conf")

_KEPT: Final = 10_000  # names
_KEPT_FOR: Final = 300.0  # seconds
_FAILURE_KEPT_FOR: Final = 10.0
_POINTERS: Final = 5  # names of one address that are looked at
_FAILURES: Final = (ResolverError, DomainError, TimeoutError, CancelledError, OSError)
_HOST_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class ClientNames:
    """Looks names up, and keeps them for some minutes.

    Args:
        reactor: the reactor.
        servers: (address, port) of name servers; None for those of the system.
        hosts: names that need no server.
        deadline: seconds that one lookup may take in all.
        tries: seconds that each try of a query waits for an answer.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        servers: list[tuple[str, int]] | None = None,
        hosts: Path = HOSTS,
        deadline: float = 5.0,
        tries: tuple[float, ...] = (1.0, 2.0),
    ) -> None:
        self._deadline = deadline
        self._tries = tries
        self._reactor = reactor
        self._servers = servers
        self._hosts = hosts
        self._kept: OrderedDict[str, tuple[Name, float]] = OrderedDict()
        self._waiting: dict[str, list[Deferred[Name]]] = {}

    async def name_of(self, address: IPv4Address | IPv6Address) -> Name:
        """Find the name of an address. Why there is none is in the log."""
        key = str(address)
        name, until = self._kept.get(key, (Lookup.PENDING, 0.0))
        if name is not Lookup.PENDING and self._reactor.seconds() < until:
            return name
        if key in self._waiting:
            shared: Deferred[Name] = Deferred()
            self._waiting[key].append(shared)
            return await shared
        self._waiting[key] = []
        name = await self._looked_up(address)
        if isinstance(name, Lookup):
            self._log.warn("name of {address}: {reason}", address=key, reason=name.value)
        life = _FAILURE_KEPT_FOR if name is Lookup.FAILED else _KEPT_FOR
        self._kept[key] = name, self._reactor.seconds() + life
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        for waiting in self._waiting.pop(key):
            waiting.callback(name)
        return name

    async def _looked_up(self, address: IPv4Address | IPv6Address) -> Name:
        local = self._in_hosts(address)
        if local:
            return local
        servers = self._servers if self._servers is not None else system_servers()
        if not servers:
            return Lookup.FAILED
        resolver = Resolver(  # type: ignore[no-untyped-call]
            servers=servers, timeout=self._tries, reactor=self._reactor
        )
        asking: Deferred[Name] = Deferred.fromCoroutine(_ask(resolver, address))
        asking.addTimeout(self._deadline, self._reactor)
        try:
            return await asking
        except (*_FAILURES, CannotListenError) as error:  # the latter: no descriptor left
            self._log.warn(
                "name of {address}: {kind}", address=str(address), kind=type(error).__name__
            )
            return Lookup.FAILED

    def _in_hosts(self, address: IPv4Address | IPv6Address) -> str:
        """The first name that the hosts file gives an address, empty if none."""
        try:
            lines = self._hosts.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        for line in lines:
            words = line.partition("#")[0].split()
            if len(words) > 1 and _same_address(words[0], address):
                return words[1].lower()
        return ""


async def _ask(resolver: Any, address: IPv4Address | IPv6Address) -> Name:
    """Ask for the names of an address, and for the addresses of each name."""
    try:
        answers, _, _ = await resolver.lookupPointer(address.reverse_pointer)
    except DNSNameError:
        return Lookup.NONE
    pointers = [answer.payload.name.name for answer in answers if answer.type == dns.PTR]
    if not pointers:
        return Lookup.NONE
    for octets in pointers[:_POINTERS]:
        name: str = octets.decode("ascii", "replace").rstrip(".").lower()
        if _HOST_NAME.fullmatch(name) and address in await _addresses(resolver, name, address):
            return name
    return Lookup.SPOOFED


async def _addresses(
    resolver: Any, name: str, like: IPv4Address | IPv6Address
) -> list[IPv4Address | IPv6Address]:
    """The addresses of a name, of the same version as another."""
    is_4 = like.version == 4
    lookup = resolver.lookupAddress if is_4 else resolver.lookupIPV6Address
    try:
        answers, _, _ = await lookup(name)
    except DNSNameError:
        return []
    kind = dns.A if is_4 else dns.AAAA
    return [ip_address(answer.payload.address) for answer in answers if answer.type == kind]


def system_servers(file: Path = RESOLV_CONF) -> list[tuple[str, int]]:
    """The name servers of the system (resolv.conf); read anew each time, it is short."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    return [(line[1], 53) for line in words if line[:1] == ["nameserver"] and len(line) > 1]


def _same_address(text: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return ip_address(text.partition("%")[0]) == address
    except ValueError:
        return False
