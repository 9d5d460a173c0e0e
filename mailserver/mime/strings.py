"""Header values as ENVELOPE and BODYSTRUCTURE show them (RFC 3501 §7.4.2, RFC 9051 §7.5.2).

They are 7-bit and on one line, every string is a quoted string, so they fit every session,
whatever it has enabled:

    NUL                     left out
    line ends               one space, with the blanks around them
    octets above 127        UTF-8 encoded words (RFC 2047), also in parameters and addresses,
                            where RFC 2047 §5 does not foresee them: clients decode them there
                            too, and no other 7-bit form keeps the name
"""

from __future__ import annotations

import re

from mailserver.mime.headers import unfold
from mailserver.mime.words import encode_words

MAX_VALUE = 64 << 10
"""Octets of a value that is shown as one string (a subject, a date, a description); the
whole can be fetched with the header."""

NIL = b"NIL"

_PLAIN = re.compile(rb"[ !#-\[\]-~]*+\Z")


def quoted(value: bytes) -> bytes:
    """`value` as a quoted string, cleaned as the module's docstring says."""
    if _PLAIN.match(value) is None:
        value = encode_words(unfold(value)).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%b"' % value


def nstring(value: bytes | None) -> bytes:
    """`value` as a quoted string, or NIL."""
    return NIL if value is None else quoted(value)


def text_field(value: bytes | None) -> bytes:
    """A field's value on one line, runs of blanks made one; NIL if the field is not there."""
    if value is None:
        return NIL
    return quoted(b" ".join(value[:MAX_VALUE].replace(b"\0", b"").split()))


def raw_field(value: bytes | None) -> bytes:
    """A field's value on one line, its blanks kept; NIL if the field is not there."""
    return NIL if value is None else quoted(value[:MAX_VALUE].strip(b" \t\r\n"))
