"""Headers in UTF-8 (RFC 6532) for clients that know only ASCII, as RFC 6858 makes them.

What people read stays readable: display names and subjects become encoded words. An address
that has no form in ASCII becomes a group without members whose name tells it, so that no
answer goes to a wrong one. What cannot be said otherwise, such as a file name in a
Content-Type field or a field of a program's own, is left out. Everything that is ASCII stays
as it is, octet by octet.

Header fields of the parts of a message are not looked at: they stand in its body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mailserver.mime.headers import (
    GROUP_END,
    Address,
    parse_addresses,
    parse_parameters,
    split_fields,
    unfold,
)
from mailserver.mime.words import encode_words, raw_text, words_of

MAX_ADDRESSES: Final = 10_000
"""Members of one field that are kept."""

_ATOMS: Final = re.compile(rb"[!#-'*+\-/-9=?A-Z^-~]+(?:[ ][!#-'*+\-/-9=?A-Z^-~]+)*")
_DOT_ATOM: Final = re.compile(rb"[!#-'*+\-/-9=?A-Z^-~]+(?:\.[!#-'*+\-/-9=?A-Z^-~]+)*")
_TOKEN: Final = re.compile(rb"[!#-'*+\-.0-9A-Z^-~]+")
_FOLD: Final = b"\r\n "


def ascii_header(header: bytes) -> bytes:
    """Make the surrogate of a header (RFC 6858).

    Args:
        header: with the empty line that ends it, if any; lines end with CRLF.

    Returns:
        ASCII only, CRLF; lines of at most 998 octets where the given ones were.
    """
    if header.isascii():
        return header
    end = len(header) - 2 if header.endswith(b"\r\n\r\n") else len(header)
    fields = split_fields(header[:end], end)
    ends = [start for _name, _value, start in fields[1:]] + [end]
    made = []
    for (name, value, start), after in zip(fields, ends, strict=True):
        octets = header[start:after]
        if octets.isascii():
            made.append(octets)
        elif name in _MADE_ANEW:
            written = octets.partition(b":")[0].rstrip(b" \t")
            made.append(b"%b: %b\r\n" % (written, _MADE_ANEW[name](unfold(value))))
    return b"".join(made) + header[end:]


def _unstructured(value: bytes) -> bytes:
    return encode_words(value).replace(b"?= =?", b"?=" + _FOLD + b"=?")


def _addresses(value: bytes) -> bytes:
    """Write an address list anew: members between commas, a group up to its semicolon."""
    members: list[bytes] = []
    groups: list[tuple[bytes, list[bytes]]] = []  # that which is open, if any
    for address in parse_addresses(value, MAX_ADDRESSES):
        if address == GROUP_END:
            name, inside = groups.pop()
            members.append(b"%b: %b;" % (name, b", ".join(inside)))
        elif address.host is None:
            groups.append((_phrase(address.mailbox or b""), []))
        elif _is_ascii(address):
            (groups[-1][1] if groups else members).append(_mailbox(address))
        elif not groups:  # a group within a group there cannot be
            members.append(_hidden(address))
    return (b"," + _FOLD).join(members)


def _is_ascii(address: Address) -> bool:
    return (address.mailbox or b"").isascii() and (address.host or b"").isascii()


def _mailbox(address: Address) -> bytes:
    mailbox, host = address.mailbox or b"", address.host or b""
    if not _DOT_ATOM.fullmatch(mailbox):
        mailbox = _quoted(mailbox)
    if not address.name:
        return b"%b@%b" % (mailbox, host)
    return b"%b <%b@%b>" % (_phrase(address.name), mailbox, host)


def _hidden(address: Address) -> bytes:
    name = _phrase(address.name) + b" " if address.name else b""
    spec = raw_text(b"%b@%b" % (address.mailbox or b"", address.host or b""))
    return b"%bInternationalized Address %b Removed:;" % (name, _encoded(spec))


def _encoded(text: str) -> bytes:
    return words_of(text).replace(b" ", _FOLD)


def _phrase(octets: bytes) -> bytes:
    if not octets.isascii():
        return _encoded(raw_text(octets))
    return octets if _ATOMS.fullmatch(octets) else _quoted(octets)


def _quoted(octets: bytes) -> bytes:
    return b'"%b"' % re.sub(rb'(["\\])', rb"\\\1", octets)


def _with_parameters(value: bytes) -> bytes:
    kind, subtype, parameters = parse_parameters(value)
    made = [b"%b/%b" % (kind, subtype) if subtype else kind]
    for name, text in parameters:
        if name.isascii() and text.isascii():
            made.append(b"%b=%b" % (name, text if _TOKEN.fullmatch(text) else _quoted(text)))
    return (b";" + _FOLD).join(made)


_MADE_ANEW: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    **dict.fromkeys((b"subject", b"comments", b"content-description"), _unstructured),
    **dict.fromkeys(
        (
            b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"resent-from",
            b"resent-sender", b"resent-to", b"resent-cc", b"resent-bcc",
        ),
        _addresses,
    ),
    **dict.fromkeys((b"content-type", b"content-disposition"), _with_parameters),
}  # fmt: skip
