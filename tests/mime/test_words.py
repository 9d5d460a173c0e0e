"""Encoded words and extended parameters become what the sender wrote (RFC 2047, RFC 2231)."""

from __future__ import annotations

import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.words import decode_parameter, decode_words, encode_words

WORDS = [
    (b"", ""),
    (b" plain text\r", "plain text"),
    (b"folded\r\n text", "folded text"),
    # RFC 2047 §8
    (b"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>", "Keith Moore <moore@cs.utk.edu>"),
    (b"=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=", "Keld Jørn Simonsen"),
    (
        b"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n"
        b"    =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
        "If you can read this you understand the example.",
    ),
    (b"(=?ISO-8859-1?Q?a?=)", "(a)"),
    (b"(=?ISO-8859-1?Q?a?= b)", "(a b)"),
    (b"(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
    (b"(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
    (b"(=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=)", "(ab)"),
    (b"(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
    (b"(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
    # RFC 2231 §5: a language
    (b"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
    # what senders do
    (b"=?utf-8?b?8J+Y?= =?utf-8?b?gA==?=", "😀"),  # a letter cut in two
    (b'"=?utf-8?q?J=C3=B6rg?=" x', '"Jörg" x'),  # inside a quoted string
    (b"=?utf-8?Q?with space?=", "with space"),
    (b"Re:=?utf-8?Q?_a?=b", "Re: ab"),
    (b"J\xc3\xb6rg", "Jörg"),  # RFC 6532
    (b"J\xf6rg", "Jörg"),
    (b"=?iso-2022-jp?B?GyRCMj1ALhsoQg==?=", "化成"),
    (b"=?x-unknown?Q?J=C3=B6rg?=", "Jörg"),
    (b"=?utf-8?Q?50%?=", "50%"),
    (b"=?utf-8?Q?a=ZZ=?=", "a=ZZ"),
    (b"=?utf-8?b?YWJj!ZGVm?=", "abcdef"),
    (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
    (b"=?utf-8?q?never closed", "=?utf-8?q?never closed"),
    (b"=?utf-8?q?line=0Abreak?=", "line break"),
    (b"=?utf-8?q??=", ""),
    (b"a=?=?utf-8?q?b?=", "a=?b"),
]


@pytest.mark.parametrize(("value", "text"), WORDS)
def test_words_are_decoded(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@given(st.text(alphabet="aé日😀 =?_", min_size=1, max_size=80))
def test_what_the_standard_library_encodes_is_decoded(text: str) -> None:
    text = " ".join(text.split())
    for charset in ("utf-8", "iso-2022-jp"):
        try:
            text.encode(charset)
        except UnicodeEncodeError:
            continue
        if "=?" in text or not text:
            continue
        written = email.header.Header(text, charset, maxlinelen=60).encode(linesep="\r\n")
        assert decode_words(written.encode()) == text


@given(st.binary(max_size=80))
def test_any_octets_give_one_line(value: bytes) -> None:
    text = decode_words(value)
    assert "\n" not in text and "\0" not in text
    assert text == text.strip(" \t")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (b"filename", b"plain.txt", "plain.txt"),
        # RFC 2231 §4
        (b"title*", b"us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "This is ***fun***"),
        (b"filename*", b"utf-8''%E2%82%AC%20rates", "€ rates"),
        (b"filename*", b"iso-8859-1'en'%A3%20rates", "£ rates"),
        (b"filename*", b"no%20quotes", "no quotes"),
        (b"filename*", b"''%41", "A"),
        (b"filename", b"=?utf-8?q?J=C3=B6rg.txt?=", "Jörg.txt"),
        (b"filename", "Jörg.txt".encode(), "Jörg.txt"),
    ],
)
def test_parameters_are_decoded(name: bytes, value: bytes, text: str) -> None:
    assert decode_parameter(name, value) == text


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"plain", b"plain"),
        (b"caf\xc3\xa9", b"=?utf-8?b?Y2Fmw6k=?="),
        (b"the caf\xe9 there", b"the =?utf-8?b?Y2Fmw6k=?= there"),
    ],
)
def test_eight_bit_values_become_encoded_words(octets: bytes, words: bytes) -> None:
    assert encode_words(octets) == words


@given(st.text(alphabet="aé日😀\u0301 \t", max_size=120))
def test_encoding_keeps_the_text(text: str) -> None:
    encoded = encode_words(text.encode())
    assert encoded.isascii()
    assert all(len(word) <= 75 for word in encoded.split(b" ") if word.startswith(b"=?"))
    assert decode_words(encoded) == text.strip(" \t")


@given(st.binary(max_size=80))
def test_encoding_takes_any_octets(octets: bytes) -> None:
    assert encode_words(octets).isascii()
