"""mutt on a maildrop by POP3 with STLS: a person copies all of it and deletes half."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from tests.live.mails import MANY, as_local, check_same, fill, kept, mails, written
from tests.live.server import Server
from tests.requires import require_program

_COUNTED = re.compile(rb"Content-Length: [0-9]+\nLines: [0-9]+\n(?=\n)")
"""What mutt adds to the header of a copy."""


@pytest.mark.parametrize("service", ["pop3", pytest.param("pop3s", marks=pytest.mark.long)])
@pytest.mark.parametrize("count", MANY)
def test_a_person_copies_all_mail_and_deletes_half(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    service: str,
    count: int,
) -> None:
    """T42, T43, T44; mutt logs in by what it takes by itself."""
    mutt = require_program("mutt")
    account, sent = new_account(), mails(count)
    fill(server, account, sent)
    before = kept(server, account)
    rc = tmp_path / "muttrc"
    user = account[0].replace("@", "%40")
    scheme = {"pop3": "pop", "pop3s": "pops"}[service]
    rc.write_text(
        f"""
set pop_user = "{account[0]}"
set pop_pass = "{account[1]}"
set pop_delete = yes
set ssl_starttls = yes
set ssl_force_tls = yes
set certificate_file = "{server.ca_file}"
set folder = "{tmp_path}"
set mbox_type = Maildir
set confirmappend = no
set confirmcreate = no
set delete = yes
set delete_untag = no
set wait_key = no
set move = no
set sort = mailbox-order
"""
    )
    terminal = pexpect.spawn(
        mutt,
        ["-n", "-F", str(rc), "-f", f"{scheme}://{user}@localhost:{server.port(service)}/"],
        env={"TERM": "xterm", "HOME": str(tmp_path), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        dimensions=(30, 120),
        timeout=20,
        encoding="utf-8",
    )
    try:
        terminal.expect(f"Msgs:.*{count}")
        terminal.send("T")
        terminal.expect("Tag messages matching")
        terminal.send(".\r")
        terminal.send(";C")
        terminal.expect("Copy tagged to mailbox")
        terminal.send(f"\x15{tmp_path}/copies\r")
        terminal.send("D")
        terminal.expect("Delete messages matching")
        terminal.send(f"\x15~m 1-{count // 2}\r")
        terminal.send("q")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close()
    copies = [octets for part in ("cur", "new") for octets in written(tmp_path / "copies" / part)]
    check_same([_COUNTED.sub(b"", octets, 1) for octets in copies], map(as_local, sent))
    left = list(before)[count // 2 :]
    assert kept(server, account) == {uid: before[uid] for uid in left}
