"""An LMTP client that tells replies from the end of the connection (RFC 2033)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType


class Lmtp:
    """A connection that has greeted."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._replies = self._socket.makefile("rb")
        assert self._reply()[:3] == "220"
        assert self.ask("LHLO client.example")[:3] == "250"

    def __enter__(self) -> Lmtp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self._replies.close()
        self._socket.close()

    def ask(self, line: str) -> str:
        """Send a command; returns the last line of the reply."""
        self._socket.sendall(line.encode("ascii") + b"\r\n")
        return self._reply()

    def offer(self, accounts: Sequence[str]) -> list[str]:
        """Announce a message to accounts, up to where its octets are waited for; returns
        what was answered for each: 250 if it is to be sent."""
        if (line := self.ask("MAIL FROM:<>"))[:3] != "250":
            return [line] * len(accounts)
        answers = [self.ask(f"RCPT TO:<{account}>") for account in accounts]
        if any(answer[:3] == "250" for answer in answers):
            if (line := self.ask("DATA"))[:3] == "354":
                return answers
            answers = [line if answer[:3] == "250" else answer for answer in answers]
        self.ask("RSET")
        return answers

    def send(self, octets: bytes, recipients: int) -> list[str]:
        """Send the message that was offered; returns the reply for each recipient.

        Args:
            octets: ends with CRLF and has no line that begins with a dot.
        """
        self._socket.sendall(octets + b".\r\n")
        return [self._reply() for _ in range(recipients)]

    def deliver(self, octets: bytes, accounts: Sequence[str]) -> list[str]:
        """Offer and send a message to accounts; returns the reply for each."""
        answers = self.offer(accounts)
        taken = [number for number, line in enumerate(answers) if line[:3] == "250"]
        if taken:
            for number, answer in zip(taken, self.send(octets, len(taken)), strict=True):
                answers[number] = answer
        return answers

    def _reply(self) -> str:
        while (line := self._replies.readline())[3:4] == b"-":
            pass
        if not line.endswith(b"\n"):
            raise ConnectionError("the server is gone")
        return line.decode("ascii").rstrip()
