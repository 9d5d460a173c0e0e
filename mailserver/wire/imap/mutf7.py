"""Modified UTF-7, the form of mailbox names on the wire (RFC 3501 §5.1.3).

Printable US-ASCII stands for itself, `&` is `&-`, anything else is UTF-16 in a base64 with
`,` for `/`, between `&` and `-`. Every text has one form only, and only that one is read
(T21): two spellings of one name would be two names to a filter and one to the store.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

_TO_ENCODE = re.compile("&|[^\x20-\x7e]+")
_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")


def encode(text: str) -> bytes:
    """Write text in modified UTF-7.

    Raises:
        ValueError: a lone surrogate, which UTF-16 cannot hold.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return text.encode("ascii")
    return _TO_ENCODE.sub(_shift, text).encode("ascii")


def _shift(match: re.Match[str]) -> str:
    run = match[0]
    if run == "&":
        return "&-"
    base64 = b2a_base64(run.encode("utf-16-be"), newline=False).rstrip(b"=")
    return "&" + base64.replace(b"/", b",").decode("ascii") + "-"


def decode(octets: bytes) -> str:
    """Read modified UTF-7, in its one canonical form only.

    Raises:
        ValueError: octets that are not that; the text says so in printable US-ASCII.
    """
    if b"&" not in octets:
        text = octets.decode("latin-1")
        if text.isascii() and text.isprintable():
            return text
        raise ValueError("not modified UTF-7: an octet is not printable US-ASCII")
    try:
        parts = _SHIFTED.split(octets)
        parts[1::2] = [_unshift(base64) for base64 in parts[1::2]]
        text = b"".join(parts).decode("utf-8")
        canonical = encode(text)
    except (Base64Error, UnicodeError):
        raise ValueError("not modified UTF-7: a part between & and - cannot be decoded") from None
    if canonical != octets:
        raise ValueError("not modified UTF-7 in its canonical form")
    return text


def _unshift(base64: bytes) -> bytes:
    """Give the UTF-8 of what stood between `&` and `-`."""
    if not base64:
        return b"&"
    padded = base64.replace(b",", b"/") + b"=" * (-len(base64) % 4)
    return a2b_base64(padded).decode("utf-16-be").encode("utf-8")
