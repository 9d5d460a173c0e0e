"""CRAM-MD5: a digest of a challenge keyed with the password (RFC 2195).

Weak: who listens can try passwords as fast as his machine can, and the server has to keep
them in clear. For clients that know nothing better.
"""

from __future__ import annotations

import hmac
import re

from mailserver.model.secrets import PlainSecrets, SecretKind, Secrets
from mailserver.wire.sasl.exchange import (
    Challenge,
    Proof,
    SaslFault,
    SecretsWanted,
    Step,
    Surroundings,
    text_of,
)

_NONCE_OCTETS = 16

# user name, a space, and the digest; a name may hold spaces itself
_RESPONSE = re.compile(rb"(.+) ([0-9a-fA-F]{32})", re.DOTALL)


class CramMd5:
    """The server begins, with what looks like a message id (RFC 2195 §2)."""

    def __init__(self, surroundings: Surroundings) -> None:
        nonce = surroundings.random(_NONCE_OCTETS).hex()
        self._challenge = f"<{nonce}@{surroundings.host}>".encode("ascii", "replace")
        self._digest = b""

    def start(self, initial: bytes | None) -> Step:
        """Give the challenge; there is no initial response."""
        if initial is not None:
            raise SaslFault("CRAM-MD5 has no initial response")
        return Challenge(self._challenge)

    def respond(self, response: bytes) -> Step:
        """Take name and digest."""
        match = _RESPONSE.fullmatch(response)
        if match is None:
            raise SaslFault("expected a name, a space and a digest of 32 hexadecimal digits")
        self._digest = match[2].lower()
        return SecretsWanted(text_of(match[1]), SecretKind.PLAIN, self._check)

    def _check(self, secrets: Secrets) -> Step:
        assert isinstance(secrets, PlainSecrets)
        found = None
        for secret in secrets.passwords:
            expected = cram_md5_digest(self._challenge, secret.password)
            if hmac.compare_digest(expected, self._digest):
                found = secret.label
        return Proof("", found, "" if found is not None else "wrong digest")


def cram_md5_digest(challenge: bytes, password: str) -> bytes:
    """The digest that proves a password, 32 lower-case hexadecimal digits (RFC 2195 §2)."""
    return hmac.digest(password.encode("utf-8"), challenge, "md5").hex().encode("ascii")


class CramMd5Client:
    """The client's side.

    Args:
        authcid: the name.
        password: prepared (RFC 4013).
    """

    def __init__(self, authcid: str, password: str) -> None:
        self._name = authcid
        self._password = password

    def initial(self) -> bytes | None:
        """The server begins."""
        return None

    def answer(self, challenge: bytes) -> bytes:
        """Name and digest."""
        return self._name.encode("utf-8") + b" " + cram_md5_digest(challenge, self._password)
