"""POP3 over Twisted: lines to the session, replies to the transport, deadlines, TLS.

One coroutine is the whole conversation: it takes a line, runs it, and takes the next.
Pipelined commands wait in the buffer (RFC 2449 §6.6), over `input_buffer` octets in the
transport. Replies leave together when the input is used up.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mailserver.errors import ErrorKind
from mailserver.server.connection import CLOSE, REST_TIMEOUT, Disconnected
from mailserver.server.conversation import IDLE, LATE, LOGIN, Conversation
from mailserver.server.pop3.session import Pop3Session, Services, State
from mailserver.server.pop3.status import CODES
from mailserver.wire.lines import TOO_LONG, LineBuffer
from mailserver.wire.pop3.replies import Code


class Pop3Connection(Conversation):
    """One POP3 client; the session's `Channel`."""

    log = Logger()
    log_name = "POP3"

    def __init__(self, services: Services, service: str) -> None:
        settings = services.settings
        super().__init__(service, services.monitor, services.clock, settings.write_timeout)
        self._services = services
        self._settings = settings
        self._buffer = LineBuffer()
        self._session = Pop3Session(self, services)
        self._goodbye = ""  # to be said when the running command is answered

    # -- beginning and end ---------------------------------------------------

    def greeted(self) -> None:
        self.send(self._session.greeting())
        self.expect_login(self._settings.login_timeout)
        self.run(self._converse(), lambda _: self._session.closed())

    def gone(self) -> None:
        self._session.closed()

    def farewell(self, text: str, kind: ErrorKind | None = None) -> bytes:
        return self._session.refusal(text, Code.SYS_TEMP if kind is None else CODES.get(kind))

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close: at once while waiting for the client, else when the
        running command has been answered (R18)."""
        if self._input is not None:
            self.say_goodbye(reason)
            return
        self._goodbye = reason
        if self.is_full:  # amid a reply that may never be taken
            self.set_deadline(CLOSE, REST_TIMEOUT)

    def logged_in(self, account: str) -> bool:
        if not super().logged_in(account):
            return False
        if self._goodbye == LATE:  # the check took longer than the client had
            self._goodbye = ""
        return True

    def deadline_passed(self, name: str) -> None:
        if name == LOGIN:
            self.note("closed: no login in time")
            self.disconnect(LATE)
        elif self._input is not None:
            # "without removing any messages or sending any response": RFC 1939 §3
            self.note("closed: idle for too long")
            self.close()

    # -- the conversation ------------------------------------------------------

    def octets_received(self, octets: bytes) -> None:
        self._buffer.feed(octets)
        waiting, self._input = self._input, None
        if waiting is not None:
            self.begin_turn()
            waiting.callback(None)
        if self._is_busy and len(self._buffer) > self._settings.input_buffer:
            self.pause_input()

    @property
    def _is_busy(self) -> bool:
        """A command runs, and what comes in has to wait."""
        return self._input is None

    async def _converse(self) -> None:
        while self.is_open:
            if self._goodbye:
                self.say_goodbye(self._goodbye)
                return
            line = await self.read_line(self._settings.max_line)
            await self.drained()  # the client must read before it is served further
            await self.turn()
            await self._session.run(line)

    async def read_line(self, limit: int) -> bytes | None:
        """See `Channel.read_line`."""
        if self._session.state is State.TRANSACTION:
            self.set_deadline(IDLE, self._settings.idle_timeout)
        while (line := self._buffer.take_line(limit)) is None:
            await self._more_input()
        if line is not TOO_LONG:
            assert isinstance(line, bytes)
            return line
        while self._buffer.skip_line() is None:
            await self._more_input()
        return None

    async def _more_input(self) -> None:
        """Wait until octets have come. What was sent so far goes out first: the client may
        need it to go on."""
        self.flush()
        self.resume_input()
        if not self.is_open:
            raise Disconnected
        self._input = Deferred()
        await self._input

    def begin_tls(self, reply: bytes) -> None:
        """See `Channel.begin_tls`."""
        assert self._services.tls is not None
        if len(self._buffer):
            self.note("closed: octets behind STLS", octets=len(self._buffer))
            self.send(self._session.refusal("nothing may follow STLS before TLS; closing", None))
            self.close()
            raise Disconnected
        self.send(reply)
        self.start_tls(self._services.tls)


class Pop3Factory(Factory):
    """Makes the connections of one listener.

    Args:
        services: what they share; may be replaced at any time, for new connections.
        service: the listener's name, `pop3` or `pop3s`; only a name, whether TLS is on
            the transport tells.
    """

    noisy = False

    def __init__(self, services: Services, service: str = "pop3") -> None:
        self.services = services
        self.service = service

    def buildProtocol(self, addr: IAddress | None) -> Pop3Connection:
        connection = Pop3Connection(self.services, self.service)
        connection.peer = addr
        connection.factory = self
        return connection
