"""A connection's life over TLS: the handshake's deadline, what is known after it, the end."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import globalLogPublisher

from mailserver.server.connection import HANDSHAKE_TIMEOUT
from mailserver.server.imap.settings import ImapSettings
from tests.server.test_session_tls import TlsCase

reactor: Any = _reactor


class OverTls(TlsCase):
    """The rig's clock moves only when a test moves it."""

    settings = ImapSettings(login_timeout=60)

    def setUp(self) -> None:
        super().setUp()
        self.port = self.listen(tls=True)
        self.lines: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_namespace", "").startswith("mailserver.server"):
                self.lines.append("{text}{shown}".format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    # -- in the client's thread

    def connect(self) -> socket.socket:
        before = len(self.lines)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        while not self.live() and len(self.lines) == before:
            pass
        return plain

    def live(self) -> int:
        return int(blockingCallFromThread(reactor, lambda: len(self.server.monitor.live)))

    def advance(self, seconds: float) -> None:
        blockingCallFromThread(reactor, self.server.loop.advance, seconds)

    def over(self, plain: socket.socket) -> ssl.SSLSocket:
        return self.context().wrap_socket(plain, server_hostname="localhost")

    def ended(self) -> None:
        while self.live():
            pass

    def test_a_handshake_that_does_not_come_is_cut(self) -> Deferred[None]:
        """S3, R11: nothing is said to whoever does not speak TLS."""

        def client() -> None:
            with self.connect() as plain:
                self.advance(HANDSHAKE_TIMEOUT - 1)
                self.assertEqual(self.live(), 1)
                plain.sendall(b"\x16\x03\x01")  # octets do not push it out
                self.advance(1)
                self.ended()
                try:
                    self.assertEqual(plain.recv(100), b"")
                except ConnectionResetError:
                    pass
            self.assertIn("cut off: no TLS in time address=127.0.0.1", self.lines)

        return deferToThread(client)

    def test_the_time_to_log_in_runs_from_the_connect(self) -> Deferred[None]:
        """S3: 60 seconds are absolute, the handshake is within them."""

        def client() -> None:
            plain = self.connect()
            self.advance(20)
            with self.over(plain) as over:
                self.assertTrue(over.recv(1000).startswith(b"* OK"))
                self.advance(39)
                over.sendall(b"a NOOP\r\n")
                self.assertEqual(over.recv(1000), b"a OK NOOP completed\r\n")
                self.advance(1)
                self.assertEqual(over.recv(1000), b"* BYE you did not log in in time\r\n")
                self.assertEqual(over.recv(1000), b"")

        return deferToThread(client)

    def test_one_too_many_is_told_so_in_the_protocols_words(self) -> Deferred[None]:
        """SUN-30, CGP-2: which it can read only when the handshake is over."""

        def client() -> None:
            self.server.monitor.max_sessions = 0
            with self.over(self.connect()) as over:
                self.assertRegex(over.recv(1000), rb"\A\* BYE .*too many connections")
                self.assertEqual(over.recv(1000), b"")
            self.ended()

        return deferToThread(client)

    def test_a_handshake_that_fails_is_told_with_its_reason(self) -> Deferred[None]:
        def client() -> None:
            with self.connect() as plain:
                with self.assertRaises(ssl.SSLCertVerificationError):
                    ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
            self.ended()
            [line] = [line for line in self.lines if line.startswith("no TLS")]
            self.assertIn("address=127.0.0.1", line)
            self.assertIn("unknown ca", line)
            with self.connect() as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                plain.recv(100)
            self.ended()
            self.assertEqual(sum("reason=http request" in line for line in self.lines), 1)

        return deferToThread(client)

    def test_the_log_tells_version_and_cipher(self) -> Deferred[None]:
        def client() -> None:
            with self.over(self.connect()) as over:
                self.assertTrue(over.recv(1000))
            self.ended()
            [line] = [line for line in self.lines if line.startswith("connected")]
            self.assertRegex(line, r"tls=TLSv1\.3 with cipher TLS_\w+$")

        return deferToThread(client)

    def test_the_end_does_not_wait_for_the_client(self) -> Deferred[None]:
        """RFC 8446 §6.1: the clock stands still, so nothing but the output being sent can
        end the session; the client neither answers nor closes."""
        self.server.add_account("bob@example.org")
        size = 3_000_000
        self.server.append(b"x" * size)
        plain_port = self.listen()

        def client(starttls: bool) -> None:
            plain = self.connect()
            if starttls:
                plain.close()
                self.ended()
                plain = socket.create_connection(("127.0.0.1", plain_port), timeout=20)
                plain.recv(1000)
                plain.sendall(b"s STARTTLS\r\n")
                self.assertTrue(plain.recv(1000).startswith(b"s OK"))
            over = self.over(plain)
            over.sendall(
                b"a LOGIN ann@example.org secret\r\nb EXAMINE INBOX\r\n"
                b"c FETCH 1 BODY[]\r\nd LOGOUT\r\n"
            )
            received = b""
            while octets := over.recv(1 << 16):  # ends with the server's close_notify
                received += octets
            self.assertTrue(received.endswith(b"d OK LOGOUT completed\r\n"))
            self.assertGreater(len(received), size)
            self.ended()
            over.close()

        async def both() -> None:
            await deferToThread(client, False)
            await deferToThread(client, True)

        return Deferred.fromCoroutine(both())
