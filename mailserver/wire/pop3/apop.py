"""APOP: a digest of the greeting's timestamp and the password (RFC 1939 §7).

As weak as MD5 is; and the server has to keep the password in clear.
"""

from __future__ import annotations

import hashlib


def apop_timestamp(nonce: bytes, host: str) -> str:
    """What the greeting holds: like a message id, never the same twice.

    Args:
        nonce: octets of randomness, 16 or more.
        host: this server's name.
    """
    return f"<{nonce.hex()}@{host.encode('ascii', 'replace').decode('ascii')}>"


def apop_digest(timestamp: str, password: str) -> bytes:
    """The digest that proves a password, 32 lower-case hexadecimal digits."""
    octets = timestamp.encode("ascii") + password.encode("utf-8")
    return hashlib.md5(octets, usedforsecurity=False).hexdigest().encode("ascii")
