"""`mailctl demo` in a process of its own: what it prints, writes, keeps and cleans up."""

from __future__ import annotations

import imaplib
import json
import signal
import smtplib
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailserver.service.demo import PORTS, _host_names, _password
from mailserver.service.demo_mail import ACCOUNTS, messages
from tests.live.server import free_port_base
from tests.service.process import BIN, MAILCTL, run


@attrs.define
class Running:
    popen: subprocess.Popen[str]
    output: list[str]

    def state(self, data: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((data / "demo.json").read_text())
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """R18: within 10 s."""
        self.popen.send_signal(number)
        try:
            return self.popen.wait(10)
        finally:
            self.popen.kill()
            assert self.popen.stdout is not None
            self.popen.stdout.close()


def start(data: Path, base: int) -> Running:
    popen = subprocess.Popen(
        [MAILCTL, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            "PATH": str(BIN),
            "MAILSERVER_DATA": str(data),
            "MAILSERVER_PORT_BASE": str(base),
            "COLUMNS": "100",
            "PYTHONIOENCODING": "utf-8",
        },
    )
    output: list[str] = []
    watchdog = threading.Timer(60, popen.kill)
    watchdog.start()
    assert popen.stdout is not None
    for line in popen.stdout:
        output.append(line)
        if line.startswith("Ctrl-C"):
            break
    watchdog.cancel()
    assert output and output[-1].startswith("Ctrl-C"), "".join(output)
    return Running(popen, output)


def test_start_use_and_start_again(tmp_path: Path) -> None:
    """SUN-2, SUN-3: the table stands when every listener answers; the second start keeps
    data and passwords, and what was deleted stays deleted."""
    data, base = tmp_path / "var", free_port_base()
    running = start(data, base)
    state = running.state(data)
    printed = "".join(running.output)
    assert state["host"] == "127.0.0.1"
    assert state["pid"] == running.popen.pid
    assert state["services"] == {name: base + offset for name, (_, offset) in PORTS.items()}
    for word in (*state["services"], *map(str, state["services"].values()), state["ca_file"]):
        assert word in printed
    assert [account["name"] for account in state["accounts"]] == [name for name, _ in ACCOUNTS]
    for account in state["accounts"]:
        assert account["name"] in printed
        assert account["password"] in printed

    trust = ssl.create_default_context(cafile=state["ca_file"])
    name, password = state["accounts"][0].values()
    with imaplib.IMAP4_SSL("localhost", state["services"]["imaps"], ssl_context=trust) as client:
        client.login(name, password)
        expected = {}
        for message in messages():
            if message.account == name:
                expected[message.mailbox] = expected.get(message.mailbox, 0) + 1
        for mailbox in ("INBOX", "Sent", "Junk", "Archive/2024", "&ZcWITA-/&k4xQCQ-"):
            [count] = client.select(mailbox)[1]
            plain = "旅行/鎌倉" if mailbox.startswith("&") else mailbox
            assert int(count or 0) == expected[plain]
        client.select("Junk")
        client.store("1:*", "+FLAGS", "\\Deleted")
        client.expunge()
    with smtplib.LMTP("127.0.0.1", state["services"]["lmtp"], timeout=30) as lmtp:
        lmtp.sendmail("s@example.org", [name], b"Subject: new\r\n\r\n")
    assert running.end() == 0
    assert not (data / "demo.json").exists()

    # The same data under other ports, ended by Ctrl-C.
    base = free_port_base()
    running = start(data, base)
    again = running.state(data)
    assert again["accounts"] == state["accounts"]
    assert again["services"]["imap"] == base + 143
    with imaplib.IMAP4("127.0.0.1", again["services"]["imap"]) as client:
        client.starttls(trust_of(again))
        client.login("aiko", password)  # SUN-13
        assert client.select("INBOX")[1] == [b"%d" % (expected["INBOX"] + 1)]
        assert client.select("Junk")[1] == [b"0"]
    assert running.end(signal.SIGINT) == 0
    assert not (data / "demo.json").exists()
    assert password not in (data / "server.log").read_text()  # S13


def trust_of(state: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=state["ca_file"])
    context.check_hostname = False  # imaplib connects by address
    return context


def test_two_demos(tmp_path: Path) -> None:
    """Side by side on other data and ports; on the same data or ports the second one is
    told why, and does no harm to the first."""
    data, base = tmp_path / "var", free_port_base()
    running = start(data, base)
    state = (data / "demo.json").read_text()

    same_data = run(
        MAILCTL, "demo", MAILSERVER_DATA=str(data), MAILSERVER_PORT_BASE=str(free_port_base())
    )
    assert same_data.returncode == 75
    assert "another server works on this data directory" in same_data.stderr

    same_ports = run(
        MAILCTL, "demo", MAILSERVER_DATA=str(tmp_path / "other"), MAILSERVER_PORT_BASE=str(base)
    )
    assert same_ports.returncode == 69
    assert f"port {base + 143} (service.imap.port)" in same_ports.stderr
    assert "MAILSERVER_PORT_BASE" in same_ports.stderr
    assert "Traceback" not in same_data.stderr + same_ports.stderr

    assert (data / "demo.json").read_text() == state
    assert running.end() == 0


def test_the_directory_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(MAILCTL, "demo", MAILSERVER_DATA=str(tmp_path / "file" / "var"))
    assert done.returncode == 75
    assert "data directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_that_was_changed_for_the_worse_is_told(tmp_path: Path) -> None:
    (tmp_path / "mailserver.toml").write_text("service.imap.prot = 1\n")
    done = run(MAILCTL, "demo", MAILSERVER_DATA=str(tmp_path))
    assert done.returncode == 78
    assert "did you mean service.imap.port?" in done.stderr


def test_passwords_are_not_easily_misread() -> None:
    password = _password()
    assert len(password) == 19
    assert not set("l1o0") & set(password)
    assert _password() != password


@pytest.mark.parametrize(
    ("host", "is_named"), [("mail.example.org", True), ("my_host", False), ("", False)]
)
def test_host_names_of_the_certificate(
    monkeypatch: pytest.MonkeyPatch, host: str, is_named: bool
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert (host in _host_names()) is is_named
