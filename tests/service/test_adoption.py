"""Accounts of other sources become ours: over a real directory, store and passwd-file."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.auth.passwords import HashParameters
from mailserver.auth.throttle import ThrottleLimits
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IDirectory
from mailserver.model.account import Account, AccountStatus
from mailserver.model.ids import Principal
from mailserver.service.accounts import add_app_password, update_account
from mailserver.service.installation import Installation, InstallationSettings, Role
from mailserver.service.sources import SourceSettings
from mailserver.store.directory import NewAccount

PASSWORD = "canary-adopted"
JOE = "joe@example.org"
LINE = f"{JOE}:{{PLAIN}}{PASSWORD}::::::userdb_quota_rule=*:storage=5M:messages=3\n"


class AdoptionCase(TestCase):
    """An installation whose chain is the directory and a passwd-file with joe."""

    order: tuple[str, ...] = ("directory", "passwd-file")
    fresh_for = 0.0

    async def setUp(self) -> None:
        self.folder = Path(mkdtemp())
        self.addCleanup(rmtree, self.folder)
        self.path = self.folder / "passwd"
        self.write(LINE)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.installation = await self.opened()
        self.addCleanup(lambda: ensureDeferred(self.installation.stop()))

    async def opened(self) -> Installation:
        settings = InstallationSettings(
            self.folder / "data",
            hashes=HashParameters(time_cost=1, memory_cost=8),
            throttle=ThrottleLimits(first_delay=0, max_delay=0),
            sources=SourceSettings(self.order, self.fresh_for, self.path, "PLAIN"),
        )
        return await Installation.open(settings, reactor, Role.SERVER)

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(0o600)

    async def login(
        self, name: str = JOE, password: str = PASSWORD, service: str = "imap"
    ) -> Principal:
        return await self.installation.authenticator.check_password(
            name, password, authzid="", service=service, address="192.0.2.1"
        )

    async def refused(self, kind: ErrorKind, name: str = JOE, password: str = PASSWORD) -> None:
        with pytest.raises(MailError) as refusal:
            await self.login(name, password)
        self.assertIs(refusal.value.kind, kind)

    async def joe(self) -> Account:
        found = await self.installation.directory.account(JOE)
        assert found is not None
        return found

    async def limits(self, account: Account) -> tuple[int | None, int | None]:
        """What the store counts against."""
        store, who = self.installation.store, Principal(account.id, account.name, account.name)
        inbox = await store.find(who, "INBOX")
        [root] = await store.quota_roots(who, inbox.ref)
        return root.storage_limit, root.message_limit

    def log(self) -> str:
        return "\n".join(str(formatEvent(event)) for event in self.logged)


class FirstTime(AdoptionCase):
    async def test_the_first_login_makes_the_account_with_its_quota(self) -> None:
        self.assertIsNone(await self.installation.accounts.account(JOE))
        principal = await self.login()
        joe = await self.joe()
        self.assertEqual((principal.account, joe.source), (joe.id, "passwd-file"))
        self.assertEqual(await self.limits(joe), (5 * 2**20, 3))
        self.assertTrue(self.installation.directory.is_local_domain("example.org"))
        self.assertEqual((await self.login()).account, joe.id)

    async def test_the_first_delivery_makes_it_too(self) -> None:
        verifyObject(IDirectory, self.installation.accounts)
        recipient = await self.installation.accounts.recipient("Joe+Lists@Example.org")
        self.assertEqual((recipient.account.name, recipient.detail), (JOE, "Lists"))
        self.assertEqual(await self.limits(recipient.account), (5 * 2**20, 3))
        self.assertEqual((await self.login()).account, recipient.account.id)

    async def test_a_failed_login_makes_nothing(self) -> None:
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, JOE, "wrong")
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, "nobody@example.org")
        self.assertEqual(await self.installation.directory.accounts(), [])

    async def test_an_address_that_no_source_knows_is_refused(self) -> None:
        for address in ("nobody@example.org", "a+b+c+d@example.org", "+@x.example", "no domain"):
            with pytest.raises(MailError) as refusal:
                await self.installation.accounts.recipient(address)
            self.assertIs(refusal.value.kind, ErrorKind.NONEXISTENT, address)

    async def test_many_at_once_make_one(self) -> None:
        found = await gatherResults([Deferred.fromCoroutine(self.login()) for _ in range(8)])
        self.assertEqual(len({principal.account for principal in found}), 1)
        self.assertEqual(len(await self.installation.directory.accounts()), 1)
        accounts = list((self.folder / "data" / "accounts").glob("*/*"))
        self.assertEqual(len(accounts), 1, "what the others began is removed")


class Later(AdoptionCase):
    async def test_a_new_quota_of_the_source_acts(self) -> None:
        await self.login()
        self.write(LINE.replace("5M", "6M"))
        await self.installation.accounts.recipient(JOE)
        self.assertEqual(await self.limits(await self.joe()), (6 * 2**20, 3))
        self.write(f"{JOE}:{{PLAIN}}{PASSWORD}\n")
        await self.login()
        self.assertEqual(await self.limits(await self.joe()), (None, None))

    async def test_an_account_that_was_here_before_takes_what_the_source_says(self) -> None:
        directory, store = self.installation.directory, self.installation.store
        joe = await directory.create_account(NewAccount(JOE), add_domains=True)
        await store.create_account(joe)
        await update_account(directory, store, joe.id, {"storage_limit": 1, "language": "de"})
        await self.login()
        found = await self.joe()
        self.assertEqual((found.id, found.language), (joe.id, "de"))
        self.assertEqual(await self.limits(found), (5 * 2**20, 3))
        self.write("")
        await self.installation.accounts.recipient(JOE)
        self.assertEqual(await self.limits(await self.joe()), (1, None), "its own hold again")

    async def test_one_that_the_source_has_no_more_is_closed_for_the_time_being(self) -> None:
        principal = await self.login()
        hashes = self.installation.settings.hashes
        directory = self.installation.directory
        phone = await add_app_password(directory, hashes, principal.account, "phone", ())
        await self.login(password=phone)
        self.write("# nobody\n")
        await self.refused(ErrorKind.AUTHENTICATION_FAILED)
        await self.refused(ErrorKind.DISABLED, JOE, phone)
        with pytest.raises(MailError) as refusal:
            await self.installation.accounts.recipient(JOE)
        self.assertIs(refusal.value.kind, ErrorKind.DISABLED, "mail waits at its sender")
        self.assertIs((await self.joe()).status, AccountStatus.INACTIVE)
        self.assertIn("passwd-file does not know joe@example.org any more", self.log())
        self.write(LINE)
        self.assertEqual((await self.login()).account, principal.account)
        await self.installation.accounts.recipient(JOE)

    async def test_while_the_file_is_gone_mail_flows(self) -> None:
        await self.login()
        self.path.unlink()
        await self.installation.accounts.recipient(JOE)
        await self.login()

    async def test_a_service_that_the_source_forbids_is_refused(self) -> None:  # SUN-8
        self.write(f"{JOE}:{{PLAIN}}{PASSWORD}::::::nologin\n")
        await self.refused(ErrorKind.DISABLED)
        self.assertEqual((await self.installation.accounts.recipient(JOE)).account.name, JOE)

    async def test_an_alias_here_lets_nobody_of_the_source_into_anothers_account(self) -> None:
        directory = self.installation.directory
        ann = await directory.create_account(NewAccount("ann@example.org"), add_domains=True)
        await directory.add_alias(JOE, ann.id)
        await self.refused(ErrorKind.AUTHENTICATION_FAILED)
        self.assertIn("is an alias of ann@example.org here", self.log())

    async def test_what_a_source_said_that_is_asked_no_more_is_the_accounts_own(self) -> None:
        await self.login()
        await self.installation.stop()
        self.order = ("directory",)
        self.installation = await self.opened()
        recipient = await self.installation.accounts.recipient(JOE)
        self.assertEqual((recipient.account.source, recipient.account.message_limit), ("", 3))
        directory, store = self.installation.directory, self.installation.store
        await update_account(directory, store, recipient.account.id, {"message_limit": 7})
        self.assertEqual(await self.limits(await self.joe()), (5 * 2**20, 7))


class Fresh(AdoptionCase):
    fresh_for = 3600.0

    async def test_what_was_said_a_moment_ago_is_not_asked_again_for_mail(self) -> None:
        await self.login()
        self.write(LINE.replace("5M", "6M"))
        await self.installation.accounts.recipient(JOE)
        self.assertEqual(await self.limits(await self.joe()), (5 * 2**20, 3))
        await self.login()
        self.assertEqual(await self.limits(await self.joe()), (6 * 2**20, 3), "but at a login")


class Without(AdoptionCase):
    """A chain without our own directory's passwords."""

    order = ("passwd-file",)

    async def test_only_the_chain_lets_in(self) -> None:
        verifiers = await self.installation.passwords.verifiers("own")
        await self.login()
        await self.installation.directory.set_verifiers((await self.joe()).id, verifiers)
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, JOE, "own")
