"""What is known of a message: when it came, and what its octets say."""

from __future__ import annotations

from enum import Enum

import attrs

EPOCH_DAY = 719163
"""Ordinal of 1970-01-01."""


@attrs.frozen
class InternalDate:
    """When a message arrived, in the zone in which it was given (RFC 9051 §2.3.3).

    Attributes:
        seconds: since 1970-01-01 00:00 UTC.
        zone: minutes east of UTC, -1439 .. 1439; kept because searches by day use the
            day as written (T32).
    """

    seconds: int
    zone: int = 0

    @property
    def day(self) -> int:
        """The ordinal of the day as written, in its own zone."""
        return (self.seconds + self.zone * 60) // 86400 + EPOCH_DAY


@attrs.frozen(slots=False)  # filling 21 slots of a frozen value takes twice as long
class Description:
    """Everything that is computed once from a message's octets, ready to be kept.

    Made by `mailserver.mime.describe`; the store keeps it as it is.

    Attributes:
        format: number of the layout of the packed members; an older one is made anew.
        size: octets of the whole message (RFC822.SIZE, T31).
        header_size: octets of the header with the empty line that ends it.
        envelope: the ENVELOPE value as IMAP writes it, `(...)`, 7-bit, no NUL.
        body: the BODY value (no extension data).
        body_structure: the BODYSTRUCTURE value.
        sections: packed section offsets; read by `mailserver.mime.sections`.
        header_index: packed name and offsets of every field of the main header; read by
            `mailserver.mime.sections`.
        sent_seconds: the Date field, seconds since 1970 UTC, None where unreadable.
        sent_day: its ordinal day as written (T32), None where unreadable.
        base_subject: RFC 5256 §2.1.
        from_mailbox, to_mailbox, cc_mailbox: local part of the first address, for SORT.
        from_display, to_display: display name or address, for RFC 5957. These and the base
            subject are decoded, by `i;unicode-casemap`, at most 1000 characters (RFC 5256 §2):
            ordering their UTF-8 octets is the order that SORT wants.
        preview: at most 200 characters of readable text (RFC 8970 §3.1).
        message_id: with its angle brackets, empty if none.
        references: ids of the ancestors, oldest first: References, else In-Reply-To.
        has_attachment: a part that a person would call an attachment is there.
        has_media: image, audio or video is what the message mainly is (CGP-18).
    """

    format: int
    size: int
    header_size: int
    envelope: bytes
    body: bytes
    body_structure: bytes
    sections: bytes
    header_index: bytes
    sent_seconds: int | None
    sent_day: int | None
    base_subject: str
    from_mailbox: str
    to_mailbox: str
    cc_mailbox: str
    from_display: str
    to_display: str
    preview: str
    message_id: str
    references: tuple[str, ...]
    has_attachment: bool
    has_media: bool


@attrs.frozen
class FileSpan:
    """Octets start..end (end not included) of an open file.

    Attributes:
        descriptor: of the file; who gave the span closes it.
    """

    descriptor: int
    start: int
    end: int


class Column(Enum):
    """What a store hands out per message; one FETCH asks for just what it needs.

    Type of each value in a row in brackets.
    """

    INTERNAL_DATE = "internal_date"  # InternalDate
    SIZE = "size"  # int, octets
    ENVELOPE = "envelope"  # bytes
    BODY = "body"  # bytes
    BODY_STRUCTURE = "body_structure"  # bytes
    SECTIONS = "sections"  # bytes, packed
    HEADER = "header"  # bytes: the main header with its empty line
    HEADER_SIZE = "header_size"  # int, octets of the main header with its empty line
    ENDING = "ending"  # bytes: the last four octets of the message, or all if it has fewer
    HEADER_INDEX = "header_index"  # bytes, packed
    PREVIEW = "preview"  # str
    SAVE_DATE = "save_date"  # int, seconds since 1970 UTC
    EMAIL_ID = "email_id"  # EmailId
    THREAD_ID = "thread_id"  # ThreadId
    HAS_ATTACHMENT = "has_attachment"  # bool
