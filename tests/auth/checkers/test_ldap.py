"""An LDAP directory as a source: against OpenLDAP's slapd."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.auth.checkers import Login
from mailserver.auth.checkers.source import Entry, ISource
from mailserver.auth.pool import FairPool
from mailserver.auth.remembered import Remembered
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import NO_LIMIT, AccountStatus, Attributes
from mailserver.service.tls import ensure_self_signed
from tests.live.slapd import (
    BASE,
    PASSWORD,
    SERVICE_DN,
    SERVICE_PASSWORD,
    Slapd,
    person,
)
from tests.requires import require_module

source = require_module("mailserver.auth.checkers.ldap")

JOE = "joe@example.org"
PEOPLE = (
    person(
        "joe",
        mailHost="store1.example.org",
        mailQuota="20M",
        mailMsgQuota="-1",
        mailAllowedServiceAccess="+imap:ALL$-pop:ALL",
        mailAlternateAddress="j.smith@example.org\nbad address@",
        mailUserStatus="active",
    ),
    person("ann", password="{SSHA}" + "/Bzx3AY5NotXvrtrzleT18TW7WA=", mailQuota="much"),
    person("twin1", "twin@example.org"),
    person("twin2", "twin@example.org"),
    person("star*", "star@example.org"),
    person("hash", password="{SSHA256}/Bzx3AY5NotXvrtrzleT18TW7WDR48E3XxwejynOzvlzYWx0"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (JOE, "(|(mail=joe@example.org)(x=joe)(y=example.org)(z=%))"),
        ("joe", "(|(mail=joe)(x=joe)(y=)(z=%))"),
        ("*", r"(|(mail=\2a)(x=\2a)(y=)(z=%))"),
        (")(uid=*", r"(|(mail=\29\28uid=\2a)(x=\29\28uid=\2a)(y=)(z=%))"),
        ("a\\b\0c", r"(|(mail=a\5cb\00c)(x=a\5cb\00c)(y=)(z=%))"),
        ("%u@%d", "(|(mail=%u@%d)(x=%u)(y=%d)(z=%))"),
    ],
)
def test_what_was_typed_stands_escaped_in_the_filter(name: str, expected: str) -> None:
    """RFC 4515 §3; S4."""
    assert source.fill_in("(|(mail=%u)(x=%n)(y=%d)(z=%%))", name) == expected


@given(st.text(max_size=50))
def test_no_name_can_add_to_a_filter(name: str) -> None:
    filled = source.fill_in("(uid=%u)", name)
    assert filled.startswith("(uid=") and filled.endswith(")")
    assert not set(filled[5:-1]) & set("()*\0")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://host", "does not begin with"),
        ("ldap://", "takes ldap://host"),
        ("ldap://host/dc=example", "takes ldap://host"),
        ("ldap://host:port", "port|Port"),
        ("ldap://host:99999", "ort"),
    ],
)
def test_a_wrong_address_is_told(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        source.check_uri(uri)
    for right in ("ldap://host", "ldaps://[::1]:636", "ldapi://%2frun%2fslapd"):
        source.check_uri(right)


class SlapdCase(TestCase):
    """A slapd for the class, killed at its end; a source made by each test."""

    slapd: Slapd

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(mkdtemp())
        tls = ensure_self_signed(cls.folder / "tls", ["127.0.0.1"])
        cls.authority = tls.authority
        cls.slapd = Slapd.make(cls.folder, *PEOPLE, certificate=tls.certificate, key=tls.key)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.slapd.kill()
        rmtree(cls.folder)

    def setUp(self) -> None:
        self.pool = FairPool(reactor, 1)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.source = self.made()

    def made(self, **changes: Any) -> Any:
        values = {
            "uris": (self.slapd.uri,),
            "base": BASE,
            "bind_dn": SERVICE_DN,
            "bind_password": SERVICE_PASSWORD,
            "retry": 0.0,
            "timeout": 5.0,
        }
        settings = source.LdapSettings(**{**values, **changes})
        made = source.LdapSource(settings, reactor, Remembered(reactor), self.pool)
        self.addCleanup(made.stop)
        return made

    async def logs_in(self, name: str, password: str = PASSWORD, of: Any = None) -> Entry | None:
        found: Entry | None = await (of or self.source).check(Login(name, password, "192.0.2.1"))
        return found

    async def is_unavailable(self, work: Any) -> None:
        with pytest.raises(MailError) as refusal:
            await work
        self.assertIs(refusal.value.kind, ErrorKind.UNAVAILABLE)
        for secret in (str(self.slapd.port), SERVICE_PASSWORD, SERVICE_DN):
            self.assertNotIn(secret, refusal.value.text, "clients see it")

    def log(self) -> str:
        return "\n".join(str(formatEvent(event)) for event in self.logged)

    def connections(self) -> int:
        """Sockets of this process that lead to slapd."""
        ports = {f"{port:04X}" for port in (self.slapd.port, self.slapd.tls_port)}
        rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        own = {os.stat(f"/proc/self/fd/{fd}").st_ino for fd in _descriptors()}
        return sum(row[2].partition(":")[2] in ports and int(row[9]) in own for row in rows)


def _descriptors() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


class Asking(SlapdCase):
    async def test_attributes_come_with_the_login(self) -> None:  # SUN-8
        verifyObject(ISource, self.source)
        expected = Entry(
            JOE,
            Attributes(
                status=AccountStatus.ACTIVE,
                display_name="joe of LDAP",
                storage_limit=20 * 2**20,
                message_limit=NO_LIMIT,
                allowed_services="+imap:ALL$-pop:ALL",
                mail_host="store1.example.org",
                aliases=("j.smith@example.org",),
            ),
        )
        for name in (JOE, "joe", "j.smith@example.org"):
            self.assertEqual(await self.logs_in(name), expected)
            self.assertEqual(await self.source.find(name), expected)
        self.assertIn("bad address@", self.log())

    async def test_wrong_passwords_and_strangers_are_refused(self) -> None:
        for name, password in (
            (JOE, "wrong"),
            (JOE, ""),  # a bind without a password would succeed (RFC 4513 §5.1.2)
            (JOE, PASSWORD + "\0"),
            (JOE, "x" * 2000),
            ("nobody@example.org", PASSWORD),
            ("nobody@example.org", ""),
            ("admin", "admin"),
            ("mail", SERVICE_PASSWORD),
        ):
            self.assertIsNone(await self.logs_in(name, password), (name, password))

    async def test_hostile_names_find_nobody(self) -> None:  # S4
        for name in (
            "*",
            "j*",
            "joe)(uid=joe",
            "*)(objectClass=*",
            "joe\0",
            "\ud800",
            "uid=joe,dc=example,dc=org",
            "x" * 10_000,
            "joe))(|(uid=joe",
        ):
            self.assertIsNone(await self.logs_in(name), name)
            self.assertIsNone(await self.source.find(name), name)
        star = await self.logs_in("star*")
        assert star is not None
        self.assertEqual(star.name, "star@example.org")

    async def test_a_name_of_two_lets_nobody_in(self) -> None:
        self.assertIsNone(await self.logs_in("twin@example.org"))
        self.assertIn("several entries for 'twin@example.org'", self.log())
        self.assertIsNotNone(await self.logs_in("twin1"))

    async def test_a_value_that_is_not_understood_is_in_the_log(self) -> None:
        ann = await self.source.find("ann@example.org")
        self.assertEqual(ann.attributes.storage_limit, None)
        self.assertIn(f"uid=ann,{BASE}: mailQuota: 'much'", self.log())

    async def test_attributes_may_have_other_names(self) -> None:
        other = self.made(attributes={"mailHost": "sn", "mailQuota": "", "cn": "uid"})
        joe = await self.logs_in(JOE, of=other)
        assert joe is not None
        self.assertEqual(joe.attributes.mail_host, "joe")
        self.assertEqual(joe.attributes.display_name, "joe")
        self.assertEqual(joe.attributes.storage_limit, None)

    async def test_passwords_can_be_compared_here(self) -> None:
        comparing = self.made(compares=True)
        self.assertIsNotNone(await self.logs_in(JOE, of=comparing))
        self.assertIsNotNone(await self.logs_in("hash", "another", of=comparing))
        self.assertIsNone(await self.logs_in("hash", "wrong", of=comparing))
        self.assertIsNone(await self.logs_in("nobody", "another", of=comparing))
        self.assertIsNone(await self.logs_in("hash", "", of=comparing))

    async def test_a_change_of_the_password_acts_at_once(self) -> None:
        """What was remembered is forgotten when the entry changes."""
        for _ in range(2):
            self.assertIsNotNone(await self.logs_in("twin2"))
        self.slapd.modify("twin2", "changetype: modify", "replace: userPassword", "userPassword: n")
        self.assertIsNone(await self.logs_in("twin2"))
        self.assertIsNotNone(await self.logs_in("twin2", "n"))

    async def test_many_at_once_use_the_connections_that_are_allowed(self) -> None:
        two = self.made(connections=2)
        found = await gatherResults(
            [Deferred.fromCoroutine(self.logs_in(JOE, of=two)) for _ in range(40)]
        )
        self.assertNotIn(None, found)
        self.assertLessEqual(self.connections(), 4)
        two.stop()
        self.assertEqual(self.connections(), 0)


class Encryption(SlapdCase):
    async def test_ldaps_and_starttls_with_a_certificate_that_is_trusted(self) -> None:
        trusted = {"ca_file": self.authority}
        self.assertIsNotNone(
            await self.logs_in(JOE, of=self.made(uris=(self.slapd.tls_uri,), **trusted))
        )
        uri = self.slapd.uri
        self.assertIsNotNone(
            await self.logs_in(JOE, of=self.made(uris=(uri,), starttls=True, **trusted))
        )

    async def test_one_that_is_not_trusted_gets_no_password(self) -> None:
        uri = self.slapd.uri
        for refused in (
            self.made(uris=(self.slapd.tls_uri,)),
            self.made(uris=(uri,), starttls=True),
            self.made(uris=(f"ldaps://localhost:{self.slapd.tls_port}",), ca_file=self.authority),
        ):
            await self.is_unavailable(self.logs_in(JOE, of=refused))
        self.assertIn("cannot be asked", self.log())


class Failing(SlapdCase):
    async def test_a_server_that_is_killed_and_comes_back(self) -> None:  # T40
        self.assertIsNotNone(await self.logs_in(JOE))
        before = self.connections()
        self.slapd.kill()
        for _ in range(5):
            await self.is_unavailable(self.logs_in(JOE))
            await self.is_unavailable(self.logs_in("nobody"))
            await self.is_unavailable(self.source.find(JOE))
        self.assertEqual(self.connections(), 0)
        self.assertEqual(self.log().count("cannot be asked"), 1, "once, not for every login")
        self.slapd.start()
        for _ in range(5):
            self.assertIsNotNone(await self.logs_in(JOE))
        self.assertLessEqual(self.connections(), before)
        self.assertIn("answers again", self.log())

    async def test_a_connection_that_was_cut_unseen_is_made_anew(self) -> None:
        self.assertIsNotNone(await self.logs_in(JOE))
        self.slapd.kill()
        self.slapd.start()
        self.assertIsNotNone(await self.logs_in(JOE))
        self.assertNotIn("cannot be asked", self.log())

    async def test_a_server_that_hangs_costs_the_timeout_and_not_for_everybody(self) -> None:
        slow = self.made(timeout=0.3, retry=60.0, connections=2)
        self.assertIsNotNone(await self.logs_in(JOE, of=slow))
        self.addCleanup(self.slapd.thaw)
        self.slapd.freeze()
        start = reactor.seconds()  # type: ignore[attr-defined]
        tries = [
            Deferred.fromCoroutine(self.is_unavailable(self.logs_in(JOE, of=slow)))
            for _ in range(30)
        ]
        await gatherResults(tries)
        # One after the other they would take four seconds and a half.
        self.assertLess(reactor.seconds() - start, 3.0)  # type: ignore[attr-defined]
        self.assertIn("cannot be asked", self.log())

    async def test_a_service_that_is_not_let_in_is_no_wrong_password(self) -> None:
        for wrong in (self.made(bind_password="wrong"), self.made(base="dc=nowhere")):
            await self.is_unavailable(self.logs_in(JOE, of=wrong))
        self.assertIn(f"does not let '{SERVICE_DN}' in", self.log())
        self.assertIn("'dc=nowhere' is not there", self.log())
        self.assertNotIn("wrong", self.log())

    def test_secrets_do_not_show(self) -> None:  # S13
        self.assertNotIn(SERVICE_PASSWORD, repr(self.source._settings))
