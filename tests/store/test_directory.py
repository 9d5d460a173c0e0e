"""The directory of accounts, on real files and with a second process writing."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAppPasswords, IDirectory, IVerifiers
from mailserver.model.account import (
    NO_LIMIT,
    Account,
    AccountStatus,
    AdminRight,
    AppPassword,
    Attributes,
    Verifiers,
)
from mailserver.model.ids import AccountId, MailboxId, MailboxRef
from mailserver.store.directory import Directory, NewAccount, Route


class DirectoryCase(TestCase):
    """A directory with two domains; joe, ann and joe+lists live in example.org."""

    async def setUp(self) -> None:
        self.path = Path(mkdtemp())
        self.addCleanup(rmtree, self.path)
        self.file = self.path / "directory.sqlite"
        self.directory = self.opened()
        await self.directory.add_domain("example.org")
        await self.directory.add_domain("B\u00fccher.example")
        self.joe = await self.directory.create_account(
            NewAccount("Joe@Example.org", aliases=("J.Smith@example.org",))
        )
        self.ann = await self.directory.create_account(NewAccount("ann@example.org"))
        self.lists = await self.directory.create_account(NewAccount("joe+lists@example.org"))

    def opened(self, **options: Any) -> Directory:
        directory = Directory.open(self.file, reactor, **options)
        self.addCleanup(lambda: ensureDeferred(directory.stop()))
        return directory

    async def assert_refused(
        self, kind: ErrorKind, work: Coroutine[Any, Any, Any], *words: str
    ) -> MailError:
        try:
            result = await work
        except MailError as refusal:
            self.assertIs(refusal.kind, kind, refusal.text)
            for word in words:
                self.assertIn(word, refusal.text)
            return refusal
        raise self.failureException(f"not refused: {result!r}")


class LookingUp(DirectoryCase):
    def test_it_is_what_it_says(self) -> None:
        verifyObject(IDirectory, self.directory)
        verifyObject(IVerifiers, self.directory)

    async def test_an_account_is_found_by_name_alias_and_id_in_any_spelling(self) -> None:
        for name in (
            "joe@example.org",
            "JOE@EXAMPLE.ORG",
            '"joe"@example.org',
            "j.smith@example.org",
        ):
            self.assertEqual(await self.directory.account(name), self.joe)
        self.assertEqual(await self.directory.account_by_id(self.joe.id), self.joe)
        self.assertRegex(self.joe.id, r"\A[0-9a-z]{26}\Z")
        self.assertEqual(self.joe.aliases, ("j.smith@example.org",))

    async def test_what_is_not_there_is_none(self) -> None:
        for name in (
            "",
            "nobody@example.org",
            "joe@other.example",
            "joe\0@example.org",
            "@",
            "joe",
        ):
            self.assertIsNone(await self.directory.account(name))
        self.assertIsNone(await self.directory.account_by_id(AccountId("0" * 26)))

    async def test_domains_in_either_form_are_one_domain(self) -> None:
        account = await self.directory.create_account(NewAccount("J\u00f6rg@B\u00dcCHER.example"))
        self.assertEqual(account.name, "j\u00f6rg@xn--bcher-kva.example")
        self.assertEqual(await self.directory.account("jo\u0308rg@xn--bcher-kva.example"), account)
        for domain in ("b\u00fccher.example", "XN--BCHER-KVA.example", "Example.ORG"):
            self.assertTrue(self.directory.is_local_domain(domain), domain)
        for domain in ("example.com", "", "[127.0.0.1]", "x" * 300):
            self.assertFalse(self.directory.is_local_domain(domain), domain)

    async def test_all_accounts_ascending_by_name_through_several_slices(self) -> None:
        await self.directory.create_accounts(
            [NewAccount(f"user{n:04}@example.org") for n in range(2500)]
        )
        names = [account.name for account in await self.directory.accounts()]
        self.assertEqual(len(names), 2503)
        self.assertEqual(names, sorted(names))

    async def test_a_change_by_another_handle_is_seen_at_once(self) -> None:
        other = self.opened()
        self.assertIsNone(await other.account("new@example.org"))
        made = await self.directory.create_account(NewAccount("new@example.org"))
        self.assertEqual(await other.account("new@example.org"), made)
        await other.update_account(made.id, {"status": AccountStatus.INACTIVE})
        found = await self.directory.account("new@example.org")
        assert found is not None
        self.assertIs(found.status, AccountStatus.INACTIVE)
        await self.directory.delete_account(made.id)
        self.assertIsNone(await other.account("new@example.org"))
        await self.directory.add_domain("example.net")
        self.assertTrue(other.is_local_domain("example.net"))

    async def test_a_repeated_look_up_reads_no_table(self) -> None:
        await self.directory.account("joe@example.org")
        await self.directory.account("nobody@example.org")
        asked: list[str] = []
        self.directory._database._reader.set_trace_callback(asked.append)  # type: ignore[union-attr]
        await self.directory.account("joe@example.org")
        await self.directory.account("nobody@example.org")
        self.assertEqual(set(asked), {"PRAGMA data_version"})

    async def test_what_is_kept_of_unknown_names_is_bounded(self) -> None:
        for n in range(10_100):
            await self.directory.account(f"nobody{n}@example.org")
        self.assertLess(len(self.directory._by_name), 10_001)


class LoginNames(DirectoryCase):
    async def check(self, table: dict[str, str]) -> None:
        for typed, name in table.items():
            self.assertEqual(await self.directory.login_name(typed), name, typed)

    async def test_separators_may_stand_for_the_at_sign(self) -> None:  # SUN-12
        await self.check(
            {
                "joe@example.org": "joe@example.org",
                "JOE+Example.ORG": "joe@example.org",
                "ann+b\u00fccher.example": "ann@xn--bcher-kva.example",
                "nobody+example.org": "nobody@example.org",
                "joe+other.example": "joe+other.example",
                "a+b+example.org": "a+b@example.org",
                " joe@example.org ": "joe@example.org",
            }
        )
        self.directory.login_separators = "%"
        await self.check(
            {"joe%example.org": "joe@example.org", "joe+example.org": "joe+example.org"}
        )

    async def test_the_exact_account_name_comes_first(self) -> None:  # SUN-12
        self.directory.default_domain = "example.org"
        await self.directory.add_domain("lists")
        await self.check({"joe+lists": "joe+lists@example.org", "ann+lists": "ann@lists"})

    async def test_the_default_domain_may_be_left_out(self) -> None:  # SUN-13
        await self.check({"Joe": "joe"})
        self.directory.default_domain = "example.org"
        await self.check({"Joe": "joe@example.org", "joe@other.example": "joe@other.example"})

    async def test_what_can_be_no_name_finds_nobody(self) -> None:
        for typed in ("", "@", "+example.org", "a b", "joe\0", "x" * 100_000, "\ud800"):
            name = await self.directory.login_name(typed)
            self.assertLessEqual(len(name), 400)
            self.assertIsNone(await self.directory.account(name))


class Recipients(DirectoryCase):
    async def test_exact_name_then_longest_name_before_a_plus(self) -> None:  # RFC 5233 §4
        for address, account, detail in (
            ("joe@example.org", self.joe, ""),
            ("Joe+Archive/2024@Example.org", self.joe, "Archive/2024"),
            ("joe+lists@example.org", self.lists, ""),
            ("JOE+LISTS+Python+Dev@example.org", self.lists, "Python+Dev"),
            ("joe+@example.org", self.joe, ""),
            ("j.smith+x@example.org", self.joe, "x"),
            ('"joe+My Folder"@example.org', self.joe, "My Folder"),
        ):
            found = await self.directory.recipient(address)
            self.assertEqual((found.account, found.detail), (account, detail), address)
            self.assertEqual(found.address, address)

    async def test_login_separators_are_not_for_recipients(self) -> None:  # SUN-12
        self.directory.default_domain = "b\u00fccher.example"
        await self.assert_refused(
            ErrorKind.NONEXISTENT, self.directory.recipient("joe+example.org")
        )

    async def test_unknown_ones_are_refused(self) -> None:
        for address in (
            "nobody@example.org",
            "joe@example.net",
            "joe",
            "",
            "joe@[127.0.0.1]",
            "+joe@example.org",
            "joe@example.org@example.org",
            "joe\r\n@example.org",
        ):
            await self.assert_refused(ErrorKind.NONEXISTENT, self.directory.recipient(address))

    async def test_the_default_domain_holds_for_recipients(self) -> None:
        self.directory.default_domain = "example.org"
        self.assertEqual((await self.directory.recipient("joe+x")).account, self.joe)

    async def test_an_inactive_account_refuses_for_now_a_deleted_one_for_good(self) -> None:
        await self.directory.update_account(self.joe.id, {"status": AccountStatus.INACTIVE})
        await self.assert_refused(ErrorKind.DISABLED, self.directory.recipient("joe@example.org"))
        await self.directory.update_account(self.joe.id, {"status": AccountStatus.DELETED})
        await self.assert_refused(
            ErrorKind.NONEXISTENT, self.directory.recipient("joe@example.org")
        )


class Changing(DirectoryCase):
    async def test_every_attribute_is_kept(self) -> None:
        new = NewAccount(
            "full@example.org",
            status=AccountStatus.INACTIVE,
            display_name="Full \u5168 Name",
            storage_limit=10 * 2**30,
            message_limit=1000,
            allowed_services="+imaps:*",
            mail_host="store2.example.org",
            language="pt-BR",
            disabled_capabilities=frozenset({"condstore", "STATUS=SIZE"}),
            aliases=("b@example.org", "A@example.org", "full@example.org"),
        )
        made = await self.directory.create_account(new)
        self.assertEqual(made.disabled_capabilities, {"CONDSTORE", "STATUS=SIZE"})
        self.assertEqual(made.aliases, ("a@example.org", "b@example.org"))
        self.assertEqual(await self.opened().account("full@example.org"), made)

    async def test_changes_touch_only_what_they_name(self) -> None:
        changed = await self.directory.update_account(
            self.joe.id, {"display_name": "Joe", "storage_limit": 0}
        )
        self.assertEqual(
            changed,
            Account(
                self.joe.id,
                "joe@example.org",
                display_name="Joe",
                storage_limit=0,
                aliases=("j.smith@example.org",),
            ),
        )
        changed = await self.directory.update_account(self.joe.id, {"storage_limit": None})
        self.assertIsNone(changed.storage_limit)
        self.assertEqual(await self.directory.update_account(self.joe.id, {}), changed)

    async def test_a_renamed_account_keeps_id_and_aliases(self) -> None:
        renamed = await self.directory.update_account(self.joe.id, {"name": "Joseph@example.org"})
        self.assertEqual(renamed.id, self.joe.id)
        self.assertEqual(renamed.aliases, ("j.smith@example.org",))
        self.assertIsNone(await self.directory.account("joe@example.org"))
        self.assertEqual(await self.directory.account("joseph@example.org"), renamed)

    async def test_bad_values_are_refused_with_the_reason(self) -> None:
        for changes, word in (
            ({"storage_limit": -1}, "storage limit"),
            ({"message_limit": 2**63}, "message limit"),
            ({"display_name": "a\nb"}, "control"),
            ({"display_name": "x" * 1001}, "1000"),
            ({"language": "english please"}, "language tag"),
            ({"disabled_capabilities": frozenset({"A B"})}, "capability"),
            ({"name": "a b@example.org"}, "address"),
        ):
            await self.assert_refused(
                ErrorKind.INVALID,
                self.directory.update_account(self.joe.id, changes),  # type: ignore[arg-type]
                word,
            )
        self.assertEqual(await self.directory.account_by_id(self.joe.id), self.joe)

    async def test_names_and_aliases_are_taken_once(self) -> None:
        for work in (
            self.directory.create_account(NewAccount("JOE@example.org")),
            self.directory.create_account(NewAccount("j.smith@example.org")),
            self.directory.create_account(
                NewAccount("x@example.org", aliases=("ann@example.org",))
            ),
            self.directory.add_alias("ann@example.org", self.joe.id),
            self.directory.update_account(self.ann.id, {"name": "j.smith@example.org"}),
        ):
            await self.assert_refused(ErrorKind.ALREADY_EXISTS, work)
        self.assertIsNone(await self.directory.account("x@example.org"))

    async def test_an_unknown_domain_makes_no_account_unless_asked_for(self) -> None:
        await self.assert_refused(
            ErrorKind.NONEXISTENT,
            self.directory.create_account(NewAccount("a@example.net")),
            "example.net",
        )
        await self.directory.create_account(NewAccount("a@example.net"), add_domains=True)
        self.assertTrue(self.directory.is_local_domain("example.net"))

    async def test_thousands_come_in_together_or_not_at_all(self) -> None:
        new = [NewAccount(f"u{n}@example.org") for n in range(3000)]
        refusal = await self.assert_refused(
            ErrorKind.ALREADY_EXISTS,
            self.directory.create_accounts([*new, NewAccount("Ann@example.org")]),
        )
        self.assertEqual(refusal.subject, "ann@example.org")
        self.assertEqual(len(await self.directory.accounts()), 3)
        made = await self.directory.create_accounts(new)
        self.assertEqual(len({account.id for account in made}), 3000)
        self.assertEqual(len(await self.directory.accounts()), 3003)

    async def test_ids_come_from_the_generator_that_was_given(self) -> None:
        other = self.opened(new_id=lambda: AccountId("z" * 26), now=lambda: 1.5)
        self.assertEqual((await other.create_account(NewAccount("z@example.org"))).id, "z" * 26)

    async def test_a_deleted_account_leaves_nothing(self) -> None:
        await self.directory.set_verifiers(self.joe.id, Verifiers("a", "b", "c"))
        await self.directory.set_rights(self.joe.id, "example.org", {AdminRight.SET_QUOTA})
        await self.directory.share(self.joe.id, {MailboxId("m"): {"ann@example.org"}})
        await self.directory.share(self.ann.id, {MailboxId("m"): {"joe@example.org"}})
        await self.directory.delete_account(self.joe.id)
        self.assertEqual(await self.directory.verifiers(self.joe.id), Verifiers())
        self.assertEqual(await self.directory.administrators("example.org"), [])
        self.assertEqual(await self.directory.aliases(), [])
        self.assertEqual(
            await self.directory.shared_with({"ann@example.org", "joe@example.org"}), []
        )
        await self.assert_refused(ErrorKind.NONEXISTENT, self.directory.delete_account(self.joe.id))

    async def test_verifiers_are_replaced_and_need_an_account(self) -> None:
        self.assertEqual(await self.directory.verifiers(self.joe.id), Verifiers())
        for verifiers in (Verifiers("$argon2id$1", "s256", "s1"), Verifiers("$argon2id$2")):
            await self.directory.set_verifiers(self.joe.id, verifiers)
            self.assertEqual(await self.directory.verifiers(self.joe.id), verifiers)
        await self.assert_refused(
            ErrorKind.NONEXISTENT,
            self.directory.set_verifiers(AccountId("0" * 26), Verifiers("x")),
        )

    async def test_aliases_come_and_go_but_an_own_name_stays(self) -> None:
        await self.directory.add_alias("Sales@B\u00fccher.example", self.ann.id)
        self.assertEqual(
            await self.directory.aliases(),
            [
                ("j.smith@example.org", "joe@example.org"),
                ("sales@xn--bcher-kva.example", "ann@example.org"),
            ],
        )
        await self.directory.remove_alias("SALES@b\u00fccher.example")
        for name in ("sales@b\u00fccher.example", "ann@example.org"):
            await self.assert_refused(
                ErrorKind.NONEXISTENT, self.directory.remove_alias(name), "alias"
            )

    async def test_a_domain_in_use_stays(self) -> None:
        await self.assert_refused(
            ErrorKind.IN_USE, self.directory.remove_domain("Example.org"), "ann@example.org"
        )
        await self.directory.remove_domain("b\u00fccher.example")
        self.assertEqual(self.directory.domains(), ["example.org"])
        await self.assert_refused(
            ErrorKind.NONEXISTENT, self.directory.remove_domain("b\u00fccher.example")
        )
        await self.assert_refused(ErrorKind.INVALID, self.directory.add_domain("a..b"))

    async def test_rights_of_domain_administrators(self) -> None:  # CGP-11
        both = {AdminRight.READ_ACCOUNTS, AdminRight.SET_QUOTA}
        await self.directory.set_rights(self.joe.id, "Example.org", both)
        await self.directory.set_rights(self.ann.id, "example.org", {AdminRight.READ_ACCOUNTS})
        self.assertEqual(await self.directory.rights(self.joe.id, "example.org"), both)
        self.assertEqual(await self.directory.rights(self.joe.id, "b\u00fccher.example"), set())
        self.assertEqual(
            await self.directory.administrators("example.org"),
            [("ann@example.org", {AdminRight.READ_ACCOUNTS}), ("joe@example.org", both)],
        )
        await self.directory.set_rights(self.joe.id, "example.org", ())
        self.assertEqual(await self.directory.rights(self.joe.id, "example.org"), set())
        await self.assert_refused(
            ErrorKind.NONEXISTENT,
            self.directory.set_rights(self.joe.id, "example.net", both),
        )

    async def test_routes_of_accounts_that_moved(self) -> None:  # CGP-9
        route = await self.directory.set_route("J.Smith@example.org", "John@othercompany.example")
        self.assertEqual(route, Route("j.smith@example.org", "John@othercompany.example"))
        self.assertEqual(await self.directory.route("j.SMITH@example.org"), route)
        self.assertIsNone(await self.directory.route("joe@example.org"))
        self.assertIsNone(await self.directory.route("\0"))
        self.assertEqual(await self.directory.routes(), [route])
        await self.assert_refused(
            ErrorKind.INVALID, self.directory.set_route("joe@example.org", "John")
        )
        await self.directory.remove_route("j.smith@example.org")
        await self.assert_refused(
            ErrorKind.NONEXISTENT, self.directory.remove_route("j.smith@example.org")
        )

    async def test_shared_mailboxes_are_found_by_any_identifier(self) -> None:
        a, b = MailboxId("a"), MailboxId("b")
        await self.directory.share(self.joe.id, {a: {"ann@example.org", "anyone"}, b: {"anyone"}})
        both = [MailboxRef(self.joe.id, a), MailboxRef(self.joe.id, b)]
        self.assertEqual(await self.directory.shared_with(["anyone", "ann@example.org"]), both)
        self.assertEqual(await self.directory.shared_with(["ann@example.org"]), both[:1])
        self.assertEqual(await self.directory.shared_with([]), [])
        await self.directory.share(self.joe.id, {a: ()})
        self.assertEqual(await self.directory.shared_with(["anyone"]), both[1:])
        await self.directory.reshare(self.joe.id, {a: {"anyone"}})
        self.assertEqual(await self.directory.shared_with(["anyone"]), both[:1])


PHONE = AppPassword("id1", "phone", frozenset({"imap"}), b"digest" * 5, "keys256", "keys1")


class AppPasswords(DirectoryCase):
    async def test_they_are_kept_listed_and_removed_one_by_one(self) -> None:
        verifyObject(IAppPasswords, self.directory)
        await self.directory.add_app_password(self.joe.id, PHONE)
        await self.directory.add_app_password(
            self.joe.id, attrs.evolve(PHONE, id="id2", name="tablet", services=frozenset())
        )
        found = await self.directory.app_passwords(self.joe.id)
        self.assertEqual([one.name for one in found], ["phone", "tablet"])
        self.assertEqual(attrs.evolve(found[0], created=0), PHONE)
        self.assertGreater(found[0].created, 0)
        self.assertEqual(await self.directory.app_passwords(self.ann.id), [])
        await self.directory.remove_app_password(self.joe.id, "phone")
        [left] = await self.directory.app_passwords(self.joe.id)
        self.assertEqual(left.name, "tablet")
        await self.directory.delete_account(self.joe.id)
        self.assertEqual(await self.directory.app_passwords(self.joe.id), [])

    async def test_what_cannot_be_is_refused(self) -> None:
        await self.directory.add_app_password(self.joe.id, PHONE)
        add, remove = self.directory.add_app_password, self.directory.remove_app_password
        await self.assert_refused(ErrorKind.ALREADY_EXISTS, add(self.joe.id, PHONE), "phone")
        for name in ("", " ", "a\nb", "x" * 101):
            bad = attrs.evolve(PHONE, id="id3", name=name)
            await self.assert_refused(ErrorKind.INVALID, add(self.joe.id, bad))
        nobody = AccountId("nobody")
        await self.assert_refused(ErrorKind.NONEXISTENT, add(nobody, PHONE))
        await self.assert_refused(ErrorKind.NONEXISTENT, remove(self.joe.id, "tablet"), "tablet")

    async def test_the_last_use_is_written_without_haste_and_at_the_stop(self) -> None:
        now = [1_000_000.0]
        directory = self.opened(now=lambda: now[0])
        await directory.add_app_password(self.joe.id, PHONE)
        [phone] = await directory.app_passwords(self.joe.id)
        directory.app_password_used(phone)
        self.assertEqual((await directory.app_passwords(self.joe.id))[0].last_used, None)
        await directory.stop()
        directory = self.opened(now=lambda: now[0])
        [phone] = await directory.app_passwords(self.joe.id)
        self.assertEqual(phone.last_used, 1_000_000)
        now[0] += 599
        directory.app_password_used(phone)
        await directory.stop()
        [phone] = await self.directory.app_passwords(self.joe.id)
        self.assertEqual(phone.last_used, 1_000_000, "ten minutes are near enough")


SAID = Attributes(
    status=AccountStatus.ACTIVE,
    display_name="Joe of LDAP",
    storage_limit=5_000,
    message_limit=NO_LIMIT,
    allowed_services="+imap:*",
    mail_host="store1.example.org",
    aliases=("joseph@example.org", "js@other.example"),
)


class Sourced(DirectoryCase):
    async def test_what_a_source_says_wins_and_what_it_does_not_say_is_ours(self) -> None:
        await self.directory.update_account(
            self.joe.id, {"storage_limit": 1, "message_limit": 2, "language": "de"}
        )
        self.assertEqual(await self.directory.said(self.joe.id), None)
        self.assertEqual(await self.directory.say(self.joe.id, "ldap", SAID), [])
        joe = await self.directory.account("joseph@example.org")
        assert joe is not None
        self.assertEqual((joe.storage_limit, joe.message_limit), (5_000, None))
        self.assertEqual((joe.display_name, joe.allowed_services), ("Joe of LDAP", "+imap:*"))
        self.assertEqual((joe.mail_host, joe.language), ("store1.example.org", "de"))
        self.assertEqual(joe.source, "ldap")
        self.assertEqual(
            joe.aliases, ("j.smith@example.org", "joseph@example.org", "js@other.example")
        )
        said = await self.directory.said(self.joe.id)
        assert said is not None
        self.assertEqual((said.source, said.made, said.attributes), ("ldap", False, SAID))
        await self.directory.say(self.joe.id, "ldap", Attributes(aliases=SAID.aliases[:1]))
        joe = await self.directory.account("joe@example.org")
        assert joe is not None
        self.assertEqual((joe.storage_limit, joe.message_limit), (1, 2))
        self.assertEqual(joe.aliases, ("j.smith@example.org", "joseph@example.org"))

    async def test_an_alias_that_is_somebody_elses_is_left_out_and_told(self) -> None:
        aliases = ("ann@example.org", "joseph@example.org", "no address")
        left_out = await self.directory.say(self.joe.id, "ldap", Attributes(aliases=aliases))
        self.assertEqual(set(left_out), {"ann@example.org", "no address"})
        self.assertEqual(await self.directory.account("ann@example.org"), self.ann)

    async def test_one_that_was_here_before_stays_when_the_source_falls_silent(self) -> None:
        await self.directory.say(self.joe.id, "ldap", SAID)
        await self.directory.fall_silent(self.joe.id)
        self.assertEqual(await self.directory.account("joe@example.org"), self.joe)

    async def test_one_that_came_from_the_source_is_closed_for_the_time_being(self) -> None:
        new = NewAccount("eve@example.org", source="ldap", said=SAID)
        eve = await self.directory.create_account(new)
        await self.directory.fall_silent(eve.id)
        found = await self.directory.account("eve@example.org")
        assert found is not None
        self.assertIs(found.status, AccountStatus.INACTIVE)
        self.assertEqual(found.storage_limit, 5_000)
        await self.directory.say(eve.id, "ldap", SAID)
        found = await self.directory.account("eve@example.org")
        assert found is not None
        self.assertIs(found.status, AccountStatus.ACTIVE)
        said = await self.directory.said(eve.id)
        assert said is not None and said.made


class Files(DirectoryCase):
    async def test_only_the_owner_can_read_it(self) -> None:  # S14
        for file in self.path.iterdir():
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600, file.name)
        self.assertEqual(
            {file.name for file in self.path.iterdir()},
            {"directory.sqlite", "directory.sqlite-wal", "directory.sqlite-shm"},
        )
        self.file.chmod(0o644)
        self.opened()
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)

    async def test_a_clean_stop_leaves_one_file_with_everything(self) -> None:
        await self.directory.stop()
        await self.directory.stop()
        self.assertEqual([file.name for file in self.path.iterdir()], ["directory.sqlite"])
        self.assertEqual(await self.opened().account("joe@example.org"), self.joe)

    async def test_after_the_stop_it_refuses(self) -> None:
        await self.directory.stop()
        await self.assert_refused(ErrorKind.UNAVAILABLE, self.directory.account("joe@example.org"))
        await self.assert_refused(ErrorKind.UNAVAILABLE, self.directory.add_domain("example.net"))

    def refused_to_open(self, word: str) -> None:
        refusal = self.assertRaises(MailError, Directory.open, self.file, reactor)
        self.assertIs(refusal.kind, ErrorKind.CORRUPT)
        self.assertIn(word, refusal.text)

    async def test_a_newer_schema_is_refused(self) -> None:  # R17
        await self.directory.stop()
        with sqlite3.connect(self.file) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        self.refused_to_open("newer version")

    async def test_a_directory_of_the_first_schema_is_brought_up_to_date(self) -> None:  # R17
        await self.directory.stop()
        with sqlite3.connect(self.file) as db:
            db.execute("DROP TABLE sourced_alias")
            db.execute("DROP TABLE sourced")
            db.execute("DROP TABLE app_password")
            db.execute("PRAGMA user_version = 1")
        db.close()
        directory = self.opened()
        self.assertEqual(await directory.account("joe@example.org"), self.joe)
        await directory.add_app_password(self.joe.id, PHONE)
        await directory.say(self.joe.id, "ldap", SAID)
        await directory.stop()
        again = self.opened()
        self.assertEqual(len(await again.app_passwords(self.joe.id)), 1)

    async def test_a_foreign_database_is_refused_and_left_alone(self) -> None:
        await self.directory.stop()
        self.file.unlink()
        with sqlite3.connect(self.file) as db:
            db.execute("CREATE TABLE theirs (x)")
        db.close()
        before = self.file.read_bytes()
        self.refused_to_open("not a directory")
        with sqlite3.connect(self.file) as db:
            self.assertEqual(db.execute("SELECT name FROM sqlite_schema").fetchall(), [("theirs",)])
        db.close()
        self.assertEqual(len(self.file.read_bytes()), len(before))

    async def test_what_is_no_database_is_refused(self) -> None:
        await self.directory.stop()
        self.file.write_bytes(b"not a database at all" * 100)
        self.refused_to_open("damaged")
        self.file.unlink()
        os.symlink("elsewhere", self.file)
        refusal = self.assertRaises(MailError, Directory.open, self.file, reactor)
        self.assertIs(refusal.kind, ErrorKind.UNAVAILABLE)
        self.assertFalse((self.path / "elsewhere").exists())

    async def test_a_failed_change_leaves_the_directory_usable(self) -> None:
        def broken(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO domain VALUES ('half.example')")
            db.execute("INSERT INTO no_such_table VALUES (1)")

        await self.assert_refused(ErrorKind.UNAVAILABLE, self.directory._database.write(broken))
        self.assertFalse(self.directory.is_local_domain("half.example"))
        await self.directory.add_domain("whole.example")
        self.assertTrue(self.directory.is_local_domain("whole.example"))


class Failures(DirectoryCase):
    async def on_the_writer(self, statement: str) -> None:
        """Run a statement on the writing handle, outside a transaction."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("COMMIT")
            db.execute(statement).fetchall()
            db.execute("BEGIN")

        await self.directory._database.write(work)

    async def test_a_full_disk_is_said_and_reading_goes_on(self) -> None:  # R3
        await self.on_the_writer("PRAGMA max_page_count = 1")
        await self.assert_refused(
            ErrorKind.DISK_FULL,
            self.directory.create_accounts(
                [NewAccount(f"u{n}@example.org", display_name="x" * 900) for n in range(100)]
            ),
        )
        self.assertEqual(await self.directory.account("joe@example.org"), self.joe)
        self.assertEqual(len(await self.directory.accounts()), 3)
        # The handle was opened anew, and with it the limit is gone: works without a restart.
        await self.directory.create_account(NewAccount("later@example.org"))

    async def test_a_write_that_another_process_holds_up_is_refused_at_last(self) -> None:
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        await self.on_the_writer("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        refusal = await self.assert_refused(
            ErrorKind.UNAVAILABLE, self.directory.add_domain("example.net"), "try again"
        )
        self.assertNotIn("locked", refusal.text, "the engine's words are for the log")
        self.assertEqual(await self.directory.account("joe@example.org"), self.joe)
        other.execute("ROLLBACK")
        await self.directory.add_domain("example.net")

    async def test_damage_is_said(self) -> None:  # R6
        await self.directory.stop()
        with sqlite3.connect(self.file) as db:
            pages = db.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall()
        db.close()
        octets = bytearray(self.file.read_bytes())
        for (page,) in pages:
            octets[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
        self.file.write_bytes(octets)
        directory = self.opened()
        await self.assert_refused(ErrorKind.CORRUPT, directory.account("joe@example.org"))
        await self.assert_refused(ErrorKind.CORRUPT, directory.add_domain("example.net"))


PROGRAM = """
import sys
from pathlib import Path
from twisted.internet import task
from mailserver.store.directory import Directory, NewAccount

async def main(reactor):
    directory = Directory.open(Path(sys.argv[1]), reactor)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(int(sys.argv[2])):
        await directory.create_account(NewAccount(f"theirs{n}@example.org"))
        print(n, flush=True)
    await directory.stop()

task.react(main)
"""


class TwoProcesses(DirectoryCase):
    def child(self, accounts: int) -> subprocess.Popen[bytes]:
        """A process that makes so many accounts once it is told to."""
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.file.absolute()), str(accounts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdin is not None and child.stdout is not None
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.stdout.close)
        self.assertEqual(child.stdout.readline(), b"ready\n")
        child.stdin.write(b"go\n")
        child.stdin.flush()
        return child

    async def test_two_processes_write_at_once_and_lose_nothing(self) -> None:
        child = self.child(100)
        await gatherResults(
            [
                ensureDeferred(self.directory.create_account(NewAccount(f"ours{n}@example.org")))
                for n in range(100)
            ]
        )
        self.assertEqual(child.wait(30), 0)
        self.assertEqual(len(await self.directory.accounts()), 203)

    async def test_what_a_killed_process_had_acknowledged_is_there(self) -> None:  # R1
        child = self.child(10_000)
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.kill()
        acknowledged = 20 + len(child.stdout.readlines())
        names = {account.name for account in await self.directory.accounts()}
        for n in range(acknowledged):
            self.assertIn(f"theirs{n}@example.org", names)
        self.assertLessEqual(len(names), 3 + acknowledged + 1)
        await self.directory.create_account(NewAccount("after@example.org"))
