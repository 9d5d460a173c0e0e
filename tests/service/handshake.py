"""A TLS handshake in memory: Python's own client against the server's side."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from mailserver.service.tls import ServiceTls

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@attrs.frozen
class Shaken:
    """Both ends after a handshake."""

    client: ssl.SSLObject
    server: SSL.Connection

    @property
    def certificate(self) -> x509.Certificate:
        """The one that the server has shown."""
        octets = self.client.getpeercert(binary_form=True)
        assert octets is not None
        return x509.load_der_x509_certificate(octets)

    @property
    def shown(self) -> str:
        """Common name of the server's certificate."""
        [name] = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(name.value)


def handshake(
    tls: ServiceTls,
    context: ssl.SSLContext,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> Shaken:
    """Shake hands and read the session tickets.

    Raises:
        ssl.SSLError, SSL.Error: whoever notices first says what is wrong.
    """
    server = tls.connection()
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    waiting = {client.do_handshake, server.do_handshake}
    fault: SSL.Error | None = None
    while waiting:
        try:
            client.do_handshake()
            waiting.discard(client.do_handshake)
        except ssl.SSLWantReadError:
            if fault is not None:
                raise fault from None
        octets = to_server.read()
        if octets:
            server.bio_write(octets)
        try:
            server.do_handshake()
            waiting.discard(server.do_handshake)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            fault = error
        _move(server, to_client)
        if fault is not None and client.do_handshake not in waiting:
            client.read(1)  # the alert
            raise fault
    try:
        client.read(1)
    except ssl.SSLWantReadError:
        pass
    return Shaken(client, server)


def _move(server: SSL.Connection, to_client: ssl.MemoryBIO) -> None:
    try:
        while True:
            to_client.write(server.bio_read(1 << 16))
    except SSL.WantReadError:
        pass


# -- certificates -----------------------------------------------------------------------


def write(file: Path, octets: bytes, mode: int = 0o600) -> Path:
    """Write a file, its directory too; `mode` keeps strangers from keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(octets)
    file.chmod(mode)
    return file


def private_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(*certificates: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


@attrs.frozen
class Authority:
    """Issues certificates; its own is `certificate`."""

    name: x509.Name
    key: Key
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str = "Test CA") -> Authority:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, subject, key, timedelta(days=-1), timedelta(days=30))
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(key_id, critical=False)
        return cls(subject, key, builder.sign(key, hashes.SHA256()))

    def issue(
        self,
        common_name: str,
        names: Sequence[str] = (),
        *,
        key: Key | None = None,
        emails: Sequence[str] = (),
        for_clients: bool = False,
        start: timedelta = timedelta(days=-1),
        end: timedelta = timedelta(days=30),
    ) -> tuple[x509.Certificate, Key]:
        """A certificate with its key; `start` and `end` count from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        builder = _builder(subject, self.name, key, start, end)
        general: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        general += [x509.RFC822Name(email) for email in emails]
        if general:
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if for_clients else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            critical=False,
        )
        return builder.sign(self.key, hashes.SHA256()), key

    def write_pair(
        self, directory: Path, common_name: str, names: Sequence[str], **more: object
    ) -> tuple[Path, Path]:
        """Issue a certificate for a server and write it as certbot does."""
        certificate, key = self.issue(common_name, names, **more)  # type: ignore[arg-type]
        return (
            write(directory / "fullchain.pem", pem(certificate, self.certificate)),
            write(directory / "privkey.pem", private_pem(key)),
        )

    def revoke(self, *certificates: x509.Certificate) -> x509.CertificateRevocationList:
        """The list of what is revoked."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - timedelta(days=1))
            .next_update(now + timedelta(days=1))
        )
        for certificate in certificates:
            revoked = x509.RevokedCertificateBuilder(
                certificate.serial_number, now - timedelta(hours=1)
            )
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256())

    def trusting(self) -> ssl.SSLContext:
        """A client that trusts this authority."""
        return ssl.create_default_context(cadata=pem(self.certificate).decode("ascii"))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, start: timedelta, end: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
    )
