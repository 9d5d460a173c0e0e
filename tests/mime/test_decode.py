"""Transfer encodings: exact for BINARY (RFC 3516), forgiving for people."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.decode import Encoding, decode_leniently, decode_transfer, encoding_of


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        (b"7bit", Encoding.IDENTITY),
        (b" 8BIT ", Encoding.IDENTITY),
        (b"Binary", Encoding.IDENTITY),
        (b"", Encoding.IDENTITY),
        (b"BASE64", Encoding.BASE64),
        (b"Quoted-Printable", Encoding.QUOTED_PRINTABLE),
        (b"x-uuencode", Encoding.UNKNOWN),
        (b"base64;", Encoding.BASE64),
        (b"base64 or so", Encoding.UNKNOWN),
    ],
)
def test_names(name: bytes, encoding: Encoding) -> None:
    assert encoding_of(name) is encoding


@given(st.binary(max_size=500))
def test_base64_round_trip(octets: bytes) -> None:
    encoded = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    assert decode_transfer(encoded, Encoding.BASE64) == octets
    assert decode_leniently(encoded, Encoding.BASE64) == octets


@given(st.binary(max_size=500))
def test_quoted_printable_round_trip(octets: bytes) -> None:
    octets = octets.replace(b"\r", b"")
    encoded = quopri.encodestring(octets).replace(b"\n", b"\r\n")
    decoded = decode_transfer(encoded, Encoding.QUOTED_PRINTABLE)
    assert decoded.replace(b"\r\n", b"\n") == octets


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [
        # RFC 2045 §6.7
        (
            b"Now's the time =\r\nfor all folk to come=\r\n to the aid of their country.\r\n",
            b"Now's the time for all folk to come to the aid of their country.\r\n",
        ),
        (b"blanks at the end go  \t\r\nx", b"blanks at the end go\r\nx"),
        (b"soft with blanks =  \r\nnext", b"soft with blanks next"),
        (b"=C3=a9", b"\xc3\xa9"),
        (b"100 =ZZ = sure", b"100 =ZZ = sure"),
        (b"under_score", b"under_score"),
    ],
)
def test_quoted_printable(octets: bytes, decoded: bytes) -> None:
    assert decode_transfer(octets, Encoding.QUOTED_PRINTABLE) == decoded


@pytest.mark.parametrize("octets", [b"YWJj!", b"YWJjZ", b"YW=Jj", b"begin 644 x", b"\xffYWJj"])
def test_damaged_base64_is_refused_but_shown(octets: bytes) -> None:
    with pytest.raises(MailError) as refused:
        decode_transfer(octets, Encoding.BASE64)
    assert refused.value.kind is ErrorKind.UNKNOWN_CTE
    assert isinstance(decode_leniently(octets, Encoding.BASE64), bytes)


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [(b"YWJj", b"abc"), (b"Y W\r\nJ\tj", b"abc"), (b"YWI", b"ab"), (b"YWI=", b"ab"), (b"", b"")],
)
def test_base64_line_breaks_and_padding_do_not_matter(octets: bytes, decoded: bytes) -> None:
    assert decode_transfer(octets, Encoding.BASE64) == decoded


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(MailError) as refused:
        decode_transfer(b"x", Encoding.UNKNOWN)
    assert refused.value.kind is ErrorKind.UNKNOWN_CTE
    assert decode_leniently(b"x", Encoding.UNKNOWN) == b"x"


@given(st.binary(max_size=300), st.sampled_from(list(Encoding)))
def test_leniency_has_no_end(octets: bytes, encoding: Encoding) -> None:
    assert len(decode_leniently(octets, encoding)) <= len(octets)
