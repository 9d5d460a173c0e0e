"""R1: what was acknowledged survives a SIGKILL of the server, again and again.

The server is the real one, in a process of its own; eight clients deliver to it by LMTP
and APPEND. They outlive it, so their journal is as good in memory as on disk.
"""

from __future__ import annotations

import hashlib
import imaplib
import itertools
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest

BIN = Path(sys.executable).parent
DOMAIN = "crash.example"
ACCOUNTS = [f"user{n}@{DOMAIN}" for n in range(4)]
PASSWORD = "a password"
START_SECONDS = 30.0
CONFIG = """
[local]
datadirectory = "{data}"
[log]
level = "warn"
[service]
maxsessionsperuser = 0
[service.imap]
address = ["127.0.0.1"]
port = {imap}
enablesslport = false
[service.lmtp]
address = ["127.0.0.1"]
port = {lmtp}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def message(tag: int) -> bytes:
    """A message that its number tells whole; one in four is kept in a file."""
    length = 150_000 if tag % 4 == 0 else 500 + tag % 3000
    line = b"%08d " % tag * 7 + b"\r\n"
    return b"Subject: tag %d\r\n\r\n" % tag + line * (length // len(line))


@attrs.frozen
class Entry:
    """One acknowledged message; `uid` and `validity` where the reply told them."""

    account: str
    tag: int
    uid: int | None = None
    validity: int | None = None


@attrs.define
class Site:
    """A data directory, the server that runs on it, and what it promised."""

    directory: Path
    imap: int = attrs.Factory(free_port)
    lmtp: int = attrs.Factory(free_port)
    process: subprocess.Popen[bytes] | None = None
    journal: list[Entry] = attrs.Factory(list)
    seen: dict[tuple[str, int], int] = attrs.Factory(dict)  # (account, UID) -> tag
    validity: dict[str, int] = attrs.Factory(dict)
    tags: Iterator[int] = attrs.Factory(lambda: itertools.count(1))

    @property
    def config(self) -> str:
        return str(self.directory / "mailserver.toml")

    def prepare(self) -> None:
        Path(self.config).write_text(
            CONFIG.format(data=self.directory / "data", imap=self.imap, lmtp=self.lmtp)
        )
        table = self.directory / "accounts.csv"
        rows = "".join(f"{name},{PASSWORD}\n" for name in ACCOUNTS)
        table.write_text("name,password\n" + rows)
        subprocess.run(
            [BIN / "mailctl", "-c", self.config, "account", "import", table],
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BIN / "twistd", "-n", "--pidfile=", "mailserver", "-c", self.config],
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.imap), 1) as client:
                    assert client.recv(4) == b"* OK"
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text()[-3000:])

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(20)

    @contextmanager
    def session(self, account: str) -> Iterator[imaplib.IMAP4]:
        client = imaplib.IMAP4("127.0.0.1", self.imap, timeout=20)
        try:
            client.login(account, PASSWORD)
            yield client
        finally:
            client.shutdown()


# -- clients ------------------------------------------------------------------------


def append(site: Site, account: str, begun: threading.Event) -> None:
    """Append until the server is gone."""
    with site.session(account) as client:
        while True:
            tag = next(site.tags)
            answer, data = client.append("INBOX", "", "", message(tag))
            found = re.search(rb"APPENDUID (\d+) (\d+)", data[0] or b"")
            assert answer == "OK" and found, data
            validity, uid = map(int, found.groups())
            site.journal.append(Entry(account, tag, uid, validity))
            begun.set()


def deliver(site: Site, accounts: list[str], begun: threading.Event) -> None:
    """Deliver to all of the accounts at once until the server is gone."""
    with (
        socket.create_connection(("127.0.0.1", site.lmtp), 20) as connection,
        connection.makefile("rb") as replies,
    ):

        def reply() -> bytes:
            while (line := replies.readline())[3:4] == b"-":
                pass
            if not line:
                raise ConnectionError
            return line

        def ask(line: str) -> bytes:
            connection.sendall(line.encode("ascii") + b"\r\n")
            return reply()

        assert reply()[:3] == b"220"
        assert ask("LHLO client.example")[:3] == b"250"
        while True:
            tag = next(site.tags)
            assert ask("MAIL FROM:<>")[:3] == b"250"
            for account in accounts:
                assert ask(f"RCPT TO:<{account}>")[:3] == b"250"
            assert ask("DATA")[:3] == b"354"
            connection.sendall(message(tag) + b".\r\n")
            for account in accounts:
                assert (line := reply())[:3] == b"250", line
                site.journal.append(Entry(account, tag))
            begun.set()


def load_until_killed(site: Site, seconds: float) -> None:
    """Let all clients work, kill the server amid it, and wait for them."""
    begun = threading.Event()
    faults: list[BaseException] = []

    def work(client: object, *arguments: object) -> None:
        try:
            client(site, *arguments, begun)  # type: ignore[operator]
        except (OSError, imaplib.IMAP4.abort):
            pass  # the server is gone
        except BaseException as fault:
            faults.append(fault)

    jobs: list[tuple[object, ...]] = [(append, account) for account in ACCOUNTS]
    jobs += [(deliver, [ACCOUNTS[n], ACCOUNTS[(n + 1) % 4]]) for n in range(4)]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    time.sleep(seconds)
    site.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert not faults, faults


# -- checks -------------------------------------------------------------------------


def number_of(client: imaplib.IMAP4, name: str) -> int:
    """A number that SELECT told."""
    value = client.untagged_responses[name][0]
    assert isinstance(value, bytes)
    return int(value)


def check(site: Site) -> None:
    """Hold what the running server shows against the journal and what it showed before."""
    for account in ACCOUNTS:
        with site.session(account) as client:
            client.select("INBOX", readonly=True)
            validity, uid_next = number_of(client, "UIDVALIDITY"), number_of(client, "UIDNEXT")
            assert site.validity.setdefault(account, validity) == validity
            _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
        found: dict[int, int] = {}
        for item in data:
            if not isinstance(item, tuple):
                continue
            uid_text = re.search(rb"UID (\d+)", item[0])
            tag_text = re.search(rb"^Subject: tag (\d+)", item[1], re.MULTILINE)
            assert uid_text and tag_text
            uid, tag = int(uid_text[1]), int(tag_text[1])
            assert item[1].endswith(message(tag)), f"{account} {uid} is not whole"
            assert uid < uid_next
            assert site.seen.setdefault((account, uid), tag) == tag, "a UID was used twice"
            found[uid] = tag
        gone = {uid for of, uid in site.seen if of == account} - found.keys()
        assert not gone, "what was there before is lost"
        tags = list(found.values())
        assert len(tags) == len(set(tags)), "a message stands there twice"
        for entry in site.journal:
            if entry.account == account:
                assert entry.tag in tags, f"{entry} was acknowledged and is lost"
                if entry.uid is not None:
                    assert (found[entry.uid], validity) == (entry.tag, entry.validity)


def check_data(site: Site) -> None:
    """Look at the data of the stopped server: databases whole, counters right, files there."""
    for path in (site.directory / "data" / "accounts").glob("??/*/mail.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            kept = "SELECT number, messages, size, uid_next - 1, highest_modseq FROM mailbox"
            for number, *counters in database.execute(kept + " WHERE messages").fetchall():
                [counted] = database.execute(
                    "SELECT count(*), sum(size), max(uid), max(modseq) FROM place"
                    " WHERE mailbox = ?",
                    (number,),
                )
                assert counters == list(counted)
            assert (
                database.execute("SELECT storage_used, message_used FROM quota_root").fetchone()
                == database.execute("SELECT sum(size), count(*) FROM place").fetchone()
            )
            digests = database.execute("SELECT digest FROM message WHERE digest IS NOT NULL")
            for (digest,) in digests.fetchall():
                octets = (path.parent / "files" / digest[:2] / digest).read_bytes()
                assert hashlib.sha256(octets).hexdigest() == digest


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.prepare()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_nothing_acknowledged_is_lost(site: Site, request: pytest.FixtureRequest) -> None:  # R1
    rounds = 40 if request.config.getoption("--long") else 5
    dice = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", "1"))
    for _ in range(rounds):
        site.start()
        check(site)
        load_until_killed(site, dice.uniform(0.05, 1.0))
    site.start()
    check(site)
    site.end(signal.SIGTERM)
    assert not list(site.directory.glob("data/accounts/*/*/mail.sqlite-wal")), "a clean end"
    check_data(site)
    assert len(site.journal) > 10 * rounds
    print(f"{len(site.journal)} acknowledged in {rounds} rounds, all there")
