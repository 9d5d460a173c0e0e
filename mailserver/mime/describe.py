"""A message's octets to its `Description`: computed once, at delivery.

ENVELOPE, BODY and BODYSTRUCTURE are made as the octets that IMAP sends (RFC 3501 §7.4.2,
RFC 9051 §7.5.2), so that FETCH only joins them; `strings` says how.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from attrs import evolve

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.addresses import MAX_ADDRESSES, address_values
from mailserver.mime.buffers import Buffer, Octets, buffer_of
from mailserver.mime.content import Kind
from mailserver.mime.headers import (
    MAX_FIELDS,
    MISSING_DOMAIN,
    MISSING_MAILBOX,
    Address,
    parse_addresses,
    parse_date,
    parse_message_ids,
    split_fields,
)
from mailserver.mime.sections import (
    pack_fields,
    pack_sections,
    prefix_header_index,
    shift_sections,
)
from mailserver.mime.strings import MAX_VALUE, NIL, nstring, raw_field, text_field
from mailserver.mime.structure import Part, parse
from mailserver.mime.subjects import base_subject, casemap
from mailserver.mime.text import preview
from mailserver.mime.words import decode_words
from mailserver.model.message import Description

FORMAT = 2
"""Layout of the packed members; raised when it or what is put into them changes."""

MAX_SORT_KEY = 1000
"""Characters kept of a sort key."""

MAX_REMEMBERED = 200
"""Octets of an address field that is remembered for the next message."""


def describe(octets: Octets) -> Description:
    """Everything that is kept of a message beside its octets. Linear; reads no clock.

    Args:
        octets: the whole message, its line ends CRLF (`newlines`, T31); a large one may be
            an mmap, it is not copied.

    Raises:
        MailError: TOO_BIG for more than 4 GiB; nothing else, whatever the octets.
    """
    buffer = buffer_of(octets)
    parts = parse(buffer)
    message = parts[0]
    body, body_structure = _structures(buffer, parts)
    sent = parse_date(message.fields.get(b"date", b""))
    addresses = _addresses(message)
    sender = addresses.get(b"from", _NOBODY)
    recipient = addresses.get(b"to", _NOBODY)
    ids = parse_message_ids(message.fields.get(b"message-id", b""))
    subject = message.fields.get(b"subject", b"")[:MAX_VALUE]
    return Description(
        format=FORMAT,
        size=len(buffer),
        header_size=message.body,
        envelope=_envelope(message, addresses),
        body=body,
        body_structure=body_structure,
        sections=pack_sections(parts),
        header_index=pack_fields(message.header, message.fields_end),
        sent_seconds=sent.seconds if sent else None,
        sent_day=sent.day if sent else None,
        base_subject=_sort_key(base_subject(decode_words(subject))),
        from_mailbox=sender.mailbox_key,
        to_mailbox=recipient.mailbox_key,
        cc_mailbox=addresses.get(b"cc", _NOBODY).mailbox_key,
        from_display=sender.display_key,
        to_display=recipient.display_key,
        preview=preview(buffer, parts),
        message_id=ids[0] if ids else "",
        references=_references(message),
        has_attachment=any(_is_attachment(parts, part) for part in parts),
        has_media=_is_media(parts),
    )


_DESCRIBED = frozenset(
    b"date subject from sender reply-to to cc bcc in-reply-to message-id references".split()
)


def prefixed(description: Description, prefix: bytes) -> Description:
    """The description of `prefix` + the described octets, without parsing them again.

    For what delivery puts before a message: Return-Path, Delivered-To, Received. Costs as
    much as the packed header index is long. Equal to describing anew, except that in a
    header over the limits of `structure` more fields keep their names.

    Args:
        prefix: whole header fields, each line ended by CRLF, without an empty line.

    Raises:
        MailError: INVALID if it is not that, or has a field that a description shows.
    """
    if not prefix:
        return description
    fields = split_fields(prefix, MAX_FIELDS)
    lines_end = prefix.count(b"\r\n") == prefix.count(b"\n") and prefix.endswith(b"\r\n")
    if not lines_end or any(not name for name, _value, _start in fields):
        raise MailError(ErrorKind.INVALID, "Only whole header fields can precede a message.")
    for name, _value, _start in fields:
        if name in _DESCRIBED or name.startswith(b"content-"):
            raise MailError(
                ErrorKind.INVALID,
                f"The field {name.decode('ascii')} cannot be added to a message.",
            )
    return evolve(
        description,
        size=description.size + len(prefix),
        header_size=description.header_size + len(prefix),
        sections=shift_sections(description.sections, len(prefix)),
        header_index=prefix_header_index(fields, len(prefix), description.header_index),
    )


# --- envelope -----------------------------------------------------------------------


class _AddressList(NamedTuple):
    """What is kept of an address field.

    Attributes:
        rendered: as ENVELOPE has it; NIL if nobody is in it.
        mailbox_key, display_key: of its first member.
    """

    rendered: bytes
    mailbox_key: str
    display_key: str


_NOBODY = _AddressList(NIL, "", "")


def _address_list(value: bytes) -> _AddressList:
    members = parse_addresses(value, MAX_ADDRESSES)
    if not members:
        return _NOBODY
    rendered = [
        b"(%b %b %b %b)" % (nstring(m[0]), nstring(m[1]), nstring(m[2]), nstring(m[3]))
        for m in members
    ]
    first = members[0]
    return _AddressList(b"(%b)" % b"".join(rendered), _mailbox_key(first), _display_key(first))


# People write to the same people. With what is remembered of parts (`content`) this takes two
# fifths off describing generated mail (bench.mime_describe).
_remembered_list = lru_cache(maxsize=2000)(_address_list)


def _addresses(message: Part) -> dict[bytes, _AddressList]:
    """The address fields of a message, by lower-case name."""
    return {
        name: _remembered_list(value) if len(value) <= MAX_REMEMBERED else _address_list(value)
        for name, value in address_values(message).items()
    }


def _envelope(message: Part, addresses: dict[bytes, _AddressList]) -> bytes:
    fields = message.fields
    author = addresses.get(b"from", _NOBODY)
    sender = addresses.get(b"sender", _NOBODY)
    reply_to = addresses.get(b"reply-to", _NOBODY)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        raw_field(fields.get(b"date")),
        text_field(fields.get(b"subject")),
        author.rendered,
        author.rendered if sender is _NOBODY else sender.rendered,  # T30
        author.rendered if reply_to is _NOBODY else reply_to.rendered,
        addresses.get(b"to", _NOBODY).rendered,
        addresses.get(b"cc", _NOBODY).rendered,
        addresses.get(b"bcc", _NOBODY).rendered,
        raw_field(fields.get(b"in-reply-to")),
        raw_field(fields.get(b"message-id")),
    )


# --- body structure -----------------------------------------------------------------


def _structures(buffer: Buffer, parts: list[Part]) -> tuple[bytes, bytes]:
    """BODY and BODYSTRUCTURE of the message.

    From the last part to the first, so that what is inside is ready before what is around
    it: no recursion, however deep.
    """
    lines = _line_counts(buffer, parts)
    inside: dict[int, list[tuple[bytes, bytes]]] = {}  # by index, last part first
    rendered = (b"", b"")
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        inner = inside.pop(index, [])
        if part.content.kind is Kind.MULTIPART:
            rendered = _multipart(part, inner)
        else:
            rendered = _single(part, lines[index], parts[index + 1] if inner else None, inner)
        inside.setdefault(part.parent, []).append(rendered)
    return rendered


def _multipart(part: Part, inner: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    subtype, extension = part.content.shown
    bodies = b"".join([body for body, _structure in reversed(inner)])
    structures = b"".join([structure for _body, structure in reversed(inner)])
    return b"(%b %b)" % (bodies, subtype), b"(%b %b %b)" % (structures, subtype, extension)


def _single(
    part: Part, lines: int, embedded: Part | None, inner: list[tuple[bytes, bytes]]
) -> tuple[bytes, bytes]:
    basic, extension = part.content.shown
    basic = b"%b %d" % (basic, part.end - part.body)
    if embedded is not None:
        envelope = _envelope(embedded, _addresses(embedded))
        ((body, structure),) = inner
        return (
            b"(%b %b %b %d)" % (basic, envelope, body, lines),
            b"(%b %b %b %d %b)" % (basic, envelope, structure, lines, extension),
        )
    if part.content.is_text:
        basic = b"%b %d" % (basic, lines)
    return b"(%b)" % basic, b"(%b %b)" % (basic, extension)


def _line_counts(buffer: Buffer, parts: list[Part]) -> list[int]:
    """Lines in the body of each text part and of each part that is or holds a message.

    No octet is counted twice, though a message's lines include those of all within it.
    """
    if all(part.content.kind is not Kind.MESSAGE for part in parts):
        return [
            buffer.count(b"\n", part.body, part.end) if part.content.is_text else 0
            for part in parts
        ]
    counts = [0] * len(parts)
    counted = [False] * len(parts)
    for index, part in enumerate(parts):
        inside = part.parent >= 0 and (part.is_message or counted[part.parent])
        counted[index] = inside or part.content.is_text or part.content.kind is Kind.MESSAGE
    uncounted = [part.end for part in parts]  # what lies before it is still to be counted
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if not counted[index]:
            continue
        counts[index] += buffer.count(b"\n", part.body, uncounted[index])
        outer = part.parent
        if outer >= 0 and counted[outer]:
            counts[outer] += (
                counts[index]
                + buffer.count(b"\n", part.start, part.body)
                + buffer.count(b"\n", part.end, uncounted[outer])
            )
            uncounted[outer] = part.start
    return counts


# --- sort keys and what else a list shows ---------------------------------------------


def _sort_key(text: str) -> str:
    return casemap(text[:MAX_SORT_KEY])


def _mailbox_key(address: Address) -> str:
    """Local part for SORT FROM, TO, CC (RFC 5256 §3)."""
    if address.mailbox in (None, MISSING_MAILBOX):
        return ""
    return _sort_key(decode_words(address.mailbox or b""))


def _display_key(address: Address) -> str:
    """Display name, else the address (RFC 5957 §3)."""
    if address.name:
        return _sort_key(decode_words(address.name))
    if address.host in (None, MISSING_DOMAIN):
        return _mailbox_key(address)
    return _sort_key(decode_words(b"%b@%b" % (address.mailbox or b"", address.host or b"")))


def _references(message: Part) -> tuple[str, ...]:
    """Ancestors, oldest first: References, else the first id of In-Reply-To (RFC 5256 §3)."""
    fields = message.fields
    found = parse_message_ids(fields[b"references"]) if b"references" in fields else ()
    if not found and b"in-reply-to" in fields:
        found = parse_message_ids(fields[b"in-reply-to"])[:1]
    return found


_UNSEEN_TYPES = frozenset(
    {
        (b"application", b"pgp-signature"),
        (b"application", b"pgp-encrypted"),
        (b"application", b"pkcs7-mime"),
        (b"application", b"x-pkcs7-mime"),
        (b"application", b"pkcs7-signature"),
        (b"application", b"x-pkcs7-signature"),
        (b"message", b"delivery-status"),
        (b"message", b"disposition-notification"),
        (b"text", b"rfc822-headers"),
    }
)
"""Signatures, encrypted mail and what programs tell programs: nobody calls them attachments."""


def _is_attachment(parts: list[Part], part: Part) -> bool:
    """Whether a person would call this part an attachment."""
    content = part.content
    if content.kind is Kind.MULTIPART or (content.major, content.minor) in _UNSEEN_TYPES:
        return False
    if content.is_attached:
        return True
    if content.is_text:
        return bool(content.file_name) and content.minor != b"calendar"
    return not _is_shown_inside(parts, part)


def _is_shown_inside(parts: list[Part], part: Part) -> bool:
    """An image of an HTML text, the original in a report, a message of a digest, a cipher."""
    if part.parent < 0:
        return False
    around = parts[part.parent].content.minor
    return around in (b"report", b"digest", b"encrypted") or (
        around == b"related" and b"content-id" in part.content.fields
    )


def _is_media(parts: list[Part]) -> bool:
    """More than half of the message's body is image, audio or video that is no illustration.

    The header does not count, so that what delivery puts before it changes nothing.
    """
    octets = sum(
        part.end - part.body
        for part in parts
        if part.content.major in (b"image", b"audio", b"video")
        and not _is_shown_inside(parts, part)
    )
    return octets * 2 > parts[0].end - parts[0].body
