"""OfflineIMAP keeps a Maildir and the server alike, both ways: folders, mail, flags, deletions."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.live.mails import MANY, as_local, check_same, mails
from tests.live.server import Server
from tests.live.test_imaplib import tls
from tests.live.test_mbsync import FOLDERS, files, in_maildir, on_server, utf7, with_flags
from tests.mailgen import message
from tests.requires import require_program

# After STARTTLS imaplib2 reads and writes in two threads at once, which OpenSSL does not allow:
# where the tickets of TLS 1.3 come while the first command goes out, it is never sent.
TLS_1_2 = """\
openssl_conf = programs
[programs]
ssl_conf = protocols
[protocols]
system_default = newest
[newest]
MaxProtocol = TLSv1.2
"""


@attrs.define
class OfflineImap:
    """OfflineIMAP for one account, with its Maildir and memory below a directory."""

    server: Server
    service: str
    account: tuple[str, str]
    home: Path

    @property
    def root(self) -> Path:
        """The folders of the Maildir."""
        return self.home / "mail"

    def sync(self) -> str:
        """Make both sides alike; what it has said."""
        security = "ssl = yes" if self.service == "imaps" else "ssl = no\nstarttls = yes"
        rc = self.home / "offlineimaprc"
        rc.write_text(
            f"""
[general]
accounts = one
metadata = {self.home}/state
ui = basic
[Account one]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {self.root}
sep = /
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {self.server.port(self.service)}
remoteuser = {self.account[0]}
remotepass = {self.account[1]}
{security}
sslcacertfile = {self.server.ca_file}
"""
        )
        env = {**os.environ, "HOME": str(self.home), "LANG": "C.UTF-8"}
        if self.service == "imap":
            openssl = self.home / "openssl.cnf"
            openssl.write_text(TLS_1_2)
            env["OPENSSL_CONF"] = str(openssl)
        done = subprocess.run(
            [require_program("offlineimap"), "-c", str(rc), "-o"],
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said


def put(folder: Path, name: str, octets: bytes) -> None:
    """Put a message into a folder of a Maildir, which is made if need be."""
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "cur" / name).write_bytes(as_local(octets))


@pytest.mark.parametrize("service", ["imap", pytest.param("imaps", marks=pytest.mark.long)])
@pytest.mark.parametrize("count", MANY)
def test_both_sides_are_alike(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    service: str,
    count: int,
) -> None:
    """Mail, flags, deletions and folders with any name, whichever side they come from."""
    account, sent = new_account(), mails(count)
    client = OfflineImap(server, service, account, tmp_path)
    imap = tls(server, account)
    imap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number, octets in enumerate(sent):
        folder = utf7(FOLDERS[number % len(FOLDERS)])
        is_here = number % 2 == 0
        if is_here and folder != "Work":  # "Work" begins in the Maildir, the others everywhere
            if number < 2 * len(FOLDERS):
                imap.create(f'"{folder}"')
            flags = ("", "(\\Seen)", "(\\Answered \\Flagged)")[number % 3]
            assert imap.append(f'"{folder}"', flags, None, octets)[0] == "OK"
        else:
            flags = ("", "S", "FRS")[number % 3]
            put(client.root / folder, f"1700000000_{number}.1.host:2,{flags}", octets)
    client.sync()
    first = on_server(imap)
    assert first == in_maildir(client.root)
    check_same(
        [file.read_bytes() for folder in FOLDERS for file in files(client.root, folder)],
        map(as_local, sent),
    )

    for name in FOLDERS:  # on the server
        imap.select(f'"{utf7(name)}"')
        imap.store("1:4", "+FLAGS", "(\\Flagged)")
        imap.store("5:6", "-FLAGS", "(\\Seen)")
        imap.store("7:8", "+FLAGS", "(\\Deleted)")
        imap.expunge()
        imap.append(f'"{utf7(name)}"', None, None, message(5000 + FOLDERS.index(name)))
    for name in FOLDERS:  # in the Maildir
        here = sorted(files(client.root, name), key=uid)[10:]
        here[0].rename(with_flags(here[0], "FS"))
        here[1].rename(with_flags(here[1], ""))
        here[2].unlink()
        put(client.root / utf7(name), "1800000000_1.1.host:2,S", message(6000 + len(name)))
    client.sync()
    last = on_server(imap)
    assert last == in_maildir(client.root)
    assert sum(map(Counter.total, last.values())) == count - len(FOLDERS)
    assert "Copy message" not in client.sync()
    imap.logout()


def uid(file: Path) -> int:
    """What OfflineIMAP keeps of the server in a file name."""
    found = re.search(",U=([0-9]+),", file.name)
    assert found, file
    return int(found[1])
