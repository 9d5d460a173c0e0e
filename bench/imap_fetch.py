"""What IMAP commands on a large mailbox cost, in the server's own time.

python -m bench.imap_fetch [MESSAGES] [--profile COMMAND-NUMBER]

Real store, session and writer in one process; the client is a transport that counts.
Columns: the first run, the median of the others, and the least that the reactor's thread
computed, from which the rate is; that one does not depend on what else the machine does.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from tests.mailgen import message
from tests.server.rig import Client, Rig, rig

RUNS = 7
BIG = 24_000
"""Octets that every fourth message is padded to, as mail with attachments is."""

COMMANDS = (
    "FETCH 1:* (UID FLAGS)",
    "FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)",
    "FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])",
    "FETCH 1:* (UID BODY.PEEK[HEADER])",
    "FETCH 1:2000 (UID BODY.PEEK[])",
    "FETCH 1:2000 (UID BODY.PEEK[1])",
    "FETCH 1:2000 (UID BINARY.PEEK[1])",
    "FETCH 5000:5049 (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)",
    "FETCH 5000 (UID FLAGS ENVELOPE)",
    "SEARCH UNSEEN",
    "SEARCH FLAGGED",
    'SEARCH FROM "berg"',
    'SEARCH BODY "schedule"',
    'SEARCH TEXT "nowhere to be found"',
    "STORE 1:* +FLAGS ($Bench)",
    "STORE 1:* -FLAGS.SILENT ($Bench)",
    "COPY 1:1000 Archive",
)


class Sink:
    """Replaces a test transport's `write`: counts, and keeps the end."""

    def __init__(self) -> None:
        self.size = 0
        self.writes = 0
        self.tail = b""

    def write(self, octets: bytes) -> None:
        self.size += len(octets)
        self.writes += 1
        self.tail = octets[-200:] if len(octets) >= 200 else (self.tail + octets)[-200:]


def fill(server: Rig, count: int) -> int:
    """Put messages into INBOX; gives their octets."""
    store, who = server.store, server.principal()
    total = 0

    async def some(first: int, last: int) -> int:
        target = await store.find(who, "INBOX")
        batch, size = [], 0
        for seed in range(first, last):
            octets = message(seed)
            if seed % 4 == 0 and len(octets) < BIG:
                octets += (b"%076d\r\n" % seed) * ((BIG - len(octets)) // 78)
            spool = store.spool()
            spool.write(octets)
            flags = Flags.of(*(["\\Seen"] * (seed % 3 > 0) + ["\\Flagged"] * (seed % 17 == 0)))
            batch.append(
                (await spool.finish(), flags, InternalDate(1_600_000_000 + seed * 977, 60))
            )
            size += len(octets)
        await store.append(who, target.ref, batch)
        return size

    for first in range(0, count, 500):
        total += server.loop.result(some(first, min(first + 500, count)))
    return total


def timed(server: Rig, client: Client, sink: Sink, command: str) -> tuple[float, float, int]:
    """Milliseconds, those of the reactor's thread alone, and octets of one command."""
    before = sink.size
    sink.tail = b""
    started, used = time.perf_counter(), time.thread_time()
    client.send(b"x %b\r\n" % command.encode())
    server.loop.until(lambda: b"\r\nx " in b"\r\n" + sink.tail and sink.tail.endswith(b"\r\n"))
    spent, used = time.perf_counter() - started, time.thread_time() - used
    answer = sink.tail[(b"\r\n" + sink.tail).rindex(b"\r\nx ") :]
    assert answer.startswith(b"x OK"), answer
    return spent * 1e3, used * 1e3, sink.size - before


EACH = (
    "FETCH {n} (UID BODY.PEEK[])",
    "FETCH {n} (UID FLAGS ENVELOPE)",
    "UID FETCH {n} FLAGS",
    "UID STORE {n} +FLAGS.SILENT (\\Answered)",
    "UID SEARCH UID {n} UNSEEN",
)
"""Run for one message after the other."""


def each(server: Rig, client: Client, sink: Sink, command: str, count: int) -> None:
    """Print how many of a command are run in a second."""
    started, used = time.perf_counter(), time.thread_time()
    for n in range(1, count + 1):
        timed(server, client, sink, command.format(n=n))
    spent, used = time.perf_counter() - started, time.thread_time() - used
    print(f"{count / spent:8.0f} per s, {used / count * 1e6:6.0f} µs computed  {command}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    profiled = int(sys.argv[3]) if "--profile" in sys.argv else None
    with tempfile.TemporaryDirectory() as directory, rig(Path(directory)) as server:
        started = time.perf_counter()
        size = fill(server, count)
        spent = time.perf_counter() - started
        print(f"{count} messages of {size / 1e6:.1f} MB, put in at {count / spent:.0f} per s")
        client = server.client(mailbox="INBOX")
        sink = Sink()
        client.transport.write = sink.write  # type: ignore[method-assign]
        for number, command in enumerate(COMMANDS if count >= 10_000 else COMMANDS[:4]):
            if profiled not in (None, number):
                continue
            profile = cProfile.Profile()
            first, _, octets = timed(server, client, sink, command)
            if profiled is not None:
                profile.enable()
            runs = [timed(server, client, sink, command) for _ in range(RUNS)]
            profile.disable()
            median = sorted(run[0] for run in runs)[RUNS // 2]
            least = min(run[1] for run in runs)
            rate = octets / least / 1e3
            print(
                f"{first:8.1f} {median:8.2f} {least:8.2f} ms {rate:5.0f} MB/s {octets:9d}"
                f"  {command}"
            )
            if profiled is not None:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        if profiled is None:
            for command in EACH:
                each(server, client, sink, command, min(count, 2000))


if __name__ == "__main__":
    main()
