"""How many TLS handshakes one core makes, and what an idle connection over TLS weighs.

python -m bench.tls [HANDSHAKES] [IDLERS]

A real server process with real sockets on loopback; the clients are this process. Rates are
handshakes (with the connection's beginning, greeting and end) per second of the server's own
processor time. The weight of an idle connection is as in `bench.imap_session`.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.imap_session import LOGIN, Server, read_until
from tests.server.rig import MAIL, rig

NAMES = ("localhost",)


def serve(data: Path, certificates: Path) -> None:
    """Serve until standard input ends; tells the ports: in clear, EC, RSA."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import deferToThread
    from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

    from mailserver.server.imap.protocol import ImapFactory
    from mailserver.service.tls import ServerTls, TlsSettings
    from tests.server.rig import assemble

    reactor: object = installed
    tls = {
        name: ServerTls(TlsSettings((certificates / name,))).for_service("imap")
        for name in ("ec", "rsa")
    }
    server = assemble(data, reactor, tls=tls["ec"])
    factory = ImapFactory(server.services)
    ports = []
    for listened in (factory, *(TLSMemoryBIOFactory(one, False, factory) for one in tls.values())):
        if isinstance(listened, TLSMemoryBIOFactory):
            listened.protocol = TLSMemoryBIOProtocol  # as the service does
        port = installed.listenTCP(0, listened, backlog=1024, interface="127.0.0.1")  # type: ignore[attr-defined]
        ports.append(port.getHost().port)
    server.monitor.max_sessions = server.monitor.max_per_account = 100_000
    server.monitor.logged_in = lambda session: True  # type: ignore[method-assign]
    print(*ports, flush=True)
    ended = deferToThread(sys.stdin.read)
    ended.addBoth(lambda _: Deferred.fromCoroutine(server.stop()))
    ended.addBoth(lambda _: installed.stop())  # type: ignore[attr-defined]
    installed.run()  # type: ignore[attr-defined]


class TlsServer(Server):
    """The server's process, on three ports."""

    def __init__(self, data: Path, certificates: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.tls", "--serve", str(data), str(certificates)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port, self.ec, self.rsa = map(int, self.process.stdout.readline().split())


def shake(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSession | None:
    """Connect, read the greeting, leave; gives the session to resume."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname=NAMES[0], session=session) as over:
            over.recv(1000)
            assert over.session_reused is (session is not None)
            return over.session


def rate(server: TlsServer, port: int, context: ssl.SSLContext, count: int, resume: bool) -> float:
    """Handshakes per second of the server's processor."""
    session = shake(port, context) if resume else None
    busy = server.processor_seconds()
    for _ in range(count):
        session = shake(port, context, session) if resume else (shake(port, context), None)[1]
    return count / (server.processor_seconds() - busy)


def weigh(server: TlsServer, context: ssl.SSLContext, how: str, idlers: int) -> float:
    """Octets of resident memory for each idle connection."""
    before = server.resident()
    kept = []
    for _ in range(idlers):
        client = socket.create_connection(
            ("127.0.0.1", server.ec if how == "TLS port" else server.port)
        )
        if how == "STARTTLS":
            client.sendall(b"s STARTTLS\r\n")
            read_until(client, b"s OK begin TLS now\r\n")
        if how != "in clear":
            client = context.wrap_socket(client, server_hostname=NAMES[0])
        client.sendall(LOGIN)
        read_until(client, b"b OK")
        client.sendall(b"c IDLE\r\n")
        read_until(client, b"+ idling")
        kept.append(client)
    weight = (server.resident() - before) / idlers
    for client in kept:
        client.close()
    return weight


def main(handshakes: int = 1000, idlers: int = 500) -> None:
    from mailserver.service.tls.self_signed import make_self_signed

    with tempfile.TemporaryDirectory() as folder:
        data, certificates = Path(folder) / "data", Path(folder) / "tls"
        data.mkdir()
        with rig(data) as made:
            made.append(MAIL)
        authorities = [
            make_self_signed(certificates / kind, NAMES, key_type=kind).authority
            for kind in ("ec", "rsa")
        ]
        context = ssl.create_default_context(cafile=authorities[0])
        context.load_verify_locations(authorities[1])
        for how in ("in clear", "TLS port", "STARTTLS"):
            server = TlsServer(data, certificates)  # memory that was freed would be used again
            weigh(server, context, how, 20)  # what the first ones need once
            weight = weigh(server, context, how, idlers)
            print(f"idle connection, {how}: {weight / 1024:.1f} KiB of resident memory")
            if how == "TLS port":
                measure(server, context, handshakes)
            server.stop()


def measure(server: TlsServer, context: ssl.SSLContext, count: int) -> None:
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context.maximum_version = version
        for name, port, resume in (
            ("EC P-256", server.ec, False),
            ("RSA 2048", server.rsa, False),
            ("resumed", server.ec, True),
        ):
            print(
                f"handshake, {version.name}, {name}:"
                f" {rate(server, port, context, count, resume):6.0f} per processor second"
            )
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
