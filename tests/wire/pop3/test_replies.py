"""POP3 replies and stuffed messages as octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.wire.pop3.apop import apop_digest, apop_timestamp
from mailserver.wire.pop3.replies import Code, challenge, err, lines, ok
from mailserver.wire.pop3.stuffing import DotStuffer, first_lines


def test_status_code_and_text() -> None:
    assert ok("2 320") == b"+OK 2 320\r\n"  # RFC 1939 §5
    assert err("no such message") == b"-ERR no such message\r\n"
    # RFC 2449 §8
    assert err("Do you have another POP session running?", Code.IN_USE) == (
        b"-ERR [IN-USE] Do you have another POP session running?\r\n"
    )
    assert err("try later", Code.SYS_TEMP) == b"-ERR [SYS/TEMP] try later\r\n"
    assert challenge(b"") == b"+ \r\n"
    assert challenge(b"Username:") == b"+ VXNlcm5hbWU6\r\n"
    assert lines([b"TOP", b"USER"]) == b"TOP\r\nUSER\r\n"


def test_apop_digest() -> None:
    digest = apop_digest("<1896.697170952@dbc.mtview.ca.us>", "tanstaaf")
    assert digest == b"c4c9334bac560ecc979e58001b3e22fb"  # RFC 1939 §7
    assert apop_timestamp(bytes(16), "mail.example.org") == f"<{'00' * 16}@mail.example.org>"


def test_other_languages_are_in_utf_8() -> None:  # RFC 6856 §3.2
    assert ok("für\x85\u2028 alle", "utf-8") == "+OK für?? alle\r\n".encode()
    long = err("ä" * 1000, Code.UTF8, "utf-8")
    assert len(long) <= 512 and long[:-2].decode().endswith("ää")


@given(st.text(max_size=2000))
def test_no_text_forges_a_second_reply(text: str) -> None:
    """RFC 2449 §4: at most 512 octets with CRLF."""
    for reply in (ok(text), err(text, Code.SYS_TEMP)):
        assert reply.count(b"\n") == 1 and reply.endswith(b"\r\n")
        assert len(reply) <= 512 and reply[:-2].decode("ascii").isprintable()


STUFFED = [
    (b"", b""),
    (b".", b".."),
    (b".\r\n", b"..\r\n"),
    (b"..\r\n", b"...\r\n"),
    (b"a.\r\n.b\r\n", b"a.\r\n..b\r\n"),
    (b"\r\n.\r\n", b"\r\n..\r\n"),
    (b"\r\n.\r\n.\r\n.", b"\r\n..\r\n..\r\n.."),
    (b"a\r\n\r\n..x\r\n", b"a\r\n\r\n...x\r\n"),
    (b"a\r.\n.\r\n", b"a\r.\n.\r\n"),  # neither CR nor LF alone ends a line
]


@pytest.mark.parametrize(("octets", "stuffed"), STUFFED)
def test_dots_are_doubled_at_every_split_point(octets: bytes, stuffed: bytes) -> None:
    """T43."""
    for first in range(len(octets) + 1):
        for second in range(first, len(octets) + 1):
            stuffer = DotStuffer()
            pieces = (octets[:first], octets[first:second], octets[second:])
            assert b"".join(map(stuffer.stuff, pieces)) == stuffed
            assert stuffer.is_at_line_start == (not octets or octets.endswith(b"\r\n"))


@given(st.lists(st.text(alphabet=".a\r\n", max_size=6).map(str.encode)))
def test_what_is_stuffed_can_be_taken_apart_again(pieces: list[bytes]) -> None:
    """T43: as RFC 1939 §3 tells the client to."""
    octets = b"".join(pieces)
    stuffer = DotStuffer()
    stuffed = b"".join(map(stuffer.stuff, pieces))
    parts = stuffed.split(b"\r\n")
    assert b"." not in parts
    assert b"\r\n".join(part.removeprefix(b".") for part in parts) == octets


LINES = [
    # octets, lines wanted, what they are, how many are missing
    (b"a\r\nb\r\nc\r\n", 0, b"", 0),
    (b"a\r\nb\r\nc\r\n", 1, b"a\r\n", 0),
    (b"a\r\nb\r\nc\r\n", 3, b"a\r\nb\r\nc\r\n", 0),
    (b"a\r\nb\r\nc\r\n", 4, b"a\r\nb\r\nc\r\n", 1),
    (b"a\r\nb", 2, b"a\r\nb", 1),
    (b"\r\n\r\n\r\n", 2, b"\r\n\r\n", 0),
    (b"", 5, b"", 5),
    (b"a\r\n", 2**63 - 1, b"a\r\n", 2**63 - 2),
]


@pytest.mark.parametrize(("octets", "count", "first", "missing"), LINES)
def test_first_lines_at_every_split_point(
    octets: bytes, count: int, first: bytes, missing: int
) -> None:
    """TOP, RFC 1939 §7."""
    for at in range(len(octets) + 1):
        head, left = first_lines(octets[:at], count)
        if left:
            tail, left = first_lines(octets[at:], left)
            head += tail
        assert (head, left) == (first, missing)
