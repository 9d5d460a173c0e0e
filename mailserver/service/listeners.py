"""Listening sockets, bound with privileges and served without them.

A TCP listener is bound and listening from `bind` on: clients that come before `start` wait
in the kernel's queue, so that none is refused and none is served by half a server.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from mailserver.server.transport import PromptServer

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us; the usual 50 overflow when 500 clients
reconnect at once."""


class StartFault(Exception):
    """The server cannot start; a sentence for the administrator."""


class Listener(Protocol):
    """One listening socket.

    Attributes:
        service: `imap`, `imaps`, `pop3`, `pop3s`, `lmtp`, `lmtps`.
        behind_proxy: connections come from trusted proxies, with a PROXY header.
        port: TCP port that it listens on; 0 before `bind` and for a Unix socket.
    """

    service: str
    behind_proxy: bool

    @property
    def port(self) -> int: ...

    def bind(self) -> None:
        """Take the address; may need privileges.

        Raises:
            StartFault: with address, option and reason.
        """

    @property
    def address_text(self) -> str:
        """Where it listens, for people."""

    def start(self, reactor: Any, factory: IProtocolFactory) -> None:
        """Begin to serve; also again after `pause`.

        Raises:
            StartFault: as `bind`.
        """

    def pause(self) -> None:
        """Refuse new connections until the next `start`; connections go on."""

    def stop(self) -> Deferred[None]:
        """Stop listening; connections go on. May be called at any time."""


@attrs.define
class TcpListener:
    """A TCP port on one address.

    Args:
        service: see `Listener`.
        address: IP address; `::` takes IPv6 only.
        number: port, 0 for any free one.
        option: where the port is configured, for errors.
        behind_proxy: see `Listener`.
    """

    service: str
    address: str
    number: int
    option: str
    behind_proxy: bool = False
    _socket: socket.socket | None = None
    _listening: IListeningPort | None = None

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        if self._socket is not None:
            number: int = self._socket.getsockname()[1]
            return number
        return 0 if self._listening is None else int(self._listening.getHost().port)  # type: ignore[attr-defined]

    @property
    def address_text(self) -> str:
        """Address and port."""
        return f"{self.address} port {self.port}"

    def bind(self) -> None:
        """Bind and listen; see `Listener`."""
        self._socket = self._bound(self.number, listens=True)

    def _bound(self, number: int, *, listens: bool) -> socket.socket:
        """A socket at this port.

        Raises:
            StartFault: as `bind`.
        """
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        try:
            bound = socket.socket(family, socket.SOCK_STREAM)
            try:
                bound.setblocking(False)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.bind((self.address, number))
                if listens:
                    bound.listen(BACKLOG)
            except OSError:
                bound.close()
                raise
        except OSError as error:
            raise StartFault(
                f"cannot listen on {self.address} port {number} ({self.option}): {_reason(error)}"
            ) from error
        return bound

    def start(self, reactor: Any, factory: IProtocolFactory) -> None:
        """Accept connections; see `Listener`."""
        bound, self._socket = self._socket, None
        assert bound is not None, "bind comes first"
        try:
            bound.listen(BACKLOG)  # not so any more after `pause`
            port = reactor.adoptStreamPort(bound.fileno(), bound.family, factory)
            port.transport = _transport(factory)  # what it makes of each connection
            self._listening = port
        finally:
            bound.close()  # the reactor has its own descriptor

    def pause(self) -> None:
        """Stop listening, but stay bound; see `Listener`.

        Linux lets a socket that was shut down listen again, at the same port and without the
        privileges that it took to bind it.
        """
        port, self._listening = self._listening, None
        if port is not None:
            bound: socket.socket = port.socket.dup()  # type: ignore[attr-defined]
            bound.setblocking(False)  # `dup` made it wait, for the reactor as well
            number = bound.getsockname()[1]
            bound.shutdown(socket.SHUT_RDWR)
            if not self.number:  # one that the kernel chose is taken back by it
                bound.close()
                bound = self._bound(number, listens=False)
            self._socket = bound
            port.stopListening()

    def stop(self) -> Deferred[None]:
        """Stop accepting; see `Listener`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        return _stopped(self._listening)


@attrs.define
class UnixListener:
    """A Unix socket; a stale one of a process that died is replaced.

    Args:
        service: see `Listener`.
        path: of the socket.
        mode: permissions of the socket: who may connect.
        option: where the path is configured, for errors.
    """

    service: str
    path: Path
    mode: int
    option: str
    behind_proxy: bool = attrs.field(default=False, init=False)
    _listening: IListeningPort | None = None

    @property
    def port(self) -> int:
        """None: 0."""
        return 0

    @property
    def address_text(self) -> str:
        """The path."""
        return str(self.path)

    def bind(self) -> None:
        """Nothing: the socket belongs to the user that the server runs as."""

    def start(self, reactor: Any, factory: IProtocolFactory) -> None:
        """Bind and accept connections; see `Listener`."""
        # With a lock file beside it, so that a living server's socket is never taken away.
        endpoint = UNIXServerEndpoint(  # type: ignore[no-untyped-call]
            reactor, os.fspath(self.path), backlog=BACKLOG, mode=self.mode, wantPID=True
        )
        outcome: list[Any] = []
        listen: Deferred[Any] = endpoint.listen(factory)  # type: ignore[no-untyped-call]
        listen.addBoth(outcome.append)  # fires at once
        [listening] = outcome
        if not IListeningPort.providedBy(listening):
            error = listening.value
            if isinstance(error, CannotListenError):
                error = error.socketError
            raise StartFault(
                f"cannot listen on {self.path} ({self.option}): {_reason(error)}"
            ) from error
        listening.transport = _transport(factory, listening.transport)  # type: ignore[attr-defined]
        self._listening = listening

    def pause(self) -> None:
        """Remove the socket; see `Listener`."""
        port, self._listening = self._listening, None
        _stopped(port)

    def stop(self) -> Deferred[None]:
        """Stop accepting and remove the socket; see `Listener`."""
        return _stopped(self._listening)


def _transport(factory: IProtocolFactory, usual: Any = PromptServer) -> Any:
    """What a port makes of a socket; a factory may want something else than usual."""
    return getattr(factory, "transport", usual)


def _stopped(listening: IListeningPort | None) -> Deferred[None]:
    stopped = maybeDeferred(listening.stopListening) if listening else maybeDeferred(bool)
    return stopped.addCallback(lambda _: None)


def _reason(error: object) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return "another program is using it"
        if error.errno == errno.EACCES:
            return "permission denied; ports below 1024 need root at the start"
        return error.strerror or str(error)
    return str(error)


def everywhere() -> tuple[str, ...]:
    """The wildcard addresses of this host: IPv4, and IPv6 where there is any."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(("::", 0))
    except OSError:
        return ("0.0.0.0",)
    return ("0.0.0.0", "::")
