"""A POP3 client on the real store, without sockets."""

from __future__ import annotations

import base64
from typing import Any

from mailserver.server.pop3.protocol import Pop3Factory
from mailserver.server.pop3.session import Services
from mailserver.server.pop3.settings import Pop3Settings
from mailserver.store.visits import MaildropVisits
from tests.server.rig import Rig, Transport


def services(
    rig: Rig, tls: Any = None, visits: MaildropVisits | None = None, **settings: Any
) -> Services:
    """What POP3 sessions share, over a rig's store and accounts."""
    return Services(
        store=rig.store,
        authenticator=rig.services.authenticator,
        monitor=rig.monitor,
        settings=Pop3Settings(**settings),
        clock=rig.loop,  # type: ignore[arg-type]
        tls=tls,
        visits=visits or MaildropVisits(rig.data / "visits", rig.loop.seconds),
    )


class Client:
    """One connection, seen from the client's end of the wire."""

    def __init__(self, rig: Rig, shared: Services, service: str = "pop3", step: int = 0) -> None:
        self.rig = rig
        self.step = step
        self.transport = Transport(rig.loop)
        self.connection = Pop3Factory(shared, service).buildProtocol(None)
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)
        self.buffer = b""

    @property
    def is_closed(self) -> bool:
        """The server has closed the connection."""
        self.rig.settle()
        return self.transport.is_closed

    def send(self, octets: bytes) -> None:
        """Send octets as they are, in packets of `step`."""
        step = self.step or len(octets) or 1
        for at in range(0, len(octets), step):
            if not self.transport.is_closed and not self.transport.disconnecting:
                self.connection.dataReceived(octets[at : at + step])

    def read_to(self, end: bytes) -> bytes:
        """Wait until the server has sent `end`; returns everything up to it."""

        def is_there() -> bool:
            self.buffer += self.transport.value()
            self.transport.clear()
            return end in self.buffer

        self.rig.loop.until(is_there, f"{end!r}; there is {self.buffer[-200:]!r}")
        found, _, self.buffer = self.buffer.partition(end)
        return found + end

    def line(self) -> str:
        """Wait for a line; without CRLF."""
        return self.read_to(b"\r\n")[:-2].decode()

    def say(self, command: str) -> str:
        """Send a command and wait for the first line of its answer."""
        self.send(command.encode() + b"\r\n")
        return self.line()

    def ok(self, command: str) -> str:
        """Send a command that must succeed; the text of its answer."""
        answer = self.say(command)
        assert answer.startswith("+OK "), (command, answer)
        return answer[4:]

    def octets(self, command: str) -> bytes:
        """Send a command that is answered by many lines; what they carry, un-stuffed."""
        self.ok(command)
        if self.buffer.startswith(b".\r\n"):
            self.buffer = self.buffer[3:]
            return b""
        raw = self.read_to(b"\r\n.\r\n")[:-3]
        return b"".join(line.removeprefix(b".") for line in raw.splitlines(keepends=True))

    def lines(self, command: str) -> list[str]:
        """The same as text, line by line."""
        return self.octets(command).decode().splitlines()

    def login(self, name: str = "ann@example.org", password: str = "secret") -> Client:
        """Read the greeting and log in; returns the client itself."""
        assert self.line().startswith("+OK ")
        self.ok(f"USER {name}")
        self.ok(f"PASS {password}")
        return self


def plain(name: str = "ann@example.org", password: str = "secret") -> str:
    """The response of PLAIN, in base64."""
    return base64.b64encode(f"\0{name}\0{password}".encode()).decode()
