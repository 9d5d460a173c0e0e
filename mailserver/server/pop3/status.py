"""`MailError` → POP3 response codes (RFC 2449 §8.1, RFC 3206), once, in a table."""

from __future__ import annotations

from typing import Final

from mailserver.errors import ErrorKind
from mailserver.wire.pop3.replies import Code

CODES: Final[dict[ErrorKind, Code]] = {
    ErrorKind.AUTHENTICATION_FAILED: Code.AUTH,
    ErrorKind.AUTHORIZATION_FAILED: Code.AUTH,
    ErrorKind.PRIVACY_REQUIRED: Code.AUTH,
    ErrorKind.EXPIRED: Code.AUTH,
    ErrorKind.DISABLED: Code.AUTH,
    ErrorKind.IN_USE: Code.IN_USE,
    ErrorKind.UNAVAILABLE: Code.SYS_TEMP,
    ErrorKind.DISK_FULL: Code.SYS_TEMP,
    ErrorKind.OVER_QUOTA: Code.SYS_TEMP,
    ErrorKind.LIMIT: Code.SYS_TEMP,
    ErrorKind.TOO_MANY: Code.SYS_TEMP,
    ErrorKind.CORRUPT: Code.SYS_PERM,
    ErrorKind.NONEXISTENT: Code.SYS_PERM,  # there is no INBOX: no fault of the client's
    ErrorKind.NO_PERMISSION: Code.SYS_PERM,
}
"""What each kind is called on the wire; a kind without an entry has no code."""
