"""Certificates: what a client can verify, what is refused, and how one is replaced."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from OpenSSL import SSL

from mailserver.service.tls import (
    CertificateFault,
    SelfSigned,
    ServerTls,
    TlsSettings,
    ensure_self_signed,
)
from tests.requires import require_program

NAMES = ["localhost", "mail.example.org", "127.0.0.1", "::1"]


@pytest.fixture
def files(tmp_path: Path) -> SelfSigned:
    return ensure_self_signed(tmp_path / "tls", NAMES)


def server_tls(files: SelfSigned, minimum: str = "1.2") -> ServerTls:
    return ServerTls(TlsSettings((files.certificate,), (files.key,), minimum))


def handshake(tls: ServerTls, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """Connect Python's own TLS client to the server's side."""
    near, far = socket.socketpair()
    front = tls.for_service("imap").getContext()
    server = SSL.Connection(front, far)
    server.set_accept_state()

    def accept(_kept: SSL.Context = front) -> None:  # the thread may outlive the test
        try:
            server.do_handshake()
            server.recv(1)
        except SSL.Error:
            far.close()

    threading.Thread(target=accept, daemon=True).start()
    return context.wrap_socket(near, server_hostname=name)


@pytest.mark.parametrize("name", NAMES)
def test_clients_that_trust_the_authority_can_verify(files: SelfSigned, name: str) -> None:
    context = ssl.create_default_context(cafile=str(files.authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on
    with handshake(server_tls(files), context, name) as client:
        assert client.version() == "TLSv1.3"


def test_others_cannot(files: SelfSigned) -> None:
    tls = server_tls(files)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls, ssl.create_default_context(), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls, ssl.create_default_context(cafile=str(files.authority)), "example.net")


def test_openssl_accepts_it(files: SelfSigned) -> None:
    command = [require_program("openssl"), "verify", "-x509_strict", "-CAfile"]
    command += [str(files.authority), str(files.certificate)]
    assert subprocess.run(command, capture_output=True, check=True).stdout.endswith(b": OK\n")


def test_tls_1_1_is_refused(files: SelfSigned) -> None:
    """S12."""
    context = ssl.create_default_context(cafile=str(files.authority))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_tls(files), context, "localhost")


def test_tls_1_3_alone_can_be_asked_for(files: SelfSigned) -> None:
    context = ssl.create_default_context(cafile=str(files.authority))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    handshake(server_tls(files), context, "localhost").close()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_tls(files, "1.3"), context, "localhost")


def test_files_are_private(files: SelfSigned) -> None:
    """S14."""
    for file in (files.certificate, files.key, files.authority):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700


def test_a_certificate_is_kept_while_it_is_good(files: SelfSigned) -> None:
    directory = files.key.parent
    kept = files.certificate.read_bytes()
    assert ensure_self_signed(directory, NAMES) == files
    assert files.certificate.read_bytes() == kept
    ensure_self_signed(directory, NAMES, datetime.now(UTC) + timedelta(days=380))
    renewed = files.certificate.read_bytes()
    assert renewed != kept
    ensure_self_signed(directory, [*NAMES, "other.example.org"])
    assert files.certificate.read_bytes() != renewed


@pytest.mark.parametrize("damaged", ["cert.pem", "key.pem", "ca.pem"])
def test_a_damaged_certificate_is_made_anew(files: SelfSigned, damaged: str) -> None:
    (files.key.parent / damaged).write_bytes(b"")
    (files.key.parent / damaged).chmod(0o600)
    ensure_self_signed(files.key.parent, NAMES)
    context = ssl.create_default_context(cafile=str(files.authority))
    handshake(server_tls(files), context, "localhost").close()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """S14: nobody can make us write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".key.pem.{os.getpid()}").symlink_to(victim)
    (tmp_path / "key.pem").symlink_to(victim)
    files = ensure_self_signed(tmp_path, NAMES)
    assert victim.read_text() == "mine"
    assert not files.key.is_symlink()


def fault(certificate: Path, key: Path) -> CertificateFault:
    with pytest.raises(CertificateFault) as caught:
        ServerTls(TlsSettings((certificate,), (key,)))
    return caught.value


def test_faults_name_the_file_and_the_reason(files: SelfSigned, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    error = fault(missing, files.key)
    assert (error.file, error.role, error.reason) == (
        missing,
        "certificate",
        "No such file or directory",
    )
    error = fault(files.certificate, missing)
    assert (error.file, error.role, error.reason) == (missing, "key", "No such file or directory")

    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    junk.chmod(0o600)
    assert fault(junk, files.key).reason == "not a valid certificate"
    assert fault(files.key, files.key).reason == "no PEM certificate in it"
    assert fault(files.certificate, junk).reason == "no valid PEM private key in it"

    other = ensure_self_signed(tmp_path / "other", NAMES)
    error = fault(files.certificate, other.key)
    assert error.role == "key"
    assert "does not belong to the certificate" in error.reason


def test_an_encrypted_key_is_told_apart(files: SelfSigned, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    command = [require_program("openssl"), "pkcs8", "-topk8", "-in", str(files.key)]
    command += ["-out", str(locked), "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    locked.chmod(0o600)
    assert "encrypted" in fault(files.certificate, locked).reason


def test_a_key_that_everybody_can_read_is_refused(files: SelfSigned) -> None:
    """S14; a group may read it, as Debian's ssl-cert does."""
    files.key.chmod(0o640)
    server_tls(files)
    files.key.chmod(0o644)
    error = fault(files.certificate, files.key)
    assert error.role == "key"
    assert "everybody" in error.reason


def test_a_bad_new_certificate_keeps_the_old_one(files: SelfSigned, tmp_path: Path) -> None:
    """R18, S12."""
    settings = TlsSettings((files.certificate,), (files.key,))
    tls = ServerTls(settings)
    before = ssl.create_default_context(cafile=str(files.authority))
    files.certificate.write_bytes(b"junk")
    with pytest.raises(CertificateFault):
        tls.reload(settings)
    handshake(tls, before, "localhost").close()

    other = ensure_self_signed(tmp_path / "other", NAMES)
    shutil.copy(other.certificate, files.certificate)
    shutil.copy(other.key, files.key)
    tls.reload(settings)
    after = ssl.create_default_context(cafile=str(other.authority))
    handshake(tls, after, "localhost").close()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls, before, "localhost")
