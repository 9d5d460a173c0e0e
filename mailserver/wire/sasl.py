"""SASL mechanisms without input or output, both sides (RFC 4422, RFC 4616, LOGIN draft).

A server mechanism is a small state machine: `start` with the initial response or None,
then `respond` with each further response, until it gives `Credentials`. It says what the
client claims; whether that is true is the authenticator's business. Mechanisms that have
to prove something to the client will give other kinds of steps; they are rows of
`MECHANISMS` like these.

The base64 around the octets is the protocol's: `decode_initial`, `decode_response`,
`encode` (T41).
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Protocol

import attrs

MAX_RESPONSE = 64 * 1024
"""Octets of base64 that a response may have (S3): tokens are long."""

# base64 = *(4base64-char) [base64-terminal]
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?+\Z")


class SaslFault(Exception):
    """The client's octets are not what the mechanism or base64 wants: BAD.

    Args:
        text: what was wrong, printable US-ASCII, nothing of the client's octets in it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class SaslCancelled(SaslFault):
    """The client gave the exchange up with `*`: BAD as well (RFC 3501 §6.2.2)."""


@attrs.frozen
class Challenge:
    """What the server says next, before base64."""

    octets: bytes


@attrs.frozen
class Credentials:
    """What the client claims. The password is kept out of `repr` (S13).

    Attributes:
        authzid: whom to act as; empty for oneself.
        authcid: whose password it is, as typed, not empty.
        password: not empty.
    """

    authzid: str
    authcid: str
    password: str = attrs.field(repr=False)


Step = Challenge | Credentials


class Mechanism(Protocol):
    """The server's side of one exchange."""

    def start(self, initial: bytes | None) -> Step:
        """Begin.

        Args:
            initial: the initial response, decoded, perhaps empty; None if there was none.

        Raises:
            SaslFault: the octets are wrong, or this mechanism has no initial response.
        """

    def respond(self, response: bytes) -> Step:
        """Take the answer to the last challenge, decoded.

        Raises:
            SaslFault: the octets are wrong, or nothing more was to come.
        """


class Plain:
    """PLAIN: `[authzid] NUL authcid NUL passwd` in one message (RFC 4616 §2)."""

    def start(self, initial: bytes | None) -> Step:
        """Take the message at once, or ask for it with an empty challenge."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SaslFault("a PLAIN response has three parts with a NUL between them")
        authzid, authcid, password = (_text(part) for part in parts)
        if not authcid or not password:
            raise SaslFault("a PLAIN response needs a name and a password")
        return Credentials(authzid, authcid, password)


class Login:
    """LOGIN: name, then password (draft-murchison-sasl-login-00).

    The challenges are those that a widely used client insists on (§2.2 of the draft).
    An initial response is the name: Outlook sends it so.
    """

    def __init__(self) -> None:
        self._name: str | None = None

    def start(self, initial: bytes | None) -> Step:
        """Take the name, or ask for it."""
        return Challenge(b"Username:") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the name, then the password."""
        text = _text(response)
        if "\0" in text:
            raise SaslFault("a LOGIN response holds a NUL")
        if not text:
            raise SaslFault("LOGIN needs a name and a password")
        if self._name is None:
            self._name = text
            return Challenge(b"Password:")
        return Credentials("", self._name, text)


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslFault("expected text in UTF-8") from None


MECHANISMS: dict[bytes, Callable[[], Mechanism]] = {
    b"PLAIN": Plain,
    b"LOGIN": Login,
}
"""Name in upper case → maker of the server's side of one exchange."""


# -- base64 ------------------------------------------------------------------------------


def decode_response(line: bytes) -> bytes:
    """Decode a response line (T41).

    Raises:
        SaslCancelled: it is `*`.
        SaslFault: it is not base64 in its canonical alphabet and padding, or too long.
    """
    if line == b"*":
        raise SaslCancelled("authentication was cancelled")
    if len(line) > MAX_RESPONSE:
        raise SaslFault(f"a response has at most {MAX_RESPONSE} octets")
    if _BASE64.match(line) is None:
        raise SaslFault("expected base64")
    return a2b_base64(line)


def decode_initial(word: bytes) -> bytes:
    """Decode an initial response; `=` is an empty one (RFC 4959 §3).

    Raises:
        SaslFault: as `decode_response`.
    """
    return b"" if word == b"=" else decode_response(word)


def encode(octets: bytes) -> bytes:
    """Encode a challenge or response in base64, without a line end."""
    return b2a_base64(octets, newline=False)


def encode_initial(octets: bytes) -> bytes:
    """Encode an initial response: `=` for an empty one (RFC 4959 §3)."""
    return encode(octets) or b"="


# -- the client's side -------------------------------------------------------------------


def plain_response(credentials: Credentials) -> bytes:
    """Make the one message of PLAIN (RFC 4616 §2).

    Raises:
        ValueError: a NUL in one of its parts, or no name or password.
    """
    parts = (credentials.authzid, credentials.authcid, credentials.password)
    if any("\0" in part for part in parts) or not all(parts[1:]):
        raise ValueError("PLAIN needs a name and a password, without NUL")
    return b"\0".join(part.encode("utf-8") for part in parts)


def login_responses(credentials: Credentials) -> tuple[bytes, bytes]:
    """Make the two messages of LOGIN, which carry no authzid.

    Raises:
        ValueError: a NUL in one of them, an authzid, or no name or password.
    """
    parts = (credentials.authcid, credentials.password)
    if credentials.authzid or any("\0" in part for part in parts) or not all(parts):
        raise ValueError("LOGIN needs a name and a password, without NUL, and no authzid")
    return credentials.authcid.encode("utf-8"), credentials.password.encode("utf-8")
