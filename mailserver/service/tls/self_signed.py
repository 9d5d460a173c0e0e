"""A certificate of one's own, for a first start and for tests.

The server's certificate is signed by an authority whose key is thrown away at once: a client
can trust the authority and nobody can ever sign with it. A certificate that is its own
authority would be refused by some clients, Thunderbird among them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailserver.service.tls.files import read_pairs

LIFETIME: Final = timedelta(days=397)
"""The most that browsers take."""

_RENEW_BEFORE: Final = timedelta(days=30)

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

EC: Final = "ec"
RSA: Final = "rsa"


@attrs.frozen
class SelfSigned:
    """Files of a certificate for this machine alone.

    Attributes:
        certificate: PEM, the server's certificate.
        key: PEM, its key, 0600.
        authority: PEM, what a client has to trust (curl's `--cacert`).
    """

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def in_directory(cls, directory: Path) -> SelfSigned:
        """The files' names."""
        return cls(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")


def ensure_self_signed(
    directory: Path, names: Sequence[str], now: datetime | None = None
) -> SelfSigned:
    """Make a certificate in `directory`, unless one for these names is there already.

    Args:
        directory: made if missing, 0700.
        names: host names and IP addresses that clients will connect to.
        now: for tests; aware.
    """
    now = now or datetime.now(UTC)
    files = SelfSigned.in_directory(directory)
    return files if _is_good(files, names, now) else make_self_signed(directory, names, now=now)


def _is_good(files: SelfSigned, names: Sequence[str], now: datetime) -> bool:
    try:
        read_pairs([files.certificate], [files.key])
        authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
        covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made anew
        return False
    return certificate.not_valid_after_utc - now > _RENEW_BEFORE and covered.value == _names(names)


def make_self_signed(
    directory: Path,
    names: Sequence[str],
    *,
    lifetime: timedelta = LIFETIME,
    key_type: str = EC,
    now: datetime | None = None,
) -> SelfSigned:
    """Make a certificate, in place of what was there.

    Args:
        directory: made if missing, 0700.
        names: host names and IP addresses, at least one.
        key_type: EC (P-256) or RSA (2048 bits).
        now: for tests; aware.
    """
    now = now or datetime.now(UTC)
    files = SelfSigned.in_directory(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _common_name("mailserver, made for this machine alone")
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _builder(authority_name, authority_name, authority_key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key: _Key = ec.generate_private_key(ec.SECP256R1())
    if key_type == RSA:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = (
        _builder(_common_name(names[0]), authority_name, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_names(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    _write(files.authority, authority.public_bytes(serialization.Encoding.PEM))
    _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    _write(
        files.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return files


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A client's clock may be behind.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + lifetime - timedelta(hours=1))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(general)


def _write(file: Path, octets: bytes) -> None:
    """Replace a file as a whole; 0600, never through a link that somebody laid (S14)."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(octets)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
