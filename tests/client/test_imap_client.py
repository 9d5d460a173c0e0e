"""The IMAP client against the real server: every answer comes back as a value."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mailserver.client.imap.client import ConnectionFailed, ImapClient, Refused
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.numset import SequenceSet
from mailserver.model.search import HasFlag, Header, System
from mailserver.wire.imap import commands as c
from mailserver.wire.imap import responses as r
from tests.server.rig import MAIL, Client, Rig, rig


class ClientTransport(StringTransport):
    """The client's end: hands over what it writes when the loop turns."""

    def __init__(self, server: Client) -> None:
        super().__init__()
        self.server = server
        self.connected = True

    def abortConnection(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        super().loseConnection()
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(ConnectionDone()))


class Line:
    """A client and a server with the octets carried between them.

    Args:
        split: octets per packet, both ways.
    """

    def __init__(self, server: Rig, split: int = 0) -> None:
        self.rig = server
        self.split = split
        self.unsolicited: list[r.Response] = []
        self.client = ImapClient(server.loop, self.unsolicited.append)
        self.far = server.connect(split=split)
        self.transport = ClientTransport(self.far)
        self.transport.protocol = self.client  # type: ignore[assignment]
        self.client.makeConnection(self.transport)

    def carry(self) -> None:
        octets = self.transport.value()
        self.transport.clear()
        if octets:
            self.far.send(octets)
        answer = self.far.take()
        step = self.split or len(answer) or 1
        for at in range(0, len(answer), step):
            self.client.dataReceived(answer[at : at + step])
        if self.far.is_closed:
            self.transport.loseConnection()

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(2000):
            self.carry()
            if done():
                return
            self.rig.loop.turn(0.01)
        raise AssertionError("nothing happens any more")

    def result(self, work: Coroutine[Deferred[Any], Any, Any]) -> Any:
        outcome: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(outcome.append)
        self.until(lambda: bool(outcome))
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]


@pytest.fixture(params=[0, 1], ids=["whole", "an octet at a time"])
def line(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Line]:
    with rig(tmp_path) as server:
        opened = Line(server, request.param)
        opened.result(opened.client.greeting())
        opened.result(opened.client.log_in("ann@example.org", "secret"))
        yield opened


def test_mailboxes_messages_and_searches_come_back_as_values(line: Line) -> None:
    run = line.client.run
    line.result(run(c.Create("Entwürfe & mehr")))
    names = [entry.mailbox for entry in line.result(run(c.List("", ("*",)))).of(r.MailboxList)]
    assert "Entwürfe & mehr" in names
    appended = line.result(line.client.append("INBOX", MAIL, Flags.of("\\Flagged", "blue")))
    assert isinstance(appended.status.code, r.AppendUid)
    line.result(line.client.append("INBOX", MAIL.replace(b"hello", b"other")))
    selected = line.result(run(c.Select("INBOX")))
    assert selected.of(r.Exists) == [r.Exists(2)]
    both = SequenceSet(((1, 2),))
    items = (c.FetchAtt.FLAGS, c.FetchAtt.ENVELOPE, c.FetchAtt.RFC822_SIZE)
    fetched = line.result(run(c.Fetch(both, items))).of(r.FetchData)
    subjects = [
        item.envelope.subject
        for message in fetched
        for item in message.items
        if isinstance(item, r.EnvelopeItem)
    ]
    assert subjects == [b"hello", b"other"]
    found = line.result(run(c.Search(Header("subject", "OTHER"))))
    assert found.of(r.SearchResult) == [r.SearchResult((2,))]
    found = line.result(run(c.Search(HasFlag(System.FLAGGED), by_uid=True)))
    assert found.of(r.SearchResult) == [r.SearchResult((1,))]
    line.result(run(c.Store(both, FlagOp.ADD, Flags.of("\\Deleted"))))
    gone = line.result(run(c.Expunge()))
    assert gone.of(r.Expunged) == [r.Expunged(1), r.Expunged(1)]


def test_commands_sent_together_are_answered_in_order(line: Line) -> None:
    answers = [
        line.client.send(c.Status(name, (c.StatusAtt.MESSAGES,)))
        for name in ("INBOX", "Sent", "Trash")
    ]
    done: list[r.MailboxStatus] = []
    for answer in answers:
        answer.addCallback(lambda reply: done.extend(reply.of(r.MailboxStatus)))
    line.until(lambda: len(done) == 3)
    assert [status.mailbox for status in done] == ["INBOX", "Sent", "Trash"]


def test_a_refusal_carries_the_servers_words(line: Line) -> None:
    with pytest.raises(Refused) as refused:
        line.result(line.client.run(c.Select("no such mailbox")))
    assert refused.value.status.code == r.Code(b"NONEXISTENT")
    line.result(line.client.run(c.Noop()))


def test_idle_tells_of_arrivals_until_it_is_done(line: Line) -> None:
    line.result(line.client.run(c.Select("INBOX")))
    idling = line.result(line.client.idle())
    waiting = line.client.send(c.Noop())  # waits until IDLE is over
    line.rig.deliver(MAIL)
    line.until(lambda: r.Exists(1) in line.unsolicited)
    assert not waiting.called
    line.result(idling.done())
    line.until(lambda: waiting.called)


def test_log_out_closes(line: Line) -> None:
    line.result(line.client.log_out())
    with pytest.raises(ConnectionFailed):
        line.result(line.client.run(c.Noop()))


def test_the_wrong_password_is_refused(tmp_path: Path) -> None:
    with rig(tmp_path) as server:
        opened = Line(server)
        opened.result(opened.client.greeting())
        with pytest.raises(Refused, match="NO"):
            opened.result(opened.client.log_in("ann@example.org", "guess"))


@pytest.mark.parametrize(
    "octets",
    [b"220 smtp.example.org ESMTP\r\n", b"* BYE too many\r\n", b"\x16\x03\x01", b"+ go on\r\n"],
)
def test_a_peer_that_speaks_no_imap_fails_every_command(tmp_path: Path, octets: bytes) -> None:
    with rig(tmp_path) as server:
        opened = Line(server)
        opened.far.take()
        failures: list[Failure] = []
        Deferred.fromCoroutine(opened.client.greeting()).addErrback(failures.append)
        opened.client.dataReceived(octets)
        server.loop.advance(61)
        assert failures[0].check(ConnectionFailed)
        with pytest.raises(ConnectionFailed):
            opened.client.send(c.Noop())


def test_an_answer_out_of_order_ends_the_connection(line: Line) -> None:
    waiting = line.client.send(c.Noop())
    line.client.dataReceived(b"c999 OK done\r\n")
    failures: list[Failure] = []
    waiting.addErrback(failures.append)
    assert failures[0].check(ConnectionFailed)


def test_silence_ends_the_connection(line: Line) -> None:
    line.transport.write = lambda data: None  # type: ignore[method-assign]
    waiting = line.client.send(c.Noop())
    failures: list[Failure] = []
    waiting.addErrback(failures.append)
    line.rig.loop.advance(61)
    assert failures[0].check(ConnectionFailed)
    assert "60 seconds" in failures[0].getErrorMessage()
