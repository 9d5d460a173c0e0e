"""What a server has to keep, or to know, so that a client can prove a password unsaid.

SCRAM needs keys made of the password (RFC 5802 §3), CRAM-MD5 and APOP the password itself.
An account may have several passwords, one for each device; those of SCRAM then share salt
and iterations, which are told before it is known which of them the client has.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum

import attrs


class SecretKind(Enum):
    """What of a password a source of accounts has."""

    SCRAM_SHA_256 = "sha256"  # the value is hashlib's name of the digest
    SCRAM_SHA_1 = "sha1"
    PLAIN = "plain"


class Evidence(Enum):
    """What somebody who wants in can show, beside a proof of a password."""

    PASSWORD = "password"  # in clear
    TOKEN = "token"  # of an OAuth server that is trusted
    CERTIFICATE = "certificate"  # shown in the handshake of TLS


@attrs.frozen
class ScramKeys:
    """The keys of one password (RFC 5802 §3); they do not show in `repr` (S13).

    Attributes:
        stored_key: the digest of ClientKey, 32 octets for SHA-256, 20 for SHA-1.
        server_key: as many octets.
        label: tells the source which of the account's passwords it is; empty for the
            account's own.
    """

    stored_key: bytes = attrs.field(repr=False)
    server_key: bytes = attrs.field(repr=False)
    label: str = ""


@attrs.frozen
class ScramSecrets:
    """All that a SCRAM server needs of an account.

    Attributes:
        salt: not empty.
        iterations: of PBKDF2.
        keys: of each password, at least one.
    """

    salt: bytes
    iterations: int
    keys: tuple[ScramKeys, ...]


@attrs.frozen
class PlainSecret:
    """One password in clear.

    Attributes:
        password: prepared (RFC 4013); does not show in `repr` (S13).
        label: as of `ScramKeys`.
    """

    password: str = attrs.field(repr=False)
    label: str = ""


@attrs.frozen
class PlainSecrets:
    """The passwords of an account, at least one."""

    passwords: tuple[PlainSecret, ...]


Secrets = ScramSecrets | PlainSecrets


def client_and_server_key(
    kind: SecretKind, password: bytes, salt: bytes, iterations: int
) -> tuple[bytes, bytes]:
    """Make ClientKey and ServerKey (RFC 5802 §3).

    Args:
        kind: SCRAM_SHA_256 or SCRAM_SHA_1.
        password: prepared (RFC 4013), UTF-8.
        iterations: some 2,000 of them take a millisecond.
    """
    salted = hashlib.pbkdf2_hmac(kind.value, password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", kind.value)
    return client_key, hmac.digest(salted, b"Server Key", kind.value)


def scram_keys(kind: SecretKind, password: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """Make what a server keeps of a password (RFC 5802 §3); arguments as above."""
    client_key, server_key = client_and_server_key(kind, password, salt, iterations)
    return ScramKeys(hashlib.new(kind.value, client_key).digest(), server_key)
