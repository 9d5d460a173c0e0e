"""The PROXY protocol, versions 1 and 2: the words in which a proxy says who its client is,
before the client's own octets (proxy-protocol.txt of HAProxy).

Knows nothing of who may say so. A header may come in any pieces; what is not one is refused
at the first octet that shows it, since whoever sent it waits for no answer.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import attrs

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""How a header of version 2 begins (§2.2)."""

MAX_LINE: Final = 107
"""Octets of the longest header of version 1, with its CRLF (§2.1)."""

_PREFIX: Final = b"PROXY "
_FIXED: Final = 16  # octets of version 2 before the addresses

# "PROXY" SP ( "TCP4" / "TCP6" ) SP source SP destination SP port SP port CRLF, one space each;
# behind "UNKNOWN" anything may stand.
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) " + _PORT + b" " + _PORT
)
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: .*)?", re.DOTALL)

_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM: Final = 1
_TRANSPORTS: Final = range(3)
_ADDRESSES: Final = {_INET: 12, _INET6: 36, _UNIX: 216}  # octets of both, with ports
_CRC32C: Final = 3  # type of the field with the checksum


class ProxyFault(Exception):
    """Not a PROXY header; the text says why."""


@attrs.frozen
class ProxyHeader:
    """A header that was read.

    Attributes:
        size: octets that it takes; what follows is the client's.
        host: the client's IP address, an IPv4 address also where it was written as an
            IPv6 one; empty where the proxy speaks for itself or does not know: then the
            connection's own address counts.
        port: the client's, 0 without `host`.
    """

    size: int
    host: str = ""
    port: int = 0


def read_header(octets: bytes) -> ProxyHeader | None:
    """Read the header that a connection begins with.

    Args:
        octets: all that has come.

    Returns:
        None as long as more is needed.

    Raises:
        ProxyFault: this can be no header.
    """
    if octets.startswith(SIGNATURE):
        return _read_binary(octets)
    if octets.startswith(_PREFIX):
        return _read_line(octets)
    if SIGNATURE.startswith(octets) or _PREFIX.startswith(octets):
        return None
    raise ProxyFault("there is no PROXY header")


def _read_line(octets: bytes) -> ProxyHeader | None:
    end = octets.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(octets) >= MAX_LINE:
            raise ProxyFault("the PROXY line does not end")
        return None
    match = _LINE.fullmatch(octets, 0, end)
    if match is None:
        if _UNKNOWN.fullmatch(octets, 0, end):
            return ProxyHeader(end + 2)
        raise ProxyFault("the PROXY line is malformed")
    family, source, destination, *ports = match.groups()
    read = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        client = read(source.decode("ascii"))
        read(destination.decode("ascii"))
    except AddressValueError:
        raise ProxyFault("the PROXY line has no valid addresses") from None
    if max(map(int, ports)) > 65535:
        raise ProxyFault("the PROXY line has no valid ports")
    return ProxyHeader(end + 2, _text(client), int(ports[0]))


def _read_binary(octets: bytes) -> ProxyHeader | None:
    if len(octets) < _FIXED:
        return None
    version, command = octets[12] >> 4, octets[12] & 15
    family, transport = octets[13] >> 4, octets[13] & 15
    size = _FIXED + int.from_bytes(octets[14:16], "big")
    if version != 2:
        raise ProxyFault("the PROXY header is of an unknown version")
    if command not in (_LOCAL, _PROXY):
        raise ProxyFault("the PROXY header has an unknown command")
    if family > _UNIX or transport not in _TRANSPORTS:
        raise ProxyFault("the PROXY header has an unknown family of addresses")
    if len(octets) < size:
        return None
    if family == _UNSPEC:
        return ProxyHeader(size)
    fields = _FIXED + _ADDRESSES[family]
    if fields > size:
        raise ProxyFault("the PROXY header is too short for its addresses")
    _check_fields(octets[:size], fields)
    if command == _LOCAL or transport != _STREAM or family == _UNIX:
        return ProxyHeader(size)
    if family == _INET:
        return ProxyHeader(size, str(IPv4Address(octets[16:20])), _number(octets[24:26]))
    return ProxyHeader(size, _text(IPv6Address(octets[16:32])), _number(octets[48:50]))


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _check_fields(header: bytes, at: int) -> None:
    """Walk over the fields behind the addresses; only the checksum is of interest (§2.2.3).

    Args:
        header: all of it.
        at: where the fields begin.
    """
    while at < len(header):
        end = at + 3 + _number(header[at + 1 : at + 3])
        if at + 3 > len(header) or end > len(header):
            raise ProxyFault("the PROXY header has a field that does not end")
        if header[at] == _CRC32C:
            if end - at != 7:
                raise ProxyFault("the PROXY header has a checksum of the wrong size")
            blank = header[: at + 3] + bytes(4) + header[end:]
            if crc32c(blank) != _number(header[at + 3 : end]):
                raise ProxyFault("the PROXY header has the wrong checksum")
        at = end


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc32c(octets: bytes) -> int:
    """The checksum of RFC 4960 appendix B."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ octet) & 255]
    return crc ^ 0xFFFFFFFF
