"""`mailctl tls`: make a certificate, show what the server shows, and see it as clients do."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from mailserver.cli.running import EX_CONFIG, act_as_owner, fail, print_json, settings_of
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Settings
from mailserver.service.parts import load_tls
from mailserver.service.tls import ServerTls
from mailserver.service.tls.files import names_of
from mailserver.service.tls.self_signed import EC, LIFETIME, RSA, make_self_signed

EX_BAD: Final = 1
"""Exit code of `check` when something is wrong."""
EX_UNREACHABLE: Final = 69
"""Exit code of `check` when nobody answers at the address (sysexits.h)."""

_TIMEOUT: Final = 15.0
_MAX_ANSWER: Final = 1 << 16


@click.group()
def tls() -> None:
    """Certificates: make one, show them, check them as clients do."""


def _complain(text: str) -> NoReturn:
    fail(text, EX_CONFIG)


def _server_tls(settings: Settings) -> ServerTls:
    try:
        found = load_tls(settings)
    except ConfigurationError as error:
        _complain(str(error))
    if found is None:
        _complain(f"no certificate is configured: set {o.tls.CERTIFICATE.name}")
    return found


# -- self-signed ---------------------------------------------------------------------------


@tls.command("self-signed")
@click.argument("names", nargs=-1)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to; by default `tls` in the data directory.",
)
@click.option("--days", type=click.IntRange(1, 7300), default=LIFETIME.days, show_default=True)
@click.option("--key", "key_type", type=click.Choice([EC, RSA]), default=EC, show_default=True)
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.pass_context
def self_signed(
    context: click.Context,
    names: tuple[str, ...],
    directory: Path | None,
    days: int,
    key_type: str,
    force: bool,
) -> None:
    """Make a key and a certificate for NAMES, host names or IP addresses; by default that
    of this server.

    Clients have to be told to trust ca.pem. Its key is not kept, so that nobody can sign
    with it.
    """
    settings = settings_of(context)
    os.umask(0o077)
    act_as_owner(settings.data)
    where = directory or settings.data / "tls"
    if not force and any((where / name).exists() for name in ("cert.pem", "key.pem")):
        fail(f"{where} has a certificate already; --force replaces it", 73)
    wanted = names or (settings[o.local.HOSTNAME] or socket.gethostname(),)
    lifetime = timedelta(days=days)
    try:
        files = make_self_signed(where, wanted, lifetime=lifetime, key_type=key_type)
    except (OSError, ValueError) as error:
        fail(str(error), 73)
    click.echo(f'{o.tls.CERTIFICATE.name} = "{files.certificate.absolute()}"')
    click.echo(f'{o.tls.KEY.name} = "{files.key.absolute()}"')
    click.echo(f"clients trust {files.authority.absolute()}")


# -- show ----------------------------------------------------------------------------------


def _told(certificate: x509.Certificate) -> dict[str, Any]:
    """What there is to know about a certificate, for programs."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": list(names_of(certificate)),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


@tls.command()
@click.argument("name", default="")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show every certificate, or those that a client sees that asks for NAME."""
    server = _server_tls(settings_of(context))
    default = server.shown_for("")
    pairs = server.shown_for(name) if name else server.pairs
    rows = [
        {
            **_told(pair.certificate),
            "file": str(pair.certificate_file),
            "key_file": str(pair.key_file),
            "key": pair.key_type,
            "issuers_sent": len(pair.chain) - 1,
            "default": pair in default,
        }
        for pair in pairs
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['file']}{' (for clients that name no server)' * bool(row['default'])}")
        for title, key in _TITLES:
            value = row[key]
            click.echo(f"  {title:<12} {', '.join(value) if isinstance(value, list) else value}")


_TITLES: Final = (
    ("subject", "subject"),
    ("names", "names"),
    ("issuer", "issuer"),
    ("from", "not_before"),
    ("until", "not_after"),
    ("key", "key"),
    ("sha256", "sha256"),
)


# -- check ---------------------------------------------------------------------------------


@attrs.frozen
class _Finding:
    """One thing that was looked at: a name, or a server; `problem` is empty if all is well."""

    what: str
    problem: str
    certificate: Mapping[str, Any]


@tls.command()
@click.argument("names", nargs=-1)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Who clients trust; by default, who this system trusts.",
)
@click.option(
    "--days", type=click.IntRange(0), default=14, show_default=True, help="Still valid so long."
)
@click.option("--connect", metavar="HOST:PORT", help="Ask a running server instead of the files.")
@click.option(
    "--starttls",
    type=click.Choice(["imap", "pop3", "lmtp"]),
    help="With --connect: the port speaks this and goes over to TLS.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def check(
    context: click.Context,
    names: tuple[str, ...],
    ca: Path | None,
    days: int,
    connect: str | None,
    starttls: str | None,
    as_json: bool,
) -> None:
    """Connect as a client does that trusts the usual authorities, for each of NAMES.

    Chain, key, name and dates are verified. NAMES are by default this server's name and
    every name that its certificates are for. Ends with 0 if all is well, 1 if not, 69 if
    nobody answers, 78 if the files cannot be used.
    """
    try:
        trust = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except ssl.SSLError:
        fail(f"{ca}: no PEM certificate in it", EX_CONFIG)
    settings = settings_of(context)
    server = None if connect else _server_tls(settings)
    findings = []
    for name in names or _own_names(settings, server):
        if server is not None:
            shake: _Handshake = _in_memory(server)
        else:
            shake = _over_network(connect or "", starttls)
        findings.append(_look(name, trust, shake, timedelta(days=days)))
    if as_json:
        print_json([attrs.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.what}: {finding.problem or 'ok'}")
            if finding.certificate:
                told = finding.certificate
                click.echo(f"  {told['subject']}, until {told['not_after']}, {told['sha256']}")
    if any(finding.problem for finding in findings):
        raise SystemExit(EX_BAD)


def _own_names(settings: Settings, server: ServerTls | None) -> list[str]:
    names = [settings[o.local.HOSTNAME] or socket.gethostname()]
    if server is not None:
        names += [name for pair in server.pairs for name in pair.names]
    plain = [name.replace("*", "any-name", 1) for name in names]
    return list(dict.fromkeys(plain))


_Handshake = Callable[[ssl.SSLContext, str], bytes]
"""Shakes hands for a name; gives the server's certificate. Raises `ssl.SSLError`."""


def _look(name: str, trust: ssl.SSLContext, shake: _Handshake, ahead: timedelta) -> _Finding:
    try:
        certificate = x509.load_der_x509_certificate(shake(trust, name))
    except ssl.SSLCertVerificationError as error:
        return _Finding(name, error.verify_message, {})
    except (ssl.SSLError, SSL.Error) as error:
        return _Finding(name, f"TLS failed: {error}", {})
    told = _told(certificate)
    if certificate.not_valid_after_utc - datetime.now(UTC) < ahead:
        return _Finding(name, f"expires at {told['not_after']}", told)
    return _Finding(name, "", told)


def _in_memory(server: ServerTls) -> _Handshake:
    """Shake hands with what the files would serve: the same code as the server's."""

    def shake(trust: ssl.SSLContext, name: str) -> bytes:
        far = server.for_service("").connection()
        inwards, outwards = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = trust.wrap_bio(inwards, outwards, server_hostname=name)
        while True:
            try:
                near.do_handshake()
                return near.getpeercert(binary_form=True) or b""
            except ssl.SSLWantReadError:
                pass
            far.bio_write(outwards.read())
            try:
                far.do_handshake()
            except SSL.WantReadError:
                pass
            inwards.write(far.bio_read(_MAX_ANSWER))

    return shake


# What a protocol says before TLS: the line that ends each of the server's turns, and ours.
_BEFORE: Final[Mapping[str, tuple[tuple[bytes, bytes], ...]]] = {
    "imap": ((b"* ", b"a STARTTLS\r\n"), (b"a OK", b"")),
    "pop3": ((b"+OK", b"STLS\r\n"), (b"+OK", b"")),
    "lmtp": ((b"220 ", b"LHLO mailctl\r\n"), (b"250 ", b"STARTTLS\r\n"), (b"220 ", b"")),
}


def _over_network(address: str, starttls: str | None) -> _Handshake:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        fail(f"--connect {address}: give it as HOST:PORT", 64)

    def shake(trust: ssl.SSLContext, name: str) -> bytes:
        with _reached(host.strip("[]"), int(port)) as plain:
            if starttls is not None:
                _begin_tls(plain, starttls)
            with trust.wrap_socket(plain, server_hostname=name) as over:
                return over.getpeercert(binary_form=True) or b""

    return shake


@contextmanager
def _reached(host: str, port: int) -> Iterator[socket.socket]:
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT) as plain:
            yield plain
    except ssl.SSLError:
        raise
    except (OSError, EOFError) as error:
        fail(f"{host} port {port}: {error}", EX_UNREACHABLE)


def _begin_tls(plain: socket.socket, protocol: str) -> None:
    """Say what leads to TLS.

    Raises:
        EOFError: the server says something else.
    """
    for expected, answer in _BEFORE[protocol]:
        line = b""
        while not line.startswith(expected) or not line.endswith(b"\n"):
            if line.endswith(b"\n"):
                if not line.startswith(expected.strip()):  # `250-` goes on
                    raise EOFError(f"does not start TLS: {line.decode('ascii', 'replace')!r}")
                line = b""
            octet = plain.recv(1)  # nothing behind the line may be taken
            if not octet:
                raise EOFError("the server closed the connection")
            line += octet
        plain.sendall(answer)
