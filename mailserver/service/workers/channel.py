"""Words between two processes of one server: calls with answers, over a stream of our own.

Wire form: JSON objects, one a line:

    {"do": "counts", "with": […]}                   nobody waits for an answer
    {"do": "turn", "with": […], "id": 3}            somebody does
    {"id": 3, "value": 2.0}   or   {"id": 3, "refused": "a sentence"}

What is sent arrives in order; answers come when they are ready. Both ends are of one version
and one user, and nobody else has the stream, so what comes is not checked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailserver.errors import ErrorKind, MailError

Command: TypeAlias = Callable[..., Any]
"""What the other end may call, with arguments and a result that JSON has. It may be a
coroutine function; MailError is told to the caller."""


class Channel(Protocol):
    """One end.

    Args:
        commands: what the other end may call, by name.
        lost: called once, when there is no other end any more.
    """

    _log = Logger()
    transport: Any  # a Unix stream

    def __init__(self, commands: Mapping[str, Command], lost: Callable[[], None]) -> None:
        self._commands = commands
        self._told_lost = lost
        self._rest: list[bytes] = []  # of a line that is not complete
        self._calls: dict[int, Deferred[Any]] = {}
        self._number = 0
        self._is_lost = False

    def tell(self, name: str, *arguments: object) -> None:
        """Have something done; nobody hears of how it went."""
        self._send({"do": name, "with": arguments})

    async def call(self, name: str, *arguments: object) -> Any:
        """Have something done, and wait for the result.

        Raises:
            MailError: with the other end's refusal; UNAVAILABLE if it is gone.
        """
        if self._is_lost:
            raise _gone()
        self._number += 1
        answer: Deferred[Any] = Deferred()
        self._calls[self._number] = answer
        self._send({"do": name, "with": arguments, "id": self._number})
        return await answer

    def close(self) -> None:
        """Send what is to be sent, and end the stream."""
        self.transport.loseConnection()

    def _send(self, message: Mapping[str, object]) -> None:
        if not self._is_lost:
            self.transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """Cut the stream into lines."""
        if b"\n" not in data:
            self._rest.append(data)
            return
        *lines, rest = b"".join([*self._rest, data]).split(b"\n")
        self._rest = [rest]
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "do" in message:
            running = Deferred.fromCoroutine(self._run(message))
            running.addErrback(self._failed, message)
            return
        answer = self._calls.pop(message["id"])
        if "refused" in message:
            answer.errback(MailError(ErrorKind(message["kind"]), message["refused"]))
        else:
            answer.callback(message["value"])

    async def _run(self, message: dict[str, Any]) -> None:
        try:
            value = self._commands[message["do"]](*message["with"])
            if isawaitable(value):
                value = await _one(value)
            self._answer(message, {"value": value})
        except MailError as error:
            self._answer(message, {"refused": error.text, "kind": error.kind.value})

    def _failed(self, failure: Failure, message: dict[str, Any]) -> None:
        self._log.failure("internal error amid {what}", failure, what=message["do"])
        answer = {"refused": "internal error", "kind": ErrorKind.UNAVAILABLE.value}
        self._answer(message, answer)

    def _answer(self, message: dict[str, Any], answer: dict[str, Any]) -> None:
        if "id" in message:
            self._send({"id": message["id"], **answer})

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell everybody who waits."""
        self._is_lost = True
        calls, self._calls = self._calls, {}
        for answer in calls.values():
            answer.errback(_gone())
        self._told_lost()


async def _one(value: Awaitable[Any]) -> Any:
    return await value


def _gone() -> MailError:
    return MailError(ErrorKind.UNAVAILABLE, "another process of this server has just ended")
