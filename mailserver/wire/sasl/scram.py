"""SCRAM: both sides prove that they know a password (RFC 5802, RFC 7677).

Theory of operation. The client's first message names the account; the server's gives salt
and iterations, for names that are not there too; the client's second has a proof that only
the password, or its StoredKey, can have made; the server's last one proves that it knows
the account's keys. What was said before is part of both proofs, and with a -PLUS mechanism
so is the TLS connection, so that nobody can sit in between.

The server sends its last message as a challenge that the client answers with an empty
response, since neither IMAP nor POP3 can carry data with success (RFC 4422 §3.6). On
failure it sends none (RFC 5802 §5.1, attribute `e`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable

import attrs

from mailserver.model.secrets import ScramSecrets, SecretKind, Secrets, client_and_server_key
from mailserver.wire.sasl.encoding import decode, encode
from mailserver.wire.sasl.exchange import (
    Challenge,
    Proof,
    SaslFault,
    SaslRefused,
    SecretsWanted,
    Step,
    Surroundings,
)
from mailserver.wire.sasl.gs2 import GS2_HEADER, read_saslname, write_saslname

MAX_ITERATIONS = 10_000_000
"""What our client computes for a server that asks for it, some seconds (RFC 7677 §4)."""

_NONCE_OCTETS = 18

# value = 1*(UTF-8 without NUL and ","), printable = %x21-2B / %x2D-7E
_EXTENSIONS = rb"(?P<extensions>(?:,[A-Za-z]=[^,\x00]+)*+)"

# client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
_CLIENT_FIRST = re.compile(
    rb"n=(?P<name>[^,\x00]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)" + _EXTENSIONS
)

# client-final-message = channel-binding "," nonce ["," extensions] "," proof
_CLIENT_FINAL = re.compile(
    rb"(?P<unproved>c=(?P<header>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)"
    rb"(?P<extensions>(?:,(?!p=)[A-Za-z]=[^,\x00]+)*+)),p=(?P<proof>[A-Za-z0-9+/=]+)"
)

# server-first-message = [reserved-mext ","] nonce "," salt "," iteration-count ["," ...]
_SERVER_FIRST = re.compile(
    rb"r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+),s=(?P<salt>[A-Za-z0-9+/=]+),i=(?P<count>[1-9]\d{0,8})"
    + _EXTENSIONS
)
_SERVER_FINAL = re.compile(rb"v=(?P<verifier>[A-Za-z0-9+/=]+)" + _EXTENSIONS)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _refuse_mandatory(message: bytes) -> None:
    """The attribute `m` asks for what nobody has invented (RFC 5802 §5.1)."""
    if message.startswith(b"m="):
        raise SaslRefused("a mandatory extension is not supported")


def scram_server(kind: SecretKind, *, binds: bool) -> Callable[[Surroundings], Scram]:
    """The maker of a server's mechanism.

    Args:
        kind: which keys it needs.
        binds: it is the -PLUS form.
    """
    return lambda surroundings: Scram(kind, surroundings, binds=binds)


class Scram:
    """The server's side; see `scram_server`."""

    def __init__(self, kind: SecretKind, surroundings: Surroundings, *, binds: bool) -> None:
        self._kind = kind
        self._surroundings = surroundings
        self._binds = binds
        self._authzid = ""
        self._bound = b""  # what attribute `c` must say
        self._client_first = b""
        self._server_first = b""
        self._nonce = b""
        self._secrets: ScramSecrets | None = None

    def start(self, initial: bytes | None) -> Step:
        """Take the client's first message at once, or ask for it with an empty challenge."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the client's first message, then its final one."""
        if self._secrets is None:
            return self._first(response)
        return self._final(response, self._secrets)

    def _first(self, message: bytes) -> Step:
        header = GS2_HEADER.match(message)
        if header is None:
            raise SaslFault("expected a GS2 header such as n,,")
        self._bound = header[0] + self._channel_data(header["binding"], header["flag"])
        if header["authzid"] is not None:
            self._authzid = read_saslname(header["authzid"])
        self._client_first = message[header.end() :]
        _refuse_mandatory(self._client_first)
        match = _CLIENT_FIRST.fullmatch(self._client_first)
        if match is None:
            raise SaslFault("expected n= and a name, then r= and a nonce")
        nonce = encode(self._surroundings.random(_NONCE_OCTETS))
        self._nonce = match["nonce"] + nonce
        return SecretsWanted(read_saslname(match["name"]), self._kind, self._take)

    def _channel_data(self, binding: bytes | None, flag: bytes | None) -> bytes:
        """What the client's second message has to know of the channel (RFC 5802 §6)."""
        if binding is not None:
            data = self._surroundings.channel_bindings.get(binding)
            if not self._binds:
                raise SaslRefused("channel binding needs the mechanism whose name ends in -PLUS")
            if data is None:
                raise SaslRefused("this type of channel binding is not supported")
            return data
        if self._binds:
            raise SaslRefused("this mechanism needs channel binding")
        if flag == b"y" and self._surroundings.offers_binding:
            # Somebody has taken -PLUS out of what we announced.
            raise SaslRefused("this server does support channel binding")
        return b""

    def _take(self, secrets: Secrets) -> Step:
        assert isinstance(secrets, ScramSecrets)
        self._secrets = secrets
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._nonce,
            encode(secrets.salt),
            secrets.iterations,
        )
        return Challenge(self._server_first)

    def _final(self, message: bytes, secrets: ScramSecrets) -> Step:
        match = _CLIENT_FINAL.fullmatch(message)
        if match is None:
            raise SaslFault("expected c=, r= and p= with their values")
        proof = decode(match["proof"])
        if not hmac.compare_digest(match["nonce"], self._nonce):
            return Proof(self._authzid, None, "wrong nonce")
        if not hmac.compare_digest(decode(match["header"]), self._bound):
            return Proof(self._authzid, None, "channel bindings do not match")
        said = b",".join((self._client_first, self._server_first, match["unproved"]))
        digest = self._kind.value
        for keys in secrets.keys:
            signature = hmac.digest(keys.stored_key, said, digest)
            if len(proof) != len(signature):
                raise SaslFault("the proof has not the length of the digest")
            client_key = hashlib.new(digest, _xor(proof, signature)).digest()
            if hmac.compare_digest(client_key, keys.stored_key):
                verifier = hmac.digest(keys.server_key, said, digest)
                return Proof(self._authzid, keys.label, final=b"v=" + encode(verifier))
        return Proof(self._authzid, None, "wrong name or password")


@attrs.frozen
class ChannelBinding:
    """What a client's TLS connection is told by: type and data."""

    type: bytes
    data: bytes = attrs.field(repr=False)


class ScramClient:
    """The client's side.

    Args:
        kind: SCRAM_SHA_256 or SCRAM_SHA_1.
        authcid: the name, prepared (RFC 4013).
        password: prepared.
        random: gives that many random octets.
        authzid: whom to act as; empty for oneself.
        binding: for the -PLUS form; None for the other.
        could_bind: without `binding`: the client could, the server does not offer it.
    """

    def __init__(
        self,
        kind: SecretKind,
        authcid: str,
        password: str,
        random: Callable[[int], bytes],
        *,
        authzid: str = "",
        binding: ChannelBinding | None = None,
        could_bind: bool = False,
    ) -> None:
        self._kind = kind
        self._password = password.encode("utf-8")
        flag = b"y" if could_bind else b"n"
        if binding is not None:
            flag = b"p=" + binding.type
        acting = b"a=" + write_saslname(authzid) if authzid else b""
        self._header = flag + b"," + acting + b","
        self._bound = self._header + (b"" if binding is None else binding.data)
        self._nonce = encode(random(_NONCE_OCTETS))
        self._first = b"n=" + write_saslname(authcid) + b",r=" + self._nonce
        self._verifier: bytes | None = None

    def initial(self) -> bytes | None:
        """The first message."""
        return self._header + self._first

    def answer(self, challenge: bytes) -> bytes:
        """The proof; then nothing, if the server has proved itself."""
        if self._verifier is None:
            return self._prove(challenge)
        match = _SERVER_FINAL.fullmatch(challenge)
        if match is None or not hmac.compare_digest(decode(match["verifier"]), self._verifier):
            raise SaslFault("the server does not know the password")
        return b""

    def _prove(self, challenge: bytes) -> bytes:
        match = _SERVER_FIRST.fullmatch(challenge)
        if match is None:
            raise SaslFault("expected r=, s= and i= with their values")
        if not match["nonce"].startswith(self._nonce) or match["nonce"] == self._nonce:
            raise SaslFault("the nonce is not ours with the server's added")
        if int(match["count"]) > MAX_ITERATIONS:
            raise SaslFault(f"more than {MAX_ITERATIONS} iterations are asked for")
        client_key, server_key = client_and_server_key(
            self._kind, self._password, decode(match["salt"]), int(match["count"])
        )
        unproved = b"c=" + encode(self._bound) + b",r=" + match["nonce"]
        said = b",".join((self._first, challenge, unproved))
        stored_key = hashlib.new(self._kind.value, client_key).digest()
        proof = _xor(client_key, hmac.digest(stored_key, said, self._kind.value))
        self._verifier = hmac.digest(server_key, said, self._kind.value)
        return unproved + b",p=" + encode(proof)
