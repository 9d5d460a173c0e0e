"""LMTP over Twisted: octets to the session, replies to the transport, deadlines, TLS.

One coroutine at a time works through what has come in; while it waits (for a delivery),
input is kept, and over `MAX_UNREAD` octets the transport is paused. Replies leave together
when the input is used up, or before a wait (RFC 2920 §3.2).
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IAddress, IOpenSSLContextFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mailserver.errors import ErrorKind
from mailserver.interfaces import IDirectory, IMailStore, ISessionMonitor
from mailserver.server.connection import Connection
from mailserver.server.lmtp.session import LmtpSession, LmtpSettings
from mailserver.wire.lmtp.reader import BARE_LF, DATA_END, NEED_DATA, DataPart, Line, LmtpReader
from mailserver.wire.lmtp.replies import Reply

MAX_UNREAD: Final = 262144
"""Octets that may wait behind a delivery before the transport is paused."""

_LHLO: Final = "lhlo"
_IDLE: Final = "idle"
_MESSAGE: Final = "message"

_GOODBYES: Final = {
    _LHLO: "no LHLO in time, closing",
    _IDLE: "idle for too long, closing",
    _MESSAGE: "message did not come in time, closing",
}

_BARE_LF_REPLY: Final = Reply(500, "5.5.2", "Lines must end with CRLF, not a bare LF; closing")
_TOO_LONG_REPLY: Final = Reply(500, "5.5.2", "Command line too long")
_GLUED_REPLY: Final = Reply(501, "5.5.1", "Nothing may follow STARTTLS before TLS; closing")


class LmtpConnection(Connection):
    """One LMTP client.

    Args:
        monitor, clock: as `Connection`.
        store, directory: where mail goes and who there is.
        settings: how to behave.
        tls: for STARTTLS, None where no certificate is configured.
        service: the listener's name, `lmtp` or `lmtps`.
    """

    log = Logger()
    log_name = "LMTP"

    def __init__(
        self,
        monitor: ISessionMonitor,
        clock: IReactorTime,
        store: IMailStore,
        directory: IDirectory,
        settings: LmtpSettings,
        tls: IOpenSSLContextFactory | None,
        service: str = "lmtp",
    ) -> None:
        super().__init__(service, monitor, clock, settings.write_timeout)
        self._settings = settings
        self._tls = tls
        self._reader = LmtpReader(settings.max_line)
        self._session = LmtpSession(self, store, directory, settings)
        self._is_running = False
        self._goodbye = ""  # to be said when the running delivery is done

    # -- what Connection asks for --------------------------------------------

    def greeted(self) -> None:
        self.status = "connected"
        self.send_reply(self._session.greeting())
        self.flush()
        self.set_deadline(_LHLO, self.time_left(self._settings.lhlo_timeout))
        self.set_deadline(_IDLE, self._settings.idle_timeout)

    def octets_received(self, octets: bytes) -> None:
        self._reader.feed(octets)
        if not self._is_running:
            self._is_running = True
            self.run(self._work(), self._worked)
        elif self._reader.unread > MAX_UNREAD:
            self.pause_input()

    def farewell(self, text: str, kind: ErrorKind | None = None) -> bytes:
        code, status = (421, "4.3.2")
        if kind is ErrorKind.NO_PERMISSION:
            code, status = (554, "5.7.1")  # in place of the greeting: RFC 5321 §3.1
        return Reply(code, status, f"{self._settings.hostname} {text}").octets()

    def deadline_passed(self, name: str) -> None:
        if self._session.is_delivering:
            # It is we who take the time.
            self.set_deadline(name, self._settings.idle_timeout)
        else:
            self.say_goodbye(_GOODBYES[name])

    def disconnect(self, reason: str) -> None:
        """Say 421 and close; a delivery that is on its way is finished and answered first
        (R18)."""
        if self._session.is_delivering:
            self._goodbye = reason
        else:
            self.say_goodbye(reason)

    def closed(self) -> None:
        self._session.connection_lost()

    # -- work ----------------------------------------------------------------

    async def _work(self) -> bool:
        """Everything that the octets received so far ask for, in order; False if that is
        nothing: an unfinished line does not keep a connection alive (R11)."""
        reader, session = self._reader, self._session
        is_something = False
        while self.is_open and not self._goodbye:
            if self.is_full:
                await self.drained()  # the client must read before it is served further
            event = reader.next()
            if event is NEED_DATA:
                break
            is_something = True
            if isinstance(event, DataPart):
                session.take(event.octets)
            elif isinstance(event, Line):
                await session.run_line(event.octets)
            elif event is DATA_END:
                await session.end_of_data()
            elif event is BARE_LF:
                session.refuse(_BARE_LF_REPLY, is_fatal=True)
            else:
                session.refuse(_TOO_LONG_REPLY)
        return is_something

    def _worked(self, is_something: bool) -> None:
        self._is_running = False
        if self._goodbye:
            self.say_goodbye(self._goodbye)
        if not self.is_open:
            return
        if is_something:
            self.set_deadline(_IDLE, self._settings.idle_timeout)
        if self._session.client:
            self.set_deadline(_LHLO, None)
        if not self._session.is_receiving:
            self.set_deadline(_MESSAGE, None)
        self.flush()
        self.resume_input()

    def gone(self) -> None:
        self._is_running = False

    # -- what the session asks for: Channel -----------------------------------

    def send_reply(self, reply: Reply) -> None:
        """Queue a reply."""
        self.send(reply.octets())

    def start_data(self) -> None:
        """Message data follows."""
        self._reader.start_data()
        self.set_deadline(_MESSAGE, self._settings.message_timeout)

    def start_chunk(self, size: int, *, is_first: bool) -> None:
        """A chunk of so many octets follows."""
        self._reader.start_chunk(size)
        if is_first:
            self.set_deadline(_MESSAGE, self._settings.message_timeout)

    def accept_tls(self, reply: Reply) -> None:
        """Begin TLS, unless something was sent along with STARTTLS (S1, T1)."""
        assert self._tls is not None
        if self._reader.unread:
            self.note("closed: octets behind STARTTLS", octets=self._reader.unread)
            self.send_reply(_GLUED_REPLY)
            self.close()
            return
        self.send_reply(reply)
        self.start_tls(self._tls)
        self._session.reset()

    @property
    def can_start_tls(self) -> bool:
        """A certificate is configured and TLS is not active."""
        return self._tls is not None and not self.secure


class LmtpFactory(Factory):
    """Makes a connection for each client of the LMTP listeners; arguments as there.

    Attributes:
        settings: for new connections; may be replaced at any time.
    """

    noisy = False

    def __init__(
        self,
        monitor: ISessionMonitor,
        clock: IReactorTime,
        store: IMailStore,
        directory: IDirectory,
        settings: LmtpSettings,
        tls: IOpenSSLContextFactory | None = None,
        service: str = "lmtp",
    ) -> None:
        self.settings = settings
        self._parts = (monitor, clock, store, directory)
        self._tls = tls
        self._service = service

    def buildProtocol(self, addr: IAddress | None) -> LmtpConnection:
        connection = LmtpConnection(*self._parts, self.settings, self._tls, self._service)
        connection.peer = addr
        connection.factory = self
        return connection
