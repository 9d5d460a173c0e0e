"""The parts of a message: where each begins and ends and what its header says (RFC 2046).

Works from the outside inwards: the extent of a part is settled before anything in it is
looked at. So a part cannot reach beyond the one it is in, whatever its own boundary says,
and all searches on one level together pass over the message once: the whole is linear in
the message's length times the (bounded) depth. There is no recursion. Afterwards the parts
stand in one list, each before those inside it.

What lies beyond the limits below is not taken apart: it stays part of what it is in.
"""

from __future__ import annotations

import re

from mailserver.mime.buffers import Buffer
from mailserver.mime.content import OCTETS, TEXT, Content, Kind, content_of
from mailserver.mime.headers import MAX_FIELDS, Field, split_fields

MAX_DEPTH = 100
"""Multiparts and messages inside one another; what is deeper is described as octets."""

MAX_PARTS = 10_000
"""Parts of one message, all levels together; later ones are left undescribed."""

MAX_HEADER = 1 << 20
"""Octets of one header that are read; fields behind it can be fetched, but do not count
for envelope and structure."""

MAX_HEADERS = 4 << 20
"""Octets of all headers of a message that are read; parts behind it are octets."""

MAX_BOUNDARY = 250
"""Octets; RFC 2046 §5.1.1 allows 70, senders go beyond it."""


MAX_PADDING = 100
"""Octets of "--", blanks and line end allowed behind a boundary."""

MAX_LOOKALIKES = 100_000
"""Lines that begin like a delimiter and are none; behind so many no more are looked for."""

MAX_SEARCHED = 64 << 20
"""Octets, beside twice the message's own, that are searched for delimiters: an inner
multipart is searched again, so many large ones inside one another would cost seconds. What
is not searched any more is described as octets."""


# A message may end in the middle of a delimiter line; `MAX_PADDING` cuts only what has no
# line end within it.
_TAIL = re.compile(rb"(--)?+[ \t]*+(?:\r?\n|\Z)")

_UNREAD = Content({}, OCTETS)


class Part:
    """One part of a message, or the message itself.

    Attributes:
        start: offset of its header.
        fields_end: offset behind its header's fields, of the empty line.
        body: offset of its body: behind the empty line.
        end: offset behind its last octet; a line end before a delimiter is not in it.
        content: what its header says it is.
        is_message: whether it is the message or an embedded one.
        header: every field of a message's header; empty for a part that is no message.
        fields: value of each of them, raw, by lower-case name; the last of those with one name.
        parent: index of the part it is in, -1 for the message.
        after: index of the first part behind it and all within it.
    """

    __slots__ = (
        "after", "body", "content", "end", "fields", "fields_end", "header", "is_message",
        "parent", "start",
    )  # fmt: skip

    def __init__(self, start: int, body: int, end: int, parent: int) -> None:
        self.start = start
        self.fields_end = body
        self.body = body
        self.end = end
        self.parent = parent
        self.content = _UNREAD
        self.is_message = False
        self.header: list[Field] = []
        self.fields: dict[bytes, bytes] = {}
        self.after = 0


def parse(buffer: Buffer) -> list[Part]:
    """All parts of a message, each before those inside it; the first is the message.

    Never raises, whatever the octets.
    """
    return _Parser(buffer).parse()


class _Parser:
    """One run over one message; holds what is left of the limits that span all parts."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._headers_left = MAX_HEADERS
        self._lookalikes_left = MAX_LOOKALIKES
        self._searched_left = MAX_SEARCHED + 2 * len(buffer)

    def parse(self) -> list[Part]:
        parts: list[Part] = []
        # (start, end, parent, depth, is it in a digest, is it a message)
        todo = [(0, len(self._buffer), -1, 0, False, True)]
        while todo:
            start, end, parent, depth, in_digest, is_message = todo.pop()
            fields_end, body = header_end(self._buffer, start, end)
            part = Part(start, body, end, parent)
            part.fields_end = fields_end
            part.is_message = is_message
            index = len(parts)
            parts.append(part)
            octets = min(fields_end - start, MAX_HEADER)
            if octets > self._headers_left:
                continue
            self._headers_left -= octets
            _read_header(part, self._buffer[start : start + octets], in_digest)
            content = part.content
            if content.kind is Kind.LEAF:
                continue
            room = MAX_PARTS - len(parts) - len(todo)
            if content.kind is Kind.MULTIPART:
                self._searched_left -= end - body
            if depth >= MAX_DEPTH or room <= 0 or self._searched_left < 0:
                part.content = Content(content.fields, OCTETS)
            elif content.kind is Kind.MESSAGE:
                todo.append((body, end, index, depth + 1, False, True))
            else:
                extents = self._split(body, end, content.parameter(b"boundary"), room)
                digest = content.minor == b"digest"
                if not extents:
                    # Without a delimiter it is text that calls itself multipart: people
                    # can read it, and IMAP has no multipart without parts.
                    part.content = Content(content.fields, TEXT)
                todo += [(s, e, index, depth + 1, digest, False) for s, e in reversed(extents)]
        _number(parts)
        return parts

    def _split(self, start: int, end: int, boundary: bytes, limit: int) -> list[tuple[int, int]]:
        """The extents of the parts of a multipart body, at most `limit`; [] if it has none.

        delimiter line = "--" boundary ["--"] *WSP at the start of a line (RFC 2046 §5.1.1).
        A line that goes on otherwise is no delimiter: it may be one of an inner multipart
        whose boundary begins with this one, as Eudora's do. Without a closing delimiter the
        last part ends with the multipart.
        """
        buffer = self._buffer
        boundary = boundary.rstrip(b" \t")
        extents: list[tuple[int, int]] = []
        if not boundary or len(boundary) > MAX_BOUNDARY:
            return extents
        dashes = b"--" + boundary
        needle = b"\n" + dashes
        opened = -1
        # The first delimiter may stand right at `start`; no delimiter stands at offset 0.
        if buffer[start : min(start + len(dashes), end)] == dashes:
            line = start
        else:
            line = buffer.find(needle, start, end) + 1
        while line:
            tail_at = line + len(dashes)
            tail = _TAIL.match(buffer[tail_at : min(tail_at + MAX_PADDING, end)])
            if tail is None:
                self._lookalikes_left -= 1
                if self._lookalikes_left < 0:
                    break
                line = buffer.find(needle, line, end) + 1
                continue
            if opened >= 0:
                extents.append((opened, max(opened, _before_line(buffer, line))))
            opened = tail_at + tail.end()
            if tail[1] is not None or len(extents) == limit:
                return extents
            line = buffer.find(needle, opened - 1, end) + 1
        if opened >= 0:
            extents.append((opened, end))
        return extents


def _before_line(buffer: Buffer, line: int) -> int:
    """Where the line before offset `line` ends, its line end not counted."""
    return line - (2 if buffer[line - 2 : line] == b"\r\n" else 1)


def _number(parts: list[Part]) -> None:
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        part.after = part.after or index + 1
        if part.parent >= 0:
            outer = parts[part.parent]
            outer.after = max(outer.after, part.after)


def header_end(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Where the fields of the header at `start` end, and where the body begins.

    Between them is the empty line; without one, all is header.
    """
    first = buffer[start : min(start + 2, end)]
    if first[:1] == b"\n":
        return start, start + 1
    if first == b"\r\n":
        return start, start + 2
    crlf = buffer.find(b"\n\r\n", start, end)
    lf = buffer.find(b"\n\n", start, end if crlf < 0 else crlf + 1)
    if lf >= 0:
        return lf + 1, lf + 2
    if crlf >= 0:
        return crlf + 1, crlf + 3
    return end, end


def _read_header(part: Part, header: bytes, in_digest: bool) -> None:
    if part.is_message:
        part.header = split_fields(header, MAX_FIELDS)
        part.fields = {name: value for name, value, _start in part.header}
        # Alone these fields are those of other mail, again and again.
        header = b"\n".join(
            [
                b"%b:%b" % (name, value)
                for name, value, _start in part.header
                if name[:8] == b"content-"
            ]
        )
    part.content = content_of(header, in_digest)
