"""The PROXY header that a connection may begin with."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from mailserver.wire.proxy import SIGNATURE, ProxyFault, ProxyHeader, crc32c, read_header
from tests.fuzz.target import Target, cut


def outcome(packets: list[bytes]) -> ProxyHeader | str | None:
    """What comes of a header in pieces, as a connection reads it."""
    octets = b""
    for packet in packets:
        octets += packet
        try:
            header = read_header(octets)
        except ProxyFault as fault:
            return str(fault)
        if header is not None:
            return header
    return None


def check_header(octets: bytes) -> None:
    found = outcome([octets])
    in_pieces = outcome(cut(octets))
    if not isinstance(found, ProxyHeader):
        assert type(in_pieces) is type(found)
        return
    assert in_pieces == found and found.size <= len(octets)
    assert outcome([octets[: found.size]]) == found and outcome([octets[: found.size - 1]]) is None
    assert 0 <= found.port <= 65535
    if found.host:
        assert str(ip_address(found.host)) == found.host


def _binary(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


def _corpus() -> list[bytes]:
    v4 = bytes(range(12))
    checked = _binary(0x21, 0x11, v4 + b"\3\0\4" + bytes(4))
    return [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 143\r\na NOOP\r\n",
        b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
        _binary(0x21, 0x11, v4),
        _binary(0x20, 0, b""),
        _binary(0x21, 0x21, bytes(range(36)) + b"\x20\0\7\1\0\0\0\0ab\1\0\0"),
        _binary(0x21, 0x31, bytes(216)),
        checked[:-4] + struct.pack("!I", crc32c(checked)),
    ]


TARGETS = (
    Target("proxy_headers", check_header, _corpus, (b"PROXY TCP4 ", b"\r\n", SIGNATURE, b"::")),
)
