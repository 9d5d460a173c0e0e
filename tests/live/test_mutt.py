"""mutt (or neomutt) on a pseudo-terminal: a person reads, flags, saves and deletes mail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pexpect

from tests.live.server import Server
from tests.live.test_imaplib import deliver, tls
from tests.requires import require_program


def test_a_person_reads_mail_in_mutt(
    server: Server, new_account: Callable[[], tuple[str, str]], tmp_path: Path
) -> None:
    mutt = require_program("mutt", "neomutt")
    account = new_account()
    for number in range(1, 4):
        deliver(
            server,
            account[0],
            octets=b"From: Ann <ann@example.org>\r\nTo: b@example.org\r\n"
            b"Message-ID: <m%d@example.org>\r\nSubject: letter no %d\r\n\r\n"
            b"the text of letter %d\r\n" % (number, number, number),
        )
    rc = tmp_path / "muttrc"
    user = account[0].replace("@", "%40")
    rc.write_text(
        f"""
set folder = "imaps://{user}@localhost:{server.port("imaps")}/"
set spoolfile = "=INBOX"
set imap_user = "{account[0]}"
set imap_pass = "{account[1]}"
set certificate_file = "{server.ca_file}"
set ssl_verify_host = yes
set trash = ""
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set mark_old = no
set header_cache = ""
set imap_idle = yes
set sort = mailbox-order
set wait_key = no
set move = no
"""
    )
    terminal = pexpect.spawn(
        mutt,
        ["-n", "-F", str(rc)],
        env={"TERM": "xterm", "HOME": str(tmp_path), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        dimensions=(30, 120),
        timeout=20,
        encoding="utf-8",
    )
    terminal.expect("letter no 3")
    terminal.send("1\r")  # go to the first message
    terminal.send("\r")
    terminal.expect("the text of letter 1")
    terminal.send("q")
    terminal.send("F")  # flag it, which moves on to the second
    terminal.send("2\r")
    terminal.send("s")
    terminal.expect("Save to mailbox")
    terminal.send("\x15=Archive\r")
    terminal.send("3\r")
    terminal.send("d")
    terminal.send("$")  # write all changes
    terminal.expect("(?i)kept|deleted")
    terminal.send("q")
    terminal.expect(pexpect.EOF)
    terminal.close()
    client = tls(server, account)
    client.select("INBOX")
    status, rows = client.fetch("1:*", "(UID FLAGS)")
    assert status == "OK"
    assert len(rows) == 1
    assert b"UID 1 " in rows[0]
    assert b"\\Seen" in rows[0]
    assert b"\\Flagged" in rows[0]
    assert client.select("Archive", readonly=True) == ("OK", [b"1"])
    saved = client.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1]
    assert saved == b"Subject: letter no 2\r\n\r\n"
    client.logout()
