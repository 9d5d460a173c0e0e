"""POP3 replies as octets (RFC 2449 §3): `+OK` or `-ERR`, a response code, text, lines.

A reply never carries a control character: whoever wrote its text, it cannot forge a second
reply. Nor does it carry an octet over 126, unless the client has asked for a language (RFC
6856 §3.2). No text of ours begins with `[`, which would read as a response code (RFC 2449
§6.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from mailserver.wire.sasl import encode

END: Final = b".\r\n"
"""Ends a multi-line reply (RFC 1939 §3)."""

# RFC 2449 §4: 512 octets with status, code and CRLF.
_MAX_TEXT: Final = 480
_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), "?")


class Code(Enum):
    """Response codes (RFC 2449 §8; RFC 3206; T45)."""

    AUTH = "AUTH"  # the credentials are the problem
    IN_USE = "IN-USE"  # logged in rightly, but the maildrop is taken
    SYS_TEMP = "SYS/TEMP"  # not the user's fault; may work later
    SYS_PERM = "SYS/PERM"  # not the user's fault; somebody has to repair it
    LOGIN_DELAY = "LOGIN-DELAY"  # logged in rightly, but too soon after the last time
    UTF8 = "UTF8"  # the message can be had after UTF8 alone (RFC 6856 §5)


def ok(text: str, charset: str = "ascii") -> bytes:
    """A positive reply, or the first line of one.

    Args:
        charset: `ascii`, or `utf-8` where the client has asked for a language.
    """
    return b"+OK %b\r\n" % _clean(text, charset)


def err(text: str, code: Code | None = None, charset: str = "ascii") -> bytes:
    """A negative reply; `charset` as of `ok`."""
    prefix = f"[{code.value}] " if code else ""
    return b"-ERR %b%b\r\n" % (prefix.encode("ascii"), _clean(text, charset))


def challenge(octets: bytes) -> bytes:
    """What the server says next in a SASL exchange (RFC 1734 §2)."""
    return b"+ %b\r\n" % encode(octets)


def lines(values: Iterable[bytes]) -> bytes:
    """Lines of a multi-line reply, none of which begins with a dot."""
    return b"".join([b"%b\r\n" % value for value in values])


def _clean(text: str, charset: str) -> bytes:
    octets = text.translate(_CONTROLS).encode(charset, "replace")
    if len(octets) > _MAX_TEXT:  # perhaps amid a character
        octets = octets[:_MAX_TEXT].decode(charset, "ignore").encode(charset)
    return octets
