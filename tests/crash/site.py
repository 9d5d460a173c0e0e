"""The real server on a data directory of its own, to be killed, cut off and started again."""

from __future__ import annotations

import imaplib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

BIN = Path(sys.executable).parent
DOMAIN = "crash.example"
ACCOUNTS = tuple(f"user{n}@{DOMAIN}" for n in range(4))
PASSWORD = "a password"
START_SECONDS = 30.0
CONFIG = """
imap_idle_notify_interval = 1
[local]
datadirectory = "{data}"
[log]
level = "warn"
[service]
maxsessionsperuser = 0
maxsessionsperaddress = 0
[service.imap]
address = ["127.0.0.1"]
port = {imap}
enablesslport = false
[service.pop]
enable = false
[service.lmtp]
address = ["127.0.0.1"]
port = {lmtp}
"""


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.define
class Site:
    """A data directory and the server that runs on it.

    Attributes:
        directory: for configuration and log.
        data: the data directory, which may be on another file system.
        environment: of the server, beside that of the tests.
        started_in: seconds from each start to the first greeting.
    """

    directory: Path
    data: Path = attrs.Factory(lambda self: self.directory / "data", takes_self=True)
    environment: Mapping[str, str] = attrs.field(factory=dict)
    imap: int = attrs.Factory(free_port)
    lmtp: int = attrs.Factory(free_port)
    process: subprocess.Popen[bytes] | None = None
    started_in: list[float] = attrs.Factory(list)

    def prepare(self, accounts: str = "") -> None:
        """Write the configuration and make the accounts.

        Args:
            accounts: what `mailctl account import` takes, as CSV; by default `ACCOUNTS`.
        """
        self.config.write_text(CONFIG.format(data=self.data, imap=self.imap, lmtp=self.lmtp))
        rows = "".join(f"{name},{PASSWORD}\n" for name in ACCOUNTS)
        table = self.directory / "accounts.csv"
        table.write_text(accounts or "name,password\n" + rows)
        self.mailctl("account", "import", str(table))

    @property
    def config(self) -> Path:
        return self.directory / "mailserver.toml"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8", "replace")

    def mailctl(self, *arguments: str) -> str:
        """Run the administrator's command; returns what it printed."""
        done = subprocess.run(
            [BIN / "mailctl", "-c", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def verify(self) -> None:
        """Fail unless `mailctl verify` finds nothing that has to be done."""
        found: dict[str, Any] = json.loads(self.mailctl("verify", "--json"))
        assert found["clean"], found

    def start(self) -> None:
        """Start the server and wait for its greeting."""
        began = time.monotonic()
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BIN / "twistd", "-n", "--pidfile=", "mailserver", "-c", self.config],
                cwd=self.directory,
                env=dict(os.environ, **self.environment),
                stdout=log,
                stderr=log,
            )
        while time.monotonic() < began + START_SECONDS and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.imap), 1) as client:
                    assert client.recv(4) == b"* OK"
            except OSError:
                time.sleep(0.01)
            else:
                self.started_in.append(time.monotonic() - began)
                return
        raise AssertionError("the server did not start:\n" + self.log[-3000:])

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal and wait for the server's end (R18: 10 s)."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(20)

    def abandon(self) -> None:
        """Kill the server if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)

    @contextmanager
    def session(self, account: str) -> Iterator[imaplib.IMAP4]:
        """A client that has logged in."""
        client = imaplib.IMAP4("127.0.0.1", self.imap, timeout=30)
        try:
            client.login(account, PASSWORD)
            yield client
        finally:
            client.shutdown()

    def directory_of(self, account: str) -> Path:
        """Where the data of an account lies."""
        with closing(sqlite3.connect(self.data / "directory.sqlite")) as database:
            query = "SELECT id FROM account WHERE name = ?"
            [(identifier,)] = database.execute(query, (account,)).fetchall()
        [found] = self.data.glob(f"accounts/*/{identifier}")
        return found
