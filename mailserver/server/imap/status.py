"""`ErrorKind` in IMAP's words: response codes (RFC 5530 §3, RFC 9051 §7.1)."""

from __future__ import annotations

from mailserver.errors import ErrorKind, MailError
from mailserver.wire.imap import responses
from mailserver.wire.imap.responses import BadCharset, Condition, ResponseCode, Status

CHARSETS = ("US-ASCII", "UTF-8")
"""Named in BADCHARSET; others are understood too."""

CODES: dict[ErrorKind, ResponseCode | None] = {
    ErrorKind.NONEXISTENT: responses.NONEXISTENT,
    ErrorKind.TRY_CREATE: responses.TRYCREATE,
    ErrorKind.ALREADY_EXISTS: responses.ALREADYEXISTS,
    ErrorKind.NO_PERMISSION: responses.NOPERM,
    ErrorKind.CANNOT: responses.CANNOT,
    ErrorKind.HAS_CHILDREN: None,  # HASCHILDREN is IMAP4rev2's alone (T37)
    ErrorKind.IN_USE: responses.INUSE,
    ErrorKind.OVER_QUOTA: responses.OVERQUOTA,
    ErrorKind.LIMIT: responses.LIMIT,
    ErrorKind.TOO_BIG: responses.TOOBIG,
    ErrorKind.BAD_MESSAGE: None,
    ErrorKind.UNKNOWN_CTE: responses.UNKNOWN_CTE,
    ErrorKind.BAD_CHARSET: BadCharset(CHARSETS),
    ErrorKind.USE_ATTRIBUTE: responses.USEATTR,
    ErrorKind.AUTHENTICATION_FAILED: responses.AUTHENTICATIONFAILED,
    ErrorKind.AUTHORIZATION_FAILED: responses.AUTHORIZATIONFAILED,
    ErrorKind.PRIVACY_REQUIRED: responses.PRIVACYREQUIRED,
    ErrorKind.EXPIRED: responses.EXPIRED,
    ErrorKind.DISABLED: responses.CONTACTADMIN,
    ErrorKind.UNAVAILABLE: responses.UNAVAILABLE,
    ErrorKind.DISK_FULL: responses.UNAVAILABLE,
    ErrorKind.CORRUPT: responses.CORRUPTION,
    ErrorKind.READ_ONLY: None,
    ErrorKind.INVALID: responses.CLIENTBUG,
    ErrorKind.TOO_MANY: responses.LIMIT,
}
"""What each kind is called on the wire; None where there is no code."""


def refusal(error: MailError) -> Status:
    """The tagged NO, still without its tag, for a refusal (T40)."""
    return Status(Condition.NO, error.text, CODES[error.kind])


def ok(text: str, code: ResponseCode | None = None) -> Status:
    """A tagged OK, still without its tag."""
    return Status(Condition.OK, text, code)


def no(text: str, code: ResponseCode | None = None) -> Status:
    """A tagged NO, still without its tag."""
    return Status(Condition.NO, text, code)


def bad(text: str, code: ResponseCode | None = None) -> Status:
    """A tagged BAD, still without its tag."""
    return Status(Condition.BAD, text, code)
