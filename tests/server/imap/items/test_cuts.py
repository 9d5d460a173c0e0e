"""Sections of messages as FETCH answers them, and the decoding of large parts."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.decode import Encoding, decode_transfer
from mailserver.mime.describe import describe
from mailserver.model.message import Column
from mailserver.server.imap.items import cuts
from mailserver.server.imap.items.cuts import PIECE, WHOLE, Cut, decoded_pieces
from mailserver.server.imap.items.fetch import Plan, Slice
from mailserver.store.content import MemoryContent
from mailserver.wire.imap.grammar.fetch import parse_fetch
from mailserver.wire.imap.scanner import Scanner


async def at_once() -> None:
    """A turn of the reactor that has nothing else to do."""


def result(answer: Cut | Coroutine[Any, Any, Any]) -> Any:
    if isinstance(answer, Cut):
        return answer
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def answered(octets: bytes, item: str) -> bytes:
    """What FETCH answers for one item of a message, without `* 1 FETCH (` and the end."""
    description = describe(octets)
    items = parse_fetch(Scanner(b" 1 " + item.encode())).items
    plan = Plan.of(items, by_uid=False, may_mark=False)
    stored = {
        Column.HEADER: octets[: description.header_size],
        Column.HEADER_INDEX: description.header_index,
        Column.SECTIONS: description.sections,
    }
    part = Slice([7], [b"()"], frozenset(), {c: [stored[c]] for c in plan.columns})
    (line,) = plan.lines([1], part)
    for cutter in plan.cutters:
        cut = result(cutter(MemoryContent(octets), description.sections, at_once))
        line += cut.lead + b"".join(cut.pieces)
    return line.removeprefix(b"* 1 FETCH (").removesuffix(b")\r\n")


def literal(name: str, octets: bytes) -> bytes:
    return b"%b {%d}\r\n%b" % (name.encode(), len(octets), octets)


def joined(boundary: str, *parts: bytes) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(b"%b\r\n%b\r\n" % (line, part) for part in parts) + line + b"--\r\n"


# The example of RFC 3501 §6.4.5, spelled out.
GIF_HEADER = b"Content-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\n"
GIF = base64.b64encode(b"GIF89a\0\1\2")
PLAIN_HEADER = b"Content-Type: text/plain\r\n\r\n"
OCTETS_HEADER = b"Content-Type: application/octet-stream\r\n\r\n"
RICH_HEADER = b"Content-Type: text/richtext\r\n\r\n"
MESSAGE_HEADER = b"Content-Type: message/rfc822\r\n\r\n"
INNER_HEADER = (
    b"Subject: inner\r\nFrom: a@example.com\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n"
)
INNER_TEXT = joined("in", PLAIN_HEADER + b"three one", OCTETS_HEADER + b"three two")
DEEP_HEADER = b"Subject: deep\r\nContent-Type: multipart/mixed; boundary=de\r\n\r\n"
ALTERNATIVE_HEADER = b"Content-Type: multipart/alternative; boundary=al\r\n\r\n"
ALTERNATIVE = joined("al", PLAIN_HEADER + b"plain", RICH_HEADER + b"rich").removesuffix(b"\r\n")
DEEP_TEXT = joined("de", PLAIN_HEADER + b"four two one", ALTERNATIVE_HEADER + ALTERNATIVE)
FOUR = joined("f", GIF_HEADER + GIF, MESSAGE_HEADER + DEEP_HEADER + DEEP_TEXT)
HEADER = (
    b"From: a@example.com\r\nSubject: outer\r\nX-Other: folded\r\n here\r\n"
    b"Content-Type: multipart/mixed; boundary=out\r\n\r\n"
)
TEXT = joined(
    "out",
    PLAIN_HEADER + b"one",
    OCTETS_HEADER + b"two",
    MESSAGE_HEADER + INNER_HEADER + INNER_TEXT,
    b"Content-Type: multipart/mixed; boundary=f\r\n\r\n" + FOUR,
)

EXAMPLE = [
    ("BODY[]", HEADER + TEXT),
    ("RFC822", HEADER + TEXT),
    ("BODY[HEADER]", HEADER),
    ("RFC822.HEADER", HEADER),
    ("BODY[TEXT]", TEXT),
    ("RFC822.TEXT", TEXT),
    ("BODY[1]", b"one"),
    ("BODY[1.MIME]", PLAIN_HEADER),
    ("BODY[2]", b"two"),
    ("BODY[3]", INNER_HEADER + INNER_TEXT),
    ("BODY[3.MIME]", MESSAGE_HEADER),
    ("BODY[3.HEADER]", INNER_HEADER),
    ("BODY[3.TEXT]", INNER_TEXT),
    ("BODY[3.1]", b"three one"),
    ("BODY[3.1.MIME]", PLAIN_HEADER),
    ("BODY[3.2]", b"three two"),
    ("BODY[4]", FOUR),
    ("BODY[4.1]", GIF),
    ("BODY[4.1.MIME]", GIF_HEADER),
    ("BODY[4.2.HEADER]", DEEP_HEADER),
    ("BODY[4.2.TEXT]", DEEP_TEXT),
    ("BODY[4.2.1]", b"four two one"),
    ("BODY[4.2.2]", ALTERNATIVE),
    ("BODY[4.2.2.1]", b"plain"),
    ("BODY[4.2.2.2]", b"rich"),
    ("BODY[HEADER.FIELDS (SUBJECT From)]", b"From: a@example.com\r\nSubject: outer\r\n\r\n"),
    (
        "BODY[HEADER.FIELDS.NOT (Subject Content-Type)]",
        b"From: a@example.com\r\nX-Other: folded\r\n here\r\n\r\n",
    ),
    ("BODY[HEADER.FIELDS (X-None)]", b"\r\n"),
    ("BODY[3.HEADER.FIELDS (Subject)]", b"Subject: inner\r\n\r\n"),
    ("BODY[3.HEADER.FIELDS.NOT (Subject Content-Type)]", b"From: a@example.com\r\n\r\n"),
]


@pytest.mark.parametrize(("item", "octets"), EXAMPLE, ids=[item for item, _ in EXAMPLE])
def test_the_example_of_the_rfc(item: str, octets: bytes) -> None:
    """T29, T28: each section, whole, peeked at, and by ranges."""
    message = HEADER + TEXT
    assert answered(message, item) == literal(item, octets)
    if not item.startswith("BODY"):
        return
    assert answered(message, item.replace("BODY", "BODY.PEEK")) == literal(item, octets)
    assert answered(message, item + "<1.3>") == (
        literal(item + "<1>", octets[1:4]) if octets[1:4] else f'{item}<1> ""'.encode()
    )
    beyond = len(octets)
    assert answered(message, f"{item}<{beyond}.9>") == f'{item}<{beyond}> ""'.encode()
    assert answered(message, f"{item}<0.{beyond + 9}>") == literal(item + "<0>", octets)


@pytest.mark.parametrize(
    "item",
    ["BODY[5]", "BODY[1.1]", "BODY[1.HEADER]", "BODY[4.HEADER]", "BODY[4.1.TEXT]", "BODY[9.MIME]",
     "BODY[2.HEADER.FIELDS (Subject)]", "BINARY[5]", "BINARY[3.3]"],
)  # fmt: skip
def test_what_is_not_there_is_nil(item: str) -> None:
    assert answered(HEADER + TEXT, item) == item.encode() + b" NIL"


def test_a_message_that_is_no_multipart_has_one_part() -> None:
    """T29: `1` is its body."""
    message = b"Subject: x\r\n\r\nbody\r\n"
    assert answered(message, "BODY[1]") == literal("BODY[1]", b"body\r\n")
    assert answered(message, "BODY[1.MIME]") == literal("BODY[1.MIME]", b"Subject: x\r\n\r\n")
    assert answered(message, "BODY[2]") == b"BODY[2] NIL"


def test_a_header_without_body_has_no_empty_line() -> None:
    """RFC 3501 §6.4.5: a message of a header alone."""
    message = b"Subject: x\r\nFrom: a@example.com\r\n"
    assert answered(message, "BODY[HEADER]") == literal("BODY[HEADER]", message)
    assert answered(message, "BODY[HEADER.FIELDS (subject)]") == literal(
        "BODY[HEADER.FIELDS (subject)]", b"Subject: x\r\n"
    )
    assert answered(message, "BODY[TEXT]") == b'BODY[TEXT] ""'


def test_nul_is_sent_as_0x80_so_that_sizes_stay() -> None:
    """T31: outside literal8; BINARY gives the original."""
    message = b"Subject: a\0b\r\n\r\nc\0d\r\n"
    cleaned = message.replace(b"\0", b"\x80")
    assert answered(message, "BODY[]") == literal("BODY[]", cleaned)
    assert answered(message, "RFC822") == literal("RFC822", cleaned)
    assert answered(message, "BODY[HEADER]") == literal("BODY[HEADER]", cleaned[:16])
    assert answered(message, "BODY[HEADER.FIELDS (Subject)]") == literal(
        "BODY[HEADER.FIELDS (Subject)]", cleaned[:16]
    )
    assert answered(message, "BINARY[1]") == b"BINARY[1] ~{5}\r\nc\0d\r\n"
    assert answered(message, "BINARY[]") == b"BINARY[] ~{%d}\r\n%b" % (len(message), message)


def test_field_names_may_hold_what_a_form_would_take_amiss() -> None:
    item = 'BODY[HEADER.FIELDS ("X%d" "A\\"B")]'
    assert answered(b"X%d: 1\r\n\r\n", item) == literal(item, b"X%d: 1\r\n\r\n")


def test_binary_is_decoded() -> None:
    """RFC 3516 §4.3: a string where there is no NUL, a literal8 where there is."""
    message = HEADER + TEXT
    assert answered(message, "BINARY[4.1]") == b"BINARY[4.1] ~{9}\r\nGIF89a\0\1\2"
    assert answered(message, "BINARY.PEEK[4.1]<1.3>") == b"BINARY[4.1]<1> {3}\r\nIF8"
    assert answered(message, "BINARY[4.1]<9.1>") == b'BINARY[4.1]<9> ""'
    assert answered(message, "BINARY.SIZE[4.1]") == b"BINARY.SIZE[4.1] 9"
    assert answered(message, "BINARY.SIZE[5]") == b"BINARY.SIZE[5] 0"
    assert answered(message, "BINARY[4]") == literal("BINARY[4]", FOUR)
    assert answered(message, "BINARY[1]") == literal("BINARY[1]", b"one")


@pytest.mark.parametrize("encoding", ["x-uuencode", "base64"])
@pytest.mark.parametrize("size", [10, 2 * WHOLE])
def test_what_cannot_be_decoded_is_refused(encoding: str, size: int) -> None:
    """RFC 3516 §4.3: UNKNOWN-CTE, for small parts and for those that are sent in pieces."""
    header = b"Content-Transfer-Encoding: %b\r\n\r\n" % encoding.encode()
    for item in ("BINARY[1]", "BINARY.SIZE[1]"):
        with pytest.raises(MailError) as caught:
            answered(header + b"*" * size, item)
        assert caught.value.kind is ErrorKind.UNKNOWN_CTE


@pytest.mark.parametrize("name", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("nul", [b"", b"\0"])
def test_large_parts_are_decoded_in_pieces(name: str, nul: bytes) -> None:
    """T52: the answer is the same, but no piece is large."""
    plain = b"".join(b"line %d, caf\xc3\xa9 = 100%%\r\n" % n for n in range(80_000)) + nul
    encoded = {
        "base64": base64.encodebytes(plain).replace(b"\n", b"\r\n"),
        "quoted-printable": quopri.encodestring(plain),
        "8bit": plain,
    }[name]
    octets = b"Content-Transfer-Encoding: %b\r\n\r\n%b" % (name.encode(), encoded)
    sections = describe(octets).sections

    def cut(item: str) -> cuts.Cut:
        items = parse_fetch(Scanner(b" 1 " + item.encode())).items
        (cutter,) = Plan.of(items, by_uid=False, may_mark=False).cutters
        made: cuts.Cut = result(cutter(MemoryContent(octets), sections, at_once))
        return made

    whole = cut("BINARY[1]")
    pieces = list(whole.pieces)
    assert b"".join(pieces) == plain
    assert max(map(len, pieces)) <= PIECE
    sign = b"~" if nul else b""
    assert whole.lead == b"BINARY[1] %b{%d}\r\n" % (sign, len(plain))
    assert cut("BINARY.SIZE[1]").lead == b"BINARY.SIZE[1] %d" % len(plain)
    first = 700_001
    ranged = cut(f"BINARY[1]<{first}.900000>")
    assert ranged.lead == b"BINARY[1]<%d> {900000}\r\n" % first
    assert b"".join(ranged.pieces) == plain[first : first + 900_000]


@given(
    plain=st.binary(max_size=200),
    encoding=st.sampled_from([Encoding.BASE64, Encoding.QUOTED_PRINTABLE, Encoding.IDENTITY]),
    sizes=st.lists(st.integers(1, 20), max_size=40),
    width=st.integers(1, 30),
)
def test_pieces_decode_to_the_same(
    plain: bytes, encoding: Encoding, sizes: list[int], width: int
) -> None:
    encoded = plain
    if encoding is Encoding.BASE64:
        flat = base64.b64encode(plain)
        encoded = b"\r\n".join(flat[at : at + width] for at in range(0, len(flat), width))
    elif encoding is Encoding.QUOTED_PRINTABLE:
        encoded = quopri.encodestring(plain).replace(b"\n", b"\r\n")
    pieces, at = [], 0
    for size in sizes:
        pieces.append(encoded[at : at + size])
        at += size
    pieces.append(encoded[at:])
    decoded = b"".join(decoded_pieces(pieces, encoding))
    assert decoded == decode_transfer(encoded, encoding)


@pytest.mark.parametrize(
    "pieces", [[b"QUJD", b"*UJD"], [b"QUI=", b"QUJD"], [b"QUJD", b"Q"]], ids=repr
)
def test_damaged_base64_is_refused_wherever_it_is_cut(pieces: list[bytes]) -> None:
    with pytest.raises(MailError) as caught:
        list(decoded_pieces(pieces, Encoding.BASE64))
    assert caught.value.kind is ErrorKind.UNKNOWN_CTE


def test_a_line_without_end_is_not_held_for_ever() -> None:
    """T52: what cannot be decoded piece by piece is refused before it fills the memory."""
    endless = (b" " * PIECE for _ in range(10**6))
    with pytest.raises(MailError) as caught:
        list(decoded_pieces(endless, Encoding.QUOTED_PRINTABLE))
    assert caught.value.kind is ErrorKind.UNKNOWN_CTE


def test_a_damaged_file_is_noticed_before_anything_is_announced() -> None:
    class Damaged(MemoryContent):
        def read(self, start: int, end: int) -> bytes:
            raise MailError(ErrorKind.CORRUPT, "gone")

    (cutter,) = Plan.of(
        parse_fetch(Scanner(b" 1 BODY[]")).items, by_uid=False, may_mark=False
    ).cutters
    with pytest.raises(MailError):
        result(cutter(Damaged(b"x" * 10), b"", at_once))
