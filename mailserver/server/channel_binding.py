"""What a TLS connection can be told by, for SCRAM's -PLUS mechanisms.

`tls-exporter` (RFC 9266) is secret to both ends, and offered with TLS 1.3 alone: older
versions would need the extended master secret, of which OpenSSL's binding does not tell.
`tls-server-end-point` (RFC 5929) is a digest of the server's certificate. `tls-unique` does
not exist in TLS 1.3 and is not what it was meant to be before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

TLS_EXPORTER: Final = b"tls-exporter"
TLS_SERVER_END_POINT: Final = b"tls-server-end-point"

_LABEL: Final = b"EXPORTER-Channel-Binding"
_LENGTH: Final = 32

_TOO_WEAK: Final = ("md5", "sha1")
"""Digests of signatures in whose place SHA-256 is used (RFC 5929 §4.1)."""


def channel_bindings(handle: SSL.Connection) -> Mapping[bytes, bytes]:
    """Compute the bindings of a server's connection.

    Args:
        handle: after its handshake.

    Returns:
        Type → data, for the types that are defined here.
    """
    bindings = {}
    if handle.get_protocol_version() >= SSL.TLS1_3_VERSION:
        bindings[TLS_EXPORTER] = handle.export_keying_material(_LABEL, _LENGTH, b"")
    certificate = handle.get_certificate(as_cryptography=True)
    # In a session that was resumed the client knows the certificate of the first one, which
    # may be another by now, or of another kind of key.
    if certificate is not None and getattr(handle, "has_shown_certificate", True):
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None:  # Ed25519 has none, so it is not defined
            if algorithm.name in _TOO_WEAK:
                algorithm = hashes.SHA256()
            digest = hashes.Hash(algorithm)
            digest.update(certificate.public_bytes(Encoding.DER))
            bindings[TLS_SERVER_END_POINT] = digest.finalize()
    return bindings
