"""Making and checking password verifiers (S7).

The expensive hash is argon2id (RFC 9106), computed on a `FairPool`. For SCRAM the keys of
RFC 5802 §3 are made at the same time, so that it needs no new passwords later.

Invariants:

- A check costs one argon2id computation with the present parameters or those of the
  verifier, whether or not there is an account, a verifier, or a usable password.
- A password that was verified once is remembered as a keyed digest of verifier and
  password: nothing is found under a verifier that has been replaced, and the key never
  leaves the process.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

import argon2
import attrs
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.interfaces import IReactorTime

from mailserver.auth.decoys import SALT_OCTETS
from mailserver.auth.pool import FairPool
from mailserver.auth.remembered import Remembered
from mailserver.auth.saslprep import saslprep
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Verifiers
from mailserver.model.secrets import ScramKeys, ScramSecrets, SecretKind, scram_keys

MAX_PASSWORD_OCTETS = 1024
"""Octets (UTF-8) of a password; a longer one never matches."""

_SALT_OCTETS = SALT_OCTETS
_HASH_OCTETS = 32


@attrs.frozen
class HashParameters:
    """How expensive a password's hash is; the defaults take some 20 ms and 19 MiB.

    Attributes:
        time_cost: passes over the memory.
        memory_cost: KiB.
        parallelism: lanes.
        scram_iterations: of PBKDF2, at least 4096 (RFC 7677 §3).
        scram_sha1: also make a verifier for SCRAM-SHA-1.
    """

    time_cost: int = 2
    memory_cost: int = 19 * 1024
    parallelism: int = 1
    scram_iterations: int = 10_000
    scram_sha1: bool = False


class Passwords:
    """Makes and checks verifiers.

    Args:
        pool: where hashes are computed; started and stopped by its owner.
        clock: for the life of remembered passwords.
        parameters: for new verifiers and for the cost of a check that must fail.
        remembered: verified passwords that are kept, 0 for none.
        remembered_for: seconds.
        random: gives that many random octets.

    Attributes:
        remembered: verified passwords, also those of other sources.
    """

    def __init__(
        self,
        pool: FairPool,
        clock: IReactorTime,
        parameters: HashParameters = HashParameters(),
        *,
        remembered: int = 10_000,
        remembered_for: float = 3600.0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._pool = pool
        self._parameters = parameters
        self._hasher = argon2.PasswordHasher(
            time_cost=parameters.time_cost,
            memory_cost=parameters.memory_cost,
            parallelism=parameters.parallelism,
            hash_len=_HASH_OCTETS,
            salt_len=_SALT_OCTETS,
        )
        self._random = random
        self.remembered = Remembered(clock, remembered, remembered_for, random)
        self._nobody = _unmatchable(parameters, random)

    @property
    def scram_kinds(self) -> frozenset[SecretKind]:
        """The mechanisms for which every new password gets keys."""
        sha1 = {SecretKind.SCRAM_SHA_1} if self._parameters.scram_sha1 else set()
        return frozenset({SecretKind.SCRAM_SHA_256} | sha1)

    async def verifiers(self, password: str) -> Verifiers:
        """Make the verifiers of a new password.

        Raises:
            MailError: INVALID with the reason, which never quotes the password.
        """
        if not password:
            raise MailError(ErrorKind.INVALID, "a password must not be empty")
        try:
            octets = _prepared(password)
        except ValueError as error:
            raise MailError(ErrorKind.INVALID, f"the password cannot be used: {error}") from None
        return await self._pool.run("", lambda: self._make(octets))

    async def matches(self, verifiers: Verifiers, password: str, client: str) -> bool:
        """Say whether the password belongs to the verifiers.

        Args:
            verifiers: empty ones for an account that is not there or has no password;
                the check then costs the same and fails.
            password: as it came from the client.
            client: whose turn it takes in the pool.

        Raises:
            MailError: TOO_MANY, UNAVAILABLE.
        """
        try:
            octets, verifier = _prepared(password), verifiers.argon2id
        except ValueError:
            octets, verifier = b"", ""
        digest = self.remembered.digest(verifier.encode("utf-8"), octets)
        if verifier and digest in self.remembered:
            return True
        stored = verifier or self._nobody
        found = await self._pool.run(client, lambda: self._check(stored, octets))
        if not (found and verifier):
            return False
        self.remembered.add(digest)
        return True

    async def renewed(self, verifiers: Verifiers, password: str, client: str) -> Verifiers | None:
        """Make the verifiers of a password anew, if they are not as new ones would be: of
        argon2id with other parameters, or without keys for a SCRAM that is switched on.

        Keys of SCRAM that are there stay, because app passwords share their salt.

        Args:
            verifiers: that this password was just found to belong to.
            client: as of `matches`.

        Returns:
            None if there is nothing to do.

        Raises:
            MailError: TOO_MANY, UNAVAILABLE.
        """
        wants_sha1 = self._parameters.scram_sha1 and not verifiers.scram_sha1
        if not (wants_sha1 or self._hasher.check_needs_rehash(verifiers.argon2id)):
            return None
        octets = _prepared(password)
        made = await self._pool.run(client, lambda: self._make(octets))
        return Verifiers(
            argon2id=made.argon2id,
            scram_sha256=verifiers.scram_sha256 or made.scram_sha256,
            scram_sha1=verifiers.scram_sha1 or made.scram_sha1,
        )

    def _make(self, octets: bytes) -> Verifiers:
        scram = self._parameters.scram_iterations
        return Verifiers(
            argon2id=self._hasher.hash(octets, salt=self._random(_SALT_OCTETS)),
            scram_sha256=scram_verifier(
                SecretKind.SCRAM_SHA_256, octets, self._random(_SALT_OCTETS), scram
            ),
            scram_sha1=scram_verifier(
                SecretKind.SCRAM_SHA_1, octets, self._random(_SALT_OCTETS), scram
            )
            if self._parameters.scram_sha1
            else "",
        )

    def _check(self, stored: str, octets: bytes) -> bool:
        try:
            return self._hasher.verify(stored, octets)
        except (VerificationError, InvalidHashError):
            return False


def scram_verifier(kind: SecretKind, octets: bytes, salt: bytes, iterations: int) -> str:
    """Make what is kept for SCRAM: `iterations:salt:StoredKey:ServerKey` (RFC 5802 §3).

    Args:
        octets: the prepared password in UTF-8.
    """
    keys = scram_keys(kind, octets, salt, iterations)
    parts = (salt, keys.stored_key, keys.server_key)
    return ":".join((str(iterations), *(base64.b64encode(part).decode("ascii") for part in parts)))


def scram_secrets(verifiers: Verifiers, kind: SecretKind) -> ScramSecrets | None:
    """Read what a SCRAM server needs of an account's verifiers; None if it has none of that
    kind, or one that is damaged."""
    texts = {
        SecretKind.SCRAM_SHA_256: verifiers.scram_sha256,
        SecretKind.SCRAM_SHA_1: verifiers.scram_sha1,
    }
    iterations, *parts = texts.get(kind, "").split(":")
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in parts)
        return ScramSecrets(salt, int(iterations), (ScramKeys(stored_key, server_key),))
    except ValueError:
        return None


def _prepared(password: str) -> bytes:
    """The octets that are hashed.

    Raises:
        ValueError: with the reason.
    """
    if len(password) > MAX_PASSWORD_OCTETS:
        raise ValueError(f"it is longer than {MAX_PASSWORD_OCTETS} octets")
    octets = saslprep(password).encode("utf-8")
    if not octets:
        raise ValueError("nothing is left of it after SASLprep")
    if len(octets) > MAX_PASSWORD_OCTETS:
        raise ValueError(f"it is longer than {MAX_PASSWORD_OCTETS} octets")
    return octets


def _unmatchable(parameters: HashParameters, random: Callable[[int], bytes]) -> str:
    """A well-formed argon2id string that costs as much as others and belongs to nothing."""
    salt, value = (
        base64.b64encode(random(octets)).decode("ascii").rstrip("=")
        for octets in (_SALT_OCTETS, _HASH_OCTETS)
    )
    cost = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${value}"
