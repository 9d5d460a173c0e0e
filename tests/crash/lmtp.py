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

    def deliver(self, octets: bytes, accounts: Sequence[str]) -> list[str]:
        """Send a message to accounts; returns the reply for each.

        Args:
            octets: ends with CRLF and has no line that begins with a dot.
        """
        if (line := self.ask("MAIL FROM:<>"))[:3] != "250":
            return [line] * len(accounts)
        answers = [self.ask(f"RCPT TO:<{account}>") for account in accounts]
        taken = [number for number, line in enumerate(answers) if line[:3] == "250"]
        if not taken or (line := self.ask("DATA"))[:3] != "354":
            self.ask("RSET")
            return [answer if answer[:3] != "250" else line for answer in answers]
        self._socket.sendall(octets + b".\r\n")
        for number in taken:
            answers[number] = self._reply()
        return answers

    def _reply(self) -> str:
        while (line := self._replies.readline())[3:4] == b"-":
            pass
        if not line.endswith(b"\n"):
            raise ConnectionError("the server is gone")
        return line.decode("ascii").rstrip()
