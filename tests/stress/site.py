"""A real server, and clients that are many: each from a loopback address of its choice."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs

from mailserver.service.tls import ensure_self_signed
from tests.service.process import MAILCTL, PASSWORD, TWISTD, Process, run, write_config

HOST = "127.0.0.1"
ACCOUNTS = ("ann@example.org", "bob@example.org")
PROBE = "127.0.99.1"
"""Where the client lives that is to be served whatever the others do."""

PATIENCE = 60.0
"""Seconds for which a client waits for an answer that must come."""


@attrs.define
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *lines: str) -> bytes:
        """Send lines; gives the next line of the server."""
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        return await self.line()

    async def line(self) -> bytes:
        """The next line; empty at the end, however the server ended it."""
        try:
            return await asyncio.wait_for(self.reader.readline(), PATIENCE)
        except ConnectionError:
            return b""

    async def answer(self, tag: str, command: str) -> bytes:
        """Send an IMAP command; gives its tagged answer, or the last line before the end."""
        line = await self.say(f"{tag} {command}")
        last = line
        while line and not line.startswith(f"{tag} ".encode()):
            last, line = line, await self.line()
        return line or last

    async def log_in(self, name: str = ACCOUNTS[0], password: str = PASSWORD) -> bytes:
        """LOGIN; gives the tagged answer."""
        return await self.answer("l", f'LOGIN {name} "{password}"')

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE * 10)
        except ConnectionError:
            return b""

    def close(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()


@attrs.define
class Site:
    """A running server."""

    process: Process
    config: Path

    async def connect(self, address: str = HOST, service: str = "imap", room: int = 0) -> Client:
        """Open a connection; what the server says first is still to be read.

        Args:
            address: the client's own.
            room: octets that the client takes unread; 0 for the usual.
        """
        reader, writer = await asyncio.open_connection(
            HOST,
            self.process.ports[service],
            local_addr=(address, 0),
            limit=room or 2**16,
        )
        return Client(reader, writer)

    @property
    def resident(self) -> int:
        """Octets of memory."""
        pages = Path(f"/proc/{self.process.popen.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.popen.pid}/fd"))

    @property
    def tracebacks(self) -> int:
        return sum("Traceback" in line for line in self.process.log)

    @asynccontextmanager
    async def watched(self, pause: float = 0.02) -> AsyncIterator[list[float]]:
        """Log in, do nothing and leave, over and over, from an address of its own; gives
        the seconds that each visit took. None of them may fail."""
        visits: list[float] = []
        over = False

        async def visit() -> None:
            while not over:
                began = time.monotonic()
                client = await self.connect(PROBE)
                greeting = await client.line()
                assert greeting.startswith(b"* OK "), greeting
                answer = await client.log_in(ACCOUNTS[1])
                assert answer.startswith(b"l OK "), answer
                assert (await client.answer("n", "NOOP")).startswith(b"n OK ")
                visits.append(time.monotonic() - began)
                client.close()
                await asyncio.sleep(pause)

        first = await self.connect(PROBE)
        await first.line()
        await first.log_in(ACCOUNTS[1])  # a password that is checked once is known
        first.close()
        visiting = asyncio.create_task(visit())
        try:
            yield visits
            if visiting.done():
                visiting.result()
        finally:
            over = True  # Python 3.11's wait_for may lose what `cancel` says
            visiting.cancel()
            await asyncio.gather(visiting, return_exceptions=True)


def p99(seconds: list[float]) -> float:
    """Of at least one value: the 99th percentile; in milliseconds."""
    many = seconds if len(seconds) > 1 else seconds * 2
    return round(statistics.quantiles(many, n=100, method="inclusive")[98] * 1000, 1)


def addresses(number: int, net: int) -> Iterator[str]:
    """So many addresses of hosts, over and over, all in 127.0.net."""
    return itertools.cycle([f"127.0.{net}.{one}" for one in range(1, number + 1)])


@contextmanager
def serving(folder: Path, descriptors: int = 0, **options: Any) -> Iterator[Site]:
    """Start a server and stop it at the end.

    Args:
        descriptors: files that it may open; 0 for as many as we may.
        options: of the configuration, `__` for the dots.
    """
    ensure_self_signed(folder / "tls", ["localhost", HOST])
    config = write_config(
        folder, tls__certificate='"tls/cert.pem"', tls__key='"tls/key.pem"', **options
    )
    table = "".join(f"{name},{PASSWORD}\n" for name in ACCOUNTS)
    run(MAILCTL, "-c", str(config), "account", "import", "-", text=f"name,password\n{table}")
    limit = ("prlimit", f"--nofile={descriptors}") if descriptors else ()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    site = Site(Process.start(*limit, *TWISTD, str(config)), config)
    try:
        yield site
    finally:
        if site.process.popen.poll() is None:  # a scenario may have started it anew
            site.process.stop(20)
