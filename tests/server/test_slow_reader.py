"""Who takes no output is cut off; who takes it slowly is not (R10, T52), over real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from mailserver.errors import ErrorKind
from mailserver.server.connection import LEAST_TAKEN, Connection
from tests.server.rig import Monitor

reactor: Any = installed

WRITE_TIMEOUT = 1.0
OCTETS = 20_000_000
"""More than the kernel keeps for a connection."""


class Pouring(Connection):
    """Sends as much as the client takes, and more."""

    def greeted(self) -> None:
        # As large as the kernel lets one for a client that was fast before.
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
        self.gone_after: Deferred[None] = Deferred()
        self.run(self.pour(), lambda _: None)

    async def pour(self) -> None:
        for _ in range(OCTETS // 65536):
            self.send(b"x" * 65536)
            await self.drained()

    def octets_received(self, octets: bytes) -> None: ...

    def farewell(self, text: str, kind: ErrorKind | None = None) -> bytes:
        return b""

    def closed(self) -> None:
        self.gone_after.callback(None)


class SlowReaders(TestCase):
    """One client that does not read by itself."""

    async def setUp(self) -> None:
        self.made: list[Pouring] = []

        class Made(Factory):
            noisy = False

            def buildProtocol(made, addr: object) -> Pouring:
                self.made.append(Pouring("x", Monitor(), reactor, WRITE_TIMEOUT))
                return self.made[-1]

        port = reactor.listenTCP(0, Made(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.client = socket.socket()
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        # Octets are acknowledged in the steps of a real network, not of loopback.
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        self.client.setblocking(False)
        self.client.connect_ex(("127.0.0.1", port.getHost().port))
        self.addCleanup(self.client.close)
        self.lines: list[LogEvent] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)
        while not self.made or not self.made[0].is_full:
            await deferLater(reactor, 0.01)

    async def test_who_takes_nothing_is_cut_off(self) -> None:
        began = reactor.seconds()
        await self.made[0].gone_after
        self.assertGreaterEqual(reactor.seconds() - began, WRITE_TIMEOUT / 2)
        self.assertTrue(any("cut off" in str(event.get("text")) for event in self.lines))

    async def test_who_takes_little_but_steadily_is_served(self) -> None:
        """The kernel's buffer hides for long that it is taken: there is no room for more."""
        began = reactor.seconds()
        while reactor.seconds() - began < 1.6 * WRITE_TIMEOUT:
            try:
                self.client.recv(LEAST_TAKEN)
            except BlockingIOError:
                pass
            await deferLater(reactor, WRITE_TIMEOUT / 10)
        self.assertTrue(self.made[0].is_open)
        self.client.close()
        await self.made[0].gone_after
