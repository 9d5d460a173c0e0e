"""Modified UTF-7: one form for each name, and no other is taken (T21, RFC 3501 §5.1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.wire.imap import mutf7
from tests.timing import assert_linear

PAIRS = [
    ("", b""),
    ("INBOX", b"INBOX"),
    ("R&D", b"R&-D"),
    ("&&", b"&-&-"),
    ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 §5.1.3
    ("台北日本語", b"&U,BTF2XlZyyKng-"),  # the same
    ("☺!", b"&Jjo-!"),  # the same
    ("Entwürfe", b"Entw&APw-rfe"),
    ("é&é", b"&AOk-&-&AOk-"),
    ("𝄞 clef", b"&2DTdHg- clef"),
    ("\x7f", b"&AH8-"),
    ("a\tb", b"a&AAk-b"),
    ("+,/-", b"+,/-"),
]


@pytest.mark.parametrize(("text", "octets"), PAIRS)
def test_known_names(text: str, octets: bytes) -> None:
    assert mutf7.encode(text) == octets
    assert mutf7.decode(octets) == text


@pytest.mark.parametrize(
    "octets",
    [
        b"&",
        b"a&b",
        b"&AOk",  # no shift back
        b"&Jjo!",  # RFC 3501 §5.1.3 names it
        b"&U,BTFw-&ZeVnLIqe-",  # the same: a superfluous shift
        b"&AGE-",  # a letter that stands for itself
        b"&ACY-",  # so would &
        b"&AOl-",  # bits left over
        b"&AOkA-",  # half a character
        b"&AOkAA-",
        b"&A-",
        b"&AO=-",
        b"&AO/p-",  # "/" where "," is due
        b"&2DQ-",  # half a surrogate pair
        b"&3R4-",
        b"caf\xc3\xa9",  # raw UTF-8
        b"&AOk-\xc3\xa9",
        b"a\r\nb",
        b"a\0b",
        b"\x7f",
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="not modified UTF-7") as caught:
        mutf7.decode(octets)
    assert str(caught.value).isascii()


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        mutf7.encode("a\ud800b")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip(text: str) -> None:
    octets = mutf7.encode(text)
    assert mutf7.decode(octets) == text
    assert all(0x20 <= octet <= 0x7E for octet in octets)


@settings(max_examples=300, deadline=None)
@given(st.text("&-,A0Ok+/Jjo9\xe9").map(lambda text: text.encode("utf-8")))
def test_what_is_read_is_written_the_same(octets: bytes) -> None:
    try:
        text = mutf7.decode(octets)
    except ValueError:
        return
    assert mutf7.encode(text) == octets


@pytest.mark.parametrize("part", [b"&", b"&AOk-a", b"&AOk", b"&-"])
def test_linear_time(part: bytes) -> None:
    """S5"""

    def run(count: int) -> None:
        try:
            mutf7.decode(part * count)
        except ValueError:
            pass

    assert_linear(run, 8_000)
