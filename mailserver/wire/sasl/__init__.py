"""SASL mechanisms without input or output, both sides (RFC 4422).

A mechanism is a module here and a row of `MECHANISMS`: how its server's side is made, what
has to be there for it, and what it lays open on a connection that others can read. What the
steps of an exchange mean is told in `exchange`; the base64 around them is the protocol's.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import attrs

from mailserver.model.secrets import Evidence, SecretKind
from mailserver.wire.sasl.cram_md5 import CramMd5
from mailserver.wire.sasl.encoding import (
    MAX_RESPONSE,
    decode_initial,
    decode_response,
    encode,
    encode_initial,
)
from mailserver.wire.sasl.exchange import (
    Challenge,
    Credentials,
    External,
    Mechanism,
    Proof,
    SaslCancelled,
    SaslFault,
    SaslRefused,
    SecretsWanted,
    Step,
    Surroundings,
    Token,
)
from mailserver.wire.sasl.external import ServerExternal
from mailserver.wire.sasl.login import Login, login_responses
from mailserver.wire.sasl.oauth import OAuthBearer, XOAuth2
from mailserver.wire.sasl.plain import Plain, plain_response
from mailserver.wire.sasl.scram import scram_server

__all__ = [
    "MAX_RESPONSE",
    "MECHANISMS",
    "Challenge",
    "Credentials",
    "External",
    "Mechanism",
    "Proof",
    "Row",
    "SaslCancelled",
    "SaslFault",
    "SaslRefused",
    "SecretsWanted",
    "Shows",
    "Step",
    "Surroundings",
    "Token",
    "decode_initial",
    "decode_response",
    "encode",
    "encode_initial",
    "login_responses",
    "plain_response",
]


class Shows(Enum):
    """What a mechanism lays open to who can read the connection; SUN-11 decides by it."""

    PASSWORD = "password"  # or what a list of words finds it by at once
    PROOF = "proof"  # of a password, that costs much to try words against
    TOKEN = "token"
    NOTHING = "nothing"


@attrs.frozen
class Row:
    """One mechanism.

    Attributes:
        make: makes the server's side of one exchange.
        needs: what the sources of accounts must be able to check.
        shows: see `Shows`.
        binds: it needs a TLS connection that can be told by something (-PLUS).
    """

    make: Callable[[Surroundings], Mechanism]
    needs: Evidence | SecretKind
    shows: Shows
    binds: bool = False


def _scram(kind: SecretKind, *, binds: bool) -> Row:
    return Row(scram_server(kind, binds=binds), kind, Shows.PROOF, binds)


MECHANISMS: dict[bytes, Row] = {
    b"EXTERNAL": Row(lambda _: ServerExternal(), Evidence.CERTIFICATE, Shows.NOTHING),
    b"SCRAM-SHA-256-PLUS": _scram(SecretKind.SCRAM_SHA_256, binds=True),
    b"SCRAM-SHA-256": _scram(SecretKind.SCRAM_SHA_256, binds=False),
    b"SCRAM-SHA-1-PLUS": _scram(SecretKind.SCRAM_SHA_1, binds=True),
    b"SCRAM-SHA-1": _scram(SecretKind.SCRAM_SHA_1, binds=False),
    b"CRAM-MD5": Row(CramMd5, SecretKind.PLAIN, Shows.PASSWORD),
    b"OAUTHBEARER": Row(lambda _: OAuthBearer(), Evidence.TOKEN, Shows.TOKEN),
    b"XOAUTH2": Row(lambda _: XOAuth2(), Evidence.TOKEN, Shows.TOKEN),
    b"PLAIN": Row(lambda _: Plain(), Evidence.PASSWORD, Shows.PASSWORD),
    b"LOGIN": Row(lambda _: Login(), Evidence.PASSWORD, Shows.PASSWORD),
}
"""By name in upper case, in the order in which they are announced: the best first."""

DEFAULT = (
    b"EXTERNAL",
    b"SCRAM-SHA-256-PLUS",
    b"SCRAM-SHA-256",
    b"OAUTHBEARER",
    b"XOAUTH2",
    b"PLAIN",
    b"LOGIN",
)
"""What is switched on where nobody says otherwise. Left out is what is weak."""
