"""How `mailctl` asks the running server: a Unix socket in the data directory.

One request a connection. Wire form: JSON objects, one a line:

    {"command": "kick", "account": "ann@example.org"}       from who asks
    {"row": {…}}                                            any number of them
    {"end": true}   or   {"error": "a sentence"}            the last one

Only processes of our own user are talked to (SO_PEERCRED), whatever the modes say. The lock
of the event hub is held before the socket is made, so one that is found was left behind.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailserver.errors import ErrorKind, MailError
from mailserver.events.sockets import peer_uid, socket_address

CONTROL_SOCKET: Final = "control.socket"
"""Name of the socket in the data directory."""

Row = dict[str, Any]
Command = Callable[[Row], Iterable[Row] | Awaitable[Iterable[Row]]]
"""Takes the request; gives the rows of the answer, perhaps later. MailError is told to who
asked."""

_MAX_REQUEST: Final = 4096  # octets
_AT_ONCE: Final = 500  # rows in one turn of the reactor
_TIMEOUT: Final = 10.0  # seconds


class ControlServer:
    """Answers requests.

    Args:
        path: of the socket.
        commands: by name.
        reactor: the reactor.
    """

    def __init__(self, path: Path, commands: dict[str, Command], reactor: Any) -> None:
        self.commands = commands
        self.reactor = reactor
        self._path = path
        self._directory = -1
        self._port: IListeningPort | None = None

    def start(self) -> None:
        """Listen; what a dead process left is replaced.

        Raises:
            MailError: UNAVAILABLE if the socket cannot be made.
        """
        try:
            self._path.unlink(missing_ok=True)
            address, self._directory = socket_address(self._path)
            factory = Factory.forProtocol(lambda: _Request(self))
            factory.noisy = False
            self._port = self.reactor.listenUNIX(address, factory, mode=0o600)
        except (OSError, CannotListenError) as error:
            self._release()
            raise MailError(ErrorKind.UNAVAILABLE, f"control: {self._path}: {error}") from error

    async def stop(self) -> None:
        """Stop listening; may be called twice."""
        port, self._port = self._port, None
        if port is not None and self._path.exists():  # the port removes it
            await maybeDeferred(port.stopListening)
        self._release()

    def _release(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


class _Request(Protocol):
    """One request and its answer."""

    _log = Logger()
    transport: Any  # a Unix stream

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._octets = b""
        self._alarm: Any = None

    def connectionMade(self) -> None:
        """Look who it is."""
        if peer_uid(self.transport.socket) != os.geteuid():
            self._log.warn("control: a process of another user was refused")
            self.transport.abortConnection()
            return
        self._alarm = self._server.reactor.callLater(_TIMEOUT, self.transport.abortConnection)

    def connectionLost(self, reason: Any = None) -> None:
        """Forget it."""
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Take the request when its line is complete."""
        self._octets += data
        if b"\n" in self._octets:
            line, self._octets = self._octets, b""
            answering = Deferred.fromCoroutine(self._answer(line))
            answering.addErrback(self._failed)
        elif len(self._octets) > _MAX_REQUEST:
            self.transport.abortConnection()

    async def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            name = request.get("command") if isinstance(request, dict) else None
            command = self._server.commands.get(name) if isinstance(name, str) else None
            if command is None:
                raise MailError(ErrorKind.INVALID, "this server does not know the command")
            rows = command(request)
            if not isinstance(rows, Iterable):
                rows = await rows
        except (ValueError, RecursionError):
            self._end({"error": "the request is not understood"})
        except MailError as error:
            self._end({"error": error.text})
        else:
            self._send(iter(rows))

    def _failed(self, failure: Failure) -> None:
        self._log.failure("control: a request failed", failure)
        self._end({"error": "internal error"})

    def _send(self, rows: Iterator[Row]) -> None:
        """Send some rows, and the others in the next turns."""
        if not self.transport.connected:
            return
        some = list(islice(rows, _AT_ONCE))
        self.transport.writeSequence([_line({"row": row}) for row in some])
        if some:
            self._server.reactor.callLater(0, self._send, rows)
        else:
            self._end({"end": True})

    def _end(self, line: Row) -> None:
        self.transport.write(_line(line))
        self.transport.loseConnection()


def _line(value: Row) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


# -- the side of those who ask ----------------------------------------------------------


def ask(data: Path, command: str, **arguments: object) -> list[Row] | None:
    """Ask the server that runs on a data directory; blocks for ten seconds at most.

    Returns:
        The rows of its answer; None if no server runs there.

    Raises:
        MailError: UNAVAILABLE if it does not answer; INVALID with what it says.
    """
    try:
        address, directory = socket_address(data / CONTROL_SOCKET)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT)
            try:
                connection.connect(address)
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            connection.sendall(_line({"command": command, **arguments}))
            with connection.makefile("rb") as answer:
                return list(_rows(answer))
    except OSError as error:
        raise MailError(
            ErrorKind.UNAVAILABLE, f"the server does not answer: {error.strerror or error}"
        ) from error
    finally:
        if directory >= 0:
            os.close(directory)


def _rows(lines: Iterable[bytes]) -> Iterator[Row]:
    for line in lines:
        message = json.loads(line)
        if "error" in message:
            raise MailError(ErrorKind.INVALID, str(message["error"]))
        if "end" in message:
            return
        yield message["row"]
    raise MailError(ErrorKind.UNAVAILABLE, "the server broke its answer off")
