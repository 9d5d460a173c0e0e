"""Accounts of slapd, of Dovecot's passwd-file and our own, on one real server."""

from __future__ import annotations

import imaplib
import json
import poplib
import smtplib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from tests.live.slapd import BASE, PASSWORD, SERVICE_DN, SERVICE_PASSWORD, Slapd, person
from tests.requires import require_program
from tests.service import process
from tests.service.process import BIN, MAILCTL, Process, add_account, run, write_config

# As an installation may have them that ran Dovecot for twenty years.
SCHEMES = (
    "ARGON2ID",
    "ARGON2I",
    "BLF-CRYPT",
    "SHA512-CRYPT",
    "SHA256-CRYPT",
    "SSHA512",
    "SSHA256",
    "SSHA",
    "SHA256",
    "PBKDF2",
    "SCRAM-SHA-256",
    "MD5-CRYPT",
    "PLAIN",
    "PLAIN.b64",
    "SHA512-CRYPT.hex",
)
MESSAGE = b"Subject: hello\r\n\r\n" + b"x" * 998 + b"\r\n"


@attrs.frozen
class Site:
    """A server whose chain is LDAP, our directory and a passwd-file, in this order."""

    config: Path
    server: Process
    slapd: Slapd
    passwd: Path

    def imap(self, name: str, password: str) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.server.ports["imap"], timeout=30)
        try:
            client.login(name, password)
        except BaseException:
            client.shutdown()
            raise
        return client

    def logs_in(self, name: str, password: str) -> None:
        client = self.imap(name, password)
        assert client.select("INBOX")[0] == "OK"
        client.logout()

    def refusal(self, name: str, password: str) -> str:
        with pytest.raises(imaplib.IMAP4.error) as refused:
            self.imap(name, password)
        return str(refused.value)

    def pop_refusal(self, name: str, password: str) -> str:
        client = poplib.POP3("127.0.0.1", self.server.ports["pop3"], timeout=30)
        client.user(name)
        with pytest.raises(poplib.error_proto) as refused:
            client.pass_(password)
        client.close()
        return str(refused.value)

    def deliver(self, name: str, message: bytes = MESSAGE) -> tuple[int, bytes]:
        """One message by LMTP; what was said of its recipient."""
        with smtplib.LMTP("127.0.0.1", self.server.ports["lmtp"]) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("sender@example.net")
            code, text = client.rcpt(name)
            return (code, text) if code >= 300 else client.data(message)

    def mailctl(self, *arguments: str) -> str:
        done = run(MAILCTL, "-c", str(self.config), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "slapd").mkdir()
    slapd = Slapd.make(
        folder / "slapd",
        person("lena", mailQuota="5000", mailMsgQuota="2", mailHost="store1.example.org"),
        person("imaponly", mailAllowedServiceAccess="+imap,imaps:ALL"),
        person("late"),
        person("gone", mailUserStatus="inactive"),
        person("aliased", mailAlternateAddress="other.name@example.org"),
    )
    try:
        passwd = folder / "passwd"
        passwd.write_text("".join(_lines()))
        passwd.chmod(0o600)
        secret = folder / "bindpassword"
        secret.write_text(f"{SERVICE_PASSWORD}\n")
        secret.chmod(0o600)
        config = write_config(
            folder,
            auth__sources='["ldap", "directory", "passwd-file"]',
            auth__passwdfile__path='"passwd"',
            auth__ldap__uri=f'"{slapd.uri}"',
            auth__ldap__base=f'"{BASE}"',
            auth__ldap__binddn=f'"{SERVICE_DN}"',
            auth__ldap__bindpasswordfile='"bindpassword"',
            auth__ldap__retry='"100ms"',
            auth__throttle__firstdelay="0",
            auth__throttle__maxdelay="0",
        )
        add_account(config, "own@example.org")
        command = (str(BIN / "twistd"), "-n", "--pidfile=", "mailserver", "-c", str(config))
        server = Process.start(*command)
        try:
            yield Site(config, server, slapd, passwd)
        finally:
            assert server.stop() in (0, -15)
        log = "".join(server.log)
        for secret in (PASSWORD, SERVICE_PASSWORD, process.PASSWORD):
            assert secret not in log  # S13
        assert "Traceback" not in log
    finally:
        slapd.kill()


def _lines() -> Iterator[str]:
    doveadm = require_program("doveadm")

    def stored(scheme: str) -> str:
        command = [doveadm, "pw", "-s", scheme, "-p", f"secret of {scheme}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with ThreadPoolExecutor(2) as pool:
        for scheme, text in zip(SCHEMES, pool.map(stored, SCHEMES), strict=True):
            quota = "userdb_quota_rule=*:bytes=3000"
            yield f"{scheme}@example.com:{text}:1000:1000::/home/x::{quota}\n"
    yield "bad line@example.com:{NTLM}x\n"


def test_nobody_needs_a_new_password(site: Site) -> None:
    """Each scheme that Dovecot makes, through the whole server."""
    for scheme in SCHEMES:
        site.logs_in(f"{scheme}@example.com", f"secret of {scheme}")
    assert "[AUTHENTICATIONFAILED]" in site.refusal("pbkdf2@example.com", "secret of SSHA")
    site.server.wait_for(f"{site.passwd}:{len(SCHEMES) + 1}: ")
    shown = json.loads(site.mailctl("account", "show", "pbkdf2@example.com", "--json"))
    assert (shown["source"], shown["storage_limit"]) == ("passwd-file", 3000)


def test_mail_arrives_before_the_first_login(site: Site) -> None:
    for name, password in (
        ("late@example.org", PASSWORD),
        ("ssha@example.com", "secret of SSHA"),
    ):
        assert site.deliver(name)[0] == 250
        client = site.imap(name, password)
        assert client.select("INBOX")[1] == [b"1"]
        client.logout()
    assert site.deliver("nobody@example.org")[0] == 550


def test_ldap_says_quota_host_and_status(site: Site) -> None:
    """SUN-8; `mailHost` is where the account's backend is (SUN-40)."""
    assert [site.deliver("lena@example.org")[0] for _ in range(3)] == [250, 250, 452]
    client = site.imap("lena@example.org", PASSWORD)
    assert client.select("INBOX")[1] == [b"2"]
    client.logout()
    shown = json.loads(site.mailctl("account", "show", "lena@example.org", "--json"))
    assert shown["mail_host"] == "store1.example.org"
    assert (shown["storage_limit"], shown["message_limit"]) == (5000, 2)
    assert "[CONTACTADMIN]" in site.refusal("gone@example.org", PASSWORD)
    set_here = site.mailctl("account", "set", "lena@example.org", "--quota", "1GiB")
    assert "storage limit: ldap says otherwise" in set_here
    site.slapd.modify("lena", "changetype: modify", "replace: mailMsgQuota", "mailMsgQuota: 9")
    site.logs_in("lena@example.org", PASSWORD)
    assert site.deliver("lena@example.org")[0] == 250


def test_ldap_says_which_services(site: Site) -> None:  # SUN-8
    site.logs_in("imaponly@example.org", PASSWORD)
    refusal = site.pop_refusal("imaponly@example.org", PASSWORD)
    assert "may not use pop" in refusal
    assert "may not use pop" not in site.pop_refusal("imaponly@example.org", "wrong")
    site.server.wait_for("refused: rules of imaponly@example.org")


def test_an_alias_of_ldap_leads_to_its_account(site: Site) -> None:
    site.logs_in("other.name@example.org", PASSWORD)
    assert site.deliver("other.name@example.org")[0] == 250
    client = site.imap("aliased@example.org", PASSWORD)
    assert client.select("INBOX")[1] == [b"1"]
    client.logout()


def test_slapd_killed_in_the_middle(site: Site) -> None:  # T40
    site.logs_in("late@example.org", PASSWORD)
    site.slapd.kill()
    try:
        for _ in range(3):
            assert "[UNAVAILABLE]" in site.refusal("late@example.org", PASSWORD)
            assert "[SYS/TEMP]" in site.pop_refusal("late@example.org", PASSWORD)
            # Nobody else is locked out, though LDAP is the first of the chain.
            site.logs_in("own@example.org", process.PASSWORD)
            site.logs_in("plain@example.com", "secret of PLAIN")
        site.server.wait_for("cannot be asked")
        assert site.deliver("late@example.org")[0] == 250, "who is known gets mail"
        assert site.deliver("never-seen@example.org")[0] == 451, "who may be known waits"
    finally:
        site.slapd.start()
    for _ in range(100):
        try:
            site.logs_in("late@example.org", PASSWORD)
            break
        except imaplib.IMAP4.error:
            continue
    site.logs_in("late@example.org", PASSWORD)
    site.server.wait_for("answers again")


def test_an_app_password_for_a_telephone(site: Site) -> None:
    """Also of an account whose own password is elsewhere."""
    name = "sha256@example.com"
    site.logs_in(name, "secret of SHA256")
    made = json.loads(
        site.mailctl("account", "app-password", "add", name, "phone", "--service", "imap", "--json")
    )
    site.logs_in(name, made["password"])
    assert "[AUTH]" in site.pop_refusal(name, made["password"])
    listed = json.loads(site.mailctl("account", "app-password", "list", name, "--json"))
    assert listed["name"] == "phone" and listed["created"] > 0
    site.mailctl("account", "app-password", "remove", name, "phone")
    assert "[AUTHENTICATIONFAILED]" in site.refusal(name, made["password"])
    assert made["password"] not in "".join(site.server.log)
