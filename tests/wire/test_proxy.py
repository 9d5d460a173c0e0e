"""The PROXY protocol, both versions, however the header is cut."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.wire.proxy import (
    MAX_LINE,
    SIGNATURE,
    ProxyFault,
    ProxyHeader,
    crc32c,
    read_header,
)

LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UNIX = 0x11, 0x12, 0x21, 0x31
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 143)
V6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + V4[8:]
MAPPED = ip_address("::ffff:192.0.2.1").packed * 2 + V4[8:]


def binary(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


def field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def with_checksum(command: int, family: int, block: bytes, wrong_by: int = 0) -> bytes:
    """A header with the field of §2.2.3, as the sender has to make it."""
    blank = binary(command, family, block + field(3, bytes(4)))
    return blank[:-4] + struct.pack("!I", crc32c(blank) ^ wrong_by)


# What a client over TLS leads to: version and cipher within the field, as HAProxy sends it.
TLS_FIELD = field(0x20, b"\x01\0\0\0\0" + field(0x21, b"TLSv1.3") + field(0x23, b"AES"))

HEADERS = [
    # §2.1's example
    (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1", 56324),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", 0),
    (b"PROXY TCP6 2001:DB8::1 ::1 4124 993\r\n", "2001:db8::1", 4124),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
     ":".join(["ffff"] * 8), 65535),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1", 1),
    (b"PROXY UNKNOWN\r\n", "", 0),
    (b"PROXY UNKNOWN ffff:f:ff whatever \n\r 0\r\n", "", 0),
    (binary(PROXY, TCP4, V4), "192.0.2.1", 56324),
    (binary(PROXY, TCP6, V6), "2001:db8::1", 56324),
    (binary(PROXY, TCP6, MAPPED), "192.0.2.1", 56324),
    (binary(PROXY, TCP4, V4 + TLS_FIELD + field(4, b"") + field(5, b"x" * 128)),
     "192.0.2.1", 56324),
    (binary(PROXY, TCP4, V4 + field(0xEA, b"\1vpce-1" * 300)), "192.0.2.1", 56324),
    (with_checksum(PROXY, TCP6, V6 + TLS_FIELD), "2001:db8::1", 56324),
    # The proxy speaks for itself, or of what has no address for us: the connection's counts.
    (binary(LOCAL, 0, b""), "", 0),
    (binary(LOCAL, TCP4, V4), "", 0),
    (binary(LOCAL, 0, b"anything"), "", 0),
    (binary(PROXY, 0, b"\xff" * 50), "", 0),
    (binary(PROXY, UDP4, V4), "", 0),
    (binary(PROXY, UNIX, bytes(216)), "", 0),
    (with_checksum(LOCAL, TCP4, V4), "", 0),
]  # fmt: skip

FAULTS = [
    (b"a LOGIN x y\r\n", "no PROXY header"),
    (b"\x16\x03\x01", "no PROXY header"),
    (b"PROXX", "no PROXY header"),
    (b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "no PROXY header"),
    (SIGNATURE[:-1] + b"x", "no PROXY header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1\n", "does not end"),
    (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 1\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 1\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 1\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1 \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
    (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 1\r\n", "malformed"),
    (b"PROXY UNKNOWNX\r\n", "malformed"),
    (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 1\r\n", "valid ports"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n", "valid ports"),
    (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 1\r\n", "valid addresses"),
    (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 1\r\n", "valid addresses"),
    (b"PROXY TCP4 192.0.2.1 ::1 1 1\r\n", "valid addresses"),
    (b"PROXY TCP6 192.0.2.1 ::1 1 1\r\n", "valid addresses"),
    (b"PROXY TCP6 1::2::3 ::1 1 1\r\n", "valid addresses"),
    (b"PROXY UNKNOWN " + b"x" * MAX_LINE + b"\r\n", "does not end"),
    (binary(0x11, TCP4, V4), "version"),
    (binary(0x31, TCP4, V4), "version"),
    (binary(0x22, TCP4, V4), "command"),
    (binary(PROXY, 0x41, V4), "family"),
    (binary(PROXY, 0x13, V4), "family"),
    (binary(PROXY, TCP4, V4[:-1]), "too short"),
    (binary(PROXY, TCP6, V4), "too short"),
    (binary(PROXY, TCP4, V4 + b"\1"), "does not end"),
    (binary(PROXY, TCP4, V4 + b"\1\0"), "does not end"),
    (binary(PROXY, TCP4, V4 + b"\1\0\5abcd"), "does not end"),
    (binary(PROXY, TCP4, V4 + field(3, b"abc")), "wrong size"),
    (with_checksum(PROXY, TCP4, V4, wrong_by=1), "wrong checksum"),
    (with_checksum(LOCAL, TCP4, V4, wrong_by=1 << 31), "wrong checksum"),
]


@pytest.mark.parametrize(("octets", "host", "port"), HEADERS)
def test_headers(octets: bytes, host: str, port: int) -> None:
    assert read_header(octets) == ProxyHeader(len(octets), host, port)


@pytest.mark.parametrize(("octets", "host", "port"), HEADERS)
def test_a_header_may_come_in_pieces_and_with_what_follows(
    octets: bytes, host: str, port: int
) -> None:
    for end in range(len(octets)):
        assert read_header(octets[:end]) is None
    assert read_header(octets + b"\r\na LOGIN x y\r\n") == ProxyHeader(len(octets), host, port)


@pytest.mark.parametrize(("octets", "reason"), FAULTS)
def test_what_is_no_header(octets: bytes, reason: str) -> None:
    with pytest.raises(ProxyFault, match=reason):
        read_header(octets + b"x" * MAX_LINE)
    for end in range(len(octets)):
        try:
            assert read_header(octets[:end]) is None
        except ProxyFault:
            break  # told as early as it can be


def test_the_longest_line_is_taken() -> None:
    """§2.1: 107 octets with its CRLF."""
    line = b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 16) + b"\r\n"
    assert len(line) == MAX_LINE
    assert read_header(line) == ProxyHeader(MAX_LINE)
    with pytest.raises(ProxyFault):
        read_header(b"PROXY UNKNOWN x" + line[14:])


def test_the_checksum_is_that_of_the_standard() -> None:
    """RFC 4960 appendix B: Castagnoli's polynomial; the check value of its catalogue entry."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_is_read_back(address: object, port: int) -> None:
    ip = ip_address(str(address))
    family, kind = (TCP4, b"TCP4") if ip.version == 4 else (TCP6, b"TCP6")
    block = ip.packed * 2 + struct.pack("!HH", port, 1)
    text = str(ip).encode("ascii").partition(b"%")[0]
    line = b"PROXY %b %b %b %d 1\r\n" % (kind, text, text, port)
    expected = str(getattr(ip, "ipv4_mapped", None) or ip)
    for octets in (binary(PROXY, family, block), line):
        assert read_header(octets) == ProxyHeader(len(octets), expected, port)
