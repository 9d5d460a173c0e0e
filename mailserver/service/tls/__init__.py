"""TLS: certificates, what is asked of clients, and a certificate of one's own."""

from mailserver.service.tls.files import CertificateFault, KeyPair
from mailserver.service.tls.self_signed import SelfSigned, ensure_self_signed
from mailserver.service.tls.server import ServerTls, ServiceTls, TlsSettings

__all__ = [
    "CertificateFault",
    "KeyPair",
    "SelfSigned",
    "ServerTls",
    "ServiceTls",
    "TlsSettings",
    "ensure_self_signed",
]
