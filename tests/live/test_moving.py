"""POP3 clients that leave their mail on the server move with it, and fetch nothing again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.server import Server
from tests.live.test_imaplib import deliver
from tests.live.test_pop3 import tls
from tests.mailgen import message
from tests.requires import require_program

CONFIGURATION = """\
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
ssl = no
protocols = pop3
mail_location = maildir:{home}/mail
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}
{more}
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that another user may enter, with a Maildir of ten messages in it."""
    made = Path(tempfile.mkdtemp(prefix="moving-"))
    for part in ("cur", "new", "tmp"):
        (made / "mail" / part).mkdir(parents=True)
    for number in range(10):
        octets = message(number).replace(b"\r\n", b"\n")
        if number > 7:
            octets = b"X-UIDL: from-before-%d\n" % number + octets
        (made / "mail" / "cur" / f"17000000{number:02}.M{number}.host:2,S").write_bytes(octets)
    yield made
    shutil.rmtree(made)


def dovecots_names(home: Path, more: str) -> list[str]:
    """What Dovecot's POP3 process calls the messages; it notes that in the Maildir."""
    printed = subprocess.run(
        [require_program("doveconf"), "-c", os.devnull, "-h", "libexec_dir"],
        capture_output=True,
        text=True,
        check=True,
    )
    program = require_program(os.path.join(printed.stdout.strip(), "pop3"))
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    (home / "run").mkdir(exist_ok=True)
    for directory, _, files in os.walk(home):
        for name in (directory, *(os.path.join(directory, file) for file in files)):
            os.chown(name, user.pw_uid, user.pw_gid)
    configuration = home / "dovecot.conf"
    configuration.write_text(
        CONFIGURATION.format(home=home, uid=user.pw_uid, gid=user.pw_gid, more=more)
    )
    other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [program, "-c", str(configuration)],
        env={"HOME": str(home), "USER": user.pw_name, "PATH": os.defpath},
        input=b"UIDL\r\nQUIT\r\n",
        capture_output=True,
        cwd="/",
        timeout=30,
        **(other if os.getuid() == 0 else {}),  # type: ignore[call-overload]
    )
    lines = done.stdout.decode().split("\r\n")
    assert lines[-2:] == ["+OK Logging out.", ""], done
    return [line.split(" ")[1] for line in lines[1:-3]]


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ("", []),
        ("pop3_uidl_format = %g", ["--pop3-uidl", "%g"]),
    ],
)
def test_messages_are_called_as_dovecot_called_them(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    home: Path,
    more: str,
    option: list[str],
) -> None:
    """T44."""
    names = dovecots_names(home, more)
    assert len(set(names)) == 10
    account = new_account()
    server.mailctl("import", account[0], str(home / "mail"), *option)
    for _ in range(2):
        client = tls(server, account)
        assert [line.split()[1].decode() for line in client.uidl()[1]] == names
        client.quit()
    client = tls(server, account)
    client.dele(3)
    client.quit()
    deliver(server, account[0])
    client = tls(server, account)
    *left, new = [line.split()[1].decode() for line in client.uidl()[1]]
    client.quit()
    assert left == names[:2] + names[3:]
    assert new not in names


def test_messages_are_called_as_their_header_says(
    server: Server, new_account: Callable[[], tuple[str, str]], home: Path
) -> None:
    account = new_account()
    server.mailctl("import", account[0], str(home / "mail"), "--pop3-uidl", "x-uidl")
    client = tls(server, account)
    names = [line.split()[1] for line in client.uidl()[1]]
    client.quit()
    assert names[8:] == [b"from-before-8", b"from-before-9"]
    assert len(set(names)) == 10
    done = server.mailctl("import", account[0], str(home / "mail"), "--pop3-uidl", "%x", ok=False)
    assert done == ""
