"""A server that runs beside the commands which ask and tell it."""

from __future__ import annotations

import imaplib
import socket
from pathlib import Path

from click.testing import CliRunner

from mailserver.cli.main import main
from tests.service.process import HOST, MAILCTL, PASSWORD, TWISTD, Process, run, write_config


def ask(config: Path, *arguments: str, code: int = 0) -> str:
    """What `mailctl` says, run in this process."""
    done = CliRunner().invoke(main, ["-c", str(config), *arguments])
    assert done.exit_code == code, done.output
    return done.output


class Site:
    """A running server and its command.

    Args:
        folder: for its configuration and data.
        names: accounts, all with `PASSWORD`.
        options: of the configuration, as `write_config` takes them.
    """

    def __init__(self, folder: Path, *names: str, **options: str) -> None:
        self.config = write_config(folder, **options)
        rows = "".join(f"{name},{PASSWORD}\n" for name in names)
        self.mailctl("account", "import", "-", text=f"name,password\n{rows}")
        self.process = Process.start(*TWISTD, str(self.config))

    def mailctl(self, *arguments: str, text: str = "", code: int = 0) -> str:
        done = run(MAILCTL, "-c", str(self.config), *arguments, text=text)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout or done.stderr

    def ask(self, *arguments: str, code: int = 0) -> str:
        """The same without a process of its own, for commands that need no reactor."""
        return ask(self.config, *arguments, code=code)

    def connect(self, service: str, address: str = HOST) -> socket.socket:
        client = socket.create_connection((HOST, self.process.ports[service]), 10, (address, 0))
        client.settimeout(10)
        return client

    def log_in(self, name: str) -> imaplib.IMAP4:
        client = imaplib.IMAP4(HOST, self.process.ports["imap"], timeout=10)
        client.login(name, PASSWORD)
        client.select()
        return client
