"""`mailctl tls`: what an administrator sees of the certificates."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from mailserver.cli.main import main
from tests.service.handshake import Authority, pem, write
from tests.service.process import write_config

HOST = "mail.example.org"

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture
def config(tmp_path: Path, authority: Authority) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    authority.write_pair(tmp_path / "main", "main", [HOST])
    authority.write_pair(tmp_path / "rsa", "rsa", [HOST], key=key)
    authority.write_pair(tmp_path / "wild", "wild", ["*.example.net"], end=timedelta(days=40))
    write(tmp_path / "ca.pem", pem(authority.certificate))
    return write_config(tmp_path, tls__certificate='["main", "rsa", "wild"]')


@pytest.fixture
def run(config: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(main, ["-c", str(config), "tls", *arguments])


# -- self-signed -----------------------------------------------------------------------------


def test_self_signed_makes_what_clients_can_trust(run: Run, tmp_path: Path) -> None:
    """S14: the key is for the server alone."""
    done = run("self-signed", HOST, "192.0.2.1", "--days", "10")
    where = tmp_path / "data" / "tls"
    assert done.exit_code == 0, done.output
    assert done.output == (
        f'tls.certificate = "{where}/cert.pem"\n'
        f'tls.key = "{where}/key.pem"\n'
        f"clients trust {where}/ca.pem\n"
    )
    assert stat.S_IMODE((where / "key.pem").stat().st_mode) == 0o600
    made = x509.load_pem_x509_certificate((where / "cert.pem").read_bytes())
    left = made.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=9) < left <= timedelta(days=10)
    config = write_config(tmp_path, tls__certificate=f'"{where}"')
    ca = str(where / "ca.pem")
    arguments = ["-c", str(config), "tls", "check", "--ca", ca, "--days", "5"]
    for name in (HOST, "192.0.2.1"):
        done = CliRunner().invoke(main, [*arguments, name])
        assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, [*arguments, "other.example.org"]).exit_code == 1


def test_self_signed_replaces_nothing_unasked(run: Run, tmp_path: Path) -> None:
    where = tmp_path / "own"
    assert run("self-signed", "--directory", str(where)).exit_code == 0
    before = (where / "cert.pem").read_bytes()
    refused = run("self-signed", "--directory", str(where), "--key", "rsa")
    assert refused.exit_code == 73 and "--force replaces it" in refused.output
    assert (where / "cert.pem").read_bytes() == before
    done = run("self-signed", "--directory", str(where), "--key", "rsa", "--force")
    assert done.exit_code == 0
    made = x509.load_pem_x509_certificate((where / "cert.pem").read_bytes())
    assert isinstance(made.public_key(), rsa.RSAPublicKey)
    assert made.subject.rfc4514_string() == f"CN={HOST}"  # this server's name


# -- show --------------------------------------------------------------------------------------


def test_show_tells_what_is_served_for_a_name(run: Run, tmp_path: Path) -> None:
    def served(*arguments: str) -> list[tuple[str, str]]:
        done = run("show", "--json", *arguments)
        assert done.exit_code == 0, done.output
        return [(row["subject"], row["key"]) for row in json.loads(done.output)]

    main_ec, main_rsa, wild = (
        ("CN=main,O=Example", "EC 256"),
        ("CN=rsa,O=Example", "RSA 2048"),
        ("CN=wild,O=Example", "EC 256"),
    )
    assert served() == [main_ec, main_rsa, wild]
    assert served(HOST) == [main_ec, main_rsa]
    assert served("a.example.net") == [wild]
    assert served("unknown.example.com") == [main_ec, main_rsa]
    out = run("show").output
    assert out.count("(for clients that name no server)") == 2
    assert "names        *.example.net\n" in out
    assert "issuer       CN=Test CA\n" in out
    first = json.loads(run("show", "--json").output)[0]
    assert first["sha256"] in out and len(first["sha256"]) == 64
    assert first["file"] == str(tmp_path / "main" / "fullchain.pem")


def test_without_a_certificate_there_is_nothing_to_show(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    for command in ("show", "check"):
        done = CliRunner().invoke(main, ["-c", str(config), "tls", command])
        assert done.exit_code == 78
        assert "no certificate is configured: set tls.certificate" in done.output


def test_a_file_that_cannot_be_used_is_told(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "main" / "privkey.pem"
    key.chmod(0o644)
    done = run("show")
    assert done.exit_code == 78
    assert f"{key}: tls.certificate: everybody on this machine can read" in done.output


# -- check ---------------------------------------------------------------------------------------


def test_check_sees_what_clients_see(run: Run, tmp_path: Path) -> None:
    """Chain, name and dates, by a client's own code."""
    ca = str(tmp_path / "ca.pem")
    done = run("check", "--ca", ca)
    assert done.exit_code == 0, done.output
    names = [line.partition(":")[0] for line in done.output.splitlines() if "ok" in line]
    assert names == [HOST, "any-name.example.net"]
    for arguments, problem in (
        (("--ca", ca, "other.example.org"), "other.example.org: Hostname mismatch"),
        ((), f"{HOST}: self-signed certificate in certificate chain"),
        (("--ca", ca, "--days", "35"), f"{HOST}: expires at "),
    ):
        done = run("check", *arguments)
        assert done.exit_code == 1, done.output
        assert problem in done.output
    done = run("check", "--ca", ca, "--json", "--days", "35")
    assert done.exit_code == 1
    assert [bool(row["problem"]) for row in json.loads(done.output)] == [True, False]


def test_a_chain_that_is_missing_is_noticed(tmp_path: Path, authority: Authority) -> None:
    """As where cert.pem was named in place of fullchain.pem."""
    middle = Authority.make("Middle")
    file, _ = middle.write_pair(tmp_path / "tls", "main", [HOST])
    file.write_bytes(file.read_bytes().split(b"-----END CERTIFICATE-----\n")[0])
    file.write_bytes(file.read_bytes() + b"-----END CERTIFICATE-----\n")
    ca = write(tmp_path / "ca.pem", pem(authority.certificate))
    config = write_config(tmp_path, tls__certificate='"tls"')
    done = CliRunner().invoke(main, ["-c", str(config), "tls", "check", "--ca", str(ca)])
    assert done.exit_code == 1
    assert "unable to get local issuer certificate" in done.output


# A server's half of a conversation before TLS: what it says, after what it has heard.
TALKS = {
    "imap": [(b"", b"* OK ready\r\n"), (b"a STARTTLS\r\n", b"a OK begin\r\n")],
    "pop3": [(b"", b"+OK ready\r\n"), (b"STLS\r\n", b"+OK begin\r\n")],
    "lmtp": [
        (b"", b"220 ready\r\n"),
        (b"LHLO mailctl\r\n", b"250-host\r\n250-PIPELINING\r\n250 STARTTLS\r\n"),
        (b"STARTTLS\r\n", b"220 begin\r\n"),
    ],
    "": [],
}


@pytest.fixture
def answering(tmp_path: Path, authority: Authority) -> Iterator[Callable[[str], str]]:
    """Starts a server that talks and then shakes hands once; gives its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = authority.write_pair(tmp_path / "there", "there", [HOST])
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def talk(protocol: str) -> None:
        plain, _ = listener.accept()
        plain.settimeout(10)
        for heard, said in TALKS.get(protocol, [(b"", b"554 go away\r\n")]):
            assert not heard or plain.recv(100) == heard
            plain.sendall(said)
        if protocol in TALKS:
            with context.wrap_socket(plain, server_side=True) as over:
                over.recv(1)
        plain.close()

    def start(protocol: str) -> str:
        threads.append(threading.Thread(target=talk, args=(protocol,)))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


@pytest.mark.parametrize("protocol", TALKS)
def test_check_asks_a_running_server(
    run: Run, tmp_path: Path, answering: Callable[[str], str], protocol: str
) -> None:
    starttls = ("--starttls", protocol) if protocol else ()
    ca = ("--ca", str(tmp_path / "ca.pem"))
    done = run("check", *ca, "--connect", answering(protocol), *starttls)
    assert done.exit_code == 0, done.output
    assert f"{HOST}: ok\n  CN=there,O=Example, until " in done.output


def test_check_says_when_nobody_answers(run: Run, answering: Callable[[str], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = run("check", "--connect", f"127.0.0.1:{port}")
    assert done.exit_code == 69 and "Connection refused" in done.output
    done = run("check", "--connect", answering("other"), "--starttls", "imap")
    assert done.exit_code == 69 and "does not start TLS: '554 go away" in done.output
    assert run("check", "--connect", "localhost").exit_code == 64
