"""R19: an hour (or any time) of mixed load on a real server; memory and descriptors stay flat.

    python -m tests.soak.soak --seconds 3600 --json soak.json

Clients log in, select, deliver, append, fetch, search, flag, copy, move, expunge, idle and go
away, politely or not, on mailboxes that are kept at some hundred messages, so that what the
server has to know does not grow. Every ten seconds its resident memory and descriptors are
noted. The slope is that of a straight line through the second half of the notes: the first
half is for caches to fill.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import os
import random
import smtplib
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from tests.live.server import Server, start
from tests.mailgen import message

ACCOUNTS = 8
CLIENTS = 6
KEEP = 300
"""Messages of a mailbox above which clients expunge."""

PAUSE = 0.06
"""Seconds between two commands of a client, on average."""

SAMPLE_SECONDS = 10.0


@attrs.define
class Run:
    """What a soak found.

    Attributes:
        commands: how many of each kind were answered OK.
        faults: what clients saw and should not have.
        samples: (seconds since the start, resident KiB, descriptors).
        tracebacks: lines of the server's log that begin one.
    """

    commands: Counter[str] = attrs.Factory(Counter)
    faults: list[str] = attrs.Factory(list)
    samples: list[tuple[float, int, int]] = attrs.Factory(list)
    tracebacks: int = 0

    @property
    def slope(self) -> float:
        """MiB in ten minutes, over the second half."""
        half = self.samples[len(self.samples) // 2 :]
        times = [seconds for seconds, _, _ in half]
        sizes = [size for _, size, _ in half]
        middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((t - middle) ** 2 for t in times) or 1.0
        per_second = (
            sum((t - middle) * (s - mean) for t, s in zip(times, sizes, strict=True)) / spread
        )
        return per_second * 600 / 1024

    @property
    def descriptors(self) -> tuple[int, int]:
        """Fewest and most in the second half."""
        half = [count for _, _, count in self.samples[len(self.samples) // 2 :]]
        return min(half), max(half)


def soak(server: Server, seconds: float, seed: int = 1) -> Run:
    """Load a server for some time."""
    domain = server.demo_account()[0].partition("@")[2]
    accounts = [server.new_account(f"soak{number}@{domain}") for number in range(ACCOUNTS)]
    run = Run()
    until = time.monotonic() + seconds
    clients = [
        threading.Thread(
            target=_client, args=(server, accounts, run, until, random.Random(seed + number))
        )
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    started = time.monotonic()
    pid = int(server.info["pid"])
    while (left := until - time.monotonic()) > 0:
        run.samples.append((time.monotonic() - started, resident(pid), descriptors(pid)))
        time.sleep(min(SAMPLE_SECONDS, max(0.05, seconds / 40), left))
    for client in clients:
        client.join(60)
    run.samples.append((time.monotonic() - started, resident(pid), descriptors(pid)))
    log = (server.data / "server.log").read_text("utf-8", "replace")
    run.tracebacks = log.count("Traceback")
    return run


def resident(pid: int) -> int:
    """KiB of memory that a process has of its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def descriptors(pid: int) -> int:
    """Descriptors that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _client(
    server: Server,
    accounts: list[tuple[str, str]],
    run: Run,
    until: float,
    chance: random.Random,
) -> None:
    while time.monotonic() < until:
        try:
            _session(server, chance.choice(accounts), run, until, chance)
        except (OSError, imaplib.IMAP4.error, smtplib.SMTPException, AssertionError) as error:
            run.faults.append(repr(error)[:300])
            time.sleep(1)


def _session(
    server: Server, account: tuple[str, str], run: Run, until: float, chance: random.Random
) -> None:
    """One login with some dozens of commands."""
    client: imaplib.IMAP4
    if chance.random() < 0.5:
        client = imaplib.IMAP4_SSL(
            server.host, server.port("imaps"), ssl_context=server.tls(), timeout=60
        )
    else:
        client = imaplib.IMAP4(server.host, server.port("imap"), timeout=60)
    client.login(*account)
    mailbox = chance.choice(["INBOX", "Archive", "Sent"])
    count = int(_ok(client.select(mailbox))[0])
    commands = (_deliver, _append, _fetch, _fetch_body, _search, _flag, _copy, _move, _list, _idle)
    for _ in range(chance.randrange(10, 60)):
        if time.monotonic() > until:
            break
        command = chance.choice(commands)
        command(server, client, account, chance)
        run.commands[command.__name__.lstrip("_")] += 1
        time.sleep(chance.expovariate(1 / PAUSE))
    count = int(_ok(client.select(mailbox))[0])
    if count > KEEP:
        _ok(client.store(f"1:{count - KEEP // 2}", "+FLAGS.SILENT", "(\\Deleted)"))
        _ok(client.expunge())
        run.commands["expunge"] += 1
    if chance.random() < 0.8:
        client.logout()
    else:
        client.shutdown()


def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
    assert answer[0] == "OK", answer
    return answer[1]


def _deliver(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    with smtplib.LMTP(server.host, server.port("lmtp"), timeout=60) as lmtp:
        lmtp.sendmail("soak@example.org", [account[0]], message(chance.randrange(10_000)))


def _append(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    octets = message(chance.randrange(10_000))
    if chance.random() < 0.02:
        octets += b"x" * 200_000 + b"\r\n"
    _ok(client.append("Sent", "(\\Seen)", None, octets))  # type: ignore[arg-type]


def _fetch(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    _ok(client.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE)"))


def _fetch_body(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    _ok(client.uid("FETCH", f"{chance.randrange(1, 5000)}:*", "(BODY.PEEK[TEXT]<0.2000>)"))


def _search(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    key = chance.choice(['SUBJECT "re"', "UNSEEN", 'BODY "the"', "SINCE 1-Jan-2020 LARGER 2000"])
    _ok(client.search(None, key))


def _flag(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    sign = chance.choice("+-")
    flag = chance.choice(["\\Seen", "\\Flagged", "$Work", "blue"])
    _ok(client.uid("STORE", f"{chance.randrange(1, 5000)}:*", f"{sign}FLAGS", f"({flag})"))


def _copy(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    _ok(client.uid("COPY", "*", "Archive"))


def _move(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    _ok(client.uid("MOVE", "*", chance.choice(["Archive", "INBOX"])))


def _list(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    _ok(client.list())
    _ok(client.status("INBOX", "(MESSAGES UNSEEN)"))


def _idle(
    server: Server, client: imaplib.IMAP4, account: tuple[str, str], chance: random.Random
) -> None:
    client.send(b"x1 IDLE\r\n")
    while not client.readline().startswith(b"+ "):
        pass
    _deliver(server, client, account, chance)
    client.send(b"DONE\r\n")
    while not client.readline().startswith(b"x1 OK"):
        pass


def main() -> int:
    """Run a soak from the command line; 0 if it passes R19."""
    parser = argparse.ArgumentParser(description="R19: mixed load; memory and descriptors flat")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = start(Path(directory) / "data")
        try:
            run = soak(server, given.seconds, given.seed)
        finally:
            code = server.stop()
    result = {
        "seconds": given.seconds,
        "commands": dict(run.commands),
        "faults": run.faults[:50],
        "tracebacks": run.tracebacks,
        "slope_mib_per_10_min": round(run.slope, 3),
        "descriptors_min_max": run.descriptors,
        "exit_code": code,
        "samples": run.samples,
    }
    if given.json:
        given.json.write_text(json.dumps(result))
    print(json.dumps({name: value for name, value in result.items() if name != "samples"}))
    return int(bool(run.faults or run.tracebacks or code or run.slope >= 1))


if __name__ == "__main__":
    sys.exit(main())
