"""What idle connections cost a server (R9): memory, processor, descriptors, and how soon
they hear of a message.

python -m bench.idle [PLAIN] [TLS] [ACCOUNTS]

A real server as `twistd` starts it, and clients that are logged in, have INBOX selected and
are in IDLE, evenly over the accounts. Memory is what the server's resident memory grew by for
each connection, the kernel's sockets not counted. Needs as many descriptors as connections.
"""

from __future__ import annotations

import os
import select
import smtplib
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path

import attrs

from tests.service.process import MAILCTL, PASSWORD, run
from tests.stress.site import HOST, Site, p99, serving

MESSAGE = b"From: a@example.org\r\nSubject: news\r\n\r\ntext\r\n"
STILL_SECONDS = 20.0
DELIVERED = 20
"""Accounts that get a message each."""

OPTIONS = {
    "service__imap__maxsessions": "20000",
    "service__maxsessionsperuser": "0",
    "service__maxsessionsperaddress": "0",
    "service__maxsessionsperaccount": "0",
    "auth__argon2__time": "1",
    "auth__argon2__memory": '"64KiB"',
    "log__level": '"info"',
}


def add_accounts(site: Site, number: int) -> list[str]:
    """Make accounts; gives their names."""
    names = [f"user{one}@example.org" for one in range(number)]
    table = "".join(f"{name},{PASSWORD}\n" for name in names)
    done = run(
        MAILCTL, "-c", str(site.config), "account", "import", "-", text=f"name,password\n{table}"
    )
    assert done.returncode == 0, done.stderr
    return names


def idler(site: Site, name: str, context: ssl.SSLContext | None) -> socket.socket:
    """A connection in IDLE."""
    service = "imap" if context is None else "imaps"
    client = socket.create_connection((HOST, site.process.ports[service]))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        client = context.wrap_socket(client)
    client.sendall(f'l LOGIN {name} "{PASSWORD}"\r\ns SELECT INBOX\r\ni IDLE\r\n'.encode())
    seen = b""
    while b"+ idling" not in seen:
        octets = client.recv(65536)
        assert octets, seen
        seen += octets
    return client


def processor_seconds(site: Site) -> float:
    """Of the server, since its start."""
    fields = Path(f"/proc/{site.process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pushes(site: Site, names: list[str], clients: dict[str, list[socket.socket]]) -> list[float]:
    """Deliver to some accounts; seconds from each 250 until each idler has read EXISTS."""
    waits: list[float] = []
    with smtplib.LMTP(HOST, site.process.ports["lmtp"]) as lmtp:
        for name in names[:DELIVERED]:
            poll = select.epoll()
            waiting = {client.fileno(): client for client in clients[name]}
            for number in waiting:
                poll.register(number, select.EPOLLIN)
            lmtp.sendmail("a@example.org", [name], MESSAGE)
            began = time.perf_counter()
            while waiting:
                for number, _ in poll.poll(10):
                    if b"EXISTS" in waiting[number].recv(4096):
                        waits.append(time.perf_counter() - began)
                        poll.unregister(number)
                        del waiting[number]
            poll.close()
    return waits


@attrs.frozen
class Figures:
    """What so many connections cost.

    Attributes:
        opening: seconds to open them.
        weight: octets of the server's memory each.
        descriptors: that there are beside their sockets.
        share: of a processor.
        waits: seconds until a message was known, ascending.
    """

    opening: float
    weight: float
    descriptors: int
    share: float
    waits: list[float]


def measure(number: int, accounts: int, *, with_tls: bool, still: float = STILL_SECONDS) -> Figures:
    """Measure one kind of connection."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), **OPTIONS) as site:
        names = add_accounts(site, accounts)
        context = None
        if with_tls:
            context = ssl.create_default_context(cafile=str(Path(folder) / "tls" / "ca.pem"))
            context.check_hostname = False
        for name in names:  # what the first session of each account costs is not asked for
            idler(site, name, context).close()
        memory, files = site.resident, site.descriptors
        clients: dict[str, list[socket.socket]] = {name: [] for name in names}
        began = time.perf_counter()
        for one in range(number):
            name = names[one % accounts]
            clients[name].append(idler(site, name, context))
        took = time.perf_counter() - began
        weight = (site.resident - memory) / number
        more = site.descriptors - files - number
        busy = processor_seconds(site)
        time.sleep(still)
        share = (processor_seconds(site) - busy) / still
        waits = sorted(pushes(site, names, clients))
        for some in clients.values():
            for client in some:
                client.close()
        return Figures(took, weight, more, share, waits)


def main(plain: int = 10_000, tls: int = 2_500, accounts: int = 100) -> None:
    """Measure both kinds and print the figures."""
    for number, kind in ((plain, "plain"), (tls, "TLS")):
        found = measure(number, accounts, with_tls=kind == "TLS")
        print(
            f"{number} {kind} connections in IDLE, {accounts} accounts,"
            f" opened in {found.opening:.0f} s: {found.weight / 1024:.1f} KiB each,"
            f" {found.descriptors} further descriptors, {found.share * 100:.2f} % of a"
            f" processor, a message is known after p50"
            f" {found.waits[len(found.waits) // 2] * 1000:.1f} ms, p99 {p99(found.waits):.1f} ms"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
