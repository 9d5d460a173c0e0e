"""R7 for the whole server: whatever octets come, in whatever state of a session, nothing is
logged as an error, every client is answered or disconnected, and no file of a message that
never came is left behind.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.logger import Logger, LogLevel, globalLogPublisher

from mailserver.server.lmtp.protocol import LmtpConnection
from mailserver.server.lmtp.session import LmtpSettings
from tests.fuzz.mutation import Mutator
from tests.fuzz.target import untraced
from tests.fuzz.targets import imap, lmtp, pop3
from tests.server.pop3.harness import Client as Pop3Client
from tests.server.pop3.harness import plain, services
from tests.server.rig import MAIL, Client, Rig, Transport, rig

Fuzz = Callable[[Rig, str, int, list[str]], None]
"""Sends so many inputs in a state of a session."""

INPUTS = 150
INPUTS_FOR_LONG = 3_000
LARGE = b"APPEND INBOX {200000}\r\n" + b"x" * 70_000
"""Enough of a message that it lies in a file of the spool."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("fuzz")) as made:
        for _ in range(3):
            made.append(MAIL)
        yield made


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What is logged as an error or worse."""
    found: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            found.append(failure.getTraceback() if failure else str(event.get("log_format")))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def settle(server: Rig, is_busy: Callable[[], bool]) -> None:
    """Let everything that can be answered be answered."""
    deadline = time.monotonic() + 20
    while is_busy():
        assert time.monotonic() < deadline, "no answer"
        if not server.loop.turn(0.01):
            server.loop.advance(1)  # a failed login makes the next one wait
    server.settle()


def check_left(
    server: Rig, transport: Transport, is_busy: Callable[[], bool], errors: list[str], octets: bytes
) -> None:
    """Disconnect a client whose octets have been answered: nothing of it is left."""
    if not transport.is_closed:
        transport.lose()
    settle(server, is_busy)
    assert server.monitor.live == [], octets
    assert spool_files(server) == [], octets
    assert errors == [], octets


def spool_files(server: Rig) -> list[Path]:
    return list((server.data / "spool").iterdir())


def packets(source: random.Random, octets: bytes) -> list[bytes]:
    cuts = sorted(source.randint(0, len(octets)) for _ in range(source.randrange(5)))
    return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


def test_the_instrument_notices(server: Rig, errors: list[str]) -> None:
    """Large messages on their way do lie in the spool, and what is logged is seen."""
    client = IMAP_STATES["in APPEND"](server)
    assert len(spool_files(server)) == 1
    client.close()
    mta = Mta.connected(server)
    mta.send(LMTP_STATES["in DATA"])
    server.loop.until(lambda: len(spool_files(server)) == 1)
    mta.transport.lose()
    server.settle()
    assert spool_files(server) == []
    Logger().error("x")
    assert errors == ["x"]


# -- IMAP --------------------------------------------------------------------------------


def new(server: Rig) -> Client:
    return server.connect().greeted()


def after(octets: bytes, mailbox: str = "") -> Callable[[Rig], Client]:
    def make(server: Rig) -> Client:
        client = server.client(mailbox=mailbox)
        client.send(octets)
        server.settle()
        return client

    return make


def in_authenticate(server: Rig) -> Client:
    client = new(server)
    client.send(b"a AUTHENTICATE PLAIN\r\n")
    server.settle()
    return client


IMAP_STATES: dict[str, Callable[[Rig], Client]] = {
    "not authenticated": new,
    "in AUTHENTICATE": in_authenticate,
    "authenticated": after(b""),
    "selected": after(b"", "INBOX"),
    "idle": after(b"a IDLE\r\n", "INBOX"),
    "in APPEND": after(b"a " + LARGE),
    "behind the literal of APPEND": after(b"a APPEND INBOX {3+}\r\nabc"),
    "in a literal of a command": after(b"a LIST {20}\r\n"),
}
WORDS = (
    *imap.WORDS, b"DONE\r\n", b"*\r\n", b"\r\n", b"a ", b"\r\na ", b"LOGIN ann@example.org secret",
    b"SELECT INBOX", b"IDLE\r\n", b"APPEND INBOX {5}\r\nabcde", b"AUTHENTICATE PLAIN\r\n",
    b"AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=", b"UID FETCH 1:* BODY[]", b"DELETE ", b"LOGOUT", b"CLOSE",
)  # fmt: skip


def imap_conversations() -> list[bytes]:
    lines = [b"t " + octets for octets in (one[2:] for one in imap.commands())]
    return [*(line + b"\r\n" for line in lines), b"DONE\r\n", b"*\r\n", b"\r\n", LARGE[:100]]


def fuzz_imap(server: Rig, state: str, inputs: int, errors: list[str]) -> None:
    source = random.Random(f"{state} {inputs}")
    mutator = Mutator(source, imap_conversations(), WORDS)
    for _ in range(inputs):
        server.loop.advance(700)  # failed logins of the input before are forgotten
        client = IMAP_STATES[state](server)
        connection = client.connection

        def is_busy(connection: Any = connection) -> bool:
            return connection._running and connection._input is None

        octets = b"".join(mutator.next() + b"\r\n" for _ in range(source.randint(1, 3)))
        for packet in packets(source, octets):
            client.send(packet)
            settle(server, is_busy)
        client.take()
        client.send(b"\r\nDONE\r\nprobe NOOP\r\n")
        settle(server, is_busy)
        answer = client.take()
        assert b"SERVERBUG" not in answer and errors == [], octets
        if not client.is_closed and b"probe " not in answer:
            # It waits for octets that were announced: not for ever.
            for _ in range(40):
                server.loop.advance(60)
                server.settle()
            assert client.is_closed, octets
        check_left(server, client.transport, is_busy, errors, octets)


# -- LMTP --------------------------------------------------------------------------------

ENVELOPE = b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<ann@example.org>\r\n"
LMTP_STATES: dict[str, bytes] = {
    "greeted": b"",
    "after LHLO": b"LHLO x\r\n",
    "after MAIL": b"LHLO x\r\nMAIL FROM:<a@b>\r\n",
    "after RCPT": ENVELOPE,
    "in DATA": ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n" + b"x" * 70_000,
    "in BDAT": ENVELOPE + b"BDAT 100000\r\n" + b"x" * 70_000,
    "between chunks": ENVELOPE + b"BDAT 3\r\nabc",
}


@attrs.define
class Mta:
    """A client of LMTP in front of the real store."""

    connection: LmtpConnection
    transport: Transport

    @classmethod
    def connected(cls, server: Rig) -> Mta:
        connection = LmtpConnection(
            server.monitor,
            server.loop,
            server.store,
            server.directory,
            LmtpSettings("mail.example.org"),
            None,
        )
        transport = Transport(server.loop)
        transport.peerAddr = IPv4Address("TCP", "192.0.2.1", 4000)
        transport.protocol = connection
        connection.makeConnection(transport)
        return cls(connection, transport)

    def send(self, octets: bytes) -> None:
        if not self.transport.is_closed and not self.transport.disconnecting:
            self.connection.dataReceived(octets)

    def take(self) -> bytes:
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets

    @property
    def is_busy(self) -> bool:
        return self.connection._is_running


def fuzz_lmtp(server: Rig, state: str, inputs: int, errors: list[str]) -> None:
    source = random.Random(f"{state} {inputs}")
    corpus = [*lmtp.conversations(), *(line + b"\r\n" for line in lmtp.lines())]
    words = (
        *lmtp.VERBS,
        ENVELOPE,
        b"\r\n.\r\n",
        b"DATA\r\n",
        b"BDAT 5\r\nabcde",
        b"<ann@example.org>",
    )
    mutator = Mutator(source, corpus, words)
    for _ in range(inputs):
        client = Mta.connected(server)
        client.send(LMTP_STATES[state])
        octets = b"".join(mutator.next() for _ in range(source.randint(1, 3)))
        for packet in packets(source, octets):
            client.send(packet)
            settle(server, lambda client=client: client.is_busy)
        client.take()
        client.send(b"\r\n.\r\nNOOP\r\n")
        settle(server, lambda client=client: client.is_busy)
        answer = client.take()
        assert b" 4.3.0 " not in answer and errors == [], octets
        if not client.transport.is_closed and not answer:
            for _ in range(70):  # in a chunk that was announced
                server.loop.advance(60)
                server.settle()
            assert client.transport.is_closed, octets
        check_left(server, client.transport, lambda client=client: client.is_busy, errors, octets)


# -- POP3 --------------------------------------------------------------------------------

LOGIN = b"USER ann@example.org\r\nPASS secret\r\n"
POP3_STATES: dict[str, bytes] = {
    "greeted": b"",
    "after USER": b"USER ann@example.org\r\n",
    "in AUTH PLAIN": b"AUTH PLAIN\r\n",
    "in AUTH SCRAM-SHA-256": b"AUTH SCRAM-SHA-256\r\n",
    "after UTF8 and LANG": b"UTF8\r\nLANG de\r\n",
    "transaction": LOGIN,
    "with marks": LOGIN + b"DELE 1\r\nDELE 3\r\n",
    "with output that is not taken": LOGIN,
}
POP3_WORDS = (
    *pop3.WORDS, LOGIN, b"\r\n", b"\n", b"*\r\n", b"STLS\r\n", b"CAPA\r\n", b"UTF8\r\n",
    b"RETR 2\r\n", b"TOP 1 5\r\n", b"LIST\r\n", b"UIDL\r\n", b"RSET\r\n", plain().encode(),
    b"n,,n=ann@example.org,r=abc",
)  # fmt: skip


def fuzz_pop3(server: Rig, state: str, inputs: int, errors: list[str]) -> None:
    source = random.Random(f"{state} {inputs}")
    corpus = [line + b"\r\n" for line in pop3.commands() if line.upper() != b"QUIT"]
    mutator = Mutator(source, corpus, POP3_WORDS)
    shared = services(server, set_seen=True)
    before = mailbox_of(Pop3Client(server, shared))
    for _ in range(inputs):
        server.loop.advance(700)  # failed logins of the input before are forgotten
        client = Pop3Client(server, shared)
        connection = client.connection

        def is_busy(connection: Any = connection) -> bool:
            return connection.is_open and connection._is_busy and not connection.is_full

        client.send(POP3_STATES[state])
        settle(server, is_busy)
        assert (connection.account != "") == (LOGIN in POP3_STATES[state])
        if "not taken" in state:
            client.transport.fill()
        octets = b"".join(mutator.next() for _ in range(source.randint(1, 4)))
        # Nothing may leave the mailbox, so that all inputs find it alike.
        octets = re.sub(rb"(?i)quit", b"quot", octets)
        for packet in packets(source, octets):
            client.send(packet)
            settle(server, is_busy)
        if "not taken" in state and not client.transport.is_closed:
            client.transport.empty()
            settle(server, is_busy)
        client.transport.clear()
        client.send(b"\r\n*\r\n\r\nNOOP\r\n")
        settle(server, is_busy)
        answer = client.transport.value()
        assert b"internal error" not in answer and b"innerer Fehler" not in answer, octets
        assert errors == [], octets
        assert client.is_closed or answer.endswith(b"\r\n"), octets
        check_left(server, client.transport, is_busy, errors, octets)
    after = mailbox_of(Pop3Client(server, shared))
    assert after == before, "what was marked is there (T42)"


def mailbox_of(client: Pop3Client) -> str:
    """What STAT says of it."""
    told = client.login().ok("STAT")
    client.transport.lose()
    client.rig.settle()
    return told


# -- all of them -------------------------------------------------------------------------

EVERY_STATE = [
    pytest.param(fuzz, state, id=f"{fuzz.__name__.removeprefix('fuzz_')} {state}")
    for fuzz, states in (
        (fuzz_imap, IMAP_STATES),
        (fuzz_lmtp, LMTP_STATES),
        (fuzz_pop3, POP3_STATES),
    )
    for state in states
]


@pytest.mark.parametrize(("fuzz", "state"), EVERY_STATE)
def test_every_state(server: Rig, errors: list[str], fuzz: Fuzz, state: str) -> None:
    """R7, T16, T17, T42, T51, S10."""
    with untraced():
        fuzz(server, state, INPUTS, errors)


@pytest.mark.long
@pytest.mark.parametrize(("fuzz", "state"), EVERY_STATE)
def test_every_state_for_long(server: Rig, errors: list[str], fuzz: Fuzz, state: str) -> None:
    """R7"""
    fuzz(server, state, INPUTS_FOR_LONG, errors)
