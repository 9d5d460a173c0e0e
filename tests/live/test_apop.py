"""Old clients on a server whose passwords lie in a passwd-file in clear: APOP, one session at
a time, and not too often."""

from __future__ import annotations

import os
import poplib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requires import require_program
from tests.service.process import BIN, MAILCTL, Process, run, write_config

NAME, PASSWORD = "joe@example.org", "canary-apop"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    folder = tmp_path_factory.mktemp("apop")
    passwd = folder / "passwd"
    passwd.write_text(f"{NAME}:{{PLAIN}}{PASSWORD}\nann@example.org:{{PLAIN}}{PASSWORD}\n")
    passwd.chmod(0o600)
    config = write_config(
        folder,
        auth__sources='"passwd-file"',
        auth__passwdfile__path=f'"{passwd}"',
        service__pop__apop="true",
        service__pop__exclusive="true",
        service__defaultdomain='"example.org"',
    )
    command = (str(BIN / "twistd"), "-n", "--pidfile=", "mailserver", "--config", str(config))
    server = Process.start(*command)
    yield server, config
    server.stop()


def connect(server: Process) -> poplib.POP3:
    return poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=30)


def test_poplib(site: tuple[Process, Path]) -> None:
    """T45: `[AUTH]` and `[IN-USE]`."""
    server, _ = site
    client = connect(server)
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        client.apop(NAME, "wrong")
    client.close()
    client = connect(server)
    client.apop(NAME, PASSWORD)
    assert client.stat() == (0, 0)
    other = connect(server)
    with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
        other.apop(NAME, PASSWORD)
    client.quit()
    other.apop(NAME, PASSWORD)
    other.quit()


def test_fetchmail(site: tuple[Process, Path], tmp_path: Path) -> None:
    server, config = site
    connection = connect(server)
    connection.apop("ann@example.org", PASSWORD)  # the account is made at the first login
    connection.quit()
    sent = run(
        MAILCTL, "-c", str(config), "deliver", "-d", "ann@example.org", text="Subject: x\n\nHello\n"
    )
    assert sent.returncode == 0, sent.stderr
    rc = tmp_path / "fetchmailrc"
    rc.write_text(
        f"""
set invisible
poll 127.0.0.1 protocol APOP port {server.ports["pop3"]}
  user "ann@example.org" password "{PASSWORD}" sslproto "" no keep
  mda "/bin/sh -c 'exec cat > {tmp_path}/mail'" no rewrite
"""
    )
    rc.chmod(0o600)
    done = subprocess.run(
        [require_program("fetchmail"), "-f", str(rc)],
        env={**os.environ, "FETCHMAILHOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "mail").read_text().endswith("Subject: x\n\nHello\n")


def test_too_soon(site: tuple[Process, Path]) -> None:
    """RFC 2449 §8.1.1: after a reload, with the option that a running server was given."""
    server, config = site
    option = ("configutil", "-o", "service.pop.logindelay", "-v", "1h")
    assert run(MAILCTL, "-c", str(config), *option).returncode == 0
    server.signal(signal.SIGHUP)
    server.wait_for("configuration and certificate reloaded")
    client = connect(server)
    assert client.capa()["LOGIN-DELAY"] == ["3600"]
    client.apop(NAME, PASSWORD)
    client.quit()
    client = connect(server)
    with pytest.raises(poplib.error_proto, match=r"\[LOGIN-DELAY\] too soon .*; wait 3[56]\d\d s"):
        client.apop(NAME, PASSWORD)
    client.quit()
