"""What a part's header says of the part: its Content fields (RFC 2045, RFC 2183, RFC 3282).

The text parts of most mail, and most messages of one part, say one of a few things in them.
What they say is read, and made ready for BODYSTRUCTURE, once for all parts that say the same.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property, lru_cache

from mailserver.mime.decode import Encoding, encoding_of
from mailserver.mime.headers import (
    MAX_FIELDS,
    Parameters,
    Valued,
    parse_parameters,
    split_fields,
    unfold,
    without_comments,
)
from mailserver.mime.strings import NIL, quoted, raw_field, text_field
from mailserver.mime.words import decode_parameter

MAX_REMEMBERED = 300
"""Octets of a header that is remembered for the next part."""

MAX_LANGUAGES = 20
"""Tags of one Content-Language."""

TEXT = Valued(b"text", b"plain", [(b"charset", b"us-ascii")])
OCTETS = Valued(b"application", b"octet-stream", [])
_EMBEDDED = Valued(b"message", b"rfc822", [])


class Kind(IntEnum):
    """What a part holds; the number is what is kept in packed section offsets."""

    LEAF = 0
    MULTIPART = 1
    MESSAGE = 2  # exactly one child follows: the embedded message


class Content:
    """What a header says of its part; shared by the parts that say the same.

    Attributes:
        fields: raw values by lower-case name. Of a field that occurs again the first counts,
            as Dovecot has it.
        type: Content-Type as described: kind, subtype, parameters.
        major, minor: kind and subtype in lower case.
        kind: what is in the part.
        is_text: whether it is of type text/*.
        charset: the charset parameter, or "us-ascii".
        encoding: how it is encoded.
        disposition: Content-Disposition, or None (RFC 2183).
        is_attached: whether that says that it is an attachment.
    """

    def __init__(self, fields: dict[bytes, bytes], type_: Valued) -> None:
        self.fields = fields
        self.type = type_
        self.major, self.minor = type_.kind.lower(), type_.subtype.lower()
        self.kind = Kind.LEAF
        if self.major == b"multipart":
            self.kind = Kind.MULTIPART
        elif self.major == b"message" and self.minor == b"rfc822":
            # RFC 3501 §7.4.2 knows rfc822 alone. message/global would need an envelope in
            # IMAP4rev2 (RFC 9051 §7.5.2) and must not have one in rev1.
            self.kind = Kind.MESSAGE
        self.is_text = self.major == b"text"
        self.charset = self.parameter(b"charset").decode("ascii", "replace") or "us-ascii"
        self.encoding = Encoding.IDENTITY
        if (transfer := fields.get(b"content-transfer-encoding")) is not None:
            self.encoding = encoding_of(without_comments(unfold(transfer)))
        self.disposition: Valued | None = None
        if (value := fields.get(b"content-disposition")) is not None:
            disposition = parse_parameters(value)
            self.disposition = disposition if disposition.kind else None
        self.is_attached = (
            self.disposition is not None and self.disposition.kind.lower() == b"attachment"
        )

    def parameter(self, name: bytes) -> bytes:
        """Value of a Content-Type parameter, empty if it is not there."""
        for each, value in self.type.parameters:
            if each == name:
                return value
        return b""

    @cached_property
    def file_name(self) -> str:
        """The name the part would be saved under, decoded; empty if it has none (RFC 2183 §2.3)."""
        disposed = dict(self.disposition.parameters) if self.disposition is not None else {}
        typed = dict(self.type.parameters)
        for name in (b"filename*", b"filename"):
            if name in disposed:
                return decode_parameter(name, disposed[name])
        for name in (b"name*", b"name"):
            if name in typed:
                return decode_parameter(name, typed[name])
        return ""

    @cached_property
    def shown(self) -> tuple[bytes, bytes]:
        """Its members of BODYSTRUCTURE: those in BODY too, and the extension data.

        The first is the subtype of a multipart; of another part all but its size, its lines
        and what is in it.
        """
        fields = self.fields
        subtype, parameters = quoted(self.type.subtype), _parameters(self.type.parameters)
        location = text_field(fields.get(b"content-location"))
        tail = b"%b %b %b" % (self._shown_disposition(), self._shown_language(), location)
        if self.kind is Kind.MULTIPART:
            return subtype, b"%b %b" % (parameters, tail)
        encoding = unfold(without_comments(fields.get(b"content-transfer-encoding", b"")))
        basic = b"%b %b %b %b %b %b" % (
            quoted(self.type.kind),
            subtype,
            parameters,
            text_field(fields.get(b"content-id")),
            raw_field(fields.get(b"content-description")),
            quoted(encoding or b"7bit"),
        )
        return basic, b"%b %b" % (text_field(fields.get(b"content-md5")), tail)

    def _shown_disposition(self) -> bytes:
        if self.disposition is None:
            return NIL
        kind, _subtype, parameters = self.disposition
        return b"(%b %b)" % (quoted(kind), _parameters(parameters))

    def _shown_language(self) -> bytes:
        if (value := self.fields.get(b"content-language")) is None:
            return NIL
        listed = without_comments(unfold(value)).split(b",", MAX_LANGUAGES)
        tags = [tag.strip(b" \t") for tag in listed[:MAX_LANGUAGES]]
        return b"(%b)" % b" ".join([quoted(tag) for tag in tags if tag]) if any(tags) else NIL


def _parameters(parameters: Parameters) -> bytes:
    """NIL or a list, never an empty one (T30)."""
    if not parameters:
        return NIL
    return b"(%b)" % b" ".join(
        [b"%b %b" % (quoted(name), quoted(value)) for name, value in parameters]
    )


def content_of(header: bytes, in_digest: bool) -> Content:
    """What a header says of its part.

    Args:
        header: without its empty line.
        in_digest: whether a part that does not say what it is, is a message (RFC 2046
            §5.1.5); else it is text (RFC 2045 §5.2).
    """
    # A boundary is never the same again.
    is_common = len(header) <= MAX_REMEMBERED and b"boundary" not in header
    return (_remembered_content if is_common else _content)(header, in_digest)


def _content(header: bytes, in_digest: bool) -> Content:
    fields: dict[bytes, bytes] = {}
    for name, value, _start in split_fields(header, MAX_FIELDS):
        fields.setdefault(name, value)
    type_ = parse_parameters(fields.get(b"content-type", b""))
    if not type_.kind or not type_.subtype:
        type_ = _EMBEDDED if in_digest else TEXT
    elif type_.kind.lower() == b"text" and not any(
        name == b"charset" for name, _value in type_.parameters
    ):
        type_ = type_._replace(parameters=[*type_.parameters, (b"charset", b"us-ascii")])
    return Content(fields, type_)


_remembered_content = lru_cache(maxsize=1000)(_content)
