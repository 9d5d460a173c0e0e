"""SCRAM: the exchanges of the RFCs, both sides against each other, and everything that must
not let anybody in (RFC 5802, RFC 7677)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.model.secrets import (
    ScramKeys,
    ScramSecrets,
    SecretKind,
    scram_keys,
)
from mailserver.wire import sasl
from mailserver.wire.sasl import Challenge, Proof, SaslFault, SaslRefused, SecretsWanted
from mailserver.wire.sasl.scram import ChannelBinding, Scram, ScramClient

SHA_1, SHA_256 = SecretKind.SCRAM_SHA_1, SecretKind.SCRAM_SHA_256

EXAMPLES = {
    SHA_1: (  # RFC 5802 §5
        b"QSXCR+Q6sek8bf92",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    SHA_256: (  # RFC 7677 §3
        b"W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}
BINDING = ChannelBinding(b"tls-exporter", b"\x01" * 32)
PLAIN = sasl.Surroundings(bytes)
TLS = sasl.Surroundings(bytes, {BINDING.type: BINDING.data}, offers_binding=True)


def nonce(text: bytes) -> Callable[[int], bytes]:
    """The octets whose base64 is a nonce."""
    return lambda _: base64.b64decode(text)


def secrets_of(
    kind: SecretKind, password: bytes, salt: bytes = b"salt of 16 octet"
) -> ScramSecrets:
    return ScramSecrets(salt, 4096, (scram_keys(kind, password, salt, 4096),))


def began(
    first: bytes,
    secrets: ScramSecrets,
    surroundings: sasl.Surroundings = PLAIN,
    *,
    binds: bool = False,
    kind: SecretKind = SHA_256,
) -> tuple[Scram, SecretsWanted, bytes]:
    """An exchange up to the server's first message."""
    server = Scram(kind, surroundings, binds=binds)
    wanted = server.start(first)
    assert isinstance(wanted, SecretsWanted) and wanted.kind is kind
    step = wanted.then(secrets)
    assert isinstance(step, Challenge)
    return server, wanted, step.octets


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_the_example_of_the_rfc(kind: SecretKind, monkeypatch: pytest.MonkeyPatch) -> None:
    salt, client_first, server_first, client_final, server_final = EXAMPLES[kind]
    secrets = secrets_of(kind, b"pencil", base64.b64decode(salt))
    server, wanted, _ = began(client_first, secrets, kind=kind)
    assert wanted.authcid == "user"
    # The nonces of the examples are no base64, as ours are.
    whole = re.search(rb"r=([^,]+)", server_first)
    assert whole is not None
    monkeypatch.setattr(server, "_nonce", whole[1])
    assert wanted.then(secrets) == Challenge(server_first)
    assert server.respond(client_final) == Proof("", "", final=server_final)

    client = ScramClient(kind, "user", "pencil", bytes)
    bare = client_first.removeprefix(b"n,,")
    monkeypatch.setattr(client, "_first", bare)
    monkeypatch.setattr(client, "_nonce", bare.partition(b"r=")[2])
    assert client.answer(server_first) == client_final
    assert client.answer(server_final) == b""


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(NAMES, st.text(max_size=5).filter(lambda text: "\0" not in text), NAMES, st.booleans())
def test_client_and_server_agree(name: str, authzid: str, password: str, bound: bool) -> None:
    client = ScramClient(
        SHA_256, name, password, bytes, authzid=authzid, binding=BINDING if bound else None
    )
    first = client.initial()
    assert first is not None
    secrets = secrets_of(SHA_256, password.encode())
    server, wanted, challenge = began(first, secrets, TLS if bound else PLAIN, binds=bound)
    assert wanted.authcid == name
    proof = server.respond(client.answer(challenge))
    assert isinstance(proof, Proof) and (proof.authzid, proof.label) == (authzid, "")
    assert proof.final is not None and client.answer(proof.final) == b""


def test_each_of_several_passwords_is_right_and_told_by_its_label() -> None:
    """App passwords: they share the salt, which is told before one is chosen."""
    salt = b"salt of 16 octet"
    keys = tuple(
        attrs.evolve(scram_keys(SHA_256, password, salt, 4096), label=label)
        for label, password in (("", b"own"), ("phone", b"other"))
    )
    secrets = ScramSecrets(salt, 4096, keys)
    for password, label in (("own", ""), ("other", "phone"), ("wrong", None)):
        client = ScramClient(SHA_256, "ann", password, bytes)
        server, _, challenge = began(client.initial() or b"", secrets)
        proof = server.respond(client.answer(challenge))
        assert isinstance(proof, Proof) and proof.label == label
        if proof.final is not None:
            client.answer(proof.final)


def test_names_with_commas_and_equals_signs() -> None:
    _, wanted, _ = began(b"n,a=x=2Cy,n=a=3Db=2Cc,r=abc", secrets_of(SHA_256, b"x"))
    assert wanted.authcid == "a=b,c"
    assert ScramClient(SHA_256, "a=b,c", "x", bytes).initial() == (b"n,,n=a=3Db=2Cc,r=" + b"A" * 24)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=ann",
        b"n,,r=abc,n=ann",
        b"n,,n=,r=abc",
        b"n,,n=ann,r=",
        b"n,,n=a=2cb,r=abc",  # RFC 5802 §5.1: only =2C and =3D
        b"n,,n=a=,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=a\0b,r=abc",
        b"n,,n=ann,r=a b",
        b"n,,n=ann,r=abc,x",
        b"n,,n=ann,r=abc,xy=z",
        b"n,a=,n=ann,r=abc",
        b"n,a=x=,n=ann,r=abc",
        b"n,x=y,n=ann,r=abc",
        b"q,,n=ann,r=abc",
        b"F,n,,n=ann,r=abc",
        b"p=,,n=ann,r=abc",
        b"p=a b,,n=ann,r=abc",
        b"n,,n=ann,r=abc\r\n",
    ],
)
def test_first_messages_that_are_none(message: bytes) -> None:
    for surroundings, binds in ((PLAIN, False), (TLS, True)):
        with pytest.raises((SaslFault, SaslRefused)):
            step = Scram(SHA_256, surroundings, binds=binds).start(message)
            assert isinstance(step, SecretsWanted)
            step.then(secrets_of(SHA_256, b"x"))


@pytest.mark.parametrize(
    ("message", "surroundings", "binds", "reason"),
    [
        (b"n,,m=x,n=ann,r=abc", PLAIN, False, "mandatory extension"),
        (b"y,,n=ann,r=abc", TLS, False, "does support channel binding"),  # a downgrade
        (b"p=tls-exporter,,n=ann,r=abc", TLS, False, "name ends in -PLUS"),
        (b"p=tls-exporter,,n=ann,r=abc", PLAIN, True, "not supported"),
        (b"p=tls-unique,,n=ann,r=abc", TLS, True, "not supported"),
        (b"n,,n=ann,r=abc", TLS, True, "needs channel binding"),
        (b"y,,n=ann,r=abc", TLS, True, "needs channel binding"),
    ],
)
def test_who_cannot_come_in(
    message: bytes, surroundings: sasl.Surroundings, binds: bool, reason: str
) -> None:
    """RFC 5802 §6."""
    with pytest.raises(SaslRefused, match=reason):
        Scram(SHA_256, surroundings, binds=binds).start(message)


def test_who_could_bind_where_it_is_not_offered_comes_in() -> None:
    """RFC 5802 §6: `y` is wrong only where -PLUS is announced."""
    client = ScramClient(SHA_256, "ann", "secret", bytes, could_bind=True)
    server, _, challenge = began(client.initial() or b"", secrets_of(SHA_256, b"secret"))
    proof = server.respond(client.answer(challenge))
    assert isinstance(proof, Proof) and proof.label == ""


def final_of() -> tuple[Scram, bytes]:
    """A server that waits for the final message, and the right one."""
    client = ScramClient(SHA_256, "ann", "secret", bytes)
    server, _, challenge = began(client.initial() or b"", secrets_of(SHA_256, b"secret"))
    return server, client.answer(challenge)


def other(octets: bytes) -> bytes:
    """Base64 of the same length that says something else."""
    return (b"B" if octets[:1] == b"A" else b"A") + octets[1:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda final: re.sub(rb"r=", b"r=x", final), "wrong nonce"),
        (lambda final: re.sub(rb"r=[^,]+", b"r=" + b"A" * 24, final), "wrong nonce"),
        (lambda final: re.sub(rb"c=biws", b"c=eSws", final), "channel bindings"),
        (lambda final: re.sub(rb"c=biws", b"c=biwsAAAA", final), "channel bindings"),
        (lambda final: re.sub(rb"p=(.+)", lambda m: b"p=" + other(m[1]), final), "wrong name"),
        (lambda final: final.replace(b",p=", b",x=y,p="), "wrong name"),  # it is proved too
    ],
)
def test_final_messages_that_prove_nothing(change: Callable[[bytes], bytes], reason: str) -> None:
    server, final = final_of()
    proof = server.respond(change(final))
    assert isinstance(proof, Proof)
    assert proof.label is None and proof.final is None and reason in proof.reason


@pytest.mark.parametrize(
    "change",
    [
        lambda final: b"",
        lambda final: final.partition(b",p=")[0],
        lambda final: final + b",x=y",
        lambda final: final.replace(b"c=biws,", b""),
        lambda final: final.replace(b"c=biws", b"c=biw"),
        lambda final: final[:-4],
        lambda final: final + b"AAAA",
        lambda final: final.replace(b"c=", b"m=x,c="),
    ],
)
def test_final_messages_that_are_none(change: Callable[[bytes], bytes]) -> None:
    server, final = final_of()
    with pytest.raises(SaslFault):
        server.respond(change(final))


def test_another_connection_is_another_binding() -> None:
    """Whoever sits between has another TLS connection with each side."""
    client = ScramClient(SHA_256, "ann", "secret", bytes, binding=BINDING)
    here = sasl.Surroundings(bytes, {BINDING.type: b"\x02" * 32}, offers_binding=True)
    secrets = secrets_of(SHA_256, b"secret")
    server, _, challenge = began(client.initial() or b"", secrets, here, binds=True)
    proof = server.respond(client.answer(challenge))
    assert isinstance(proof, Proof) and proof.label is None
    assert "channel bindings" in proof.reason


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=abc",
        b"r=%b,s=AAAA,i=4096" % (b"A" * 24),  # nothing of the server's in it
        b"r=B%b,s=AAAA,i=4096" % (b"A" * 24),
        b"r=%bx,s=AAAA,i=0" % (b"A" * 24),
        b"r=%bx,s=AAAA,i=99999999" % (b"A" * 24),  # hours of work
        b"r=%bx,s=,i=4096" % (b"A" * 24),
        b"m=x,r=%bx,s=AAAA,i=4096" % (b"A" * 24),
        b"e=other-error",
    ],
)
def test_our_client_does_not_take_everything(challenge: bytes) -> None:
    client = ScramClient(SHA_256, "ann", "secret", bytes)
    client.initial()
    with pytest.raises(SaslFault):
        client.answer(challenge)


def test_a_server_that_does_not_know_the_password_is_seen() -> None:
    client = ScramClient(SHA_256, "ann", "secret", bytes)
    _, _, challenge = began(client.initial() or b"", secrets_of(SHA_256, b"other"))
    client.answer(challenge)
    for final in (b"v=" + base64.b64encode(bytes(32)), b"e=invalid-proof", b""):
        with pytest.raises(SaslFault, match="does not know"):
            client.answer(final)


def test_keys_do_not_show() -> None:
    """S13."""
    assert "canary" not in repr(ScramKeys(b"canary", b"canary"))
    assert "canary" not in repr(ChannelBinding(b"tls-exporter", b"canary"))
