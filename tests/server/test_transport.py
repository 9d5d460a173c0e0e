"""The transport that sends at once: nothing is lost, doubled or put in another order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailserver.server.transport import PromptServer

reactor: Any = _reactor

CHANCE = random.Random(4)
PIECES = [CHANCE.randbytes(CHANCE.choice((1, 10, 1000, 40_000, 300_000))) for _each in range(60)]


class Far(Protocol):
    """The client: keeps what comes, and stops reading where it is told to."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended: Deferred[None] = Deferred()
        self.pause_at = 0

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.pause_at and len(self.got) > self.pause_at:
            self.pause_at = 0
            self.transport.pauseProducing()  # type: ignore[union-attr]
            reactor.callLater(0.05, self.transport.resumeProducing)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended.callback(None)


class Near(Protocol):
    """The server: does what the test says once it is connected."""

    def __init__(self, work: Callable[[Near], None]) -> None:
        self.work = work
        self.lost = 0
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert isinstance(self.transport, PromptServer)
        self.work(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost += 1
        self.gone.callback(None)


class PromptServerTests(TestCase):
    """Over real sockets."""

    def serve(self, work: Callable[[Near], None]) -> tuple[Deferred[Far], list[Near]]:
        made: list[Near] = []

        class Listening(Factory):
            def buildProtocol(self, address: object) -> Near:
                made.append(Near(work))
                return made[0]

        port = reactor.listenTCP(0, Listening(), interface="127.0.0.1")
        port.transport = PromptServer
        self.addCleanup(port.stopListening)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        return connectProtocol(endpoint, Far()), made

    async def test_what_does_not_fit_follows_in_order(self) -> None:
        def work(near: Near) -> None:
            for piece in PIECES:
                near.transport.write(piece)  # type: ignore[union-attr]
            near.transport.loseConnection()  # type: ignore[union-attr]

        connected, _made = self.serve(work)
        far = await connected
        far.pause_at = 500_000
        await far.ended
        self.assertEqual(bytes(far.got), b"".join(PIECES))

    async def test_a_producer_is_paused_when_the_kernel_is_full_and_goes_on(self) -> None:
        paused: list[bool] = []

        class Source:
            def __init__(self, near: Near) -> None:
                self.near = near
                self.left = list(PIECES) * 2
                self.going = True
                near.transport.registerProducer(self, True)  # type: ignore[union-attr]
                self.resumeProducing()

            def resumeProducing(self) -> None:
                self.going = True
                while self.left and self.going:
                    self.near.transport.write(self.left.pop(0))  # type: ignore[union-attr]
                if not self.left:
                    self.near.transport.unregisterProducer()  # type: ignore[union-attr]
                    self.near.transport.loseConnection()  # type: ignore[union-attr]

            def pauseProducing(self) -> None:
                self.going = False
                paused.append(True)

            def stopProducing(self) -> None:
                raise AssertionError("the connection was lost")

        connected, _made = self.serve(Source)
        far = await connected
        far.pause_at = 100_000
        await far.ended
        self.assertTrue(paused)
        self.assertEqual(bytes(far.got), b"".join(PIECES * 2))

    async def test_a_client_that_is_gone_ends_the_connection_once(self) -> None:
        connected, made = self.serve(lambda near: None)
        far = await connected
        far.transport.abortConnection()  # type: ignore[union-attr]
        await far.ended
        near = made[0]
        for _each in range(3):
            near.transport.write(b"for nobody")  # type: ignore[union-attr]
        await near.gone
        near.transport.write(b"after the end")  # type: ignore[union-attr]
        self.assertEqual(near.lost, 1)
