"""Which certificate a client sees, what it may speak, and how it resumes."""

from __future__ import annotations

import gc
import hashlib
import ssl
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from mailserver.server.channel_binding import TLS_SERVER_END_POINT, channel_bindings
from mailserver.service.tls import CertificateFault, ServerTls, ServiceTls, TlsSettings
from tests.service.handshake import Authority, handshake, pem, private_pem, write


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def served(*certificates: Path, service: str = "imap", **more: str) -> ServiceTls:
    return ServerTls(TlsSettings(certificates, **more)).for_service(service)  # type: ignore[arg-type]


def test_it_is_what_twisted_wants(authority: Authority, tmp_path: Path) -> None:
    authority.write_pair(tmp_path, "a", ["a.example.org"])
    tls = served(tmp_path)
    assert verifyObject(IOpenSSLServerConnectionCreator, tls)
    assert verifyObject(IOpenSSLContextFactory, tls)


# -- names -------------------------------------------------------------------------------

SHOWN = [
    ("a.example.org", "first"),
    ("A.Example.ORG", "first"),
    ("b.example.org", "second"),
    ("x.wild.example.org", "wild"),
    ("exact.wild.example.org", "second"),  # rather than the wildcard
    ("a.b.wild.example.org", "first"),  # a wildcard stands for one label
    ("wild.example.org", "first"),
    ("other.example.net", "first"),  # the default
    (None, "first"),
]


@pytest.mark.parametrize(("name", "shown"), SHOWN)
def test_a_certificate_for_each_name(
    authority: Authority, tmp_path: Path, name: str | None, shown: str
) -> None:
    """S12, SUN-4."""
    authority.write_pair(tmp_path / "1", "first", ["a.example.org"])
    authority.write_pair(tmp_path / "2", "second", ["b.example.org", "exact.wild.example.org"])
    authority.write_pair(tmp_path / "3", "wild", ["*.wild.example.org"])
    tls = served(tmp_path / "1", tmp_path / "2", tmp_path / "3")
    context = authority.trusting()
    context.check_hostname = False
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.maximum_version = version
        assert handshake(tls, context, name).shown == shown


def test_names_that_clients_invent_cost_no_memory(authority: Authority, tmp_path: Path) -> None:
    """S12: the map is as large as the configuration, whatever clients ask for."""
    authority.write_pair(tmp_path, "a", ["a.example.org"])
    tls = served(tmp_path)
    context = authority.trusting()
    context.check_hostname = False
    for number in range(20):
        handshake(tls, context, f"n{number}.example.org")
    assert len(tls._contexts) == 1


def test_rsa_and_ec_stand_beside_each_other(
    authority: Authority, tmp_path: Path, rsa_key: rsa.RSAPrivateKey
) -> None:
    """A client gets the kind that it can verify, each with its own chain."""
    other = Authority.make("Other CA")
    authority.write_pair(tmp_path / "ec", "ec", ["a.example.org"])
    other.write_pair(tmp_path / "rsa", "rsa", ["a.example.org"], key=rsa_key)
    tls = served(tmp_path / "ec", tmp_path / "rsa")
    for maker, ciphers, shown in ((authority, b"aECDSA", "ec"), (other, b"aRSA", "rsa")):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(ciphers)
        client, _ = shake_openssl(tls, context, "a.example.org")
        chain = client.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        assert [one.issuer for one in chain] == [maker.name, maker.name]
        assert shown in chain[0].subject.rfc4514_string()


def shake_openssl(
    tls: ServiceTls, context: SSL.Context, name: str
) -> tuple[SSL.Connection, SSL.Connection]:
    """Shake hands with a client that can be held to one kind of key; both ends."""
    client = SSL.Connection(context, None)
    client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    server = SSL.Connection(tls.getContext(), None)
    server.set_accept_state()
    done: set[SSL.Connection] = set()
    while len(done) < 2:
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
                done.add(end)
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(end.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
    return client, server


# -- what is spoken ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "offered", "agreed"),
    [
        ("imap", [], None),
        ("imap", ["imap"], "imap"),
        ("imap", ["http/1.1", "imap"], "imap"),
        ("pop3", ["pop3"], "pop3"),
        ("lmtp", ["lmtp"], "lmtp"),
    ],
)
def test_the_protocol_that_is_meant(
    authority: Authority, tmp_path: Path, service: str, offered: list[str], agreed: str | None
) -> None:
    """RFC 7301."""
    authority.write_pair(tmp_path, "a", ["localhost"])
    context = authority.trusting()
    if offered:
        context.set_alpn_protocols(offered)
    found = handshake(served(tmp_path, service=service), context)
    assert found.client.selected_alpn_protocol() == agreed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("service", "offered"),
    [("imap", ["http/1.1", "h2"]), ("pop3", ["imap"]), ("lmtp", ["smtp"]), ("imap", ["IMAP"])],
)
def test_another_protocol_is_refused(
    authority: Authority,
    tmp_path: Path,
    service: str,
    offered: list[str],
    version: ssl.TLSVersion,
) -> None:
    """RFC 7301 §3.2: a browser that was led to this port leaves at once."""
    authority.write_pair(tmp_path, "a", ["localhost"])
    tls = served(tmp_path, service=service)
    context = authority.trusting()
    context.maximum_version = version
    context.set_alpn_protocols(offered)
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        handshake(tls, context)
    context.set_alpn_protocols([service])
    handshake(tls, context)  # and the next client is served


def test_ciphers_and_versions_are_as_configured(authority: Authority, tmp_path: Path) -> None:
    """S12, RFC 9325 §4.2: forward secrecy and authenticated encryption."""
    authority.write_pair(tmp_path, "a", ["localhost"])
    context = authority.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AES+SHA:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, SSL.Error)):
        handshake(served(tmp_path), context)
    legacy = served(tmp_path, ciphers="ECDHE+AES")
    cipher = handshake(legacy, context).client.cipher()
    assert cipher is not None and cipher[0].endswith("-SHA")


def test_there_is_no_renegotiation(authority: Authority, tmp_path: Path) -> None:
    """RFC 9325 §3.5."""
    authority.write_pair(tmp_path, "a", ["localhost"])
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client, server = shake_openssl(served(tmp_path), context, "localhost")
    assert client.renegotiate()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    server.bio_write(client.bio_read(1 << 16))
    with pytest.raises(SSL.WantReadError):
        server.recv(1)
    assert server.total_renegotiations() == 0
    client.bio_write(server.bio_read(1 << 16))
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()


# -- resuming ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_also_across_a_reload(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """The keys of tickets outlive the certificate, and are thrown away in time
    (RFC 9325 §3.4)."""
    authority.write_pair(tmp_path, "a", ["localhost", "b.example.org"])
    tls = ServerTls(TlsSettings((tmp_path,)))
    context = authority.trusting()
    context.maximum_version = version

    def resumes(session: ssl.SSLSession | None, service: str = "imap") -> bool:
        found = handshake(tls.for_service(service), context, "localhost", session)
        return bool(found.client.session_reused)

    session = handshake(tls.for_service("imap"), context).client.session
    assert session is not None
    assert resumes(session)
    assert not resumes(session, "pop3")  # what one service asks of clients another may not
    authority.write_pair(tmp_path, "b", ["localhost"])
    tls.reload(tls.settings)
    assert handshake(tls.for_service("imap"), context).shown == "b"
    assert resumes(session)
    tls.rotate_tickets()
    assert not resumes(session)
    session = handshake(tls.for_service("imap"), context).client.session
    assert resumes(session)
    tls.reload(TlsSettings((tmp_path,), ciphers="ECDHE+AESGCM"))
    assert not resumes(session)


def test_new_ticket_keys_take_nothing_from_a_handshake(
    authority: Authority, tmp_path: Path
) -> None:
    """The callbacks of the context that a connection began with are there while it is."""
    authority.write_pair(tmp_path, "a", ["localhost"])
    tls = ServerTls(TlsSettings((tmp_path,)))
    service = tls.for_service("imap")
    first = weakref.ref(service.getContext())
    before = handshake(service, authority.trusting())
    tls.rotate_tickets()
    gc.collect()
    assert first() is not None
    del before
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_is_not_bound_to_a_certificate(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """RFC 5929 §4.1: the client knows the certificate of the session's first handshake, the
    server perhaps another one by now."""
    authority.write_pair(tmp_path, "a", ["localhost"])
    tls = ServerTls(TlsSettings((tmp_path,)))
    context = authority.trusting()
    context.maximum_version = version
    first = handshake(tls.for_service("imap"), context)
    shown = hashlib.sha256(first.certificate.public_bytes(Encoding.DER)).digest()
    assert channel_bindings(first.server)[TLS_SERVER_END_POINT] == shown
    authority.write_pair(tmp_path, "b", ["localhost"])
    tls.reload(tls.settings)
    again = handshake(tls.for_service("imap"), context, session=first.client.session)
    assert again.client.session_reused
    assert TLS_SERVER_END_POINT not in channel_bindings(again.server)


# -- warnings ----------------------------------------------------------------------------


def test_what_is_said_of_certificates(authority: Authority, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    day = timedelta(days=1)
    authority.write_pair(tmp_path / "good", "good", ["a"])
    authority.write_pair(tmp_path / "soon", "soon", ["b"], end=10 * day)
    authority.write_pair(tmp_path / "old", "old", ["c"], end=-day / 2)
    authority.write_pair(tmp_path / "young", "young", ["d"], start=day)
    tls = ServerTls(TlsSettings(tuple(tmp_path / n for n in ("good", "soon", "old", "young"))))
    said = list(tls.warnings(now))
    assert [line.partition(": the certificate ")[2].partition(" at ")[0] for line in said] == [
        "expires",
        "has expired",
        said[2].partition(": the certificate ")[2],
    ]
    assert "young" in said[2] and "not valid before" in said[2]


def test_a_key_that_openssl_finds_too_weak_is_told(authority: Authority, tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    certificate, _ = authority.issue("a", ["a.example.org"], key=weak)
    file = write(tmp_path / "a.pem", pem(certificate) + private_pem(weak))
    with pytest.raises(CertificateFault, match=r"OpenSSL refuses it: .*key too small") as caught:
        ServerTls(TlsSettings((file,)))
    assert caught.value.file == file
