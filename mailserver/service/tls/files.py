"""Certificates with their keys, read from where they lie.

A path names a PEM file, or a directory as an ACME client leaves it: certbot's `live`
(`NAME/fullchain.pem` beside `NAME/privkey.pem`) or lego's `certificates` (`NAME.crt` beside
`NAME.key`). Which key belongs to which certificate, the keys themselves tell.

A private key that everybody on the machine can read is refused (S14).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import NameOID

CERTIFICATE: Final = "certificate"
KEY: Final = "key"

NO_KEY: Final = "no valid PEM private key in it"

_PAIRS: Final = (("fullchain.pem", "privkey.pem"), ("cert.pem", "key.pem"))
_SUFFIXES: Final = (".crt", ".key")

_MAX_FILE: Final = 1 << 20

Signature = tuple[tuple[Path, tuple[int, ...]], ...]


class CertificateFault(Exception):
    """A file that TLS needs and that cannot be used.

    Args:
        file: which one.
        reason: for the administrator, without the file's name.
        role: what the file is for: the last part of its option's name, such as
            `certificate`, `key` or `clientca`.
    """

    def __init__(self, file: Path, reason: str, role: str = CERTIFICATE) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason
        self.role = role


@attrs.frozen(eq=False)
class KeyPair:
    """A certificate that the server can show, since it has the key.

    Attributes:
        certificate_file, key_file: where they were read.
        chain: the server's own certificate first, then its issuers.
        key: the private key.
        names: DNS names that it is for, in lower case, perhaps `*.example.org`.
    """

    certificate_file: Path
    key_file: Path
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes
    names: tuple[str, ...]

    @property
    def certificate(self) -> x509.Certificate:
        """The server's own certificate."""
        return self.chain[0]

    @property
    def key_type(self) -> str:
        """`RSA 2048`, `EC 256`, `Ed25519`, …"""
        kind = type(self.key).__name__.lstrip("_").removesuffix("PrivateKey")
        name = {"EllipticCurve": "EC"}.get(kind, kind)
        size = getattr(self.key, "key_size", None)
        return name if size is None else f"{name} {size}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in lower-case hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def is_valid(self, now: datetime) -> bool:
        """Neither expired nor too young; `now` is aware."""
        own = self.certificate
        return own.not_valid_before_utc <= now < own.not_valid_after_utc


def read_pairs(certificates: Sequence[Path], keys: Sequence[Path]) -> tuple[KeyPair, ...]:
    """Read certificates, each with the key that belongs to it.

    Args:
        certificates: files and directories, at least one.
        keys: files of keys, in any order; a certificate whose key is in none of them has
            it in its own file.

    Returns:
        In the order given; of a directory those that are valid longest come first.

    Raises:
        CertificateFault: a file cannot be used, or a key belongs to no certificate.
    """
    found: list[KeyPair] = []
    chains = {file: read_certificates(file) for file in certificates if not os.path.isdir(file)}
    pool = {file: _read_key(file) for file in keys}
    unused = dict(pool)
    for path in certificates:
        if path not in chains:
            found += _of_directory(path)
            continue
        own = _public(chains[path][0].public_key())
        key_file = next((f for f, key in pool.items() if _public(key.public_key()) == own), None)
        if key_file is not None:
            unused.pop(key_file, None)
            found.append(_pair(path, chains[path], key_file, pool[key_file]))
        elif unused and len(chains) == 1:
            raise _does_not_belong(next(iter(unused)), path)
        else:
            found.append(_pair(path, chains[path], path, _read_key(path)))
    for file in unused:
        raise CertificateFault(file, "the private key belongs to none of the certificates", KEY)
    return tuple(found)


def _of_directory(directory: Path) -> list[KeyPair]:
    try:
        files = list(_in_directory(directory))
    except OSError as error:
        raise CertificateFault(directory, error.strerror or str(error)) from None
    if not files:
        reason = "no fullchain.pem with privkey.pem and no NAME.crt with NAME.key in it"
        raise CertificateFault(directory, reason)
    pairs = [_pair(one, read_certificates(one), key, _read_key(key)) for one, key in files]
    return sorted(pairs, key=lambda pair: pair.certificate.not_valid_after_utc, reverse=True)


def _in_directory(directory: Path) -> Iterator[tuple[Path, Path]]:
    """Files of certificates with those of their keys."""
    for place in (directory, *(p for p in sorted(directory.iterdir()) if p.is_dir())):
        for certificate, key in _PAIRS:
            if (place / certificate).exists() and (place / key).exists():
                yield place / certificate, place / key
    for certificate_file in sorted(directory.glob(f"*{_SUFFIXES[0]}")):
        # NAME.crt has the issuers in it; NAME.issuer.crt, which lies beside it, has no key
        key_file = certificate_file.with_suffix(_SUFFIXES[1])
        if key_file.exists():
            yield certificate_file, key_file


def _pair(
    file: Path, chain: tuple[x509.Certificate, ...], key_file: Path, key: PrivateKeyTypes
) -> KeyPair:
    if _public(key.public_key()) != _public(chain[0].public_key()):
        raise _does_not_belong(key_file, file)
    return KeyPair(file, key_file, chain, key, names_of(chain[0]))


def _does_not_belong(key_file: Path, file: Path) -> CertificateFault:
    reason = f"the private key does not belong to the certificate in {file}"
    return CertificateFault(key_file, reason, KEY)


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names that a certificate is for, in lower case; its common name is looked at only
    where it names none (RFC 6125 §6.4.4)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(one.value).lower() for one in common)
    except ValueError:  # an extension that cannot be read
        return ()


def read_certificates(file: Path, role: str = CERTIFICATE) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM file, at least one.

    Raises:
        CertificateFault: with `role`.
    """
    octets = read(file, role)
    if b"-----BEGIN CERTIFICATE-----" not in octets:
        raise CertificateFault(file, "no PEM certificate in it", role)
    try:
        return tuple(x509.load_pem_x509_certificates(octets))
    except ValueError:
        raise CertificateFault(file, "not a valid certificate", role) from None


def _read_key(file: Path) -> PrivateKeyTypes:
    octets, mode = _read(file, KEY)
    if mode & 0o007:
        reason = "everybody on this machine can read or change it; chmod o= it"
        raise CertificateFault(file, reason, KEY)
    try:
        return serialization.load_pem_private_key(octets, password=None)
    except TypeError:
        reason = "the private key is encrypted; the server cannot ask for its password"
        raise CertificateFault(file, reason, KEY) from None
    except ValueError:
        raise CertificateFault(file, NO_KEY, KEY) from None


def read(file: Path, role: str) -> bytes:
    """The octets of a file of at most 1 MiB.

    Raises:
        CertificateFault: with `role`.
    """
    return _read(file, role)[0]


def _read(file: Path, role: str) -> tuple[bytes, int]:
    """Octets and permissions of one and the same file, should it be replaced meanwhile."""
    try:
        with file.open("rb") as stream:
            octets = stream.read(_MAX_FILE + 1)
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    except OSError as error:
        raise CertificateFault(file, error.strerror or str(error), role) from None
    if len(octets) > _MAX_FILE:
        raise CertificateFault(file, "is larger than 1 MiB", role)
    return octets, mode


def signature(paths: Iterable[Path]) -> Signature:
    """What changes whenever one of the files changes, or a link to it.

    Args:
        paths: files and directories; in directories, what `read_pairs` looks at.
    """
    found: list[tuple[Path, tuple[int, ...]]] = []
    for path in paths:
        found.append((path, _state(path)))
        if os.path.isdir(path):  # which Path.is_dir may raise for
            try:
                inside = list(_in_directory(path))
            except OSError:
                inside = []
            found += [(file, _state(file)) for pair in inside for file in pair]
    return tuple(found)


def _state(path: Path) -> tuple[int, ...]:
    try:
        state = os.stat(path)
    except OSError:
        return ()
    return (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size)
