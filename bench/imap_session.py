"""How many small commands one core answers, and what an idle connection weighs.

python -m bench.imap_session [CONNECTIONS] [IDLERS]

A real server process with real sockets on loopback; the clients are this process. Rates
are commands per second of the server's own processor time, so that the client beside it
does not count. An idle connection is logged in, has INBOX selected and is in IDLE; its
weight is what the resident memory of the server grew by, the kernel's sockets not counted.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.server.rig import MAIL, rig

COMMANDS = 60_000
LOGIN = b"a LOGIN ann@example.org secret\r\nb SELECT INBOX\r\n"


def serve(data: Path) -> None:
    """Serve the directory's accounts until standard input ends; tells port and pid."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import deferToThread

    from mailserver.server.imap.protocol import ImapFactory
    from tests.server.rig import assemble

    reactor: object = installed
    server = assemble(data, reactor)
    port = installed.listenTCP(  # type: ignore[attr-defined]
        0, ImapFactory(server.services), backlog=1024, interface="127.0.0.1"
    )
    server.monitor.max_sessions = server.monitor.max_per_account = 100_000
    server.monitor.logged_in = lambda session: True  # type: ignore[method-assign]
    print(port.getHost().port, flush=True)
    ended = deferToThread(sys.stdin.read)
    ended.addBoth(lambda _: Deferred.fromCoroutine(server.stop()))
    ended.addBoth(lambda _: installed.stop())  # type: ignore[attr-defined]
    installed.run()  # type: ignore[attr-defined]


class Server:
    """The server's process."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.imap_session", "--serve", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.communicate("", timeout=10)

    def connect(self) -> socket.socket:
        """A connection with INBOX selected."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(LOGIN)
        read_until(client, b"b OK")
        return client

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def read_until(client: socket.socket, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        octets = client.recv(65536)
        assert octets, seen
        seen = seen[-100:] + octets


def rate(server: Server, clients: list[socket.socket], batch: int) -> tuple[float, float]:
    """Commands per second of the server's processor and of the clock."""
    question = b"x NOOP\r\n" * batch
    answer = len(b"x OK NOOP completed\r\n") * batch
    left = {client.fileno(): COMMANDS // batch // len(clients) for client in clients}
    got = dict.fromkeys(left, 0)
    by_number = {client.fileno(): client for client in clients}
    poll = select.epoll()
    for client in clients:
        poll.register(client, select.EPOLLIN)
    busy, start = server.processor_seconds(), time.perf_counter()
    total = sum(left.values()) * batch
    for client in clients:
        client.sendall(question)
    while left:
        for number, _ in poll.poll():
            got[number] += len(by_number[number].recv(65536))
            if got[number] < answer:
                continue
            got[number] = 0
            left[number] -= 1
            if left[number]:
                by_number[number].sendall(question)
            else:
                del left[number]
    poll.close()
    return (
        total / (server.processor_seconds() - busy),
        total / (time.perf_counter() - start),
    )


def main(connections: int = 50, idlers: int = 1000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with rig(data) as made:
            made.append(MAIL)
        server = Server(data)
        clients = [server.connect() for _ in range(connections)]
        for batch in (1, 20):
            of_processor, of_clock = rate(server, clients, batch)
            print(
                f"NOOP with a mailbox, {connections} connections, {batch} at a time:"
                f" {of_processor:8.0f} per processor second, {of_clock:8.0f} per second"
            )
        before = server.resident()
        sleepers = []
        for _ in range(idlers):
            sleeper = server.connect()
            sleeper.sendall(b"c IDLE\r\n")
            read_until(sleeper, b"+ idling")
            sleepers.append(sleeper)
        weight = (server.resident() - before) / idlers
        print(f"idle connection: {weight / 1024:.1f} KiB of resident memory")
        clients[0].sendall(b"d APPEND INBOX {%d+}\r\n%b\r\n" % (len(MAIL), MAIL))
        start = time.perf_counter()
        busy = server.processor_seconds()
        for sleeper in sleepers:
            read_until(sleeper, b"EXISTS")
        print(
            f"{idlers} idlers told of a message: the last after"
            f" {(time.perf_counter() - start) * 1000:.0f} ms,"
            f" {(server.processor_seconds() - busy) * 1000:.0f} ms of processor"
        )
        for client in clients + sleepers:
            client.close()
        server.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
