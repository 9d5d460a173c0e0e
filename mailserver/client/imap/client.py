"""The IMAP client: commands as values go out, responses as values come back (RFC 3501).

One `ImapClient` is one connection. Commands may be sent one behind the other without
waiting; they are answered in order, and each gets the untagged responses that came before
its tagged one. What the server says by itself goes to `on_unsolicited`.

Knows nothing of our own server: whatever the peer may do wrong ends the connection with a
`ConnectionFailed` for every command that waits, never an exception in the reactor.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.wire.imap import commands as c
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.command_writer import write_append_next, write_command
from mailserver.wire.imap.faults import SyntaxFault
from mailserver.wire.imap.response_parser import ResponseReader

RESPONSE_SECONDS = 60.0
"""How long a server may be silent while a command waits."""


class ConnectionFailed(Exception):
    """The connection is of no use any more; the text says why."""


class Refused(Exception):
    """The server answered NO or BAD.

    Attributes:
        status: its answer.
    """

    def __init__(self, status: r.Status) -> None:
        super().__init__(f"{status.condition.value.decode()} {status.text}")
        self.status = status


@attrs.frozen
class Reply:
    """A command's answer.

    Attributes:
        status: the tagged OK.
        data: the untagged responses that came with it, in order.
    """

    status: r.Status
    data: tuple[r.Response, ...]

    def of(self, kind: type[Any]) -> list[Any]:
        """The untagged responses of one kind, in order."""
        return [response for response in self.data if isinstance(response, kind)]


@attrs.define(eq=False)
class _Running:
    """A command on its way: what is still to be sent of it, and who waits for it."""

    tag: bytes
    pieces: deque[bytes]
    answer: Deferred[Reply]
    data: list[r.Response] = attrs.Factory(list)
    on_continuation: Callable[[bytes], bytes | None] | None = None

    @property
    def all_sent(self) -> bool:
        return not self.pieces and self.on_continuation is None


class ImapClient(Protocol):
    """One connection to an IMAP server.

    Args:
        clock: for the time that a server may be silent.
        on_unsolicited: gets responses that no command waits for.

    Attributes:
        capabilities: the last ones the server told, upper case; empty until it did.
        secure: TLS is on.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        on_unsolicited: Callable[[r.Response], None] | None = None,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        self.capabilities: frozenset[bytes] = frozenset()
        self.secure = False
        self._clock = clock
        self._on_unsolicited = on_unsolicited
        self._response_seconds = response_seconds
        self._reader = ResponseReader()
        self._serial = 0
        self._running: deque[_Running] = deque()
        self._unsent: deque[_Running] = deque()
        self._greeting: Deferred[r.Status] | None = Deferred()
        self._greeted: r.Status | None = None
        self._failure: ConnectionFailed | None = None
        self._alarm: IDelayedCall | None = None
        self._closed: list[Deferred[None]] = []

    # -- what callers use ---------------------------------------------------

    async def greeting(self) -> r.Status:
        """Wait for the server's greeting.

        Raises:
            ConnectionFailed: it said BYE, or nothing that is IMAP.
        """
        if self._greeted is None:
            self._check_alive()
            assert self._greeting is not None
            self._watch()
            self._greeted = await self._greeting
        return self._greeted

    async def run(self, command: c.Command) -> Reply:
        """Send a command and wait for its answer.

        Raises:
            Refused: NO or BAD.
            ConnectionFailed: there will be no answer.
            ValueError: the command has no form on the wire.
        """
        return await self.send(command)

    def send(self, command: c.Command) -> Deferred[Reply]:
        """Send a command without waiting, so that several can be on their way (T16).

        Returns:
            Fires as `run` returns or raises.
        """
        self._check_alive()
        tag = self._tag()
        pieces = write_command(tag, command, literal_plus=b"LITERAL+" in self.capabilities)
        return self._start(_Running(tag, deque(pieces), Deferred()))

    async def start_tls(self, options: IOpenSSLClientConnectionCreator) -> None:
        """Change to TLS; what was known of the server is forgotten (RFC 3501 §6.2.1).

        Raises:
            ConnectionFailed: octets came in clear behind the answer (S1).
        """
        await self.run(c.StartTls())
        if self._reader.has_unread:
            self._fail("octets in clear came behind STARTTLS's answer")
            self._check_alive()
        self.transport.startTLS(options)
        self.secure = True
        self.capabilities = frozenset()

    async def log_in(self, name: str, password: str, authzid: str = "") -> Reply:
        """Log in by SASL PLAIN, or by LOGIN where the server has only that.

        Args:
            authzid: whom to act as, by the right of `name` (RFC 4616 §2); empty for itself.
        """
        if not self.capabilities:
            await self.capability()
        if b"AUTH=PLAIN" not in self.capabilities and not authzid:
            return await self.run(c.Login(name, password))
        response = b64encode(f"{authzid}\0{name}\0{password}".encode())
        self._check_alive()
        tag = self._tag()
        if b"SASL-IR" in self.capabilities:
            line = b"%b AUTHENTICATE PLAIN %b\r\n" % (tag, response)
            return await self._start(_Running(tag, deque([line]), Deferred()))
        line = b"%b AUTHENTICATE PLAIN\r\n" % tag
        return await self._start(_Running(tag, deque([line, response + b"\r\n"]), Deferred()))

    async def capability(self) -> frozenset[bytes]:
        """Ask for the capabilities, upper case."""
        await self.run(c.Capability())
        return self.capabilities

    async def append(
        self,
        mailbox: str,
        octets: bytes,
        flags: Flags | None = None,
        date: InternalDate | None = None,
    ) -> Reply:
        """Add one message; its UID is in the reply's code where the server has UIDPLUS.

        Args:
            octets: with CRLF; without NUL.
        """
        self._check_alive()
        plus = b"LITERAL+" in self.capabilities
        message = c.AppendMessage(flags or Flags(), date, len(octets), synchronizing=not plus)
        tag = self._tag()
        pieces = write_command(tag, c.Append(mailbox, message), literal_plus=plus)
        rest = octets + write_append_next(None)
        if plus:
            pieces[-1] += rest
        else:
            pieces.append(rest)
        return await self._start(_Running(tag, deque(pieces), Deferred()))

    async def idle(self) -> Idling:
        """Begin to idle; returns once the server does (RFC 2177 §3).

        Untagged responses go to `on_unsolicited` until `Idling.done`.
        """
        self._check_alive()
        begun: Deferred[None] = Deferred()
        tag = self._tag()

        def admitted(_text: bytes) -> None:
            begun.callback(None)

        running = _Running(tag, deque([tag + b" IDLE\r\n"]), Deferred(), on_continuation=admitted)
        answer = self._start(running)
        answer.addErrback(lambda failure: failure if begun.called else begun.errback(failure))
        await begun
        self._unwatch()
        return Idling(self, running, answer)

    async def log_out(self) -> None:
        """Say LOGOUT and wait until the connection is closed."""
        if self._failure is None:
            await self.run(c.Logout())
        await self.closed()

    async def closed(self) -> None:
        """Wait until the connection is closed."""
        if self.transport.connected:
            ended: Deferred[None] = Deferred()
            self._closed.append(ended)
            self.transport.loseConnection()
            await ended

    # -- sending ------------------------------------------------------------

    def _tag(self) -> bytes:
        self._serial += 1
        return b"c%d" % self._serial

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _start(self, running: _Running) -> Deferred[Reply]:
        self._unsent.append(running)
        self._send_more()
        return running.answer

    def _send_more(self) -> None:
        """Send commands up to the first that waits for a continuation."""
        while self._unsent and (not self._running or self._running[-1].all_sent):
            running = self._unsent.popleft()
            self._running.append(running)
            self.transport.write(running.pieces.popleft())
            self._watch()

    def finish_idle(self, running: _Running) -> None:
        """End an IDLE; for `Idling` only."""
        running.on_continuation = None
        self.transport.write(b"DONE\r\n")
        self._watch()
        self._send_more()

    # -- receiving ----------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._alarm is not None:
            self._alarm.reset(self._response_seconds)
        try:
            while self._failure is None:
                response = self._reader.next_response()
                if response is None:
                    return
                self._received(response)
        except SyntaxFault as fault:
            self._fail(f"the server sent what is no IMAP response: {fault.text}")

    def _received(self, response: r.Response) -> None:
        self._note_capabilities(response)
        if self._greeting is not None:
            self._take_greeting(response)
        elif isinstance(response, r.Continuation):
            self._continue(response)
        elif isinstance(response, r.Status) and response.tag is not None:
            self._complete(response)
        elif self._running and self._running[0].on_continuation is None:
            self._running[0].data.append(response)
        elif self._on_unsolicited is not None:
            self._on_unsolicited(response)

    def _note_capabilities(self, response: r.Response) -> None:
        tokens: Sequence[bytes] | None = None
        if isinstance(response, r.Capability):
            tokens = response.tokens
        elif isinstance(response, r.Status) and isinstance(response.code, r.CapabilityCode):
            tokens = response.code.tokens
        if tokens is not None:
            self.capabilities = frozenset(token.upper() for token in tokens)

    def _take_greeting(self, response: r.Response) -> None:
        greeting, self._greeting = self._greeting, None
        assert greeting is not None
        if isinstance(response, r.Status) and response.condition in (
            r.Condition.OK,
            r.Condition.PREAUTH,
        ):
            self._unwatch()
            self._greeted = response
            greeting.callback(response)
            return
        self._greeting = greeting
        said = response.text if isinstance(response, r.Status) else type(response).__name__
        self._fail(f"the server does not greet: {said}")

    def _continue(self, response: r.Continuation) -> None:
        current = self._running[-1] if self._running else None
        if current is not None and current.pieces:
            self.transport.write(current.pieces.popleft())
        elif current is not None and current.on_continuation is not None:
            current.on_continuation(response.text)
        else:
            self._fail("the server asks for more where nothing is to come")
        self._send_more()

    def _complete(self, status: r.Status) -> None:
        if not self._running or self._running[0].tag != status.tag:
            self._fail("the server answered a command that was not sent, or out of order")
            return
        running = self._running.popleft()
        if not self._running:
            self._unwatch()
        if status.condition is r.Condition.OK:
            running.answer.callback(Reply(status, tuple(running.data)))
        else:
            running.answer.errback(Refused(status))
        self._send_more()

    # -- time and end -------------------------------------------------------

    def _watch(self) -> None:
        if self._alarm is None:
            self._alarm = self._clock.callLater(self._response_seconds, self._silent)
        else:
            self._alarm.reset(self._response_seconds)

    def _unwatch(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()

    def _silent(self) -> None:
        self._alarm = None
        self._fail(f"the server did not answer for {self._response_seconds:g} seconds")

    def _fail(self, why: str) -> None:
        if self._failure is None:
            self._failure = ConnectionFailed(why)
        self.transport.abortConnection()
        self._give_up()

    def _give_up(self) -> None:
        assert self._failure is not None
        self._unwatch()
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            greeting.errback(self._failure)
            greeting.addErrback(lambda _: None)  # nobody may be waiting for it
        for running in (*self._running, *self._unsent):
            running.answer.errback(self._failure)
        self._running.clear()
        self._unsent.clear()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._failure is None:
            self._failure = ConnectionFailed("the connection is closed")
        self._give_up()
        for ended in self._closed:
            ended.callback(None)
        self._closed.clear()


class Idling:
    """An IDLE that is going on; made by `ImapClient.idle`."""

    def __init__(self, client: ImapClient, running: _Running, answer: Deferred[Reply]) -> None:
        self._client = client
        self._running = running
        self._answer = answer

    async def done(self) -> Reply:
        """End it; the reply holds what came after `DONE` was sent."""
        self._client.finish_idle(self._running)
        return await self._answer
