"""The system's PAM as a source: with service files of its own, and a user of its own."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from twisted.internet import reactor
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.auth.checkers import Login
from mailserver.auth.checkers.source import Entry, ISource
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Attributes
from tests.requires import require_module, require_program

pam = require_module("mailserver.auth.checkers.pam")

if os.geteuid() != 0 or not Path("/etc/pam.d").is_dir():
    pytest.skip("needs root, to make files in /etc/pam.d", allow_module_level=True)

PASSWORD = "canary-pam"
# pam_exec hands the password to a script; so what PAM gets is seen from the other side.
_SCRIPT = """\
#!/bin/sh
read -r password
[ "$PAM_USER:$password:$PAM_RHOST" = "{user}:{password}:192.0.2.1" ]
"""


@contextmanager
def service(*lines: str) -> Iterator[str]:
    """A service of PAM with these lines for authentication."""
    name = f"mailserver-test-{uuid4().hex[:8]}"
    path = Path("/etc/pam.d", name)
    path.write_text(
        "".join(f"auth {line}\n" for line in lines) + "account required pam_permit.so\n"
    )
    try:
        yield name
    finally:
        path.unlink()


@contextmanager
def system_user() -> Iterator[str]:
    """A user of this machine with PASSWORD, without a home."""
    name = f"mt{uuid4().hex[:8]}"
    useradd, chpasswd = require_program("useradd"), require_program("chpasswd")
    subprocess.run([useradd, "-M", "-N", "-c", "Joe of PAM,,,", name], check=True)
    try:
        subprocess.run([chpasswd], input=f"{name}:{PASSWORD}", text=True, check=True)
        yield name
    finally:
        subprocess.run([require_program("userdel"), name], check=True)


class Pam(TestCase):
    def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def made(self, name: str, **changes: Any) -> Any:
        values = {"service": name, "default_domain": "example.org", **changes}
        source = pam.PamSource(pam.PamSettings(**values), reactor)
        self.addCleanup(source.stop)
        return source

    async def logs_in(self, source: Any, name: str, password: str = PASSWORD) -> Entry | None:
        found: Entry | None = await source.check(Login(name, password, "192.0.2.1"))
        return found

    async def is_unavailable(self, source: Any, name: str) -> None:
        with pytest.raises(MailError) as refusal:
            await self.logs_in(source, name)
        self.assertIs(refusal.value.kind, ErrorKind.UNAVAILABLE)

    async def test_a_user_of_the_system_with_the_password_of_the_system(self) -> None:
        with system_user() as user, service("required pam_unix.so") as name:
            source = self.made(name)
            verifyObject(ISource, source)
            address = f"{user}@example.org"
            expected = Entry(address, Attributes(display_name="Joe of PAM"))
            self.assertEqual(await self.logs_in(source, address), expected)
            self.assertEqual(await source.find(address), expected)
            for other, password in (
                (address, "wrong"),
                (address, ""),
                (address, PASSWORD + "\0"),
                (f"{user}@example.net", PASSWORD),
                ("nobody-here@example.org", PASSWORD),
                (user, PASSWORD),
                ("root@example.org", PASSWORD),
            ):
                self.assertIsNone(await self.logs_in(source, other, password), other)
            subprocess.run(
                [require_program("chpasswd")], input=f"{user}:new", text=True, check=True
            )
            self.assertIsNone(await self.logs_in(source, address), "nothing is remembered")

    async def test_a_wrong_password_is_told_at_once(self) -> None:
        """pam_unix would sleep for two seconds, and hold a thread."""
        with system_user() as user, service("required pam_unix.so") as name:
            source = self.made(name)
            start = time.monotonic()
            self.assertIsNone(await self.logs_in(source, f"{user}@example.org", "wrong"))
            self.assertLess(time.monotonic() - start, 1.5)

    async def test_an_account_that_has_expired_is_not_let_in(self) -> None:
        with system_user() as user, service("required pam_unix.so") as name:
            path = Path("/etc/pam.d", name)
            path.write_text("auth required pam_unix.so\naccount required pam_unix.so\n")
            source = self.made(name)
            self.assertIsNotNone(await self.logs_in(source, f"{user}@example.org"))
            subprocess.run([require_program("chage"), "-E", "0", user], check=True)
            self.assertIsNone(await self.logs_in(source, f"{user}@example.org"))

    async def test_daemons_have_no_mail(self) -> None:
        with service("required pam_permit.so") as name:
            source = self.made(name)
            for daemon in ("root", "daemon"):
                self.assertLess(pwd.getpwnam(daemon).pw_uid, 1000)
                self.assertIsNone(await self.logs_in(source, f"{daemon}@example.org"))
                self.assertIsNone(await source.find(f"{daemon}@example.org"))
            low = self.made(name, first_uid=1)
            self.assertIsNotNone(await self.logs_in(low, "daemon@example.org"))

    async def test_users_that_only_pam_knows(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        script = folder.resolve() / "check"
        script.write_text(_SCRIPT.format(user="joe@example.org", password=PASSWORD))
        script.chmod(0o755)
        # A script that fails is a system error to pam_exec, so another module says no.
        asked = f"sufficient pam_exec.so expose_authtok quiet {script}"
        with service(asked, "required pam_deny.so") as name:
            source = self.made(name, system_users=False, full_names=True)
            joe = Entry("joe@example.org", Attributes())
            self.assertEqual(await self.logs_in(source, "joe@example.org"), joe)
            self.assertIsNone(await self.logs_in(source, "joe@example.org", "wrong"))
            self.assertIsNone(await self.logs_in(source, "ann@example.org"))
            self.assertFalse(source.knows_names)

    async def test_whoever_is_permitted_or_denied(self) -> None:
        with service("required pam_deny.so") as name:
            denied = self.made(name, system_users=False)
            self.assertIsNone(await self.logs_in(denied, "joe@example.org"))

    async def test_a_module_that_is_not_there_is_no_wrong_password(self) -> None:  # T40
        with service("required pam_not_there.so") as name:
            source = self.made(name, system_users=False)
            await self.is_unavailable(source, "joe@example.org")
        log = "\n".join(str(formatEvent(event)) for event in self.logged)
        self.assertIn(f"pam service {name}: ", log)
        self.assertNotIn(PASSWORD, log)

    async def test_many_at_once(self) -> None:
        with service("required pam_permit.so") as name:
            source = self.made(name, system_users=False)
            for number in range(100):
                self.assertIsNotNone(await self.logs_in(source, f"joe{number}@example.org"))
            before = len(os.listdir("/proc/self/fd"))
            for number in range(100):
                self.assertIsNotNone(await self.logs_in(source, f"joe{number}@example.org"))
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)
