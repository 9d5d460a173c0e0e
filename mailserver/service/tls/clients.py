"""Certificates of clients: who issues them, and which account one stands for (SUN-10).

# the file of tls.clientmap: an account, then a certificate's fingerprint or its subject
ann@example.org   sha256:8d:1f:…           (64 hexadecimal digits, colons allowed)
bob@example.org   CN=Bob Builder,O=Example  (RFC 4514, as openssl -nameopt RFC2253 shows)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from mailserver.model.certificate import ClientCertificate
from mailserver.service.tls.files import CertificateFault, read, read_certificates

AUTHORITIES: Final = "clientca"
REVOKED: Final = "clientcrl"
MAP: Final = "clientmap"

_FINGERPRINT: Final = re.compile(r"sha256:((?:[0-9A-Fa-f]{2}:?){32})", re.IGNORECASE)


@attrs.frozen(eq=False)
class ClientTrust:
    """Whom certificates of clients are believed from, and what they say.

    Attributes:
        authorities: issuers.
        revoked: their revocation lists; with any, each issuer needs a current one.
        rules: names of `RULES`, in order; the first that gives an account decides.
        by_fingerprint, by_subject: accounts of `tls.clientmap`.
        digest: changes when a certificate that was good may be good no longer.
    """

    authorities: tuple[x509.Certificate, ...]
    revoked: tuple[x509.CertificateRevocationList, ...]
    rules: tuple[str, ...]
    by_fingerprint: Mapping[str, str]
    by_subject: Mapping[x509.Name, str]
    digest: bytes

    def believe_in(self, context: SSL.Context) -> None:
        """Have a context accept these issuers' certificates, and name them to clients."""
        store = context.get_cert_store()
        assert store is not None
        for authority in self.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
            context.add_client_ca(authority)
        for crl in self.revoked:
            store.add_crl(crl)
        if self.revoked:
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)

    def read(self, certificate: x509.Certificate) -> ClientCertificate | None:
        """What a certificate that OpenSSL has accepted says; None if it has expired since,
        which a resumed session does not ask."""
        if certificate.not_valid_after_utc <= datetime.now(UTC):
            return None
        found = (RULES[rule](self, certificate) for rule in self.rules)
        return ClientCertificate(
            certificate.subject.rfc4514_string(),
            _fingerprint(certificate),
            next(filter(None, found), ""),
        )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _by_map(trust: ClientTrust, certificate: x509.Certificate) -> str:
    known = trust.by_fingerprint.get(_fingerprint(certificate))
    return known or trust.by_subject.get(certificate.subject, "")


def _by_email(trust: ClientTrust, certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ""
    addresses = extension.value.get_values_for_type(x509.RFC822Name)
    return addresses[0] if addresses else ""


def _by_common_name(trust: ClientTrust, certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


RULES: Final[Mapping[str, Callable[[ClientTrust, x509.Certificate], str]]] = {
    "map": _by_map,
    "email": _by_email,
    "commonname": _by_common_name,
}
"""Ways from a certificate to an account: its line in `tls.clientmap`; the first e-mail
address among its alternative names; its common name."""


def read_trust(
    authorities: Path, revoked: Path | None, mapping: Path | None, rules: tuple[str, ...]
) -> ClientTrust:
    """Read what concerns clients' certificates.

    Args:
        authorities: PEM file of the issuers.
        revoked: PEM file of revocation lists.
        mapping: accounts, in the form above.
        rules: names of `RULES`.

    Raises:
        CertificateFault: a file cannot be used.
    """
    by_fingerprint: dict[str, str] = {}
    by_subject: dict[x509.Name, str] = {}
    if mapping is not None:
        _read_map(mapping, by_fingerprint, by_subject)
    issuers = read_certificates(authorities, AUTHORITIES)
    crls = () if revoked is None else _read_crls(revoked)
    octets = [one.public_bytes(serialization.Encoding.DER) for one in issuers]
    octets += [one.public_bytes(serialization.Encoding.DER) for one in crls]
    digest = hashlib.sha256(b"".join(octets)).digest()
    return ClientTrust(issuers, crls, rules, by_fingerprint, by_subject, digest)


def _read_crls(file: Path) -> tuple[x509.CertificateRevocationList, ...]:
    marker = b"-----BEGIN X509 CRL-----"
    _, *blocks = read(file, REVOKED).split(marker)
    if not blocks:
        raise CertificateFault(file, "no PEM revocation list in it", REVOKED)
    try:
        return tuple(x509.load_pem_x509_crl(marker + block) for block in blocks)
    except ValueError:
        raise CertificateFault(file, "not a valid revocation list", REVOKED) from None


def _read_map(file: Path, by_fingerprint: dict[str, str], by_subject: dict[x509.Name, str]) -> None:
    try:
        lines = read(file, MAP).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise CertificateFault(file, "is not UTF-8", MAP) from None
    for number, line in enumerate(lines, 1):
        account, _, which = line.strip().partition(" ")
        which = which.strip()
        if not account or account.startswith("#"):
            continue
        fingerprint = _FINGERPRINT.fullmatch(which)
        if fingerprint is not None:
            by_fingerprint[fingerprint[1].replace(":", "").lower()] = account
            continue
        try:
            name = x509.Name.from_rfc4514_string(which)
        except ValueError:
            name = x509.Name([])
        if not list(name):
            reason = f"line {number}: wants an account, then sha256:… or a subject such as CN=…"
            raise CertificateFault(file, reason, MAP)
        by_subject[name] = account
