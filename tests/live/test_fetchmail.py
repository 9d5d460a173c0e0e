"""fetchmail over IMAP and POP3, STARTTLS, STLS and the TLS ports; waiting in IDLE for mail."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.live.mails import MANY, as_local, mails, written
from tests.live.retrieval import check_retrieval, services
from tests.live.server import Server
from tests.live.test_imaplib import deliver
from tests.requires import require_program

GOT_MAIL, NO_MAIL, LEFT_SOME = 0, 1, 13  # exit codes


@attrs.define
class Fetchmail:
    """fetchmail for one account, with its configuration and memory below a directory."""

    server: Server
    service: str
    account: tuple[str, str]
    home: Path

    def command(self, options: str, mda: str = "") -> list[str]:
        """The command line; `options` are those of the user in fetchmailrc(5)."""
        out = self.home / "out"
        out.mkdir(exist_ok=True)
        protocol = self.service[:4].upper()
        uidl = "uidl" if protocol == "POP3" else ""
        deliver_to = mda or f"exec cat > {out}/$$"
        rc = self.home / "fetchmailrc"
        rc.write_text(
            f"""
set no bouncemail
set invisible
set idfile "{self.home}/ids"
set pidfile "{self.home}/pid"
poll localhost protocol {protocol} port {self.server.port(self.service)} {uidl}
  user "{self.account[0]}" password "{self.account[1]}"
  {"ssl" if self.service.endswith("s") else ""} sslproto "TLS1.2+"
  sslcertck sslcertfile "{self.server.ca_file}"
  mda "/bin/sh -c '{deliver_to}'" no rewrite pass8bits
  {options}
"""
        )
        rc.chmod(0o600)
        return [require_program("fetchmail"), "-f", str(rc)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FETCHMAILHOME": str(self.home), "LANG": "C.UTF-8"}

    def poll(self, options: str, *codes: int) -> list[bytes]:
        """Ask for mail once, which ends with one of some codes; returns what it has written
        to files."""
        done = subprocess.run(
            self.command(options), env=self.environment(), capture_output=True, timeout=120
        )
        assert done.returncode in codes, done.stderr + done.stdout
        got = written(self.home / "out")
        assert bool(got) == (done.returncode != NO_MAIL)
        for file in (self.home / "out").iterdir():
            file.unlink()
        return got


LONGEST_LINE = 8000
"""fetchmail 6.4 breaks lines of over 8,191 octets in two, whatever they come by."""


@pytest.mark.parametrize("service", services({"imap", "pop3"}))
@pytest.mark.parametrize("count", MANY)
def test_mail_is_fetched_once_octet_for_octet_and_removed_when_asked(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    service: str,
    count: int,
) -> None:
    """T42, T43, T44: kept mail is known again by its flag, or by its unique id."""
    account = new_account()
    client = Fetchmail(server, service, account, tmp_path)

    def remove(most: int) -> None:
        some = client.poll(f"no keep fetchall fetchlimit {most}", LEFT_SOME if most else GOT_MAIL)
        assert not most or len(some) == most

    check_retrieval(
        server,
        account,
        mails(count, LONGEST_LINE),
        fetch=lambda: client.poll("keep", GOT_MAIL, NO_MAIL),
        remove=remove,
        expected=as_local,
    )


def test_mail_is_pushed_to_a_waiting_fetchmail(
    server: Server, new_account: Callable[[], tuple[str, str]], tmp_path: Path
) -> None:
    """DOV-1: `fetchmail --idle` takes what is delivered while it waits."""
    account = new_account()
    deliver(server, account[0], octets=b"Subject: first\r\n\r\nHello\r\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    client = Fetchmail(server, "imaps", account, tmp_path)
    process = subprocess.Popen(
        client.command("keep idle", f"exec cat > {pipe}"),
        env=client.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        for subject in (b"first", b"second", b"third"):
            if subject != b"first":
                deliver(server, account[0], octets=b"Subject: %b\r\n\r\nHello\r\n" % subject)
            octets = b""
            while not octets.endswith(b"Subject: %b\n\nHello\n" % subject):
                assert select.select([reader], [], [], 20)[0], octets
                octets += os.read(reader, 65536)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        os.close(reader)
