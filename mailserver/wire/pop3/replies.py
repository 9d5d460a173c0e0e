"""POP3 replies as octets (RFC 2449 §3): `+OK` or `-ERR`, a response code, text, lines.

A reply never carries a control character or an octet over 126: whoever wrote its text, it
cannot forge a second reply. No text of ours begins with `[`, which would read as a response
code (RFC 2449 §6.4).
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
_CONTROLS: Final = dict.fromkeys((*range(32), 127), "?")


class Code(Enum):
    """Response codes (RFC 2449 §8; RFC 3206; T45)."""

    AUTH = "AUTH"  # the credentials are the problem
    IN_USE = "IN-USE"  # logged in rightly, but the maildrop is taken
    SYS_TEMP = "SYS/TEMP"  # not the user's fault; may work later
    SYS_PERM = "SYS/PERM"  # not the user's fault; somebody has to repair it


def ok(text: str) -> bytes:
    """A positive reply, or the first line of one."""
    return f"+OK {_clean(text)}\r\n".encode()


def err(text: str, code: Code | None = None) -> bytes:
    """A negative reply."""
    prefix = f"[{code.value}] " if code else ""
    return f"-ERR {prefix}{_clean(text)}\r\n".encode()


def challenge(octets: bytes) -> bytes:
    """What the server says next in a SASL exchange (RFC 1734 §2)."""
    return b"+ %b\r\n" % encode(octets)


def lines(values: Iterable[bytes]) -> bytes:
    """Lines of a multi-line reply, none of which begins with a dot."""
    return b"".join([b"%b\r\n" % value for value in values])


def _clean(text: str) -> str:
    return text[:_MAX_TEXT].translate(_CONTROLS).encode("ascii", "replace").decode("ascii")
