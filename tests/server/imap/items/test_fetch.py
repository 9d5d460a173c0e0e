"""Lines of FETCH from what the store keeps."""

from __future__ import annotations

import pytest

from mailserver.model.message import Column, InternalDate
from mailserver.server.imap.items.fetch import Plan, Slice
from mailserver.wire.imap.grammar.fetch import parse_fetch
from mailserver.wire.imap.scanner import Scanner

STORED = {
    Column.INTERNAL_DATE: [InternalDate(837596665, -420), InternalDate(0, 90)],
    Column.SIZE: [44827, 1],
    Column.ENVELOPE: [b"(E1)", b"(E2)"],
    Column.BODY: [b"(B1)", b"(B2)"],
    Column.BODY_STRUCTURE: [b"(S1)", b"(S2)"],
}


def plan_of(items: str, *, by_uid: bool = False, may_mark: bool = True) -> Plan:
    asked = parse_fetch(Scanner(b" 1 " + items.encode())).items
    return Plan.of(asked, by_uid=by_uid, may_mark=may_mark)


def lines(plan: Plan, seen: frozenset[int] = frozenset()) -> list[bytes]:
    flags = [b"()", b"(\\Seen)"] if plan.needs_flags else []
    columns = {column: STORED[column] for column in plan.columns}
    return plan.lines([3, 5], Slice([30, 50], flags, seen, columns))


@pytest.mark.parametrize(
    ("items", "by_uid", "first", "second"),
    [
        ("FLAGS", False, b"FLAGS ()", b"FLAGS (\\Seen)"),
        ("FLAGS", True, b"UID 30 FLAGS ()", b"UID 50 FLAGS (\\Seen)"),
        ("(FLAGS UID)", True, b"FLAGS () UID 30", b"FLAGS (\\Seen) UID 50"),
        ("UID", False, b"UID 30", b"UID 50"),
        (
            "FAST",
            False,
            b'FLAGS () INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 44827',
            b'FLAGS (\\Seen) INTERNALDATE " 1-Jan-1970 01:30:00 +0130" RFC822.SIZE 1',
        ),
        ("(ENVELOPE BODY)", False, b"ENVELOPE (E1) BODY (B1)", b"ENVELOPE (E2) BODY (B2)"),
        ("BODYSTRUCTURE", False, b"BODYSTRUCTURE (S1)", b"BODYSTRUCTURE (S2)"),
    ],
)
def test_lines(items: str, by_uid: bool, first: bytes, second: bytes) -> None:
    """T15, T32: items in the order asked, UID always in UID FETCH."""
    assert lines(plan_of(items, by_uid=by_uid)) == [
        b"* 3 FETCH (%b)\r\n" % first,
        b"* 5 FETCH (%b)\r\n" % second,
    ]


def test_only_the_columns_that_are_needed() -> None:
    assert plan_of("(UID FLAGS)").columns == ()
    assert plan_of("BODY[]").columns == ()
    assert plan_of("(FLAGS BODY[1])").columns == (Column.SECTIONS,)
    assert plan_of("BODY[HEADER]").columns == (Column.HEADER,)
    assert plan_of("BODY[HEADER.FIELDS (To)]").columns == (Column.HEADER, Column.HEADER_INDEX)
    assert plan_of("ALL").columns == (Column.INTERNAL_DATE, Column.SIZE, Column.ENVELOPE)


@pytest.mark.parametrize(
    ("items", "marks"),
    [
        ("BODY[]", True),
        ("BODY[HEADER.FIELDS (To)]", True),
        ("BINARY[1]", True),
        ("RFC822", True),
        ("RFC822.TEXT", True),
        ("RFC822.HEADER", False),
        ("BODY.PEEK[]", False),
        ("BINARY.PEEK[1]", False),
        ("BINARY.SIZE[1]", False),
        ("(ENVELOPE BODY BODYSTRUCTURE)", False),
    ],
)
def test_what_sets_seen(items: str, marks: bool) -> None:
    """T28, and T27: not where it may not be set."""
    assert plan_of(items).marks_seen is marks
    assert plan_of(items, may_mark=False).marks_seen is False


def test_flags_stand_where_they_were_changed() -> None:
    """T28: only at the messages that were not seen before, unless they are asked for."""
    plan = plan_of("BODY[]")
    assert lines(plan, frozenset({50})) == [b"* 3 FETCH (", b"* 5 FETCH (FLAGS (\\Seen) "]
    plan = plan_of("(UID BODY[])")
    assert lines(plan, frozenset({50})) == [
        b"* 3 FETCH (UID 30",
        b"* 5 FETCH (FLAGS (\\Seen) UID 50",
    ]
    assert lines(plan_of("(BODY[] FLAGS)"), frozenset({50}))[1] == b"* 5 FETCH (FLAGS (\\Seen)"
