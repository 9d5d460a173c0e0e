"""Sections of a message by their IMAP names, from offsets kept at delivery (RFC 9051 §6.4.5.1).

Two packed values are kept with each message: the section index (one row of 16 octets for
each part) and the header index (name and offset of each field of the main header). Both are
read without looking at the message, so a FETCH of one part reads just that part.

Layout, little endian:
    section index   u32 offset of the message's body, then a row for each part: u32 start,
                    u32 body, u32 end, u16 after, u8 kind, u8 encoding; offsets count from the
                    message's body, so that fields put before the message change the first
                    number alone; the start in the first row means nothing
    header index    u32 count, u32 offset of each field, u32 offset behind the last that was
                    read, u32 offset behind all fields, names joined by LF
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.content import Kind
from mailserver.mime.decode import Encoding
from mailserver.mime.headers import MAX_FIELDS, Field, split_fields
from mailserver.mime.structure import MAX_HEADER, Part, header_end

_ROW = struct.Struct("<IIIHBB")
_U32 = struct.Struct("<I")

MAX_MESSAGE = 0xFFFF_FFFF
"""Octets; offsets are kept in 32 bits."""


class SectionKind(Enum):
    """What of a part is asked for; the value is its IMAP name."""

    WHOLE = ""  # the body of a part; for the empty path the whole message
    HEADER = "HEADER"  # also for HEADER.FIELDS and HEADER.FIELDS.NOT: see `select_fields`
    TEXT = "TEXT"
    MIME = "MIME"


class _Row(NamedTuple):
    start: int
    body: int
    end: int
    after: int
    kind: int
    encoding: int


class SectionIndex:
    """Where every section of one message lies.

    Offsets count from the message's first octet; ranges are half open.
    """

    def __init__(self, base: int, rows: list[_Row]) -> None:
        self._base = base
        self._rows = rows

    @classmethod
    def unpack(cls, octets: bytes) -> SectionIndex:
        """The index that `Description.sections` holds."""
        (base,) = _U32.unpack_from(octets)
        return cls(base, [_Row._make(row) for row in _ROW.iter_unpack(octets[4:])])

    def find(self, path: tuple[int, ...], kind: SectionKind) -> tuple[int, int] | None:
        """The range of octets of a section, or None if the message has no such section.

        Args:
            path: part numbers, 1-based; () for the message itself (T29).
            kind: HEADER and TEXT only for the message and for message/rfc822 parts, MIME
                only with a path (RFC 9051 §6.4.5.1). The HEADER range ends behind the
                empty line.
        """
        base = self._base
        if not path:
            end = base + self._rows[0].end
            match kind:
                case SectionKind.WHOLE:
                    return 0, end
                case SectionKind.HEADER:
                    return 0, base
                case SectionKind.TEXT:
                    return base, end
            return None
        index = self._locate(path)
        if index is None:
            return None
        row = self._rows[index]
        if kind is SectionKind.WHOLE:
            return base + row.body, base + row.end
        if kind is SectionKind.MIME:
            return base + row.start if index else 0, base + row.body
        if row.kind != Kind.MESSAGE:
            return None
        embedded = self._rows[index + 1]
        if kind is SectionKind.HEADER:
            return base + embedded.start, base + embedded.body
        return base + embedded.body, base + embedded.end

    def encoding(self, path: tuple[int, ...]) -> Encoding | None:
        """The transfer encoding of a part's body, for BINARY (RFC 3516).

        None if there is no such part. The message itself (the empty path), multiparts and
        messages are never encoded as a whole.
        """
        if not path:
            return Encoding.IDENTITY
        index = self._locate(path)
        if index is None:
            return None
        row = self._rows[index]
        return Encoding(row.encoding) if row.kind == Kind.LEAF else Encoding.IDENTITY

    def paths(self) -> list[tuple[int, ...]]:
        """The path of every part that has a number, in the order of the message."""
        paths: list[tuple[int, ...]] = []
        # (row, path, is it a message: then its single part has the number 1)
        todo: list[tuple[int, tuple[int, ...], bool]] = [(0, (), True)]
        while todo:
            index, path, is_message = todo.pop()
            row = self._rows[index]
            if is_message and row.kind != Kind.MULTIPART:
                path = (*path, 1)
                paths.append(path)
            elif path and not is_message:
                paths.append(path)
            if row.kind == Kind.MESSAGE:
                todo.append((index + 1, path, True))
            elif row.kind == Kind.MULTIPART:
                inner = [(child, (*path, n), False) for n, child in self._children(index)]
                todo += reversed(inner)
        return paths

    def _children(self, index: int) -> Iterable[tuple[int, int]]:
        """Number and row of each part right inside a multipart."""
        child, number = index + 1, 1
        while child < self._rows[index].after:
            yield number, child
            child, number = self._rows[child].after, number + 1

    def _locate(self, path: tuple[int, ...]) -> int | None:
        """The row of a numbered part."""
        index, is_message = 0, True
        for wanted in path:
            row = self._rows[index]
            if not is_message and row.kind == Kind.MESSAGE:
                index, is_message = index + 1, True
                row = self._rows[index]
            if row.kind == Kind.MULTIPART:
                index, number = index + 1, 1
                while number < wanted and index < row.after:
                    index, number = self._rows[index].after, number + 1
                if wanted < 1 or index >= row.after:
                    return None
            elif not is_message or wanted != 1:
                return None
            is_message = False
        return index


def pack_sections(parts: list[Part]) -> bytes:
    """The packed index of a message's parts.

    Raises:
        MailError: TOO_BIG for a message over `MAX_MESSAGE` octets.
    """
    if parts[0].end > MAX_MESSAGE:
        raise MailError(ErrorKind.TOO_BIG, "The message is larger than 4 GiB.")
    base = parts[0].body
    rows = [
        _ROW.pack(
            max(p.start - base, 0), p.body - base, p.end - base,
            p.after, p.content.kind, p.content.encoding,
        )
        for p in parts
    ]  # fmt: skip
    return _U32.pack(base) + b"".join(rows)


def shift_sections(sections: bytes, octets: int) -> bytes:
    """The packed index after `octets` were put before the message; constant in its parts."""
    (base,) = _U32.unpack_from(sections)
    return _U32.pack(base + octets) + sections[4:]


# --- header fields ------------------------------------------------------------------

_CONTINUATION = b" "
"""Stands for the name of a first line that begins with a blank: behind another field it
would continue that one. Other lines that are no fields have an empty name."""


def pack_fields(fields: list[Field], fields_end: int) -> bytes:
    """The packed index of a header.

    Args:
        fields: of `split_fields(header, MAX_FIELDS)`, of its first `MAX_HEADER` octets.
        fields_end: offset behind all fields, where the empty line begins.
    """
    names = [name for name, _value, _start in fields]
    starts = [start for _name, _value, start in fields]
    covered = fields_end
    if names and (fields_end > MAX_HEADER or len(names) == MAX_FIELDS):
        # The last one may be cut short; it and what follows is not told apart.
        covered = starts.pop()
        names.pop()
    if names and not names[0] and fields[0][1][:1] in (b" ", b"\t"):
        names[0] = _CONTINUATION
    return _packed(names, [*starts, covered, fields_end])


def _packed(names: list[bytes], offsets: list[int]) -> bytes:
    return struct.pack(f"<{len(offsets) + 1}I", len(names), *offsets) + b"\n".join(names)


def _unpacked(index: bytes) -> tuple[list[bytes], tuple[int, ...]]:
    """Names, and their offsets followed by the two ends."""
    (count,) = _U32.unpack_from(index)
    names = index[12 + 4 * count :].split(b"\n") if count else []
    return names, struct.unpack_from(f"<{count + 2}I", index, 4)


def index_header(header: bytes) -> bytes:
    """The packed index of any header, for `select_fields`; for those of embedded messages."""
    fields_end, _body = header_end(header, 0, len(header))
    read = header[: min(fields_end, MAX_HEADER)]
    return pack_fields(split_fields(read, MAX_FIELDS), fields_end)


def select_fields(header: bytes, index: bytes, names: frozenset[bytes], negate: bool) -> bytes:
    """HEADER.FIELDS or HEADER.FIELDS.NOT of a header (RFC 9051 §6.4.5.1).

    Args:
        header: the whole header with its empty line.
        index: `Description.header_index`, or `index_header(header)`.
        names: field names in lower case.
        negate: take the fields that have none of the names.

    Returns:
        The fields as they stand in the message, in their order, and the empty line if the
        header has one. Fields behind `MAX_HEADER` octets or `MAX_FIELDS` fields have no
        name here: they are in every negated selection and in no other.
    """
    (count,) = _U32.unpack_from(index)
    offsets = struct.unpack_from(f"<{count + 2}I", index, 4)
    places = _chosen(index[12 + 4 * count :], names, negate) if count else ()
    chosen = [header[offsets[at] : offsets[at + 1]] for at in places]
    covered, fields_end = offsets[-2:]
    chosen.append(header[covered if negate else fields_end :])
    return b"".join(chosen)


@lru_cache(maxsize=4096)
def _chosen(found: bytes, names: frozenset[bytes], negate: bool) -> tuple[int, ...]:
    """The places of the fields that are asked for, among names as they are packed. Most mail
    has one of a few successions of fields."""
    return tuple(at for at, name in enumerate(found.split(b"\n")) if (name in names) is not negate)


def prefix_header_index(fields: list[Field], octets: int, index: bytes) -> bytes:
    """The packed index after whole fields were put before the header.

    Args:
        fields: of `split_fields` of what was put there, `octets` long.
    """
    names, offsets = _unpacked(index)
    shifted = [offset + octets for offset in offsets]
    if names and names[0] == _CONTINUATION:
        names, shifted = names[1:], shifted[1:]
    return _packed(
        [name for name, _value, _start in fields] + names,
        [start for _name, _value, start in fields] + shifted,
    )
