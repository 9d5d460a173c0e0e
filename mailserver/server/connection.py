"""What every line protocol has in common on Twisted's side of it.

A `Connection` joins output into large writes, stops its producer when the client does not
read, keeps the deadlines, starts TLS, says goodbye, and keeps the monitor and the log
informed. It knows no protocol: a subclass gets octets and sends octets.

Theory of operation. Nothing here is a Deferred unless something waits. `run` drives a
coroutine by hand: one that needs no wait is over when `run` returns, and only one that
suspends costs callbacks. Whoever waits for the client (for room, for a line) is woken with
`Disconnected` when the client is gone; whoever waits for the store finishes its work first.

Deadlines are names with a time. One delayed call per connection stands for all of them and
is never moved to a later time: when it fires too early it is made anew. So to push a
deadline out, as every command does, costs a dictionary entry.
"""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLContextFactory,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.certificate import ClientCertificate
from mailserver.model.message import FileSpan
from mailserver.server.channel_binding import channel_bindings
from mailserver.server.transport import PromptServer

T = TypeVar("T")

JOIN_UP_TO = 32768
"""Octets of output that are joined before they are handed to the transport. Writes of
200 octets go out at 154 MB/s, of 16 KiB at 2.8 GB/s."""

FILE_AT_ONCE = 1 << 20
"""Octets of a file that the kernel is asked to send at once."""

READ_AT_ONCE = 65536
"""Octets of a file that are read where the kernel does not send them."""

CLOSE_TIMEOUT = 30.0
"""Seconds that a client has to take the last octets after we have closed."""

REST_TIMEOUT = 5.0
"""Seconds that a client has, when it is to be disconnected, to take the rest of a response
that it is amid: only then can it be told goodbye (R18)."""

HANDSHAKE_TIMEOUT = 30.0
"""Seconds that a client has for the handshake of TLS."""

REFUSED_TIMEOUT = 5.0
"""Seconds for the handshake of a client that is then only told to go away, so that a flood
of them holds few descriptors (R11)."""

SESSION: ContextVar[str] = ContextVar("SESSION", default="")
"""Label of the session that runs now, for every line that is logged meanwhile, whoever
writes it (CGP-1); empty outside of sessions."""

LEAST_TAKEN = 4096
"""Octets that a client has to take within the write timeout to count as one that reads."""
LOOKS = 5
"""How often it is looked at within the write timeout whether it has."""

WRITE = "write"
"""Name of the deadline for a client that does not take our output (T52)."""
CLOSE = "close"
"""Name of the deadline after which a connection that is being closed is cut."""
HANDSHAKE = "handshake"
"""Name of the deadline for the handshake of TLS."""


class Disconnected(Exception):
    """The client is gone; raised where its next octets, or room for ours, are awaited."""


def escaped(value: object, limit: int = 200) -> str:
    """A value as it may stand in the log: one line, printable, at most `limit` characters
    (S13)."""
    text = str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@implementer(ISession, IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """One client of a line protocol.

    Subclasses override `greeted`, `octets_received`, `farewell`, `closed`, and
    `deadline_passed` for deadlines of their own.

    Attributes:
        service: name of the listener (`imap`, `imaps`, `lmtp`), as in `ISession`.
        number, label, address, account, status, connected_at: as in `ISession` (CGP-1).
        peer: the client's address where the transport's is that of a proxy; None: the
            transport's. Set before the connection is made.
        secure: TLS is on.
        client_certificate: the one that the client has shown in the handshake; None
            without TLS, if none was asked for, or if it has none.
        is_open: octets may still be sent and are still looked at.
        is_full: the transport holds enough; wait with more output, for instance with the
            next command (T52).
        received, sent: octets so far, TLS not counted.
    """

    log = Logger()
    log_name = "CONN"
    transport: Any  # a stream transport that is a consumer, with startTLS where TLS is offered

    def __init__(
        self,
        service: str,
        monitor: ISessionMonitor,
        clock: IReactorTime,
        write_timeout: float = 300.0,
    ) -> None:
        self.service = service
        self.address = ""
        self.account = ""
        self.status = "connecting"
        self.number = 0
        self.label = self.log_name
        self.connected_at = 0.0
        self.peer: IAddress | None = None
        self.secure = False
        self.client_certificate: ClientCertificate | None = None
        self.is_open = False
        self.is_full = False
        self.received = 0
        self.sent = 0
        self.clock = clock
        self._monitor = monitor
        self._write_timeout = write_timeout
        self._lost = False
        self._admitted = False
        self._has_begun = False
        self._waits_for_leave = False  # it is not certain yet that the client may connect
        self._early: list[bytes] = []  # came meanwhile
        self._in_handshake = False
        self._channel_bindings: Mapping[bytes, bytes] | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._taken = 0  # octets, when it was last seen that the client takes some
        self._taken_at = 0.0
        self._room: Deferred[None] | None = None
        self._input_paused = False
        self._deadlines: dict[str, float] = {}
        self._alarm: IDelayedCall | None = None

    # -- for subclasses to override -----------------------------------------

    def greeted(self) -> None:
        """The connection stands: send the greeting."""

    def octets_received(self, octets: bytes) -> None:
        """Octets came in; not called any more once the connection is not open."""

    def farewell(self, text: str, kind: ErrorKind | None = None) -> bytes:
        """The protocol's words before the server closes, with CRLF (T51, R18).

        Args:
            kind: why, for a response code; None at an orderly end.
        """
        raise NotImplementedError

    def room_made(self) -> None:
        """The transport takes output again; called after those who waited for it ran."""

    def closed(self) -> None:
        """The connection is gone; called once."""

    def deadline_passed(self, name: str) -> None:
        """A deadline set by the subclass has come; it is not set any more."""

    # -- output -------------------------------------------------------------

    def send(self, *pieces: bytes) -> None:
        """Queue octets. They leave joined: when 32 KiB have come together, or at `flush`."""
        if not self.is_open:
            return
        self._out += pieces
        self._out_size += sum(map(len, pieces))
        if self._out_size >= JOIN_UP_TO:
            self.flush()

    def flush(self) -> None:
        """Hand what is queued to the transport in one write."""
        if self._out:
            octets = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            self.sent += len(octets)
            self.transport.write(octets)

    async def send_file(self, span: FileSpan) -> None:
        """Send octets of a file behind what is queued, as the client takes them.

        The kernel sends them from its own copy where the transport can have it do so
        (`PromptServer.send_file`); what it does not take, and all under TLS, is read.

        Raises:
            MailError: CORRUPT if the file is shorter.
            Disconnected: the client is gone.
        """
        at = span.start
        while at < span.end and self.is_open:
            self.flush()
            await self.drained()
            sent = self._send_by_kernel(span.descriptor, at, min(span.end - at, FILE_AT_ONCE))
            self.sent += sent
            if not sent:
                octets = os.pread(span.descriptor, min(span.end - at, READ_AT_ONCE), at)
                if not octets:
                    raise MailError(ErrorKind.CORRUPT, "this message's octets are cut off")
                self.send(octets)
                sent = len(octets)
            at += sent

    def _send_by_kernel(self, descriptor: int, start: int, count: int) -> int:
        """Octets that the kernel has taken from the file; 0 where they are to be read.

        Never asked of what lies beneath TLS: a wrapper hands on what it has not itself.
        """
        transport = self.transport
        if self.secure or not isinstance(transport, PromptServer):
            return 0
        return transport.send_file(descriptor, start, count)

    async def drained(self) -> None:
        """Wait until the transport takes more; returns at once while it does.

        Raises:
            Disconnected: it never will.
        """
        if self._lost:
            raise Disconnected
        if not self.is_full:
            return
        assert self._room is None, "one coroutine at a time writes to a connection"
        self._room = Deferred()
        await self._room

    def pauseProducing(self) -> None:
        """Called by the transport when it holds more than 64 KiB."""
        self.is_full = True
        self._taken, self._taken_at = _octets_taken(self.transport), self.clock.seconds()
        self.set_deadline(WRITE, self._write_timeout / LOOKS)

    def _patience(self) -> float:
        """Seconds that a client still has which does not take our output. The transport
        alone would not tell who takes it slowly: the kernel keeps megabytes for a client
        and says that there is room when a third of them is gone."""
        now, taken = self.clock.seconds(), _octets_taken(self.transport)
        if taken - self._taken >= LEAST_TAKEN:
            self._taken, self._taken_at = taken, now
        return self._taken_at + self._write_timeout - now

    def resumeProducing(self) -> None:
        """Called by the transport when all has been taken."""
        self.is_full = False
        self.set_deadline(WRITE, None)
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)
        if not self._lost:
            self.room_made()

    def stopProducing(self) -> None:
        """Called by the transport when the connection is lost; `connectionLost` follows."""

    # -- input --------------------------------------------------------------

    def pause_input(self) -> None:
        """Stop reading from the socket until `resume_input`; may be called twice."""
        if not self._input_paused and self.is_open:
            self._input_paused = True
            self.transport.pauseProducing()

    def resume_input(self) -> None:
        """Read from the socket again; may be called twice."""
        if self._input_paused:
            self._input_paused = False
            if self.is_open:
                self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._waits_for_leave:  # TLS hands over what it has decrypted, paused or not
            self._early.append(data)
        elif self.is_open:
            self.received += len(data)
            self.octets_received(data)

    # -- coroutines ---------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, T], then: Callable[[T], None]) -> None:
        """Drive a coroutine, and call `then` with what it returns.

        Args:
            coroutine: awaits Deferreds only, and lets no exception out but
                `Disconnected`, after which `then` is not called.
        """
        self._advance(coroutine, then, None)

    def _advance(
        self, coroutine: Coroutine[Any, Any, T], then: Callable[[T], None], result: object
    ) -> None:
        """Go on until the next wait.

        Args:
            result: of the Deferred that was waited for; a success is not looked at, since
                an awaited Deferred hands it over by itself.
        """
        session = SESSION.set(self.label)
        try:
            if isinstance(result, Failure):
                waiting: Deferred[Any] = result.throwExceptionIntoGenerator(  # type: ignore[no-untyped-call]
                    coroutine
                )
            else:
                waiting = coroutine.send(None)
        except StopIteration as end:
            then(end.value)
        except Disconnected:
            self.gone()
        else:
            waiting.addBoth(lambda result: self._advance(coroutine, then, result))
        finally:
            SESSION.reset(session)

    def gone(self) -> None:
        """A coroutine of `run` ended because the client is gone."""

    # -- deadlines ----------------------------------------------------------

    def set_deadline(self, name: str, seconds: float | None) -> None:
        """Have `deadline_passed` called with `name` after some seconds from now.

        Args:
            seconds: replaces an earlier time of the same name; None takes it away.
        """
        if seconds is None:
            self._deadlines.pop(name, None)
            return
        due = self.clock.seconds() + seconds
        self._deadlines[name] = due
        if self._alarm is None:
            self._alarm = self.clock.callLater(seconds, self._ring)
        elif due < self._alarm.getTime():
            self._alarm.reset(seconds)

    def _ring(self) -> None:
        self._alarm = None
        now = self.clock.seconds()
        for name in [name for name, due in self._deadlines.items() if due <= now]:
            if self._deadlines.get(name, math.inf) > now:
                continue  # what an earlier one did took it away or put it off
            del self._deadlines[name]
            if name == WRITE and (left := self._patience()) > 0:
                self.set_deadline(WRITE, min(left, self._write_timeout / LOOKS))
            elif name == WRITE:
                self.note("cut off: output not taken", seconds=self._write_timeout)
                self.abort()
            elif name == CLOSE:
                self.abort()
            elif name == HANDSHAKE:
                self.note("cut off: no TLS in time", address=self.address)
                self.abort()
            else:
                self.deadline_passed(name)
        if self._deadlines and self._alarm is None:
            wait = max(0.0, min(self._deadlines.values()) - now)
            self._alarm = self.clock.callLater(wait, self._ring)

    # -- beginning, TLS, end ------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:  # not on a Unix socket
            set_no_delay(True)
        self.address = _host(self.peer or transport.getPeer())
        self.secure = ISSLTransport.providedBy(transport)
        self.connected_at = self.clock.seconds()
        self.number = self._monitor.next_number()
        self.label = f"{self.log_name}-{self.number:05d}"
        self.is_open = True
        transport.registerProducer(self, True)
        self._admitted = self._monitor.opened(self)
        if self.secure:
            self._expect_handshake()  # who the client is may depend on its certificate
        else:
            self._admit()

    def _admit(self) -> None:
        self._has_begun = True
        if not self._admitted:
            self.note("refused: too many connections", address=self.address)
            self.say_goodbye("too many connections, try again later", ErrorKind.TOO_MANY)
            return
        self.note("connected", address=self.address, tls=self.tls_description or "none")
        self._waits_for_leave = True
        self.run(self._monitor.refusal(self), self._got_leave)
        if self._waits_for_leave:
            self.pause_input()

    def _got_leave(self, refusal: str) -> None:
        """Greet the client, or send it away because of its address (SUN-20)."""
        self._waits_for_leave = False
        early, self._early = self._early, []
        if not self.is_open:
            return
        if refusal:
            self.note("refused", reason=refusal)
            text = "this service may not be used from your address"
            self.say_goodbye(text, ErrorKind.NO_PERMISSION)
            return
        self.resume_input()
        self.greeted()
        for octets in early:
            self.dataReceived(octets)

    def _expect_handshake(self) -> None:
        self._in_handshake = True
        self.set_deadline(HANDSHAKE, HANDSHAKE_TIMEOUT if self._admitted else REFUSED_TIMEOUT)

    def handshakeCompleted(self) -> None:
        """Called by the TLS layer before it hands over the first octets."""
        self._in_handshake = False
        self.set_deadline(HANDSHAKE, None)
        # Whoever makes the TLS connections decides whether clients are asked for certificates.
        read_certificate = getattr(self.transport.getHandle(), "client_certificate", None)
        if read_certificate is not None:
            self.client_certificate = read_certificate()
        if self.client_certificate is not None:
            self.note(
                "client certificate",
                subject=self.client_certificate.subject,
                account=self.client_certificate.account or "none",
            )
        if not self._has_begun:
            self._admit()
        elif self.is_open:
            self.note("TLS begun", tls=self.tls_description)

    def peer_account(self) -> str:
        """Login name that the client's certificate stands for; empty for none (SUN-10)."""
        return "" if self.client_certificate is None else self.client_certificate.account

    def channel_bindings(self) -> Mapping[bytes, bytes]:
        """What the TLS connection can be told by, type → data; empty without TLS
        (RFC 5929, RFC 9266)."""
        if not self.secure or self._in_handshake:
            return {}
        if self._channel_bindings is None:
            self._channel_bindings = channel_bindings(self.transport.getHandle())
        return self._channel_bindings

    @property
    def tls_description(self) -> str:
        """Protocol version and cipher; empty without TLS."""
        if not self.secure or self._in_handshake:
            return ""
        handle: SSL.Connection = self.transport.getHandle()
        return f"{handle.get_protocol_version_name()} with cipher {handle.get_cipher_name()}"

    def time_left(self, seconds: float) -> float:
        """What is left of a time that began when the client connected: seconds, not
        below 0 (S3)."""
        return max(0.0, self.connected_at + seconds - self.clock.seconds())

    def login_began(self) -> None:
        """A login goes by accounts as they are from now on; see `ISessionMonitor`."""
        self._monitor.login_began(self)

    def check_began(self) -> None:
        """Who the client says it is is being checked; see `ISessionMonitor`."""
        self._monitor.check_began(self)

    def check_ended(self) -> None:
        """The check is over, or never began."""
        self._monitor.check_ended(self)

    def logged_in(self, account: str) -> bool:
        """Count this session for an account; False if it is one too many (SUN-30).

        Raises:
            Disconnected: the client left while its password was checked; the monitor has
                forgotten the session already.
            MailError: UNAVAILABLE if the account's sessions were ended meanwhile.
        """
        if self._lost:
            raise Disconnected
        before, self.account = self.account, account
        is_in = False
        try:
            is_in = self._monitor.logged_in(self)
        finally:
            if not is_in:
                self.account = before
        if is_in:
            self.note("logged in", account=account)
        return is_in

    def start_tls(self, context_factory: IOpenSSLContextFactory) -> None:
        """Send what is queued in clear, then begin the handshake.

        Octets that were received before are the caller's to look for: there must be none
        (S1, T1).
        """
        self.flush()
        self.secure = True
        self._expect_handshake()
        self.transport.startTLS(context_factory)

    def say_goodbye(self, text: str, kind: ErrorKind | None = None) -> None:
        """Send the protocol's last words and close (T51); arguments as `farewell`."""
        self.send(self.farewell(text, kind))
        self.close()

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close, for the monitor; subclasses that may be amid a response
        finish it first."""
        self.say_goodbye(reason)

    def close(self) -> None:
        """Send what is queued and close; a client that does not take it is cut off."""
        if not self.is_open:
            return
        if self._in_handshake:  # nobody could read our last words
            self.abort()
            return
        self.flush()
        self.resume_input()  # to see the client's end of it
        self.is_open = False
        self.transport.unregisterProducer()
        self.set_deadline(WRITE, None)
        self.set_deadline(CLOSE, CLOSE_TIMEOUT)
        self.transport.loseConnection()
        if self.secure:
            self._close_below_tls()
        self._wake_waiting()

    def _close_below_tls(self) -> None:
        """Close the connection when all is sent, without waiting for the client's
        `close_notify`, which many never send (RFC 8446 §6.1)."""
        layer = self.transport
        if not isinstance(layer, TLSMemoryBIOProtocol):  # begun by STARTTLS
            layer = layer.protocol
        layer.transport.loseConnection()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self.is_open = False
        self._out.clear()
        if not self._lost:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_open = False
        self._lost = True
        self._deadlines.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._out.clear()
        self._monitor.closed(self)
        if self._in_handshake:
            self.note("no TLS", address=self.address, reason=_tls_fault(reason))
        self.note(
            "closed",
            received=self.received,
            sent=self.sent,
            seconds=round(self.clock.seconds() - self.connected_at),
        )
        self._wake_waiting()
        self.closed()

    def _wake_waiting(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.errback(Disconnected())

    # -- log ----------------------------------------------------------------

    def note(self, text: str, **values: object) -> None:
        """Log a line about this session.

        Args:
            text: a constant.
            values: appended as `name=value`, escaped and cut; never a secret, never text
                of a message (S13).
        """
        self.log.info(
            "{label} {text}{shown}",
            label=self.label,
            text=text,
            shown="".join(f" {name}={escaped(value)}" for name, value in values.items()),
            values=values,
        )


def _tls_fault(reason: Failure) -> str:
    """Why a handshake failed, in OpenSSL's words; empty if the client just left."""
    error = reason.value
    if not isinstance(error, SSL.Error) or not error.args or not error.args[0]:
        return ""
    return str(error.args[0][-1][-1])


_BYTES_ACKED = 120  # offset of tcpi_bytes_acked, 64 bits, in <linux/tcp.h>'s tcp_info


def _octets_taken(transport: Any) -> int:
    """Octets that the client has acknowledged so far; 0 where that cannot be known."""
    connection = getattr(transport, "socket", None)
    if connection is None:
        return 0
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    except OSError:  # a Unix socket
        return 0
    if len(told) < _BYTES_ACKED + 8:
        return 0
    return int.from_bytes(told[_BYTES_ACKED:], sys.byteorder)


def _host(peer: IAddress) -> str:
    """The client's IP address; `local` for a Unix socket."""
    host: str = getattr(peer, "host", "local")
    return host
