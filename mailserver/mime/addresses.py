"""The address fields of a message as its envelope has them (RFC 3501 §7.4.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailserver.mime.headers import Address, unfold
from mailserver.mime.structure import Part
from mailserver.mime.words import decode_words

MAX_ADDRESSES = 10_000
"""Members of one address list in an envelope."""

ADDRESS_FIELDS = frozenset(b"from sender reply-to to cc bcc".split())


_WORD = rb"[^ \t\"(),:;<>@\[\]\\]++"
_ADDRESS = rb"(?:(?:\"[^\"\\]*+\"|%b(?: %b)*+) <%b@%b>|%b@%b)" % (
    _WORD,
    _WORD,
    _WORD,
    _WORD,
    _WORD,
    _WORD,
)
_PLAIN = re.compile(rb"%b(?:, %b)*+" % (_ADDRESS, _ADDRESS))


def is_plain(value: bytes) -> bool:
    """Whether a list is written as `written` would write it, but for quotes around names;
    most are, and this is told ten times faster than by reading them."""
    return _PLAIN.fullmatch(value) is not None


def address_values(message: Part) -> dict[bytes, bytes]:
    """The address fields of a message on one line each, by lower-case name.

    A field that occurs again adds to the first, as if they were one list (RFC 7103 §7.5.1):
    a filter and a reader then see the same senders.
    """
    values: dict[bytes, bytes] = {}
    for name, raw, _start in message.header:
        if name in ADDRESS_FIELDS:
            earlier = values.get(name)
            value = unfold(raw)
            values[name] = b"%b, %b" % (earlier, value) if earlier else value
    return values


def written(addresses: Iterable[Address]) -> str:
    """A list as people write it, decoded: `Name <mailbox@host>, mailbox@host, Group: …;`."""
    pieces: list[str] = []
    comma = ""
    for name, _route, mailbox, host in addresses:
        if mailbox is None:
            pieces.append(";")
            comma = ", "
            continue
        if host is None:
            pieces += [comma, decode_words(mailbox), ": "]
            comma = ""
            continue
        address = f"{decode_words(mailbox)}@{decode_words(host)}"
        pieces += [comma, f"{decode_words(name)} <{address}>" if name else address]
        comma = ", "
    return "".join(pieces)
