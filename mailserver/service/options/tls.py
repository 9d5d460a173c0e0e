"""Certificates and TLS (SUN-4, SUN-10, S1)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from OpenSSL import SSL

from mailserver.service.kinds import PATH, PATHS, TEXT, Kind, choice, choices, duration
from mailserver.service.options.option import RELOAD, Option, Rows
from mailserver.service.tls.clients import RULES
from mailserver.service.tls.server import CIPHERS, OFF, OPTIONAL, REQUIRED

OPTIONS = Rows()


def _ciphers(value: object, base: Path) -> str:
    text = TEXT.parse(value, base)  # OpenSSL itself takes control characters
    try:
        SSL.Context(SSL.TLS_SERVER_METHOD).set_cipher_list(text.encode("ascii"))
    except (SSL.Error, UnicodeEncodeError):
        raise ValueError("takes what `openssl ciphers` understands, as ECDHE+AESGCM") from None
    return text


CERTIFICATE = OPTIONS.row(
    "tls.certificate",
    PATHS,
    (),
    "Certificates with chains in PEM, or directories of certbot or lego; none: no TLS",
    RELOAD,
)
KEY = OPTIONS.row(
    "tls.key", PATHS, (), "PEM files of private keys, unless in the certificates' files", RELOAD
)
CHECK_INTERVAL = OPTIONS.row(
    "tls.checkinterval",
    duration(0, 86400),
    60.0,
    "How often files are looked at for changes; 0: at a reload only",
)
MINIMUM_VERSION = OPTIONS.row(
    "tls.minimumversion",
    choice("1.2", "1.3"),
    "1.2",
    "Oldest version of TLS that is spoken",
    RELOAD,
)
CIPHER_LIST = OPTIONS.row(
    "tls.ciphers",
    Kind("cipher list of OpenSSL", "", _ciphers, str),
    CIPHERS,
    "Ciphers of TLS 1.2; those of 1.3 are all good",
    RELOAD,
)
CLIENT_AUTHORITIES = OPTIONS.row(
    "tls.clientca",
    PATH,
    None,
    "PEM file of those who issue certificates to clients; empty: none is asked for",
    RELOAD,
)
CLIENT_REVOKED = OPTIONS.row(
    "tls.clientcrl",
    PATH,
    None,
    "PEM file of their revocation lists, a current one of each",
    RELOAD,
)
CLIENT_RULES = OPTIONS.row(
    "tls.clientaccount",
    choices(*RULES),
    ("map", "email"),
    "What gives a client's certificate its account; the first that does decides",
    RELOAD,
)
CLIENT_MAP = OPTIONS.row(
    "tls.clientmap",
    PATH,
    None,
    "File of lines ACCOUNT sha256:FINGERPRINT or ACCOUNT SUBJECT, for `map`",
    RELOAD,
)


def _asked(service: str, default: str) -> Option[str]:
    return OPTIONS.row(
        f"service.{service}.clientcertificate",
        choice(OFF, OPTIONAL, REQUIRED),
        default,
        "Whether clients are asked for a certificate, where there is tls.clientca",
        RELOAD,
    )


CLIENT_CERTIFICATE: Final = {
    "imap": _asked("imap", OPTIONAL),
    "pop3": _asked("pop", OFF),
    "lmtp": _asked("lmtp", OFF),
}
"""Service -> whether its clients are asked."""
