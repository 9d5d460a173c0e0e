"""PLAIN: name and password in one message (RFC 4616)."""

from __future__ import annotations

from mailserver.wire.sasl.exchange import Challenge, Credentials, SaslFault, Step, text_of


class Plain:
    """`[authzid] NUL authcid NUL passwd` in one message (RFC 4616 §2)."""

    def start(self, initial: bytes | None) -> Step:
        """Take the message at once, or ask for it with an empty challenge."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SaslFault("a PLAIN response has three parts with a NUL between them")
        authzid, authcid, password = (text_of(part) for part in parts)
        if not authcid or not password:
            raise SaslFault("a PLAIN response needs a name and a password")
        return Credentials(authzid, authcid, password)


def plain_response(credentials: Credentials) -> bytes:
    """Make the one message of PLAIN (RFC 4616 §2).

    Raises:
        ValueError: a NUL in one of its parts, or no name or password.
    """
    parts = (credentials.authzid, credentials.authcid, credentials.password)
    if any("\0" in part for part in parts) or not all(parts[1:]):
        raise ValueError("PLAIN needs a name and a password, without NUL")
    return b"\0".join(part.encode("utf-8") for part in parts)
