"""IMAP framing: the same events for any packets, and no literal read as a command."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.wire.imap.reader import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    NEED_DATA,
    CommandReader,
    Event,
    Limits,
    Line,
    LiteralPart,
    LiteralWanted,
    TooLong,
)
from tests.timing import assert_linear
from tests.wire.splits import packets

SMALL = Limits(line=100, literal=20, command=150, literals=3)

Decide = Callable[[CommandReader, LiteralWanted], None]


def keep(reader: CommandReader, wanted: LiteralWanted) -> None:
    reader.keep()


def stream(reader: CommandReader, wanted: LiteralWanted) -> None:
    reader.stream()


def refuse(reader: CommandReader, wanted: LiteralWanted) -> None:
    reader.refuse()


def read(chunks: list[bytes], decide: Decide = keep, limits: Limits = SMALL) -> list[Event]:
    """All events; the parts of a streamed literal as one."""
    reader = CommandReader(limits)
    events: list[Event] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (event := reader.next_event()) is not NEED_DATA:
            last = events[-1] if events else None
            if isinstance(event, LiteralPart) and isinstance(last, LiteralPart) and not last.last:
                events[-1] = LiteralPart(last.octets + event.octets, event.last)
            else:
                events.append(event)
            if isinstance(event, LiteralWanted):
                decide(reader, event)
    return events


def wanted(size: int, plus: str = "", first: bool = True, binary: bool = False) -> LiteralWanted:
    return LiteralWanted(size, synchronizing=not plus, binary=binary, first=first)


CASES: dict[str, tuple[bytes, Decide, list[Event]]] = {
    "lines": (b"a NOOP\r\n\r\nb NOOP\r\n", keep, [Line(b"a NOOP"), Line(b""), Line(b"b NOOP")]),
    "bare_line_feed": (b"a NOOP\nb NOOP\n", keep, [Line(b"a NOOP"), Line(b"b NOOP")]),
    "unfinished": (b"a NOOP\r", keep, []),
    "rfc3501_login": (  # RFC 3501 §6.2.3 with the literals of RFC 7888 §3
        b"A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man\r\n",
        keep,
        [
            wanted(11),
            wanted(7, first=False),
            Line(b"A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man"),
        ],
    ),
    "rfc7888_login": (
        b"A001 LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man\r\n",
        keep,
        [
            wanted(11, "+"),
            wanted(7, "+", first=False),
            Line(b"A001 LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man"),
        ],
    ),
    "literal_of_line_ends": (
        b"a X {6+}\r\n\r\n{9}\n\r\nb NOOP\r\n",
        keep,
        [wanted(6, "+"), Line(b"a X {6+}\r\n\r\n{9}\n"), Line(b"b NOOP")],
    ),
    "empty_literal": (b"a X {0+}\r\n\r\n", keep, [wanted(0, "+"), Line(b"a X {0+}\r\n")]),
    "literal8": (
        b"a X ~{2+}\r\n\0\0\r\n",
        keep,
        [wanted(2, "+", binary=True), Line(b"a X ~{2+}\r\n\0\0")],
    ),
    "leading_zeros": (b"a X {003+}\r\nabc\r\n", keep, [wanted(3, "+"), Line(b"a X {003+}\r\nabc")]),
    "no_literal": (
        b"a {}\r\na {+}\r\na {3x}\r\na {3} \r\n3}\r\na {-3}\r\na {3++}\r\n",
        keep,
        [Line(x) for x in (b"a {}", b"a {+}", b"a {3x}", b"a {3} ", b"3}", b"a {-3}", b"a {3++}")],
    ),
    "streamed": (
        b"a APPEND x {5+}\r\nabc\r\n\r\nb NOOP\r\n",
        stream,
        [wanted(5, "+"), LiteralPart(b"abc\r\n", True), Line(b""), Line(b"b NOOP")],
    ),
    "streamed_twice": (
        b"a APPEND x {3+}\r\nabc (\\Seen) {2}\r\nde\r\n",
        stream,
        [
            wanted(3, "+"),
            LiteralPart(b"abc", True),
            wanted(2, first=False),
            LiteralPart(b"de", True),
            Line(b""),
        ],
    ),
    "streamed_empty": (
        b"a APPEND x {0+}\r\n\r\n",
        stream,
        [wanted(0, "+"), LiteralPart(b"", True), Line(b"")],
    ),
    "refused_synchronizing": (  # T17: the client sends nothing of it
        b"a LOGIN {300}\r\nb NOOP\r\n",
        refuse,
        [wanted(300), Line(b"b NOOP")],
    ),
    "refused_not_synchronizing": (  # T17: its octets are no commands
        b"a LOGIN {10+}\r\nz NOOP\r\nz {7+}\r\nz NOOP\r rest\r\nb NOOP\r\n",
        refuse,
        [wanted(10, "+"), Line(b"b NOOP")],
    ),
    "refused_then_waiting": (  # the rest asks for a go-ahead that never comes
        b"a LOGIN {4+}\r\nabcd {5}\r\nb NOOP\r\n",
        refuse,
        [wanted(4, "+"), Line(b"b NOOP")],
    ),
    "kept_too_big": (
        b"a X {21+}\r\nz LOGOUT\r\nz LOGOUT\r\nz\r\nb NOOP\r\n",
        keep,
        [wanted(21, "+"), Line(b"b NOOP")],
    ),
    "command_too_big": (
        b"a X {20+}\r\n" + b"x" * 20 + b"y" * 80 + b" {20+}\r\n" + b"x" * 20 +
        b" {20+}\r\nz NOOP\r\nz NOOP\r\n....\r\nb NOOP\r\n",
        keep,
        [wanted(20, "+"), *[wanted(20, "+", first=False)] * 2, Line(b"b NOOP")],
    ),
    "lines_of_a_command_too_long": (
        b"a X {1+}\r\nx" + b"y" * 90 + b" {1+}\r\nx" + b"y" * 90 + b"\r\nb NOOP\r\n",
        keep,
        [
            wanted(1, "+"),
            wanted(1, "+", first=False),
            TooLong(b"a X {1+}\r\nx" + b"y" * 90 + b" {1+}\r\nx" + b"y" * 90),
            Line(b"b NOOP"),
        ],
    ),
    "lines_too_long_with_literal": (
        b"a X {1+}\r\nx" + b"y" * 90 + b" {1+}\r\nx" + b"y" * 90 + b"{6+}\r\nz X\r\n."
        b"\r\nb NOOP\r\n",
        keep,
        [
            wanted(1, "+"),
            wanted(1, "+", first=False),
            TooLong(b"a X {1+}\r\nx" + b"y" * 90 + b" {1+}\r\nx" + b"y" * 90 + b"{6+}"),
            Line(b"b NOOP"),
        ],
    ),
    "too_many_literals": (
        b"a X" + b" {1+}\r\nx" * 4 + b"\r\nb NOOP\r\n",
        keep,
        [
            wanted(1, "+"),
            *[wanted(1, "+", first=False)] * 3,
            Line(b"b NOOP"),
        ],
    ),
    "too_many_streamed": (
        b"a APPEND x" + b" {1+}\r\nx" * 4 + b"\r\nb NOOP\r\n",
        stream,
        [
            wanted(1, "+"),
            *[LiteralPart(b"x", True), wanted(1, "+", first=False)] * 3,
            Line(b"b NOOP"),
        ],
    ),
    "line_too_long": (
        b"a X " + b"x" * 97 + b"\r\nb NOOP\r\n",
        keep,
        [TooLong(b"a X " + b"x" * 96), Line(b"b NOOP")],
    ),
    "line_too_long_with_literal": (  # T17
        b"a X " + b"x" * 200 + b"{8+}\r\nz NOOP\r\n{3+}\r\nabc\r\nb NOOP\r\n",
        keep,
        [TooLong(b"a X " + b"x" * 96), Line(b"b NOOP")],
    ),
    "just_fits": (
        b"a X " + b"x" * 96 + b"\r\nb NOOP\r\n",
        keep,
        [Line(b"a X " + b"x" * 96), Line(b"b NOOP")],
    ),
    "unimaginable_literal": (
        b"a X {" + b"9" * 40 + b"}\r\nb NOOP\r\n",
        refuse,
        [wanted(2**63 - 1), Line(b"b NOOP")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_events_for_any_packets(name: str) -> None:
    """T16, T17"""
    octets, decide, expected = CASES[name]
    for chunks in packets(octets):
        assert read(chunks, decide) == expected


def test_pipelined_commands_in_any_packets() -> None:
    """T16: what a client pipelines behind APPEND and IDLE comes out in order."""
    octets = b"a APPEND x {3+}\r\nabc\r\nb IDLE\r\nDONE\r\nc NOOP\r\n"
    expected = [Line(b""), Line(b"b IDLE"), Line(b"DONE"), Line(b"c NOOP")]
    for chunks in packets(octets):
        assert read(chunks, stream)[2:] == expected


def test_octets_after_a_line_stay_unread() -> None:
    """S1, T1: STARTTLS can see that something came behind it."""
    reader = CommandReader()
    reader.feed(b"a STARTTLS\r\n")
    assert reader.next_event() == Line(b"a STARTTLS")
    assert not reader.has_unread
    reader.feed(b"b STARTTLS\r\nc")
    assert reader.next_event() == Line(b"b STARTTLS")
    assert reader.has_unread


def test_the_command_so_far_ends_with_the_announcement() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND {5+}\r\nINBOX (\\Seen) {10}\r\n")
    assert reader.next_event() == wanted(5, "+")
    assert reader.command_so_far == b"a APPEND {5+}\r\n"
    assert reader.keep()
    assert reader.next_event() == wanted(10, first=False)
    assert reader.command_so_far == b"a APPEND {5+}\r\nINBOX (\\Seen) {10}\r\n"
    assert reader.stream()
    reader.feed(b"0123456789 {3}\r\n")
    assert reader.next_event() == LiteralPart(b"0123456789", True)
    assert reader.next_event() == wanted(3, first=False)
    assert reader.command_so_far == b" {3}\r\n"


def test_a_streamed_literal_can_be_given_up() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {20}\r\nabc")
    reader.next_event()
    reader.stream()
    assert reader.next_event() == LiteralPart(b"abc", False)
    reader.refuse()
    reader.feed(b"\r\nz LOGOUT\r\n.....more {4+}\r\nz X\n\r\nb NOOP\r\n")
    assert reader.next_event() == Line(b"b NOOP")


def test_an_append_can_be_given_up_after_its_message() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {3}\r\nabc (\\Seen) {5+}\r\nz X\r\n\r\nb NOOP\r\n")
    reader.next_event()
    reader.stream()
    assert reader.next_event() == LiteralPart(b"abc", True)
    reader.refuse()
    assert reader.next_event() == Line(b"b NOOP")


def test_wrong_calls_are_errors_of_the_caller() -> None:
    reader = CommandReader()
    for call in (reader.keep, reader.stream, reader.refuse, reader.take_as_text):
        with pytest.raises(RuntimeError):
            call()
    reader.feed(b"a X {3}\r\n")
    reader.next_event()
    with pytest.raises(RuntimeError):
        reader.next_event()
    with pytest.raises(RuntimeError):
        reader.next_line()


def test_continuation_lines_have_their_own_limit_and_no_literals() -> None:
    """S3: an answer to AUTHENTICATE may be longer than a line, also before login."""
    reader = CommandReader(SMALL)
    answer = b"A" * 1000
    for line in (b"DONE", answer, b"x{3+}", b""):
        for chunk in (line, b"\r", b"\n"):
            assert reader.next_line(1000) is NEED_DATA
            reader.feed(chunk)
        assert reader.next_line(1000) == Line(line)
    reader.feed(answer + b"\r\nb NOOP\r\n")
    assert isinstance(reader.next_line(), TooLong)
    assert reader.next_line() == Line(b"b NOOP")
    reader.feed(answer + b"A\r\nc NOOP\r\n")
    assert isinstance(reader.next_line(1000), TooLong)
    assert reader.next_event() == Line(b"c NOOP")


def test_limits_change_with_login() -> None:
    """S3"""
    line = b"a X " + b"x" * 20_000
    reader = CommandReader()
    assert reader.limits is BEFORE_LOGIN
    reader.feed(line + b"\r\n")
    assert isinstance(reader.next_event(), TooLong)
    reader.limits = AFTER_LOGIN
    reader.feed(line + b"\r\n")
    assert reader.next_event() == Line(line)


@pytest.mark.parametrize(
    ("limits", "line", "literal", "command", "literals"),
    [(BEFORE_LOGIN, 8192, 4096, 16384, 8), (AFTER_LOGIN, 65536, 262144, 262144, 1000)],
)
def test_the_limits_themselves(
    limits: Limits, line: int, literal: int, command: int, literals: int
) -> None:
    """S3"""
    assert limits == Limits(line, literal, command, literals)
    for size in (line, line + 1):
        [event] = read([b"x" * size + b"\r\n"], keep, limits)
        assert isinstance(event, Line) == (size == line)
    reader = CommandReader(limits)
    for size in (literal, literal + 1):
        reader.feed(b"a X {%d}\r\n" % size)
        reader.next_event()
        fits = size == literal and size + 10 < command
        assert reader.keep() == fits
        reader = CommandReader(limits)


def test_what_is_kept_of_a_hostile_client_is_bounded() -> None:
    """S3: lines without end, and literals that are swallowed."""
    reader = CommandReader(SMALL)
    for _ in range(500):
        reader.feed(b"x" * 1000)
        while reader.next_event() is not NEED_DATA:
            pass
        assert len(reader._buffer) <= 200
    reader.feed(b"\r\na X {1000000+}\r\n")
    assert reader.next_event() == wanted(1_000_000, "+")
    assert not reader.keep()
    for _ in range(999):
        reader.feed(b"\n" * 1000)
        assert reader.next_event() is NEED_DATA
        assert not reader.has_unread


@pytest.mark.parametrize(
    ("octets", "decide"),
    [
        (b"a X" + b" {1+}\r\nx" * 500, keep),
        (b"a APPEND x" + b" {1+}\r\nx" * 500, stream),
        (b"{" * 30_000 + b"}\r\n", keep),
        (b"\r\n" * 10_000, keep),
    ],
)
def test_linear_time(octets: bytes, decide: Decide) -> None:
    """S5"""
    limits = Limits(1 << 20, 1 << 20, 1 << 20, 10_000)
    assert_linear(lambda count: read([octets * count], decide, limits), 1)


COMMAND = st.lists(
    st.one_of(
        st.sampled_from([b"a ", b"LOGIN ", b"{3+}\r\n", b"{12+}\r\n", b"{40+}\r\n", b"{2}\r\n"]),
        st.sampled_from([b"\r\n", b"\n", b"\r", b"{", b"}", b"+", b"~{1+}\r\n", b"x" * 60]),
        st.binary(max_size=5),
    ),
    max_size=25,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(COMMAND, st.sampled_from([keep, stream, refuse]), st.data())
def test_packets_do_not_matter(octets: bytes, decide: Decide, data: st.DataObject) -> None:
    """T16"""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=8)))
    chunks = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    expected = read([octets], decide)
    got = read(chunks, decide)
    if got and isinstance(got[-1], LiteralPart) and not got[-1].last:
        assert got[:-1] == expected[:-1]
    else:
        assert got == expected
