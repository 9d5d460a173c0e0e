"""T31: every line end becomes CRLF on arrival, however the octets come in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.newlines import Newlines, normalised

CASES = [
    (b"", b""),
    (b"a", b"a"),
    (b"a\r\nb\r\n", b"a\r\nb\r\n"),
    (b"a\nb\n", b"a\r\nb\r\n"),
    (b"a\rb\r", b"a\r\nb\r\n"),
    (b"\n\r", b"\r\n\r\n"),
    (b"\r\r\n", b"\r\n\r\n"),
    (b"\r\n\n", b"\r\n\r\n"),
    (b"a\0\n", b"a\0\r\n"),
    (b"a\r.\r\nb", b"a\r\n.\r\nb"),
]


@pytest.mark.parametrize(("octets", "clean"), CASES)
def test_line_ends(octets: bytes, clean: bytes) -> None:
    assert normalised(octets) == clean


@pytest.mark.parametrize(("octets", "clean"), CASES)
def test_any_split_gives_the_same(octets: bytes, clean: bytes) -> None:
    for first in range(len(octets) + 1):
        for second in range(first, len(octets) + 1):
            newlines = Newlines()
            pieces = [octets[:first], octets[first:second], octets[second:]]
            assert b"".join(map(newlines.feed, pieces)) + newlines.close() == clean


@given(st.lists(st.text(alphabet="\r\nab", max_size=6)))
def test_the_result_is_what_a_slow_reading_gives(pieces: list[str]) -> None:
    newlines = Newlines()
    whole = "".join(pieces)
    result = b"".join(newlines.feed(each.encode()) for each in pieces) + newlines.close()
    assert result.decode() == re.sub("\r\n|\r|\n", "\r\n", whole)
    assert normalised(result) == result


def test_clean_octets_are_not_copied() -> None:
    octets = b"line\r\n" * 1000
    assert Newlines().feed(octets) is octets
