"""Whatever a client sends, however it is cut: no internal error, no confusion, no stall."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.wire.imap.grammar import PARSERS
from tests.server.rig import MAIL, Client, Rig, rig

WORDS = [
    *PARSERS,
    *b'INBOX Trash 1 1:* *:1 2,3 {3} {3+} {0} ~{2+} {99999+} {999999} ( ) "" "x" \\Seen $k'.split(),
    *b"FLAGS (FLAGS) BODY[] BODY.PEEK[HEADER]<0.5> +FLAGS.SILENT (\\Deleted) ALL NOT OR".split(),
    *b'RETURN (STATUS (MESSAGES)) (SUBSCRIBED) "%" * % = DONE NIL USE CHARSET X'.split(),
    *b"PLAIN AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ= LOGIN ann@example.org secret".split(),
    b"abc",
    b"\xff\xfe",
    b"\0",
    b'"\xc3\xa9"',
    b"&AOk-",
    b"[",
    b"]",
]
LINES = st.lists(st.sampled_from(WORDS), max_size=7).map(b" ".join)
CONVERSATION = st.lists(
    st.one_of(
        LINES.map(lambda line: b"t " + line + b"\r\n"),
        LINES.map(lambda line: line + b"\r\n"),
        st.binary(max_size=12),
        st.sampled_from([b"\r\n", b"\n", b"\r", b"DONE\r\n", b"*\r\n", b"x" * 9000]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> object:
    with rig(Path(tmp_path_factory.mktemp("fuzz"))) as made:
        for _ in range(3):
            made.append(MAIL)
        yield made


def talk(server: Rig, client: Client, packets: list[bytes]) -> bytes:
    """Send packets, let everything be answered, and give what the server said."""
    for packet in packets:
        client.send(packet)
    loop = server.loop
    deadline = time.monotonic() + 20
    while client.connection._running and client.connection._input is None:
        assert time.monotonic() < deadline
        if not loop.turn(0.01):
            loop.advance(1)  # a failed login makes the next one wait
    loop.turn()
    return client.take()


def cuts(octets: bytes, sizes: list[int]) -> list[bytes]:
    packets, at = [], 0
    for size in sizes:
        packets.append(octets[at : at + size])
        at += size
    return [*packets, octets[at:]]


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CONVERSATION, st.booleans(), st.lists(st.integers(1, 40), max_size=10))
def test_nothing_that_is_sent_is_an_internal_error(
    server: Rig, parts: list[bytes], logged_in: bool, sizes: list[int]
) -> None:
    """S3, S5, T17, T54."""
    server.loop.advance(700)  # failed logins of the example before are forgotten
    client = server.client(mailbox="INBOX") if logged_in else server.connect().greeted()
    answer = talk(server, client, cuts(b"".join(parts), sizes))
    assert b"SERVERBUG" not in answer
    if client.connection.is_open:
        client.close()
    server.settle()
    assert client.connection.session.view is None
    assert server.monitor.live == []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(LINES, max_size=6), st.lists(st.integers(1, 30), max_size=20))
def test_packets_make_no_difference(server: Rig, lines: list[bytes], sizes: list[int]) -> None:
    """T16: the same octets, however they are cut, have the same answer."""
    reading = [
        line
        for line in lines
        if not any(word in line for word in (b"IDLE", b"ID", b"STORE", b"EXPUNGE", b"BODY[]"))
        and not any(word in line for word in (b"CREATE", b"DELETE", b"RENAME", b"SCRIBE", b"USE"))
        and not any(word in line for word in (b"COPY", b"MOVE", b"APPEND", b"CLOSE", b"SELECT"))
        and not any(word in line for word in (b"LOGIN", b"AUTH"))
    ]
    octets = b"".join(b"t " + line + b"\r\n" for line in reading)
    whole = server.client(mailbox="INBOX")
    first = talk(server, whole, [octets])
    split = server.client(mailbox="INBOX")
    second = talk(server, split, cuts(octets, sizes))
    assert first == second
    for client in (whole, split):
        if client.connection.is_open:
            client.close()
    server.settle()


HOSTILE = [
    (b"t LIST {open} {star}\r\n", b'""', b"*%"),
    (b"t UID FETCH {open}{star} FLAGS\r\n", b"1", b",1:*"),
    (b"t FETCH 1 ({open}{star})\r\n", b"FLAGS", b" FLAGS"),
    (b"t LOGIN {open} {star}\r\n", b"x", b'\\"'),
    (b"t SEARCH {open}{star}\r\n", b"ALL", b" NOT ALL"),
    (b"{open}{star}\r\n", b"", b"x "),
]


@pytest.mark.parametrize(
    "template", HOSTILE, ids=["list", "uid_set", "fetch", "login", "not", "garbage"]
)
def test_hostile_input_takes_linear_time(server: Rig, template: tuple[bytes, bytes, bytes]) -> None:
    """S4, S5: twice as much takes no more than about twice as long."""
    shape, start, repeated = template
    client = server.client(mailbox="INBOX")

    def seconds(times: int) -> float:
        octets = shape.replace(b"{open}", start).replace(b"{star}", repeated * times)
        best = 9.0
        for _ in range(5):
            client.connection._bad = 0
            begin = time.process_time()
            talk(server, client, [octets])
            best = min(best, time.process_time() - begin)
        return best

    small, large = seconds(3000), seconds(12000)
    assert large < 4 * 2.5 * max(small, 0.002)
    client.close()
