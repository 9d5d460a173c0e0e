"""Feeding a sans-IO reader in every way that a network may cut its octets."""

from __future__ import annotations

from collections.abc import Iterator


def packets(octets: bytes) -> Iterator[list[bytes]]:
    """Every cut of the octets into two, single octets, and all at once."""
    yield [octets]
    yield [octets[at : at + 1] for at in range(len(octets))]
    for at in range(1, len(octets)):
        yield [octets[:at], octets[at:]]
