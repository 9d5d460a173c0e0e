"""STARTTLS of every protocol against a real TLS client, with packets cut everywhere (S1, T1).

Whatever an attacker in the middle puts behind STARTTLS, or a client glues to it, is never
run; whatever the network does to an honest client's octets changes nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from mailserver.server.connection import Connection
from mailserver.server.lmtp.protocol import LmtpFactory
from mailserver.server.lmtp.session import LmtpSettings
from mailserver.server.pop3.protocol import Pop3Factory
from tests.server.pop3.harness import services
from tests.server.test_session_tls import TlsCase

reactor: Any = _reactor


@attrs.frozen
class Talk:
    """How a protocol goes over to TLS.

    Attributes:
        before: what leads to STARTTLS, in clear, with it.
        go_ahead: how the answer to STARTTLS ends.
        glued: a command that must not be run when it stands behind STARTTLS.
        refusal: the last words to whoever sends something behind it; a part of them.
        forbidden: answers that would show that `glued` was run.
        inside: a command for the TLS session, with the answer to it.
    """

    before: bytes
    go_ahead: bytes
    glued: bytes
    refusal: bytes
    forbidden: tuple[bytes, ...]
    inside: tuple[bytes, bytes]


IMAP = Talk(
    b"a NOOP\r\nb STARTTLS\r\n",
    b"b OK begin TLS now\r\n",
    b"c LOGIN ann@example.org secret\r\n",
    b"* BYE nothing may be sent after STARTTLS",
    (b"c OK", b"c NO", b"c BAD", b"b OK"),
    (b"d LOGIN ann@example.org secret\r\n", b"d OK [CAPABILITY "),
)
POP3 = Talk(
    b"CAPA\r\nSTLS\r\n",
    b"begin TLS now\r\n",
    b"USER ann@example.org\r\nPASS secret\r\n",
    b"-ERR nothing may follow STLS before TLS",
    (b"begin TLS", b"password", b"messages"),
    (b"USER ann@example.org\r\n", b"+OK"),
)
LMTP = Talk(
    b"LHLO x\r\nSTARTTLS\r\n",
    b"220 2.0.0 Ready to start TLS\r\n",
    b"MAIL FROM:<a@example.org>\r\n",
    b"501 5.5.1 Nothing may follow STARTTLS before TLS",
    (b"220 2.0.0", b"250 2.1.0"),
    (b"LHLO y\r\n", b"250"),
)


class EveryCut(TlsCase):
    """The three protocols on sockets; a client's packets arrive one after the other."""

    def setUp(self) -> None:
        super().setUp()
        monitor, clock = self.server.monitor, self.server.loop
        store, directory = self.server.store, self.server.directory
        settings = LmtpSettings("mail.example.org")
        lmtp = LmtpFactory(monitor, clock, store, directory, settings, self.tls)  # type: ignore[arg-type]
        self.ports = {
            IMAP: self.listen(),
            POP3: self.port_of(Pop3Factory(services(self.server, self.tls))),
            LMTP: self.port_of(lmtp),
        }

    def port_of(self, factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    # -- in the client's thread

    def connect(self, talk: Talk) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.ports[talk]), timeout=20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        octets = b""
        while not octets.endswith(b"\r\n"):
            octets += plain.recv(4096)
        return plain

    def arrive(self, plain: socket.socket, octets: bytes) -> None:
        """Send a packet and wait until the server has seen it, unless it has closed."""
        session: Any = self.server.monitor.live[-1]
        assert isinstance(session, Connection)
        wanted = session.received + len(octets)
        plain.sendall(octets)

        def seen() -> bool:
            return session.received >= wanted or not session.is_open

        while not blockingCallFromThread(reactor, seen):
            pass

    def rest(self, plain: socket.socket) -> bytes:
        """All that the server says until it closes."""
        octets = b""
        try:
            while more := plain.recv(4096):
                octets += more
        except ConnectionResetError:  # our octets came after it had closed
            pass
        return octets

    def ended(self) -> None:
        """Wait until the server has forgotten the session."""
        while blockingCallFromThread(reactor, lambda: bool(self.server.monitor.live)):
            pass

    def refuses(self, talk: Talk, octets: bytes, cut: int) -> None:
        with self.connect(talk) as plain:
            self.arrive(plain, octets[:cut])
            try:
                plain.sendall(octets[cut:])
            except ConnectionError:
                pass
            answer = self.rest(plain)
        for forbidden in talk.forbidden:
            self.assertNotIn(forbidden, answer, cut)
        self.assertIn(talk.refusal, answer, cut)
        self.ended()

    def glued(self, talk: Talk) -> Deferred[None]:
        octets = talk.before + talk.glued

        def client() -> None:
            for cut in range(1, len(octets)):
                if cut != len(talk.before):  # then it is the TLS layer that gets it: below
                    self.refuses(talk, octets, cut)

        return deferToThread(client)

    def glued_hello(self, talk: Talk) -> Deferred[None]:
        """A ClientHello that comes before the go-ahead may come from somebody else."""
        out = ssl.MemoryBIO()
        tls = self.context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        octets = talk.before + out.read()

        def client() -> None:
            for cut in (*range(1, len(talk.before)), len(talk.before) + 1, len(octets) - 1):
                self.refuses(talk, octets, cut)

        return deferToThread(client)

    def in_clear_after_the_go_ahead(self, talk: Talk) -> Deferred[None]:
        def client() -> None:
            with self.connect(talk) as plain:
                self.arrive(plain, talk.before)
                plain.sendall(talk.glued)
                answer = self.rest(plain)
            before, go_ahead, after = answer.partition(talk.go_ahead)
            self.assertTrue(go_ahead, before)
            for forbidden in talk.forbidden:
                self.assertNotIn(forbidden, after)
            self.ended()

        return deferToThread(client)

    def honest(self, talk: Talk) -> Deferred[None]:
        """Every octet of the commands and of the handshake in a packet of its own."""

        def send(plain: socket.socket, octets: bytes) -> None:
            for octet in octets:
                plain.sendall(bytes([octet]))

        def client() -> None:
            with self.connect(talk) as plain:
                send(plain, talk.before)
                answer = b""
                while not answer.endswith(talk.go_ahead):
                    answer += plain.recv(4096)
                inwards, outwards = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = self.context().wrap_bio(inwards, outwards, server_hostname="localhost")

                def until_done(step: Callable[[], Any]) -> Any:
                    while True:
                        try:
                            return step()
                        except ssl.SSLWantReadError:
                            send(plain, outwards.read())
                            octets = plain.recv(4096)
                            assert octets, "the server closed the connection"
                            inwards.write(octets)

                until_done(tls.do_handshake)
                command, expected = talk.inside
                tls.write(command)
                send(plain, outwards.read())
                self.assertTrue(until_done(lambda: tls.read(4096)).startswith(expected))
            self.ended()

        return deferToThread(client)

    def test_imap_glued(self) -> Deferred[None]:
        """S1, T1."""
        return self.glued(IMAP)

    def test_pop3_glued(self) -> Deferred[None]:
        """S1, T1, T45."""
        return self.glued(POP3)

    def test_lmtp_glued(self) -> Deferred[None]:
        """S1, T1."""
        return self.glued(LMTP)

    def test_imap_glued_hello(self) -> Deferred[None]:
        """S1."""
        return self.glued_hello(IMAP)

    def test_pop3_glued_hello(self) -> Deferred[None]:
        """S1."""
        return self.glued_hello(POP3)

    def test_lmtp_glued_hello(self) -> Deferred[None]:
        """S1."""
        return self.glued_hello(LMTP)

    def test_imap_in_clear_after_the_go_ahead(self) -> Deferred[None]:
        """S1."""
        return self.in_clear_after_the_go_ahead(IMAP)

    def test_pop3_in_clear_after_the_go_ahead(self) -> Deferred[None]:
        """S1."""
        return self.in_clear_after_the_go_ahead(POP3)

    def test_lmtp_in_clear_after_the_go_ahead(self) -> Deferred[None]:
        """S1."""
        return self.in_clear_after_the_go_ahead(LMTP)

    def test_imap_honest(self) -> Deferred[None]:
        """T2."""
        return self.honest(IMAP)

    def test_pop3_honest(self) -> Deferred[None]:
        """T2, T45."""
        return self.honest(POP3)

    def test_lmtp_honest(self) -> Deferred[None]:
        """T2."""
        return self.honest(LMTP)
