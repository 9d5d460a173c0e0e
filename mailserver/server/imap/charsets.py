"""Charsets that SEARCH takes: all that mail is read in (RFC 3501 §6.4.4, T33)."""

from __future__ import annotations

from mailserver.mime import charsets
from mailserver.wire.imap.scanner import decode_utf8

_STRICT = ("UTF-8", "US-ASCII")


def decode_search_text(octets: bytes, charset: str) -> str:
    """Decode the text of a search programme; fits `Dialect.decode`.

    Raises:
        LookupError: the charset is not known.
        UnicodeDecodeError: octets that are not text in it.
    """
    if charset.upper() in _STRICT:
        return decode_utf8(octets, charset)
    if not charsets.is_known_charset(charset):
        raise LookupError(charset)
    text = charsets.decode(octets, charset)
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise UnicodeDecodeError(charset, octets, 0, len(octets), "not text in this charset")
    return text
