"""CRAM-MD5 (RFC 2195), EXTERNAL (RFC 4422), OAUTHBEARER (RFC 7628) and XOAUTH2."""

from __future__ import annotations

import json

import pytest

from mailserver.model.secrets import PlainSecret, PlainSecrets, SecretKind
from mailserver.wire import sasl
from mailserver.wire.sasl import Challenge, External, Proof, SaslFault, SecretsWanted, Token
from mailserver.wire.sasl.cram_md5 import CramMd5Client, cram_md5_digest
from mailserver.wire.sasl.oauth import oauthbearer_message, xoauth2_message

HERE = sasl.Surroundings(bytes, host="mail.example.org")
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def start(name: bytes, initial: bytes | None) -> sasl.Step:
    return sasl.MECHANISMS[name].make(HERE).start(initial)


# -- CRAM-MD5 ----------------------------------------------------------------------------


def test_the_digest_of_the_rfc() -> None:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    digest = b"b913a602c7eda7a495b4e6e7334d3890"
    assert cram_md5_digest(challenge, "tanstaaftanstaaf") == digest
    client = CramMd5Client("tim", "tanstaaftanstaaf")
    assert client.initial() is None
    assert client.answer(challenge) == b"tim " + digest


@pytest.mark.parametrize(
    ("password", "label"), [("secret", ""), ("other", "phone"), ("wrong", None)]
)
def test_cram_md5(password: str, label: str | None) -> None:
    mechanism = sasl.MECHANISMS[b"CRAM-MD5"].make(HERE)
    challenge = mechanism.start(None)
    assert challenge == Challenge(b"<" + b"0" * 32 + b"@mail.example.org>")
    wanted = mechanism.respond(CramMd5Client("an n", password).answer(challenge.octets))
    assert isinstance(wanted, SecretsWanted)
    assert (wanted.authcid, wanted.kind) == ("an n", SecretKind.PLAIN)
    secrets = PlainSecrets((PlainSecret("secret"), PlainSecret("other", "phone")))
    proof = wanted.then(secrets)
    assert isinstance(proof, Proof) and proof.label == label and proof.final is None


def test_challenges_of_cram_md5_differ() -> None:
    """RFC 2195 §2: else an answer that was heard once would be good again."""
    random = iter([b"a" * 16, b"b" * 16])
    here = sasl.Surroundings(lambda _: next(random))
    made = [sasl.MECHANISMS[b"CRAM-MD5"].make(here).start(None) for _ in range(2)]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    "response",
    [b"", b"tim", b"tim ", b" " + b"0" * 32, b"tim " + b"0" * 31, b"tim " + b"g" * 32,
     b"tim " + b"0" * 33, b"\xff " + b"0" * 32, b"a\0b " + b"0" * 32],
)  # fmt: skip
def test_cram_md5_refuses(response: bytes) -> None:
    mechanism = sasl.MECHANISMS[b"CRAM-MD5"].make(HERE)
    mechanism.start(None)
    with pytest.raises(SaslFault):
        mechanism.respond(response)


def test_cram_md5_has_no_initial_response() -> None:
    with pytest.raises(SaslFault, match="no initial response"):
        start(b"CRAM-MD5", b"")


# -- EXTERNAL ----------------------------------------------------------------------------


def test_external() -> None:
    """RFC 4422 Appendix A.1."""
    assert start(b"EXTERNAL", None) == Challenge(b"")
    assert start(b"EXTERNAL", b"") == External("")
    assert start(b"EXTERNAL", "jürgen@example.org".encode()) == External("jürgen@example.org")
    for wrong in (b"\xff", b"a\0b"):
        with pytest.raises(SaslFault):
            start(b"EXTERNAL", wrong)


# -- tokens ------------------------------------------------------------------------------

RFC_7628 = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer "
    + TOKEN.encode()
    + b"\x01\x01"
)


def test_oauthbearer() -> None:
    """RFC 7628 §4.1."""
    assert oauthbearer_message("user@example.com", TOKEN, "server.example.com", 143) == RFC_7628
    for step in (start(b"OAUTHBEARER", RFC_7628), start(b"OAUTHBEARER", None)):
        if isinstance(step, Challenge):
            assert step == Challenge(b"")
            continue
        assert isinstance(step, Token)
        assert (step.user, step.token) == ("user@example.com", TOKEN)
        assert TOKEN not in repr(step)  # S13


def test_who_only_asks_what_is_wanted() -> None:
    """RFC 7628 §4.3: an empty `auth` is answered with the error."""
    step = start(b"OAUTHBEARER", b"n,a=user@example.com,\x01auth=\x01\x01")
    assert isinstance(step, Token) and step.token == ""
    advice = {"scope": "example_scope", "openid-configuration": "https://example.com/x"}
    assert json.loads(step.refusal("invalid_token", advice)) == {
        "status": "invalid_token",
        **advice,
    }


@pytest.mark.parametrize(
    ("message", "user"),
    [
        (b"n,,\x01auth=Bearer abc\x01\x01", ""),
        (b"y,,\x01auth=bearer   abc\x01\x01", ""),
        (b"n,a=a=3Db=2Cc,\x01auth=Bearer abc\x01\x01", "a=b,c"),
        (b"n,,\x01x=1\x01auth=Bearer abc\x01unknown=\x01\x01", ""),  # ignored, RFC 7628 §3.1
    ],
)
def test_oauthbearer_takes(message: bytes, user: str) -> None:
    step = start(b"OAUTHBEARER", message)
    assert isinstance(step, Token) and (step.user, step.token) == (user, "abc")


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", b"n,,", b"n,,\x01", b"n,,\x01\x01", b"n,,\x01auth=Bearer abc\x01",
     b"n,,auth=Bearer abc\x01\x01", b"p=tls-exporter,,\x01auth=Bearer abc\x01\x01",
     b"n,,\x01auth=Basic abc\x01\x01", b"n,,\x01auth=Bearer \x01\x01",
     b"n,,\x01auth=Bearer a b\x01\x01", b"n,,\x01auth=Bearer a\xff\x01\x01",
     b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01", b"n,,\x01auth\x01\x01",
     b"n,,\x01=x\x01auth=Bearer a\x01\x01", b"n,a=x=y,\x01auth=Bearer a\x01\x01"],
)  # fmt: skip
def test_oauthbearer_refuses(message: bytes) -> None:
    with pytest.raises(SaslFault):
        start(b"OAUTHBEARER", message)


def test_xoauth2() -> None:
    """The example of the description."""
    message = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3Rlcg\x01\x01"
    assert xoauth2_message("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3Rlcg") == message
    assert start(b"XOAUTH2", None) == Challenge(b"")
    step = start(b"XOAUTH2", message)
    assert isinstance(step, Token)
    assert (step.user, step.token) == ("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3Rlcg")
    for error, status in (("invalid_token", "401"), ("insufficient_scope", "403")):
        assert json.loads(step.refusal(error, {"scope": "mail"})) == {
            "status": status,
            "schemes": "bearer",
            "scope": "mail",
        }


@pytest.mark.parametrize(
    "message",
    [b"", b"user=", b"user=a", b"user=a\x01", b"user=a\x01auth=Bearer x\x01",
     b"auth=Bearer x\x01\x01", b"user=\xff\x01auth=Bearer x\x01\x01",
     b"user=a\x01auth=x\x01\x01", b"user=a\x01\x01"],
)  # fmt: skip
def test_xoauth2_refuses(message: bytes) -> None:
    with pytest.raises(SaslFault):
        start(b"XOAUTH2", message)


# -- the table ---------------------------------------------------------------------------


def test_every_mechanism_is_asked_for_its_message_where_it_sends_none() -> None:
    """RFC 4422 §3.3: a client may come without an initial response."""
    for name, row in sasl.MECHANISMS.items():
        step = row.make(HERE).start(None)
        assert isinstance(step, Challenge), name


def test_weak_mechanisms_are_off_by_default() -> None:
    off = set(sasl.MECHANISMS) - set(sasl.DEFAULT)
    assert off == {b"SCRAM-SHA-1", b"SCRAM-SHA-1-PLUS", b"CRAM-MD5"}
