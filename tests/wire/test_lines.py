"""Lines out of a stream, bounded and in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.wire.lines import TAIL, TOO_LONG, LineBuffer, LineFault
from tests.timing import assert_linear
from tests.wire.splits import packets

LIMIT = 80


def lines(chunks: list[bytes], limit: int = LIMIT) -> list[bytes | LineFault]:
    """All lines, a too long one as TOO_LONG and then its tail."""
    buffer = LineBuffer()
    out: list[bytes | LineFault] = []
    skipping = False
    for chunk in chunks:
        buffer.feed(chunk)
        while True:
            got = buffer.skip_line() if skipping else buffer.take_line(limit)
            if got is None:
                break
            skipping = got is TOO_LONG
            out.append(got)
    return out


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"one\r\ntwo\r\n", [b"one", b"two"]),
        (b"\r\n\r\n", [b"", b""]),
        (b"bare\nline feed\n", [b"bare", b"line feed"]),
        (b"a\rb\r\r\n", [b"a\rb\r"]),
        (b"x" * LIMIT + b"\r\n", [b"x" * LIMIT]),
        (b"x" * LIMIT + b"\n", [b"x" * LIMIT]),
        (b"x" * (LIMIT + 1) + b"\r\ny\r\n", [TOO_LONG, b"x" * TAIL, b"y"]),
        (b"x" * LIMIT + b"\r.\r\n", [TOO_LONG, b"x" * (TAIL - 2) + b"\r."]),
        (b"x" * 500 + b"{3+}\r\nabc\r\n", [TOO_LONG, b"x" * (TAIL - 4) + b"{3+}", b"abc"]),
        (b"unfinished", []),
        (b"unfinished\r", []),
    ],
)
def test_lines_are_the_same_however_they_are_cut(
    octets: bytes, expected: list[bytes | LineFault]
) -> None:
    for chunks in packets(octets):
        assert lines(chunks) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=200).filter(lambda b: b"\n" not in b), max_size=8), st.data())
def test_any_lines_come_back(texts: list[bytes], data: st.DataObject) -> None:
    octets = b"".join(text + b"\r\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=6)))
    chunks = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    assert lines(chunks, 1000) == texts


def test_counted_octets_and_lines_mix() -> None:
    buffer = LineBuffer()
    buffer.feed(b"head\r\n12\n45tail\r\n")
    assert buffer.take_line(LIMIT) == b"head"
    assert buffer.first(3) == b"12\n"
    assert buffer.take(5) == b"12\n45"
    assert buffer.drop(2) == 2
    assert buffer.take_line(LIMIT) == b"il"
    assert buffer.drop(9) == 0
    assert len(buffer) == 0


def test_a_line_that_never_ends_is_not_kept() -> None:
    buffer = LineBuffer()
    for _ in range(1000):
        buffer.feed(b"x" * 1000)
        assert buffer.skip_line() is None
        assert len(buffer) <= TAIL + 1


def test_single_octets_cost_linear_time() -> None:
    """S5: a line that trickles in is not searched again from its start each time."""

    def run(count: int) -> None:
        buffer = LineBuffer()
        for _ in range(count):
            buffer.feed(b"x")
            assert buffer.take_line(count) is None

    assert_linear(run, 20_000)
