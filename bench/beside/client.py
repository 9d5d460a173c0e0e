"""Clients that do next to nothing themselves, so that the server is what is measured."""

from __future__ import annotations

import socket

from bench.beside.servers import PASSWORD, Peer, account

LINE = 4096
"""Octets that the tagged line of an answer is shorter than."""


class Imap:
    """One IMAP connection; one command at a time, looked through for its tag only."""

    def __init__(self, peer: Peer, number: int = 0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", peer.imap), timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tags = 0
        assert self.socket.recv(4096).startswith(b"* OK")
        self.run(f"LOGIN {account(number)} {PASSWORD}".encode())

    def run(self, command: bytes, may_fail: bool = False) -> bytes:
        """Send a command and return the last `LINE` octets of its answer, the tagged line
        included. The rest is received and forgotten: to keep 40 MB of bodies cost this
        client more time than a server takes to send them."""
        self._tags += 1
        tag = b"t%d " % self._tags
        self.socket.sendall(tag + command + b"\r\n")
        return self._answer(tag, may_fail)

    def append(self, mailbox: bytes, octets: bytes) -> None:
        """APPEND with a literal that is sent at once (LITERAL+)."""
        self.run(b"APPEND %b {%d+}\r\n%b" % (mailbox, len(octets), octets))

    def idle(self) -> None:
        """Begin IDLE; what comes after the `+` is the caller's."""
        self.socket.sendall(b"i IDLE\r\n")
        assert b"+ " in self.socket.recv(4096)

    def close(self) -> None:
        """LOGOUT, and close."""
        self.run(b"LOGOUT")
        self.socket.close()

    def _answer(self, tag: bytes, may_fail: bool) -> bytes:
        last = b"\r\n"
        while True:
            chunk = self.socket.recv(1 << 16)
            assert chunk, "the server closed the connection"
            last = (last + chunk[-LINE:])[-LINE:]
            if last.endswith(b"\r\n"):
                line = last[last.rfind(b"\r\n", 0, -2) + 2 :]
                if line.startswith(tag):
                    assert may_fail or line.startswith(tag + b"OK"), line
                    return last


class Pop3:
    """One POP3 connection, logged in."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", peer.pop3), timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.socket.makefile("rb", buffering=1 << 18)
        self._ok()
        self.run(b"USER " + account(number).encode())
        self.run(b"PASS " + PASSWORD.encode())

    def run(self, command: bytes) -> bytes:
        """Send a command that is answered on one line."""
        self.socket.sendall(command + b"\r\n")
        return self._ok()

    def lines(self, *commands: bytes) -> int:
        """Send commands at once that are answered on many lines; octets of all answers."""
        self.socket.sendall(b"".join(command + b"\r\n" for command in commands))
        octets = 0
        for _command in commands:
            self._ok()
            while (line := self._stream.readline()) != b".\r\n":
                octets += len(line)
        return octets

    def close(self) -> None:
        """QUIT, and close."""
        self.run(b"QUIT")
        self._stream.close()
        self.socket.close()

    def _ok(self) -> bytes:
        line = self._stream.readline()
        assert line.startswith(b"+OK"), line
        return line


class Lmtp:
    """One LMTP connection."""

    def __init__(self, peer: Peer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", peer.lmtp), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")
        self._expect(b"220")
        self._socket.sendall(b"LHLO bench.example.com\r\n")
        self._expect(b"250")

    def deliver(self, numbers: list[int], octets: bytes) -> None:
        """Deliver a message that has no line of a dot to accounts; returns when all have it."""
        self.begin(numbers)
        self.finish(numbers, octets)

    def begin(self, numbers: list[int]) -> None:
        """The envelope, up to the answer to DATA."""
        recipients = "".join(f"RCPT TO:<{account(number)}>\r\n" for number in numbers)
        self._socket.sendall(f"MAIL FROM:<s@example.org>\r\n{recipients}DATA\r\n".encode())
        for _each in range(len(numbers) + 1):
            self._expect(b"250")
        self._expect(b"354")

    def finish(self, numbers: list[int], octets: bytes) -> None:
        """The message and its replies."""
        self._socket.sendall(octets + b".\r\n")
        for _each in numbers:
            self._expect(b"250")

    def close(self) -> None:
        self._socket.sendall(b"QUIT\r\n")
        self._replies.close()
        self._socket.close()

    def _expect(self, code: bytes) -> None:
        while True:
            line = self._replies.readline()
            assert line.startswith(code), line
            if line[3:4] != b"-":
                return
