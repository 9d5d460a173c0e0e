"""What reading commands and writing responses costs, in microseconds each.

python -m bench.imap_parse [ROUNDS]

Commands are read from octets to value: tag, name, arguments; `framed` is the way through
the reader as well. The target is 7 µs for the rich FETCH on an idle core.
"""

from __future__ import annotations

import sys
import time
import timeit
from collections.abc import Callable

from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.model.numset import NumSet
from mailserver.wire.imap import commands, writer
from mailserver.wire.imap.grammar import PARSERS
from mailserver.wire.imap.reader import BEFORE_LOGIN, CommandReader, Line
from mailserver.wire.imap.response_parser import parse_response
from mailserver.wire.imap.scanner import Scanner

RICH_FETCH = (
    b"a1 UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE"
    b" BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT)])"
)
COMMANDS = {
    "rich FETCH": RICH_FETCH,
    "FETCH of flags": b"a1 UID FETCH 1:* (FLAGS)",
    "FETCH of a body": b"a1 UID FETCH 4711 (BODY.PEEK[])",
    "FETCH, 1,000 ranges": b"a1 FETCH %b FLAGS"
    % b",".join(b"%d:%d" % (n, n + 2) for n in range(1, 4001, 4)),
    "NOOP": b"a1 NOOP",
    "SELECT": b"a1 SELECT INBOX",
    "STORE": b"a1 UID STORE 4711 +FLAGS.SILENT (\\Seen $Forwarded)",
    "SEARCH": b'a1 SEARCH UNSEEN SINCE 1-Feb-1994 NOT FROM "Smith"',
    "LIST": b'a1 LIST "" "*" RETURN (CHILDREN SPECIAL-USE)',
    "LOGIN by literals": b"a1 LOGIN {5+}\r\nalice {6+}\r\nsesame",
}
RESPONSES = {
    "FETCH of flags": b"* 1 FETCH (UID 4711 FLAGS (\\Seen))",
    "FETCH of an envelope": b'* 1 FETCH (UID 4711 ENVELOPE ("Wed, 17 Jul 1996 02:23:25 -0700"'
    b' "IMAP4rev1 WG mtg summary" (("Terry Gray" NIL "gray" "cac.washington.edu"))'
    b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
    b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
    b' ((NIL NIL "imap" "cac.washington.edu")) NIL NIL NIL "<B27397-0100000@example>"))',
    "SEARCH, 1,000 numbers": b"* SEARCH " + b" ".join(b"%d" % n for n in range(1, 1001)),
}


def parse(octets: bytes) -> commands.Command:
    scanner = Scanner(octets)
    _, name = scanner.head()
    return PARSERS[name](scanner)


def framed(reader: CommandReader, octets: bytes) -> commands.Command:
    reader.feed(octets)
    event = reader.next_event()
    assert isinstance(event, Line)
    return parse(event.octets)


def microseconds(call: Callable[[], object], rounds: int) -> float:
    """Processor time, the best of fifteen runs."""
    return (
        min(timeit.repeat(call, timer=time.process_time, number=rounds, repeat=15)) / rounds * 1e6
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    reader = CommandReader(BEFORE_LOGIN)
    flags = Flags.of("\\Seen", "$Forwarded")
    when = InternalDate(837596665, -420)
    subject = b"Re: the quarterly figures (final)"
    numbers = NumSet.of(range(1, 2000, 2))
    rows: dict[str, Callable[[], object]] = {
        "rich FETCH, framed": lambda: framed(reader, RICH_FETCH + b"\r\n"),
        **{name: (lambda o=octets: parse(o)) for name, octets in COMMANDS.items()},  # type: ignore[misc]
        "write a string": lambda: writer.quoted_or_literal(subject),
        "write flags": lambda: writer.flag_list(flags),
        "write a date": lambda: writer.internal_date(when),
        "write a name": lambda: writer.astring_mailbox("Archive/2024"),
        "write 1,000 ranges": lambda: writer.number_set(numbers),
        **{
            f"client: {name}": (lambda o=octets: parse_response(o))  # type: ignore[misc]
            for name, octets in RESPONSES.items()
        },
    }
    for name, call in rows.items():
        slow = max(1, rounds // 100) if "1,000" in name else rounds
        print(f"{name:30} {microseconds(call, slow):9.2f} µs")


if __name__ == "__main__":
    main()
