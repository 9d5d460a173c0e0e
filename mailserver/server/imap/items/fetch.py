"""What FETCH can ask for: a row for each data item (RFC 3501 §6.4.5).

Theory of operation. The items of a command become a `Plan` once. A message's line is one
`%` form made of the forms of its fields; their values are prepared column by column for a
`Slice` of messages and poured into the form, so that a message costs one formatting and
few calls of its own. Items that are cut out of a message's octets (`cuts`) cannot stand
in such a form: the form is then the line's beginning, and they follow it.

Knows nothing of sessions and stores: a slice is given, octets are returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from mailserver.model.ids import Uid
from mailserver.model.message import Column
from mailserver.server.imap.items.cuts import (
    Cutter,
    binary_cutter,
    binary_size_cutter,
    field_selector,
    fields_cutter,
    section_cutter,
    string,
    whole_message_cutter,
    within,
)
from mailserver.wire.imap.commands import (
    BinarySection,
    BinarySize,
    BodySection,
    FetchAtt,
    FetchItem,
    SectionText,
)
from mailserver.wire.imap.writer import internal_date, section_label


@attrs.frozen
class Slice:
    r"""A few messages, column by column; all sequences have the same length and order.

    Attributes:
        uids: ascending.
        flags: FLAGS of each as written, in parentheses; empty unless the plan says
            `needs_flags`.
        seen: UIDs that this very command has marked `\Seen`.
        columns: what the store gave for the plan's `columns`.
    """

    uids: Sequence[Uid]
    flags: Sequence[bytes]
    seen: frozenset[int]
    columns: Mapping[Column, Sequence[Any]]


@attrs.frozen
class Field:
    """A data item that stands in the form of the line.

    Attributes:
        form: its name and a `%` for its value.
        values: gives the values for a slice.
        columns: what must be read for it.
        needs_flags: it shows flags.
    """

    form: bytes
    values: Callable[[Slice], Iterable[object]]
    columns: tuple[Column, ...] = ()
    needs_flags: bool = False


def _kept(form: bytes, column: Column) -> Field:
    """An item that is kept ready."""
    return Field(form, lambda part: part.columns[column], (column,))


FIELDS: dict[FetchAtt, Field] = {
    FetchAtt.UID: Field(b"UID %d", lambda part: part.uids),
    FetchAtt.FLAGS: Field(b"FLAGS %b", lambda part: part.flags, needs_flags=True),
    FetchAtt.INTERNALDATE: Field(
        b"INTERNALDATE %b",
        lambda part: map(internal_date, part.columns[Column.INTERNAL_DATE]),
        (Column.INTERNAL_DATE,),
    ),
    FetchAtt.RFC822_SIZE: _kept(b"RFC822.SIZE %d", Column.SIZE),
    FetchAtt.ENVELOPE: _kept(b"ENVELOPE %b", Column.ENVELOPE),
    FetchAtt.BODY: _kept(b"BODY %b", Column.BODY),
    FetchAtt.BODYSTRUCTURE: _kept(b"BODYSTRUCTURE %b", Column.BODY_STRUCTURE),
}
"""The plain items."""

SEEN_NEWS = Field(
    b"%b",
    lambda part: [
        b"FLAGS %b " % flags if uid in part.seen else b""
        for uid, flags in zip(part.uids, part.flags, strict=True)
    ],
    needs_flags=True,
)
"""What stands before the items where FLAGS is not asked for, but was changed (T28)."""


def _header_field(item: BodySection) -> Field:
    """The message's own header, whole or some fields of it: kept beside the octets."""
    form = _escaped(section_label(item)) + b" %b"
    partial = item.partial
    if item.text is SectionText.HEADER:
        return Field(
            form,
            lambda part: [string(within(header, partial)) for header in part.columns[_HEADER]],
            (_HEADER,),
        )
    chosen = field_selector(item)
    return Field(
        form,
        lambda part: [
            string(within(chosen(header, index), partial))
            for header, index in zip(part.columns[_HEADER], part.columns[_INDEX], strict=True)
        ],
        (_HEADER, _INDEX),
    )


_HEADER, _INDEX = Column.HEADER, Column.HEADER_INDEX
_IN_HEADER = {SectionText.HEADER, SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT}


def _escaped(name: bytes) -> bytes:
    """Header field names are the client's and may hold a `%`."""
    return name.replace(b"%", b"%%")


def _field(item: FetchItem) -> Field | None:
    """The field for an item; None if it must be cut out of the octets."""
    if isinstance(item, FetchAtt):
        return FIELDS[item]
    if isinstance(item, BodySection) and not item.path and item.text in _IN_HEADER:
        return _header_field(item)
    return None


def _is_whole_message(item: FetchItem) -> bool:
    return isinstance(item, BodySection) and not item.path and item.text is SectionText.ALL


def _cutter(item: FetchItem) -> Cutter:
    match item:
        case BodySection(path=(), text=SectionText.ALL):
            return whole_message_cutter(section_label(item), item.partial)
        case BodySection(fields=()):
            return section_cutter(section_label(item), item)
        case BodySection():
            return fields_cutter(section_label(item), item)
        case BinarySection():
            return binary_cutter(section_label(item), item)
        case BinarySize():
            return binary_size_cutter(section_label(item), item)
    raise AssertionError(f"{item} is no section")


def _marks_seen(item: FetchItem) -> bool:
    return isinstance(item, BodySection | BinarySection) and not item.peek


@attrs.frozen
class Plan:
    r"""How one FETCH command is answered.

    Attributes:
        form: of a line: sequence number, then the value of each field. It is the whole
            line if there are no cutters.
        fields: in the order of the form.
        cutters: for what follows the fields.
        columns: what must be read for the fields and the cutters.
        needs_flags: `Slice.flags` is looked at.
        marks_seen: `\Seen` is to be set (T28).
    """

    form: bytes
    fields: tuple[Field, ...]
    cutters: tuple[Cutter, ...]
    columns: tuple[Column, ...]
    needs_flags: bool
    marks_seen: bool

    @classmethod
    def of(cls, items: Iterable[FetchItem], *, by_uid: bool, may_mark: bool) -> Plan:
        r"""Choose how to answer the items.

        Args:
            by_uid: it is UID FETCH: UID is always among the items (T15).
            may_mark: `\Seen` can be set: not after EXAMINE (T27), not without the right `s`.
        """
        asked = list(items)
        if by_uid and FetchAtt.UID not in asked:
            asked.insert(0, FetchAtt.UID)
        marks_seen = may_mark and any(map(_marks_seen, asked))
        chosen = [(item, _field(item)) for item in asked]
        fields = [field for _, field in chosen if field is not None]
        cutters = tuple(_cutter(item) for item, field in chosen if field is None)
        form = b" ".join(field.form for field in fields)
        if marks_seen and FetchAtt.FLAGS not in asked:
            fields.insert(0, SEEN_NEWS)
            form = SEEN_NEWS.form + form
        if not cutters:
            form += b")\r\n"
        columns = dict.fromkeys(column for field in fields for column in field.columns)
        if any(not _is_whole_message(item) for item, field in chosen if field is None):
            columns[Column.SECTIONS] = None
        return cls(
            b"* %d FETCH (" + form,
            tuple(fields),
            cutters,
            tuple(columns),
            any(field.needs_flags for field in fields),
            marks_seen,
        )

    def lines(self, numbers: Sequence[int], part: Slice) -> list[bytes]:
        """Write the lines of a slice, or their beginnings if there are cutters.

        Args:
            numbers: sequence number of each message.
        """
        form = self.form
        values = [field.values(part) for field in self.fields]
        return [form % row for row in zip(numbers, *values, strict=True)]
