"""IP addresses and networks, as options name them and as limits count them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import attrs

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network:
    """Read `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/32`.

    Raises:
        ValueError: with the reason, also for bits set behind the prefix.
    """
    return ipaddress.ip_network(text.strip())


def counted_as(address: str) -> str:
    """Return what limits count an address as: itself, or its /64 for IPv6, because one
    host has a whole /64 to choose from. What is no IP address (a Unix socket) is itself.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


@attrs.frozen
class Networks:
    """Some networks, asked whether an address lies in one of them."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Networks:
        """Read networks as `parse_network` does.

        Raises:
            ValueError: with the reason.
        """
        return cls(tuple(map(parse_network, texts)))

    def __contains__(self, address: object) -> bool:
        if not self.networks or not isinstance(address, str):
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)
