"""Passwords: real argon2id on real threads, SCRAM keys, remembered checks (S7)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mailserver.auth.passwords import HashParameters, Passwords, scram_verifier
from mailserver.auth.pool import FairPool
from mailserver.auth.saslprep import saslprep
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Verifiers
from mailserver.model.secrets import SecretKind
from tests.auth.timing import assert_same_cost

CHEAP = HashParameters(time_cost=1, memory_cost=256, scram_iterations=4096, scram_sha1=True)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [  # RFC 4013 §3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("p\u00e4ss", "p\u00e4ss"),
        ("pa\u0308ss", "p\u00e4ss"),
        ("\u00bd \u00b4", "1\u20442  \u0301"),  # RFC 5802 §3: NFC and NFKC differ
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared
    assert saslprep(prepared) == prepared


@pytest.mark.parametrize(
    "text",
    ["\u0007", "\u0627\u0031", "a\x7f", "\ud800", "\ue000", "\u0378", "\U000e0041", "\ufffd"],
)
def test_saslprep_refuses_what_rfc_4013_prohibits(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        saslprep(text)


@pytest.mark.parametrize("text", ["correct 🐴 battery", "\u0221", "👩‍🔬"])
def test_saslprep_keeps_letters_that_are_younger_than_it(text: str) -> None:
    assert saslprep(text) == text.replace("\u200d", "")


def xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("digest", "salt", "client_first", "server_first", "final", "proof", "signature"),
    [
        (  # RFC 5802 §5
            "sha1",
            "QSXCR+Q6sek8bf92",
            "n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (  # RFC 7677 §3
            "sha256",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
)
def test_scram_verifiers_hold_the_exchanges_of_the_rfcs(
    digest: str,
    salt: str,
    client_first: str,
    server_first: str,
    final: str,
    proof: str,
    signature: str,
) -> None:
    verifier = scram_verifier(SecretKind(digest), b"pencil", base64.b64decode(salt), 4096)
    iterations, kept_salt, stored, server = verifier.split(":")
    assert (iterations, kept_salt) == ("4096", salt)
    stored_key, server_key = base64.b64decode(stored), base64.b64decode(server)
    message = f"{client_first},{server_first},{final}".encode()
    client_key = xor(base64.b64decode(proof), hmac.digest(stored_key, message, digest))
    assert hashlib.new(digest, client_key).digest() == stored_key
    assert hmac.digest(server_key, message, digest) == base64.b64decode(signature)


class PoolCase(TestCase):
    def pool(self, threads: int = 1, **limits: int) -> FairPool:
        pool = FairPool(reactor, threads, **limits)
        pool.start()
        self.addCleanup(pool.stop)
        return pool

    async def assert_refused(self, kind: ErrorKind, work: Coroutine[Any, Any, Any]) -> MailError:
        try:
            result = await work
        except MailError as refusal:
            self.assertIs(refusal.kind, kind)
            return refusal
        raise self.failureException(f"not refused: {result!r}")


class CheckingPasswords(PoolCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.passwords = Passwords(self.pool(), self.clock, CHEAP)

    async def test_a_password_matches_its_own_verifiers_only(self) -> None:
        verifiers = await self.passwords.verifiers("p\u00e4ss word")
        self.assertTrue(verifiers.argon2id.startswith("$argon2id$v=19$m=256,t=1,p=1$"))
        self.assertTrue(verifiers.scram_sha256.startswith("4096:"))
        self.assertTrue(verifiers.scram_sha1.startswith("4096:"))
        for text, right in (
            ("p\u00e4ss word", True),
            ("pa\u0308ss\u00a0word", True),  # the same after SASLprep
            ("P\u00e4ss word", False),
            ("p\u00e4ss word ", False),
            ("", False),
            ("p\u00e4ss word\0", False),
            ("x" * 5000, False),
            ("\ud800", False),
        ):
            self.assertIs(await self.passwords.matches(verifiers, text, ""), right, text[:20])

    async def test_nothing_matches_without_verifiers(self) -> None:
        for text in ("", "x", "password"):
            self.assertFalse(await self.passwords.matches(Verifiers(), text, ""))
        self.assertFalse(await self.passwords.matches(Verifiers("not a hash"), "x", ""))

    async def test_salts_differ_and_the_password_is_in_no_verifier(self) -> None:
        first = await self.passwords.verifiers("correct horse")
        second = await self.passwords.verifiers("correct horse")
        self.assertNotEqual(first.argon2id, second.argon2id)
        self.assertNotEqual(first.scram_sha256, second.scram_sha256)
        self.assertNotIn("horse", repr(first))

    async def test_unusable_passwords_are_refused_without_being_quoted(self) -> None:
        for text in ("", "se\x07cret", "se\U0001fae8cret", "secret" * 1000, "\u00ad"):
            refusal = await self.assert_refused(ErrorKind.INVALID, self.passwords.verifiers(text))
            self.assertNotIn("cret", refusal.text)

    def counted(self) -> list[str]:
        hashes: list[str] = []
        check = self.passwords._check

        def counting(stored: str, octets: bytes) -> bool:
            hashes.append(stored)
            return check(stored, octets)

        self.passwords._check = counting  # type: ignore[method-assign]
        return hashes

    async def test_a_verified_password_is_remembered_for_a_while(self) -> None:
        verifiers = await self.passwords.verifiers("right")
        hashes = self.counted()
        for _ in range(3):
            self.assertTrue(await self.passwords.matches(verifiers, "right", ""))
        self.assertEqual(len(hashes), 1)
        self.assertFalse(await self.passwords.matches(verifiers, "wrong", ""))
        self.assertFalse(await self.passwords.matches(verifiers, "wrong", ""))
        self.assertEqual(len(hashes), 3, "wrong ones are not remembered")
        self.clock.advance(3600)
        self.assertTrue(await self.passwords.matches(verifiers, "right", ""))
        self.assertEqual(len(hashes), 4)

    async def test_a_changed_password_is_forgotten_at_once(self) -> None:
        old = await self.passwords.verifiers("old")
        self.assertTrue(await self.passwords.matches(old, "old", ""))
        new = await self.passwords.verifiers("new")
        self.assertFalse(await self.passwords.matches(new, "old", ""))
        self.assertFalse(await self.passwords.matches(Verifiers(), "old", ""))
        again = await self.passwords.verifiers("old")
        hashes = self.counted()
        self.assertTrue(await self.passwords.matches(again, "old", ""))
        self.assertEqual(len(hashes), 1, "set again is a new verifier")

    async def test_what_is_remembered_is_bounded_and_holds_no_password(self) -> None:
        self.passwords = Passwords(self.pool(), self.clock, CHEAP, remembered=2)
        verifiers = [await self.passwords.verifiers(f"secret{n}") for n in range(3)]
        for n in (0, 1, 0, 2):  # 1 was not used for the longest
            await self.passwords.matches(verifiers[n], f"secret{n}", "")
        self.assertNotIn("secret", repr(vars(self.passwords)))
        hashes = self.counted()
        for n in (0, 2, 1):
            await self.passwords.matches(verifiers[n], f"secret{n}", "")
        self.assertEqual(len(hashes), 1)

    async def test_known_and_unknown_names_cost_the_same(self) -> None:  # S7
        passwords = Passwords(
            self.pool(), self.clock, HashParameters(time_cost=1, memory_cost=2048)
        )
        known = await passwords.verifiers("right")
        await assert_same_cost(
            {
                "known": lambda: passwords.matches(known, "wrong", ""),
                "unknown": lambda: passwords.matches(Verifiers(), "wrong", ""),
                "unusable": lambda: passwords.matches(known, "wr\x07ng", ""),
            }
        )


class TheFairPool(PoolCase):
    def blocked(self, pool: FairPool) -> tuple[Callable[[], None], Deferred[str]]:
        """Occupy the only thread; returns what frees it."""
        event = threading.Event()

        def wait() -> str:
            event.wait(10)
            return "first"

        self.addCleanup(event.set)
        return event.set, ensureDeferred(pool.run("attacker", wait))

    async def test_clients_take_turns_however_much_one_asks(self) -> None:  # S7
        pool = self.pool()
        done: list[str] = []
        free, first = self.blocked(pool)
        results: list[Deferred[Any]] = [first]
        for client, count in (("attacker", 40), ("other", 2)):
            for n in range(count):
                label = f"{client}{n}"
                results.append(
                    ensureDeferred(pool.run(client, lambda label=label: done.append(label)))  # type: ignore[misc]
                )
        free()
        await DeferredList(results, fireOnOneErrback=True)
        self.assertEqual(done[:5], ["attacker0", "other0", "attacker1", "other1", "attacker2"])
        self.assertEqual(len(done), 42)

    async def test_a_full_queue_refuses_only_the_client_that_filled_it(self) -> None:
        pool = self.pool(max_waiting=4, max_waiting_per_client=3)
        free, first = self.blocked(pool)
        waiting: list[Deferred[Any]] = [
            ensureDeferred(pool.run("attacker", lambda: None)) for _ in range(3)
        ]
        await self.assert_refused(ErrorKind.TOO_MANY, pool.run("attacker", lambda: None))
        waiting.append(ensureDeferred(pool.run("other", lambda: None)))
        await self.assert_refused(ErrorKind.TOO_MANY, pool.run("third", lambda: None))
        free()
        await DeferredList([first, *waiting], fireOnOneErrback=True)
        self.assertEqual(await pool.run("third", lambda: "served"), "served")

    async def test_a_client_that_went_away_costs_no_check(self) -> None:
        pool = self.pool()
        done: list[str] = []
        free, first = self.blocked(pool)
        gone = ensureDeferred(pool.run("gone", lambda: done.append("gone")))
        stays = ensureDeferred(pool.run("stays", lambda: done.append("stays")))
        gone.cancel()
        free()
        await DeferredList([first, stays], fireOnOneErrback=True)
        self.failureResultOf(gone, CancelledError)
        self.assertEqual(done, ["stays"])

    async def test_what_fails_on_the_thread_fails_here(self) -> None:
        pool = self.pool()

        def broken() -> None:
            raise RuntimeError("broke")

        with self.assertRaises(RuntimeError):
            await pool.run("", broken)
        self.assertEqual(await pool.run("", lambda: 1), 1)

    async def test_the_stop_refuses_what_waits(self) -> None:
        pool = FairPool(reactor, 1)
        pool.start()
        free, first = self.blocked(pool)
        waiting = ensureDeferred(pool.run("a", lambda: None))
        free()
        pool.stop()
        failure = self.failureResultOf(waiting, MailError)
        self.assertIs(failure.value.kind, ErrorKind.UNAVAILABLE)
        self.assertEqual(await first, "first")
        await self.assert_refused(ErrorKind.UNAVAILABLE, pool.run("a", lambda: None))
