"""Data items that are cut out of a message's octets: BODY[...], RFC822, RFC822.TEXT
(RFC 3501 §6.4.5) and BINARY[...], BINARY.SIZE[...] (RFC 3516 §4.2).

A cutter is chosen once per item and command. For a message it gives a lead, which is
written first, and pieces, which are read from the store only as they are asked for: so
an item of 50 MB that a slow client reads costs one piece of memory (T52).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent
from mailserver.mime.decode import Encoding, decode_transfer
from mailserver.mime.sections import SectionIndex, SectionKind, index_header, select_fields
from mailserver.model.message import FileSpan
from mailserver.wire.imap.commands import BinarySection, BinarySize, BodySection, SectionText

PIECE = 65536
"""Octets read from a message at a time."""

LEADING = 4096
"""Octets that are read from a message of which the rest is sent from its file."""

WHOLE = 1 << 20
"""Encoded octets up to which a part is decoded in one go. A larger one is decoded twice,
piece by piece: to learn its size, and to send it."""

Turn = Callable[[], Awaitable[None]]
"""Lets the reactor do other work."""

Partial = tuple[int, int] | None
"""First octet, 0-based, and number of octets; None for all."""


@attrs.define  # not frozen: made for each message, in half of the time
class Cut:
    """One item of one message.

    Attributes:
        lead: its name and either its whole value or the announcement of its literal.
        pieces: the literal's octets, about `PIECE` each, readable once; reading them may
            raise CORRUPT.
        file: octets that follow them, to be sent as they are.
    """

    lead: bytes
    pieces: Iterable[bytes] = ()
    file: FileSpan | None = None


Cutter = Callable[[IContent, bytes, Turn], Cut | Awaitable[Cut]]
"""Gives the item for a message and its packed sections; to be awaited if it takes long.

Raises:
    MailError: UNKNOWN_CTE (RFC 3516 §4.3), CORRUPT.
"""

_KINDS = {
    SectionText.ALL: SectionKind.WHOLE,
    SectionText.HEADER: SectionKind.HEADER,
    SectionText.HEADER_FIELDS: SectionKind.HEADER,
    SectionText.HEADER_FIELDS_NOT: SectionKind.HEADER,
    SectionText.TEXT: SectionKind.TEXT,
    SectionText.MIME: SectionKind.MIME,
}


def string(octets: bytes) -> bytes:
    """Write octets as a string; NUL, which it must not hold, as 0x80 (T31)."""
    if not octets:
        return b'""'
    return b"{%d}\r\n%b" % (len(octets), octets.replace(b"\0", b"\x80"))


def within(octets: bytes, partial: Partial) -> bytes:
    """Return what `<first.number>` asks for, empty beyond the end (T28)."""
    return octets if partial is None else octets[partial[0] : sum(partial)]


# -- BODY[...] ---------------------------------------------------------------------------


def whole_message_cutter(name: bytes, partial: Partial) -> Cutter:
    """BODY[] and RFC822: all octets, or a range of them; the sections are not looked at."""

    def cut(content: IContent, sections: bytes, turn: Turn) -> Cut:
        return _range(name, content, (0, content.size), partial)

    return cut


def section_cutter(name: bytes, item: BodySection) -> Cutter:
    """A section that lies in the octets as it is; NIL where there is none."""

    def cut(content: IContent, sections: bytes, turn: Turn) -> Cut:
        span = SectionIndex.unpack(sections).find(item.path, _KINDS[item.text])
        if span is None:
            return Cut(name + b" NIL")
        return _range(name, content, span, item.partial)

    return cut


def fields_cutter(name: bytes, item: BodySection) -> Cutter:
    """HEADER.FIELDS and HEADER.FIELDS.NOT of an embedded message; NIL where there is none."""
    chosen = field_selector(item)

    def cut(content: IContent, sections: bytes, turn: Turn) -> Cut:
        span = SectionIndex.unpack(sections).find(item.path, SectionKind.HEADER)
        if span is None:
            return Cut(name + b" NIL")
        header = content.read(*span)
        octets = chosen(header, index_header(header))
        return Cut(b"%b %b" % (name, string(within(octets, item.partial))))

    return cut


def _range(name: bytes, content: IContent, span: tuple[int, int], partial: Partial) -> Cut:
    start, end = span
    if partial is not None:
        start, end = min(start + partial[0], end), min(start + sum(partial), end)
    if start == end:
        return Cut(name + b' ""')
    # The first piece is read before anything is promised: a damaged file then costs its
    # message, not the connection.
    file = content.in_file(start + LEADING, end) if end - start > PIECE else None
    first = content.read(start, min(start + (PIECE if file is None else LEADING), end))
    pieces: Iterable[bytes] = (first.replace(b"\0", b"\x80"),)
    if file is None and end - start > PIECE:
        others = _pieces(content, start + PIECE, end)
        pieces = chain(pieces, (piece.replace(b"\0", b"\x80") for piece in others))
    return Cut(b"%b {%d}\r\n" % (name, end - start), pieces, file)


def _pieces(content: IContent, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, PIECE):
        yield content.read(at, min(at + PIECE, end))


# -- BINARY[...] -------------------------------------------------------------------------


def binary_cutter(name: bytes, item: BinarySection) -> Cutter:
    """A part decoded: a string where it has no NUL, else a `literal8` (RFC 3516 §4.3)."""

    async def cut(content: IContent, sections: bytes, turn: Turn) -> Cut:
        part = _Decoded.find(content, sections, item.path, item.partial)
        if part is None:
            return Cut(name + b" NIL")
        size, has_nul = await part.measure(turn)
        if not size:
            return Cut(name + b' ""')
        form = b"%b ~{%d}\r\n" if has_nul else b"%b {%d}\r\n"
        return Cut(form % (name, size), part.pieces())

    return cut


def binary_size_cutter(name: bytes, item: BinarySize) -> Cutter:
    """The octets of a part decoded; 0 where there is none, NIL being no number."""

    async def cut(content: IContent, sections: bytes, turn: Turn) -> Cut:
        part = _Decoded.find(content, sections, item.path, None)
        size = 0 if part is None else (await part.measure(turn))[0]
        return Cut(b"%b %d" % (name, size))

    return cut


@attrs.define
class _Decoded:
    """A part without its transfer encoding."""

    content: IContent
    span: tuple[int, int]
    encoding: Encoding
    partial: Partial
    whole: bytes | None = None

    @classmethod
    def find(
        cls, content: IContent, sections: bytes, path: tuple[int, ...], partial: Partial
    ) -> _Decoded | None:
        index = SectionIndex.unpack(sections)
        span = index.find(path, SectionKind.WHOLE)
        encoding = index.encoding(path)
        if span is None or encoding is None:
            return None
        return cls(content, span, encoding, partial)

    async def measure(self, turn: Turn) -> tuple[int, bool]:
        """Its octets, and whether NUL is among them."""
        if self.span[1] - self.span[0] <= WHOLE:
            octets = decode_transfer(self.content.read(*self.span), self.encoding)
            self.whole = within(octets, self.partial)
            return len(self.whole), b"\0" in self.whole
        size, has_nul = 0, False
        for piece in self.pieces():
            size += len(piece)
            has_nul = has_nul or b"\0" in piece
            await turn()
        return size, has_nul

    def pieces(self) -> Iterator[bytes]:
        if self.whole is not None:
            yield self.whole
            return
        pieces = decoded_pieces(_pieces(self.content, *self.span), self.encoding)
        if self.partial is None:
            yield from pieces
            return
        skip, left = self.partial
        for piece in pieces:
            wanted = piece[skip : skip + left]
            skip = max(skip - len(piece), 0)
            left -= len(wanted)
            yield wanted
            if not left:
                return


_WHITESPACE = b" \t\r\n\v\f"


def decoded_pieces(pieces: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """Decode octets that come in pieces; all together it is what `decode_transfer` gives.

    Raises:
        MailError: UNKNOWN_CTE as `decode_transfer`, and for lines over `WHOLE` octets.
    """
    held = b""
    for piece in pieces:
        if encoding is Encoding.BASE64:
            held += piece.translate(None, _WHITESPACE)
            padding = held.find(b"=")
            at = (len(held) if padding < 0 else padding) // 4 * 4
        elif encoding is Encoding.QUOTED_PRINTABLE:
            held += piece
            at = held.rfind(b"\n") + 1
        else:
            held += piece
            at = len(held)
        if at:
            yield decode_transfer(held[:at], encoding)
            held = held[at:]
        elif len(held) > WHOLE:
            raise MailError(ErrorKind.UNKNOWN_CTE, "the part's encoding is damaged")
    yield decode_transfer(held, encoding)


# -- header fields -----------------------------------------------------------------------


def field_selector(item: BodySection) -> Callable[[bytes, bytes], bytes]:
    """Return the function that picks the fields of HEADER.FIELDS or HEADER.FIELDS.NOT out
    of a header, given with its index."""
    names = frozenset(name.lower().encode("ascii") for name in item.fields)
    negate = item.text is SectionText.HEADER_FIELDS_NOT
    return lambda header, index: select_fields(header, index, names, negate)
