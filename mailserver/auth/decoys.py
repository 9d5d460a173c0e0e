"""What is told of accounts that are not there: the same as of those that are (S7).

SCRAM tells salt and iterations before anything is proved (RFC 5802 §5). For a name without
keys they are computed from the name under a secret of the installation: they stay the same
from try to try, from restart to restart and in every process, and nobody can tell them from
real ones. The keys that go with them belong to no password.

Iterations are those of new passwords, so accounts older than a change of that number can be
told. A choice among the numbers in use would have to follow them as passwords change, in every
process at the same moment: a name whose number moves while its salt stays tells more.
"""

from __future__ import annotations

import hmac

from mailserver.model.secrets import (
    PlainSecret,
    PlainSecrets,
    ScramKeys,
    ScramSecrets,
    SecretKind,
    Secrets,
)

SALT_OCTETS = 16
"""Octets of a salt, those of real ones too."""


class Decoys:
    """Makes secrets of names.

    Args:
        key: the installation's secret, 32 octets.
        iterations: of SCRAM, as new passwords get them.
    """

    def __init__(self, key: bytes, iterations: int) -> None:
        self._key = key
        self._iterations = iterations

    def salt(self, name: str, kind: SecretKind) -> bytes:
        """The salt of a name; also for sources that have the password in clear and make
        keys of it themselves.

        Args:
            name: canonical login name.
        """
        return self._derived("salt", name, kind)[:SALT_OCTETS]

    def secrets(self, name: str, kind: SecretKind) -> Secrets:
        """What a name would have; no password is right for it."""
        unmatchable = self._derived("key", name, kind)
        if kind is SecretKind.PLAIN:
            return PlainSecrets((PlainSecret(unmatchable.hex()),))
        length = {SecretKind.SCRAM_SHA_256: 32, SecretKind.SCRAM_SHA_1: 20}[kind]
        keys = ScramKeys(unmatchable[:length], unmatchable[32 : 32 + length])
        return ScramSecrets(self.salt(name, kind), self._iterations, (keys,))

    def _derived(self, purpose: str, name: str, kind: SecretKind) -> bytes:
        """64 octets that follow from the arguments and the key alone."""
        message = "\0".join((purpose, kind.value, name)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, "sha512")
