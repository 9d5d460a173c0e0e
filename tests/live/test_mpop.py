"""mpop over POP3 with STLS and over the TLS port: by a filter it looks at headers first."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.mails import MANY, as_local, check_same, fill, kept, mails, written
from tests.live.server import Server
from tests.live.test_imaplib import deliver
from tests.requires import require_program


@pytest.mark.parametrize("service", ["pop3", pytest.param("pop3s", marks=pytest.mark.long)])
@pytest.mark.parametrize("count", MANY)
def test_mail_is_fetched_once_and_removed_when_asked(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    service: str,
    count: int,
) -> None:
    """T42, T43, T44; TOP for its filter, and pipelining, which it asks CAPA for."""
    account, sent = new_account(), mails(count)
    fill(server, account, sent)
    out = tmp_path / "out"
    for part in ("cur", "new", "tmp"):
        (out / part).mkdir(parents=True)
    rc = tmp_path / "mpoprc"
    starttls = "off" if service == "pop3s" else "on"

    def poll(*options: str) -> list[bytes]:
        rc.write_text(
            f"""
account one
host localhost
port {server.port(service)}
tls on
tls_starttls {starttls}
tls_trust_file {server.ca_file}
user {account[0]}
password {account[1]}
auth user
received_header off
uidls_file {tmp_path}/uidls
delivery maildir {out}
{chr(10).join(options)}
"""
        )
        rc.chmod(0o600)
        done = subprocess.run(
            [require_program("mpop"), "-C", str(rc), "-q", "one"],
            env={**os.environ, "HOME": str(tmp_path), "LANG": "C.UTF-8"},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        got = written(out / "new")
        for file in (out / "new").iterdir():
            file.unlink()
        return got

    before = kept(server, account)
    check_same(poll("keep on"), map(as_local, sent))
    assert poll("keep on") == []
    deliver(server, account[0])
    assert len(poll("keep on")) == 1

    # Every second message is left alone: its sender's address has an odd number.
    odd = r"grep -q '^Return-Path: <bounce-[0-9]*[13579]@' && exit 2; exit 0"
    some = poll("only_new off", "keep off", f"filter {odd}")
    left = {uid: mail for uid, mail in before.items() if number_of(mail) % 2}
    assert kept(server, account) == left
    assert len(some) == count + 1 - len(left)
    assert len(left) > count // 3


def number_of(mail: bytes) -> int:
    """The number in the address to which a message would bounce."""
    return int(mail.split(b"bounce-", 1)[1].split(b"@", 1)[0])
