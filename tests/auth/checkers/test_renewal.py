"""Passwords are hashed anew when the parameters have changed and the password is at hand."""

from __future__ import annotations

import attrs
from twisted.internet import reactor

from mailserver.auth.checkers.directory import DirectoryChecker
from mailserver.auth.passwords import HashParameters, Passwords
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Verifiers
from mailserver.model.ids import AccountId
from tests.auth.checkers.test_directory import CHEAP, PASSWORD, AppPasswordCase

DEARER = attrs.evolve(CHEAP, time_cost=2, scram_sha1=True)


class Renewal(AppPasswordCase):
    def use(self, parameters: HashParameters) -> None:
        """As after a restart with other options."""
        passwords = Passwords(self.passwords._pool, reactor, parameters)
        self.checker = DirectoryChecker(self.directory, self.directory, passwords, self.directory)

    async def stored(self) -> Verifiers:
        return await self.directory.verifiers(self.joe.id)

    async def test_the_next_right_password_is_hashed_with_the_new_parameters(self) -> None:
        phone = await self.made("phone")
        before = await self.stored()
        self.assertTrue(await self.logs_in(PASSWORD))
        self.assertEqual(await self.stored(), before, "nothing has changed yet")
        self.use(DEARER)
        for wrong in ("wrong", phone):
            await self.logs_in(wrong)
            self.assertEqual(await self.stored(), before, "only the account's own password")
        self.assertTrue(await self.logs_in(PASSWORD))
        after = await self.stored()
        self.assertIn(",t=2,", after.argon2id)
        self.assertEqual(after.scram_sha256, before.scram_sha256, "it shares its salt")
        self.assertTrue(after.scram_sha1)
        self.assertTrue(await self.proves(PASSWORD) and await self.proves(phone))
        self.assertTrue(await self.logs_in(PASSWORD))
        self.assertEqual(await self.stored(), after, "once is enough")

    async def test_a_password_that_was_changed_meanwhile_stays(self) -> None:
        """Else the old password would be good again."""
        before = await self.stored()
        new = await self.passwords.verifiers("new")
        await self.directory.set_verifiers(self.joe.id, new)
        await self.directory.renew_verifiers(self.joe.id, before, Verifiers("a", "b", "c"))
        self.assertEqual(await self.stored(), new)

    async def test_where_it_cannot_be_written_people_still_come_in(self) -> None:
        before = await self.stored()

        async def full(account: AccountId, old: Verifiers, new: Verifiers) -> None:
            raise MailError(ErrorKind.DISK_FULL, "the disk is full")

        self.patch(self.directory, "renew_verifiers", full)
        self.use(DEARER)
        self.assertTrue(await self.logs_in(PASSWORD))
        self.assertEqual(await self.stored(), before)
