"""TLS of a real server: what openssl, sslscan and HAProxy find, and certificates that change
beneath live sessions."""

from __future__ import annotations

import imaplib
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.live.server import free_port_base
from tests.requires import require_program
from tests.service.handshake import Authority, pem, private_pem, write
from tests.service.process import PASSWORD, TWISTD, Process, add_account, write_config

DIRECT = "127.0.0.1"
BEHIND_PROXY = "127.0.0.2"  # the same ports, where only the proxy connects
CLIENT = "127.0.0.9"
NAME = "pat@example.org"
PORTS = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "lmtp": 24, "lmtps": 25}


@attrs.frozen
class Site:
    """A running server, and who issued its certificates."""

    folder: Path
    process: Process
    authority: Authority
    clients: Authority
    base: int

    def port(self, service: str) -> int:
        return self.base + PORTS[service]

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def imap(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("localhost", self.port("imap"), timeout=20)
        client.starttls(self.trust())
        client.login(NAME, PASSWORD)
        return client

    def imaps(self) -> imaplib.IMAP4_SSL:
        client = imaplib.IMAP4_SSL(
            "localhost", self.port("imaps"), ssl_context=self.trust(), timeout=20
        )
        client.login(NAME, PASSWORD)
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    authority, clients = Authority.make(), Authority.make("Clients' CA")
    write(folder / "ca.pem", pem(authority.certificate))
    write(folder / "clientca.pem", pem(clients.certificate))
    names = ["localhost", "mail.example.org"]
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write_lego(authority, folder / "certificates", names)
    authority.write_pair(folder / "rsa", "rsa", names, key=key)
    authority.write_pair(folder / "other", "other", ["other.example.org"])
    base = free_port_base()
    both = f'"{DIRECT}, {BEHIND_PROXY}"'
    config = write_config(
        folder,
        tls__certificate='["certificates", "rsa", "other"]',
        tls__checkinterval='"100ms"',
        tls__clientca='"clientca.pem"',
        service__imap__address=both,
        service__pop__address=both,
        service__imap__port=str(base + PORTS["imap"]),
        service__imap__sslport=str(base + PORTS["imaps"]),
        service__pop__port=str(base + PORTS["pop3"]),
        service__pop__sslport=str(base + PORTS["pop3s"]),
        service__lmtp__port=str(base + PORTS["lmtp"]),
        service__lmtp__sslport=str(base + PORTS["lmtps"]),
        service__lmtp__enablesslport="true",
        service__maxsessionsperuser="0",
        service__proxyhosts=f'"{DIRECT}"',
        service__proxylisteners=f'["imap@{BEHIND_PROXY}", "imaps@{BEHIND_PROXY}"]',
    )
    add_account(config, NAME)
    process = Process.start(*TWISTD, str(config))
    yield Site(folder, process, authority, clients, base)
    assert process.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in "".join(process.log)


def write_lego(authority: Authority, directory: Path, names: list[str]) -> None:
    """One pair as lego lays it, certificate and key in one go."""
    certificate, key = authority.issue(names[0], names)
    write(directory / "mail.key", private_pem(key))
    write(directory / "mail.crt", pem(certificate, authority.certificate))


# -- what programs find --------------------------------------------------------------------


def s_client(site: Site, service: str, *more: str, text: str = "") -> str:
    starttls = [] if service.endswith("s") else ["-starttls", service]
    command = [require_program("openssl"), "s_client", "-connect"]
    command += [f"{DIRECT}:{site.port(service)}", "-CAfile", site.ca_file, *starttls, *more]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("service", PORTS)
def test_openssl_verifies_the_chain(site: Site, service: str) -> None:
    """SUN-3, SUN-4: every port, with the protocol's own STARTTLS."""
    arguments = ("-showcerts", "-verify_hostname", "mail.example.org", "-verify_return_error")
    out = s_client(site, service, *arguments, "-servername", "mail.example.org")
    assert "Verify return code: 0 (ok)" in out
    assert out.count("-----BEGIN CERTIFICATE-----") == 2
    assert re.search(r" 1 s:CN = Test CA\n", out)
    other = s_client(site, service, "-servername", "other.example.org")
    assert "CN = other" in other
    assert "CN = rsa" in s_client(site, service, "-tls1_2", "-cipher", "aRSA")


@pytest.mark.parametrize("service", ["imaps", "pop3", "lmtp"])
def test_a_client_that_means_another_protocol_is_refused(site: Site, service: str) -> None:
    """RFC 7301 §3.2: with the alert that says so, and a line in the log."""
    seen = len(site.process.log)
    assert "no application protocol" in s_client(site, service, "-alpn", "h2,http/1.1")
    reason = "reason=the client offers no protocol of ours"
    until(partial(_says, site.process.log, seen, reason), "the line with the reason")
    meant = service.removesuffix("s")
    assert f"ALPN protocol: {meant}" in s_client(site, service, "-alpn", meant)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes(site: Site, tmp_path: Path, version: str) -> None:
    kept = str(tmp_path / "session")
    first = s_client(site, "imaps", version, "-sess_out", kept, "-ign_eof", text="a LOGOUT\r\n")
    assert "New, TLSv1" in first
    assert "Reused, TLSv1" in s_client(
        site, "imaps", version, "-sess_in", kept, "-ign_eof", text="a LOGOUT\r\n"
    )


@pytest.mark.parametrize("service", ["imaps", "pop3s", "lmtps", "imap", "pop3"])
def test_sslscan_finds_nothing_old_or_weak(site: Site, service: str) -> None:
    """S12, RFC 9325."""
    starttls = [] if service.endswith("s") else [f"--starttls-{service}"]
    command = [require_program("sslscan"), "--xml=-", "--sni-name=localhost", *starttls]
    command += ["--no-colour", f"{DIRECT}:{site.port(service)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    [test] = ElementTree.fromstring(done.stdout).iter("ssltest")
    spoken = {
        f"{p.get('type')} {p.get('version')}": p.get("enabled") for p in test.iter("protocol")
    }
    assert {name for name, enabled in spoken.items() if enabled == "1"} == {"tls 1.2", "tls 1.3"}
    assert len(spoken) == 6, "SSL 2 and 3, TLS 1.0 and 1.1 were tried too"
    ciphers = [(c.get("sslversion"), c.get("cipher")) for c in test.iter("cipher")]
    assert len(ciphers) > 4
    for version, cipher in ciphers:
        assert version in ("TLSv1.2", "TLSv1.3")
        assert version == "TLSv1.3" or re.fullmatch(
            r"ECDHE-(RSA|ECDSA)-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", cipher or ""
        ), cipher
    assert {c.get("strength") for c in test.iter("cipher")} <= {"strong", "acceptable"}
    assert all(one.get("supported") == "0" for one in test.iter("compression"))
    assert all(one.get("vulnerable") == "0" for one in test.iter("heartbleed"))
    assert all(one.get("supported") == "0" for one in test.iter("renegotiation"))


def test_a_delivery_over_the_tls_port(site: Site) -> None:
    """The trace says that TLS was spoken (RFC 3848)."""
    with socket.create_connection((DIRECT, site.port("lmtps")), timeout=20) as plain:
        lmtp = smtplib.LMTP(timeout=30)
        lmtp.sock = site.trust().wrap_socket(plain, server_hostname="localhost")
        assert lmtp.getreply()[0] == 220
        lmtp.sendmail("s@example.org", [NAME], b"Subject: over lmtps\r\n\r\nhi\r\n")
        lmtp.quit()
    client = site.imap()
    client.select(readonly=True)
    [number] = client.search(None, "SUBJECT", '"over lmtps"')[1][0].split()
    [(_, header), _] = client.fetch(number, "(BODY.PEEK[HEADER.FIELDS (RECEIVED)])")[1]
    assert b"with LMTPS" in header
    client.logout()


# -- certificates change -------------------------------------------------------------------


def shown(site: Site, context: ssl.SSLContext | None = None) -> int:
    """Serial number of the certificate that a new connection is shown."""
    with socket.create_connection((DIRECT, site.port("imaps")), timeout=20) as plain:
        context = context or site.trust()
        with context.wrap_socket(plain, server_hostname="mail.example.org") as over:
            octets = over.getpeercert(binary_form=True)
    assert octets is not None
    return x509.load_der_x509_certificate(octets).serial_number


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"{what} did not come in {seconds} s")


@pytest.fixture
def as_before(site: Site) -> Iterator[None]:
    """Puts a good pair back."""
    yield
    write_lego(site.authority, site.certificates, ["localhost", "mail.example.org"])
    serial = _serial(site)
    until(lambda: shown(site) == serial, "the certificate")


def _serial(site: Site) -> int:
    octets = (site.certificates / "mail.crt").read_bytes()
    return x509.load_pem_x509_certificates(octets)[0].serial_number


IDLERS = 100
MESSAGES = 40
SIZE = 500_000


def test_certificates_change_under_live_sessions(site: Site, as_before: None) -> None:
    """R18, S12: 100 sessions in IDLE and a long FETCH go on as if nothing had happened;
    whoever connects sees the new certificate."""
    reader = site.imap()
    reader.create("Large")
    large = b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * (SIZE // 80)
    for _ in range(MESSAGES):
        assert reader.append("Large", "", "", large)[0] == "OK"
    idlers = [site.imaps() if number % 2 else site.imap() for number in range(IDLERS)]
    for idler in idlers:
        idler.select()
        idler.send(b"I IDLE\r\n")
        assert idler.readline().startswith(b"+ ")
    reader.select("Large", readonly=True)
    reader.send(b"F FETCH 1:* BODY.PEEK[]\r\n")
    assert reader.readline().startswith(b"* 1 FETCH")  # and most of 20 MB is still to come

    before = shown(site)
    write_lego(site.authority, site.certificates, ["localhost", "mail.example.org"])
    until(lambda: shown(site) == _serial(site) != before, "the new certificate")

    received = 0
    while True:
        line = reader.readline()
        assert line, "the connection of the long FETCH was dropped"
        received += len(line)
        if line.startswith(b"F "):
            assert line.startswith(b"F OK")
            break
    assert received > MESSAGES * SIZE
    with smtplib.LMTP(DIRECT, site.port("lmtp"), timeout=20) as lmtp:
        lmtp.sendmail("s@example.org", [NAME], b"Subject: wake\r\n\r\nall\r\n")
    for idler in idlers:
        while b"EXISTS" not in (line := idler.readline()):
            assert line, "an idling session was dropped"
        idler.send(b"DONE\r\n")
        while not (line := idler.readline()).startswith(b"I OK"):
            assert line, "an idling session was dropped"
    for client in (reader, *idlers):
        client.logout()


def test_a_pair_that_is_replaced_by_halves(site: Site, as_before: None) -> None:
    """The certificate is new and the key is old: that is told, and tried again when the
    rest has come."""
    before = shown(site)
    certificate, key = site.authority.issue("localhost", ["localhost", "mail.example.org"])
    write(site.certificates / "mail.crt", pem(certificate, site.authority.certificate))
    line = site.process.wait_for("certificates not reloaded")
    assert "tls.certificate: " in line
    assert f"{site.certificates / 'mail.key'}" in line
    assert "does not belong to the certificate in" in line
    assert shown(site) == before
    write(site.certificates / "mail.key", private_pem(key))
    until(lambda: shown(site) == certificate.serial_number, "the new certificate")
    assert sum("certificates not reloaded" in line for line in site.process.log) == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("junk", "not a valid certificate"),
        ("expired", "it has expired at"),
        ("open", "everybody on this machine can read"),
        ("gone", "no fullchain.pem with privkey.pem and no NAME.crt"),
    ],
)
def test_a_bad_new_certificate_keeps_the_old_one(
    site: Site, as_before: None, spoil: str, reason: str
) -> None:
    """R18, S12, S14."""
    before = shown(site)
    seen = len(site.process.log)
    file = site.certificates / "mail.crt"
    if spoil == "junk":
        write(file, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif spoil == "expired":
        old, key = site.authority.issue("localhost", ["localhost"], end=timedelta(hours=-1))
        write(site.certificates / "mail.key", private_pem(key))
        write(file, pem(old))
    elif spoil == "open":
        (site.certificates / "mail.key").chmod(0o644)
    else:
        file.unlink()
    until(lambda: any(reason in line for line in site.process.log[seen:]), reason)
    assert shown(site) == before


# -- clients' certificates and sessions that end ---------------------------------------------


def test_the_log_tells_whose_certificate_was_shown(site: Site, tmp_path: Path) -> None:
    """SUN-10."""
    certificate, key = site.clients.issue("Pat", emails=[NAME], for_clients=True)
    context = site.trust()
    context.load_cert_chain(write(tmp_path / "me.pem", pem(certificate) + private_pem(key)))
    for service in ("imaps", "pop3s"):
        with socket.create_connection((DIRECT, site.port(service)), timeout=20) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as over:
                assert over.recv(100)
    line = site.process.wait_for("client certificate")
    assert f"subject=CN=Pat,O=Example account={NAME}" in line
    assert sum("client certificate" in line for line in site.process.log) == 1  # POP3 never asks


def shows_a_certificate(site: Site, folder: Path, email: str) -> ssl.SSLContext:
    """A client that has a certificate for an address."""
    certificate, key = site.clients.issue("Somebody", emails=[email], for_clients=True)
    context = site.trust()
    context.load_cert_chain(write(folder / "own.pem", pem(certificate) + private_pem(key)))
    return context


@pytest.mark.parametrize("starttls", [False, True])
def test_a_certificate_logs_in(site: Site, tmp_path: Path, starttls: bool) -> None:
    """SUN-10: EXTERNAL is offered to whoever has shown one, without a password."""
    context = shows_a_certificate(site, tmp_path, NAME)
    if starttls:
        client = imaplib.IMAP4("localhost", site.port("imap"), timeout=20)
        assert "AUTH=EXTERNAL" not in client.capabilities
        client.starttls(context)
    else:
        client = imaplib.IMAP4_SSL("localhost", site.port("imaps"), ssl_context=context, timeout=20)
    assert "AUTH=EXTERNAL" in client.capabilities
    assert client.authenticate("EXTERNAL", lambda _: b"")[0] == "OK"
    assert client.select()[0] == "OK"
    client.logout()


def test_without_one_the_password_is_asked(site: Site, tmp_path: Path) -> None:
    """SUN-10: nor does a certificate for somebody who has no account let anybody in."""
    client = site.imaps()
    assert "AUTH=EXTERNAL" not in client.capabilities
    client.logout()
    context = shows_a_certificate(site, tmp_path, "nobody@example.org")
    client = imaplib.IMAP4_SSL("localhost", site.port("imaps"), ssl_context=context, timeout=20)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.authenticate("EXTERNAL", lambda _: b"")
    client.login(NAME, PASSWORD)
    client.logout()


def test_curl_logs_in_by_certificate(site: Site, tmp_path: Path) -> None:
    shows_a_certificate(site, tmp_path, NAME)
    command = [require_program("curl"), "-sS", "--cacert", site.ca_file, "--max-time", "20"]
    command += ["--cert", str(tmp_path / "own.pem"), "--login-options", "AUTH=EXTERNAL"]
    command += ["-u", f"{NAME}:", "-X", "NOOP", f"imaps://localhost:{site.port('imaps')}"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("starttls", [False, True])
def test_a_session_ends_without_the_clients_close_notify(site: Site, starttls: bool) -> None:
    """RFC 8446 §6.1: neither side has to wait for the other's."""
    client = site.imap() if starttls else site.imaps()
    label = re.compile(r"IMAP-\d+ logged in")
    [session] = label.findall([line for line in site.process.log if label.search(line)][-1])
    client.send(b"z LOGOUT\r\n")
    while not client.readline().startswith(b"z OK"):
        pass
    site.process.wait_for(session.replace("logged in", "closed"), seconds=5)
    client.shutdown()


# -- behind a proxy --------------------------------------------------------------------------

_HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen imap
    bind {direct}:{imap}
    server one {behind}:{server_imap} send-proxy
listen imaps
    bind {direct}:{imaps}
    server one {behind}:{server_imaps} send-proxy-v2 proxy-v2-options crc32c,unique-id check \
check-send-proxy inter 500
"""


@pytest.fixture(scope="module")
def proxy(site: Site) -> Iterator[int]:
    """A real HAProxy in front of the server; gives the base of its ports."""
    base = free_port_base()
    config = write(
        site.folder / "haproxy.cfg",
        _HAPROXY.format(
            direct=DIRECT,
            behind=BEHIND_PROXY,
            imap=base + PORTS["imap"],
            imaps=base + PORTS["imaps"],
            server_imap=site.port("imap"),
            server_imaps=site.port("imaps"),
        ).encode(),
    )
    program = require_program("haproxy", "/usr/sbin/haproxy")
    haproxy = subprocess.Popen([program, "-f", str(config), "-db"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(base + PORTS["imaps"]), "HAProxy")
        yield base
    finally:
        haproxy.terminate()
        haproxy.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((DIRECT, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_haproxy_tells_who_the_client_is(site: Site, proxy: int) -> None:
    """Version 1 below STARTTLS, version 2 with checksum below the TLS port."""
    for service in ("imap", "imaps"):
        seen = len(site.process.log)
        plain = socket.create_connection(
            (DIRECT, proxy + PORTS[service]), timeout=20, source_address=(CLIENT, 0)
        )
        with closing(plain):
            if service == "imap":
                assert plain.recv(4096).startswith(b"* OK")
                plain.sendall(b"a STARTTLS\r\n")
                assert plain.recv(4096).startswith(b"a OK")
            with site.trust().wrap_socket(plain, server_hostname="localhost") as over:
                over.sendall(f"b LOGIN {NAME} {PASSWORD}\r\n".encode())
                octets = b""
                while b"b OK" not in octets:
                    octets += over.recv(4096)
        said = partial(_says, site.process.log, seen, f"connected address={CLIENT} ")
        until(said, "the line with the client's address")


def _says(log: list[str], start: int, text: str) -> bool:
    return any(text in line for line in log[start:])


def test_curl_as_a_proxy(site: Site) -> None:
    program = require_program("curl")
    command = [program, "-sS", "--haproxy-protocol", f"imap://{BEHIND_PROXY}:{site.port('imap')}"]
    command += ["-u", f"{NAME}:{PASSWORD}", "-X", "NOOP", "--max-time", "20"]
    subprocess.run(command, check=True, capture_output=True)


def test_whoever_is_no_proxy_is_refused_there(site: Site) -> None:
    """The header of a stranger is not believed, and nobody gets in without one."""
    for source, octets, reason in (
        (CLIENT, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "it is no trusted proxy"),
        (DIRECT, b"a NOOP\r\n", "there is no PROXY header"),
    ):
        with socket.socket() as plain:
            plain.settimeout(20)
            plain.bind((source, 0))
            try:
                plain.connect((BEHIND_PROXY, site.port("imap")))
                plain.sendall(octets)
                assert plain.recv(100) == b""
            except ConnectionError:
                pass
        site.process.wait_for(f"imap refused {source}: {reason}")
