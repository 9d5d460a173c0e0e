"""Certificates and TLS (SUN-4, S1)."""

from __future__ import annotations

from mailserver.service.kinds import PATH, choice
from mailserver.service.options.option import RELOAD, Rows

OPTIONS = Rows()

CERTIFICATE = OPTIONS.row(
    "tls.certificate",
    PATH,
    None,
    "PEM file of the certificate with its chain; without one there is no TLS",
    RELOAD,
)
KEY = OPTIONS.row(
    "tls.key", PATH, None, "PEM file of the private key; empty: in the certificate's file", RELOAD
)
MINIMUM_VERSION = OPTIONS.row(
    "tls.minimumversion", choice("1.2", "1.3"), "1.2", "Oldest version of TLS that is spoken"
)
