"""Commands: octets to values and back, clear faults, bounded work."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.model import search as s
from mailserver.model.flags import SYSTEM_NAMES, FlagOp, Flags, System
from mailserver.model.message import InternalDate
from mailserver.model.numset import SequenceSet
from mailserver.wire.imap import commands as c
from mailserver.wire.imap.command_writer import write_append_next, write_command
from mailserver.wire.imap.faults import LiteralPending, SyntaxFault, UnknownCharset
from mailserver.wire.imap.grammar import PARSERS
from mailserver.wire.imap.grammar.append import parse_append, parse_append_next
from mailserver.wire.imap.grammar.parameters import Table, parse_parameters
from mailserver.wire.imap.reader import NEED_DATA, CommandReader, Limits, Line, LiteralWanted
from mailserver.wire.imap.scanner import DEFAULT_DIALECT, Dialect, Scanner
from tests.timing import assert_linear, quickest
from tests.wire.imap.command_cases import (
    COMMANDS,
    FAULTS,
    FETCH,
    LIST,
    LIST_BARE,
    SEARCH,
    SEARCH_SHORTHAND,
    seqs,
)
from tests.wire.splits import packets

LIMITS = Limits(line=1 << 20, literal=1 << 20, command=1 << 20, literals=1000)


def parse(octets: bytes, dialect: Dialect = DEFAULT_DIALECT) -> c.Command:
    scanner = Scanner(octets, dialect)
    tag, name = scanner.head()
    assert tag == b"a"
    return PARSERS[name](scanner)


def read(chunks: list[bytes]) -> bytes:
    """The octets of the one command in the chunks."""
    reader = CommandReader(LIMITS)
    lines: list[bytes] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (event := reader.next_event()) is not NEED_DATA:
            if isinstance(event, LiteralWanted):
                assert reader.keep()
            else:
                assert isinstance(event, Line)
                lines.append(event.octets)
    [line] = lines
    return line


@pytest.mark.parametrize(("octets", "command"), [*COMMANDS, *LIST_BARE, *SEARCH_SHORTHAND])
def test_octets_are_read(octets: bytes, command: c.Command) -> None:
    for chunks in packets(b"a " + octets + b"\r\n"):
        line = read(chunks)
        assert line == b"a " + octets
    assert parse(line) == command


@pytest.mark.parametrize("literal_plus", [True, False])
@pytest.mark.parametrize(("octets", "command"), [*COMMANDS, *SEARCH_SHORTHAND])
def test_values_are_written_so_that_they_are_read_alike(
    octets: bytes, command: c.Command, literal_plus: bool
) -> None:
    pieces = write_command(b"a", command, literal_plus=literal_plus)
    assert parse(read(pieces)) == command
    assert all(piece.endswith(b"}\r\n") for piece in pieces[:-1])
    assert len(pieces) == 1 or not literal_plus


@pytest.mark.parametrize(("octets", "text"), FAULTS)
def test_faults_say_what_was_expected_where(octets: bytes, text: str) -> None:
    """T54: unknown arguments are a fault; the tag has been read by then."""
    with pytest.raises(SyntaxFault) as caught:
        parse(b"a " + octets)
    assert str(caught.value) == text
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("octets", "tag", "name"),
    [
        (b"A0001 NOOP", b"A0001", b"NOOP"),
        (b"  A1   uid   fetch 1", b"A1", b"UID FETCH"),
        (b"a.b-c/1]:;<=>?@[^_`|}~!#$&',.- x", b"a.b-c/1]:;<=>?@[^_`|}~!#$&',.-", b"X"),
        (b"uid UID", b"uid", b"UID"),
        (b"a UID ", b"a", b"UID"),
        (b"a UIDX 1", b"a", b"UIDX"),
        (b"a", b"a", b""),
        (b"a ", b"a", b""),
        (b"a (", b"a", b""),
        (b"1 LOGIN a b", b"1", b"LOGIN"),
    ],
)
def test_tag_and_name(octets: bytes, tag: bytes, name: bytes) -> None:
    """T54: lower case, spaces, odd tags."""
    assert Scanner(octets).head() == (tag, name)


@pytest.mark.parametrize(
    "octets", [b"", b" ", b"+ OK", b"* BAD", b"(a", b'"a" NOOP', b"a+b NOOP", b"a\xff NOOP", b"\0"]
)
def test_there_must_be_a_tag_to_answer_to(octets: bytes) -> None:
    with pytest.raises(SyntaxFault, match="expected a tag"):
        Scanner(octets).head()


# -- APPEND ------------------------------------------------------------------------------

DATE = InternalDate(760686745, -480)
APPENDS = [
    # RFC 3501 §6.3.11, RFC 3502 §6.3.11
    (b"INBOX (\\Seen) {310}\r\n", c.AppendMessage(Flags(System.SEEN), None, 310)),
    (b"INBOX {310+}\r\n", c.AppendMessage(Flags(), None, 310, synchronizing=False)),
    (
        b'INBOX (\\Seen) " 7-Feb-1994 21:52:25 -0800" {310}\r\n',
        c.AppendMessage(Flags(System.SEEN), DATE, 310),
    ),
    (
        b'INBOX "7-Feb-1994 21:52:25 -0800" ~{0+}\r\n',
        c.AppendMessage(Flags(), DATE, 0, binary=True, synchronizing=False),
    ),
    (b'{5}\r\nINBOX () "07-Feb-1994 21:52:25 -0800" {9}\r\n', c.AppendMessage(Flags(), DATE, 9)),
    (  # a leap second, in the last year that can be written
        b'INBOX "31-Dec-9999 23:59:60 +2359" {1}\r\n',
        c.AppendMessage(Flags(), InternalDate(253402300799 - 1439 * 60, 1439), 1),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "message"), APPENDS)
def test_append_announces_its_message(octets: bytes, message: c.AppendMessage) -> None:
    append = parse(b"a APPEND " + octets)
    assert isinstance(append, c.Append)
    assert append.mailbox == "INBOX"
    assert append.first == message
    assert parse(write_command(b"a", append)[-1]) == append


def test_append_whose_mailbox_is_a_literal_has_to_wait() -> None:
    scanner = Scanner(b"a APPEND {5}\r\n")
    scanner.head()
    with pytest.raises(LiteralPending):
        parse_append(scanner)


def test_further_messages_of_append() -> None:
    """RFC 3502 §6.3.11"""
    message = c.AppendMessage(Flags(System.SEEN, ("x",)), DATE, 5, synchronizing=False)
    assert parse_append_next(Scanner(write_append_next(message))) == message
    assert parse_append_next(Scanner(b" {3}\r\n")) == c.AppendMessage(Flags(), None, 3)
    assert write_append_next(None) == b"\r\n"
    assert parse_append_next(Scanner(b"")) is None
    assert parse_append_next(Scanner(b" ")) is None
    for wrong in (b"x", b"{3}\r\n", b" (\\Seen)", b" NIL {3}\r\n"):
        with pytest.raises(SyntaxFault):
            parse_append_next(Scanner(wrong))


# -- dialects ----------------------------------------------------------------------------


def test_utf8_names_once_enabled() -> None:
    """T20, T21: a raw UTF-8 name only after ENABLE; then & is a letter like others."""
    dialect = Dialect(utf8=True)
    assert parse('a SELECT "Entwürfe & mehr"'.encode(), dialect) == c.Select("Entwürfe & mehr")
    assert parse(b"a SELECT &AOk-", dialect) == c.Select("&AOk-")
    with pytest.raises(SyntaxFault, match="mailbox name in UTF-8"):
        parse(b'a SELECT "\xff"', dialect)
    for name in ("Entwürfe & mehr", "R&D", "x"):
        [piece] = write_command(b"a", c.Select(name), literal_plus=True, utf8=True)
        assert parse(piece.removesuffix(b"\r\n"), dialect) == c.Select(name)
    patterns = c.Lsub("é", "&*")
    [piece] = write_command(b"a", patterns, literal_plus=True, utf8=True)
    assert parse(piece.removesuffix(b"\r\n"), dialect) == patterns


def test_unknown_charset() -> None:
    """T33"""
    with pytest.raises(UnknownCharset) as caught:
        parse(b"a SEARCH CHARSET KOI8-X TEXT x")
    assert caught.value.charset == "KOI8-X"


def test_charsets_come_from_the_dialect() -> None:
    dialect = Dialect(decode=lambda octets, charset: octets.decode(charset))
    command = parse(b'a SEARCH CHARSET "ISO-8859-1" TEXT {1}\r\n\xe9', dialect)
    assert command == c.Search(s.Text("é"), "ISO-8859-1")
    with pytest.raises(UnknownCharset):
        parse(b"a SEARCH CHARSET bogus ALL", dialect)
    command = parse(b"a SEARCH CHARSET UTF-16BE TEXT {4+}\r\n\x30\x42\x30\x44", dialect)
    assert command == c.Search(s.Text("あい"), "UTF-16BE")


def test_parameters_are_rows_of_a_table() -> None:
    """RFC 4466 §2.1: what an extension adds is one row."""
    table: Table = {b"CONDSTORE": None, b"CHANGEDSINCE": Scanner.number}
    assert parse_parameters(Scanner(b"(condstore CHANGEDSINCE 012)"), table, "x") == (
        c.Parameter(b"CONDSTORE"),
        c.Parameter(b"CHANGEDSINCE", 12),
    )
    for wrong in (b"()", b"(X)", b"(CONDSTORE CONDSTORE)", b"(CHANGEDSINCE)", b"CONDSTORE"):
        with pytest.raises(SyntaxFault):
            parse_parameters(Scanner(wrong), table, "x")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"(", b")"), (b"NOT ", b""), (b"OR ALL ", b""), (b"OR (NOT ", b") ALL")],
)
def test_programmes_nest_so_deep_and_no_deeper(opening: bytes, closing: bytes) -> None:
    """S3"""
    steps = opening.count(b"(") + opening.count(b"NOT") + opening.count(b"OR")
    for limit in (4, 32):
        deepest = (limit - 1) // steps
        for depth in (deepest, deepest + 1, 5000):
            octets = b"a SEARCH " + opening * depth + b"ALL" + closing * depth
            if depth == deepest:
                parse(octets, Dialect(max_nesting=limit))
            else:
                with pytest.raises(SyntaxFault, match=f"deeper than {limit} levels"):
                    parse(octets, Dialect(max_nesting=limit))


def test_passwords_do_not_show() -> None:
    """S13"""
    assert "sesame" not in repr(parse(b"a LOGIN smith sesame"))
    assert "c2VzYW1l" not in repr(parse(b"a AUTHENTICATE PLAIN c2VzYW1l"))


# -- linear time -------------------------------------------------------------------------

HOSTILE: dict[str, Callable[[int], bytes]] = {
    "set": lambda n: b"a COPY %b x" % b",".join(b"%d:*" % m for m in range(1, n // 8)),
    "open_parentheses": lambda n: b"a FETCH 1 " + b"(" * n,
    "spaces": lambda n: b"a NOOP" + b" " * n + b"x",
    "spaces_in_list": lambda n: b"a STORE 1 FLAGS (x" + b" " * n + b"\0",
    "flags": lambda n: b"a STORE 1 FLAGS (" + b" ".join(b"%d" % m for m in range(n // 6)) + b")",
    "items": lambda n: b"a FETCH 1 (" + b"BODY[1.2.3] " * (n // 12) + b")",
    "different_items": lambda n: (
        b"a FETCH 1 (%b)" % b" ".join(b"BODY[%d]" % m for m in range(1, n // 12))
    ),
    "plain_items": lambda n: b"a FETCH 1 (" + b"UID " * (n // 4) + b"(",
    "parts": lambda n: b"a FETCH 1 BODY[" + b"1." * (n // 2) + b"1]",
    "fields": lambda n: b"a FETCH 1 BODY[HEADER.FIELDS (" + b"x " * (n // 2) + b")]",
    "quoted": lambda n: b'a LOGIN "' + b'\\"' * (n // 2),
    "quoted_end": lambda n: b'a LOGIN "' + b"x" * n,
    "or": lambda n: b"a SEARCH" + b" OR 1 2" * (n // 8),
    "keys": lambda n: b"a SEARCH" + b" NOT SEEN" * (n // 9),
    "zeros": lambda n: b"a SEARCH LARGER " + b"0" * n,
    "digits": lambda n: b"a COPY " + b"9" * n,
    "atom": lambda n: b"a " + b"x" * n,
    "shifts": lambda n: b"a SELECT " + b"&AOk-x" * (n // 6),
    "patterns": lambda n: b'a LIST "" (' + b"* " * (n // 2) + b")",
    "literals": lambda n: b"a ID (" + b"{1}\r\nx NIL " * (n // 11),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_linear_time(name: str) -> None:
    """S5"""
    make = HOSTILE[name]

    def run(size: int) -> None:
        try:
            parse(inputs[size])
        except (SyntaxFault, KeyError):
            pass

    inputs = {size: make(size) for size in (32_768, 65_536)}
    assert_linear(run, 32_768)
    assert quickest(lambda: run(65_536)) < 0.25


def test_a_set_over_all_numbers_is_cheap() -> None:
    """S4"""
    octets = b"a FETCH 1:4294967295,4294967295:1 FLAGS"
    assert quickest(lambda: parse(octets)) < 0.01
    command = parse(octets)
    assert isinstance(command, c.Fetch)
    assert command.numbers == seqs((1, 2**32 - 1), (2**32 - 1, 1))


# -- round trips on generated values -----------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAMES = TEXTS.filter(bool)
ATOMS = st.text("abcXYZ019$-_.!", min_size=1, max_size=12)
NUMBERS = st.integers(0, 2**32 - 1)
SETS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6).map(
    lambda ranges: SequenceSet(tuple(ranges))
)
FLAGS = st.builds(
    lambda system, words: Flags.of(*system, *words),
    st.lists(st.sampled_from(list(SYSTEM_NAMES.values()))),
    st.lists(ATOMS, max_size=4),
)
PATHS = st.lists(st.integers(1, 2**32 - 1), max_size=4).map(tuple)
PARTIALS = st.none() | st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1))
FIELDS = st.lists(st.text('abcX-_(){%*"\\]!9', min_size=1, max_size=8), min_size=1, max_size=4)


@st.composite
def body_sections(draw: st.DrawFn) -> c.BodySection:
    path = draw(PATHS)
    texts = set(c.SectionText) if path else set(c.SectionText) - {c.SectionText.MIME}
    text = draw(st.sampled_from(sorted(texts, key=lambda t: t.value)))
    fields = tuple(draw(FIELDS)) if text.value.startswith(b"HEADER.FIELDS") else ()
    return c.BodySection(path, text, fields, draw(PARTIALS), draw(st.booleans()))


ITEMS = st.one_of(
    st.sampled_from(list(c.FetchAtt)),
    body_sections(),
    st.builds(c.BinarySection, PATHS, PARTIALS, st.booleans()),
    st.builds(c.BinarySize, PATHS),
)
LEAVES: st.SearchStrategy[s.SearchKey] = st.one_of(
    st.just(s.All()),
    st.just(s.IsRecent()),
    st.builds(s.HasFlag, st.sampled_from(list(System))),
    st.builds(s.HasKeyword, ATOMS),
    st.builds(s.Sequence, SETS),
    st.builds(s.UidSequence, SETS),
    st.builds(
        s.DateKey,
        st.sampled_from([s.DateField.INTERNAL, s.DateField.SENT]),
        st.sampled_from(s.DateRelation),
        st.integers(1, 3652059),
    ),
    st.builds(s.Larger, st.integers(0, 2**63 - 1)),
    st.builds(s.Smaller, st.integers(0, 2**63 - 1)),
    st.builds(s.Header, st.sampled_from(["From", "To", "Cc", "Bcc", "Subject", "X-a"]), TEXTS),
    st.builds(s.Body, TEXTS),
    st.builds(s.Text, TEXTS),
)
KEYS = st.recursive(
    LEAVES,
    lambda keys: st.one_of(
        st.builds(s.Not, keys),
        st.builds(s.Or, keys, keys),
        st.lists(keys, min_size=2, max_size=3).map(lambda some: s.And(tuple(some))),
    ),
    max_leaves=8,
)
GENERATED: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(c.Login, TEXTS, TEXTS),
    st.builds(
        c.Id, st.none() | st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=5).map(tuple)
    ),
    st.builds(c.Select, TEXTS, st.booleans()),
    st.builds(c.Create, TEXTS, st.lists(ATOMS.map("\\{}".format), max_size=3).map(tuple)),
    st.builds(c.Delete, TEXTS),
    st.builds(c.Rename, TEXTS, TEXTS),
    st.builds(
        lambda mailbox, atts: c.Status(mailbox, tuple(dict.fromkeys(atts))),
        TEXTS,
        st.lists(st.sampled_from(c.StatusAtt), min_size=1),
    ),
    st.builds(c.Lsub, TEXTS, TEXTS),
    st.builds(c.Copy, SETS, TEXTS, st.booleans()),
    st.builds(c.Move, SETS, TEXTS, st.booleans()),
    st.builds(c.Expunge, st.none() | SETS),
    st.builds(c.Store, SETS, st.sampled_from(FlagOp), FLAGS, st.booleans(), st.booleans()),
    st.builds(
        lambda numbers, items, by_uid: c.Fetch(numbers, tuple(dict.fromkeys(items)), by_uid),
        SETS,
        st.lists(ITEMS, min_size=1, max_size=5),
        st.booleans(),
    ),
    st.builds(
        c.Search,
        KEYS,
        st.just("UTF-8"),
        st.none() | st.frozensets(st.sampled_from(c.SearchReturn), min_size=1),
        st.booleans(),
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(GENERATED, st.booleans())
def test_round_trip(command: c.Command, literal_plus: bool) -> None:
    assert parse(read(write_command(b"a", command, literal_plus=literal_plus))) == command


@settings(max_examples=100, deadline=None)
@given(FLAGS, st.integers(-62135596800 + 86400, 253402300799 - 86400), st.integers(-1439, 1439))
def test_append_round_trip(flags: Flags, seconds: int, zone: int) -> None:
    """T32"""
    message = c.AppendMessage(flags, InternalDate(seconds, zone), 12)
    append = c.Append("INBOX", message)
    assert parse(write_command(b"a", append)[-1]) == append


@pytest.mark.parametrize(
    "command",
    [
        c.Login("a\0b", "x"),
        c.Select("a\ud800b"),
        c.Authenticate(b"PLAIN LOGIN"),
        c.Authenticate(b"PLAIN", b"abc\r\nz LOGOUT"),
        c.Enable((b"a b",)),
        c.Create("x", ("\\a b",)),
        c.Store(seqs(1), FlagOp.ADD, Flags(System(0), ("a b",))),
        c.Copy(SequenceSet(()), "x"),
        c.Search(s.HasKeyword("a)")),
        c.Search(s.And(())),
        c.Search(s.ModSeqAtLeast(1)),
        c.Search(s.DateKey(s.DateField.SAVED, s.DateRelation.ON, 730000)),
        c.Select("x", parameters=(c.Parameter(b"CONDSTORE"),)),
    ],
)
def test_nothing_breaks_out_of_its_place(command: c.Command) -> None:
    """W13: a client cannot be made to send what it was not told to."""
    with pytest.raises(ValueError, match=r".") as caught:
        write_command(b"a", command)
    assert not isinstance(caught.value, SyntaxFault)


def test_a_tag_must_be_an_atom() -> None:
    with pytest.raises(ValueError, match="atom"):
        write_command(b"a b", c.Noop())


def test_every_command_has_cases() -> None:
    known = {name for name in PARSERS if name != b"APPEND"}
    seen = set()
    for octets, _ in COMMANDS:
        scanner = Scanner(b"a " + octets)
        seen.add(scanner.head()[1])
    assert known - seen == set()


def test_values_of_commands_are_frozen() -> None:
    for _, command in [*FETCH, *LIST, *SEARCH]:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            command.by_uid = True  # type: ignore[union-attr, misc]
        hash(command)


@pytest.mark.parametrize(
    "items",
    [
        b"(UID BODY.PEEK[HEADER.FIELDS (DATE FROM)]<0.9>)",
        b'BODY[HEADER.FIELDS ("Date")]',
        b"(" + b" ".join(b"BODY[%d]" % n for n in range(1, 60)) + b")",  # longer than is kept
    ],
)
def test_the_same_items_are_read_alike_each_time(items: bytes) -> None:
    first, second = parse(b"a FETCH 1 " + items), parse(b"a UID FETCH 2:* " + items)
    assert isinstance(first, c.Fetch) and isinstance(second, c.Fetch)
    assert first.items == second.items
    assert (first.by_uid, second.by_uid) == (False, True)


def test_a_fault_among_items_tells_its_place_each_time() -> None:
    for command in (b"a FETCH 1 (UID NOTHING)", b"a FETCH 1:22 (UID NOTHING)"):
        with pytest.raises(SyntaxFault) as fault:
            parse(command)
        assert fault.value.position == command.index(b"NOTHING")
