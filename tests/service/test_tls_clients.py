"""Certificates of clients: who is believed, and which account they stand for (SUN-10)."""

from __future__ import annotations

import re
import ssl
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from mailserver.model.certificate import ClientCertificate
from mailserver.service.config import ConfigurationError, load
from mailserver.service.parts import load_tls
from mailserver.service.tls import CertificateFault, ServerTls, TlsSettings
from mailserver.service.tls.clients import read_trust
from mailserver.service.tls.server import OFF, OPTIONAL, REQUIRED
from tests.service.handshake import Authority, Key, Shaken, handshake, pem, private_pem, write

SERVERS = Authority.make("Servers' CA")
CLIENTS = Authority.make("Clients' CA")
ANN = CLIENTS.issue("Ann", emails=["ann@example.org"], for_clients=True)


def settings(folder: Path, asked: str = OPTIONAL, **more: object) -> TlsSettings:
    SERVERS.write_pair(folder / "server", "server", ["localhost"])
    return TlsSettings(
        (folder / "server",),
        client_authorities=write(folder / "clients.pem", pem(CLIENTS.certificate)),
        client_certificates={"imap": asked},
        **more,  # type: ignore[arg-type]
    )


def client(folder: Path, pair: tuple[x509.Certificate, Key] | None) -> ssl.SSLContext:
    context = SERVERS.trusting()
    if pair is not None:
        certificate, key = pair
        context.load_cert_chain(write(folder / "me.pem", pem(certificate) + private_pem(key)))
    return context


def shake(
    tls: ServerTls,
    folder: Path,
    pair: tuple[x509.Certificate, Key] | None = ANN,
    session: ssl.SSLSession | None = None,
    service: str = "imap",
) -> Shaken:
    return handshake(tls.for_service(service), client(folder, pair), "localhost", session)


def read(found: Shaken) -> ClientCertificate | None:
    return found.server.client_certificate()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("asked", [OPTIONAL, REQUIRED])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_trusted_certificate_stands_for_an_account(
    tmp_path: Path, asked: str, version: ssl.TLSVersion
) -> None:
    tls = ServerTls(settings(tmp_path, asked))
    context = client(tmp_path, ANN)
    context.maximum_version = version
    found = handshake(tls.for_service("imap"), context)
    fingerprint = ANN[0].fingerprint(hashes.SHA256()).hex()
    expected = ClientCertificate("CN=Ann,O=Example", fingerprint, "ann@example.org")
    assert read(found) == expected
    # A resumed session is the same client's; it has not shown its certificate again.
    again = handshake(tls.for_service("imap"), context, session=found.client.session)
    assert again.client.session_reused
    assert read(again) == expected


def test_a_client_without_one_is_served_where_it_is_optional(tmp_path: Path) -> None:
    assert read(shake(ServerTls(settings(tmp_path)), tmp_path, None)) is None
    with pytest.raises(ssl.SSLError, match="certificate required"):
        shake(ServerTls(settings(tmp_path, REQUIRED)), tmp_path, None)


def test_a_service_that_does_not_ask_sees_none(tmp_path: Path) -> None:
    tls = ServerTls(settings(tmp_path, OFF))
    assert read(shake(tls, tmp_path)) is None
    assert read(shake(ServerTls(settings(tmp_path)), tmp_path, service="pop3")) is None


STRANGERS = {
    "of another authority": Authority.make("Other").issue("Ann", for_clients=True),
    "named alike": Authority.make("Clients' CA").issue("Ann", for_clients=True),
    "expired": CLIENTS.issue("Ann", for_clients=True, end=timedelta(hours=-1)),
    "not valid yet": CLIENTS.issue("Ann", for_clients=True, start=timedelta(hours=1)),
    "of a server": CLIENTS.issue("Ann", emails=["ann@example.org"]),
}


@pytest.mark.parametrize("pair", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("asked", [OPTIONAL, REQUIRED])
def test_others_are_refused(tmp_path: Path, pair: tuple[x509.Certificate, Key], asked: str) -> None:
    """Also where none is needed: a session that resumed would not be asked again."""
    with pytest.raises((SSL.Error, ssl.SSLError), match=r"certificate|unknown ca"):
        shake(ServerTls(settings(tmp_path, asked)), tmp_path, pair)


def test_revoked_certificates_are_refused(tmp_path: Path) -> None:
    bob = CLIENTS.issue("Bob", emails=["bob@example.org"], for_clients=True)
    crl = write(tmp_path / "crl.pem", pem(CLIENTS.revoke(bob[0])))
    tls = ServerTls(settings(tmp_path))
    assert read(shake(tls, tmp_path, bob)) is not None
    tls.reload(settings(tmp_path, client_revoked=crl))
    assert read(shake(tls, tmp_path, ANN)) is not None
    with pytest.raises((SSL.Error, ssl.SSLError), match="revoked"):
        shake(tls, tmp_path, bob)


def test_a_session_does_not_outlive_what_it_was_granted_under(tmp_path: Path) -> None:
    """Whoever is revoked cannot resume: a resumed session is not verified again."""
    tls = ServerTls(settings(tmp_path))
    context = client(tmp_path, ANN)

    def resumed(session: ssl.SSLSession | None) -> bool | None:
        return handshake(tls.for_service("imap"), context, session=session).client.session_reused

    session = handshake(tls.for_service("imap"), context).client.session
    assert resumed(session)
    tls.reload(settings(tmp_path))
    assert resumed(session)  # nothing that concerns clients has changed
    crl = write(tmp_path / "crl.pem", pem(CLIENTS.revoke()))
    tls.reload(settings(tmp_path, client_revoked=crl))
    assert not resumed(session)
    session = handshake(tls.for_service("imap"), context).client.session
    assert resumed(session)
    tls.reload(settings(tmp_path, REQUIRED, client_revoked=crl))
    assert not resumed(session)


# -- accounts ----------------------------------------------------------------------------

BOTH = CLIENTS.issue("bob", emails=["b1@example.org", "b2@example.org"], for_clients=True)
NAMELESS = CLIENTS.issue("carol", for_clients=True)
ACCOUNTS = [
    (("email",), "", BOTH, "b1@example.org"),
    (("email",), "", NAMELESS, ""),
    (("commonname",), "", NAMELESS, "carol"),
    (("email", "commonname"), "", NAMELESS, "carol"),
    (("email", "commonname"), "", BOTH, "b1@example.org"),
    (("map", "email"), "dan CN=carol,O=Example\n", NAMELESS, "dan"),
    (("map", "email"), "dan CN=carol,O=Example\n", BOTH, "b1@example.org"),
    (("map", "email"), "dan CN=bob,O=Example\n", BOTH, "dan"),
    (("email", "map"), "dan CN=bob,O=Example\n", BOTH, "b1@example.org"),
    (("map",), "# dan CN=carol,O=Example\n\n", NAMELESS, ""),
    (("map",), "dan CN=CAROL,O=Example\n", NAMELESS, ""),
    (("map",), "dan O=Example,CN=carol\n", NAMELESS, ""),
]


@pytest.mark.parametrize(("rules", "text", "pair", "account"), ACCOUNTS)
def test_what_gives_the_account(
    tmp_path: Path,
    rules: tuple[str, ...],
    text: str,
    pair: tuple[x509.Certificate, Key],
    account: str,
) -> None:
    authorities = write(tmp_path / "ca.pem", pem(CLIENTS.certificate))
    mapping = write(tmp_path / "map", text.encode())
    found = read_trust(authorities, None, mapping, rules).read(pair[0])
    assert found is not None and found.account == account


@pytest.mark.parametrize("form", [str, str.upper, lambda text: re.sub("(..)(?=.)", r"\1:", text)])
def test_fingerprints_as_people_write_them(tmp_path: Path, form: object) -> None:
    digest = NAMELESS[0].fingerprint(hashes.SHA256()).hex()
    line = f"  carol@example.org \t sha256:{form(digest)}\n"  # type: ignore[operator]
    authorities = write(tmp_path / "ca.pem", pem(CLIENTS.certificate))
    mapping = write(tmp_path / "map", line.encode())
    found = read_trust(authorities, None, mapping, ("map",)).read(NAMELESS[0])
    assert found is not None and found.account == "carol@example.org"


def test_one_that_has_expired_since_stands_for_nobody(tmp_path: Path) -> None:
    authorities = write(tmp_path / "ca.pem", pem(CLIENTS.certificate))
    trust = read_trust(authorities, None, None, ("email", "commonname"))
    assert trust.read(STRANGERS["expired"][0]) is None


FAULTS = [
    ("client_authorities", b"junk", "clientca", "no PEM certificate"),
    ("client_revoked", b"junk", "clientcrl", "no PEM revocation list"),
    ("client_revoked", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "clientcrl",
     "not a valid revocation list"),
    ("client_map", b"ann@example.org\n", "clientmap", "line 1: wants an account"),
    ("client_map", b"\nann sha256:12:34\n", "clientmap", "line 2: wants an account"),
    ("client_map", b"ann \xff\n", "clientmap", "is not UTF-8"),
    ("client_map", None, "clientmap", "No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "octets", "role", "reason"), FAULTS)
def test_faults_name_option_file_and_reason(
    tmp_path: Path, setting: str, octets: bytes | None, role: str, reason: str
) -> None:
    """A bad one leaves what was there."""
    tls = ServerTls(settings(tmp_path))
    bad = tmp_path / "bad"
    if octets is not None:
        write(bad, octets)
    with pytest.raises(CertificateFault, match=reason) as caught:
        tls.reload(attrs.evolve(tls.settings, **{setting: bad}))  # type: ignore[arg-type]
    assert (caught.value.file, caught.value.role) == (bad, role)
    assert read(shake(tls, tmp_path)) is not None


@pytest.mark.parametrize("option", ["tls.clientca", "tls.clientcrl", "tls.clientmap"])
def test_the_start_is_stopped_with_option_file_and_reason(tmp_path: Path, option: str) -> None:
    SERVERS.write_pair(tmp_path / "server", "server", ["localhost"])
    bad = write(tmp_path / "bad", b"junk\n")
    given = {
        "tls.certificate": str(tmp_path / "server"),
        "tls.clientca": str(write(tmp_path / "ca.pem", pem(CLIENTS.certificate))),
        option: str(bad),
    }
    with pytest.raises(ConfigurationError) as caught:
        load_tls(load(None, given))
    [problem] = caught.value.problems
    assert (problem.place, problem.option) == (str(bad), option)
    assert problem.reason
