"""SASL: what clients say to every mechanism, what servers say to our clients, and the
documents of OAuth servers."""

from __future__ import annotations

import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from mailserver.auth.tokens.keys import matching, read_keys
from mailserver.auth.tokens.verifier import ALGORITHMS
from mailserver.model.secrets import (
    PlainSecret,
    PlainSecrets,
    ScramSecrets,
    SecretKind,
    Secrets,
    scram_keys,
)
from mailserver.wire import sasl
from mailserver.wire.sasl.cram_md5 import CramMd5Client
from mailserver.wire.sasl.gs2 import read_saslname, write_saslname
from mailserver.wire.sasl.oauth import oauthbearer_message, xoauth2_message
from mailserver.wire.sasl.scram import ChannelBinding, ScramClient
from tests.fuzz.target import Target

SALT = b"salt of 16 octet"
BINDING = ChannelBinding(b"tls-exporter", b"\x01" * 32)
HERE = sasl.Surroundings(bytes, {BINDING.type: BINDING.data}, offers_binding=False)


@cache
def secrets(kind: SecretKind) -> Secrets:
    """Of the password `secret`."""
    if kind is SecretKind.PLAIN:
        return PlainSecrets((PlainSecret("secret"),))
    return ScramSecrets(SALT, 1, (scram_keys(kind, b"secret", SALT, 1),))


def check_sasl(octets: bytes) -> None:
    """A first line with the mechanism and perhaps its initial response, then responses."""
    head, *responses = octets.split(b"\n")
    name, space, initial = head.partition(b" ")
    row = sasl.MECHANISMS.get(name.upper())
    if row is None:
        return
    mechanism = row.make(HERE)
    try:
        step = mechanism.start(sasl.decode_initial(initial) if space else None)
        while True:
            if isinstance(step, sasl.SecretsWanted):
                assert step.authcid and step.kind is row.needs
                step = step.then(secrets(step.kind))
            elif isinstance(step, sasl.Challenge) and responses:
                response = sasl.decode_response(responses.pop(0))
                assert sasl.decode_response(sasl.encode(response)) == response
                step = mechanism.respond(response)
            else:
                break
    except (sasl.SaslFault, sasl.SaslRefused) as fault:
        assert fault.text.isascii() and fault.text.isprintable()
        return
    check_claim(name.upper(), step)


def check_messages(octets: bytes) -> None:
    """As above, but for the base64: what comes through is more."""
    head, *responses = octets.split(b"\n")
    name, _, initial = head.partition(b" ")
    check_sasl(b"\n".join((name + b" " + sasl.encode(initial), *map(sasl.encode, responses))))


def messages() -> list[bytes]:
    """The exchanges without their base64."""
    found = []
    for octets in exchanges():
        head, *responses = octets.split(b"\n")
        name, space, initial = head.partition(b" ")
        if space and b"*" not in responses:
            decoded = [sasl.decode_initial(initial), *map(sasl.decode_response, responses)]
            found.append(name + b" " + b"\n".join(decoded))
    return found


def check_claim(name: bytes, step: sasl.Step) -> None:
    match step:
        case sasl.Credentials():
            assert step.authcid and step.password and "\0" not in step.authcid + step.password
            assert step.password not in repr(step) or step.password in repr(
                sasl.Credentials(step.authzid, step.authcid, "")
            )
            if name == b"PLAIN":
                again = sasl.MECHANISMS[name].make(HERE).start(sasl.plain_response(step))
                assert again == step
            else:
                assert sasl.login_responses(step)[1].decode() == step.password
        case sasl.Proof(label=label, final=final):
            assert label in (None, "")
            assert (final is None) or label is not None
        case sasl.Token(user, token):
            write = {b"OAUTHBEARER": oauthbearer_message, b"XOAUTH2": xoauth2_message}[name]
            again = sasl.MECHANISMS[name].make(HERE).start(write(user, token))
            assert isinstance(again, sasl.Token) and (again.user, again.token) == (user, token)
            json.loads(step.refusal("invalid_token", {"scope": "x"}))
        case sasl.External(authzid):
            assert "\0" not in authzid


def scram(name: bytes, password: str = "secret") -> bytes:
    """A whole exchange of SCRAM."""
    binds = name.endswith(b"-PLUS")
    row = sasl.MECHANISMS[name]
    assert isinstance(row.needs, SecretKind)
    client = ScramClient(
        row.needs, "a,n=n", password, bytes, authzid="bo", binding=BINDING if binds else None
    )
    first = client.initial() or b""
    wanted = row.make(HERE).start(first)
    assert isinstance(wanted, sasl.SecretsWanted)
    challenge = wanted.then(secrets(row.needs))
    assert isinstance(challenge, sasl.Challenge)
    return b"%b %b\n%b" % (name, sasl.encode(first), sasl.encode(client.answer(challenge.octets)))


def exchanges() -> list[bytes]:
    message = sasl.encode("ann\0é@x\0secret".encode())
    cram = CramMd5Client("a nn", "secret").answer(b"<%b@localhost>" % (b"0" * 32))
    return [
        b"PLAIN " + message, b"PLAIN\n" + message, b"PLAIN =", b"PLAIN AGEAYg==", b"LOGIN\n*",
        b"LOGIN\n" + sasl.encode(b"ann") + b"\n" + sasl.encode(b"secret"),
        b"LOGIN " + sasl.encode(b"ann") + b"\n" + sasl.encode(b"secret"),
        b"EXTERNAL =", b"EXTERNAL " + sasl.encode(b"ann"), b"CRAM-MD5\n" + sasl.encode(cram),
        b"OAUTHBEARER " + sasl.encode(oauthbearer_message("a,n=n", "abc.def", "x.example", 143)),
        b"XOAUTH2 " + sasl.encode(xoauth2_message("ann", "abc.def")),
        *(scram(name) for name in sasl.MECHANISMS if name.startswith(b"SCRAM")),
        scram(b"SCRAM-SHA-256", "wrong"),
    ]  # fmt: skip


# -- what servers say to our client ------------------------------------------------------


def check_scram_client(octets: bytes) -> None:
    client = ScramClient(SecretKind.SCRAM_SHA_256, "ann", "secret", bytes)
    client.initial()
    try:
        for challenge in octets.split(b"\n"):
            if b",i=" in challenge and not challenge.endswith(b",i=1"):
                challenge = challenge.partition(b",i=")[0] + b",i=1"  # only its time is in it
            client.answer(challenge)
    except sasl.SaslFault as fault:
        assert fault.text.isascii() and fault.text.isprintable()


def challenges() -> list[bytes]:
    nonce = b"A" * 24
    return [
        b"r=%bxyz,s=%b,i=1\nv=%b" % (nonce, sasl.encode(SALT), sasl.encode(bytes(32))),
        b"r=%bxyz,s=AAAA,i=1,x=y\ne=invalid-proof" % nonce,
        b"m=x,r=%bxyz,s=AAAA,i=1" % nonce,
    ]


def check_saslname(octets: bytes) -> None:
    try:
        name = read_saslname(octets)
    except sasl.SaslFault:
        return
    assert read_saslname(write_saslname(name)) == name


# -- keys --------------------------------------------------------------------------------


def check_keys(octets: bytes) -> None:
    try:
        keys = read_keys(json.loads(octets))
    except (ValueError, RecursionError):  # what a file's or a server's reader catches
        return
    assert keys
    for algorithm in ALGORITHMS:
        for key in matching(keys, "", algorithm):
            assert key.id == "" or key in matching(keys, key.id, algorithm)


def key_sets() -> list[bytes]:
    public = ec.derive_private_key(12345, ec.SECP256R1()).public_key()
    key = {**ECAlgorithm.to_jwk(public, as_dict=True), "kid": "1", "use": "sig", "alg": "ES256"}
    ed25519 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    rsa = {
        "kty": "RSA",
        "n": "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7on",
        "e": "AQAB",
    }
    return [json.dumps({"keys": keys}).encode() for keys in ([key], [ed25519, rsa], [key, ed25519])]


NAMES = tuple(name + b" " for name in sasl.MECHANISMS)
TARGETS = (
    Target("sasl", check_sasl, exchanges, (*NAMES, b"\n", b"=", b"==", b"AAAA", b"*")),
    Target(
        "sasl_messages",
        check_messages,
        messages,
        (
            *NAMES,
            b"n,",
            b"y,",
            b"p=tls-exporter,",
            b"a=",
            b"n=",
            b"r=",
            b"c=",
            b"p=",
            b"m=",
            b"=2C",
            b"=3D",
            b"\x01",
            b"\0",
            b"auth=Bearer ",
            b"user=",
            b"\n",
        ),
    ),
    Target(
        "scram_client",
        check_scram_client,
        challenges,
        (b"r=", b"s=", b"i=", b",", b"v=", b"e=", b"m=", b"A" * 24, b"\n"),
    ),
    Target("saslnames", check_saslname, lambda: [b"ann", b"a=2Cb=3Dc"], (b"=2C", b"=3D", b"=")),
    Target(
        "key_sets",
        check_keys,
        key_sets,
        (b'"kty":', b'"RSA"', b'"EC"', b'"OKP"', b'"n":', b'"e":', b'"x":', b'"crv":', b"[", b"{"),
    ),
)
