"""Passwords of our own directory, those for single devices among them."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.auth.checkers import IChecker, Login
from mailserver.auth.checkers.directory import DirectoryChecker
from mailserver.auth.passwords import HashParameters, Passwords
from mailserver.auth.pool import FairPool
from mailserver.model.account import AppPassword, Attributes
from mailserver.model.secrets import ScramSecrets, SecretKind, scram_keys
from mailserver.service.accounts import add_app_password, set_password
from mailserver.store.directory import Directory, NewAccount
from tests.auth.timing import assert_same_cost

JOE, PASSWORD = "joe@example.org", "Passw0rd"
CHEAP = HashParameters(time_cost=1, memory_cost=1024, scram_iterations=4096)


class AppPasswordCase(TestCase):
    """joe has a password, and app passwords as a test makes them."""

    async def setUp(self) -> None:
        folder = Path(mkdtemp())
        self.addCleanup(rmtree, folder)
        self.directory = Directory.open(folder / "directory.sqlite", reactor)
        self.addCleanup(lambda: ensureDeferred(self.directory.stop()))
        pool = FairPool(reactor, 1)
        pool.start()
        self.addCleanup(pool.stop)
        self.passwords = Passwords(pool, reactor, CHEAP)
        verifiers = await self.passwords.verifiers(PASSWORD)
        self.joe = await self.directory.create_account(
            NewAccount(JOE, verifiers=verifiers), add_domains=True
        )
        self.checker = DirectoryChecker(
            self.directory, self.directory, self.passwords, self.directory
        )

    async def made(self, name: str, *services: str) -> str:
        return await add_app_password(self.directory, CHEAP, self.joe.id, name, services)

    async def logs_in(self, password: str, service: str = "imaps", name: str = JOE) -> bool:
        found = await self.checker.check(Login(name, password, "192.0.2.1", service))
        return found == self.joe

    async def scram(self, service: str = "imap") -> ScramSecrets:
        kept = await self.checker.secrets(JOE, SecretKind.SCRAM_SHA_256, service)
        assert kept is not None and isinstance(kept.secrets, ScramSecrets)
        return kept.secrets

    async def proves(self, password: str, service: str = "imap") -> bool:
        secrets = await self.scram(service)
        made = scram_keys(
            SecretKind.SCRAM_SHA_256, password.encode(), secrets.salt, secrets.iterations
        )
        return any(made.stored_key == keys.stored_key for keys in secrets.keys)


class AppPasswords(AppPasswordCase):
    async def test_each_is_good_beside_the_accounts_own(self) -> None:
        verifyObject(IChecker, self.checker)
        phone, tablet = await self.made("phone"), await self.made("tablet")
        self.assertRegex(phone, r"\A([a-z2-9]{4}-){5}[a-z2-9]{4}\Z")
        self.assertNotEqual(phone, tablet)
        for password in (phone, tablet, PASSWORD):
            self.assertTrue(await self.logs_in(password))
            self.assertTrue(await self.proves(password))
        for password in ("", phone.upper(), phone.replace("-", ""), phone + "x"):
            self.assertFalse(await self.logs_in(password))

    async def test_one_that_is_removed_is_good_no_more(self) -> None:
        phone, tablet = await self.made("phone"), await self.made("tablet")
        self.assertTrue(await self.logs_in(phone))
        await self.directory.remove_app_password(self.joe.id, "phone")
        self.assertFalse(await self.logs_in(phone))
        self.assertFalse(await self.proves(phone))
        self.assertTrue(await self.logs_in(tablet))

    async def test_it_can_be_limited_to_services(self) -> None:
        phone = await self.made("phone", "imap", "smtp")
        for service, allowed in (("imap", True), ("imaps", True), ("pop", False), ("pops", False)):
            self.assertIs(await self.logs_in(phone, service), allowed, service)
            self.assertIs(await self.proves(phone, service), allowed, service)
        self.assertTrue(await self.logs_in(PASSWORD, "pop"))

    async def test_it_is_of_one_account_alone(self) -> None:
        phone = await self.made("phone")
        await self.directory.create_account(NewAccount("ann@example.org"))
        self.assertFalse(await self.logs_in(phone, name="ann@example.org"))
        self.assertFalse(await self.logs_in(phone, name="nobody@example.org"))

    async def test_a_new_password_of_the_account_leaves_them_as_they_are(self) -> None:
        phone = await self.made("phone")
        await set_password(self.directory, self.passwords, self.joe.id, "another")
        for password, good in ((phone, True), ("another", True), (PASSWORD, False)):
            self.assertIs(await self.logs_in(password), good)
            self.assertIs(await self.proves(password), good)

    async def test_the_last_use_is_known_by_every_mechanism(self) -> None:
        phone = await self.made("phone")
        await self.made("tablet")
        await self.logs_in(phone)
        kept = await self.checker.secrets(JOE, SecretKind.SCRAM_SHA_256, "imap")
        assert kept is not None and isinstance(kept.secrets, ScramSecrets)
        [tablet] = [
            one for one in await self.directory.app_passwords(self.joe.id) if one.name == "tablet"
        ]
        await self.checker.used(kept, tablet.id)
        self.assertEqual(kept.secrets.keys[0].label, "")
        await self.directory._write_last_used()
        for one in await self.directory.app_passwords(self.joe.id):
            self.assertIsNotNone(one.last_used, one.name)

    async def test_scram_is_left_to_the_source_that_has_the_accounts_password(self) -> None:
        ann = await self.directory.create_account(
            NewAccount("ann@example.org", source="passwd-file", said=Attributes())
        )
        phone = await add_app_password(self.directory, CHEAP, ann.id, "phone", ())
        kind = SecretKind.SCRAM_SHA_256
        self.assertIsNone(await self.checker.secrets("ann@example.org", kind, "imap"))
        found = await self.checker.check(Login("ann@example.org", phone, "192.0.2.1", "imap"))
        assert found is not None
        self.assertEqual(found.id, ann.id)

    async def test_both_kinds_of_no_cost_the_same(self) -> None:  # S7
        for number in range(5):
            await self.made(f"device {number}")
        # Not as dear as a real one, but beside it the look at the digests is nothing.
        passwords = Passwords(self.passwords._pool, reactor, HashParameters(1, 4096))
        verifiers = await passwords.verifiers(PASSWORD)
        await self.directory.set_verifiers(self.joe.id, verifiers)
        self.checker = DirectoryChecker(self.directory, self.directory, passwords, self.directory)
        await assert_same_cost(
            {
                "wrong": lambda: self.logs_in("wrong"),
                "unknown": lambda: self.logs_in("wrong", name="nobody@example.org"),
            }
        )

    def test_nothing_secret_shows(self) -> None:  # S13
        shown = repr(AppPassword("id", "phone", frozenset(), b"canary", "canary", "canary"))
        self.assertNotIn("canary", shown)
