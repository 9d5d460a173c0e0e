"""SEARCH looks into what people see (T33), previews show it (RFC 8970)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.addresses import is_plain, written
from mailserver.mime.describe import describe
from mailserver.mime.headers import parse_addresses
from mailserver.mime.text import PREVIEW_LENGTH, fold, html_text, search_text
from mailserver.mime.words import decode_words
from tests.mailgen import SORTS, message
from tests.mime.values import crlf

LETTER = crlf("""\
From: =?utf-8?q?J=C3=B6rg?= <joerg@example.com>
Subject: =?iso-8859-1?q?Gr=FC=DFe?=
  aus K=?utf-8?q?=C3=B6?=ln
X-Empty:
X-Twice: one
X-Twice: two
no field
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Die =C3=9Cberraschung ist gro=
=C3=9F, viele
Leute kommen.
--b
Content-Type: text/html; charset=iso-2022-jp

<html><head><title>Seite</title><style>.verborgen{}</style></head>
<p class="kopf">\x1b$B2=@.\x1b(B un<b>teilbar</b> &auml;hnlich</p><p>Absatz</p>
--b
Content-Type: message/rfc822

Subject: =?utf-8?q?inneres?= Thema
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

SW5oYWx0
--b
Content-Type: application/pdf; name="=?utf-8?q?Pr=C3=A4sentation.pdf?="
Content-Transfer-Encoding: base64
Content-Description: die Folien

JVBERi0xLjQ=
--b--
""")


def test_the_header_is_one_decoded_line_for_each_field() -> None:
    assert search_text(LETTER).header == "".join(
        f"{line}\n"
        for line in (
            fold("from: Jörg <joerg@example.com>"),
            fold("subject: Grüße aus Köln"),
            "x-empty: ",
            "x-twice: one",
            "x-twice: two",
            "no field",
            "content-type: multipart/mixed; boundary=b",
        )
    )


@pytest.mark.parametrize(
    "needle",
    [
        "Die Überraschung ist GROSS", "viele Leute kommen", "viele\r\nleute", "化成",
        "unteilbar ähnlich", "inneres Thema", "Inhalt", "Präsentation.pdf", "Folien", "ÜBER",
    ],
)  # fmt: skip
def test_found_is_what_is_seen(needle: str) -> None:
    assert fold(needle) in search_text(LETTER).body


@pytest.mark.parametrize(
    "needle", ["verborgen", "kopf", "Seite", "JVBERi", "ähnlichAbsatz", "quoted-printable", "Jörg"]
)
def test_not_found_is_what_is_not_seen(needle: str) -> None:
    assert fold(needle) not in search_text(LETTER).body


@pytest.mark.parametrize(
    ("needle", "text"),
    [
        ("STRASSE", "Straße"), ("straße", "STRASSE"), ("ﬁnd", "FIND"), ("ＡＢＣ", "abc"),
        ("ｶﾞ", "ガ"), ("e\u0301", "É"), ("a b", "A\r\n\t B"), ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("i", "I"), ("한국", "한국"),
    ],
)  # fmt: skip
def test_variants_fold_to_the_same(needle: str, text: str) -> None:
    assert fold(needle) == fold(text)


@pytest.mark.parametrize(("one", "other"), [("cafe", "café"), ("か", "が"), ("o", "ø")])
def test_accents_make_a_difference(one: str, other: str) -> None:
    assert fold(one) not in fold(other)


def test_an_unknown_encoding_makes_no_text() -> None:  # RFC 2045 §6.4
    mail = b"Content-Transfer-Encoding: %b\r\n\r\nvisible\r\n"
    assert "visible" in search_text(mail % b"8bit").body
    assert search_text(mail % b"base64 or so").body == ""
    assert describe(mail % b"x-rot13").preview == ""


def test_the_name_of_the_message_itself_is_in_its_header() -> None:
    found = search_text(b"Content-Type: image/png; name=rose.png\r\n\r\nx")
    assert ("rose" in found.header, "rose" in found.body) == (True, False)


@pytest.mark.parametrize(
    ("addresses", "as_in_the_envelope"),
    [
        (b"Ann <a@example.org>", ""),
        (b'"Berg, Ann" <a@example.org>, b@example.org', ""),
        (b"=?utf-8?q?J=C3=B6rg?= <j@x>", ""),
        (b"Staff: a@b, c@d;", ""),
        (b"a @ example . org", "from: a@example.org\n"),
        (b"a@example.org (Ann)", "from: ann <a@example.org>\n"),
        (b"undisclosed:;, (c) x@y", "from: undisclosed: ;, x@y\n"),
    ],
)
def test_addresses_are_kept_again_only_where_the_envelope_differs(
    addresses: bytes, as_in_the_envelope: str
) -> None:
    assert search_text(b"From: %b\r\n\r\n" % addresses).envelope == as_in_the_envelope


@given(
    st.lists(
        st.sampled_from(
            [
                b"ann",
                b" ",
                b"  ",
                b",",
                b", ",
                b"@",
                b"a@b",
                b"<a@b>",
                b" <a@b>",
                b"<",
                b">",
                b'"B, C" ',
                b'"',
                b"(x)",
                b";",
                b":",
                b"=?utf-8?q?=c3=a9?=",
                b"\\",
                b".",
            ]
        ),
        max_size=8,
    ).map(b"".join)
)
def test_what_looks_plain_is_written_as_the_envelope_has_it(value: bytes) -> None:
    if is_plain(value):
        as_written = fold(decode_words(value)).replace('"', "")
        assert fold(written(parse_addresses(value, 100))) == as_written


def test_a_long_line_drawn_with_signs_is_found_wherever_it_stands() -> None:
    line = "\u2550" * 40
    for before in range(130):
        assert fold(line) in fold(f"{'x' * before}{line}y")


@given(st.text())
def test_folding_again_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(alphabet="aB ßé\n\t", max_size=30), st.text(alphabet="aB ßé\n\t", max_size=30))
def test_a_part_of_a_text_is_found_in_it(before: str, needle: str) -> None:
    needle = needle.strip()
    assert fold(needle) in fold(f"{before} {needle} {before}")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("a<br>b", "a\nb"),
        ("a<b>b</b><i class=x>c</i>", "abc"),
        ("<body><blockquote>x</blockquote>", "\n\nx\n"),
        ("a&amp;b &lt;b&gt; &#228;", "a&b <b> ä"),
        ("a<!-- <b>x --> b", "a\n b"),
        ("a<!-- never closed", "a\n"),
        ("a<STYLE type=x>b</style  >c", "a\nc"),
        ("a<style>b</styl>c<style>d", "a\nb\nc\nd"),
        ("<script>a</script>b<script>c<style>d</style>e", "\nb\nc\ne"),
        ("a<script>if (a<b) c</script>d", "a\nd"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("a<img alt='>b", "a\nb"),
        ("never <closed", "never \n"),
        ("<o:p>x</o:p>", "x"),
    ],
)
def test_html(html: str, text: str) -> None:
    assert html_text(html) == text


def test_what_hides_until_behind_the_cut_hides_all() -> None:
    assert html_text("a<style>b { c }", is_cut=True) == "a\n"
    assert html_text("a<!-- b -->c<title>d", is_cut=True) == "a\nc\n"


def preview_of(header: str, body: str) -> str:
    return describe(crlf(f"{header}\n\n{body}")).preview


@pytest.mark.parametrize(
    ("header", "body", "preview"),
    [
        ("X: y", "Hello,\n\n  how are   you?\n", "Hello, how are you?"),
        ("X: y", "On Monday she wrote:\n> quoted\nAnswer", "On Monday she wrote: Answer"),
        ("X: y", "> only\n> quoted\n", "> only > quoted"),
        ("X: y", "Text\n-- \nSignature", "Text"),
        ("X: y", "", ""),
        ("Content-Type: text/html", "<style>x</style><p>Hi <b>you</b>", "Hi you"),
        ("Content-Type: image/png", "iVBOR", ""),
        ("Content-Type: text/plain; charset=utf-8", "a\u200b\u200cb\u00ad", "ab"),
        (
            "Content-Type: text/plain\nContent-Disposition: attachment",
            "a file's text",
            "",
        ),
    ],
)
def test_preview(header: str, body: str, preview: str) -> None:
    assert preview_of(header, body) == preview


def test_previews_are_short() -> None:
    long = preview_of("X: y", "word " * 1000)
    assert PREVIEW_LENGTH - 10 <= len(long) <= PREVIEW_LENGTH


def test_a_preview_looks_behind_a_long_style_sheet() -> None:
    style = "<style>" + ".x { color: red }\n" * 500 + "</style>"
    assert preview_of("Content-Type: text/html", style + "<p>Here") == "Here"


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_of_mail_can_be_searched(sort: str) -> None:
    mail = message(5, sort)
    found = search_text(mail)
    assert f"x-mailer: {fold('Example Mailer 7.1')}\n" in found.header
    assert found.body.strip()
    assert "\ufffd" not in found.header + found.body
    assert describe(mail).preview
