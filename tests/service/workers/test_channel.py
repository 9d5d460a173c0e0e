"""Words between processes: calls and answers over a stream cut anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from mailserver.errors import ErrorKind, MailError
from mailserver.service.workers.channel import Channel

later: list[Deferred[int]] = []
told: list[str] = []


async def wait() -> int:
    later.append(Deferred())
    return await later[-1]


def refuse() -> None:
    raise MailError(ErrorKind.LIMIT, "no more")


COMMANDS = {"add": lambda a, b: a + b, "wait": wait, "refuse": refuse, "note": told.append}


class Two:
    """Two ends; `carry` brings octets over, in pieces."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.ends = [
            Channel(COMMANDS, lambda: self.lost.append("one")),
            Channel(COMMANDS, lambda: self.lost.append("other")),
        ]
        for end in self.ends:
            end.makeConnection(StringTransport())

    def carry(self, size: int = 1 << 20) -> None:
        for _ in range(2):
            for source, target in (self.ends, self.ends[::-1]):
                octets = source.transport.value()
                source.transport.clear()
                for at in range(0, len(octets), size):
                    target.dataReceived(octets[at : at + size])


def result(calling: Any) -> list[Any]:
    outcome: list[Any] = []
    Deferred.fromCoroutine(calling).addBoth(outcome.append)
    return outcome


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_calls_are_answered_however_they_are_cut(size: int) -> None:
    two = Two()
    one, other = two.ends
    waiting, sum_, back = (
        result(one.call("wait")),
        result(one.call("add", 1, 2)),
        result(other.call("add", "ö", "ä")),
    )
    one.tell("note", f"size {size}")
    two.carry(size)
    assert (sum_, back, waiting) == ([3], ["öä"], [])
    assert told[-1] == f"size {size}"
    later[-1].callback(7)
    two.carry(size)
    assert waiting == [7]


def test_a_refusal_is_the_callers() -> None:
    two = Two()
    refused = result(two.ends[0].call("refuse"))
    two.carry()
    error = refused[0].value
    assert (error.kind, error.text) == (ErrorKind.LIMIT, "no more")


def test_an_error_is_logged_where_it_is_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Two()
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        failed = result(two.ends[0].call("add", 1))
        two.carry()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert failed[0].value.kind is ErrorKind.UNAVAILABLE
    assert any(event.get("what") == "add" and "log_failure" in event for event in events)


def test_nobody_waits_for_who_is_gone() -> None:
    two = Two()
    waiting = result(two.ends[0].call("wait"))
    two.carry()
    two.ends[0].connectionLost(Failure(ConnectionError()))
    assert waiting[0].value.kind is ErrorKind.UNAVAILABLE
    assert two.lost == ["one"]
    two.ends[0].tell("note", "nobody hears")
    assert result(two.ends[0].call("add", 1, 2))[0].value.kind is ErrorKind.UNAVAILABLE
