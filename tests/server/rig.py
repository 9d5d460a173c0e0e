"""A whole mail server in one process: real store, directory, passwords and bus, with
sockets and the clock replaced.

Nothing here runs by itself. Time stands still until a test advances it; what the store's
and the password threads hand back is taken when a test waits for it. A client is a pair of
buffers, so that a test decides how octets are cut into packets.
"""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.auth.authenticator import Authenticator
from mailserver.auth.checkers.directory import DirectoryChecker
from mailserver.auth.decoys import Decoys
from mailserver.auth.passwords import HashParameters, Passwords
from mailserver.auth.pool import FairPool
from mailserver.auth.throttle import Throttle
from mailserver.events.bus import EventBus
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.account import Account, Recipient
from mailserver.model.flags import Flags
from mailserver.model.ids import Principal
from mailserver.model.message import InternalDate
from mailserver.server.imap.commands import MODULES
from mailserver.server.imap.protocol import ImapFactory
from mailserver.server.imap.registry import Registry
from mailserver.server.imap.session import Services
from mailserver.server.imap.settings import ImapSettings
from mailserver.store.directory.directory import Directory
from mailserver.store.directory.edit import NewAccount
from mailserver.store.mailstore import open_store

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds of real time for which a test waits for a thread."""

CHEAP = HashParameters(time_cost=1, memory_cost=8, scram_iterations=4096)

START = 1_700_000_000.0
"""What the clock shows at first, seconds since 1970 UTC."""

ON_START = InternalDate(int(START))
DEFAULTS = ImapSettings()


class Loop(Clock):
    """A reactor for tests: time by hand, results of threads when they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = START
        self._from_threads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def callFromThread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._from_threads.put(lambda: function(*args, **kwargs))

    def turn(self, wait: float = 0.0) -> bool:
        """Run what is due; wait for a thread if there is nothing. False if nothing came."""
        due = bool(self.calls) and self.calls[0].getTime() <= self.seconds()
        self.advance(0)
        came = False
        try:
            while True:
                self._from_threads.get(not (due or came) and wait > 0, wait or None)()
                came = True
        except queue.Empty:
            pass
        return due or came

    def until(self, done: Callable[[], bool], what: str = "") -> None:
        """Turn until it is done; fails when nothing happens for `PATIENCE` seconds."""
        while not done():
            if not self.turn(PATIENCE):
                raise AssertionError(f"nothing happens any more, waiting for {what or done}")

    def result(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """Run a coroutine to its end and give its result."""
        outcome: list[Any] = []
        deferred: Deferred[T] = Deferred.fromCoroutine(work)
        deferred.addBoth(outcome.append)
        self.until(lambda: bool(outcome), str(work))
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]  # type: ignore[no-any-return]


@implementer(ISessionMonitor)
class Monitor:
    """Counts sessions; its limits are there to be set by tests."""

    def __init__(self) -> None:
        self.live: list[ISession] = []
        self.max_sessions = 1000
        self.max_per_account = 1000
        self.reason = ""  # why addresses are refused
        self._numbers = count(1)

    def opened(self, session: ISession) -> bool:
        self.live.append(session)
        return len(self.live) <= self.max_sessions

    async def refusal(self, session: ISession) -> str:
        return self.reason

    def closed(self, session: ISession) -> None:
        self.live.remove(session)

    def login_began(self, session: ISession) -> None: ...

    def kicked(self, account: str, reason: str) -> None: ...

    def check_began(self, session: ISession) -> None: ...

    def check_ended(self, session: ISession) -> None: ...

    def logged_in(self, session: ISession) -> bool:
        same = sum(other.account == session.account for other in self.live)
        return same <= self.max_per_account

    def sessions(self) -> list[ISession]:
        return list(self.live)

    def next_number(self) -> int:
        return next(self._numbers)


class Transport(StringTransport):
    """Keeps what the server sends, tells it when the connection is gone, and can be made
    to look full."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop
        self.writes: list[bytes] = []
        self.is_closed = False
        self.no_delay = False
        self.paused = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def write(self, data: bytes) -> None:
        assert not self.disconnecting, "written after the connection was closed"
        super().write(data)
        self.writes.append(data)

    def fill(self) -> None:
        """Let the server see a client that does not read."""
        self.producer.pauseProducing()

    def empty(self) -> None:
        """The client has read all."""
        self.producer.resumeProducing()

    def loseConnection(self) -> None:
        assert self.producer is None, "a registered producer holds the connection open"
        super().loseConnection()
        self.loop.callLater(0, self.lose, ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnecting = True
        self.loop.callLater(0, self.lose, ConnectionAborted())

    def lose(self, reason: Exception | None = None) -> None:
        """End the connection."""
        if not self.is_closed:
            self.is_closed = True
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


class Client:
    """One connection to the server, seen from the client's end of the wire.

    Attributes:
        split: octets per packet sent; 0 sends whole strings.
        transport: the server's end.
        connection: the server's protocol.
    """

    def __init__(self, rig: Rig, service: str, split: int = 0) -> None:
        self.rig = rig
        self.split = split
        self.transport = Transport(rig.loop)
        self.connection = ImapFactory(rig.services, service).buildProtocol(None)
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)
        self._tags = count(1)
        self.buffer = b""

    # -- octets -------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Send octets as they are, in packets of `split`."""
        step = self.split or len(octets) or 1
        for at in range(0, len(octets), step):
            if not self.transport.is_closed and not self.transport.disconnecting:
                self.connection.dataReceived(octets[at : at + step])

    def take(self) -> bytes:
        """Take everything that the server has sent so far."""
        octets = self.buffer + self.transport.value()
        self.buffer = b""
        self.transport.clear()
        return octets

    def read_response(self) -> bytes:
        """Wait for one whole response, literals included; without its CRLF."""
        found: list[int] = []

        def complete() -> bool:
            self.buffer += self.transport.value()
            self.transport.clear()
            end = _response_end(self.buffer)
            if end:
                found.append(end)
            return bool(found)

        self.rig.loop.until(complete, f"a response; there is {self.buffer!r}")
        response, self.buffer = self.buffer[: found[0]], self.buffer[found[0] :]
        return response[:-2]

    @property
    def is_closed(self) -> bool:
        """The server has closed the connection."""
        return self.transport.is_closed

    def close(self) -> None:
        """Break the connection from the client's side."""
        self.transport.lose()

    # -- commands -----------------------------------------------------------

    def command(self, text: str | bytes) -> list[str]:
        """Send a command with a new tag and wait for its answer.

        Returns:
            All responses in order as text, without CRLF; the tag reads `.`.
        """
        octets = text.encode() if isinstance(text, str) else text
        tag = b"t%d" % next(self._tags)
        self.send(b"%b %b\r\n" % (tag, octets))
        responses = []
        while True:
            response = self.read_response()
            if response.startswith(tag + b" "):
                responses.append("." + response[len(tag) :].decode("utf-8"))
                return responses
            responses.append(response.decode("utf-8"))

    def login(self, name: str = "ann@example.org", password: str = "secret") -> Client:
        """Log in; returns the client itself."""
        answer = self.command(f'LOGIN "{name}" "{password}"')[-1]
        assert answer.startswith(". OK "), answer
        return self

    def select(self, mailbox: str = "INBOX") -> Client:
        """Select a mailbox; returns the client itself."""
        answer = self.command(f'SELECT "{mailbox}"')[-1]
        assert answer.startswith(". OK "), answer
        return self

    def greeted(self) -> Client:
        """Drop the greeting; returns the client itself."""
        assert self.read_response().startswith(b"* OK ")
        return self


_LITERAL = re.compile(rb"~?\{(\d+)\}\r\n\Z")


def _response_end(octets: bytes) -> int:
    """Where the first response ends, with its CRLF; 0 if it is not complete."""
    at = 0
    while True:
        end = octets.find(b"\r\n", at) + 2
        if end < 2:
            return 0
        literal = _LITERAL.search(octets, at, end)
        if literal is None:
            return end
        at = end + int(literal[1])
        if at > len(octets):
            return 0


@attrs.define
class Rig:
    """A server with its accounts; made by `rig`."""

    data: Path
    loop: Loop
    bus: EventBus
    monitor: Monitor
    directory: Directory
    store: Any
    pool: FairPool
    passwords: Passwords
    services: Services
    accounts: dict[str, Account] = attrs.field(factory=dict)

    def add_account(self, name: str, password: str = "secret", **options: Any) -> Account:
        """Make an account with its first mailboxes."""
        run = self.loop.result
        verifiers = run(self.passwords.verifiers(password))
        new = NewAccount(name, verifiers, **options)
        account = run(self.directory.create_account(new, add_domains=True))
        run(self.store.create_account(account))
        self.accounts[name] = account
        return account

    def principal(self, name: str = "ann@example.org") -> Principal:
        """Act as an account, beside its sessions."""
        account = self.accounts[name]
        return Principal(account.id, account.name, account.name)

    def connect(self, service: str = "imap", split: int = 0) -> Client:
        """Open a connection; the greeting is still to be read."""
        return Client(self, service, split)

    def client(self, name: str = "ann@example.org", mailbox: str = "", split: int = 0) -> Client:
        """Open a connection that is logged in, and has a mailbox selected if one is named."""
        client = self.connect(split=split).greeted().login(name)
        return client.select(mailbox) if mailbox else client

    def append(
        self,
        octets: bytes,
        *flags: str,
        mailbox: str = "INBOX",
        name: str = "ann@example.org",
        date: InternalDate = ON_START,
    ) -> int:
        """Put a message into a mailbox, beside all sessions; gives its UID."""
        who = self.principal(name)

        async def work() -> int:
            spool = self.store.spool()
            spool.write(octets)
            spooled = await spool.finish()
            target = await self.store.find(who, mailbox)
            message = (spooled, Flags.of(*flags), date)
            copied = await self.store.append(who, target.ref, (message,))
            spooled.discard()
            return copied.target[0]  # type: ignore[no-any-return]

        return self.loop.result(work())

    def deliver(self, octets: bytes, name: str = "ann@example.org") -> None:
        """Deliver a message as LMTP does."""
        account = self.accounts[name]

        async def work() -> None:
            spool = self.store.spool()
            spool.write(octets)
            spooled = await spool.finish()
            await self.store.deliver(Recipient(name, account), spooled, b"")
            spooled.discard()

        self.loop.result(work())

    async def stop(self) -> None:
        """Finish what is being written and close everything."""
        self.pool.stop()
        await self.store.stop()
        await self.directory.stop()

    def settle(self, turns: int = 3) -> None:
        """Let what is due happen, for instance events reach their listeners."""
        for _ in range(turns):
            self.loop.turn()


def assemble(
    data: Path,
    loop: Any,
    settings: ImapSettings = DEFAULTS,
    *,
    tls: IOpenSSLContextFactory | None = None,
    covers_all_mailboxes: bool = True,
    writers: int = 1,
) -> Rig:
    """Put a server together in a directory, on a `Loop` or on a real reactor; to be ended
    by `Rig.stop`."""
    data.chmod(0o700)
    bus = EventBus(loop, covers_all_mailboxes=covers_all_mailboxes)
    directory = Directory.open(data / "directory.db", loop, new_id=_ids())
    store = open_store(data, loop, bus, now=loop.seconds, writers=writers)
    pool = FairPool(loop, 1)
    pool.start()
    passwords = Passwords(pool, loop, CHEAP)
    checker = DirectoryChecker(directory, directory, passwords)
    monitor = Monitor()
    services = Services(
        store=store,
        directory=directory,
        authenticator=Authenticator(
            directory, (checker,), Throttle(loop), loop, decoys=Decoys(bytes(32), 4096)
        ),
        bus=bus,
        monitor=monitor,
        settings=settings,
        registry=Registry.collect(MODULES),
        clock=loop,
        tls=tls,
        now=loop.seconds,
    )
    return Rig(data, loop, bus, monitor, directory, store, pool, passwords, services)


@contextmanager
def rig(
    data: Path,
    settings: ImapSettings = DEFAULTS,
    *,
    accounts: tuple[str, ...] = ("ann@example.org",),
    **options: Any,
) -> Iterator[Rig]:
    """Start a server in an empty directory with accounts whose password is `secret`; the
    options are those of `assemble`."""
    out = assemble(data, Loop(), settings, **options)
    try:
        for name in accounts:
            out.add_account(name)
        yield out
    finally:
        out.loop.result(out.stop())


def _ids() -> Callable[[], Any]:
    """Account ids in a row, so that two runs of a test are the same."""
    numbers = count(1)
    return lambda: f"{next(numbers):026d}"


MAIL = b"From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n"
"""A small message."""
