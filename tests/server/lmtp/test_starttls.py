"""STARTTLS over real sockets with Python's own LMTP client."""

from __future__ import annotations

import shutil
import smtplib
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.server.lmtp.protocol import LmtpFactory
from mailserver.server.lmtp.session import LmtpSettings
from mailserver.service.tls import ServerTls, TlsSettings, ensure_self_signed
from tests.server.lmtp.harness import Client, Directory, Store
from tests.server.rig import Monitor

MESSAGE = b"Subject: x\r\n\r\nhi\r\n"
BEFORE = b"LHLO x\r\nSTARTTLS\r\n"


class StartTls(TestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.files = ensure_self_signed(folder, ["localhost", "127.0.0.1"])
        self.store: Any = Store()
        directory: Any = Directory()
        self.factory = LmtpFactory(
            Monitor(),
            reactor,  # type: ignore[arg-type]
            self.store,
            directory,
            LmtpSettings("mail.example.org"),
            ServerTls(TlsSettings((self.files.certificate,), (self.files.key,))).for_service(
                "lmtp"
            ),
        )

    def listen_tcp(self) -> int:
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.authority))

    def test_delivery_after_starttls(self) -> Deferred[None]:
        """T2: a new LHLO is needed, STARTTLS is gone, a second one is refused."""
        port = self.listen_tcp()

        def client() -> None:
            with smtplib.LMTP("127.0.0.1", port, timeout=10) as lmtp:
                lmtp.ehlo()
                self.assertTrue(lmtp.has_extn("starttls"))
                lmtp.mail("forgotten@example.org")
                self.assertEqual(lmtp.starttls(context=self.context())[0], 220)
                self.assertEqual(lmtp.mail("s@example.org"), (503, b"5.5.1 Say LHLO first"))
                lmtp.ehlo()
                self.assertFalse(lmtp.has_extn("starttls"))
                self.assertEqual(lmtp.docmd("STARTTLS")[0], 503)
                lmtp.sendmail("s@example.org", ["a@example.org"], MESSAGE)
            [(_, message)] = self.store.delivered
            self.assertIn(b"(using TLSv1.3 with cipher TLS_", message)
            self.assertIn(b"with LMTPS id", message)

        return deferToThread(client)

    def test_octets_behind_starttls_close_the_connection(self) -> Deferred[None]:
        """S1, T1: nothing of them is run, whether glued to the command or not."""
        port = self.listen_tcp()

        def client() -> None:
            for glued in (b"NOOP\r\n", b"\x16\x03\x01", b"\n"):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                    plain.sendall(BEFORE + glued)
                    answer = b"".join(iter(lambda: plain.recv(4096), b""))
                    self.assertIn(b"250 STARTTLS\r\n", answer)
                    self.assertTrue(
                        answer.endswith(
                            b"501 5.5.1 Nothing may follow STARTTLS before TLS; closing\r\n"
                        ),
                        answer,
                    )

        return deferToThread(client)

    def test_plaintext_after_the_go_ahead_is_never_run(self) -> Deferred[None]:
        """S1: it goes to the TLS layer, which ends the connection."""
        port = self.listen_tcp()

        def client() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.sendall(BEFORE)
                answer = b""
                while b"220 2.0.0" not in answer:
                    answer += plain.recv(4096)
                plain.sendall(b"NOOP\r\nNOOP\r\n")
                rest = b"".join(iter(lambda: plain.recv(4096), b""))
                self.assertNotIn(b"250", rest)

        return deferToThread(client)

    def test_unix_socket(self) -> Deferred[None]:
        path = str(self.files.key.parent / "lmtp.socket")
        port = reactor.listenUNIX(path, self.factory)  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)

        def client() -> None:
            with smtplib.LMTP(path, timeout=30) as lmtp:
                lmtp.sendmail("s@example.org", ["a@example.org"], MESSAGE)
            [(_, message)] = self.store.delivered
            self.assertIn(b"(local socket)", message)

        return deferToThread(client)


def test_starttls_split_at_every_octet() -> None:
    """S1: wherever the packets are cut, octets behind STARTTLS are not run."""
    octets = BEFORE + b"LHLO evil\r\n"
    for cut in range(len(octets)):
        if cut == len(BEFORE):
            continue  # then the octets come to the TLS layer: tested on sockets above
        client = Client(tls=object())
        client.say(octets[:cut])
        if not client.is_closed:
            client.say(octets[cut:])
        assert client.is_closed
        assert client.connection._session.client == "x"
