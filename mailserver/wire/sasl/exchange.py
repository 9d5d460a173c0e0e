"""What a SASL mechanism and the protocol around it say to each other (RFC 4422 §3).

Theory of operation. A server's mechanism is a small state machine without input or output:
`start` with the initial response or None, then `respond` with each further response. Each
gives a step: a `Challenge` to be sent, or what the client claims. Whether that is true is
the authenticator's business, with one exception: a password that the client only proves to
have is checked here, against secrets that the step `SecretsWanted` asks for, and the step
`Proof` says how that ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from mailserver.model.secrets import SecretKind, Secrets


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


class SaslRefused(Exception):
    """The exchange is well formed and must fail, whoever the client is: NO.

    Args:
        text: as of `SaslFault`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@attrs.frozen
class Surroundings:
    """What a server's mechanism may know of the connection it is used on.

    Attributes:
        random: gives that many random octets.
        channel_bindings: what the connection's TLS can be told by (RFC 5929, RFC 9266),
            type → data; empty without TLS.
        offers_binding: mechanisms that bind to the channel (-PLUS) are announced here.
        host: this server's name.
    """

    random: Callable[[int], bytes]
    channel_bindings: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)
    offers_binding: bool = False
    host: str = "localhost"


@attrs.frozen
class Challenge:
    """What the server says next, before base64."""

    octets: bytes


@attrs.frozen
class Credentials:
    """A name and a password in clear. The password is kept out of `repr` (S13).

    Attributes:
        authzid: whom to act as; empty for oneself.
        authcid: whose password it is, as typed, not empty.
        password: not empty.
    """

    authzid: str
    authcid: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class SecretsWanted:
    """The mechanism needs what is kept of an account's passwords to go on.

    Attributes:
        authcid: whose, as typed, not empty.
        kind: which; secrets of another kind must not be given.
        then: takes them and gives the next step.
    """

    authcid: str
    kind: SecretKind
    then: Callable[[Secrets], Step]


@attrs.frozen
class Proof:
    """The client has, or has not, proved to know a password; after `SecretsWanted`.

    Attributes:
        authzid: whom to act as; empty for oneself.
        label: of the secret that was proved; None if none was.
        reason: why none was, for the log.
        final: to be sent as a last challenge once the client may come in; its answer is
            empty. None if there is nothing to send.
    """

    authzid: str
    label: str | None
    reason: str = ""
    final: bytes | None = None


@attrs.frozen
class Token:
    """A bearer token; kept out of `repr` (S13).

    Attributes:
        user: whom the client wants to be; empty for whom the token names.
        token: printable US-ASCII; empty if the client only asks what is wanted.
        refusal: makes of an error code of RFC 6750 and of further values what the client
            is told in a challenge before the refusal; its answer says nothing.
    """

    user: str
    token: str = attrs.field(repr=False)
    refusal: Callable[[str, Mapping[str, str]], bytes] = attrs.field(repr=False)


@attrs.frozen
class External:
    """Who the client is, its connection shows already: a certificate.

    Attributes:
        authzid: whom to act as; empty for whom the certificate names.
    """

    authzid: str


Step = Challenge | Credentials | SecretsWanted | Proof | Token | External


class Mechanism(Protocol):
    """The server's side of one exchange."""

    def start(self, initial: bytes | None) -> Step:
        """Begin.

        Args:
            initial: the initial response, decoded, perhaps empty; None if there was none.

        Raises:
            SaslFault: the octets are wrong, or this mechanism has no initial response.
            SaslRefused: whoever sends this cannot come in.
        """

    def respond(self, response: bytes) -> Step:
        """Take the answer to the last challenge, decoded.

        Raises:
            SaslFault: the octets are wrong, or nothing more was to come.
            SaslRefused: as above.
        """


class ClientMechanism(Protocol):
    """The client's side of one exchange."""

    def initial(self) -> bytes | None:
        """The initial response; None for a mechanism in which the server begins."""

    def answer(self, challenge: bytes) -> bytes:
        """Answer a challenge.

        Raises:
            SaslFault: the challenge is wrong, or shows that the server does not know the
                password: the exchange is to be given up.
        """


def text_of(octets: bytes) -> str:
    """Read UTF-8 without NUL.

    Raises:
        SaslFault: it is none.
    """
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslFault("expected text in UTF-8") from None
    if "\0" in text:
        raise SaslFault("a NUL has no place here")
    return text
