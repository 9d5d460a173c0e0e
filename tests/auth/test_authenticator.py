"""Logging in: over the real directory, real hashes, the throttle, and a log that is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.auth.authenticator import Authenticator
from mailserver.auth.checkers import IChecker, Kept, Login
from mailserver.auth.checkers.directory import DirectoryChecker
from mailserver.auth.decoys import Decoys
from mailserver.auth.passwords import HashParameters, Passwords
from mailserver.auth.pool import FairPool
from mailserver.auth.throttle import Throttle, ThrottleLimits
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAuthenticator
from mailserver.model.account import Account, AccountStatus, Attributes
from mailserver.model.ids import Principal
from mailserver.model.secrets import Evidence, SecretKind
from mailserver.store.directory import Directory, NewAccount
from tests.auth.timing import assert_same_cost

CANARY = "canary-Passw0rd"
HOME = "198.51.100.1"


class AuthenticatorCase(TestCase):
    """joe, ann and the store administrator root live in example.org, all with CANARY."""

    limits = ThrottleLimits()
    parameters = HashParameters(time_cost=1, memory_cost=1024, scram_iterations=4096)

    async def setUp(self) -> None:
        path = Path(mkdtemp())
        self.addCleanup(rmtree, path)
        self.directory = Directory.open(path / "directory.sqlite", reactor)
        self.addCleanup(lambda: ensureDeferred(self.directory.stop()))
        self.pool = FairPool(reactor, 1)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.clock = Clock()
        self.passwords = Passwords(self.pool, self.clock, self.parameters)
        self.verifiers = await self.passwords.verifiers(CANARY)
        self.joe, self.ann, self.root = await self.directory.create_accounts(
            [
                NewAccount(f"{name}@example.org", verifiers=self.verifiers)
                for name in ("joe", "ann", "root")
            ],
            add_domains=True,
        )
        self.admins = {"root@example.org"}
        self.checkers: list[IChecker] = [
            DirectoryChecker(self.directory, self.directory, self.passwords)
        ]
        self.authenticator = self.made()
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def made(self) -> Authenticator:
        return Authenticator(
            self.directory,
            self.checkers,
            Throttle(self.clock, self.limits),
            self.clock,
            lambda: self.admins,
            decoys=Decoys(bytes(32), self.parameters.scram_iterations),
        )

    def login(
        self,
        name: str,
        password: str = CANARY,
        authzid: str = "",
        service: str = "imap",
        address: str = HOME,
    ) -> Coroutine[Any, Any, Principal]:
        return self.authenticator.check_password(
            name, password, authzid=authzid, service=service, address=address
        )

    async def refused(self, kind: ErrorKind, work: Coroutine[Any, Any, Any]) -> MailError:
        try:
            result = await work
        except MailError as refusal:
            self.assertIs(refusal.kind, kind, refusal.text)
            return refusal
        raise self.failureException(f"not refused: {result!r}")

    def log_text(self) -> str:
        return "\n".join(formatEvent(event) for event in self.logged)


class LoggingIn(AuthenticatorCase):
    limits = ThrottleLimits(first_delay=0)

    def test_it_is_an_authenticator(self) -> None:
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(IChecker, self.checkers[0])
        self.assertEqual(
            set(self.authenticator.accepts()),
            {Evidence.PASSWORD, Evidence.CERTIFICATE, SecretKind.SCRAM_SHA_256},
        )

    async def test_the_right_password_makes_a_principal(self) -> None:
        joe = Principal(self.joe.id, "joe@example.org", "joe@example.org")
        for name in ("joe@example.org", "JOE+example.org"):
            self.assertEqual(await self.login(name), joe)
        self.directory.default_domain = "example.org"
        self.assertEqual(await self.login("joe"), joe)
        root = Principal(self.root.id, "root@example.org", "root@example.org", True)
        self.assertEqual(await self.login("root"), root)
        self.admins.clear()
        self.assertFalse((await self.login("root")).is_store_admin, "a reload acts at once")

    async def test_every_failure_has_the_same_text(self) -> None:  # T40
        await self.directory.create_account(NewAccount("nopassword@example.org"))
        refusals = [
            await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login(name, password))
            for name, password in (
                ("joe@example.org", "wrong"),
                ("nobody@example.org", CANARY),
                ("nopassword@example.org", CANARY),
                ("nopassword@example.org", ""),
                ("joe@example.org", ""),
                ("joe@example.org", CANARY + "\0"),
                ("joe@example.org", "x" * 100_000),
                ("", ""),
                ("joe\0@example.org", CANARY),
                ("\ud800", CANARY),
            )
        ]
        self.assertEqual(len({(one.text, one.subject) for one in refusals}), 1)

    async def test_a_disabled_account_is_told_only_to_who_knows_the_password(self) -> None:
        for status in (AccountStatus.INACTIVE, AccountStatus.DELETED):
            await self.directory.update_account(self.joe.id, {"status": status})
            await self.refused(ErrorKind.DISABLED, self.login("joe@example.org"))
            await self.refused(
                ErrorKind.AUTHENTICATION_FAILED, self.login("joe@example.org", "wrong")
            )

    async def test_allowed_services_hold(self) -> None:  # SUN-8
        await self.directory.update_account(self.joe.id, {"allowed_services": "+imaps:*"})
        await self.refused(ErrorKind.DISABLED, self.login("joe@example.org", service="imap"))
        await self.login("joe@example.org", service="imaps")
        await self.directory.update_account(self.joe.id, {"allowed_services": "+imaps:192.0.2.7"})
        await self.refused(ErrorKind.DISABLED, self.login("joe@example.org", service="imaps"))
        self.assertIn("rules of joe@example.org: no rule matches", self.log_text())
        await self.login("joe@example.org", service="imaps", address="192.0.2.7")

    async def test_a_new_password_holds_at_once(self) -> None:
        await self.login("joe@example.org")
        await self.directory.set_verifiers(self.joe.id, await self.passwords.verifiers("new"))
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login("joe@example.org"))
        await self.login("joe@example.org", "new")

    async def test_no_password_is_logged_and_names_are_escaped(self) -> None:  # S13
        await self.login("joe@example.org")
        await self.refused(
            ErrorKind.AUTHENTICATION_FAILED, self.login("nobody\r\nforged line", CANARY + "x")
        )
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login("x" * 10_000, CANARY))
        text = self.log_text()
        self.assertIn("imap login of joe@example.org from 198.51.100.1", text)
        self.assertIn(r"'nobody\r\nforged line'", text)
        self.assertLess(max(map(len, text.splitlines())), 300)
        self.assertNotIn(CANARY, text + repr(self.logged))
        self.assertNotIn(CANARY, repr(Login("joe", CANARY, HOME)))

    async def check_cost(self, parameters: HashParameters, clock: Callable[[], float]) -> None:
        self.passwords = Passwords(self.pool, self.clock, parameters)
        self.checkers = [DirectoryChecker(self.directory, self.directory, self.passwords)]
        self.authenticator = self.made()
        await self.directory.set_verifiers(
            self.joe.id, await self.passwords.verifiers("something else")
        )

        def failing(name: str) -> Callable[[], Coroutine[Any, Any, MailError]]:
            return lambda: self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login(name, "wrong"))

        await assert_same_cost(
            {name: failing(name) for name in ("joe@example.org", "nobody@example.org")}, clock
        )

    async def test_known_and_unknown_names_cost_the_same(self) -> None:  # S7
        await self.check_cost(HashParameters(time_cost=2, memory_cost=2048), time.process_time)

    @pytest.mark.long
    async def test_known_and_unknown_names_take_the_same_time(self) -> None:  # S7
        await self.check_cost(HashParameters(), time.perf_counter)


class ActingForOthers(AuthenticatorCase):
    limits = ThrottleLimits(first_delay=0)

    async def test_a_store_administrator_may(self) -> None:  # S6, SUN-14
        principal = await self.login("root@example.org", authzid="Joe+example.org")
        self.assertEqual(principal, Principal(self.joe.id, "joe@example.org", "root@example.org"))
        self.assertFalse(principal.is_store_admin, "it has the rights of joe only")
        self.assertIn("login of root@example.org as joe@example.org", self.log_text())

    async def test_nobody_else_may_and_learns_nothing(self) -> None:  # S6, T41
        refusals = [
            await self.refused(
                ErrorKind.AUTHORIZATION_FAILED, self.login("joe@example.org", authzid=authzid)
            )
            for authzid in ("ann@example.org", "nobody@example.org", "\0")
        ]
        self.assertEqual(len({one.text for one in refusals}), 1)
        self.assertIn("joe@example.org", self.log_text())
        self.assertIn("may not act as 'ann@example.org'", self.log_text())

    async def test_the_password_comes_first(self) -> None:
        await self.refused(
            ErrorKind.AUTHENTICATION_FAILED,
            self.login("root@example.org", "wrong", authzid="joe@example.org"),
        )

    async def test_acting_as_oneself_is_no_acting(self) -> None:
        await self.directory.add_alias("j.smith@example.org", self.joe.id)
        for authzid in ("joe@example.org", "JOE@EXAMPLE.org", "j.smith@example.org"):
            principal = await self.login("joe@example.org", authzid=authzid)
            self.assertEqual(principal.name, "joe@example.org")
        self.assertTrue(
            (await self.login("root@example.org", authzid="root@example.org")).is_store_admin
        )

    async def test_not_as_who_is_not_there_or_disabled(self) -> None:
        await self.refused(
            ErrorKind.AUTHORIZATION_FAILED,
            self.login("root@example.org", authzid="nobody@example.org"),
        )
        await self.directory.update_account(self.joe.id, {"status": AccountStatus.INACTIVE})
        await self.refused(
            ErrorKind.DISABLED, self.login("root@example.org", authzid="joe@example.org")
        )


class Throttled(AuthenticatorCase):
    async def settle(self) -> None:
        """Let threads and the reactor do what they have to do."""
        for _ in range(20):
            await deferLater(reactor, 0.002)  # type: ignore[arg-type]

    async def test_a_failure_delays_the_next_try_and_success_ends_that(self) -> None:
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login("joe@example.org", "a"))
        second: Deferred[Principal] = ensureDeferred(self.login("joe@example.org"))
        await self.settle()
        self.assertNoResult(second)
        self.clock.advance(1.9)
        await self.settle()
        self.assertNoResult(second)
        self.clock.advance(0.1)
        await second
        await self.login("joe@example.org")

    async def test_a_check_begins_when_its_turn_has_come(self) -> None:
        """R11: while the throttle holds a login back, nothing is kept for it."""
        began: list[float] = []

        def login() -> Coroutine[Any, Any, Principal]:
            return self.authenticator.check_password(
                "joe@example.org",
                "a",
                authzid="",
                service="imap",
                address=HOME,
                began=lambda: began.append(self.clock.seconds()),
            )

        await self.refused(ErrorKind.AUTHENTICATION_FAILED, login())
        again = ensureDeferred(login())
        await self.settle()
        self.clock.advance(1.9)
        self.assertEqual(began, [0])
        self.clock.advance(0.1)
        self.assertEqual(began, [0, 2])
        await self.assertFailure(again, MailError)

    async def test_unknown_names_are_throttled_alike(self) -> None:
        for name in ("joe@example.org", "nobody@example.org"):
            await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login(name, "a", address=name))
            again = ensureDeferred(self.login(name, "a", address=name))
            await self.settle()
            self.assertNoResult(again)
            self.clock.advance(2)
            await self.refused(ErrorKind.AUTHENTICATION_FAILED, _awaited(again))

    async def test_a_flood_is_refused_and_others_are_served(self) -> None:
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login("joe@example.org", "a"))
        flood = [ensureDeferred(self.login("joe@example.org", "a")) for _ in range(100)]
        await self.settle()
        refused = [one for one in flood if one.called]
        for one in refused:
            self.assertIs(self.failureResultOf(one, MailError).value.kind, ErrorKind.UNAVAILABLE)
        self.assertGreater(len(refused), 80)
        await self.login("ann@example.org", address="203.0.113.5")
        for one in flood:
            one.cancel()
            one.addErrback(lambda _: None)


async def _awaited(result: Deferred[Any]) -> Any:
    return await result


@implementer(IChecker)
class TableChecker:
    """A backend that knows one pair, or is down."""

    label = "table"

    def __init__(self, pair: tuple[str, str], account: Account, *, down: bool = False) -> None:
        self.pair, self.owner, self.down = pair, account, down
        self.asked = 0

    async def check(self, login: Login) -> Account | None:
        self.asked += 1
        if self.down:
            raise MailError(ErrorKind.UNAVAILABLE, "the backend is down")
        return self.owner if (login.name, login.password) == self.pair else None

    def secret_kinds(self) -> Collection[SecretKind]:
        return ()

    async def secrets(self, name: str, kind: SecretKind, service: str) -> Kept | None:
        raise AssertionError("it has none")

    async def used(self, kept: Kept, label: str) -> None:
        raise AssertionError("it has none")

    async def account(self, name: str) -> Account | None:
        return self.owner if name == self.owner.name else None


class Chain(AuthenticatorCase):
    limits = ThrottleLimits(first_delay=0)

    async def test_backends_are_asked_in_order_until_one_says_yes(self) -> None:
        table = TableChecker(("joe@example.org", "table"), self.joe)
        self.checkers.append(table)
        self.authenticator = self.made()
        await self.login("joe@example.org")
        self.assertEqual(table.asked, 0)
        self.assertEqual((await self.login("joe@example.org", "table")).account, self.joe.id)
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login("joe@example.org", "no"))
        self.assertEqual(table.asked, 2)

    async def test_a_backend_that_is_down_is_no_wrong_password(self) -> None:  # T40
        self.checkers.insert(0, TableChecker(("", ""), self.joe, down=True))
        self.authenticator = self.made()
        await self.refused(ErrorKind.UNAVAILABLE, self.login("joe@example.org", "wrong"))
        await self.refused(ErrorKind.UNAVAILABLE, self.login("nobody@example.org"))

    async def test_nobody_guesses_the_faster_while_a_backend_is_down(self) -> None:  # S7
        self.limits = ThrottleLimits()
        self.checkers.append(TableChecker(("", ""), self.joe, down=True))
        self.authenticator = self.made()
        await self.refused(ErrorKind.UNAVAILABLE, self.login("joe@example.org", "wrong"))
        second = Deferred.fromCoroutine(self.login("joe@example.org"))
        self.clock.advance(1.9)
        self.assertNoResult(second)
        self.clock.advance(0.2)
        self.assertEqual((await second).account, self.joe.id)

    async def test_who_is_only_in_the_backend_that_is_down_has_not_failed(self) -> None:
        self.limits = ThrottleLimits()
        await self.directory.say(self.joe.id, "table", Attributes())
        self.checkers.append(TableChecker(("", ""), self.joe, down=True))
        self.authenticator = self.made()
        await self.refused(ErrorKind.UNAVAILABLE, self.login("joe@example.org", "of the backend"))
        self.assertEqual((await self.login("joe@example.org")).account, self.joe.id)

    async def test_a_backend_that_is_down_locks_nobody_out_whom_another_knows(self) -> None:
        self.checkers.insert(0, TableChecker(("", ""), self.joe, down=True))
        self.authenticator = self.made()
        self.assertEqual((await self.login("joe@example.org")).account, self.joe.id)
