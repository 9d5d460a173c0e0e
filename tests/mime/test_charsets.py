"""Charsets named by strangers: real ones decode, anything else is refused or harmless."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.charsets import _CODECS, _MEANT, decode, is_known_charset

KNOWN = """
us-ascii UTF-8 utf8 UTF-16 utf-7 unicode-1-1-utf-7 ISO-8859-1 latin1 iso_8859-1:1987
iso-8859-15 windows-1252 CP1252 x-cp1252 win-1251 cp-850 IBM850 ibm037 cp037 koi8-r KOI8-U
gb2312 GBK gb18030 big5 EUC-KR ks_c_5601-1987 euc-jp Shift_JIS x-sjis cp932 windows-31j
iso-2022-jp ISO-2022-JP-2 csISO2022JP iso-2022-kr hz-gb-2312 TIS-620 macintosh iso-8859-8-i
ansi_x3.4-1968 windows-874 johab
""".split()


@pytest.mark.parametrize("name", KNOWN)
def test_names_found_in_mail_are_known(name: str) -> None:
    assert is_known_charset(name)
    assert is_known_charset(f' "{name.upper()}" ')


@pytest.mark.parametrize(
    "name",
    [
        *"rot13 rot_13 hex hex_codec zlib zip bz2 base64 quopri uu punycode idna mbcs".split(),
        *"unicode_escape raw_unicode_escape undefined oem charmap string-escape nonsense".split(),
        *("", "a" * 10_000, "utf-8\0", "../utf-8", "é", "cp99999", "iso-8859-12"),
    ],
)
def test_what_is_no_charset_is_unknown(name: str) -> None:
    assert not is_known_charset(name)
    assert decode("é".encode(), name) == "é"


def test_every_codec_that_can_be_reached_is_a_text_codec() -> None:
    for name in _CODECS | set(_MEANT.values()):
        assert codecs.lookup(name)._is_text_encoding
        assert name in _CODECS


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        (b"plain", "us-ascii", "plain"),
        (b"caf\xc3\xa9", "us-ascii", "café"),  # a wrong claim, RFC 7103 §7.6
        (b"caf\xe9", "us-ascii", "café"),
        (b"caf\xe9", "iso-8859-1", "café"),
        (b"\x80 5", "iso-8859-1", "€ 5"),
        (b"caf\xc3\xa9", "iso-8859-1", "cafÃ©"),
        (b"caf\xe9", "utf-8", "caf\ufffd"),
        (b"+AOk-", "utf-7", "é"),
        (b"+2D3eAA-", "utf-7", "😀"),
        (b"+2D0- x", "utf-7", "\ufffd x"),
        ("化成".encode("iso-2022-jp"), "iso-2022-jp", "化成"),
        (b"\x1b$B2L@.\x1b(B", "us-ascii", "\x1b$B2L@.\x1b(B"),
        ("化成".encode("shift_jis"), "Shift_JIS", "化成"),
        ("①".encode("cp932"), "shift_jis", "①"),
        ("한국어".encode("cp949"), "ks_c_5601-1987", "한국어"),
        ("丂".encode("gb18030"), "gb2312", "丂"),
        ("привет".encode("koi8-r"), "KOI8-R", "привет"),
        ("abc".encode("cp037"), "ibm037", "abc"),
        ("hé".encode("utf-16"), "utf-16", "hé"),
    ],
)
def test_text_is_decoded(octets: bytes, charset: str, text: str) -> None:
    assert decode(octets, charset) == text


@given(st.binary(max_size=200), st.sampled_from(sorted(_CODECS)))
def test_any_octets_decode_in_any_charset(octets: bytes, charset: str) -> None:
    assert decode(octets, charset).encode() == decode(octets, charset).encode("utf-8", "replace")
