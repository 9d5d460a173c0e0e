"""Logins in which the password stays with the client, and those without one: what they pass
is what a password passes (S6, S7, SUN-10, SUN-14, SUN-30)."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import ensureDeferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.auth.authenticator import FAILED_TEXT
from mailserver.auth.checkers import IChecker, Kept, Login
from mailserver.auth.decoys import Decoys
from mailserver.auth.throttle import ThrottleLimits
from mailserver.auth.tokens import ITokenVerifier, TokenExpired
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAttempt
from mailserver.model.account import Account, AccountStatus
from mailserver.model.ids import Principal
from mailserver.model.secrets import (
    Evidence,
    PlainSecret,
    PlainSecrets,
    ScramSecrets,
    SecretKind,
)
from mailserver.store.directory import NewAccount
from tests.auth.test_authenticator import CANARY, HOME, AuthenticatorCase
from tests.auth.timing import assert_same_cost

SHA_256 = SecretKind.SCRAM_SHA_256
ANN, JOE, ROOT = "ann@example.org", "joe@example.org", "root@example.org"


@implementer(IChecker)
class Kind:
    """A source that has some kinds of secrets, or cannot be asked."""

    label = "kind"

    def __init__(self, *kinds: SecretKind, kept: Kept | None = None, down: bool = False) -> None:
        self.kinds, self.kept, self.down = kinds, kept, down
        self.heard: list[str] = []

    async def check(self, login: Login) -> Account | None:
        self._see()
        return None

    def secret_kinds(self) -> Collection[SecretKind]:
        return self.kinds

    async def secrets(self, name: str, kind: SecretKind, service: str) -> Kept | None:
        self._see()
        return self.kept if self.kept is not None and self.kept.account.name == name else None

    async def used(self, kept: Kept, label: str) -> None:
        self.heard.append(label)

    async def account(self, name: str) -> Account | None:
        self._see()
        return None

    def _see(self) -> None:
        if self.down:
            raise MailError(ErrorKind.UNAVAILABLE, "the source is down")


class Proofs(AuthenticatorCase):
    limits = ThrottleLimits(first_delay=0)

    def attempt(
        self, name: str, kind: SecretKind = SHA_256, service: str = "imap"
    ) -> Coroutine[Any, Any, IAttempt]:
        return self.authenticator.attempt(name, kind, service=service, address=HOME)

    async def test_it_gives_what_the_proof_is_checked_against(self) -> None:
        for name in (ANN, "Ann+example.org"):
            attempt = await self.attempt(name)
            verifyObject(IAttempt, attempt)
            iterations, salt, stored, server = self.verifiers.scram_sha256.split(":")
            assert isinstance(attempt.secrets, ScramSecrets)
            [keys] = attempt.secrets.keys
            self.assertEqual(attempt.secrets.iterations, int(iterations))
            self.assertEqual(attempt.secrets.salt, base64.b64decode(salt))
            self.assertEqual(keys.stored_key, base64.b64decode(stored))
            self.assertEqual(keys.server_key, base64.b64decode(server))
            self.assertEqual(await attempt.proved("", ""), Principal(self.ann.id, ANN, ANN))

    async def test_a_decoy_cannot_be_proved(self) -> None:
        attempt = await self.attempt("nobody@example.org")
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, attempt.proved("", ""))

    async def test_decoys_look_like_what_is_kept(self) -> None:
        """S7: nothing of it tells whether there is such an account."""
        await self.directory.create_account(NewAccount("nopassword@example.org"))
        shapes = set()
        for name in (ANN, "nobody@example.org", "nopassword@example.org", "", "\ud800"):
            secrets = (await self.attempt(name)).secrets
            assert isinstance(secrets, ScramSecrets)
            [keys] = secrets.keys
            lengths = (len(secrets.salt), len(keys.stored_key), len(keys.server_key))
            shapes.add((secrets.iterations, *lengths))
            again = (await self.attempt(name)).secrets
            self.assertEqual(again, secrets, "the same at every try")
        self.assertEqual(shapes, {(4096, 16, 32, 32)})

    async def test_a_failure_counts_as_one_of_a_password(self) -> None:
        self.limits = ThrottleLimits()
        self.authenticator = self.made()
        refusal = (await self.attempt(ANN)).failed("wrong proof")
        self.assertEqual(
            (refusal.kind, refusal.text), (ErrorKind.AUTHENTICATION_FAILED, FAILED_TEXT)
        )
        self.assertIn("wrong proof", self.log_text())
        waits = ensureDeferred(self.attempt(ANN))
        self.assertNoResult(waits)
        self.clock.advance(2)
        await self.successResultOf(waits).proved("", "")

    async def test_status_services_and_acting_are_looked_at(self) -> None:
        await self.directory.update_account(self.joe.id, {"allowed_services": "+imaps:*"})
        await self.refused(ErrorKind.DISABLED, (await self.attempt(JOE)).proved("", ""))
        await self.directory.update_account(self.ann.id, {"status": AccountStatus.INACTIVE})
        await self.refused(ErrorKind.DISABLED, (await self.attempt(ANN)).proved("", ""))
        as_joe = (await self.attempt(ROOT, service="imaps")).proved("", JOE)
        self.assertEqual(await as_joe, Principal(self.joe.id, JOE, ROOT))
        await self.refused(
            ErrorKind.AUTHORIZATION_FAILED,
            (await self.attempt(JOE, service="imaps")).proved("", ROOT),
        )

    async def test_only_what_every_source_has_is_offered(self) -> None:
        self.assertEqual(
            self.authenticator.accepts(), {Evidence.PASSWORD, Evidence.CERTIFICATE, SHA_256}
        )
        plain = Kind(SecretKind.PLAIN, SHA_256, SecretKind.SCRAM_SHA_1)
        self.checkers.append(plain)
        self.assertIn(SHA_256, self.made().accepts())
        self.assertNotIn(SecretKind.PLAIN, self.made().accepts())
        self.checkers[0:1] = []
        self.assertLessEqual({SHA_256, SecretKind.PLAIN}, set(self.made().accepts()))
        plain.kinds = ()  # as a file whose lines have changed
        self.assertEqual(self.made().accepts(), {Evidence.PASSWORD, Evidence.CERTIFICATE})

    async def test_the_first_source_that_knows_the_name_decides_and_hears(self) -> None:
        secrets = PlainSecrets((PlainSecret(CANARY, "phone"),))
        first, second = (
            Kind(SecretKind.PLAIN, kept=Kept(self.ann, secrets)),
            Kind(SecretKind.PLAIN, kept=Kept(self.ann, PlainSecrets((PlainSecret("x"),)))),
        )
        self.checkers = [first, second]
        self.authenticator = self.made()
        attempt = await self.attempt(ANN, SecretKind.PLAIN)
        self.assertEqual(attempt.secrets, secrets)
        await attempt.proved("phone", "")
        self.assertEqual((first.heard, second.heard), (["phone"], []))
        decoy = (await self.attempt(JOE, SecretKind.PLAIN)).secrets
        assert isinstance(decoy, PlainSecrets)
        self.assertEqual(len(decoy.passwords), 1)
        self.assertNotIn(CANARY, repr(attempt.secrets))  # S13

    async def test_a_source_that_is_down_locks_out_only_whom_it_might_know(self) -> None:
        self.checkers.insert(0, Kind(SHA_256, down=True))
        self.authenticator = self.made()
        await (await self.attempt(ANN)).proved("", "")
        await self.refused(ErrorKind.UNAVAILABLE, self.attempt("nobody@example.org"))
        self.assertIn("the source is down", self.log_text())

    async def test_known_and_unknown_names_cost_the_same(self) -> None:
        """S7, for SCRAM: with the search for the account, before anything is proved."""

        def failing(name: str) -> Callable[[], Coroutine[Any, Any, object]]:
            async def try_it() -> None:
                for _ in range(4):
                    (await self.attempt(name)).failed("wrong")

            return try_it

        await assert_same_cost(
            {name: failing(name) for name in (JOE, "nob@example.org")}, time.process_time
        )


def test_decoys_follow_from_the_secret_of_the_installation() -> None:
    """S7: in every process and after every start; not to be computed by others."""
    one, same, other = Decoys(b"k" * 32, 4096), Decoys(b"k" * 32, 4096), Decoys(b"K" * 32, 4096)
    for kind in SecretKind:
        assert one.secrets("a", kind) == same.secrets("a", kind)
        assert one.secrets("a", kind) != other.secrets("a", kind)
        assert one.secrets("a", kind) != one.secrets("b", kind)
    salts = {one.salt(name, kind) for name in "ab" for kind in SecretKind}
    assert len(salts) == 6


class Certificates(AuthenticatorCase):
    limits = ThrottleLimits(first_delay=0)

    def login(self, name: str, authzid: str = "") -> Coroutine[Any, Any, Principal]:  # type: ignore[override]
        return self.authenticator.check_certificate(
            name, authzid=authzid, service="imaps", address=HOME
        )

    async def test_it_lets_its_account_in(self) -> None:
        """SUN-10."""
        self.assertEqual(await self.login("JOE@example.org"), Principal(self.joe.id, JOE, JOE))
        self.assertEqual(await self.login(ROOT, ANN), Principal(self.ann.id, ANN, ROOT))
        await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login("nobody@example.org"))
        await self.refused(ErrorKind.AUTHORIZATION_FAILED, self.login(JOE, ANN))
        await self.directory.update_account(self.joe.id, {"status": AccountStatus.INACTIVE})
        await self.refused(ErrorKind.DISABLED, self.login(JOE))

    async def test_acting_after_login(self) -> None:
        """SUN-14: PROXYAUTH; the right is looked at again."""
        root = await self.authenticator.check_password(
            ROOT, CANARY, authzid="", service="imap", address=HOME
        )

        def act(who: Principal, name: str) -> Coroutine[Any, Any, Principal]:
            return self.authenticator.act_as(who, name, service="imap", address=HOME)

        as_ann = await act(root, ANN)
        self.assertEqual(as_ann, Principal(self.ann.id, ANN, ROOT))
        self.assertEqual((await act(as_ann, JOE)).name, JOE)
        self.assertIn("login of root@example.org as ann@example.org", self.log_text())
        self.admins.clear()
        await self.refused(ErrorKind.AUTHORIZATION_FAILED, act(root, ANN))
        await self.refused(ErrorKind.AUTHORIZATION_FAILED, act(as_ann, JOE))


@implementer(ITokenVerifier)
@attrs.define
class Verifier:
    """Says one thing of every token."""

    name: str = ANN
    error: MailError | None = None

    async def login_name(self, token: str) -> str:
        if self.error is not None:
            raise self.error
        return self.name

    def advice(self) -> dict[str, str]:
        return {"scope": "mail"}


class Tokens(AuthenticatorCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.verifier = Verifier()
        self.authenticator.tokens = self.verifier

    def login(self, user: str = "") -> Coroutine[Any, Any, Principal]:  # type: ignore[override]
        return self.authenticator.check_token("t", user=user, service="imap", address=HOME)

    async def test_it_lets_in_whom_it_names(self) -> None:
        self.assertIn(Evidence.TOKEN, self.authenticator.accepts())
        self.assertEqual(self.authenticator.token_advice(), {"scope": "mail"})
        for user in ("", ANN, "ANN+example.org"):
            self.assertEqual((await self.login(user)).name, ANN)
        await self.refused(ErrorKind.AUTHORIZATION_FAILED, self.login(JOE))
        self.verifier.name = ROOT
        self.assertEqual(await self.login(JOE), Principal(self.joe.id, JOE, ROOT))

    async def test_a_token_that_has_expired_slows_nobody_down(self) -> None:
        """It was good once, and a phone that has it tries again and again."""
        self.verifier.error = TokenExpired()
        for _ in range(5):
            await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login())
        self.verifier.error = MailError(ErrorKind.UNAVAILABLE, "https://10.0.0.1: down")
        refusal = await self.refused(ErrorKind.UNAVAILABLE, self.login())
        self.assertNotIn("10.0.0.1", refusal.text)
        self.assertIn("10.0.0.1", self.log_text())
        self.verifier.error = None
        await self.login()

    async def test_guessing_is_slowed_down(self) -> None:
        self.verifier.error = MailError(ErrorKind.AUTHENTICATION_FAILED, "token: forged")
        refusal = await self.refused(ErrorKind.AUTHENTICATION_FAILED, self.login())
        self.assertEqual(refusal.text, FAILED_TEXT)
        waits = ensureDeferred(self.login())
        self.assertNoResult(waits)
        self.clock.advance(2)
        self.failureResultOf(waits, MailError)
