"""A client that asks one thing at a time and gives the answers as response values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailserver.wire.imap import responses as r
from mailserver.wire.imap.response_parser import ResponseReader


class Client:
    """One conversation, over whatever carries octets.

    Args:
        send: takes octets; may take fewer than it is given and then says how many.
        receive: waits for octets and returns them, none at the end.
    """

    def __init__(self, send: Callable[[bytes], int | None], receive: Callable[[], bytes]) -> None:
        self._send = send
        self._receive = receive
        self._reader = ResponseReader()
        self._commands = 0
        greeting = self._next()
        assert isinstance(greeting, r.Status), greeting

    def run(self, command: bytes) -> list[r.Response]:
        """Send a command and return what came before its tagged OK.

        Raises:
            AssertionError: it was refused.
        """
        status, untagged = self.answer(command)
        assert status.condition is r.Condition.OK, (command[:200], status)
        return untagged

    def answer(self, command: bytes) -> tuple[r.Status, list[r.Response]]:
        """Send a command; its tagged status and what came before."""
        self._commands += 1
        tag = b"%d" % self._commands
        self._write(tag + b" " + command + b"\r\n")
        untagged: list[r.Response] = []
        while True:
            response = self._next()
            if isinstance(response, r.Status) and response.tag == tag:
                return response, untagged
            untagged.append(response)

    def append(self, mailbox: bytes, arguments: bytes, octets: bytes) -> None:
        """APPEND a message: `arguments` are flags and date."""
        literal = b"{%d+}\r\n" % len(octets)
        self.run(b"APPEND %b %b %b%b" % (mailbox, arguments, literal, octets))

    def fetch(self, number: int, items: Sequence[bytes]) -> tuple[r.FetchDatum, ...]:
        """The data of one message, in the order that the server chose."""
        found: tuple[r.FetchDatum, ...] = ()
        for response in self.run(b"FETCH %d (%b)" % (number, b" ".join(items))):
            if isinstance(response, r.FetchData):
                found += response.items
        return found

    def _write(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            sent = self._send(rest)
            rest = rest[sent:] if sent is not None else rest[len(rest) :]

    def _next(self) -> r.Response:
        while (response := self._reader.next_response()) is None:
            octets = self._receive()
            assert octets, "the server closed the connection"
            self._reader.feed(octets)
        return response
