"""What an IMAP connection does beside answering: order, back-pressure, deadlines, goodbyes,
faults, the log."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyClass, verifyObject

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.acl import Right
from mailserver.model.ids import MailboxRef
from mailserver.server.connection import REST_TIMEOUT, Connection, Disconnected, escaped
from mailserver.server.imap.commands import MODULES
from mailserver.server.imap.protocol import ImapConnection
from mailserver.server.imap.registry import ANY, CommandSpec, Registry
from mailserver.server.imap.session import Session
from mailserver.server.imap.settings import ImapSettings
from mailserver.store.mailstore import open_store
from mailserver.wire.imap import commands
from mailserver.wire.imap.grammar.bare import parse_noop
from mailserver.wire.imap.reader import Limits
from tests.server.rig import MAIL, Client, Monitor, Rig, rig


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def with_commands(server: Rig, *specs: CommandSpec) -> None:
    """Give the server more commands, which do what a test needs."""
    module: Any = ModuleType("more")
    module.SPECS = specs
    registry = Registry.collect((*MODULES, module))
    server.services = attrs.evolve(server.services, registry=registry)


def say(client: Client, line: bytes) -> None:
    client.send(line + b"\r\n")


def test_interfaces_are_kept() -> None:
    verifyClass(ISession, Connection)
    verifyObject(ISessionMonitor, Monitor())


# -- output ------------------------------------------------------------------------------


def test_answers_to_pipelined_commands_leave_in_one_write(server: Rig) -> None:
    client = server.client()
    client.transport.writes.clear()
    client.send(b"".join(b"t%d NOOP\r\n" % n for n in range(50)))
    assert client.transport.no_delay
    [octets] = client.transport.writes
    assert octets.count(b"OK NOOP completed\r\n") == 50


def test_long_answers_leave_in_writes_of_32_kib(server: Rig) -> None:
    for number in range(1500):
        server.loop.result(server.store.subscribe(server.principal(), f"{number:050d}", True))
    client = server.client()
    client.transport.writes.clear()
    client.command('LSUB "" *')
    sizes = [len(octets) for octets in client.transport.writes]
    assert sum(sizes) > 90_000
    assert min(sizes[:-1]) >= 32768
    assert max(sizes) < 65536


def test_commands_wait_while_the_client_does_not_read(server: Rig) -> None:
    """T52."""
    client = server.client()
    client.transport.fill()
    say(client, b"a NOOP")
    assert client.take() == b""
    client.transport.empty()
    assert client.take() == b"a OK NOOP completed\r\n"


def test_pipelined_commands_wait_as_soon_as_the_client_is_full(server: Rig) -> None:
    """T52: also those that came in one packet, each with a small answer."""
    client = server.client()
    transport = client.transport
    write = transport.write

    def narrow(octets: bytes) -> None:
        write(octets)
        if len(transport.value()) > 65536:
            transport.fill()

    transport.write = narrow
    client.send(b"a CAPABILITY\r\n" * 2000)
    server.settle(10)
    assert len(transport.value()) < 2 * 65536
    received = b""
    while received.count(b"a OK") < 2000:
        received += client.take()
        transport.empty()
        server.settle()


def test_a_client_that_does_not_read_is_cut_off(server: Rig) -> None:
    """T52: after five minutes; reading in between starts the time anew."""
    client, other = server.client(), server.client()
    client.transport.fill()
    server.loop.advance(299)
    client.transport.empty()
    client.transport.fill()
    server.loop.advance(299)
    assert not client.is_closed
    server.loop.advance(1)
    server.settle()
    assert client.is_closed
    assert other.command("NOOP") == [". OK NOOP completed"]


def test_a_command_that_sends_much_waits_for_the_client(server: Rig) -> None:
    """T52: nothing is read or made for a client that does not take it."""
    client = server.client()
    client.transport.fill()
    client.transport.empty()
    real_write = client.transport.write

    def full_at_once(octets: bytes) -> None:
        real_write(octets)
        client.transport.fill()

    client.transport.write = full_at_once
    for number in range(1500):
        server.loop.result(server.store.subscribe(server.principal(), f"{number:050d}", True))
        server.loop.result(server.store.create(server.principal(), f"{number:050d}"))
    say(client, b'a LIST "" *')
    server.settle()
    first = client.take()
    assert 32768 <= len(first) < 65536
    client.transport.empty()
    assert 0 < len(client.take()) < 65536


def test_input_behind_a_running_command_is_bounded(server: Rig) -> None:
    """T16, T52: what comes meanwhile is kept, and too much of it stops the reading."""
    client = server.client()
    say(client, b"a CREATE slow")
    assert client.connection._running, "this test needs a command that waits"
    noops = b"".join(b"%05d NOOP\r\n" % n for n in range(6000))
    client.send(noops[:60000])
    assert client.transport.producerState == "producing"
    client.send(noops[60000:])
    assert client.transport.producerState == "paused"
    server.loop.until(lambda: b"05999 OK" in client.transport.value())
    assert client.transport.producerState == "producing"
    answers = client.take().split(b"\r\n")
    assert answers[0] == b"a OK CREATE completed"
    assert answers[1:-1] == [b"%05d OK NOOP completed" % n for n in range(6000)]


def test_one_connection_does_not_keep_the_reactor(server: Rig) -> None:
    """Pipelined commands stop for others after 20 ms."""
    client = server.client()
    clock = server.loop

    async def dawdle(session: Session, command: commands.Noop) -> None:
        clock.rightNow += 0.005

    with_commands(server, CommandSpec(b"DAWDLE", parse_noop, dawdle, ANY))
    client.connection.services = server.services
    client.send(b"".join(b"t%d DAWDLE\r\n" % n for n in range(20)))
    assert 4 <= client.transport.value().count(b"OK") <= 5
    server.settle()
    assert client.transport.value().count(b"OK") == 20


def test_a_long_command_lets_others_go_first(server: Rig) -> None:
    client = server.client()
    clock = server.loop
    done: list[int] = []
    others: list[int] = []

    async def work(session: Session, command: commands.Noop) -> None:
        for number in range(100):
            clock.rightNow += 0.001
            done.append(number)
            await session.turn()

    with_commands(server, CommandSpec(b"WORK", parse_noop, work, ANY))
    client.connection.services = server.services
    say(client, b"a WORK")
    assert 19 <= len(done) <= 22
    clock.callLater(0, lambda: others.append(len(done)))
    server.settle()
    assert client.take() == b"a OK WORK completed\r\n"
    assert others[0] < 50


def test_an_answer_leaves_before_what_nobody_waits_for(
    server: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last answer at once; those of pipelined commands together."""
    client = server.client()
    sent: list[int] = []
    monkeypatch.setattr(
        client.connection, "set_deadline", lambda *_: sent.append(len(client.transport.writes))
    )
    client.transport.writes.clear()
    client.connection.dataReceived(b"a NOOP\r\n")
    assert sent[-1] == 1
    client.transport.writes.clear()
    client.connection.dataReceived(b"b NOOP\r\nc NOOP\r\n")
    assert sent[-2:] == [0, 1]
    assert [b"b OK" in each and b"c OK" in each for each in client.transport.writes] == [True]


# -- deadlines ---------------------------------------------------------------------------


def test_a_running_command_says_that_it_works(server: Rig) -> None:
    """T53."""
    client = server.client()
    waiting: Deferred[None] = Deferred()

    async def wait(session: Session, command: commands.Noop) -> None:
        await waiting

    with_commands(server, CommandSpec(b"WAIT", parse_noop, wait, ANY))
    client.connection.services = server.services
    say(client, b"a WAIT")
    server.loop.advance(29)
    assert client.take() == b""
    server.loop.advance(1)
    assert client.take() == b"* OK Still working\r\n"
    server.loop.advance(30)
    assert client.take() == b"* OK Still working\r\n"
    server.loop.advance(3600)
    assert not client.is_closed, "a command that works is not idle"
    client.take()
    waiting.callback(None)
    assert client.take() == b"a OK WAIT completed\r\n"
    server.loop.advance(60)
    assert client.take() == b""


def test_no_word_comes_into_the_middle_of_a_response(server: Rig) -> None:
    """T53, R18: between the parts of a literal nothing else is sent."""
    client = server.client()
    waiting: Deferred[None] = Deferred()

    async def half(session: Session, command: commands.Noop) -> None:
        session.send_part((b"* 1 FETCH (BODY[] {10}\r\n12345",))
        await waiting
        session.send((b"67890)\r\n",))

    with_commands(server, CommandSpec(b"HALF", parse_noop, half, ANY))
    client.connection.services = server.services
    say(client, b"a HALF")
    server.loop.advance(100)
    client.connection.disconnect("the server is stopping")
    waiting.callback(None)
    assert client.take() == (
        b"* 1 FETCH (BODY[] {10}\r\n1234567890)\r\na OK HALF completed\r\n"
        b"* BYE the server is stopping\r\n"
    )


def test_a_response_that_cannot_be_completed_ends_the_connection(server: Rig) -> None:
    client = server.client()

    async def half(session: Session, command: commands.Noop) -> None:
        session.send_part((b"* 1 FETCH (BODY[] {10}\r\n12345",))
        raise MailError(ErrorKind.CORRUPT, "the rest is lost")

    with_commands(server, CommandSpec(b"HALF", parse_noop, half, ANY))
    client.connection.services = server.services
    say(client, b"a HALF")
    server.settle()
    assert b"CORRUPTION" not in client.take()
    assert client.is_closed


def test_a_client_that_stops_amid_a_message_is_logged_out(server: Rig) -> None:
    """RFC 3501 §5.4: also a command that waits for the client does not wait for ever."""
    client = server.client(mailbox="INBOX")
    say(client, b"a APPEND INBOX {100}")
    for _ in range(3):
        server.loop.advance(1800)
        client.send(b"x")
    assert client.take() == b"+ go ahead\r\n"
    server.loop.advance(1861)
    assert client.take() == b"* BYE you were idle for too long\r\n"
    server.settle()
    assert client.is_closed


def test_the_connections_of_a_client_wake_it_together(server: Rig) -> None:
    """DOV-2: whenever each began to idle; another client's moments are others."""
    server.add_account("bob@example.org")
    idlers = []
    for name, pause in (("ann", 17), ("ann", 41), ("bob", 0)):
        idler = server.client(f"{name}@example.org", "INBOX")
        server.loop.advance(pause)
        say(idler, b"a IDLE")
        idler.take()
        idlers.append(idler)
    heard: list[list[int]] = [[], [], []]
    for second in range(480):
        server.loop.advance(1)
        for idler, moments in zip(idlers, heard, strict=True):
            if idler.take():
                moments.append(second)
    assert heard[0] == heard[1]
    assert heard[0] != heard[2]
    for moments in heard:
        assert len(moments) == 4
        assert {later - sooner for sooner, later in pairwise(moments)} == {120}


def test_keepalive_can_be_switched_off(tmp_path: Path) -> None:
    """DOV-2: `imap_idle_notify_interval` = 0."""
    with rig(tmp_path, ImapSettings(idle_notify_interval=0)) as server:
        idler = server.client(mailbox="INBOX")
        say(idler, b"a IDLE")
        idler.take()
        server.loop.advance(1800)
        assert idler.take() == b""
        server.append(MAIL)
        server.settle()
        assert idler.take() == b"* 1 EXISTS\r\n* 1 RECENT\r\n"


def test_no_keepalive_while_output_is_pending(server: Rig) -> None:
    """DOV-2."""
    idler = server.client(mailbox="INBOX")
    say(idler, b"a IDLE")
    idler.take()
    idler.transport.fill()
    server.loop.advance(120)
    server.loop.advance(120)
    assert idler.take() == b""
    idler.transport.empty()
    server.loop.advance(120)
    assert idler.take() == b"* OK Still here\r\n"


# -- goodbyes ----------------------------------------------------------------------------


def stop(client: Client) -> bytes:
    client.take()
    client.connection.disconnect("the server is stopping")
    client.rig.settle()
    return client.take()


BYE = b"* BYE the server is stopping\r\n"


def test_goodbye_between_commands(server: Rig) -> None:
    """R18, T51."""
    client = server.client(mailbox="INBOX")
    assert stop(client) == BYE
    assert client.is_closed


def test_goodbye_in_idle(server: Rig) -> None:
    """R18."""
    client = server.client(mailbox="INBOX")
    say(client, b"a IDLE")
    assert stop(client) == BYE
    assert client.is_closed
    assert client.connection.session.view is None


def test_goodbye_amid_append(server: Rig) -> None:
    """R18: half a message is not kept."""
    client = server.client(mailbox="INBOX")
    say(client, b"a APPEND INBOX {100}")
    client.send(b"Subject: half")
    assert stop(client) == BYE
    assert client.is_closed
    assert server.client().command("STATUS INBOX (MESSAGES)")[0].endswith("(MESSAGES 0)")
    assert not list((server.data / "spool").iterdir())


def test_goodbye_waits_for_a_commit(server: Rig) -> None:
    """R18: what is on its way to the disk is answered."""
    client = server.client(mailbox="INBOX")
    say(client, b"a CREATE kept")
    client.connection.disconnect("the server is stopping")
    assert client.take() == b""
    server.loop.until(lambda: client.is_closed)
    assert client.take() == b"a OK CREATE completed\r\n" + BYE


def test_goodbye_to_who_does_not_read_is_short(server: Rig) -> None:
    """R18: the last octets have half a minute."""
    client = server.client()
    client.transport.loop = server.loop
    client.transport.loseConnection = lambda: None  # type: ignore[method-assign]
    client.connection.disconnect("the server is stopping")
    server.loop.advance(31)
    server.settle()
    assert client.is_closed


def test_who_does_not_read_amid_a_literal_is_cut_off_without_a_word(server: Rig) -> None:
    """R18: a goodbye there would be taken for the message's octets."""
    client = server.client(mailbox="INBOX")

    async def pour(session: Session, command: commands.Noop) -> None:
        session.send_part((b"* 1 FETCH (BODY[] {10}\r\n12345",))
        session.connection.flush()
        client.transport.fill()
        await session.drained()

    with_commands(server, CommandSpec(b"POUR", parse_noop, pour, ANY))
    client.connection.services = server.services
    say(client, b"a POUR")
    client.take()
    assert stop(client) == b""
    assert not client.is_closed
    server.loop.advance(REST_TIMEOUT)
    server.settle()
    assert client.is_closed and client.take() == b""
    assert client.connection.session.view is None


def test_who_reads_on_amid_a_literal_is_told_goodbye(server: Rig) -> None:
    """R18."""
    client = server.client(mailbox="INBOX")

    async def pour(session: Session, command: commands.Noop) -> None:
        session.send_part((b"* 1 FETCH (BODY[] {10}\r\n12345",))
        session.connection.flush()
        client.transport.fill()
        await session.drained()
        session.send([b"67890)\r\n"])

    with_commands(server, CommandSpec(b"POUR", parse_noop, pour, ANY))
    client.connection.services = server.services
    say(client, b"a POUR")
    client.take()
    assert stop(client) == b""
    server.loop.advance(REST_TIMEOUT - 1)
    client.transport.empty()
    server.settle()
    assert client.take() == b"67890)\r\na OK POUR completed\r\n" + BYE
    assert client.is_closed


def test_who_may_not_connect_is_told_so(server: Rig) -> None:
    """SUN-20: in place of the greeting."""
    server.monitor.reason = "filters of imap: ALL: ALL"
    client = server.connect()
    text = b"this service may not be used from your address"
    assert client.take() == b"* BYE [NOPERM] %b\r\n" % text
    server.settle()
    assert client.is_closed


@pytest.mark.parametrize("refusal", ["", "filters of imap: .example.net"])
def test_a_name_that_is_looked_up_holds_the_greeting(server: Rig, refusal: str) -> None:
    """SUN-21: what a hasty client sends meanwhile is not run before it may connect."""
    lookup: Deferred[str] = Deferred()

    async def wait(session: object) -> str:
        return await lookup

    server.monitor.refusal = wait  # type: ignore[method-assign]
    client = server.connect()
    assert client.transport.producerState == "paused"
    client.send(b"a NOOP\r\n")
    assert client.take() == b""
    lookup.callback(refusal)
    server.settle()
    if refusal:
        assert client.take().startswith(b"* BYE [NOPERM] ")
        assert client.is_closed
    else:
        assert client.transport.producerState == "producing"
        greeting, noop = client.take().splitlines()
        assert greeting.startswith(b"* OK ")
        assert noop == b"a OK NOOP completed"


def test_who_leaves_during_the_lookup_is_forgotten(server: Rig) -> None:
    lookup: Deferred[str] = Deferred()

    async def wait(session: object) -> str:
        return await lookup

    server.monitor.refusal = wait  # type: ignore[method-assign]
    client = server.connect()
    client.close()
    assert server.monitor.live == []
    lookup.callback("")
    assert client.take() == b""


def test_too_many_connections_are_told_so(server: Rig) -> None:
    """SUN-30."""
    server.monitor.max_sessions = 1
    first = server.connect().greeted()
    second = server.connect()
    assert second.take() == b"* BYE [LIMIT] too many connections, try again later\r\n"
    server.settle()
    assert second.is_closed
    assert first.login().command("NOOP") == [". OK NOOP completed"]
    assert server.monitor.live == [first.connection]


def test_too_many_sessions_of_one_account(server: Rig) -> None:
    """SUN-30: refused, and free again for the next try."""
    server.monitor.max_per_account = 1
    first = server.client()
    second = server.connect().greeted()
    assert second.command("LOGIN ann@example.org secret") == [
        ". NO [LIMIT] too many sessions of this account are open"
    ]
    assert second.connection.account == ""
    first.command("LOGOUT")
    server.settle()
    second.login()
    assert second.connection.status == "connected"


def test_the_monitor_sees_where_a_session_stands(server: Rig) -> None:
    """CGP-1."""
    client = server.connect().greeted()
    [session] = server.monitor.live
    assert verifyObject(ISession, session)
    assert (session.status, session.account, session.service) == ("authenticating", "", "imap")
    client.login().select()
    assert (session.status, session.account) == ("connected to INBOX", "ann@example.org")
    assert client.connection.label == f"IMAP-{session.number:05d}"
    client.command("UNSELECT")
    assert session.status == "connected"
    client.close()
    assert server.monitor.live == []


# -- clients that go away ----------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [b"a NOOP", b"a IDLE", b"a CREATE slow", b"a APPEND INBOX {10}", b"a AUTHENTICATE", b"a {9"],
)
def test_a_client_that_goes_away_leaves_nothing_behind(server: Rig, command: bytes) -> None:
    client = server.client(mailbox="INBOX")
    ref: MailboxRef = client.connection.session.selected.mailbox.ref
    say(client, command)
    client.close()
    server.loop.until(lambda: client.connection.session.view is None)
    assert server.bus._listeners == {}
    assert server.loop.getDelayedCalls() == []
    assert ref not in server.store._images


def test_a_client_that_goes_away_while_it_logs_in(server: Rig) -> None:
    client = server.connect().greeted()
    say(client, b"a LOGIN ann@example.org secret")
    client.close()
    server.loop.until(lambda: not client.connection._running)
    assert server.monitor.live == []


def test_a_client_that_goes_away_while_output_waits(server: Rig) -> None:
    client = server.client(mailbox="INBOX")
    outcome: list[str] = []

    async def pour(session: Session, command: commands.Noop) -> None:
        try:
            await session.drained()
            session.connection.flush()
            client.transport.fill()
            await session.drained()
        except Disconnected:
            outcome.append("disconnected")
            raise

    with_commands(server, CommandSpec(b"POUR", parse_noop, pour, ANY))
    client.connection.services = server.services
    say(client, b"a POUR")
    client.close()
    assert outcome == ["disconnected"]
    assert client.connection.session.view is None


# -- faults ------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


async def stumble(session: Session, command: commands.Noop) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.filterwarnings("ignore")
def test_a_bug_is_answered_with_a_reference(server: Rig, logged: list[LogEvent]) -> None:
    with_commands(server, CommandSpec(b"STUMBLE", parse_noop, stumble, ANY))
    client = server.client()
    label = client.connection.label
    assert client.command("STUMBLE") == [f". NO [SERVERBUG] internal error (ref {label}-1)"]
    assert client.command("STUMBLE") == [f". NO [SERVERBUG] internal error (ref {label}-2)"]
    assert client.command("NOOP") == [". OK NOOP completed"]
    [first, second] = [event for event in logged if "reference" in event]
    assert (first["reference"], second["reference"]) == (f"{label}-1", f"{label}-2")
    failure: Failure = first["log_failure"]
    assert failure.check(ZeroDivisionError)


@pytest.mark.filterwarnings("ignore")
def test_a_bug_in_a_parser_is_answered_too(server: Rig, logged: list[LogEvent]) -> None:
    def misread(scanner: Any) -> commands.Noop:
        raise IndexError

    with_commands(server, CommandSpec(b"MISREAD", misread, stumble, ANY))
    client = server.client()
    assert client.command("MISREAD it")[0].startswith(". NO [SERVERBUG] internal error (ref ")
    assert client.command("NOOP") == [". OK NOOP completed"]
    [event] = [event for event in logged if "reference" in event]
    assert event["log_failure"].check(IndexError)


def test_news_that_cannot_be_read_change_no_answer(server: Rig) -> None:
    """What a command did stays done: its OK must not become a NO, or it is done twice."""
    client = server.client(mailbox="INBOX")
    image = client.connection.session.selected.image
    server.append(MAIL)
    server.settle()
    client.connection.session.stale = True
    store, real = server.store, server.store.refresh

    async def fail(image: Any) -> None:
        raise MailError(ErrorKind.UNAVAILABLE, "the disk sleeps")

    store.refresh = fail
    client.command("STATUS Trash (MESSAGES)")
    assert client.connection.session.stale
    store.refresh = real
    server.append(MAIL)
    assert client.command("STATUS Trash (MESSAGES)") == [
        "* STATUS Trash (MESSAGES 0)",
        "* 2 EXISTS",
        "* 2 RECENT",
        ". OK STATUS completed",
    ]
    assert len(image.uids) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_bug_while_news_are_told_changes_no_answer(server: Rig, logged: list[LogEvent]) -> None:
    client = server.client(mailbox="INBOX")
    image: Any = client.connection.session.selected.image
    server.append(MAIL)

    def broken(mod_sequence: int) -> None:
        raise ZeroDivisionError

    image.changes_since = broken
    assert client.command("STATUS Trash (MESSAGES)")[-1] == ". OK STATUS completed"
    del image.changes_since
    assert client.command("NOOP") == ["* 1 EXISTS", "* 1 RECENT", ". OK NOOP completed"]
    assert sum("reference" in event for event in logged) == 1


@pytest.mark.parametrize("covered", [True, False])
def test_what_another_process_changed_is_told(tmp_path: Path, covered: bool) -> None:
    """SUN-51: where no events come, every command looks for news; NOOP always does."""
    with rig(tmp_path, covers_all_mailboxes=covered) as server:
        client = server.client(mailbox="INBOX")
        ours, other = server.store, open_store(tmp_path, server.loop, now=server.loop.seconds)
        server.store = other
        server.append(MAIL)
        answers = client.command("STATUS Trash (MESSAGES)")
        assert ("* 1 EXISTS" in answers) is not covered
        server.append(MAIL)
        assert "* 2 EXISTS" in client.command("NOOP")
        server.store = ours
        server.loop.result(other.stop())


def test_who_idles_looks_again_when_events_may_have_been_lost(tmp_path: Path) -> None:
    """SUN-50: another process brought mail, and its event did not arrive."""
    with rig(tmp_path) as server:
        client = server.client(mailbox="INBOX")
        say(client, b"a IDLE")
        assert client.take() == b"+ idling\r\n"
        ours, other = server.store, open_store(tmp_path, server.loop, now=server.loop.seconds)
        server.store = other
        server.append(MAIL)
        server.settle()
        assert client.take() == b""
        server.bus.wake_all()
        server.settle()
        assert b"* 1 EXISTS" in client.take()
        server.store = ours
        server.loop.result(other.stop())


def test_a_client_that_sends_too_much_is_heard_again_at_the_end(server: Rig) -> None:
    """A connection that is being closed is read from, so that its end is noticed."""
    client = server.client()
    say(client, b"a CREATE slow")
    client.send(b"".join(b"%05d NOOP\r\n" % n for n in range(6000)))
    assert client.transport.producerState == "paused"
    client.connection.close()
    assert client.transport.producerState == "producing"


def test_each_refusal_has_its_code(server: Rig) -> None:
    """RFC 5530; the texts stay the store's."""
    client = server.client()
    for kind in ErrorKind:

        async def refuse(session: Session, command: commands.Noop, kind: ErrorKind = kind) -> None:
            raise MailError(kind, "so it is")

        with_commands(server, CommandSpec(b"REFUSE", parse_noop, refuse, ANY))
        client.connection.services = server.services
        [answer] = client.command("REFUSE")
        assert answer.startswith(". NO ")
        assert answer.endswith("so it is")


def test_every_command_can_be_logged(tmp_path: Path, logged: list[LogEvent]) -> None:
    """CGP-1: on request, and still without passwords (S13)."""
    with rig(tmp_path, ImapSettings(trace=True)) as server:
        server.add_account("eve@example.org", CANARY)
        client = server.connect().greeted().login("eve@example.org", CANARY)
        client.command('LIST "" %')
    lines = [f"{event.get('label')} {event.get('shown')}" for event in logged]
    number = client.connection.label
    assert any(line.startswith(f"{number}  command=List(reference='', ") for line in lines)
    assert any(line.startswith(f"{number}  command=Login(user='eve@") for line in lines)
    assert CANARY not in "".join(lines)


CANARY = "canary-7Yq2"


def test_no_secret_and_no_text_of_a_message_is_logged(server: Rig, logged: list[LogEvent]) -> None:
    """S13."""
    server.add_account("eve@example.org", CANARY)
    client = server.connect().greeted()
    client.command(f"LOGIN nobody@example.org {CANARY}x")
    client = server.connect().greeted()
    server.loop.advance(20)
    client.command(f"LOGIN {CANARY} {CANARY} {CANARY}")
    client.command(f"LOGIN eve@example.org {CANARY}")
    client.command(f"APPEND INBOX {{{len(CANARY)}+}}\r\n{CANARY}")
    client.command(f"FROB {CANARY}")
    client.command("LOGOUT")
    server.settle()
    assert len(logged) > 3
    for event in logged:
        text = repr({name: str(value) for name, value in event.items() if name != "log_logger"})
        assert CANARY not in text.replace("eve@example.org", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("INBOX", "INBOX"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("x" * 300, "x" * 199 + "…"),
        ("日本", "日本"),
    ],
)
def test_logged_values_are_escaped_and_cut(value: str, text: str) -> None:
    """S13."""
    assert escaped(value) == text


# -- limits ------------------------------------------------------------------------------


def test_lines_before_login_are_short(server: Rig) -> None:
    """S3: the answer carries the tag, and the next command is read."""
    client = server.connect().greeted()
    client.send(b"a NOOP" + b" " * (8192 - 6) + b"\r\n")
    assert client.take() == b"a OK NOOP completed\r\n"
    client.send(b"b LOGIN " + b"x" * 8192 + b"\r\nc NOOP\r\n")
    assert client.take() == b"b BAD this command is too long\r\nc OK NOOP completed\r\n"


def test_commands_after_login_may_be_long(server: Rig) -> None:
    """S3: lines of 64 KiB, commands of 256 KiB, 1,000 literals."""
    client = server.client()
    client.send(b"a NOOP" + b" " * 65530 + b"\r\n")
    assert client.take() == b"a OK NOOP completed\r\n"
    client.send(b"b NOOP" + b" " * 65531 + b"\r\nc NOOP\r\n")
    assert client.take() == b"b BAD this command is too long\r\nc OK NOOP completed\r\n"
    client.send(b'd LIST "" (%b)\r\n' % b" ".join([b"{1+}\r\nx"] * 1000))
    assert client.take() == b"d OK LIST completed\r\n"
    client.send(b'e LIST "" (%b)\r\nf NOOP\r\n' % b" ".join([b"{1+}\r\nx"] * 1001))
    answer = client.take()
    assert answer.startswith(b"e BAD ")
    assert answer.endswith(b"f OK NOOP completed\r\n")


def test_answers_to_challenges_may_be_long(server: Rig) -> None:
    """S3: 64 KiB also before login; longer ones do not stall the connection (T41)."""
    client = server.connect().greeted()
    say(client, b"a AUTHENTICATE PLAIN")
    say(client, b"A" * 65536)
    assert client.take() == (
        b"+ \r\na BAD a PLAIN response has three parts with a NUL between them\r\n"
    )
    say(client, b"b AUTHENTICATE PLAIN")
    say(client, b"A" * 65540)
    say(client, b"c NOOP")
    assert client.take() == b"+ \r\nb BAD this line is too long\r\nc OK NOOP completed\r\n"


def test_the_literals_of_append_are_counted(tmp_path: Path) -> None:
    """S3: also those that do not lie in memory; nothing of the command is kept (T25)."""
    few = Limits(line=200, literal=100, command=300, literals=3)
    with rig(tmp_path, ImapSettings(after_login=few)) as server:
        client = server.client()
        message = b" {1+}\r\nx"
        assert client.command(b"APPEND INBOX" + message * 3)[0].startswith(". OK [APPENDUID ")
        assert client.command(b"APPEND INBOX" + message * 4) == [
            ". NO [LIMIT] too many literals in one command"
        ]
        assert client.command(b"APPEND INBOX" + message + b" " * 201 + b"({1+}\r\nx") == [
            ". NO [TOOBIG] this command is too long"
        ]
        status = client.command("STATUS INBOX (MESSAGES)")
        assert status[0] == "* STATUS INBOX (MESSAGES 3)"


def test_a_literal_without_a_tag_is_refused(server: Rig) -> None:
    client = server.client()
    client.send(b"* {5}\r\n(x) {3+}\r\nabcdef\r\nt NOOP\r\n")
    answers = client.take().split(b"\r\n")
    assert [answer[:5] for answer in answers] == [b"* BAD", b"* BAD", b"t OK ", b""]


def test_nesting_is_bounded(server: Rig) -> None:
    """S3: 32 levels."""
    client = server.client(mailbox="INBOX")
    assert client.command("SEARCH " + "(" * 31 + "ALL" + ")" * 31)[-1].startswith(". OK")
    assert client.command("SEARCH " + "(" * 33 + "ALL" + ")" * 33)[-1].startswith(". BAD")


def test_bad_commands_after_login_are_forgiven_longer(server: Rig) -> None:
    """S3, T51."""
    client = server.client()
    for _ in range(19):
        assert client.command("FROB") == [". BAD unknown command"]
    assert client.command("NOOP") == [". OK NOOP completed"]
    client.send(b"a FROB\r\n" * 25)
    answer = client.take()
    assert answer.count(b"a BAD") == 20
    assert answer.endswith(b"* BYE too many bad commands\r\n")


@pytest.mark.parametrize(
    ("charset", "octets"),
    [
        ("UTF-8", "Grüße".encode()),
        ("iso-8859-1", "Grüße".encode("latin-1")),
        ("KOI8-R", "Привет".encode("koi8-r")),
        ("ISO-2022-JP", "こんにちは".encode("iso-2022-jp")),
        ("GB18030", "你好".encode("gb18030")),
    ],
    ids=["utf8", "latin1", "koi8", "2022", "gb"],
)
def test_search_takes_every_charset_that_mail_is_read_in(
    server: Rig, charset: str, octets: bytes
) -> None:
    """T33."""
    text = octets.decode(charset)
    server.append(b"Content-Type: text/plain; charset=utf-8\r\n\r\nx " + text.encode())
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    line = b"SEARCH CHARSET %b BODY {%d+}\r\n%b" % (charset.encode(), len(octets), octets)
    assert client.command(line) == ["* SEARCH 1", ". OK SEARCH completed"]
    assert client.command('SEARCH CHARSET x-none TEXT "x"') == [
        ". NO [BADCHARSET (US-ASCII UTF-8)] this charset is not known here"
    ]
    [answer] = client.command(b"SEARCH CHARSET UTF-8 TEXT {1+}\r\n\xff")
    assert answer.startswith(". BAD ")


# -- accounts and mailboxes that go away -------------------------------------------------


def test_an_account_that_is_removed_ends_its_sessions_work(server: Rig) -> None:
    """S9: at the next command."""
    server.append(MAIL)
    client = server.client(mailbox="INBOX")
    server.loop.result(server.store.delete_account(server.accounts["ann@example.org"].id))
    assert client.command('LIST "" *')[-1].startswith(". NO ")
    assert client.read_response() == b"* BYE the selected mailbox has been deleted"
    server.loop.until(lambda: client.is_closed)


def grant(server: Rig, ref: MailboxRef, identifier: str, rights: str) -> None:
    """Write the ACL row of a mailbox; no rights remove it."""

    def write(transaction: Any) -> None:
        run = transaction.connection.run
        run(
            "DELETE FROM acl WHERE identifier = ? AND mailbox ="
            " (SELECT number FROM mailbox WHERE id = ?)",
            (identifier, ref.mailbox),
        )
        if rights:
            run(
                "INSERT INTO acl SELECT number, ?, ? FROM mailbox WHERE id = ?",
                (identifier, rights, ref.mailbox),
            )

    server.loop.result(server.store._engine.write(ref.account, write))


def guest(server: Rig) -> tuple[Client, MailboxRef]:
    """Bob, with ann's INBOX open by right."""
    server.add_account("bob@example.org")
    inbox = server.loop.result(server.store.find(server.principal(), "INBOX"))
    grant(server, inbox.ref, "bob@example.org", "lr")
    client = server.client("bob@example.org")
    rights = frozenset({Right.LOOKUP, Right.READ})
    shown = attrs.evolve(inbox, name="~ann@example.org/INBOX", rights=rights)
    session = client.connection.session
    image = server.loop.result(server.store.open(session.who, inbox.ref))
    session.select(shown, image, read_only=False)
    return client, inbox.ref


def test_a_right_that_is_taken_away_is_gone_at_the_next_command(server: Rig) -> None:
    """S9: also what is known in memory is not told any more."""
    server.append(MAIL)
    client, ref = guest(server)
    assert client.command("FETCH 1 (UID FLAGS)")[0].startswith("* 1 FETCH (UID 1 FLAGS (")
    grant(server, ref, "bob@example.org", "")
    server.append(MAIL)
    assert client.command("FETCH 1 (UID FLAGS)") == [
        ". NO [NOPERM] the selected mailbox may not be read any more"
    ]
    assert client.command("NOOP") == [". OK NOOP completed"]
    assert client.command("FETCH 1 UID")[0].startswith(". BAD ")


def test_a_right_that_is_taken_away_silences_idle(server: Rig) -> None:
    """S9."""
    client, ref = guest(server)
    say(client, b"a IDLE")
    server.append(MAIL)
    server.settle()
    assert b"* 1 EXISTS\r\n" in client.take()
    grant(server, ref, "bob@example.org", "")
    server.append(MAIL)
    server.settle()
    assert client.take() == b""
    say(client, b"DONE")
    assert client.take() == b"a OK IDLE completed\r\n"


def test_a_sessions_selection_outlives_a_rename(server: Rig) -> None:
    client, other = server.client(), server.client()
    client.command("CREATE old")
    client.select("old")
    other.command("RENAME old new")
    server.append(MAIL, mailbox="new")
    assert client.command("NOOP") == ["* 1 EXISTS", "* 1 RECENT", ". OK NOOP completed"]


def test_selecting_the_same_mailbox_again_loads_nothing(server: Rig) -> None:
    client = server.client(mailbox="INBOX")
    image = client.connection.session.selected.image
    client.command("SELECT INBOX")
    assert client.connection.session.selected.image is image
    assert image.users == 1  # the view before has given it back
    assert client.command("SELECT nowhere")[0].startswith(". NO ")
    assert image.users == 0


# -- news --------------------------------------------------------------------------------


@pytest.mark.parametrize("look", ["NOOP", "CHECK", "STATUS INBOX (MESSAGES)", "IDLE"])
def test_news_whose_event_was_lost_are_seen_at_the_next_look(server: Rig, look: str) -> None:
    """DOV-3, SUN-50: events are hints; who asks is told what the database says."""
    client = server.client(mailbox="INBOX")
    elsewhere = open_store(server.data, server.loop, None, now=server.loop.seconds, writers=1)
    try:
        attrs.evolve(server, store=elsewhere).append(MAIL)
    finally:
        server.loop.result(elsewhere.stop())
    server.settle()
    client.send(b"a %b\r\n" % look.encode())
    assert b"* 1 EXISTS\r\n" in client.take()


def test_all_idlers_are_woken_by_one_write_each(server: Rig) -> None:
    r"""SUN-50, DOV-1; only one of them has the message as `\Recent` (T9)."""
    idlers = [server.client(mailbox="INBOX") for _ in range(100)]
    for idler in idlers:
        say(idler, b"a IDLE")
        idler.take()
        idler.transport.writes.clear()
    server.append(MAIL)
    server.settle()
    written = [idler.transport.writes for idler in idlers]
    assert sorted(written) == [[b"* 1 EXISTS\r\n"]] * 99 + [[b"* 1 EXISTS\r\n* 1 RECENT\r\n"]]
    for idler in idlers:
        idler.close()


def test_an_idle_connection_is_small(server: Rig) -> None:
    """An idle plain connection takes at most 20 KB; sockets not counted."""
    import tracemalloc

    def connect() -> ImapConnection:
        client = server.client(mailbox="INBOX")
        say(client, b"a IDLE")
        connection = client.connection
        client.take()
        client.transport.io.close()
        return connection

    warm = [connect() for _ in range(20)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    many = [connect() for _ in range(100)]
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / len(many)
    tracemalloc.stop()
    assert each < 20_000, each
    assert len(warm) == 20


def test_settings_are_kept_apart(tmp_path: Path) -> None:
    """SUN-5: the banner is the operator's."""
    with rig(tmp_path, ImapSettings(banner="Mail of Example")) as server:
        assert server.connect().read_response().endswith(b"] Mail of Example")
