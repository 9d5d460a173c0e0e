"""Sections by their IMAP names (T29), header fields by name, without reading the message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.decode import Encoding
from mailserver.mime.describe import describe
from mailserver.mime.sections import (
    MAX_MESSAGE,
    SectionIndex,
    SectionKind,
    index_header,
    pack_sections,
    select_fields,
)
from mailserver.mime.structure import Part
from tests.mailgen import SORTS, message
from tests.mime.values import crlf

WHOLE, HEADER, TEXT, MIME = SectionKind

# The "complex message" of RFC 9051 §6.4.5.1
COMPLEX = crlf("""\
Content-Type: multipart/mixed; boundary=a

--a
Content-Type: text/plain

1
--a
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

Mg==
--a
Content-Type: message/rfc822

Subject: 3
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

3.1
--b
Content-Type: application/octet-stream

3.2
--b--

--a
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: image/gif

4.1
--c
Content-Type: message/rfc822

Subject: 4.2
Content-Type: multipart/mixed; boundary=d

--d
Content-Type: text/plain

4.2.1
--d
Content-Type: multipart/alternative; boundary=e

--e
Content-Type: text/plain

4.2.2.1
--e
Content-Type: text/richtext
Content-Transfer-Encoding: quoted-printable

4.2.2.2
--e--
--d--
--c--
--a--
""")


def section(mail: bytes, path: str, kind: SectionKind = WHOLE) -> bytes | None:
    index = SectionIndex.unpack(describe(mail).sections)
    found = index.find(tuple(int(each) for each in path.split(".") if each), kind)
    return None if found is None else mail[slice(*found)]


@pytest.mark.parametrize("path", ["1", "3.1", "3.2", "4.1", "4.2.1", "4.2.2.1", "4.2.2.2"])
def test_the_parts_of_the_rfc(path: str) -> None:
    assert section(COMPLEX, path) == path.encode()


def test_the_other_sections_of_the_rfc() -> None:
    header, _blank, text = COMPLEX.partition(b"\r\n\r\n")
    assert section(COMPLEX, "", HEADER) == header + b"\r\n\r\n"
    assert section(COMPLEX, "", TEXT) == text
    assert section(COMPLEX, "2") == b"Mg=="
    assert section(COMPLEX, "3", HEADER) == (
        b"Subject: 3\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    )
    three = section(COMPLEX, "3", TEXT)
    assert three is not None and three.startswith(b"--b\r\n") and three.endswith(b"--b--\r\n")
    assert section(COMPLEX, "3", MIME) == b"Content-Type: message/rfc822\r\n\r\n"
    assert section(COMPLEX, "4.1", MIME) == b"Content-Type: image/gif\r\n\r\n"
    assert section(COMPLEX, "4.2.2", MIME) == (
        b"Content-Type: multipart/alternative; boundary=e\r\n\r\n"
    )
    assert section(COMPLEX, "4.2", HEADER) == (
        b"Subject: 4.2\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("5", WHOLE), ("1.1", WHOLE), ("3.3", WHOLE), ("4.2.2.3", WHOLE), ("0", WHOLE),
        ("", MIME), ("1", HEADER), ("1", TEXT), ("4", HEADER), ("4", TEXT), ("3.1", HEADER),
        ("4294967295", WHOLE), ("1.1.1.1", WHOLE), ("5", MIME),
    ],
)  # fmt: skip
def test_sections_that_are_not_there(path: str, kind: SectionKind) -> None:
    assert section(COMPLEX, path, kind) is None


def test_a_message_that_is_not_multipart_has_part_1() -> None:
    mail = crlf("Subject: x\n\nbody\n")
    assert section(mail, "1") == b"body\r\n"
    assert section(mail, "1", MIME) == b"Subject: x\r\n\r\n"
    assert section(mail, "1", HEADER) is None
    assert section(mail, "2") is None
    assert section(mail, "1.1") is None


def test_a_message_that_is_a_message() -> None:
    inner = crlf("Subject: inner\n\nbody\n")
    mail = crlf("Content-Type: message/rfc822\n\n") + inner
    assert section(mail, "1") == inner
    assert section(mail, "1", HEADER) == b"Subject: inner\r\n\r\n"
    assert section(mail, "1", TEXT) == b"body\r\n"
    assert section(mail, "1.1") == b"body\r\n"
    assert section(mail, "1.1", MIME) == b"Subject: inner\r\n\r\n"
    assert section(mail, "1.1.1") is None
    assert section(mail, "1.2") is None


def test_messages_in_messages() -> None:
    mail = b"Content-Type: message/rfc822\r\n\r\n" * 3 + b"Subject: x\r\n\r\nbody"
    assert section(mail, "1.1.1", HEADER) == b"Subject: x\r\n\r\n"
    assert section(mail, "1.1.1.1") == b"body"
    assert section(mail, "1.1.1.1.1") is None


def test_encodings() -> None:
    index = SectionIndex.unpack(describe(COMPLEX).sections)
    assert index.encoding(()) is Encoding.IDENTITY
    assert index.encoding((1,)) is Encoding.IDENTITY
    assert index.encoding((2,)) is Encoding.BASE64
    assert index.encoding((3,)) is Encoding.IDENTITY
    assert index.encoding((4, 2, 2, 2)) is Encoding.QUOTED_PRINTABLE
    assert index.encoding((9,)) is None
    mail = crlf("Content-Transfer-Encoding: x-uue\n\nbody")
    assert SectionIndex.unpack(describe(mail).sections).encoding((1,)) is Encoding.UNKNOWN


@pytest.mark.parametrize("sort", SORTS)
def test_the_parts_of_a_multipart_tile_it(sort: str) -> None:
    """Between the header and body of one part and the next stand only delimiter lines."""
    mail = message(2, sort)
    index = SectionIndex.unpack(describe(mail).sections)
    for path in index.paths():
        whole, mime = index.find(path, WHOLE), index.find(path, MIME)
        following = index.find((*path[:-1], path[-1] + 1), MIME)
        assert whole is not None and mime is not None
        if following is not None:
            between = mail[whole[1] : following[0]]
            assert between.startswith(b"\r\n--") and between.count(b"\n") == 2


def test_more_than_4_gib_is_refused() -> None:
    with pytest.raises(MailError) as refused:
        pack_sections([Part(0, 10, MAX_MESSAGE + 1, -1)])
    assert refused.value.kind is ErrorKind.TOO_BIG


# --- header fields ------------------------------------------------------------------

HEAD = crlf("""\
Received: one
Subject: a
  folded
no field
RECEIVED: two
X: y

""")


@pytest.mark.parametrize(
    ("names", "negate", "selected"),
    [
        ([b"subject"], False, b"Subject: a\r\n  folded\r\n\r\n"),
        ([b"received"], False, b"Received: one\r\nRECEIVED: two\r\n\r\n"),
        ([b"x", b"received"], False, b"Received: one\r\nRECEIVED: two\r\nX: y\r\n\r\n"),
        ([b"none"], False, b"\r\n"),
        ([], False, b"\r\n"),
        ([], True, HEAD),
        ([b"received"], True, b"Subject: a\r\n  folded\r\nno field\r\nX: y\r\n\r\n"),
        ([b"receive", b"ubject"], False, b"\r\n"),
    ],
)
def test_fields_are_selected_by_name(names: list[bytes], negate: bool, selected: bytes) -> None:
    mail = HEAD + b"Subject: this is body"
    index = describe(mail).header_index
    assert select_fields(HEAD, index, frozenset(names), negate) == selected
    assert select_fields(HEAD, index_header(HEAD), frozenset(names), negate) == selected


def test_a_header_without_its_empty_line_gets_none() -> None:
    header = b"A: b\r\nC: d"
    assert select_fields(header, index_header(header), frozenset([b"c"]), False) == b"C: d"
    assert select_fields(b"", index_header(b""), frozenset([b"c"]), True) == b""
    assert select_fields(b"\r\n", index_header(b"\r\n"), frozenset([b"c"]), False) == b"\r\n"


@given(
    st.lists(st.sampled_from([b"A: b\r\n", b"b: c\r\n d\r\n", b"junk\r\n", b" x\r\n", b"A :\r\n"])),
    st.sampled_from([b"", b"\r\n"]),
    st.sets(st.sampled_from([b"a", b"b", b"junk", b"", b" "])).map(frozenset),
)
def test_a_selection_and_its_negation_share_the_header(
    lines: list[bytes], end: bytes, names: frozenset[bytes]
) -> None:
    header = b"".join(lines) + end
    index = index_header(header)
    names -= {b"", b" "}  # no field name, so no client can ask for it
    one = select_fields(header, index, names, False)
    other = select_fields(header, index, names, True)
    assert sorted((one + other).split(b"\r\n")) == sorted((header + end).split(b"\r\n"))


def test_fields_behind_the_limits_are_in_every_negation_only() -> None:
    header = b"A: b\r\n" * 10_001 + b"Z: z\r\n\r\n"
    index = index_header(header)
    assert select_fields(header, index, frozenset([b"z"]), False) == b"\r\n"
    assert select_fields(header, index, frozenset([b"x"]), True) == header
    long = b"A: " + b"b" * (2 << 20) + b"\r\nZ: z\r\n\r\n"
    assert select_fields(long, index_header(long), frozenset([b"a"]), False) == b"\r\n"
    assert select_fields(long, index_header(long), frozenset(), True) == long
