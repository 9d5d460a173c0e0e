"""OAUTHBEARER (RFC 7628) and XOAUTH2, its older form (Google's description of it).

Both carry a bearer token. One that is refused is answered with a challenge that says why,
in JSON; the client answers that with a message without meaning, and only then the exchange
fails. The client's `host` and `port` are not looked at: a server has more names than it
knows, and the token itself says for whom it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from mailserver.wire.sasl.exchange import Challenge, SaslFault, Step, Token, text_of
from mailserver.wire.sasl.gs2 import GS2_HEADER, read_saslname, write_saslname

DUMMY = b"\x01"
"""What a client answers to the error (RFC 7628 §3.2.3)."""

# kvpair = key "=" value kvsep, value = *(VCHAR / SP / HTAB / CR / LF)
_PAIR = re.compile(rb"([A-Za-z]+)=([\x21-\x7e \t\r\n]*)\Z")

# credentials of RFC 6750 §2.1: "Bearer" 1*SP b64token
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*) *\Z")

_STATUS = {"insufficient_scope": "403"}
"""Error code of RFC 6750 → HTTP status, which XOAUTH2 says instead; 401 for all others."""


class OAuthBearer:
    """OAUTHBEARER (RFC 7628 §3.1): a GS2 header, then pairs with 0x01 between them."""

    def start(self, initial: bytes | None) -> Step:
        """Take the message at once, or ask for it with an empty challenge."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        match = GS2_HEADER.match(response)
        if match is None or not response.startswith(b"\x01", match.end()):
            raise SaslFault("expected a GS2 header such as n,, and then 0x01")
        if match["binding"] is not None:
            raise SaslFault("OAUTHBEARER is not bound to a channel")
        authzid = "" if match["authzid"] is None else read_saslname(match["authzid"])
        pairs = _pairs(response[match.end() + 1 :])
        return Token(authzid, _bearer(pairs), oauthbearer_refusal)


class XOAuth2:
    """XOAUTH2: `user=… 0x01 auth=Bearer … 0x01 0x01`."""

    def start(self, initial: bytes | None) -> Step:
        """Take the message at once, or ask for it with an empty challenge."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        # A name may be of any letters; all else is as in OAUTHBEARER.
        user, separator, rest = response.removeprefix(b"user=").partition(b"\x01")
        if not response.startswith(b"user=") or not separator:
            raise SaslFault("expected user= and a name, then 0x01")
        return Token(text_of(user), _bearer(_pairs(rest)), xoauth2_refusal)


def _pairs(octets: bytes) -> dict[bytes, bytes]:
    """Read `*kvpair kvsep`; what is unknown is nobody's fault (RFC 7628 §3.1)."""
    if octets[-2:] != b"\x01\x01" and octets != b"\x01":
        raise SaslFault("expected 0x01 twice at the end")
    pairs: dict[bytes, bytes] = {}
    for item in octets[:-1].split(b"\x01")[:-1]:
        match = _PAIR.match(item)
        if match is None:
            raise SaslFault("expected pairs of key=value with 0x01 between them")
        if match[1] in pairs:
            raise SaslFault("a key is given twice")
        pairs[match[1]] = match[2]
    return pairs


def _bearer(pairs: Mapping[bytes, bytes]) -> str:
    """The token; empty if the client only asks what is wanted (RFC 7628 §4.3)."""
    value = pairs.get(b"auth")
    if value == b"":
        return ""
    match = _BEARER.match(value or b"")
    if match is None:
        raise SaslFault("expected auth=Bearer and a token")
    return match[1].decode("ascii")


def oauthbearer_refusal(error: str, advice: Mapping[str, str]) -> bytes:
    """Say why a token is refused (RFC 7628 §3.2.2).

    Args:
        error: `invalid_token`, `insufficient_scope` (RFC 6750 §3.1).
        advice: may have `scope` and `openid-configuration`.
    """
    return json.dumps({"status": error, **advice}, separators=(",", ":")).encode("ascii")


def xoauth2_refusal(error: str, advice: Mapping[str, str]) -> bytes:
    """Say why a token is refused, as XOAUTH2 does; arguments as above."""
    values = {
        "status": _STATUS.get(error, "401"),
        "schemes": "bearer",
        "scope": advice.get("scope", ""),
    }
    return json.dumps(values, separators=(",", ":")).encode("ascii")


def oauthbearer_message(user: str, token: str, host: str = "", port: int = 0) -> bytes:
    """Make a client's message of OAUTHBEARER (RFC 7628 §3.1).

    Args:
        user: whom to be; empty for whom the token names.
        token: empty to ask what is wanted (§4.3).
        host, port: what the client connected to; left out if empty.
    """
    authzid = b"a=" + write_saslname(user) if user else b""
    pairs = [(b"host", host.encode("ascii")), (b"port", b"%d" % port if port else b"")]
    body = b"".join(b"%b=%b\x01" % pair for pair in pairs if pair[1])
    return b"n," + authzid + b",\x01" + body + _auth(token) + b"\x01\x01"


def xoauth2_message(user: str, token: str) -> bytes:
    """Make a client's message of XOAUTH2."""
    return b"user=%b\x01%b\x01\x01" % (user.encode("utf-8"), _auth(token))


def _auth(token: str) -> bytes:
    return b"auth=" + (b"Bearer " + token.encode("ascii") if token else b"")
