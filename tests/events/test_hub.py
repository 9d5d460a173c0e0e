"""Events between processes, over real sockets (SUN-50)."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from textwrap import dedent
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.errors import ErrorKind, MailError
from mailserver.events import hub
from mailserver.events.bus import EventBus
from mailserver.events.hub import HubClient, HubServer, decode, encode
from mailserver.model.changes import Event, EventKind
from mailserver.model.ids import AccountId, MailboxId, MailboxRef, ModSeq

JOE = AccountId("j" * 26)
INBOX = MailboxRef(JOE, MailboxId("inbox"))
SENT = MailboxRef(JOE, MailboxId("sent"))


def event(number: int, ref: MailboxRef = INBOX, kind: EventKind = EventKind.NEW_MSG) -> Event:
    return Event(ref, ModSeq(number), kind)


@pytest.mark.parametrize("kind", list(EventKind))
def test_an_event_comes_out_as_it_went_in(kind: EventKind) -> None:
    line = encode(event(2**63 - 1, kind=kind))
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and len(line) <= hub.MAX_LINE
    assert decode(json.loads(line)) == event(2**63 - 1, kind=kind)


def test_what_a_newer_program_adds_is_ignored() -> None:
    message = json.loads(encode(event(5))) | {"kind": "Brandnew", "more": [1]}
    assert decode(message) == event(5, kind=EventKind.MAILBOXES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"account": "../../etc"},
        {"account": 5},
        {"mailbox": ""},
        {"mailbox": "a/b"},
        {"modseq": -1},
        {"modseq": 2**63},
        {"modseq": "5"},
        {"modseq": True},
        {"modseq": None},
    ],
)
def test_what_is_no_event_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is not a"):
        decode(json.loads(encode(event(5))) | wrong)


class HubCase(TestCase):
    """A server with its bus, in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(mkdtemp())
        self.addCleanup(rmtree, self.directory)
        self.path = self.directory / "run" / "events.sock"
        self.bus = EventBus(reactor)
        self.server = self.started()

    def started(self, bus: EventBus | None = None) -> HubServer:
        server = HubServer(self.path, bus or self.bus, reactor)
        server.start()
        self.addCleanup(lambda: ensureDeferred(server.stop()))
        return server

    def client(self, *, listens: bool = True) -> tuple[HubClient, EventBus]:
        bus = EventBus(reactor)
        client = HubClient(self.path, bus, reactor, listens=listens)
        client.start()
        self.addCleanup(lambda: ensureDeferred(client.stop()))
        return client, bus

    def raw(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        connection.settimeout(10)
        self.addCleanup(connection.close)
        return connection

    async def heard(self, bus: EventBus, work: Callable[[], object], count: int = 1) -> list[Event]:
        """Do something, and wait for that many events of INBOX or SENT."""
        events: list[Event] = []
        enough: Deferred[None] = Deferred()

        def listener(one: Event) -> None:
            events.append(one)
            if len(events) == count:
                enough.callback(None)

        ends = [bus.subscribe(ref, listener) for ref in (INBOX, SENT)]
        work()
        enough.addTimeout(10, reactor)
        await enough
        for end in ends:
            end()
        return events


class BetweenProcesses(HubCase):
    async def test_a_client_wakes_the_server_and_every_other_client(self) -> None:
        first, first_bus = self.client()
        second, second_bus = self.client()
        assert await first.flush(5) and await second.flush(5)
        own: list[Event] = []
        first_bus.subscribe(INBOX, own.append)
        others: list[Event] = []
        second_bus.subscribe(INBOX, others.append)
        self.assertEqual(
            await self.heard(self.bus, lambda: first_bus.publish(event(7))), [event(7)]
        )
        assert await second.flush(5)
        await deferLater(reactor, 0)
        self.assertEqual(others, [event(7)])
        self.assertEqual(own, [event(7)], "once: its own does not come back")

    async def test_the_server_wakes_clients(self) -> None:
        client, bus = self.client()
        assert await client.flush(5)
        self.assertEqual(
            await self.heard(bus, lambda: self.bus.publish(event(8, SENT))), [event(8, SENT)]
        )

    async def test_who_does_not_listen_is_told_nothing(self) -> None:
        client, bus = self.client(listens=False)
        assert await client.flush(5)
        heard: list[Event] = []
        bus.subscribe(INBOX, heard.append)
        self.bus.publish(event(1))
        assert await client.flush(5)
        await deferLater(reactor, 0)
        self.assertEqual(heard, [])

    async def test_a_short_lived_process_publishes_flushes_and_goes(self) -> None:
        program = dedent(
            """
            import sys
            from pathlib import Path
            from twisted.internet import task
            from mailserver.events.bus import EventBus
            from mailserver.events.hub import HubClient
            from mailserver.model.changes import Event, EventKind
            from mailserver.model.ids import MailboxRef

            async def main(reactor):
                bus = EventBus(reactor)
                client = HubClient(Path(sys.argv[1]), bus, reactor, listens=False)
                client.start()
                bus.publish(Event(MailboxRef("j" * 26, "inbox"), 42, EventKind.NEW_MSG))
                print(await client.flush(5))
                await client.stop()

            task.react(main)
            """
        )

        def run() -> None:
            self.output = subprocess.run(
                [sys.executable, "-c", program, str(self.path)],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                timeout=30,
                check=True,
            ).stdout

        done: list[Deferred[None]] = []
        events = await self.heard(self.bus, lambda: done.append(deferToThread(run)))
        await done[0]
        self.assertEqual(events, [event(42)])
        self.assertEqual(self.output, b"True\n")

    async def test_who_is_killed_may_have_changed_what_nobody_heard_of(self) -> None:
        other, other_bus = self.client()
        assert await other.flush(5)
        doomed = self.raw()
        doomed.sendall(b'{"hello": 1, "listen": false}\n{"ping": 1}\n')
        assert await deferToThread(doomed.recv, 100)
        theirs: Deferred[Event] = Deferred()
        other_bus.subscribe(INBOX, theirs.callback)
        [ours] = await self.heard(self.bus, doomed.close)
        assert ours.mod_sequence == 0
        theirs.addTimeout(10, reactor)
        assert (await theirs).mod_sequence == 0

    async def test_who_says_goodbye_makes_nobody_look(self) -> None:
        heard: list[Event] = []
        self.bus.subscribe(INBOX, heard.append)
        other, _ = self.client()
        assert await other.flush(5)
        await other.stop()
        gone = self.raw()
        gone.sendall(b'{"hello": 1}\n{"bye": true}\n')
        gone.close()
        last, _ = self.client()
        assert await last.flush(5), "the server has seen the end of the others"
        await deferLater(reactor, 0.05)
        assert heard == []

    async def test_a_push_takes_milliseconds(self) -> None:
        client, bus = self.client()
        assert await client.flush(5)
        start = time.perf_counter()
        await self.heard(bus, lambda: self.bus.publish(event(1)))
        self.assertLess(time.perf_counter() - start, 0.1)


class WithoutAServer(HubCase):
    async def test_nothing_fails_and_nothing_waits_long(self) -> None:
        await self.server.stop()
        client, bus = self.client()
        bus.publish(event(1))
        start = time.perf_counter()
        self.assertFalse(await client.flush(5))
        self.assertLess(time.perf_counter() - start, 2)
        await client.stop()
        self.assertFalse(await client.flush(5))

    async def test_a_directory_that_is_not_there_is_no_server(self) -> None:
        self.path = self.directory / "missing" / "events.sock"
        client, _ = self.client()
        self.assertFalse(await client.flush(5))

    async def test_what_was_published_before_the_server_came_arrives(self) -> None:
        await self.server.stop()
        _, bus = self.client(listens=False)
        for number, kind in enumerate(
            (EventKind.NEW_MSG, EventKind.MAILBOXES, EventKind.MSG_FLAGS)
        ):
            bus.publish(event(number + 1, kind=kind))
        bus.publish(event(9, SENT))
        events = await self.heard(self.bus, self.started, 2)
        self.assertEqual(set(events), {event(3, kind=EventKind.MAILBOXES), event(9, SENT)})

    async def test_after_a_restart_clients_come_back_and_look_at_everything(self) -> None:
        client, bus = self.client()
        assert await client.flush(5)
        await self.server.stop()
        await deferLater(reactor, 0.01)
        events = await self.heard(bus, self.started, 2)
        self.assertEqual({one.ref for one in events}, {INBOX, SENT})
        assert await client.flush(5)
        self.assertEqual(await self.heard(bus, lambda: self.bus.publish(event(3))), [event(3)])

    async def test_what_happened_before_the_server_took_our_hello_is_looked_for(self) -> None:
        """A connection stands before the server has read a word of it."""
        client, bus = self.client()
        heard: list[Event] = []
        bus.subscribe(INBOX, heard.append)
        assert await client.flush(5)
        await deferLater(reactor, 0)
        self.assertEqual([one.mod_sequence for one in heard], [0])


class TheSocket(HubCase):
    def test_only_the_owner_can_reach_it(self) -> None:  # S14
        modes = [stat.S_IMODE(one.stat().st_mode) for one in (self.path, self.path.parent)]
        self.assertEqual(modes, [0o600, 0o700])
        lock = self.path.with_suffix(".lock")
        self.assertEqual(stat.S_IMODE(lock.stat().st_mode), 0o600)

    async def test_a_second_server_is_refused_and_the_first_one_goes_on(self) -> None:
        refusal = self.assertRaises(MailError, self.started, EventBus(reactor))
        self.assertIs(refusal.kind, ErrorKind.UNAVAILABLE)
        self.assertIn(f"process {os.getpid()}", refusal.text)
        client, _ = self.client()
        assert await client.flush(5)

    async def test_what_a_dead_process_left_is_replaced(self) -> None:
        await self.server.stop()
        program = dedent(
            """
            import os, sys
            from pathlib import Path
            from twisted.internet import reactor
            from mailserver.events.bus import EventBus
            from mailserver.events.hub import HubServer
            HubServer(Path(sys.argv[1]), EventBus(reactor), reactor).start()
            os.kill(os.getpid(), 9)
            """
        )
        subprocess.run(
            [sys.executable, "-c", program, str(self.path)],
            cwd=Path(__file__).parents[2],
            timeout=30,
            check=False,
        )
        self.assertTrue(self.path.is_socket())
        self.server = self.started()
        client, _ = self.client()
        self.assertTrue(await client.flush(5))

    async def test_a_stop_removes_the_socket_and_lets_another_start(self) -> None:
        client, _ = self.client()
        assert await client.flush(5)
        await self.server.stop()
        await self.server.stop()
        self.assertFalse(self.path.exists())
        self.started()

    async def test_a_path_longer_than_the_kernel_takes_works(self) -> None:
        deep = self.directory / ("d" * 100) / ("e" * 50)
        deep.mkdir(parents=True)
        self.path = deep / "run" / "events.sock"
        server = HubServer(self.path, self.bus, reactor)
        server.start()
        client, _ = self.client()
        self.assertTrue(await client.flush(5))
        await client.stop()
        await server.stop()
        self.assertFalse(self.path.exists())
        links = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_dir()]
        self.assertNotIn(str(self.path.parent), links, "no descriptor is left")

    async def test_processes_of_other_users_are_refused(self) -> None:
        with mock.patch.object(hub, "peer_uid", lambda _: os.geteuid() + 1):
            connection = self.raw()
            self.assertEqual(await deferToThread(connection.recv, 1), b"")
        self.assertEqual(hub.peer_uid(self.raw()), os.geteuid())


class BadPeers(HubCase):
    async def ended(self, octets: bytes) -> bool:
        """Whether these octets end the connection: else the ping behind them is answered."""
        connection = self.raw()
        connection.sendall(octets + b'\n{"ping":1}\n')
        return (await deferToThread(connection.recv, 100)) != b'{"pong":1}\n'

    async def test_what_is_no_message_ends_the_connection(self) -> None:
        for octets in (
            b"nonsense",
            b"[]",
            b"5",
            b"\xff",
            b'{"account":"x"}',
            b'{"ping":"x"}',
            b'{"ping":[1]}',
            b"[" * 4000,
            b" " * (hub.MAX_LINE + 1),
            b'{"a":"' + b"x" * 100_000,
        ):
            try:
                self.assertTrue(await self.ended(octets), octets[:20])
            except ConnectionResetError:
                pass

    async def test_members_that_are_not_known_are_passed_over(self) -> None:
        self.assertFalse(await self.ended(b'{"hello":2,"listen":false,"new":{"a":[1]}}'))
        self.assertFalse(await self.ended(b'{"something":"else"}'))

    async def test_a_message_may_come_in_any_pieces(self) -> None:
        connection = self.raw()

        def send() -> None:
            for octet in encode(event(5)):
                connection.send(bytes([octet]))

        done: list[Deferred[None]] = []
        events = await self.heard(self.bus, lambda: done.append(deferToThread(send)))
        await done[0]
        self.assertEqual(events, [event(5)])

    async def test_who_does_not_read_is_dropped_and_costs_little(self) -> None:
        connection = self.raw()
        connection.sendall(b'{"hello":1,"listen":true}\n{"ping":1}\n')
        self.assertEqual(await deferToThread(connection.recv, 100), b'{"pong":1}\n')
        [peer] = self.server._peers
        # More than the kernel and the transport keep, of few mailboxes.
        for number in range(20_000):
            self.bus.publish(event(number % 1000 + 1, (INBOX, SENT)[number % 2]))
            if number % 1000 == 0:
                await deferLater(reactor, 0)
        self.assertTrue(peer._paused)
        self.assertLessEqual(len(peer._waiting), 2)
        with mock.patch.object(hub, "MAX_WAITING", 100):
            for number in range(101):
                ref = MailboxRef(JOE, MailboxId(f"m{number}"))
                self.bus.publish(event(1, ref))
        await peer.gone
        self.assertEqual(self.server._peers, set())

    async def test_a_stop_waits_for_nobody(self) -> None:
        connection = self.raw()
        connection.sendall(b'{"hello":1,"listen":true}\n{"ping":1}\n')
        self.assertEqual(await deferToThread(connection.recv, 100), b'{"pong":1}\n')
        [peer] = self.server._peers
        while not peer._paused:
            for _ in range(500):
                self.bus.publish(event(1))
            await deferLater(reactor, 0)
        start = time.perf_counter()
        await self.server.stop()
        self.assertLess(time.perf_counter() - start, 1)

    async def test_a_client_of_a_server_that_hangs_can_go(self) -> None:
        await self.server.stop()
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(self.path))
        listener.listen()
        client, bus = self.client()
        with mock.patch.object(hub, "CLOSE_TIMEOUT", 0.1):
            while client._server is None or not client._server._paused:
                for number in range(500):
                    bus.publish(event(number + 1))
                await deferLater(reactor, 0)
            self.assertFalse(await client.flush(0.05))
            start = time.perf_counter()
            await client.stop()
            self.assertLess(time.perf_counter() - start, 1)

    async def test_who_does_not_read_for_long_is_dropped(self) -> None:
        connection = self.raw()
        with mock.patch.object(hub, "READ_TIMEOUT", 0.05):
            connection.sendall(b'{"hello":1,"listen":true}\n{"ping":1}\n')
            self.assertEqual(await deferToThread(connection.recv, 100), b'{"pong":1}\n')
            [peer] = self.server._peers
            while not peer._paused:
                for number in range(500):
                    self.bus.publish(event(number + 1))
                await deferLater(reactor, 0)
            await peer.gone

    async def test_who_reads_again_gets_the_newest_of_each_mailbox(self) -> None:
        connection = self.raw()
        connection.sendall(b'{"hello":1,"listen":true}\n{"ping":1}\n')
        self.assertEqual(await deferToThread(connection.recv, 100), b'{"pong":1}\n')
        [peer] = self.server._peers
        while not peer._paused:
            for _ in range(500):
                self.bus.publish(event(1))
            await deferLater(reactor, 0)
        for number in (2, 3, 4):
            kind = EventKind.MAILBOXES if number == 3 else EventKind.NEW_MSG
            self.bus.publish(event(number, kind=kind))
            self.bus.publish(event(number, SENT))

        def read() -> bytes:
            octets = b""
            while octets.count(b'"modseq":4') < 2:
                octets += connection.recv(65536)
            return octets

        lines = (await deferToThread(read)).splitlines()
        self.assertEqual(
            {decode(json.loads(line)) for line in lines[-2:]},
            # The change of the list of mailboxes does not hide behind a newer one of a message.
            {event(4, kind=EventKind.MAILBOXES), event(4, SENT)},
        )
        self.assertNotIn(encode(event(3)).strip(), lines)


@given(st.binary(max_size=200))
def test_no_octets_break_a_peer(octets: bytes) -> None:
    peer = hub._Client(mock.Mock(), EventBus(mock.Mock()), mock.Mock())
    peer.transport = mock.Mock()
    peer.dataReceived(octets)
    peer.dataReceived(octets + b"\n")
