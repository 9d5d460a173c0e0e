"""Debian's Dovecot as a peer: its IMAP process alone, on a pipe, for one private mailbox.

The process needs no master, no port and no rights: it is started already logged in, with a
configuration and a directory of its own. It refuses to work as root, so root becomes
`nobody` for it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.differential.client import Client
from tests.requires import require_program

CONFIGURATION = """\
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
ssl = no
protocols = imap
mail_location = sdbox:{home}/mail
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}
# Only speed: nothing here has to survive.
mail_fsync = never
"""


def imap_program() -> str:
    """Full path of Dovecot's IMAP process; the caller is skipped without one."""
    doveconf = require_program("doveconf")
    printed = subprocess.run(
        [doveconf, "-c", os.devnull, "-h", "libexec_dir"],
        capture_output=True,
        text=True,
        check=True,
    )
    return require_program(os.path.join(printed.stdout.strip(), "imap"))


@contextmanager
def dovecot() -> Iterator[Client]:
    """A client of a Dovecot with an empty INBOX; all of it is removed at the end."""
    program = imap_program()
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    home = Path(tempfile.mkdtemp(prefix="differential-"))
    try:
        for directory in (home, home / "run", home / "mail"):
            directory.mkdir(mode=0o700, exist_ok=True)
            os.chown(directory, user.pw_uid, user.pw_gid)
        configuration = home / "dovecot.conf"
        configuration.write_text(
            CONFIGURATION.format(home=home, uid=user.pw_uid, gid=user.pw_gid), "utf-8"
        )
        other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with subprocess.Popen(
            [program, "-c", str(configuration)],
            env={"HOME": str(home), "USER": user.pw_name, "PATH": os.defpath},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
            **(other if os.getuid() == 0 else {}),  # type: ignore[arg-type]
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            yield Client(process.stdin.write, lambda: os.read(process.stdout.fileno(), 1 << 18))
            process.stdin.close()
    finally:
        shutil.rmtree(home)
