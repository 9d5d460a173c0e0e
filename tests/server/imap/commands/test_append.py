"""APPEND where a transcript does not reach: large messages, quotas, broken connections."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.rig import MAIL, Client, Rig, rig

LARGE = b"Subject: large\r\n\r\n" + b"0123456789 large as can be\r\n" * 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def append(client: Client, octets: bytes, mailbox: str = "INBOX") -> list[str]:
    """Append with a literal that waits for no go-ahead."""
    return client.command(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(octets), octets))


def spooled_files(server: Rig) -> list[Path]:
    return [path for path in (server.data / "spool").rglob("*") if path.is_file()]


def test_a_large_message_goes_through_a_file(server: Rig) -> None:
    """T25, T52: it is never in memory as a whole, and comes back as it was."""
    client = server.client(mailbox="INBOX")
    client.send(b"a APPEND INBOX {%d}\r\n" % len(LARGE))
    assert client.read_response().startswith(b"+ ")
    step = 16384
    tracemalloc.start()
    for at in range(0, len(LARGE), step):
        client.send(LARGE[at : at + step])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(LARGE) / 4
    assert len(spooled_files(server)) == 1
    client.send(b"\r\n")
    assert client.read_response() == b"* 1 EXISTS"
    assert client.read_response() == b"* 1 RECENT"
    assert client.read_response().startswith(b"a OK [APPENDUID ")
    assert spooled_files(server) == []
    client.send(b"b FETCH 1 BODY.PEEK[]\r\n")
    assert client.read_response() == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(LARGE), LARGE)


def test_a_connection_that_breaks_leaves_nothing(server: Rig) -> None:
    """T25: neither a message nor a file."""
    client = server.client(mailbox="INBOX")
    client.send(b"a APPEND INBOX {%d+}\r\n%b" % (len(LARGE), LARGE[:1_000_000]))
    assert len(spooled_files(server)) == 1
    client.close()
    server.settle()
    assert spooled_files(server) == []
    assert server.client().command("STATUS INBOX (MESSAGES)")[0] == "* STATUS INBOX (MESSAGES 0)"


def test_a_broken_second_message_takes_the_first_with_it(server: Rig) -> None:
    """T25: MULTIAPPEND is all or none; the files are gone too."""
    client = server.client(mailbox="INBOX")
    line = b"APPEND INBOX {%d+}\r\n%b (\\Seen) {%d+}\r\n%b rubbish"
    answers = client.command(line % (len(LARGE), LARGE, len(MAIL), MAIL))
    assert len(answers) == 1 and answers[0].startswith(". BAD ")
    assert spooled_files(server) == []
    assert client.command("STATUS INBOX (MESSAGES)")[0] == "* STATUS INBOX (MESSAGES 0)"


def test_over_quota(server: Rig) -> None:
    """T49: APPEND and COPY are refused, MOVE within the account is not (CGP-15)."""
    client = server.client(mailbox="INBOX")
    append(client, MAIL)
    server.loop.result(
        server.store.set_quota(server.accounts["ann@example.org"].id, None, message_limit=1)
    )
    assert append(client, MAIL)[-1].startswith(". NO [OVERQUOTA] ")
    assert client.command("COPY 1 Archive")[-1].startswith(". NO [OVERQUOTA] ")
    assert client.command("STATUS Archive (MESSAGES)")[0].endswith("(MESSAGES 0)")
    answers = client.command("MOVE 1 Archive")
    assert answers[0].startswith("* OK [COPYUID ")
    assert answers[1:] == ["* 1 EXPUNGE", ". OK MOVE completed"]


def test_over_quota_is_told_before_the_octets(server: Rig) -> None:
    """T25, T49: what is announced counts with what came before it in the same command."""
    client = server.client()
    account = server.accounts["ann@example.org"].id
    server.loop.result(server.store.set_quota(account, 2048, message_limit=None))
    assert client.command(b"APPEND INBOX {2049}")[0].startswith(". NO [OVERQUOTA] ")
    first = b"APPEND INBOX {1500+}\r\n" + b"x" * 1500
    assert client.command(first + b" {549}")[0].startswith(". NO [OVERQUOTA] ")
    server.loop.result(server.store.set_quota(account, None, message_limit=1))
    assert client.command(first + b" {10}")[0].startswith(". NO [OVERQUOTA] ")
    assert client.command("STATUS INBOX (MESSAGES)")[0] == "* STATUS INBOX (MESSAGES 0)"
    assert spooled_files(server) == []


def test_a_refusal_before_the_octets_keeps_the_connection(server: Rig) -> None:
    """T17: the literal is not asked for, or swallowed; the next command runs."""
    client = server.client(mailbox="INBOX")
    limit = server.store.max_message_size
    assert client.command(b"APPEND INBOX {%d}" % (limit + 1))[0].startswith(". NO [TOOBIG] ")
    assert client.command(b"APPEND Nowhere {5+}\r\n12345")[0].startswith(". NO [TRYCREATE] ")
    assert client.command("NOOP") == [". OK NOOP completed"]


def test_of_few_octets_that_come_unasked_it_is_found_out_when_they_are_put_away(
    server: Rig,
) -> None:
    """T25: a small message is there anyway; it is refused whole all the same."""
    client = server.client(mailbox="INBOX")
    missing = b"APPEND Nowhere {%d+}\r\n%b"
    for octets in (MAIL, LARGE, MAIL + b"x" * 60_000):
        [answer] = client.command(missing % (len(octets), octets))
        assert answer.startswith(". NO [TRYCREATE] ")
        assert spooled_files(server) == []
    client.send(b"a APPEND Nowhere {%d+}\r\n%b" % (len(LARGE), LARGE[:200_000]))
    assert client.read_response().startswith(b"a NO [TRYCREATE] ")  # though most of it is to come
    assert spooled_files(server) == []
    client.send(LARGE[200_000:] + b"\r\n")
    for announced in (b"{0+}\r\n", b"{0}", b"{%d}" % (server.store.max_message_size + 1)):
        [answer] = client.command(b"APPEND Nowhere " + announced)
        assert answer.startswith(". NO [TRYCREATE] ")
    account = server.accounts["ann@example.org"].id
    server.loop.result(server.store.set_quota(account, 4000, message_limit=None))
    two = b"APPEND INBOX {%d+}\r\n%b {%d+}\r\n%b" % (3000, b"x" * 3000, 2000, b"x" * 2000)
    assert client.command(two)[-1].startswith(". NO [OVERQUOTA] ")
    assert client.command("STATUS INBOX (MESSAGES)")[0] == "* STATUS INBOX (MESSAGES 0)"
    assert append(client, MAIL)[-1].startswith(". OK [APPENDUID ")


def test_a_target_that_is_renamed_after_the_go_ahead(server: Rig) -> None:
    """T25: the message goes to the mailbox that was there when the client was told to send."""
    client, other = server.client(), server.client()
    other.command("CREATE Old")
    client.send(b"a APPEND Old {%d}\r\n" % len(MAIL))
    assert client.read_response().startswith(b"+ ")
    assert other.command("RENAME Old New")[-1].startswith(". OK")
    client.send(MAIL + b"\r\n")
    assert client.read_response().startswith(b"a OK [APPENDUID ")
    assert other.command("STATUS New (MESSAGES)")[0].endswith("(MESSAGES 1)")


def test_a_message_that_grows_over_the_limit(server: Rig) -> None:
    """T31: bare line ends become CRLF, and only then the size is known."""
    client = server.client(mailbox="INBOX")
    server.store.max_message_size = 300
    assert append(client, b"\r\n" * 150)[-1].startswith(". OK ")
    for octets in (b"\n" * 151, b"\n" * 300):
        assert append(client, octets)[-1].startswith(". NO [TOOBIG] ")
    assert client.command("STATUS INBOX (MESSAGES)")[0].endswith("(MESSAGES 1)")
    assert spooled_files(server) == []


def test_any_packet_split_gives_the_same_mailbox(server: Rig) -> None:
    """T16."""
    client = server.client(mailbox="INBOX", split=1)
    assert append(client, MAIL)[:-1] == ["* 1 EXISTS", "* 1 RECENT"]
    assert client.command("FETCH 1 RFC822.SIZE")[0] == f"* 1 FETCH (RFC822.SIZE {len(MAIL)})"


def test_commands_sent_behind_the_message(server: Rig) -> None:
    """T16: pipelined behind an APPEND they wait for it."""
    client = server.client(mailbox="INBOX")
    client.send(b"a APPEND INBOX {%d+}\r\n%b\r\nb FETCH 1 UID\r\n" % (len(MAIL), MAIL))
    answers = [client.read_response() for _ in range(5)]
    assert answers[:2] == [b"* 1 EXISTS", b"* 1 RECENT"]
    assert answers[2].startswith(b"a OK [APPENDUID ")
    assert answers[3:] == [b"* 1 FETCH (UID 1)", b"b OK FETCH completed"]


def test_without_a_date_it_is_now(server: Rig) -> None:
    """RFC 3501 §6.3.11."""
    client = server.client(mailbox="INBOX")
    server.loop.advance(600)
    append(client, MAIL)
    assert client.command("FETCH 1 INTERNALDATE")[0] == (
        '* 1 FETCH (INTERNALDATE "14-Nov-2023 22:23:20 +0000")'
    )
