"""What can go wrong, in words that no protocol owns.

The store, the directory and the authenticators raise `MailError`; each protocol
translates its `kind` once, in a table (IMAP: RFC 5530 codes; LMTP: RFC 3463 codes;
command line: sysexits). `text` is shown to the person who made the request, so it
says what was wrong and what to do, and never carries a secret, an SQL statement or
a path.
"""

from __future__ import annotations

from enum import Enum


class ErrorKind(Enum):
    """Why a request was refused; the value is the word used in logs and JSON."""

    NONEXISTENT = "nonexistent"  # the named mailbox, account or message is not there
    TRY_CREATE = "try-create"  # target mailbox missing, CREATE would be allowed
    ALREADY_EXISTS = "already-exists"
    NO_PERMISSION = "no-permission"
    CANNOT = "cannot"  # can never work: a bad name, INBOX cannot be deleted
    HAS_CHILDREN = "has-children"
    IN_USE = "in-use"
    OVER_QUOTA = "over-quota"
    LIMIT = "limit"  # a configured limit was hit
    TOO_BIG = "too-big"  # one message over the maximum size
    BAD_MESSAGE = "bad-message"  # e.g. an empty message
    UNKNOWN_CTE = "unknown-cte"  # BINARY: transfer encoding cannot be decoded
    BAD_CHARSET = "bad-charset"
    USE_ATTRIBUTE = "use-attribute"  # special use refused, RFC 6154 §2
    AUTHENTICATION_FAILED = "authentication-failed"
    AUTHORIZATION_FAILED = "authorization-failed"
    PRIVACY_REQUIRED = "privacy-required"
    EXPIRED = "expired"
    DISABLED = "disabled"  # account or service switched off
    UNAVAILABLE = "unavailable"  # a backend is down; try again later
    DISK_FULL = "disk-full"
    CORRUPT = "corrupt"  # the account's data failed a check; see `mailctl verify`
    READ_ONLY = "read-only"
    INVALID = "invalid"  # an argument that no protocol should have let through
    TOO_MANY = "too-many"  # connections, sessions, tries: come back later


class MailError(Exception):
    """A refusal with its reason.

    Args:
        kind: what happened, for programs.
        text: one sentence for people, without a final newline.
        subject: the name it is about (mailbox, account, address), or None.
    """

    def __init__(self, kind: ErrorKind, text: str, *, subject: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.subject = subject

    def __repr__(self) -> str:
        return f"MailError({self.kind.name}, {self.text!r})"
