"""What a listener has in the place of a factory where several processes serve, and how much
each of them has to do."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory

from mailserver.service.workers.handing import Accepted


class Door(Factory):
    """Gives the bare sockets of a listener to somebody else.

    Args:
        behind: the factory that serves them here; it is told of the listener's start and end.
        accept: is given each socket, and the client's address as `socket.accept` has it.
    """

    noisy = False

    def __init__(
        self,
        behind: IProtocolFactory,
        accept: Callable[[socket.socket, Sequence[Any]], None],
    ) -> None:
        self._behind: Any = behind
        self._accept = accept

    def logPrefix(self) -> str:
        """How Twisted's own log calls it."""
        prefix: str = self._behind.logPrefix()
        return prefix

    def doStart(self) -> None:
        """The listener begins."""
        self._behind.doStart()

    def doStop(self) -> None:
        """The listener ends."""
        self._behind.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Passing:  # type: ignore[override]
        """What the port has in the place of a protocol."""
        return _Passing(self._accept)

    @staticmethod
    def transport(
        connected: socket.socket, protocol: object, client: object, *rest: object
    ) -> tuple[socket.socket, object]:
        """What the port has in the place of a transport."""
        return connected, client


class _Passing:
    def __init__(self, accept: Callable[[socket.socket, Sequence[Any]], None]) -> None:
        self._accept = accept

    def makeConnection(self, accepted: tuple[socket.socket, Any]) -> None:
        """Called by the port when it has a connection."""
        connected, client = accepted
        self._accept(connected, client if isinstance(client, tuple) else ())


class Load:
    """The connections of one process.

    Args:
        give: gives it another one; False if it cannot have it now. None for this process,
            which always can.

    Attributes:
        given: how many it has had in all.
    """

    def __init__(self, give: Callable[[Accepted], bool] | None = None) -> None:
        self.give = give
        self.given = 0
        self._services: dict[int, str] = {}  # by the number of the connection
        self._counts: Counter[str] = Counter()
        self._newest = 0

    def order(self, service: str) -> tuple[int, int, int]:
        """Who is to have the next connection of a service: the least first. Who has as much
        to do as others waits for his turn."""
        return self._counts[service], len(self._services), self._newest

    def began(self, accepted: Accepted) -> None:
        """It has one more."""
        self.given += 1
        self._newest = accepted.number
        self._services[accepted.number] = accepted.service
        self._counts[accepted.service] += 1

    def ended(self, number: int) -> None:
        """One is gone."""
        service = self._services.pop(number, None)
        if service is not None:
            self._counts[service] -= 1

    def clear(self) -> None:
        """It has none any more."""
        self._services.clear()
        self._counts.clear()
