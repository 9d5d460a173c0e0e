"""FETCH as clients see it: over the real store, with several sessions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.model.message import Column, InternalDate
from mailserver.server.imap.commands import fetch as fetch_command
from mailserver.server.imap.items import cuts
from mailserver.server.imap.settings import ImapSettings
from mailserver.wire.imap.response_parser import parse_response
from mailserver.wire.imap.responses import FetchData
from tests.mailgen import SORTS, message
from tests.server.rig import MAIL, Client, Rig, rig

LARGE = b"Subject: large\r\n\r\n" + b"0123456789 large as can be\r\n" * 40_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def octets_of(client: Client, item: str, number: int = 1) -> bytes | None:
    """The octets that FETCH answers for one item; None for NIL."""
    client.send(b"o FETCH %d %b\r\n" % (number, item.encode()))
    answer = client.read_response()
    assert client.read_response().startswith(b"o OK")
    if answer.endswith(b" NIL)"):
        return None
    if answer.endswith(b' "")'):
        return b""
    found = re.search(rb" ~?\{(\d+)\}\r\n", answer)
    assert found is not None, answer[:200]
    octets = answer[found.end() :]
    assert octets.endswith(b")") and len(octets) == int(found[1]) + 1
    return octets[:-1]


# -- what is asked for -------------------------------------------------------------------


def test_items_in_the_order_asked(server: Rig) -> None:
    server.append(MAIL, "\\Seen", "$Work", date=InternalDate(837596665, -420))
    client = server.client(mailbox="INBOX")
    assert client.command("FETCH 1 (RFC822.SIZE UID FLAGS INTERNALDATE)") == [
        f"* 1 FETCH (RFC822.SIZE {len(MAIL)} UID 1 FLAGS (\\Seen $Work \\Recent)"
        ' INTERNALDATE "17-Jul-1996 02:44:25 -0700")',
        ". OK FETCH completed",
    ]


def test_uid_fetch_always_tells_the_uid(server: Rig) -> None:
    """T15: also where a change is told that FETCH itself made."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    assert client.command("UID FETCH 1 FLAGS")[0] == "* 1 FETCH (UID 1 FLAGS (\\Recent))"
    assert client.command("UID FETCH 1 BODY[]<0.4>")[0] == (
        "* 1 FETCH (FLAGS (\\Seen \\Recent) UID 1 BODY[]<0> {4}\r\nFrom)"
    )


def test_the_last_message_is_always_in_a_range_to_the_end(server: Rig) -> None:
    """T13: `n:*`, reversed ranges, `*` in an empty mailbox."""
    client = server.client(mailbox="INBOX")
    assert client.command("UID FETCH 1:* FLAGS") == [". OK UID FETCH completed"]
    assert client.command("FETCH * FLAGS") == [". OK FETCH completed"]
    for _ in range(3):
        server.append(MAIL)
    client.command("NOOP")
    assert client.command("UID FETCH 77:* UID")[:-1] == ["* 3 FETCH (UID 3)"]
    assert client.command("FETCH 3:2 UID")[:-1] == ["* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)"]
    assert client.command("FETCH *:2 UID")[:-1] == ["* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)"]


def test_numbers_that_do_not_exist(server: Rig) -> None:
    """T14: an unknown UID is no fault, an unknown sequence number is."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    assert client.command("UID FETCH 5,9:12 FLAGS") == [". OK UID FETCH completed"]
    for numbers in ("2", "1:2", "7:*"):
        assert client.command(f"FETCH {numbers} FLAGS") == [
            f". BAD there is no message {7 if '7' in numbers else 2}, the mailbox has 1"
        ]


def test_keywords_are_announced_before_they_are_used(server: Rig) -> None:
    """T10: also those that another session has just made."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    other = server.client(mailbox="INBOX")
    other.command("STORE 1 +FLAGS ($New)")
    server.settle()
    answers = client.command("FETCH 1 FLAGS")
    announced = next(i for i, line in enumerate(answers) if line.startswith("* FLAGS"))
    used = next(i for i, line in enumerate(answers) if line.startswith("* 1 FETCH"))
    assert announced < used
    assert "$New" in answers[announced]
    assert "$New" in answers[used]


# -- \Seen -------------------------------------------------------------------------------


def test_reading_marks_as_seen_and_says_so_once(server: Rig) -> None:
    """T28: peeking does not; a second reading has nothing to say."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    other = server.client(mailbox="INBOX")
    for item in ("BODY.PEEK[]", "RFC822.HEADER", "ENVELOPE", "BINARY.PEEK[1]"):
        assert "\\Seen" not in "".join(client.command(f"FETCH 1 {item}"))
    assert client.command("FETCH 1 BODY[TEXT]") == [
        "* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[TEXT] {8}\r\nHello.\r\n)",
        ". OK FETCH completed",
    ]
    assert client.command("FETCH 1 BODY[TEXT]")[0] == "* 1 FETCH (BODY[TEXT] {8}\r\nHello.\r\n)"
    assert other.command("NOOP") == ["* 1 FETCH (FLAGS (\\Seen))", ". OK NOOP completed"]


def test_flags_asked_for_are_those_after_reading(server: Rig) -> None:
    """T28: FLAGS beside BODY[] already has it."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    for item in ("(FLAGS BODY[HEADER])", "(BODY[HEADER] FLAGS)"):
        assert "FLAGS (\\Seen \\Recent)" in client.command(f"FETCH 1 {item}")[0]
    assert client.command("NOOP") == [". OK NOOP completed"]


def test_reading_in_a_read_only_mailbox_marks_nothing(server: Rig) -> None:
    """T27."""
    server.append(MAIL)
    client = server.client()
    client.command("EXAMINE INBOX")
    assert client.command("FETCH 1 BODY[TEXT]")[0] == "* 1 FETCH (BODY[TEXT] {8}\r\nHello.\r\n)"
    assert "\\Seen" not in client.command("FETCH 1 FLAGS")[0]


def test_mail_can_be_read_when_nothing_can_be_written(
    server: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.append(MAIL)
    client = server.client(mailbox="INBOX")

    async def full(*_: object) -> None:
        raise MailError(ErrorKind.DISK_FULL, "the disk is full")

    monkeypatch.setattr(server.store, "store_flags", full)
    assert client.command("FETCH 1 BODY[TEXT]") == [
        "* 1 FETCH (BODY[TEXT] {8}\r\nHello.\r\n)",
        ". OK FETCH completed",
    ]


# -- messages that are gone --------------------------------------------------------------


@pytest.mark.parametrize("item", ["FLAGS", "ENVELOPE", "BODY.PEEK[]", "(FLAGS BODY.PEEK[1])"])
def test_an_expunge_by_another_session_does_not_move_numbers(server: Rig, item: str) -> None:
    """T3, T5: no EXPUNGE during FETCH, and never another message under the old number."""
    for n in range(3):
        server.append(b"Subject: number %d\r\n\r\nbody %d\r\n" % (n + 1, n + 1))
    client = server.client(mailbox="INBOX")
    other = server.client(mailbox="INBOX")
    expected = client.command(f"FETCH 1,3 {item}")
    other.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    other.command("EXPUNGE")
    server.settle()
    answers = client.command(f"FETCH 1:3 {item}")
    assert not any("EXPUNGE" in line for line in answers[:-1])
    assert [line for line in answers[:-1] if "* " in line] == expected[:-1]
    assert answers[-1].startswith(". OK [EXPUNGEISSUED] ")
    answers = client.command(f"FETCH 2 {item}")
    assert len(answers) == 1 and answers[0].startswith(". OK [EXPUNGEISSUED] ")
    assert "* 2 EXPUNGE" in client.command("NOOP")
    assert client.command(f"FETCH 3 {item}")[-1].startswith(". BAD ")


def test_uid_fetch_may_tell_of_an_expunge(server: Rig) -> None:
    """T3: UID commands are an occasion for it."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    other = server.client(mailbox="INBOX")
    other.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.command("EXPUNGE")
    server.settle()
    assert client.command("UID FETCH 1:* FLAGS")[0] == "* 1 EXPUNGE"


# -- octets ------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", SORTS)
def test_what_is_read_is_what_came_in(server: Rig, sort: str) -> None:
    """T31: RFC822.SIZE is the number of octets that BODY[] sends; header and text make
    the whole; each part of the structure can be read."""
    octets = message(1, sort)
    server.append(octets)
    client = server.client(mailbox="INBOX")
    assert octets_of(client, "BODY.PEEK[]") == octets
    assert f"RFC822.SIZE {len(octets)})" in client.command("FETCH 1 RFC822.SIZE")[0]
    header, text = octets_of(client, "BODY.PEEK[HEADER]"), octets_of(client, "BODY.PEEK[TEXT]")
    assert header is not None and text is not None
    assert header + text == octets
    assert octets_of(client, "BODY.PEEK[1]") is not None
    client.send(b"e FETCH 1 (ENVELOPE BODY BODYSTRUCTURE)\r\n")
    answer = parse_response(client.read_response())
    assert isinstance(answer, FetchData) and len(answer.items) == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=12))
def test_ranges_put_together_are_the_message(
    joined_server: tuple[Client, bytes], steps: list[int]
) -> None:
    """T28: whatever the ranges, those of BODY[] joined are the message."""
    client, octets = joined_server
    got, at = b"", 0
    for step in [*steps, len(octets)]:
        piece = octets_of(client, f"BODY.PEEK[]<{at}.{step}>")
        assert piece is not None
        got += piece
        at += step
    assert got == octets


@pytest.fixture(scope="module")
def joined_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, bytes]]:
    with rig(tmp_path_factory.mktemp("joined")) as made:
        octets = message(3)
        made.append(octets)
        yield made.client(mailbox="INBOX"), octets


def test_bare_line_ends_count_as_what_is_sent(server: Rig) -> None:
    """T31: CR and LF become CRLF on arrival, and then size and octets agree."""
    server.append(b"Subject: x\n\none\ntwo\rthree\0\r\n")
    client = server.client(mailbox="INBOX")
    octets = octets_of(client, "BODY.PEEK[]")
    assert octets == b"Subject: x\r\n\r\none\r\ntwo\r\nthree\x80\r\n"
    assert f"RFC822.SIZE {len(octets)})" in client.command("FETCH 1 RFC822.SIZE")[0]
    assert octets_of(client, "BINARY.PEEK[1]") == b"one\r\ntwo\r\nthree\0\r\n"


def test_large_and_small_messages_in_one_answer(server: Rig) -> None:
    server.append(MAIL)
    server.append(LARGE)
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    client.send(b"a FETCH 1:* (UID BODY.PEEK[])\r\n")
    for number, octets in ((1, MAIL), (2, LARGE), (3, MAIL)):
        assert client.read_response() == b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)" % (
            number,
            number,
            len(octets),
            octets,
        )
    assert client.read_response() == b"a OK FETCH completed"


@pytest.mark.parametrize("what", ["BODY.PEEK[]", "BODY.PEEK[HEADER]"])
def test_a_slow_reader_costs_one_piece_of_memory(server: Rig, what: str) -> None:
    """T52: nothing is sent that the client has not made room for, whether it asks for one
    large thing or for many small ones."""
    many = b"Subject: x\r\n" + b"X-Field: %b\r\n" % (b"x" * 60) * 300 + b"\r\n"
    for octets in (LARGE, *[many] * 30):
        server.append(octets)
    client = server.client(mailbox="INBOX")
    transport = client.transport
    write = transport.write

    def narrow(octets: bytes) -> None:
        write(octets)
        if len(transport.value()) > cuts.PIECE:
            transport.fill()

    transport.write = narrow
    client.take()
    client.send(b"a FETCH 1:* %b\r\n" % what.encode())
    received, most = b"", 0
    while not received.endswith(b"a OK FETCH completed\r\n"):
        server.settle()
        most = max(most, len(transport.value()))
        received += client.take()
        transport.empty()
    assert received.count(many) == 30
    assert (LARGE in received) == (what == "BODY.PEEK[]")
    assert most <= 3 * cuts.PIECE


def test_a_client_that_goes_away_amid_a_message(server: Rig) -> None:
    """T52: its files are given back."""
    server.append(LARGE)
    client = server.client(mailbox="INBOX")
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
    client.transport.fill()
    server.settle()
    client.close()
    server.settle()
    assert server.monitor.live == []


def test_what_cannot_be_decoded_is_told_after_the_rest(server: Rig) -> None:
    """RFC 3516 §4.3: NO [UNKNOWN-CTE]; the messages that can be decoded are answered."""
    server.append(b"Content-Transfer-Encoding: x-own\r\n\r\nbody\r\n")
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    assert client.command("FETCH 1:2 BINARY.PEEK[1]") == [
        "* 2 FETCH (BINARY[1] {8}\r\nHello.\r\n)",
        ". NO [UNKNOWN-CTE] The part's Content-Transfer-Encoding is not known here.",
    ]
    for item, told in (("BINARY.SIZE[1]", "UID 1"), ("BINARY[1]", "FLAGS (\\Seen \\Recent) UID 1")):
        answers = client.command(f"FETCH 1 (UID {item})")
        assert answers[0] == f"* 1 FETCH ({told})"
        assert answers[1].startswith(". NO [UNKNOWN-CTE] ")
    client.command("STORE 1 -FLAGS.SILENT (\\Seen)")
    assert client.command("FETCH 1 BINARY[1]")[0] == "* 1 FETCH (FLAGS (\\Seen \\Recent))"


def test_a_damaged_file_costs_its_message_only(server: Rig) -> None:
    """R6: the other messages are read, the answer is NO [CORRUPTION]."""
    server.append(MAIL)
    server.append(LARGE)
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    kept = [
        path
        for path in server.data.rglob("*")
        if path.is_file() and path.stat().st_size == len(LARGE)
    ]
    assert len(kept) == 1
    kept[0].chmod(0o600)
    kept[0].unlink()
    answers = client.command("FETCH 1:3 BODY.PEEK[]")
    assert [line[:9] for line in answers[:-1]] == ["* 1 FETCH", "* 3 FETCH"]
    assert answers[-1].startswith(". NO [CORRUPTION] ")


def test_a_file_that_ends_too_early_ends_the_connection(server: Rig) -> None:
    """T31: rather no answer than a wrong one, once the octets have been announced."""
    server.append(MAIL)
    server.append(LARGE)
    client = server.client(mailbox="INBOX")
    kept = next(
        path
        for path in server.data.rglob("*")
        if path.is_file() and path.stat().st_size == len(LARGE)
    )
    kept.chmod(0o600)
    with kept.open("r+b") as file:
        file.truncate(len(LARGE) // 2)
    client.send(b"a FETCH 1:2 BODY.PEEK[]\r\n")
    server.loop.until(lambda: client.is_closed)
    assert client.read_response() == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(MAIL), MAIL)
    left = client.take()
    assert left.startswith(b"* 2 FETCH (BODY[] {%d}\r\n" % len(LARGE))
    assert b"a OK" not in left and b"a NO" not in left


@pytest.fixture
def asked(server: Rig, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[Column]]]:
    """What the store is asked for."""
    calls: list[tuple[list[int], list[Column]]] = []
    fetch = server.store.fetch

    async def watched(who: object, image: object, uids: list[int], columns: list[Column]) -> object:
        calls.append((list(uids), list(columns)))
        return await fetch(who, image, uids, columns)

    monkeypatch.setattr(server.store, "fetch", watched)
    return calls


def test_a_large_mailbox_is_answered_in_slices(
    server: Rig, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """T52: no call of the store is for more than a slice, and others get their turn; but
    a set of many ranges is no reason for many calls."""
    monkeypatch.setattr(fetch_command, "SLICE", 7)
    for _ in range(20):
        server.append(MAIL)
    client = server.client(mailbox="INBOX")
    answers = client.command("FETCH 1:* (UID RFC822.SIZE)")
    assert answers[:-1] == [f"* {n} FETCH (UID {n} RFC822.SIZE {len(MAIL)})" for n in range(1, 21)]
    assert [len(uids) for uids, _ in asked] == [7, 7, 6]
    asked.clear()
    answers = client.command("FETCH 20,1,3:4,6,8:9,11:13,17 (FLAGS RFC822.SIZE)")
    numbers = [1, 3, 4, 6, 8, 9, 11, 12, 13, 17, 20]
    assert answers[:-1] == [
        f"* {n} FETCH (FLAGS (\\Recent) RFC822.SIZE {len(MAIL)})" for n in numbers
    ]
    assert [uids for uids, _ in asked] == [numbers[:7], numbers[7:]]


def test_headers_in_memory_are_limited(
    server: Rig, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """T52: a message may be all header."""
    monkeypatch.setattr(fetch_command, "HEADERS", 250_000)
    longest = b"X: " + b"x" * 100_000 + b"\r\n\r\n"
    for octets in (MAIL, longest, longest, longest, MAIL):
        server.append(octets)
    client = server.client(mailbox="INBOX")
    answers = client.command("FETCH 1:* BODY.PEEK[HEADER]")
    assert longest.decode() in answers[3]
    portions = [uids for uids, columns in asked if columns == [Column.HEADER]]
    assert portions == [[1, 2, 3], [4, 5]]


def test_any_packet_split_gives_the_same_answer(server: Rig) -> None:
    """T16."""
    server.append(MAIL)
    whole = server.client(mailbox="INBOX", split=0)
    cut = server.client(mailbox="INBOX", split=1)
    text = "FETCH 1 (UID ENVELOPE BODY.PEEK[HEADER.FIELDS (Subject)])"
    assert cut.command(text) == whole.command(text)


def test_a_fetch_of_much_gives_way_to_other_sessions(tmp_path: Path) -> None:
    with rig(tmp_path, ImapSettings(), accounts=("ann@example.org", "bob@example.org")) as server:
        for _ in range(4):
            server.append(LARGE)
        client = server.client(mailbox="INBOX")
        other = server.client("bob@example.org")
        client.take()
        client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
        assert b"a OK" not in client.transport.value()
        assert other.command("NOOP") == [". OK NOOP completed"]
        server.loop.until(lambda: b"a OK" in client.transport.value()[-40:])


def test_thousands_of_items_give_way_too(server: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3: what one command can ask of one message does not hold up the others."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    other = server.client(mailbox="INBOX")
    monkeypatch.setattr(server.loop, "seconds", count(server.loop.seconds(), 0.004).__next__)
    items = " ".join(f"BINARY.PEEK[1]<{n}.1>" for n in range(8)) + " BODY.PEEK[]<0.4>" * 2
    client.send(b"a FETCH 1 (%b)\r\n" % items.encode())
    assert client.transport.value() == b""
    assert other.command("NOOP")[-1] == ". OK NOOP completed"
    answer = client.read_response()
    assert answer.count(b"BINARY[1]") == 8 and answer.endswith(b" BODY[]<0> {4}\r\nFrom)")
