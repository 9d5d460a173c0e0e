"""LOGIN: name, then password (draft-murchison-sasl-login-00)."""

from __future__ import annotations

from mailserver.wire.sasl.exchange import Challenge, Credentials, SaslFault, Step, text_of


class Login:
    """The challenges are those that a widely used client insists on (§2.2 of the draft).
    An initial response is the name: Outlook sends it so.
    """

    def __init__(self) -> None:
        self._name: str | None = None

    def start(self, initial: bytes | None) -> Step:
        """Take the name, or ask for it."""
        return Challenge(b"Username:") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the name, then the password."""
        text = text_of(response)
        if not text:
            raise SaslFault("LOGIN needs a name and a password")
        if self._name is None:
            self._name = text
            return Challenge(b"Password:")
        return Credentials("", self._name, text)


def login_responses(credentials: Credentials) -> tuple[bytes, bytes]:
    """Make the two messages of LOGIN, which carry no authzid.

    Raises:
        ValueError: a NUL in one of them, an authzid, or no name or password.
    """
    parts = (credentials.authcid, credentials.password)
    if credentials.authzid or any("\0" in part for part in parts) or not all(parts):
        raise ValueError("LOGIN needs a name and a password, without NUL, and no authzid")
    return credentials.authcid.encode("utf-8"), credentials.password.encode("utf-8")
