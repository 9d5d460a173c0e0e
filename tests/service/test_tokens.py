"""The options of OAuth: what they make, and which mistakes stop a start or a reload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import Clock

from mailserver.auth.tokens.introspection import IntrospectionServer
from mailserver.auth.tokens.verifier import TokenRules
from mailserver.model.secrets import Evidence, SecretKind
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, load
from mailserver.service.options.option import MASK
from mailserver.service.parts import not_offered
from mailserver.service.tokens import load_tokens

NEEDED = {"auth.oauth.issuer": "https://id.example.org", "auth.oauth.audience": "mail"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)]}))
    return file


def verifier(**given: str) -> Any:
    options = {f"auth.oauth.{name}": value for name, value in given.items()}
    return load_tokens(load(None, {**NEEDED, **options}), Clock())


def test_without_keys_and_without_a_server_to_ask_no_tokens_are_taken() -> None:
    assert load_tokens(load(None, {}), Clock()) is None
    assert verifier() is None


def test_the_options_reach_what_they_are_for(keys: Path) -> None:
    """SUN-6."""
    made = verifier(
        jwksfile=str(keys),
        scope="mail.read",
        claim="sub",
        algorithms="eddsa, RS512",
        leeway="7s",
        configurationurl="https://id.example.org/.well-known/openid-configuration",
    )
    assert made._rules == TokenRules(
        issuer="https://id.example.org",
        audience=("mail",),
        claim="sub",
        scope="mail.read",
        algorithms=("EdDSA", "RS512"),
        leeway=7.0,
        configuration="https://id.example.org/.well-known/openid-configuration",
    )
    fetched = verifier(jwksurl="https://id.example.org/keys", jwksage="2h")._keys
    assert (fetched._url, fetched._kept_for) == ("https://id.example.org/keys", 7200.0)
    asking = verifier(
        introspectionurl="http://127.0.0.1/ask",
        clientid="mail",
        clientsecret="hush",
        rememberedfor="5s",
        timeout="3s",
    )._introspection
    assert asking._server == IntrospectionServer("http://127.0.0.1/ask", "mail", "hush", 5.0)
    assert asking._source._timeout == 3.0


@pytest.mark.parametrize(
    ("given", "option", "reason"),
    [
        ({"auth.mechanisms": "PLAIN CRAM-MD4"}, "auth.mechanisms", "'CRAM-MD4' is none of: EXT"),
        ({"auth.oauth.jwksurl": "http://id.example.org/k"}, "auth.oauth.jwksurl", "with https"),
        ({"auth.oauth.jwksurl": "https:///k"}, "auth.oauth.jwksurl", "takes a URL such as"),
        ({"auth.oauth.jwksurl": "https://[::1/k"}, "auth.oauth.jwksurl", "takes a URL such as"),
        ({"auth.oauth.jwksurl": "ftp://a/k"}, "auth.oauth.jwksurl", "with https"),
        ({"auth.oauth.algorithms": "HS256"}, "auth.oauth.algorithms", "'HS256' is none of: RS"),
        ({"auth.oauth.algorithms": "none"}, "auth.oauth.algorithms", "'none' is none of: RS256"),
        ({"auth.oauth.clientid": "x"}, "auth.oauth.clientid", "auth.oauth.introspectionurl"),
    ],
)
def test_what_cannot_be_is_told(given: Mapping[str, str], option: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(None, given)
    assert option in str(error.value) and reason in str(error.value)


@pytest.mark.parametrize("left_out", list(NEEDED))
def test_keys_without_issuer_or_audience_are_refused(keys: Path, left_out: str) -> None:
    """Else a token that was made for any other service would open the mail."""
    given = {**NEEDED, "auth.oauth.jwksfile": str(keys)}
    del given[left_out]
    with pytest.raises(ConfigurationError, match="a token that was made for others") as error:
        load(None, given)
    assert left_out in str(error.value)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (None, "No such file"),
        (b"{", "Expecting"),
        (b"[]", "not a set of keys"),
        (b'{"keys": []}', "no key in it"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}, 5, {"kty": "RSA"}]}', "no key in it"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_named(
    tmp_path: Path, octets: bytes | None, reason: str
) -> None:
    file = tmp_path / "keys.json"
    if octets is not None:
        file.write_bytes(octets)
    with pytest.raises(ConfigurationError) as error:
        verifier(jwksfile=str(file))
    text = str(error.value)
    assert str(file) in text and "auth.oauth.jwksfile" in text and reason in text


def test_authorities_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"auth\.oauth\.cafile"):
        verifier(introspectionurl="https://id.example.org/ask", cafile=str(file))


def test_the_secret_is_not_shown() -> None:
    """S13."""
    assert o.oauth.CLIENT_SECRET.shown("hush") == MASK
    assert "hush" not in repr(IntrospectionServer("https://a", "b", "hush"))


def test_what_was_asked_for_and_cannot_be_offered_is_told() -> None:
    """A mechanism is offered while every source can serve it; the log says which is not."""
    accepted = {Evidence.PASSWORD, Evidence.CERTIFICATE, SecretKind.SCRAM_SHA_256}
    assert list(not_offered(load(None, {}), accepted)) == []
    settings = load(None, {"auth.mechanisms": "plain scram-sha-256-plus cram-md5 xoauth2"})
    by_pop3 = "SCRAM-SHA-256-PLUS is not offered by POP3: service.pop.channelbinding is off"
    assert list(not_offered(settings, accepted)) == [
        f"auth.mechanisms: {by_pop3}",
        "auth.mechanisms: CRAM-MD5 is not offered: not every source of auth.sources keeps"
        " what it needs",
        "auth.mechanisms: XOAUTH2 is not offered: no auth.oauth option says how tokens are checked",
    ]
    everything = accepted | {Evidence.TOKEN, SecretKind.PLAIN}
    assert list(not_offered(settings, everything)) == [f"auth.mechanisms: {by_pop3}"]
    both = {"auth.mechanisms": "scram-sha-256-plus", "service.pop.channelbinding": "yes"}
    assert list(not_offered(load(None, both), everything)) == []
