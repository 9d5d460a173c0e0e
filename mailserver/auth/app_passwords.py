"""Passwords for single devices, made by the server.

Such a password is 24 random letters and digits, 120 bits: nobody guesses it, so its verifier
need not be slow on purpose, and a login that looks at many of them costs no more. It is told
once and not kept.

SCRAM tells salt and iterations before it is known which of an account's passwords the client
has (RFC 5802 §5), so all of them share these.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Sequence

import attrs

from mailserver.auth.passwords import HashParameters, scram_verifier
from mailserver.auth.saslprep import saslprep
from mailserver.model.account import AppPassword, Verifiers
from mailserver.model.secrets import SecretKind

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # 32; without l, o, 0, 1, which look alike
_GROUPS, _GROUP = 6, 4
_SALT_OCTETS = 16


def app_digest(password: str) -> bytes:
    """What is kept of an app password: SHA-256 of it."""
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()


def make_app_password(
    name: str,
    services: Iterable[str],
    parameters: HashParameters,
    verifiers: Verifiers,
    others: Sequence[AppPassword],
) -> tuple[str, AppPassword]:
    """Make an app password; takes some milliseconds.

    Args:
        name: for people.
        services: for which it is good, none for all.
        parameters: how SCRAM keys are made where the account has none.
        verifiers, others: of the account's passwords so far.

    Returns:
        The password, and what is to be kept of it.
    """
    password = "-".join(
        "".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS)
    )
    iterations = str(parameters.scram_iterations)
    fresh = Verifiers(
        scram_sha256=f"{iterations}:{_fresh_salt()}",
        scram_sha1=f"{iterations}:{_fresh_salt()}" if parameters.scram_sha1 else "",
    )
    like: tuple[Verifiers | AppPassword, ...] = (verifiers, *others, fresh)
    return password, AppPassword(
        id=secrets.token_hex(13),
        name=name,
        services=frozenset(service.lower() for service in services),
        digest=app_digest(password),
        scram_sha256=_scram_like(password, [one.scram_sha256 for one in like], sha1=False),
        scram_sha1=_scram_like(password, [one.scram_sha1 for one in like], sha1=True),
    )


def beside(password: str, verifiers: Verifiers, others: Sequence[AppPassword]) -> Verifiers:
    """Give the verifiers of an account's new password the salts of its app passwords, so that
    SCRAM knows these still.

    Args:
        password: of the verifiers; one for which there are some.
        others: none change nothing.
    """
    if not others:
        return verifiers
    return attrs.evolve(
        verifiers,
        scram_sha256=_scram_like(password, [one.scram_sha256 for one in others], sha1=False)
        or verifiers.scram_sha256,
        scram_sha1=_scram_like(password, [one.scram_sha1 for one in others], sha1=True)
        or verifiers.scram_sha1,
    )


def _scram_like(password: str, texts: Sequence[str], *, sha1: bool) -> str:
    """Make keys with the salt and iterations of the first text that is not empty."""
    kind = SecretKind.SCRAM_SHA_1 if sha1 else SecretKind.SCRAM_SHA_256
    for text in filter(None, texts):
        iterations, salt = text.split(":")[:2]
        octets = saslprep(password).encode("utf-8")
        return scram_verifier(kind, octets, base64.b64decode(salt), int(iterations))
    return ""


def _fresh_salt() -> str:
    return base64.b64encode(secrets.token_bytes(_SALT_OCTETS)).decode("ascii")
