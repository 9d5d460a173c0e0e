"""The base64 around what a mechanism says, as IMAP and POP3 carry it (T41)."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64

from mailserver.wire.sasl.exchange import SaslCancelled, SaslFault

MAX_RESPONSE = 64 * 1024
"""Octets of base64 that a response may have (S3): tokens are long."""

# base64 = *(4base64-char) [base64-terminal]
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?+\Z")


def decode(word: bytes) -> bytes:
    """Decode base64.

    Raises:
        SaslFault: it is not base64 in its canonical alphabet and padding.
    """
    if _BASE64.match(word) is None:
        raise SaslFault("expected base64")
    return a2b_base64(word)


def decode_response(line: bytes) -> bytes:
    """Decode a response line (T41).

    Raises:
        SaslCancelled: it is `*`.
        SaslFault: it is not base64, or too long.
    """
    if line == b"*":
        raise SaslCancelled("authentication was cancelled")
    if len(line) > MAX_RESPONSE:
        raise SaslFault(f"a response has at most {MAX_RESPONSE} octets")
    return decode(line)


def decode_initial(word: bytes) -> bytes:
    """Decode an initial response; `=` is an empty one (RFC 4959 §3).

    Raises:
        SaslFault: as `decode_response`.
    """
    return b"" if word == b"=" else decode_response(word)


def encode(octets: bytes) -> bytes:
    """Encode a challenge or response in base64, without a line end."""
    return b2a_base64(octets, newline=False)


def encode_initial(octets: bytes) -> bytes:
    """Encode an initial response: `=` for an empty one (RFC 4959 §3)."""
    return encode(octets) or b"="
