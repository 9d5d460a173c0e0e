"""A message's octets to its `Description`: computed once, at delivery.

ENVELOPE, BODY and BODYSTRUCTURE are made as the octets that IMAP sends (RFC 3501 §7.4.2,
RFC 9051 §7.5.2), so that FETCH only joins them. They are 7-bit and on one line, every
string is a quoted string, so they fit every session, whatever it has enabled:

    NUL                     left out
    line ends               one space, with the blanks around them
    octets above 127        UTF-8 encoded words (RFC 2047), also in parameters and addresses,
                            where RFC 2047 §5 does not foresee them: clients decode them there
                            too, and no other 7-bit form keeps the name
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from attrs import evolve

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.addresses import MAX_ADDRESSES, address_values
from mailserver.mime.buffers import Buffer, Octets, buffer_of
from mailserver.mime.headers import (
    MISSING_DOMAIN,
    MISSING_MAILBOX,
    Address,
    Parameters,
    parse_addresses,
    parse_date,
    parse_message_ids,
    parse_parameters,
    split_fields,
    unfold,
    without_comments,
)
from mailserver.mime.sections import (
    pack_fields,
    pack_sections,
    prefix_header_index,
    shift_sections,
)
from mailserver.mime.structure import MAX_FIELDS, MAX_HEADER, Kind, Part, header_end, parse
from mailserver.mime.subjects import base_subject, casemap
from mailserver.mime.text import file_name, preview
from mailserver.mime.words import decode_words, encode_words
from mailserver.model.message import Description

FORMAT = 2
"""Layout of the packed members; raised when it or what is put into them changes."""

MAX_VALUE = 64 << 10
"""Octets of a value that is shown as one string (a subject, a date, a description); the
whole can be fetched with the header."""

MAX_LANGUAGES = 20
"""Tags of one Content-Language."""

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
    fields_end = header_end(buffer, 0, message.body)[0]
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
        header_index=pack_fields(message.header, buffer[: min(fields_end, MAX_HEADER)], fields_end),
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
    if not lines_end or any(not field.name for field in fields):
        raise MailError(ErrorKind.INVALID, "Only whole header fields can precede a message.")
    for field in fields:
        if field.name in _DESCRIBED or field.name.startswith(b"content-"):
            raise MailError(
                ErrorKind.INVALID,
                f"The field {field.name.decode('ascii')} cannot be added to a message.",
            )
    return evolve(
        description,
        size=description.size + len(prefix),
        header_size=description.header_size + len(prefix),
        sections=shift_sections(description.sections, len(prefix)),
        header_index=prefix_header_index(fields, len(prefix), description.header_index),
    )


# --- strings ------------------------------------------------------------------------

_PLAIN = re.compile(rb"[ !#-\[\]-~]*+\Z")
_NIL = b"NIL"


def _quoted(value: bytes) -> bytes:
    """`value` as a quoted string, cleaned as the module's docstring says."""
    if _PLAIN.match(value) is None:
        value = encode_words(unfold(value)).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%b"' % value


def _nstring(value: bytes | None) -> bytes:
    return _NIL if value is None else _quoted(value)


def _text_field(value: bytes | None) -> bytes:
    """A field's value on one line, runs of blanks made one; NIL if the field is not there."""
    return _NIL if value is None else _quoted(b" ".join(unfold(value[:MAX_VALUE]).split()))


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


_NOBODY = _AddressList(_NIL, "", "")


def _address_list(value: bytes) -> _AddressList:
    members = parse_addresses(value, MAX_ADDRESSES)
    if not members:
        return _NOBODY
    rendered = [
        b"(%b %b %b %b)" % (_nstring(m[0]), _nstring(m[1]), _nstring(m[2]), _nstring(m[3]))
        for m in members
    ]
    first = members[0]
    return _AddressList(b"(%b)" % b"".join(rendered), _mailbox_key(first), _display_key(first))


# People write to the same people. With the headers of parts (`structure`) this makes describing
# generated mail a fifth faster (bench.mime_describe).
_remembered_list = lru_cache(maxsize=2000)(_address_list)


def _addresses(message: Part) -> dict[bytes, _AddressList]:
    """The address fields of a message, by lower-case name."""
    return {
        name: _remembered_list(value) if len(value) <= MAX_REMEMBERED else _address_list(value)
        for name, value in address_values(message).items()
    }


def _envelope(message: Part, addresses: dict[bytes, _AddressList]) -> bytes:
    fields = message.fields

    def rendered(name: bytes) -> bytes:
        return addresses.get(name, _NOBODY).rendered

    sender_default = rendered(b"from")  # T30
    sender = rendered(b"sender")
    reply_to = rendered(b"reply-to")
    return b"(%b)" % b" ".join(
        (
            _raw_field(fields.get(b"date")),
            _text_field(fields.get(b"subject")),
            sender_default,
            sender_default if sender == _NIL else sender,
            sender_default if reply_to == _NIL else reply_to,
            rendered(b"to"),
            rendered(b"cc"),
            rendered(b"bcc"),
            _raw_field(fields.get(b"in-reply-to")),
            _raw_field(fields.get(b"message-id")),
        )
    )


def _raw_field(value: bytes | None) -> bytes:
    """A field's value on one line, its blanks kept; NIL if the field is not there."""
    return _NIL if value is None else _quoted(unfold(value[:MAX_VALUE]))


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
        if part.kind is Kind.MULTIPART:
            rendered = _multipart(part, inner)
        else:
            rendered = _single(part, lines[index], parts[index + 1] if inner else None, inner)
        inside.setdefault(part.parent, []).append(rendered)
    return rendered


def _multipart(part: Part, inner: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    subtype = _quoted(part.type.subtype)
    bodies = b"".join([body for body, _structure in reversed(inner)])
    structures = b"".join([structure for _body, structure in reversed(inner)])
    return (
        b"(%b %b)" % (bodies, subtype),
        b"(%b %b %b %b)" % (structures, subtype, _parameters(part.type.parameters), _tail(part)),
    )


def _single(
    part: Part, lines: int, embedded: Part | None, inner: list[tuple[bytes, bytes]]
) -> tuple[bytes, bytes]:
    fields = part.fields
    encoding = unfold(without_comments(fields.get(b"content-transfer-encoding", b"")))
    basic = b"%b %b %b %b %b %b %d" % (
        _quoted(part.type.kind),
        _quoted(part.type.subtype),
        _parameters(part.type.parameters),
        _text_field(fields.get(b"content-id")),
        _raw_field(fields.get(b"content-description")),
        _quoted(encoding or b"7bit"),
        part.end - part.body,
    )
    extension = b"%b %b" % (_text_field(fields.get(b"content-md5")), _tail(part))
    if embedded is not None:
        envelope = _envelope(embedded, _addresses(embedded))
        ((body, structure),) = inner
        return (
            b"(%b %b %b %d)" % (basic, envelope, body, lines),
            b"(%b %b %b %d %b)" % (basic, envelope, structure, lines, extension),
        )
    if part.is_text:
        basic = b"%b %d" % (basic, lines)
    return b"(%b)" % basic, b"(%b %b)" % (basic, extension)


def _line_counts(buffer: Buffer, parts: list[Part]) -> list[int]:
    """Lines in the body of each text part and of each part that is or holds a message.

    No octet is counted twice, though a message's lines include those of all within it.
    """
    counts = [0] * len(parts)
    counted = [False] * len(parts)
    for index, part in enumerate(parts):
        inside = part.parent >= 0 and (part.is_message or counted[part.parent])
        counted[index] = inside or part.is_text or part.kind is Kind.MESSAGE
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


def _parameters(parameters: Parameters) -> bytes:
    """NIL or a list, never an empty one (T30)."""
    if not parameters:
        return _NIL
    return b"(%b)" % b" ".join(
        [b"%b %b" % (_quoted(name), _quoted(value)) for name, value in parameters]
    )


def _tail(part: Part) -> bytes:
    """Disposition, language and location."""
    fields = part.fields
    disposition = language = _NIL
    if (value := fields.get(b"content-disposition")) is not None:
        parsed = parse_parameters(value)
        if parsed.kind:
            disposition = b"(%b %b)" % (_quoted(parsed.kind), _parameters(parsed.parameters))
    if (value := fields.get(b"content-language")) is not None:
        tags = [tag.strip(b" \t") for tag in without_comments(unfold(value)).split(b",")]
        listed = b" ".join([_quoted(tag) for tag in tags[:MAX_LANGUAGES] if tag])
        language = b"(%b)" % listed if listed else _NIL
    return b"%b %b %b" % (disposition, language, _text_field(fields.get(b"content-location")))


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
    found = parse_message_ids(message.fields.get(b"references", b""))
    return found or parse_message_ids(message.fields.get(b"in-reply-to", b""))[:1]


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
    if part.kind is Kind.MULTIPART:
        return False
    kind, subtype = part.type.kind.lower(), part.type.subtype.lower()
    if (kind, subtype) in _UNSEEN_TYPES:
        return False
    disposition = part.disposition
    if disposition is not None and disposition.kind == b"attachment":
        return True
    if kind == b"text":
        return bool(file_name(part)) and subtype != b"calendar"
    return not _is_shown_inside(parts, part)


def _is_shown_inside(parts: list[Part], part: Part) -> bool:
    """An image of an HTML text, the original in a report, a message of a digest, a cipher."""
    if part.parent < 0:
        return False
    around = parts[part.parent].type.subtype.lower()
    return around in (b"report", b"digest", b"encrypted") or (
        around == b"related" and b"content-id" in part.fields
    )


def _is_media(parts: list[Part]) -> bool:
    """More than half of the message's body is image, audio or video that is no illustration.

    The header does not count, so that what delivery puts before it changes nothing.
    """
    octets = sum(
        part.end - part.body
        for part in parts
        if part.type.kind.lower() in (b"image", b"audio", b"video")
        and part.kind is Kind.LEAF
        and not _is_shown_inside(parts, part)
    )
    return octets * 2 > parts[0].end - parts[0].body
