"""The transport that sends at once and stays awake for a quick client: nothing is lost,
doubled or put in another order, and nobody waits for long."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailserver.server import transport
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

    async def test_the_kernel_sends_a_file_unless_something_waits(self) -> None:
        octets = CHANCE.randbytes(30_000_000)
        took: list[int] = []

        def work(near: Near) -> None:
            near.transport.write(b"before")  # type: ignore[union-attr]
            took.append(near.transport.send_file(file.fileno(), 5, 100))  # type: ignore[union-attr]
            at = 105
            while sent := near.transport.send_file(  # type: ignore[union-attr]
                file.fileno(), at, len(octets) - at
            ):
                at += sent
            took.append(at)
            near.transport.write(octets[at : at + 10_000_000])  # type: ignore[union-attr]
            took.append(near.transport.send_file(file.fileno(), 0, 1))  # type: ignore[union-attr]
            near.transport.loseConnection()  # type: ignore[union-attr]

        with tempfile.TemporaryFile() as file:
            file.write(octets)
            file.flush()
            connected, _made = self.serve(work)
            far = await connected
            await far.ended
        self.assertEqual(took[0], 100)
        self.assertEqual(took[2], 0)
        self.assertLess(took[1], len(octets), "the kernel's memory is full")
        self.assertEqual(bytes(far.got), b"before" + octets[5 : took[1] + 10_000_000])

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


class Echo(Protocol):
    """The server: answers each line with itself, in one write; some lines do more."""

    transport: PromptServer  # type: ignore[assignment]

    def __init__(self, made: list[Echo]) -> None:
        made.append(self)
        self.rest = b""
        self.got: list[bytes] = []
        self.reasons: list[Failure | None] = []
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.got += lines
        if b"long" in lines:
            time.sleep(0.05)
        if b"fail" in lines:
            raise ValueError("as the test wants")
        if b"mute" not in lines:
            self.transport.write(b"".join(line + b"\n" for line in lines))
        if b"pause" in lines:
            self.transport.pauseProducing()
            reactor.callLater(0.2, self.transport.resumeProducing)
        if b"end" in lines:
            self.transport.loseConnection()
        if b"abort" in lines:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.reasons.append(reason)
        self.gone.callback(None)


class QuickClients(TestCase):
    """The next command is looked for, for so long here that every client is quick: what is
    sent after the first few commands is read without the reactor."""

    def setUp(self) -> None:
        self.pace = transport._Pace()
        self.patch(transport, "_pace", self.pace)
        for name in ("QUICK", "LINGER", "HELD"):
            self.patch(transport, name, 5.0)
        self.made: list[Echo] = []
        listening = Factory.forProtocol(lambda: Echo(self.made))
        listening.noisy = False
        self.port = reactor.listenTCP(0, listening, interface="127.0.0.1")
        self.port.transport = PromptServer
        self.addCleanup(self.port.stopListening)

    def client(self) -> socket.socket:
        """Connect, from a thread."""
        address = ("127.0.0.1", self.port.getHost().port)
        connected = socket.create_connection(address, timeout=20)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    async def talk(self, *last: bytes, between: Callable[[], None] = lambda: None) -> bytes:
        """A client sends 20 lines, one after the answer to the other, then the last ones,
        each when the server has read the one before, and reads until the end."""

        def work() -> bytes:
            with self.client() as connected:
                for number in range(20):
                    connected.sendall(b"%d\n" % number)
                    assert connected.recv(100) == b"%d\n" % number
                near = self.made[-1]
                for line in last:
                    connected.sendall(line + b"\n")
                    wait_until(lambda line=line: line in near.got or near.reasons)  # type: ignore[misc]
                    between()
                connected.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connected.recv(100), b""))

        return await deferToThread(work)

    async def test_each_command_is_answered_once_and_in_order(self) -> None:
        self.assertEqual(await self.talk(b"a", b"b", b"c"), b"a\nb\nc\n")
        [near] = self.made
        await near.gone
        self.assertEqual(near.got, [b"%d" % number for number in range(20)] + [b"a", b"b", b"c"])
        [reason] = near.reasons
        assert reason is not None
        reason.trap(ConnectionDone)
        self.assertIsNone(self.pace.connection)

    async def test_a_command_is_read_without_the_reactor(self) -> None:
        turns: list[bytes] = []

        def work() -> list[bytes]:
            with self.client() as connected:
                for number in range(30):
                    if number == 20:
                        reactor.callFromThread(turns.append, b"a turn")
                    connected.sendall(b"%d\n" % number)
                    assert connected.recv(100) == b"%d\n" % number
                return list(turns)

        self.assertEqual(await deferToThread(work), [])
        self.assertEqual(turns, [b"a turn"])

    async def test_the_others_get_their_turn_meanwhile(self) -> None:
        self.patch(transport, "LINGER", 0.1)
        self.patch(transport, "HELD", 500e-6)
        ended: list[bool] = []

        def quick() -> int:
            asked = 0
            with self.client() as connected:
                while not ended and asked < 100_000:
                    connected.sendall(b"quick\n")
                    assert connected.recv(100) == b"quick\n"
                    asked += 1
            return asked

        def slow() -> float:
            with self.client() as connected:
                longest = 0.0
                for _each in range(20):
                    time.sleep(0.01)
                    asked = time.monotonic()
                    connected.sendall(b"slow\n")
                    assert connected.recv(100) == b"slow\n"
                    longest = max(longest, time.monotonic() - asked)
            return longest

        at_work = deferToThread(quick)
        longest = await deferToThread(slow)
        ended.append(True)
        self.assertGreater(await at_work, 20)
        self.assertLess(longest, 1.0)

    async def test_a_long_command_that_the_reactor_handed_over_is_the_last(self) -> None:
        """Else a client that writes without a pause would get two turns and not one."""
        self.patch(transport, "HELD", 0.02)
        turns: list[bytes] = []
        seen: list[bool] = []

        def between() -> None:
            if b"long" in self.made[-1].got:
                reactor.callFromThread(turns.append, b"a turn")
                wait_until(lambda: turns, 2.0)
                seen.append(bool(turns))
            else:
                time.sleep(0.05)  # "two" is the last that is read without the reactor

        await self.talk(b"one", b"two", b"long", between=between)
        self.assertEqual(seen, [True])

    async def test_looks_in_vain_make_looks_rare(self) -> None:
        self.patch(transport, "LINGER", 0.0)
        self.patch(transport, "LONGEST_STREAK", 3 * transport.STREAK)

        def work() -> list[int]:
            needed: list[int] = []
            with self.client() as connected:
                for _each in range(100):
                    time.sleep(0.002)
                    connected.sendall(b"line\n")
                    assert connected.recv(100) == b"line\n"
                    if self.pace.needed not in needed:
                        needed.append(self.pace.needed)
            return needed

        needed = await deferToThread(work)
        self.assertEqual(needed, [transport.STREAK * times for times in (1, 2, 3)])

    async def test_who_is_slow_or_not_alone_is_not_quick(self) -> None:
        streaks: list[int] = []

        def work() -> None:
            with self.client() as one, self.client() as other:
                for _each in range(20):
                    for client in (one, other):
                        client.sendall(b"line\n")
                        assert client.recv(100) == b"line\n"
                        streaks.append(self.pace.streak)

        await deferToThread(work)
        self.patch(transport, "QUICK", 0.0)
        await self.talk()
        self.assertEqual({*streaks, self.pace.streak}, {0})

    async def test_a_client_that_has_stopped_keeps_nobody_awake(self) -> None:
        self.patch(transport, "LINGER", 100e-6)

        def work() -> float:
            with self.client() as connected:
                for _each in range(20):
                    connected.sendall(b"line\n")
                    assert connected.recv(100) == b"line\n"
                before = time.process_time()
                time.sleep(0.5)
                return time.process_time() - before

        self.assertLess(await deferToThread(work), 0.1)

    async def test_what_comes_after_a_pause_waits_for_its_end(self) -> None:
        paused = time.monotonic()
        self.assertEqual(await self.talk(b"pause", b"later"), b"pause\nlater\n")
        self.assertGreater(time.monotonic() - paused, 0.2)

    async def test_a_command_without_an_answer_ends_the_wait(self) -> None:
        turns: list[bytes] = []
        seen: list[bytes] = []

        def between() -> None:
            reactor.callFromThread(turns.append, b"a turn")
            wait_until(lambda: turns, 2.0)
            seen.extend(turns)

        self.assertEqual(await self.talk(b"mute", between=between), b"")
        self.assertTrue(seen)

    async def test_nothing_is_read_after_the_end(self) -> None:
        for word in (b"end", b"abort"):
            with self.subTest(word):
                self.made.clear()
                with contextlib.suppress(OSError):  # the client's end may be reset
                    self.assertEqual(await self.talk(word, b"too late"), b"end\n")
                [near] = self.made
                await near.gone
                self.assertEqual(near.got[20:], [word])
                self.assertEqual(len(near.reasons), 1)

    async def test_what_fails_ends_this_connection_alone(self) -> None:
        self.assertEqual(await self.talk(b"fail"), b"")
        [near] = self.made
        await near.gone
        self.assertEqual(len(near.reasons), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(await self.talk(b"next"), b"next\n")


def wait_until(come: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait in a thread until it has come, or for so long."""
    end = time.monotonic() + seconds
    while not come() and time.monotonic() < end:
        time.sleep(0.002)
