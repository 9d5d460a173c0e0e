"""LMTP framing: the same events however the octets are cut, and no line that is not one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.wire.lmtp.reader import (
    BARE_LF,
    DATA_END,
    LINE_TOO_LONG,
    NEED_DATA,
    DataPart,
    Line,
    LmtpReader,
)
from tests.timing import assert_linear

MAX_LINE = 64


def read_data(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """The message that arrives in `pieces`; what follows its end, None if it has no end."""
    reader = LmtpReader(MAX_LINE)
    reader.start_data()
    message = b""
    pieces = list(pieces)
    while True:
        event = reader.next()
        if event is NEED_DATA:
            if not pieces:
                return message, None
            reader.feed(pieces.pop(0))
        elif event is DATA_END:
            rest = b"".join(pieces)
            unread = reader.unread
            reader.feed(rest)
            lines = []
            while isinstance(event := reader.next(), Line):
                lines.append(event.octets)
            assert unread <= sum(len(line) + 2 for line in lines) + reader.unread
            return message, b"\n".join(lines)
        else:
            assert isinstance(event, DataPart)
            assert event.octets
            message += event.octets


def stuffed(message: bytes) -> bytes:
    """RFC 5321 §4.5.2, one line at a time: the reference to compare with."""
    lines = message.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


DATA_CASES = [
    ("plain", b"Subject: x\r\n\r\nhi\r\n.\r\n", b"Subject: x\r\n\r\nhi\r\n"),
    ("nothing", b".\r\n", b""),
    ("one_empty_line", b"\r\n.\r\n", b"\r\n"),
    ("dot_removed", b"..\r\n.\r\n", b".\r\n"),
    ("dot_removed_inside", b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
    ("dot_of_a_lone_letter", b"a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),
    ("lf_dot_lf_is_text", b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
    ("lf_dot_crlf_is_text", b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
    ("crlf_dot_lf_is_text", b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
    ("crlf_dot_cr_is_text", b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
    ("cr_dot_cr_is_text", b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
    ("crcrlf_dot_crlf_ends", b"a\r\r\n.\r\n", b"a\r\r\n"),
    ("nul_and_8_bit", b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n"),
    ("no_end", b"a\r\n.", None),
]


@pytest.mark.parametrize(("name", "octets", "message"), DATA_CASES)
def test_data_is_the_same_at_every_split(name: str, octets: bytes, message: bytes | None) -> None:
    """S10, T47: only CRLF.CRLF ends data, dots are removed, nothing else is changed."""
    splits = [[octets[:i], octets[i:]] for i in range(len(octets) + 1)]
    for pieces in [[octets], [bytes([o]) for o in octets], *splits]:
        got, rest = read_data(pieces)
        if message is None:
            assert rest is None
        else:
            assert (got, rest) == (message, b"")


@pytest.mark.parametrize(
    "ending", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"\r.\r\n"]
)
def test_a_message_cannot_smuggle_a_second_one(ending: bytes) -> None:
    """T47: what looks like an end to careless servers stays part of the message."""
    attack = b"a" + ending + b"MAIL FROM:<evil@example.org>\r\n"
    message, rest = read_data([attack + b".\r\nNOOP\r\n"])
    assert b"MAIL FROM" in message
    assert rest == b"NOOP"


octet_soup = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\x00"]), max_size=30)


@given(octet_soup, st.lists(st.integers(0, 60), max_size=4))
def test_any_message_comes_back_as_it_was(parts: list[bytes], cuts: list[int]) -> None:
    message = b"".join([*parts, b"\r\n"])
    octets = stuffed(message) + b".\r\nQUIT\r\n"
    at = sorted({0, len(octets), *(min(c, len(octets)) for c in cuts)})
    pieces = [octets[a:b] for a, b in pairwise(at)]
    assert read_data(pieces) == (message, b"QUIT")


def lines_of(pieces: list[bytes]) -> list[object]:
    reader = LmtpReader(MAX_LINE)
    events: list[object] = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next()) is not NEED_DATA:
            events.append(event.octets if isinstance(event, Line) else event)
    return events


LINE_CASES = [
    ("two", b"NOOP\r\nRSET\r\n", [b"NOOP", b"RSET"]),
    ("empty", b"\r\n", [b""]),
    ("bare_cr_stays_inside", b"NO\rOP\r\n", [b"NO\rOP"]),
    ("bare_lf_is_told", b"NOOP\nRSET\r\n", [BARE_LF, b"RSET"]),
    ("lf_at_the_start", b"\nRSET\r\n", [BARE_LF, b"RSET"]),
    ("longest", b"x" * 62 + b"\r\nRSET\r\n", [b"x" * 62, b"RSET"]),
    ("too_long", b"x" * 63 + b"\r\nRSET\r\n", [LINE_TOO_LONG, b"RSET"]),
    ("far_too_long", b"x" * 300 + b"\r\nRSET\r\n", [LINE_TOO_LONG, b"RSET"]),
    ("too_long_and_bare_lf", b"x" * 300 + b"\nRSET\r\n", [BARE_LF, b"RSET"]),
    ("binary", bytes(range(14, 256)).replace(b"\n", b"")[:60] + b"\r\n", [bytes(range(14, 74))]),
]


@pytest.mark.parametrize(("name", "octets", "events"), LINE_CASES)
def test_lines_are_the_same_at_every_split(name: str, octets: bytes, events: list[object]) -> None:
    splits = [[octets[:i], octets[i:]] for i in range(len(octets) + 1)]
    for pieces in [[octets], [bytes([o]) for o in octets], *splits]:
        assert lines_of(pieces) == events


def test_an_endless_line_is_not_kept() -> None:
    """S3: memory stays bounded while a line that never ends comes in."""
    reader = LmtpReader(MAX_LINE)
    for _ in range(100):
        reader.feed(b"x" * 1000)
        assert reader.next() is NEED_DATA
        assert reader.unread <= 1


def test_a_chunk_is_handed_out_as_it_is() -> None:
    """RFC 3030 §2: octets are counted, dots and line ends are not looked at."""
    chunk = b"..a\r\n.\r\nb\n\r"
    octets = b"BDAT 11\r\n" + chunk + b"BDAT 0 LAST\r\nNOOP\r\n"
    for size in range(1, len(octets) + 1):
        reader = LmtpReader(MAX_LINE)
        message, lines, ends = b"", [], 0
        for start in range(0, len(octets), size):
            reader.feed(octets[start : start + size])
            while (event := reader.next()) is not NEED_DATA:
                if isinstance(event, Line):
                    lines.append(event.octets)
                    if event.octets.startswith(b"BDAT"):
                        reader.start_chunk(int(event.octets.split()[1]))
                elif isinstance(event, DataPart):
                    message += event.octets
                else:
                    assert event is DATA_END
                    ends += 1
        assert message == chunk
        assert lines == [b"BDAT 11", b"BDAT 0 LAST", b"NOOP"]
        assert ends == 2


def test_what_is_not_read_yet_is_counted() -> None:
    """T1: octets behind a command can be refused before anything is made of them."""
    reader = LmtpReader(MAX_LINE)
    reader.feed(b"STARTTLS\r\nMAIL")
    assert reader.next() == Line(b"STARTTLS")
    assert reader.unread == 4
    reader.start_data()
    assert reader.unread == 4


@pytest.mark.parametrize("line", [b"\r\n", b"..\r\n", b"\r", b"x", b"\r\n.\n", b"x" * 76 + b"\r\n"])
def test_data_takes_linear_time(line: bytes) -> None:
    """S5: twice the octets take about twice the time, whatever they are."""

    def read(size: int) -> None:
        octets = b"a" + line * (size // len(line))
        reader = LmtpReader(MAX_LINE)
        reader.start_data()
        for start in range(0, len(octets), 65536):
            reader.feed(octets[start : start + 65536])
            while reader.next() not in (NEED_DATA, DATA_END):
                pass

    assert_linear(read, 2_000_000)
