"""Carries events between the processes that work on one data directory (SUN-50).

One process, the server, listens on a Unix socket; the others (`mailctl`, workers) connect,
tell it what they changed, and hear of everything else if they want to. Without a server
nothing is lost: nobody else is watching.

Wire form: JSON objects, one a line, at most 4096 octets; members that are not known are
ignored, so that versions may differ while one is replaced by the other:

    {"hello": 1, "listen": true}                 first line of who connects
    {"account": "…", "mailbox": "…", "modseq": 7, "kind": "NewMsg"}      either way
    {"ping": 3}  →  {"pong": 3}                  all lines before it have been taken
    {"bye": true}                                last line of who goes of its own will
    {"wake": true}                               to who listens: look at everything anew

Invariants:

- Only processes of our own user are talked to (SO_PEERCRED), whatever the modes say.
- Who listens holds a lock file for life. So a socket that is found while the lock is free
  was left by a dead process, and is replaced without a race.
- Nobody waits for a peer: events for one that does not read are joined per mailbox, and it
  is dropped after a while. It connects again and then looks at everything anew.
- A process that goes without a goodbye may have committed what it could not tell any more:
  then all others look at everything anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import Any

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    fail,
    maybeDeferred,
)
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError, ConnectionClosed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.events.bus import EventBus, joined
from mailserver.events.sockets import peer_uid, socket_address
from mailserver.model.changes import Event, EventKind
from mailserver.model.ids import MAX_MODSEQ, AccountId, MailboxId, MailboxRef, ModSeq

MAX_LINE = 4096
"""Octets of one message without its newline."""

MAX_WAITING = 10_000
"""Mailboxes whose events may wait for a peer that does not read."""

READ_TIMEOUT = 30.0
"""Seconds that a peer may leave our octets untaken."""

CLOSE_TIMEOUT = 2.0
"""Seconds that the last octets may take when a process goes."""

RETRY_LONGEST = 10.0
"""Seconds between two tries to reach the server, at most."""

_ACCOUNT = re.compile(r"[0-9a-z]{26}")
_MAILBOX = re.compile(r"[A-Za-z0-9_-]{1,255}")


def encode(event: Event) -> bytes:
    """Write an event as one line."""
    return _line(
        {
            "account": event.ref.account,
            "mailbox": event.ref.mailbox,
            "modseq": event.mod_sequence,
            "kind": event.kind.value,
        }
    )


def decode(message: dict[str, Any]) -> Event:
    """Read an event; one of a kind that is not known still says that a mailbox changed.

    Raises:
        ValueError: it is none.
    """
    account, mailbox, modseq = (message.get(key) for key in ("account", "mailbox", "modseq"))
    if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
        raise ValueError("account is not an id")
    if not isinstance(mailbox, str) or not _MAILBOX.fullmatch(mailbox):
        raise ValueError("mailbox is not an id")
    if type(modseq) is not int or not 0 <= modseq <= MAX_MODSEQ:
        raise ValueError("modseq is not a mod-sequence")
    try:
        kind = EventKind(message.get("kind"))
    except ValueError:
        kind = EventKind.MAILBOXES  # the one kind that every listener looks at
    return Event(MailboxRef(AccountId(account), MailboxId(mailbox)), ModSeq(modseq), kind)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


@implementer(IPushProducer)
class _Peer(Protocol):
    """One connection, either end of it."""

    _log = Logger()
    transport: Any  # a Unix stream with `socket`, `abortConnection`, `registerProducer`

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._rest = b""
        self._paused = False
        self._waiting: dict[MailboxRef, Event] = {}
        self._alarm: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Look who it is, then begin."""
        if peer_uid(self.transport.socket) != os.geteuid():
            self._log.warn("events: a process of another user was refused")
            self.transport.abortConnection()
            return
        self.transport.registerProducer(self, True)
        self.began()

    def began(self) -> None:
        """The peer is one of ours."""
        raise NotImplementedError

    def received(self, message: dict[str, Any]) -> None:
        """Take a message. ValueError ends the connection."""
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        """Cut the stream into lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for line in lines:
                if len(line) > MAX_LINE:
                    raise ValueError("line too long")
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("not an object")
                self.received(message)
            if len(self._rest) > MAX_LINE:
                raise ValueError("line too long")
        except (ValueError, RecursionError) as error:
            self._log.warn("events: connection ended: {reason}", reason=str(error)[:100])
            self._rest = b""
            self.transport.abortConnection()

    def send(self, event: Event) -> None:
        """Send an event now, or when the peer reads again."""
        if not self._paused:
            self.transport.write(encode(event))
            return
        earlier = self._waiting.get(event.ref)
        self._waiting[event.ref] = event if earlier is None else joined(earlier, event)
        if len(self._waiting) > MAX_WAITING:
            self._drop("it does not read")

    def _drop(self, reason: str) -> None:
        self._log.warn("events: a process was dropped: {reason}", reason=reason)
        self._waiting.clear()
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """The peer does not read."""
        self._paused = True
        if self._alarm is None:
            self._alarm = self._clock.callLater(READ_TIMEOUT, self._drop, "it does not read")

    def resumeProducing(self) -> None:
        """It reads again: send what waited, one event of each mailbox."""
        self._paused = False
        self._calm()
        waiting, self._waiting = self._waiting, {}
        self.transport.writeSequence([encode(event) for event in waiting.values()])

    def stopProducing(self) -> None:
        """The connection is over."""
        self._paused = True
        self._waiting.clear()
        self._calm()

    def _calm(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        self.stopProducing()


# -- the server's side ----------------------------------------------------------


class HubServer:
    """Listens for the other processes; in the one process that is the server.

    Args:
        path: of the socket; its directory is made, 0700, if it is not there.
        bus: of this process.
        reactor: the reactor.
    """

    _log = Logger()

    def __init__(self, path: Path, bus: EventBus, reactor: Any) -> None:
        self._path = path
        self._bus = bus
        self._reactor = reactor
        self._peers: set[_Client] = set()
        self._lock = self._directory = -1
        self._port: IListeningPort | None = None

    def start(self) -> None:
        """Take the lock, replace what a dead process left, and listen.

        Raises:
            MailError: UNAVAILABLE if another process listens, or the socket cannot be made.
        """
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._lock = _locked(self._path.with_suffix(".lock"))
            self._path.unlink(missing_ok=True)
            address, self._directory = socket_address(self._path)
            factory = Factory.forProtocol(lambda: _Client(self, self._bus, self._reactor))
            factory.noisy = False
            self._port = self._reactor.listenUNIX(address, factory, mode=0o600)
        except (OSError, CannotListenError) as error:
            self._release()
            raise MailError(
                ErrorKind.UNAVAILABLE, f"events between processes: {self._path}: {error}"
            ) from error
        except MailError:
            self._release()
            raise
        self._bus.forward_to(self.relay)

    async def stop(self) -> None:
        """Stop listening and close every connection; may be called twice."""
        if self._port is None:
            return
        self._bus.forward_to(None)
        port, self._port = self._port, None
        gone = [peer.gone for peer in self._peers]
        for peer in list(self._peers):
            peer.transport.abortConnection()  # one that does not read must not hold us up
        if self._path.exists():  # the port removes it and would fail without it
            await maybeDeferred(port.stopListening)
        await DeferredList(gone)
        self._release()

    def relay(self, event: Event, source: _Client | None = None) -> None:
        """Tell every process that listens, but not the one that it came from."""
        for peer in list(self._peers):
            if peer.listens and peer is not source:
                peer.send(event)

    def connected(self, peer: _Client) -> None:
        """A process has connected."""
        self._peers.add(peer)

    def disconnected(self, peer: _Client) -> None:
        """A process is gone."""
        self._peers.discard(peer)
        if peer.took_leave or self._port is None:
            return
        self._bus.wake_all()
        for other in list(self._peers):
            if other.listens:
                other.wake()

    def _release(self) -> None:
        for descriptor in (self._directory, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._directory = self._lock = -1


class _Client(_Peer):
    """A connected process, as the server sees it."""

    def __init__(self, server: HubServer, bus: EventBus, clock: Any) -> None:
        super().__init__(clock)
        self._server = server
        self._bus = bus
        self.listens = False
        self.took_leave = False
        self.gone: Deferred[None] = Deferred()

    def began(self) -> None:
        """Wait for what it says."""
        self._server.connected(self)

    def received(self, message: dict[str, Any]) -> None:
        """Take a hello, a ping, an event or a goodbye."""
        if "hello" in message:
            self.listens = message.get("listen") is True
        elif "bye" in message:
            self.took_leave = True
        elif "ping" in message:
            if type(message["ping"]) is not int:
                raise ValueError("ping is not a number")
            self.transport.write(_line({"pong": message["ping"]}))
        elif "account" in message:
            event = decode(message)
            self._bus.deliver(event)
            self._server.relay(event, self)

    def wake(self) -> None:
        """Tell it that events may have been lost."""
        self.transport.write(_line({"wake": True}))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        super().connectionLost(reason)
        self._server.disconnected(self)
        if not self.gone.called:
            self.gone.callback(None)


# -- the side of the others --------------------------------------------------------


class HubClient:
    """Connects to the server, for as long as this process lives, or for one command.

        hub = HubClient(path, bus, reactor, listens=False)
        hub.start()
        …                       # what is published meanwhile is kept
        await hub.flush(2.0)    # False without a server, which is no error
        await hub.stop()

    Args:
        path: of the server's socket.
        bus: of this process; its events go to the server.
        reactor: the reactor.
        listens: whether this process wants to hear what others changed.
    """

    _log = Logger()

    def __init__(self, path: Path, bus: EventBus, reactor: Any, *, listens: bool = True) -> None:
        self._path = path
        self._bus = bus
        self._reactor = reactor
        self.listens = listens
        self._service: ClientService | None = None
        self._directory = -1
        self._server: _Server | None = None
        self._waiting: dict[MailboxRef, Event] = {}

    def start(self) -> None:
        """Begin to connect, and to take what the bus publishes."""
        self._bus.forward_to(self.publish)
        factory = Factory.forProtocol(lambda: _Server(self, self._bus, self._reactor))
        factory.noisy = False
        self._service = ClientService(
            _Endpoint(self._path, self._reactor),
            factory,
            backoffPolicy(initialDelay=0.1, maxDelay=RETRY_LONGEST),
            clock=self._reactor,
        )
        self._service.startService()

    async def stop(self) -> None:
        """Close the connection, after what was sent has gone; may be called twice."""
        if self._service is None:
            return
        self._bus.forward_to(None)
        service, self._service = self._service, None
        server = self._server
        if server is None:
            await maybeDeferred(service.stopService)
            return
        server.transport.write(_line({"bye": True}))
        alarm = self._reactor.callLater(CLOSE_TIMEOUT, server.transport.abortConnection)
        await maybeDeferred(service.stopService)
        if alarm.active():
            alarm.cancel()

    def publish(self, event: Event) -> None:
        """Send an event, or keep it for the server that is not there yet."""
        if self._server is not None:
            self._server.send(event)
            return
        earlier = self._waiting.pop(event.ref, None)
        self._waiting[event.ref] = event if earlier is None else joined(earlier, event)
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]

    async def flush(self, timeout: float) -> bool:
        """Wait until the server has taken all that was published.

        Args:
            timeout: seconds.

        Returns:
            False if there is no server, or it did not answer in time.
        """
        if self._service is None or (self._server is None and not self._path.exists()):
            return False
        waiting: Deferred[Any] = self._service.whenConnected(failAfterFailures=1)
        waiting.addTimeout(timeout, self._reactor)
        try:
            await waiting
            if self._server is None:
                return False
            answer = self._server.ping()
            answer.addTimeout(timeout, self._reactor)
            await answer
        except (ConnectError, ConnectionClosed, CancelledError, TimeoutError):
            # Leave the service's own call before the caller stops it.
            await deferLater(self._reactor, 0)
            return False
        return True

    def connected(self, server: _Server) -> None:
        """The server is there: send what waited."""
        self._server = server
        waiting, self._waiting = self._waiting, {}
        for event in waiting.values():
            server.send(event)
        if self.listens:
            # Not before the server has taken our hello: what happens until then it does not
            # tell us, although we are connected.
            server.ping().addCallbacks(lambda _: self._bus.wake_all(), lambda _: None)

    def disconnected(self, server: _Server) -> None:
        """The server is gone."""
        if self._server is server:
            self._server = None


class _Server(_Peer):
    """The server, as another process sees it."""

    def __init__(self, client: HubClient, bus: EventBus, clock: Any) -> None:
        super().__init__(clock)
        self._client = client
        self._bus = bus
        self._pings: dict[int, Deferred[None]] = {}
        self._number = 0

    def began(self) -> None:
        """Say who we are."""
        self.transport.write(_line({"hello": 1, "listen": self._client.listens}))
        self._client.connected(self)

    def ping(self) -> Deferred[None]:
        """Ask for an answer that comes when all that was sent has been taken."""
        self._number += 1
        number = self._number
        answer: Deferred[None] = Deferred(lambda given_up: self._forget(number))
        self._pings[number] = answer
        self.transport.write(_line({"ping": number}))
        return answer

    def _forget(self, number: int) -> None:
        self._pings.pop(number, None)

    def received(self, message: dict[str, Any]) -> None:
        """Take an event, a call to look again, or the answer to a ping."""
        if "account" in message:
            self._bus.deliver(decode(message))
        elif "wake" in message:
            self._bus.wake_all()
        elif "pong" in message:
            answer = self._pings.pop(message["pong"], None)
            if answer is not None:
                answer.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it; who waits for an answer gets none."""
        super().connectionLost(reason)
        self._client.disconnected(self)
        pings, self._pings = self._pings, {}
        for answer in pings.values():
            answer.errback(reason)


# -- sockets -------------------------------------------------------------------------


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects to a Unix socket whose path may be longer than the kernel takes."""

    def __init__(self, path: Path, reactor: Any) -> None:
        self._path = path
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        try:
            address, directory = socket_address(self._path)
        except OSError as error:
            return fail(ConnectError(error.errno, error.strerror))  # type: ignore[no-untyped-call]
        endpoint: Any = UNIXClientEndpoint(self._reactor, address)  # type: ignore[no-untyped-call]
        connecting: Deferred[IProtocol] = endpoint.connect(protocolFactory)

        def release(result: Any) -> Any:
            if directory >= 0:
                os.close(directory)
            return result

        return connecting.addBoth(release)


def _locked(path: Path) -> int:
    """Take a lock that lasts until the descriptor is closed, or the process dies.

    Raises:
        MailError: UNAVAILABLE if somebody else holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise MailError(
            ErrorKind.UNAVAILABLE,
            f"another server works on this data directory (process {holder or 'unknown'})",
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
    return descriptor
