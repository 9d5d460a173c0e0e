"""Responses: written as the RFCs say, read from any server, nothing slips between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.model.flags import Flags, System
from mailserver.model.message import InternalDate
from mailserver.model.numset import STAR, NumSet, SequenceSet
from mailserver.wire.imap import responses as r
from mailserver.wire.imap import writer
from mailserver.wire.imap.commands import BinarySection, BodySection, SectionText, StatusAtt
from mailserver.wire.imap.faults import SyntaxFault
from mailserver.wire.imap.reader import Limits
from mailserver.wire.imap.response_parser import (
    MAX_BODY_NESTING,
    ResponseReader,
    parse_response,
)
from tests.timing import assert_linear
from tests.wire.imap.response_cases import (
    PLAIN,
    RESPONSES,
    TOLERATED,
    fetch,
    structure,
)
from tests.wire.splits import packets


def read(chunks: list[bytes]) -> list[r.Response]:
    reader = ResponseReader()
    out: list[r.Response] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (response := reader.next_response()) is not None:
            out.append(response)
    assert not reader.has_unread
    return out


@pytest.mark.parametrize(("octets", "response"), [*RESPONSES, *TOLERATED])
def test_octets_are_read_in_any_packets(octets: bytes, response: r.Response) -> None:
    for chunks in packets(octets + b"\r\n* 7 EXISTS\r\n"):
        assert read(chunks) == [response, r.Exists(7)]


@pytest.mark.parametrize(("octets", "response"), RESPONSES)
def test_values_are_written(octets: bytes, response: r.Response) -> None:
    assert writer.write(response) == octets + b"\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"*",
        b"* ",
        b"a",
        b"a FETCH",
        b"a SEARCH 1",
        b"* OK [ALERT x",
        b"* OK [",
        b"* 99999999999999999999 EXISTS",
        b"* 1 FETCH",
        b"* 1 FETCH (UID 0)",
        b"* 1 FETCH (UID 1",
        b"* 1 FETCH (UID 1) x",
        b"* 1 FETCH (FLAGS \\Seen)",
        b"* 1 FETCH (X-A (1 2)",
        b"* 1 FETCH (BODY[] {5}\r\nab)",
        b"* 1 FETCH (BODY (NIL))",
        b"* 1 FETCH (BODYSTRUCTURE ())",
        b"* 1 FETCH (ENVELOPE (NIL))",
        b"* 1 FETCH (ENVELOPE (NIL NIL x NIL NIL NIL NIL NIL NIL NIL))",
        b'* 1 FETCH (ENVELOPE (NIL NIL "x" NIL NIL NIL NIL NIL NIL NIL))',
        b'* 1 FETCH (BODY ("TEXT" "PLAIN" "x" NIL NIL "7BIT" 1 1))',
        b'* 1 FETCH (INTERNALDATE "x")',
        b'* LIST () "/"',
        b"* LIST x / y",
        b"* STATUS x (MESSAGES)",
        b'* STATUS x (MESSAGES "a")',
        b"* SEARCH x",
        b"* ESEARCH (FOO)",
        b'* ESEARCH (TAG "a"',
        b"* FLAGS",
        b"* NAMESPACE NIL NIL",
        b'* NAMESPACE "a" NIL NIL',
        b"* ID (a)",
        b"* CAPABILITY (",
        b"* \xff",
        b"* 1 FETCH (\xff)",
    ],
)
def test_a_broken_response_is_a_fault(octets: bytes) -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse_response(octets)
    assert str(caught.value).isascii()


def test_parts_nest_so_deep_and_no_deeper() -> None:
    """S3: a hostile server cannot exhaust the stack."""
    deep = PLAIN
    value: r.BodyStructure = deep
    for _ in range(MAX_BODY_NESTING - 1):
        value = r.MultiPart((value,), b"MIXED")
    octets = writer.body_structure(value)
    assert parse_response(b"* 1 FETCH (BODY %b)" % octets) == structure(value)
    for depth in (MAX_BODY_NESTING, 10_000):
        with pytest.raises(SyntaxFault, match="nest deeper"):
            parse_response(b"* 1 FETCH (BODY " + b"(" * depth + octets)


@pytest.mark.parametrize(
    "octets", [b"x" * 200, b"* 1 FETCH (BODY[] {101}\r\n", b"* 1 X" + b" {1}\r\nx" * 6]
)
def test_responses_are_bounded(octets: bytes) -> None:
    reader = ResponseReader(Limits(line=100, literal=100, command=300, literals=5))
    reader.feed(octets)
    with pytest.raises(SyntaxFault, match="over the limits"):
        reader.next_response()


def test_unread_octets_are_seen_before_tls() -> None:
    """S1: also those in the middle of a literal."""
    reader = ResponseReader()
    reader.feed(b"a OK begin TLS\r\n")
    assert reader.next_response() == r.Status(r.Condition.OK, "begin TLS", tag=b"a")
    assert not reader.has_unread
    reader.feed(b"* 1 FETCH (BODY[] {3}\r\n")
    assert reader.next_response() is None
    assert reader.has_unread


@pytest.mark.parametrize(
    "part",
    [b' ("a" "b" "c")', b" (x {1}\r\ny)", b" ((", b" \\Seen", b' "\\\\"', b" NIL"],
)
def test_linear_time(part: bytes) -> None:
    """S5"""

    def run(count: int) -> None:
        for name in (b"FLAGS (", b"X-A (", b"ENVELOPE (NIL NIL (", b"BODY (("):
            try:
                parse_response(b"* 1 FETCH (" + name + part * count)
            except SyntaxFault:
                pass

    assert_linear(run, 4_000)


# -- pieces of the writer ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "written"),
    [
        (b"", b'""'),
        (b"abc", b'"abc"'),
        (b'a "b" \\', b'"a \\"b\\" \\\\"'),
        (b"a\tb\x7f", b'"a\tb\x7f"'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"\xc3\xa9", b"{2}\r\n\xc3\xa9"),
        (b"x" * writer.MAX_QUOTED, b'"' + b"x" * writer.MAX_QUOTED + b'"'),
        (b"x" * 1001, b"{1001}\r\n" + b"x" * 1001),
    ],
)
def test_strings(octets: bytes, written: bytes) -> None:
    """T20, W13"""
    assert writer.quoted_or_literal(octets) == written
    assert writer.nstring(octets) == written


def test_strings_with_nul_are_refused() -> None:
    """W13"""
    for write in (writer.quoted_or_literal, writer.nstring, writer.astring, writer.literal):
        with pytest.raises(ValueError, match="NUL"):
            write(b"a\0b")
    assert writer.literal8(b"a\0b") == b"~{3}\r\na\0b"
    assert writer.nstring(None) == b"NIL"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("INBOX", b"INBOX"),
        ("", b'""'),
        ("nil", b'"nil"'),
        ("a b", b'"a b"'),
        ("a*", b'"a*"'),
        ("a]", b"a]"),
        ("R&D/é", b"R&-D/&AOk-"),
        ('"', b'"\\""'),
        ("a\r\nb", b"a&AA0ACg-b"),
    ],
)
def test_mailbox_names(name: str, written: bytes) -> None:
    """T20, T21"""
    assert writer.astring_mailbox(name) == written


@pytest.mark.parametrize(
    ("when", "written"),
    [
        (InternalDate(0), b'" 1-Jan-1970 00:00:00 +0000"'),
        (InternalDate(-1, 60), b'" 1-Jan-1970 00:59:59 +0100"'),
        (InternalDate(951782400, -480), b'"28-Feb-2000 16:00:00 -0800"'),
        (InternalDate(0, -1439), b'"31-Dec-1969 00:01:00 -2359"'),
        (InternalDate(-62135596800), b'" 1-Jan-0001 00:00:00 +0000"'),
    ],
)
def test_dates(when: InternalDate, written: bytes) -> None:
    """T32: 26 characters between the quotes, in the zone that was given."""
    assert writer.internal_date(when) == written
    assert len(written) == 28


def test_flags_and_sets() -> None:
    flags = Flags(System.SEEN | System.DRAFT, ("$x", "y"))
    assert writer.flag_list(flags) == b"(\\Seen \\Draft $x y)"
    assert writer.flag_list(Flags(), recent=True) == b"(\\Recent)"
    assert writer.number_set(NumSet.of([1, 2, 3, 7])) == b"1:3,7"
    assert writer.number_set(SequenceSet(((7, STAR), (STAR, STAR), (3, 1)))) == b"7:*,*,3:1"
    with pytest.raises(ValueError, match="empty"):
        writer.number_set(NumSet())
    for name in ("a b", "", "\\", "\\a b", "a)", "é", "a\r\n"):
        with pytest.raises(ValueError, match=r"."):
            writer.flag_name(name)


@pytest.mark.parametrize(
    ("section", "label"),
    [
        (BodySection(), b"BODY[]"),
        (BodySection(peek=True, partial=(5, 10)), b"BODY[]<5>"),  # T28
        (
            BodySection((1, 2), SectionText.HEADER_FIELDS_NOT, ("a", "b")),
            b"BODY[1.2.HEADER.FIELDS.NOT (a b)]",
        ),
        (BodySection(text=SectionText.TEXT, old_name=b"RFC822.TEXT"), b"RFC822.TEXT"),
        (BinarySection((1,), (0, 9), True), b"BINARY[1]<0>"),
    ],
)  # fmt: skip
def test_labels_of_sections(section: BodySection | BinarySection, label: bytes) -> None:
    assert writer.section_label(section) == label


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", b"-"),
        (" \r\n ", b"??"),
        ("a\r\nb NO injected", b"a??b NO injected"),
        ("[ALERT] not a code", b"(ALERT] not a code"),
        ("looks like {5}", b"looks like {5}."),
        ("Entwürfe", b"Entw?rfe"),
        ("a\0b", b"a?b"),
    ],
)
def test_text_for_people_is_never_empty_and_never_protocol(text: str, written: bytes) -> None:
    """T19"""
    assert writer.response_text(text) == written
    octets = writer.status(r.Condition.OK, text, r.ALERT, b"a")
    assert octets == b"a OK [ALERT] " + written + b"\r\n"
    [response] = read([octets])
    assert isinstance(response, r.Status)
    assert response.code == r.ALERT


def test_a_continuation_has_its_space() -> None:
    """T18"""
    assert writer.continuation() == b"+ \r\n"
    assert writer.continuation(b"abc") == b"+ abc\r\n"


@pytest.mark.parametrize(
    "response",
    [
        r.Continuation(b"a\r\nb"),
        r.Status(r.Condition.OK, "x", r.Code(b"A B")),
        r.Status(r.Condition.OK, "x", r.Code(b"X", b"]")),
        r.Status(r.Condition.OK, "x", r.Code(b"X", b"a\r\nb")),
        r.Status(r.Condition.OK, "x", r.AppendUid(1, SequenceSet(()))),
        r.Capability((b"a b",)),
        r.MailboxList(("\\a b",), "/", "x"),
        r.FlagsList(("a\r\nb",)),
        r.Unknown(b"X", b"X"),
        fetch(1, r.SectionItem(BodySection(), b"x"), r.FlagsItem(("(",))),
        fetch(1, r.EnvelopeItem(r.Envelope(subject=b"a\0b"))),
        fetch(1, r.SectionItem(BodySection(), b"a\0b")),  # a literal8 nobody asked for
    ],
)
def test_nothing_breaks_out_of_its_place(response: r.Response) -> None:
    """W13"""
    with pytest.raises(ValueError, match=r"."):
        writer.write(response)


# -- round trips on generated values -----------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
STRINGS = st.binary(max_size=20).map(lambda octets: octets.replace(b"\0", b""))
NSTRINGS = st.none() | STRINGS
NUMBERS = st.integers(1, 2**32 - 1)
SETS = st.lists(NUMBERS, min_size=1, max_size=6).map(lambda n: SequenceSet(NumSet.of(n).ranges))
NAMES = st.lists(st.sampled_from(["\\Seen", "\\Xy", "$a", "b-c", "NIL"]), max_size=4).map(tuple)
ADDRESSES = st.lists(st.builds(r.Address, NSTRINGS, NSTRINGS, NSTRINGS, NSTRINGS), max_size=3).map(
    tuple
)
ENVELOPES = st.builds(
    r.Envelope,
    NSTRINGS,
    NSTRINGS,
    ADDRESSES,
    ADDRESSES,
    ADDRESSES,
    ADDRESSES,
    ADDRESSES,
    ADDRESSES,
    NSTRINGS,
    NSTRINGS,
)
PARAMETERS = st.lists(st.tuples(STRINGS, STRINGS), max_size=2).map(tuple)
EXTENSIONS = st.builds(
    r.Extension,
    NSTRINGS,
    st.none() | st.builds(r.Disposition, STRINGS, PARAMETERS),
    st.lists(STRINGS, max_size=2).map(tuple),
    NSTRINGS,
)
SINGLE = st.builds(
    r.SinglePart,
    st.sampled_from([b"image", b"Application"]),
    STRINGS,
    PARAMETERS,
    NSTRINGS,
    NSTRINGS,
    STRINGS,
    st.integers(0, 2**63 - 1),
    extension=st.none() | EXTENSIONS,
)
TEXT = st.builds(
    r.SinglePart,
    st.sampled_from([b"text", b"TEXT"]),
    STRINGS,
    PARAMETERS,
    NSTRINGS,
    NSTRINGS,
    STRINGS,
    st.integers(0, 2**63 - 1),
    lines=st.integers(0, 2**32),
    extension=st.none() | EXTENSIONS,
)


def multi_part(
    parts: list[r.BodyStructure], subtype: bytes, ext: r.Extension | None
) -> r.MultiPart:
    if ext is not None:
        ext = r.Extension(None, ext.disposition, ext.languages, ext.location)
    return r.MultiPart(tuple(parts), subtype, extension=ext)


STRUCTURES = st.recursive(
    SINGLE | TEXT,
    lambda inner: st.one_of(
        st.builds(
            multi_part, st.lists(inner, min_size=1, max_size=3), STRINGS, st.none() | EXTENSIONS
        ),
        st.builds(
            r.SinglePart,
            st.just(b"MESSAGE"),
            st.sampled_from([b"RFC822", b"global"]),
            PARAMETERS,
            NSTRINGS,
            NSTRINGS,
            STRINGS,
            st.integers(0, 2**32),
            st.integers(0, 2**32),
            ENVELOPES,
            inner,
        ),
    ),
    max_leaves=5,
)
GENERATED: st.SearchStrategy[r.Response] = st.one_of(
    st.builds(r.MailboxList, NAMES, st.none() | st.sampled_from('/."\\'), TEXTS),
    st.builds(
        r.MailboxStatus,
        TEXTS,
        st.lists(st.tuples(st.sampled_from(StatusAtt), st.integers(0, 2**63 - 1)), max_size=4).map(
            tuple
        ),
    ),
    st.builds(r.SearchResult, st.lists(NUMBERS, max_size=5).map(tuple)),
    st.builds(
        r.ExtendedSearchResult,
        st.none() | st.just(b"a1"),
        st.booleans(),
        st.none() | NUMBERS,
        st.none() | NUMBERS,
        st.none() | NUMBERS,
        st.none() | SETS,
    ),
    st.builds(r.Id, st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3).map(tuple)),
    st.builds(
        lambda number, items: r.FetchData(number, tuple(items)),
        NUMBERS,
        st.lists(
            st.one_of(
                st.builds(r.FlagsItem, NAMES),
                st.builds(r.UidItem, NUMBERS),
                st.builds(r.SizeItem, st.integers(0, 2**63 - 1)),
                st.builds(r.EnvelopeItem, ENVELOPES),
                st.builds(r.SectionItem, st.just(BodySection((1, 2))), NSTRINGS),
                st.builds(r.SectionItem, st.just(BinarySection(())), st.binary(max_size=20)),
                st.builds(
                    r.InternalDateItem,
                    st.builds(
                        InternalDate,
                        st.integers(-62135500000, 253402200000),
                        st.integers(-1439, 1439),
                    ),
                ),
            ),
            min_size=1,
            max_size=4,
        ),
    ),
    st.builds(structure, STRUCTURES),
)


@settings(max_examples=300, deadline=None)
@given(GENERATED)
def test_round_trip(response: r.Response) -> None:
    octets = writer.write(response)
    assert read([octets]) == [response]
    assert read([octets[at : at + 1] for at in range(len(octets))]) == [response]
