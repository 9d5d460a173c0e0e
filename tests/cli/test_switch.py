"""`mailctl start` and `stop`: a service of a running server goes and comes (SUN-7)."""

from __future__ import annotations

import imaplib
import json
import poplib
import signal
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailserver.cli.main import main
from tests.service.process import MAILCTL, PASSWORD, Process, run, write_config
from tests.service.test_start import TWISTD

HOST = "127.0.0.1"
NAME = "pat@example.org"


class Site:
    """A running server without POP3's TLS port, and its command."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = str(probe.getsockname()[1])
        self.config = write_config(
            folder, service__lmtp__port=port, service__lmtp__unixsocket='"lmtp.socket"'
        )
        self.socket = folder / "lmtp.socket"
        table = f"name,password\n{NAME},{PASSWORD}\n"
        run(MAILCTL, "-c", str(self.config), "account", "import", "-", text=table)
        self.process = Process.start(*TWISTD, str(self.config))

    def mailctl(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["-c", str(self.config), *arguments])
        assert done.exit_code == code, done.output
        return done.output

    def imap(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4(HOST, self.process.ports["imap"], timeout=10)
        client.login(NAME, PASSWORD)
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    assert made.process.stop() in (0, -signal.SIGTERM)


def test_a_service_goes_and_comes_back_at_its_port(site: Site) -> None:
    client = site.imap()
    port = site.process.ports["imap"]
    said = site.mailctl("stop", "imap")
    assert f"imap on {HOST} port {port} is stopped" in said
    assert b"* BYE this service is being stopped" in client.readline()
    with pytest.raises(ConnectionRefusedError):
        site.imap()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))  # it stays ours
    other_service = poplib.POP3(HOST, site.process.ports["pop3"], timeout=10)
    assert other_service.user(NAME).startswith(b"+OK")
    assert other_service.pass_(PASSWORD).startswith(b"+OK")
    site.mailctl("stop", "IMAP")  # once more is no fault
    rows = json.loads(site.mailctl("start", "imap", "--json"))
    assert all(row["running"] for row in rows)
    again = site.imap()
    assert again.noop()[0] == "OK"
    assert other_service.noop().startswith(b"+OK")  # was never touched
    other_service.quit()
    site.mailctl("start", "imap")
    assert again.noop()[0] == "OK"
    again.logout()


def test_a_port_of_the_configuration_comes_back_and_holds_nobody_up(site: Site) -> None:
    """That is bound once, unlike one that the kernel chose."""
    site.mailctl("stop", "lmtp")
    site.mailctl("start", "lmtp")
    for _ in range(2):
        with smtplib.LMTP(HOST, site.process.ports["lmtp"], timeout=10) as client:
            assert client.noop()[0] == 250
    assert site.imap().noop()[0] == "OK"


def test_a_unix_socket_goes_and_comes_back(site: Site) -> None:
    site.mailctl("stop", "lmtp")
    with pytest.raises(OSError, match=r"refused|No such file"):
        smtplib.LMTP(str(site.socket), timeout=10)
    site.mailctl("start", "lmtp")
    with smtplib.LMTP(str(site.socket), timeout=10) as client:
        assert client.sendmail("a@example.org", [NAME], "Subject: x\r\n\r\nx\r\n") == {}


def test_what_cannot_be_switched_says_why(site: Site, tmp_path: Path) -> None:
    assert "'imap', 'pop', 'lmtp'" in site.mailctl("stop", "smtp", code=2)
    idle = write_config(tmp_path, service__pop__enable="false")
    asked = CliRunner().invoke(main, ["-c", str(idle), "stop", "imap"])
    assert asked.exit_code == 75 and "no server runs on" in asked.output
    process = Process.start(*TWISTD, str(idle))
    try:
        asked = CliRunner().invoke(main, ["-c", str(idle), "start", "pop"])
        assert asked.exit_code == 65, asked.output
        assert "pop is not enabled; service.pop.enable" in asked.output
        stopped = CliRunner().invoke(main, ["-c", str(idle), "stop", "imap"])
        assert stopped.exit_code == 0
    finally:
        assert process.stop() in (0, -signal.SIGTERM)  # also with a service stopped
