"""curl reads mail over IMAP with STARTTLS and over the TLS port, and delivers by SMTP's verbs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.live.server import Server
from tests.live.test_imaplib import MESSAGE, deliver
from tests.requires import require_program


def curl(server: Server, account: tuple[str, str], *arguments: str) -> bytes:
    command = [require_program("curl"), "-sS", "--cacert", server.ca_file, "--max-time", "20"]
    done = subprocess.run(
        [*command, "-u", f"{account[0]}:{account[1]}", *arguments], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("scheme", ["imap", "imaps"])
def test_a_message_is_read(
    server: Server, new_account: Callable[[], tuple[str, str]], scheme: str
) -> None:
    account = new_account()
    deliver(server, account[0])
    base = f"{scheme}://localhost:{server.port(scheme)}/"
    body = curl(server, account, "--ssl-reqd", f"{base}INBOX;UID=1")
    assert body.endswith(MESSAGE.split(b"\r\n", 1)[1])
    assert curl(server, account, "--ssl-reqd", f"{base}INBOX;UID=1/;SECTION=TEXT") == (
        b"Hello\r\n.dot\r\n"
    )
    assert b"* LIST" in curl(server, account, "--ssl-reqd", base)
    found = curl(server, account, "--ssl-reqd", f"{base}INBOX?SUBJECT%20xyz")
    assert found.strip() == b"* SEARCH"


def test_a_message_is_uploaded(
    server: Server, new_account: Callable[[], tuple[str, str]], tmp_path: object
) -> None:
    from pathlib import Path

    account = new_account()
    file = Path(str(tmp_path)) / "message.eml"
    file.write_bytes(MESSAGE)
    base = f"imaps://localhost:{server.port('imaps')}/"
    curl(server, account, "-T", str(file), f"{base}Drafts")
    assert curl(server, account, f"{base}Drafts;UID=1") == MESSAGE
