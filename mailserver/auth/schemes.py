"""Stored passwords as other servers write them: `{SCHEME}value`.

The names and forms are those of Dovecot's passdb (`doveadm pw -l`) and of `userPassword` in
LDAP directories (RFC 2307), so that an installation can move over without new
passwords. Nothing here makes such a value: our own passwords are argon2id.

    stored  = [ "{" scheme [ "." encoding ] "}" ] value
    encoding = "b64" / "base64" / "hex"

Passwords are compared as the octets that the client sent: those servers do not prepare them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

import argon2
import attrs
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError

from mailserver.auth import system_crypt

MAX_OCTETS: Final = 1024
"""Octets of a password; a longer one never matches."""

Check = Callable[[bytes, bytes], bool]

_BCRYPT_OCTETS = 72  # what bcrypt looks at; crypt(3) cuts, the library would refuse
_BCRYPT = re.compile(rb"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}")
_DES = re.compile(rb"[./A-Za-z0-9]{13}")
_STORED = re.compile(r"\{([A-Za-z0-9-]{1,30})(?:\.([A-Za-z0-9]{1,10}))?\}(.*)", re.DOTALL)
_SUFFIXES = {"b64": "base64", "base64": "base64", "hex": "hex"}
_HASHER = argon2.PasswordHasher()


@attrs.frozen
class Stored:
    """A stored password that is understood.

    Attributes:
        scheme: its name in `SCHEMES`.
        value: decoded; not in the value's `repr` (S13).
    """

    scheme: str
    value: bytes = attrs.field(repr=False)


@attrs.frozen
class Scheme:
    """One way to store a password.

    Attributes:
        check: (value, password) → does it match.
        is_valid: can the value be of this scheme.
        encoding: in which values are written where no suffix says otherwise: `base64`,
            `hex`, or empty for text.
        length: octets of a value that always has as many, else 0: a text of twice as many
            characters is hexadecimal whatever the default is.
    """

    check: Check
    is_valid: Callable[[bytes], bool]
    encoding: str = ""
    length: int = 0


def parse_stored(text: str, default_scheme: str) -> Stored:
    """Read a stored password.

    Args:
        text: not empty.
        default_scheme: of a text without `{SCHEME}`; one of `SCHEMES`.

    Raises:
        ValueError: with the reason, which never quotes the value.
    """
    match = _STORED.fullmatch(text)
    name, suffix, value = match.groups() if match else (default_scheme, None, text)
    name = name.upper()
    if name == "MD5":  # Dovecot's stands for two: crypt(3)'s and that of RFC 2307
        name = "MD5-CRYPT" if value.startswith("$1$") else "LDAP-MD5"
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise ValueError(f"the scheme {name} is not known")
    encoding = scheme.encoding
    if suffix is not None:
        try:
            encoding = _SUFFIXES[suffix.lower()]
        except KeyError:
            raise ValueError(f"the encoding .{suffix} is none of b64, base64, hex") from None
    elif scheme.length and len(value) == 2 * scheme.length:
        encoding = "hex"
    octets = _decoded(name, encoding, value)
    if not scheme.is_valid(octets):
        raise ValueError(f"its value is not one of {name}, or the system does not know it")
    return Stored(name, octets)


def matches(stored: Stored, password: bytes) -> bool:
    """Say whether a password belongs to what is stored; may take as long as the scheme
    wants, so call it on a thread.

    Args:
        password: octets as the client sent them. None that is empty, has a NUL, or is
            longer than `MAX_OCTETS` matches.
    """
    if not 0 < len(password) <= MAX_OCTETS or b"\0" in password:
        return False
    return SCHEMES[stored.scheme].check(stored.value, password)


def _decoded(name: str, encoding: str, value: str) -> bytes:
    try:
        if encoding == "hex":
            return bytes.fromhex(value)
        if encoding == "base64":
            return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"its value of scheme {name} is not {encoding}") from None
    return value.encode("utf-8")


def _digest(algorithm: str, *, is_salted: bool = False, encoding: str = "base64") -> Scheme:
    """A digest of password and salt, the salt standing behind it."""
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def check(value: bytes, password: bytes) -> bool:
        made = hashlib.new(algorithm, password + value[length:], usedforsecurity=False)
        return hmac.compare_digest(made.digest(), value[:length])

    if is_salted:
        return Scheme(check, lambda value: len(value) > length, encoding)
    return Scheme(check, lambda value: len(value) == length, encoding, length)


def _check_bcrypt(value: bytes, password: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_OCTETS], value)
    except ValueError:
        return False


def _check_argon2(value: bytes, password: bytes) -> bool:
    try:
        return _HASHER.verify(value, password)
    except (VerificationError, InvalidHashError):
        return False


def _is_argon2(value: bytes) -> bool:
    try:
        argon2.extract_parameters(value.decode("ascii"))
    except (InvalidHashError, ValueError):
        return False
    return True


def _pbkdf2_parts(value: bytes) -> tuple[bytes, int, bytes]:
    """`$1$salt$rounds$digest`: salt as text, SHA-1, the digest hexadecimal.

    Raises:
        ValueError: it is not of that form.
    """
    start, version, salt, rounds, digest = value.split(b"$")
    if start or version != b"1" or not rounds.isdigit() or not int(rounds):
        raise ValueError
    return salt, int(rounds), bytes.fromhex(digest.decode("ascii"))


def _check_pbkdf2(value: bytes, password: bytes) -> bool:
    salt, rounds, digest = _pbkdf2_parts(value)
    made = hashlib.pbkdf2_hmac("sha1", password, salt, rounds, len(digest))
    return hmac.compare_digest(made, digest)


def scram_parts(value: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Read `iterations,salt,StoredKey,ServerKey` (the last three base64).

    Raises:
        ValueError: it is not of that form.
    """
    iterations, *texts = value.split(b",")
    salt, stored_key, server_key = (base64.b64decode(text, validate=True) for text in texts)
    if not iterations.isdigit() or not int(iterations) or not salt:
        raise ValueError
    return int(iterations), salt, stored_key, server_key


def _scram(algorithm: str) -> Scheme:
    """The keys of SCRAM (RFC 5802 §3), good for a password in clear as well."""
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def check(value: bytes, password: bytes) -> bool:
        iterations, salt, stored_key, _ = scram_parts(value)
        salted = hashlib.pbkdf2_hmac(algorithm, password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        return hmac.compare_digest(hashlib.new(algorithm, client_key).digest(), stored_key)

    def is_valid(value: bytes) -> bool:
        parts = scram_parts(value)
        return len(parts[2]) == len(parts[3]) == length

    return Scheme(check, _unless_wrong(is_valid))


def _unless_wrong(read: Callable[[bytes], object]) -> Callable[[bytes], bool]:
    """Make a check of a function that raises ValueError for what it cannot read."""

    def is_valid(value: bytes) -> bool:
        try:
            return bool(read(value))
        except ValueError:
            return False

    return is_valid


def _crypt(*prefixes: bytes) -> Scheme:
    """A hash of crypt(3) that begins with one of the prefixes."""

    def is_valid(value: bytes) -> bool:
        return value.startswith(prefixes) and system_crypt.is_usable(value)

    return Scheme(system_crypt.matches, is_valid)


def _is_crypt(value: bytes) -> bool:
    return bool(_BCRYPT.fullmatch(value)) or system_crypt.is_usable(value)


def _check_crypt(value: bytes, password: bytes) -> bool:
    check = _check_bcrypt if value.startswith(b"$2") else system_crypt.matches
    return check(value, password)


_MD5_CRYPT = _crypt(b"$1$")
_MD5 = _digest("md5")
_PLAIN = Scheme(hmac.compare_digest, lambda value: bool(value))
_BLF_CRYPT = Scheme(_check_bcrypt, lambda value: bool(_BCRYPT.fullmatch(value)))
_ARGON2 = Scheme(_check_argon2, _is_argon2)

SCHEMES: Final[dict[str, Scheme]] = {
    "ARGON2ID": _ARGON2,
    "ARGON2I": _ARGON2,
    "ARGON2": _ARGON2,  # OpenLDAP's name
    "BLF-CRYPT": _BLF_CRYPT,
    "BCRYPT": _BLF_CRYPT,
    "SHA512-CRYPT": _crypt(b"$6$"),
    "SHA256-CRYPT": _crypt(b"$5$"),
    "MD5-CRYPT": _MD5_CRYPT,
    "DES-CRYPT": Scheme(
        system_crypt.matches,
        lambda value: bool(_DES.fullmatch(value)) and system_crypt.is_usable(value),
    ),
    "CRYPT": Scheme(_check_crypt, _is_crypt),
    "PBKDF2": Scheme(_check_pbkdf2, _unless_wrong(_pbkdf2_parts)),
    "SCRAM-SHA-256": _scram("sha256"),
    "SCRAM-SHA-1": _scram("sha1"),
    "SSHA512": _digest("sha512", is_salted=True),
    "SSHA256": _digest("sha256", is_salted=True),
    "SSHA": _digest("sha1", is_salted=True),
    "SHA512": _digest("sha512"),
    "SHA256": _digest("sha256"),
    "SHA": _digest("sha1"),
    "SHA1": _digest("sha1"),
    "SMD5": _digest("md5", is_salted=True),
    "LDAP-MD5": _MD5,
    "PLAIN-MD5": _digest("md5", encoding="hex"),
    "PLAIN": _PLAIN,
    "CLEAR": _PLAIN,
    "CLEARTEXT": _PLAIN,
}
"""Every scheme that is understood, by its name."""
