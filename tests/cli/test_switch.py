"""`mailctl start` and `stop`: a service of a running server goes and comes (SUN-7)."""

from __future__ import annotations

import json
import poplib
import signal
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import Site, ask
from tests.service.process import HOST, PASSWORD, TWISTD, Process, write_config

NAME = "pat@example.org"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = str(probe.getsockname()[1])
    made = Site(
        tmp_path_factory.mktemp("site"),
        NAME,
        service__lmtp__port=port,
        service__lmtp__unixsocket='"lmtp.socket"',
    )
    yield made
    assert made.process.stop() in (0, -signal.SIGTERM)


def test_a_service_goes_and_comes_back_at_its_port(site: Site) -> None:
    client = site.log_in(NAME)
    port = site.process.ports["imap"]
    said = site.ask("stop", "imap")
    assert f"imap on {HOST} port {port} is stopped" in said
    assert b"* BYE this service is being stopped" in client.readline()
    with pytest.raises(ConnectionRefusedError):
        site.log_in(NAME)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))  # it stays ours
    other_service = poplib.POP3(HOST, site.process.ports["pop3"], timeout=10)
    assert other_service.user(NAME).startswith(b"+OK")
    assert other_service.pass_(PASSWORD).startswith(b"+OK")
    site.ask("stop", "IMAP")  # once more is no fault
    rows = json.loads(site.ask("start", "imap", "--json"))
    assert all(row["running"] for row in rows)
    again = site.log_in(NAME)
    assert again.noop()[0] == "OK"
    assert other_service.noop().startswith(b"+OK")  # was never touched
    other_service.quit()
    site.ask("start", "imap")
    assert again.noop()[0] == "OK"
    again.logout()


def test_a_port_of_the_configuration_comes_back_and_holds_nobody_up(site: Site) -> None:
    """That is bound once, unlike one that the kernel chose."""
    site.ask("stop", "lmtp")
    site.ask("start", "lmtp")
    for _ in range(2):
        with smtplib.LMTP(HOST, site.process.ports["lmtp"], timeout=10) as client:
            assert client.noop()[0] == 250
    assert site.log_in(NAME).noop()[0] == "OK"


def test_a_unix_socket_goes_and_comes_back(site: Site) -> None:
    site.ask("stop", "lmtp")
    with pytest.raises(OSError, match=r"refused|No such file"):
        smtplib.LMTP(str(site.config.with_name("lmtp.socket")), timeout=10)
    site.ask("start", "lmtp")
    with smtplib.LMTP(str(site.config.with_name("lmtp.socket")), timeout=10) as client:
        assert client.sendmail("a@example.org", [NAME], "Subject: x\r\n\r\nx\r\n") == {}


def test_what_cannot_be_switched_says_why(site: Site, tmp_path: Path) -> None:
    assert "'imap', 'pop', 'lmtp'" in site.ask("stop", "smtp", code=2)
    idle = write_config(tmp_path, service__pop__enable="false")
    assert "no server runs on" in ask(idle, "stop", "imap", code=75)
    process = Process.start(*TWISTD, str(idle))
    try:
        assert "pop is not enabled; service.pop.enable" in ask(idle, "start", "pop", code=65)
        ask(idle, "stop", "imap")
    finally:
        assert process.stop() in (0, -signal.SIGTERM)  # also with a service stopped
