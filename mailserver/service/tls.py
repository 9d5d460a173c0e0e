"""Certificates: loaded with clear errors, replaced without a stop, made for a first start.

Only TLS 1.2 and later (S12). A private key that everybody on the machine can read is
refused (S14).
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

_VERSIONS: Final = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}

# 397 days are the most that browsers take; a certificate near its end is made anew.
_LIFETIME: Final = timedelta(days=397)
_RENEW_BEFORE: Final = timedelta(days=30)


class CertificateFault(Exception):
    """A certificate or key that cannot be used.

    Args:
        file: which one.
        is_key: it is about the private key.
        reason: for the administrator, without the file's name.
    """

    def __init__(self, file: Path, reason: str, *, is_key: bool = False) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason
        self.is_key = is_key


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLContextFactory)
class ServerTls:
    """The server's side of TLS, for every listener and every STARTTLS.

    Args:
        certificate: PEM file, the server's certificate first, then its chain.
        key: PEM file of the private key; may be the same file.
        minimum: oldest version that is spoken, `1.2` or `1.3`.

    Raises:
        CertificateFault: a file cannot be used.
    """

    def __init__(self, certificate: Path, key: Path, minimum: str = "1.2") -> None:
        self._minimum = _VERSIONS[minimum]
        self._context = _load(certificate, key, self._minimum)

    def reload(self, certificate: Path, key: Path) -> None:
        """Read the files, which may be others; live connections keep what they have (R18).

        Raises:
            CertificateFault: a file cannot be used; then the old certificate stays.
        """
        self._context = _load(certificate, key, self._minimum)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted's way of asking for one connection's TLS state."""
        return SSL.Connection(self._context, None)

    def getContext(self) -> SSL.Context:
        """The way in which `ITLSTransport.startTLS` is declared to ask."""
        return self._context


def _load(certificate_file: Path, key_file: Path, minimum: Any) -> SSL.Context:
    chain = _certificates(certificate_file)
    key = _key(key_file)
    try:
        # pyOpenSSL takes the values of `cryptography` and deprecates its own, which are
        # still what Twisted declares.
        context: SSL.Context = CertificateOptions(
            privateKey=key,  # type: ignore[arg-type]
            certificate=chain[0],  # type: ignore[arg-type]
            extraCertChain=chain[1:],  # type: ignore[arg-type]
            raiseMinimumTo=minimum,
        ).getContext()
    except (SSL.Error, TypeError):
        reason = f"the private key does not belong to the certificate in {certificate_file}"
        raise CertificateFault(key_file, reason, is_key=True) from None
    return context


def _certificates(file: Path) -> list[x509.Certificate]:
    octets = _read(file, is_key=False)
    if b"-----BEGIN CERTIFICATE-----" not in octets:
        raise CertificateFault(file, "no PEM certificate in it")
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise CertificateFault(file, "not a valid certificate") from None


def _key(file: Path) -> PrivateKeyTypes:
    octets = _read(file, is_key=True)
    if stat.S_IMODE(file.stat().st_mode) & 0o007:
        reason = "everybody on this machine can read or change it; chmod o= it"
        raise CertificateFault(file, reason, is_key=True)
    try:
        return serialization.load_pem_private_key(octets, password=None)
    except TypeError:
        reason = "the private key is encrypted; the server cannot ask for its password"
        raise CertificateFault(file, reason, is_key=True) from None
    except ValueError:
        raise CertificateFault(file, "no valid PEM private key in it", is_key=True) from None


def _read(file: Path, *, is_key: bool) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateFault(file, error.strerror or str(error), is_key=is_key) from None


# -- a certificate of one's own ----------------------------------------------


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


def ensure_self_signed(
    directory: Path, names: list[str], now: datetime | None = None
) -> SelfSigned:
    """Make a certificate in `directory`, unless one for these names is there already.

    The server's certificate is signed by an authority whose key is thrown away at once:
    a client can trust the authority and nobody can ever sign with it. A certificate that
    is its own authority would be refused by some clients, Thunderbird among them.

    Args:
        directory: made if missing, 0700.
        names: host names and IP addresses that clients will connect to.
        now: for tests; aware.
    """
    now = now or datetime.now(UTC)
    files = SelfSigned(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")
    if not _is_good(files, names, now):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(files, names, now)
    return files


def _is_good(files: SelfSigned, names: list[str], now: datetime) -> bool:
    try:
        ServerTls(files.certificate, files.key)
        authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
        covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made anew
        return False
    return certificate.not_valid_after_utc - now > _RENEW_BEFORE and covered.value == _names(names)


def _make(files: SelfSigned, names: list[str], now: datetime) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _common_name("mailserver, made for this machine alone")
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _builder(authority_name, authority_name, authority_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_common_name(names[0]), authority_name, key, now)
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


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A client's clock may be behind.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME - timedelta(hours=1))
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


def _names(names: list[str]) -> x509.SubjectAlternativeName:
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
