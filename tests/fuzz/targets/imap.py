"""IMAP: framing, every command, every response, and the forms of their parts."""

from __future__ import annotations

import attrs

from mailserver.model.numset import STAR, NumSet, SequenceSet
from mailserver.server.imap.charsets import decode_search_text
from mailserver.wire.imap import mutf7
from mailserver.wire.imap.command_writer import write_command
from mailserver.wire.imap.commands import Append, List, Search
from mailserver.wire.imap.faults import SyntaxFault, UnknownCharset
from mailserver.wire.imap.grammar import PARSERS
from mailserver.wire.imap.reader import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    NEED_DATA,
    CommandReader,
    Limits,
    Line,
    LiteralPart,
    LiteralWanted,
    TooLong,
)
from mailserver.wire.imap.response_parser import ResponseReader
from mailserver.wire.imap.responses import Response, Status
from mailserver.wire.imap.scanner import Dialect, Scanner
from mailserver.wire.imap.writer import internal_date, number_set, response_text, write
from tests.fuzz.target import Target, choices, cut, is_clean
from tests.wire.imap.command_cases import COMMANDS, FAULTS
from tests.wire.imap.response_cases import RESPONSES, TOLERATED

LIMITS = (
    BEFORE_LOGIN,
    AFTER_LOGIN,
    Limits(line=100, literal=10, command=150, literals=3),
)
DIALECTS = (
    Dialect(decode=decode_search_text),
    Dialect(utf8=True, decode=decode_search_text),
    Dialect(max_nesting=4, decode=decode_search_text),
)

# -- framing -----------------------------------------------------------------------------


def converse(packets: list[bytes], limits: Limits, seed: bytes) -> list[object]:
    """What a reader makes of packets, the parts of a streamed literal joined.

    The decisions about literals follow from `seed` and are the same for any packets.
    """
    source = choices(seed)
    reader = CommandReader(limits)
    events: list[object] = []
    for packet in packets:
        reader.feed(packet)
        while (event := reader.next_event()) is not NEED_DATA:
            if isinstance(event, LiteralPart) and events and isinstance(events[-1], LiteralPart):
                before = events[-1]
                if not before.last:
                    event = LiteralPart(before.octets + event.octets, event.last)
                    events.pop()
            events.append(event)
            if isinstance(event, LiteralWanted):
                decision = source.choice(("keep", "keep", "stream", "refuse"))
                getattr(reader, decision)()
            elif isinstance(event, Line):
                assert len(event.octets) <= limits.command + limits.literals * 40
            elif isinstance(event, TooLong):
                assert len(event.octets) <= 256
    return events


def check_reader(octets: bytes) -> None:
    limits = choices(octets).choice(LIMITS)
    assert converse([octets], limits, octets) == converse(cut(octets), limits, octets)


# -- commands ----------------------------------------------------------------------------


def check_command(octets: bytes) -> None:
    """A command with its tag, literals in their places."""
    dialect = choices(octets).choice(DIALECTS)
    scanner = Scanner(octets, dialect)
    try:
        _, name = scanner.head()
        parser = PARSERS.get(name)
        if parser is None:
            return
        command = parser(scanner)
    except SyntaxFault as fault:
        assert fault.text.isascii() and fault.text.isprintable()
        assert 0 <= fault.position <= len(octets)
        assert str(fault)
        return
    except UnknownCharset as fault:
        assert isinstance(fault.charset, str)
        return
    try:
        written = b"".join(write_command(b"a", command, literal_plus=True, utf8=dialect.utf8))
    except ValueError:
        assert isinstance(command, Search) and command.charset not in (None, "UTF-8")
        return
    if not isinstance(command, Append):  # its end announces octets that are not there
        written = written[:-2]
    again = Scanner(written, dialect)
    _, name = again.head()
    reread = PARSERS[name](again)
    if isinstance(command, List) and isinstance(reread, List):
        reread = attrs.evolve(reread, extended=command.extended)  # parentheses around one
    if isinstance(command, Append) and isinstance(reread, Append):
        waits = command.first.synchronizing  # the writer's own choice
        reread = attrs.evolve(reread, first=attrs.evolve(reread.first, synchronizing=waits))
    assert reread == command, written


def commands() -> list[bytes]:
    return [b"a " + octets for octets, _ in [*COMMANDS, *FAULTS]]


def searches() -> list[bytes]:
    charsets = [b"a SEARCH CHARSET %b TEXT {3}\r\nabc" % name for name in CHARSETS]
    return [one for one in commands() if b"SEARCH" in one.upper()] + charsets


CHARSETS = b"UTF-8 US-ASCII ISO-8859-1 ISO-2022-JP KOI8-R UTF-7 UTF-16 BIG5 GB18030 X".split()
WORDS = (
    *PARSERS, *b"UID (( )) NIL {3} {3+} ~{2+} {0} {99999} {5}\r\nabcde INBOX 1:* *:1 1,2:3".split(),
    *b'"" "x" "\\"" \\Seen \\Deleted $Junk (FLAGS) BODY[] BODY.PEEK[1.2.MIME]<0.5>'.split(),
    *b"BINARY[1] HEADER.FIELDS RETURN (STATUS (MESSAGES)) NOT OR ALL CHARSET UTF-8".split(),
    *b"BEFORE 1-Feb-1994 KEYWORD &AOk- &- % * +FLAGS.SILENT USE".split(),
    b"{3+}\r\nabc", b"{0}\r\n", b'" 1-Feb-1994 21:52:25 -0800"', b" NOT" * 30, b"OR ALL " * 30,
    b"(" * 40,
)  # fmt: skip


def streams() -> list[bytes]:
    return [one + b"\r\nz NOOP\r\n" for one in commands()]


# -- responses ---------------------------------------------------------------------------


def responses_of(packets: list[bytes]) -> list[Response | str]:
    reader = ResponseReader()
    found: list[Response | str] = []
    try:
        for packet in packets:
            reader.feed(packet)
            while (response := reader.next_response()) is not None:
                found.append(response)
    except SyntaxFault as fault:
        assert fault.text.isascii()
        found.append(str(fault))
    return found


def check_responses(octets: bytes) -> None:
    found = responses_of([octets])
    assert responses_of(cut(octets)) == found
    for response in found:
        if isinstance(response, str):
            continue
        if isinstance(response, Status) and response_text(response.text) != response.text.encode():
            continue  # text of foreign servers, cleaned when it is written
        try:
            written = write(response)
        except ValueError:
            continue  # what a foreign server may say and ours never does
        assert responses_of([written]) == [response], written


def responses() -> list[bytes]:
    return [octets + b"\r\n" for octets, _ in [*RESPONSES, *TOLERATED]]


# -- parts -------------------------------------------------------------------------------


def check_mutf7(octets: bytes) -> None:
    try:
        text = mutf7.decode(octets)
    except ValueError as error:
        assert str(error).isascii() and str(error).isprintable()
    else:
        assert mutf7.encode(text) == octets
    text = octets.decode("utf-8", "surrogatepass" if octets[:1] == b"&" else "replace")
    if is_clean(text):
        assert mutf7.decode(mutf7.encode(text)) == text


def check_mutf7_octets(octets: bytes) -> None:
    try:
        check_mutf7(octets)
    except UnicodeDecodeError:  # of this test's own
        pass


def check_sequence_set(octets: bytes) -> None:
    scanner = Scanner(octets)
    try:
        given = scanner.sequence_set()
    except SyntaxFault as fault:
        assert 0 <= fault.position <= len(octets)
        return
    assert Scanner(number_set(given)).sequence_set() == given
    for largest in (0, 1, 7, 100, 4294967295):
        numbers = given.resolve(largest)
        assert is_canonical(numbers)
        inside = numbers.clip(1, largest)
        assert is_canonical(inside)
        if 0 < largest <= 100 and len(octets) < 200:
            assert set(inside) == {n for n in range(1, largest + 1) if named(given, n, largest)}


def is_canonical(numbers: NumSet) -> bool:
    flat = [end for pair in numbers.ranges for end in pair]
    apart = all(low - high > 1 for high, low in zip(flat[1::2], flat[2::2], strict=False))
    return apart and flat == sorted(flat)


def named(given: SequenceSet, number: int, largest: int) -> bool:
    ends = [tuple(largest if end == STAR else end for end in pair) for pair in given.ranges]
    return any(min(pair) <= number <= max(pair) for pair in ends)


def check_dates(octets: bytes) -> None:
    for read in (Scanner.date, Scanner.date_time):
        scanner = Scanner(octets)
        try:
            value = read(scanner)
        except SyntaxFault as fault:
            assert 0 <= fault.position <= len(octets)
            continue
        if not isinstance(value, int):
            assert -1439 <= value.zone <= 1439
            try:
                written = internal_date(value)
            except ValueError:
                continue  # year 0 or 10000 in UTC
            assert Scanner(written).date_time() == value


TARGETS = (
    Target("imap_reader", check_reader, streams, WORDS),
    Target("imap_commands", check_command, commands, WORDS),
    Target("imap_search", check_command, searches, WORDS),
    Target("imap_responses", check_responses, responses, WORDS),
    Target(
        "mutf7",
        check_mutf7_octets,
        lambda: [
            b"INBOX", b"&AOk-", b"&U,BTFw-/&ZeVnLIqe-",
            b"a&-b", b"&2D3eAA-", "é日😀".encode(),
        ],
        (b"&", b"&-", b"-", b"&AOk-", b"&AOk", b"&2D0-", b"&3gA-", b",", b"AAA"),
    ),
    Target(
        "sequence_sets",
        check_sequence_set,
        lambda: [b"1", b"*", b"1:*", b"*:4,5:7", b"2,4:7,9,12:*", b"4294967295,3:1", b"1,2,3,4,5"],
        (b"*", b":", b",", b"1:*", b"4294967295", b"4294967296", b"01", b",1", b",5:2"),
    ),
    Target(
        "imap_dates",
        check_dates,
        lambda: [
            b"1-Feb-1994", b'"01-Feb-1994"', b'" 1-Feb-1994 21:52:25 -0800"',
            b'"31-Dec-9999 23:59:60 +2359"', b'"01-Jan-0001 00:00:00 -0000"', b"29-FEB-2000",
        ],
        (b"-Feb-", b"0000", b"9999", b" +2359", b" -2359", b"23:59:60", b"31-"),
    ),
)  # fmt: skip
