"""STARTTLS and the TLS port, over real sockets, with Python's own IMAP client."""

from __future__ import annotations

import imaplib
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from mailserver.server.imap.protocol import ImapFactory
from mailserver.server.imap.settings import ImapSettings
from mailserver.service.tls import ServerTls, TlsSettings, ensure_self_signed
from tests.server.rig import rig

reactor: Any = _reactor


class TlsCase(TestCase):
    """The rig behind real sockets; its clock is turned by the reactor but does not move."""

    settings = ImapSettings(plaintext_min_cipher=1)

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.files = ensure_self_signed(folder, ["localhost", "127.0.0.1"])
        self.tls = ServerTls(TlsSettings((self.files.certificate,), (self.files.key,))).for_service(
            "imap"
        )
        data = folder / "data"
        data.mkdir()
        made = rig(data, self.settings, tls=self.tls)
        self.server = made.__enter__()
        self.addCleanup(made.__exit__, None, None, None)
        turning = LoopingCall(self.server.loop.turn)
        turning.start(0.002)
        self.addCleanup(turning.stop)

    def listen(self, *, tls: bool = False) -> int:
        factory: Any = ImapFactory(self.server.services, "imaps" if tls else "imap")
        if tls:
            factory = TLSMemoryBIOFactory(self.tls, False, factory)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self.end_sessions)
        number: int = port.getHost().port
        return number

    def end_sessions(self) -> None:
        for session in self.server.monitor.sessions():
            session.abort()  # type: ignore[attr-defined]

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.authority))


class WithTls(TlsCase):
    def test_starttls_then_login(self) -> Deferred[None]:
        """T1, T2, S2, SUN-4, SUN-11."""
        port = self.listen()

        def client() -> None:
            imap = imaplib.IMAP4("127.0.0.1", port, timeout=10)
            self.assertIn("STARTTLS", imap.capabilities)
            self.assertIn("LOGINDISABLED", imap.capabilities)
            self.assertNotIn("AUTH=PLAIN", imap.capabilities)
            with self.assertRaisesRegex(imaplib.IMAP4.error, "PRIVACYREQUIRED"):
                imap.login("ann@example.org", "secret")
            imap.starttls(self.context())  # asks for the capabilities again
            self.assertIn("AUTH=PLAIN", imap.capabilities)
            self.assertNotIn("STARTTLS", imap.capabilities)
            self.assertNotIn("LOGINDISABLED", imap.capabilities)
            with self.assertRaisesRegex(imaplib.IMAP4.error, "BAD"):
                imap.xatom("STARTTLS")
            imap.login("ann@example.org", "secret")
            self.assertEqual(imap.select()[0], "OK")
            self.assertEqual(imap.noop()[0], "OK")
            self.assertEqual(imap.logout()[0], "BYE")

        return deferToThread(client)

    def test_tls_from_the_beginning(self) -> Deferred[None]:
        port = self.listen(tls=True)

        def client() -> None:
            imap = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=self.context(), timeout=10)
            self.assertIn("AUTH=PLAIN", imap.capabilities)
            self.assertNotIn("STARTTLS", imap.capabilities)
            with self.assertRaisesRegex(imaplib.IMAP4.error, "BAD"):
                imap.xatom("STARTTLS")
            imap.login("ann@example.org", "secret")
            self.assertEqual(imap.append("INBOX", "", "", b"x" * 300_000)[0], "OK")
            imap.select()
            self.assertEqual(len(imap.fetch("1", "BODY.PEEK[]")[1][0][1]), 300_000)
            imap.logout()

        return deferToThread(client)

    def test_octets_behind_starttls_close_the_connection(self) -> Deferred[None]:
        """S1, T1: nothing of them is run, be it a command or a ClientHello."""
        port = self.listen()
        hello = ssl.MemoryBIO()
        ssl_object = self.context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            ssl_object.do_handshake()

        def client() -> None:
            for glued in (b"b LOGIN ann@example.org secret\r\n", b"\n", hello.read()):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                    plain.sendall(b"a STARTTLS\r\n" + glued)
                    answer = b"".join(iter(lambda: plain.recv(4096), b""))
                    _greeting, bye, nothing = answer.split(b"\r\n")
                    self.assertEqual(
                        bye,
                        b"* BYE nothing may be sent after STARTTLS before it is answered",
                    )
                    self.assertEqual(nothing, b"")

        return deferToThread(client)

    def test_a_command_in_clear_after_starttls_is_not_run(self) -> Deferred[None]:
        """S1: octets that come after the answer belong to the handshake, and spoil it."""
        port = self.listen()

        def client() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.recv(4096)
                plain.sendall(b"a STARTTLS\r\n")
                self.assertEqual(plain.recv(4096), b"a OK begin TLS now\r\n")
                plain.sendall(b"b CAPABILITY\r\n")
                answer = b"".join(iter(lambda: plain.recv(4096), b""))
                self.assertNotIn(b"CAPABILITY", answer)

        return deferToThread(client)

    def test_starttls_in_single_octets(self) -> Deferred[None]:
        """S1: cut anywhere, the command is the same and what is before it is void."""
        port = self.listen()

        def client() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.recv(4096)
                for octet in b"a ID NIL\r\nb STARTTLS\r\n":
                    plain.sendall(bytes((octet,)))
                answer = b""
                while not answer.endswith(b"b OK begin TLS now\r\n"):
                    answer += plain.recv(4096)
                with self.context().wrap_socket(plain, server_hostname="localhost") as tls:
                    tls.sendall(b"c LOGIN ann@example.org secret\r\n")
                    self.assertTrue(tls.recv(4096).startswith(b"c OK [CAPABILITY "))

        return deferToThread(client)


class SlowReader(TlsCase):
    """T52: a client that does not read grows no memory and holds nobody up."""

    settings = ImapSettings()
    messages = 16
    size = 1_000_000

    def setUp(self) -> None:
        super().setUp()
        self.server.add_account("bob@example.org")
        for _ in range(self.messages):
            self.server.append(b"x" * self.size)

    def read_slowly(self, *, tls: bool) -> Deferred[None]:
        port = self.listen(tls=tls)

        def client() -> None:
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            plain.settimeout(20)
            plain.connect(("127.0.0.1", port))
            sleeper: Any = plain
            if tls:
                sleeper = self.context().wrap_socket(plain, server_hostname="localhost")
            with sleeper:
                sleeper.sendall(
                    b"a LOGIN ann@example.org secret\r\nb SELECT INBOX\r\n"
                    b"c FETCH 1:* BODY.PEEK[]\r\nd NOOP\r\n"
                )
                self.assertTrue(sleeper.recv(1))  # of the greeting: now there is a session
                [session] = self.server.monitor.sessions()
                sent = -1
                while sent < 1_000_000 or sent != session.sent:  # type: ignore[attr-defined]
                    sent = session.sent  # type: ignore[attr-defined]
                    with imaplib_client(port, self.context() if tls else None) as other:
                        other.login("bob@example.org", "secret")
                        self.assertEqual(other.noop()[0], "OK")
                self.assertLess(sent, self.messages * self.size * 0.7)
                received, end = 0, b""
                while b"\r\nd OK NOOP" not in end:
                    octets = sleeper.recv(1 << 20)
                    self.assertTrue(octets)
                    received += len(octets)
                    end = end[-100:] + octets
                self.assertGreater(received, self.messages * self.size)

        return deferToThread(client)

    def test_in_clear(self) -> Deferred[None]:
        return self.read_slowly(tls=False)

    def test_over_tls(self) -> Deferred[None]:
        return self.read_slowly(tls=True)


def imaplib_client(port: int, context: ssl.SSLContext | None) -> imaplib.IMAP4:
    if context is None:
        return imaplib.IMAP4("127.0.0.1", port, timeout=10)
    return imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=10)


class PasswordsNowhere(TlsCase):
    """SUN-11: -1 takes no password even over TLS."""

    settings = ImapSettings(plaintext_min_cipher=-1)

    def test_login_is_disabled_under_tls(self) -> Deferred[None]:
        port = self.listen(tls=True)

        def client() -> None:
            imap = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=self.context(), timeout=10)
            self.assertIn("LOGINDISABLED", imap.capabilities)
            with self.assertRaisesRegex(imaplib.IMAP4.error, "PRIVACYREQUIRED"):
                imap.login("ann@example.org", "secret")
            imap.logout()

        return deferToThread(client)
