"""What a delivery by LMTP costs: the wire, the conversation, and all of it, durable.

python -m bench.lmtp [MESSAGES]

The last two run a real server and clients in one process over loopback, so the clients'
time is in the figures.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from mailserver.service.accounts import create_accounts
from mailserver.service.config import load
from mailserver.service.wiring import Server
from mailserver.store.directory.edit import NewAccount
from mailserver.wire.lmtp.grammar import parse_command
from mailserver.wire.lmtp.reader import NEED_DATA, DataPart, LmtpReader

ACCOUNTS = 16
MESSAGE = (
    b"From: Pat <pat@example.org>\r\nTo: lee@example.org\r\nSubject: figures\r\n"
    b"Message-ID: <1@example.org>\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n\r\n"
) + (b"x" * 70 + b"\r\n") * 110


def reader() -> None:
    """Message data through the reader: lines of 72 octets, and a stuffed dot in each."""
    for label, line in (("72 octets", b"x" * 70 + b"\r\n"), ("dots", b"..x\r\n")):
        octets = line * (16_000_000 // len(line)) + b".\r\n"
        unstuffing = LmtpReader(1000)
        unstuffing.start_data()
        taken = 0
        start = time.perf_counter()
        for at in range(0, len(octets), 65536):
            unstuffing.feed(octets[at : at + 65536])
            while (event := unstuffing.next()) is not NEED_DATA:
                if not isinstance(event, DataPart):
                    break
                taken += len(event.octets)
        rate = taken / (time.perf_counter() - start) / 1e6
        print(f"message data, lines of {label:40} {rate:10.0f} MB/s")


def grammar() -> None:
    """Command lines through the grammar."""
    for line in (
        b"MAIL FROM:<pat@example.org> SIZE=8000 BODY=8BITMIME",
        b"RCPT TO:<lee@example.org>",
    ):
        count = 20_000
        start = time.perf_counter()
        for _ in range(count):
            parse_command(line)
        cost = (time.perf_counter() - start) / count * 1e6
        print(f"{line.decode():62} {cost:6.1f} µs")


def client(port: int, account: int, messages: int) -> None:
    """Deliver so many messages, one after the other."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        replies = connection.makefile("rb")
        replies.readline()
        connection.sendall(b"LHLO bench\r\n")
        while replies.readline()[3:4] == b"-":
            pass
        envelope = b"MAIL FROM:<s@example.org>\r\nRCPT TO:<user%d@example.org>\r\n" % account
        for _ in range(messages):
            connection.sendall(envelope + b"DATA\r\n")
            assert [replies.readline()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
            connection.sendall(MESSAGE + b".\r\n")
            assert replies.readline()[:3] == b"250"


async def server(reactor: Any, messages: int) -> None:
    """Durable deliveries by one client, and by as many as there are accounts."""
    with tempfile.TemporaryDirectory() as data:
        others = {"service.imap.enable": "no", "service.pop.enable": "no"}
        options = {"local.datadirectory": data, "service.lmtp.port": "0", **others}
        serving = Server(load(None, options), reactor)
        serving.bind()
        serving.open()
        try:
            installation = serving.installation
            assert installation is not None
            new = [NewAccount(f"user{number}@example.org") for number in range(ACCOUNTS)]
            await create_accounts(installation.directory, installation.store, new, add_domains=True)
            port = serving.ports()["lmtp"]
            for clients in (1, ACCOUNTS):
                each = messages // clients
                start = time.perf_counter()
                await deferToThread(side_by_side, port, clients, each)
                rate = each * clients / (time.perf_counter() - start)
                label = f"deliveries of {len(MESSAGE)} octets, clients: {clients}"
                print(f"{label:62} {rate:6.0f} /s")
        finally:
            await serving.stopService()


def side_by_side(port: int, clients: int, messages: int) -> None:
    threads = [
        threading.Thread(target=client, args=(port, number, messages)) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def run(reactor: Any) -> None:
    reader()
    grammar()
    await server(reactor, int(sys.argv[1]) if len(sys.argv) > 1 else 2000)


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
