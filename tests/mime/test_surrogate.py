"""Headers in UTF-8 for clients that know only ASCII (T57)."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.surrogate import ascii_header
from tests.mailgen import message
from tests.timing import assert_linear

CASES = [
    ("Subject: Grüße\r\n", "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
    ("X-Own: ä\r\nX-Other: a\r\n", "X-Other: a\r\n"),
    ("From: Jörg <j@x.org>\r\n", "From: =?utf-8?b?SsO2cmc=?= <j@x.org>\r\n"),
    (
        "To: ö@x.org, a@x.org\r\n",
        "To: Internationalized Address =?utf-8?b?w7ZAeC5vcmc=?= Removed:;,\r\n a@x.org\r\n",
    ),
    (
        'Cc: Ä <a@ö.org>, "Doe, J." <d@x.org>\r\n',
        "Cc: =?utf-8?b?w4Q=?= Internationalized Address =?utf-8?b?YUDDti5vcmc=?= Removed:;,\r\n"
        ' "Doe, J." <d@x.org>\r\n',
    ),
    ("To: Ä: a@x.org, ö@x.org;, b@x.org\r\n", "To: =?utf-8?b?w4Q=?=: a@x.org;,\r\n b@x.org\r\n"),
    (
        'Content-Type: text/plain; charset=utf-8; name="Ü.txt"\r\n',
        "Content-Type: text/plain;\r\n charset=utf-8\r\n",
    ),
    (
        'Content-Disposition: attachment; filename=ü; x="a b"\r\n',
        'Content-Disposition: attachment;\r\n x="a b"\r\n',
    ),
    ("Subject:\r\n ä\r\n", "Subject: =?utf-8?b?w6Q=?=\r\n"),
    ("no field ä\r\nSubject: x\r\n", "Subject: x\r\n"),
]


@pytest.mark.parametrize(("header", "surrogate"), CASES)
def test_fields(header: str, surrogate: str) -> None:
    assert ascii_header(header.encode()).decode("ascii") == surrogate
    whole = f"A: x\r\n{header}B:  kept \r\n\r\n".encode()
    assert ascii_header(whole).decode("ascii") == f"A: x\r\n{surrogate}B:  kept \r\n\r\n"


@pytest.mark.parametrize("number", range(16))
def test_ascii_stays_as_it_is(number: int) -> None:
    header = message(number).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert ascii_header(header) == header


def test_people_read_the_same() -> None:
    header = "From: Jörg Müller <j@x.org>\r\nSubject: Grüße aus Köln, 日本\r\n\r\n".encode()
    made = email.message_from_bytes(ascii_header(header), policy=email.policy.default)
    assert made["subject"] == "Grüße aus Köln, 日本"
    assert str(made["from"]) == "Jörg Müller <j@x.org>"


_VALUES = st.text(st.sampled_from('aä@.,:;<>"\\()= \t日\x00?'), max_size=40)
_NAMES = st.sampled_from(["Subject", "From", "To", "Content-Type", "X", ""])


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=5))
def test_whatever_comes_becomes_ascii(fields: list[tuple[str, str]]) -> None:
    header = "".join(f"{name}:{value}\r\n" for name, value in fields).encode() + b"\r\n"
    made = ascii_header(header)
    assert made.isascii() and made.endswith(b"\r\n")
    assert b"\r\n\r\n" not in made[:-4] or b"\r\n\r\n" in header[:-4], "it does not end earlier"
    assert ascii_header(made) == made


def test_long_headers_cost_linear_time() -> None:  # S5
    assert_linear(lambda size: ascii_header(b"To: " + "ä@x.org, ".encode() * size), 4000)
