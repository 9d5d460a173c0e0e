"""Connections from one process to another, each with the word what it is for.

A socket that keeps the bounds of messages carries them, so that descriptor and word cannot
come apart. Who takes one says so by its number before anything else is done with it; until then
who gave it keeps it too, and can give it to somebody else.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet import unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.server.transport import PromptServer

MOST_WAITING: Final = 50
"""Connections that one process may have been given and not have taken. Their words, and the
answers, always fit into the socket's buffer, so nobody ever waits for the other end."""

_AT_ONCE: Final = 20  # connections in one turn of the reactor
_WORD: Final = 4096  # octets, at most


@attrs.frozen(eq=False)
class Accepted:
    """A connection that somebody is to serve.

    Attributes:
        number: that no other one has.
        service, behind_proxy: of its listener.
        socket: connected.
        address: the client's as `socket.accept` gave it; empty for a Unix socket.
    """

    number: int
    service: str
    behind_proxy: bool
    socket: socket.socket
    address: tuple[Any, ...]

    def word(self) -> bytes:
        """All but the socket."""
        return json.dumps([self.number, self.service, self.behind_proxy, self.address]).encode()

    @classmethod
    def of(cls, word: bytes, descriptor: int) -> Accepted:
        """What `word` gave, with the descriptor that came with it."""
        number, service, behind_proxy, address = json.loads(word)
        return cls(number, service, behind_proxy, socket.socket(fileno=descriptor), tuple(address))


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a socket for a `Giver` and a `Taker`."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@implementer(IReadDescriptor)
class _End:
    """One end, read by the reactor."""

    def __init__(self, end: socket.socket, reactor: Any) -> None:
        end.setblocking(False)
        self._end = end
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self._end.fileno()

    def logPrefix(self) -> str:
        """For the reactor."""
        return type(self).__name__

    def doRead(self) -> None:
        """Something has come, or the other end is gone."""
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor where the socket fails, or when it ends."""
        self.close()

    def close(self) -> None:
        """Let go of the socket; may be called twice."""
        if self._end.fileno() >= 0:
            self._reactor.removeReader(self)
            self._end.close()


class Giver(_End):
    """The end of who has connections to give.

    Args:
        taken: called when the other end has taken one.
        refused: called when it cannot have one for want of open files.
        left: called for each that it has not taken when it is gone.

    Attributes:
        waiting: given and not yet taken, by their numbers.
    """

    def __init__(
        self,
        end: socket.socket,
        reactor: Any,
        taken: Callable[[Accepted], None],
        refused: Callable[[Accepted], None],
        left: Callable[[Accepted], None],
    ) -> None:
        super().__init__(end, reactor)
        self.waiting: dict[int, Accepted] = {}
        self._taken = taken
        self._refused = refused
        self._left = left

    def give(self, accepted: Accepted) -> bool:
        """Give a connection; False if the other end cannot have it now."""
        if len(self.waiting) >= MOST_WAITING:
            return False
        try:
            socket.send_fds(self._end, [accepted.word()], [accepted.socket.fileno()])
        except OSError:
            return False
        self.waiting[accepted.number] = accepted
        return True

    def doRead(self) -> None:
        """Take the words that connections were taken, or refused."""
        if not self._hear():
            self.close()

    def _hear(self) -> bool:
        """Take all words that have come; False if no more can come."""
        while True:
            try:
                word = self._end.recv(_WORD)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                continue  # told once, before the words that were said until then
            except OSError:
                return False
            if not word:
                return False
            number = int(word)
            accepted = self.waiting.pop(abs(number))
            (self._taken if number > 0 else self._refused)(accepted)

    def close(self) -> None:
        """Let go, and take back what was not taken; may be called twice."""
        if self._end.fileno() >= 0:
            self._hear()
        super().close()
        waiting, self.waiting = self.waiting, {}
        for accepted in waiting.values():
            self._left(accepted)


class Taker(_End):
    """The end of who serves them.

    Args:
        serve: is given each connection.
    """

    def __init__(self, end: socket.socket, reactor: Any, serve: Callable[[Accepted], None]) -> None:
        super().__init__(end, reactor)
        self._serve = serve

    def doRead(self) -> None:
        """Take connections."""
        try:
            for _ in range(_AT_ONCE):
                word, descriptors, _flags, _ = socket.recv_fds(self._end, _WORD, 1)
                if not word:
                    self.close()
                    return
                if not descriptors:  # this process has no room for more open files
                    self._end.send(b"-%d" % json.loads(word)[0])
                    continue
                accepted = Accepted.of(word, descriptors[0])
                accepted.socket.set_inheritable(False)
                self._end.send(b"%d" % accepted.number)
                self._serve(accepted)
        except BlockingIOError:
            pass
        except OSError:
            self.close()


# -- serving one ----------------------------------------------------------------------


class _TcpTransport(PromptServer):
    """Tells when it is gone."""

    ended: Callable[[], None]

    def connectionLost(self, reason: Failure) -> None:
        """See `ended`."""
        super().connectionLost(reason)
        ended, self.ended = self.ended, _nothing
        ended()


class _UnixTransport(unix.Server):
    """Tells when it is gone."""

    ended: Callable[[], None]

    def connectionLost(self, reason: Failure) -> None:
        """See `ended`."""
        super().connectionLost(reason)
        ended, self.ended = self.ended, _nothing
        ended()


def _nothing() -> None:
    pass


def serve(
    accepted: Accepted, factory: IProtocolFactory, reactor: Any, ended: Callable[[], None]
) -> None:
    """Serve a connection in this process, as a port of Twisted would.

    Args:
        ended: called once, when the connection is gone.
    """
    address = _address(accepted)
    protocol = factory.buildProtocol(address)
    if protocol is None:
        accepted.socket.close()
        ended()
        return
    make: Any = _UnixTransport if isinstance(address, UNIXAddress) else _TcpTransport
    client = accepted.address or ""
    transport = make(accepted.socket, protocol, client, None, accepted.number, reactor)
    transport.repstr = f"<{accepted.service} #{accepted.number} of {address}>"
    transport.ended = ended
    protocol.makeConnection(transport)


def _address(accepted: Accepted) -> IAddress:
    if accepted.socket.family == socket.AF_UNIX:
        return UNIXAddress(None)
    kind = IPv4Address if accepted.socket.family == socket.AF_INET else IPv6Address
    return kind("TCP", *accepted.address)
