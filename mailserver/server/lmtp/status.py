"""`MailError` → LMTP replies: codes of RFC 5321 §4.2.3 and RFC 3463, once, in a table."""

from __future__ import annotations

from typing import Final

from mailserver.errors import ErrorKind, MailError
from mailserver.wire.lmtp.replies import Reply

INTERNAL: Final = (451, "4.3.0")

# A 4xx reply keeps the message in the client's queue: it stands wherever a later try, or
# an administrator, may make it work. Refusals for ever are those that name the sender's
# own mistake.
_CODES: Final[dict[ErrorKind, tuple[int, str]]] = {
    ErrorKind.NONEXISTENT: (550, "5.1.1"),
    ErrorKind.DISABLED: (450, "4.2.1"),
    ErrorKind.CANNOT: (553, "5.1.3"),
    ErrorKind.INVALID: (553, "5.1.3"),
    ErrorKind.NO_PERMISSION: (550, "5.7.1"),
    ErrorKind.OVER_QUOTA: (452, "4.2.2"),
    ErrorKind.TOO_BIG: (552, "5.3.4"),
    ErrorKind.BAD_MESSAGE: (554, "5.6.0"),
    ErrorKind.DISK_FULL: (452, "4.3.1"),
    ErrorKind.LIMIT: (452, "4.5.3"),
    ErrorKind.TOO_MANY: (451, "4.3.2"),
    ErrorKind.IN_USE: (450, "4.2.0"),
    ErrorKind.CORRUPT: (451, "4.2.0"),
    ErrorKind.UNAVAILABLE: (451, "4.3.0"),
}

_OVER_QUOTA_FOR_EVER: Final = (552, "5.2.2")


def reply_to(error: MailError, *, over_quota_is_temporary: bool) -> Reply:
    """Translate a refusal.

    Args:
        over_quota_is_temporary: 452 4.2.2 rather than 552 5.2.2 (T47); the same at RCPT
            and after DATA.
    """
    if error.kind is ErrorKind.OVER_QUOTA and not over_quota_is_temporary:
        code, status = _OVER_QUOTA_FOR_EVER
    else:
        code, status = _CODES.get(error.kind, INTERNAL)
    return Reply(code, status, error.text)
