"""SASL mechanisms: what a client claims, and nothing that it should not (RFC 4616, T41)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.wire import sasl
from mailserver.wire.sasl import Challenge, Credentials, SaslCancelled, SaslFault

HERE = sasl.Surroundings(bytes)
TIM = Credentials("", "tim", "tanstaaftanstaaf")


def run(name: bytes, initial: bytes | None, *responses: bytes) -> list[sasl.Step]:
    mechanism = sasl.MECHANISMS[name].make(HERE)
    return [mechanism.start(initial), *(mechanism.respond(response) for response in responses)]


@pytest.mark.parametrize(
    ("message", "credentials"),
    [
        (b"\0tim\0tanstaaftanstaaf", TIM),  # RFC 4616 §4
        (b"Ursel\0Kurt\0xipj3plmq", Credentials("Ursel", "Kurt", "xipj3plmq")),
        ("\0jürgen\0ключ".encode(), Credentials("", "jürgen", "ключ")),
        (b"\0n\0" + b"p" * 255, Credentials("", "n", "p" * 255)),
    ],
)
def test_plain(message: bytes, credentials: Credentials) -> None:
    assert run(b"PLAIN", message) == [credentials]
    assert run(b"PLAIN", None, message) == [Challenge(b""), credentials]
    assert sasl.plain_response(credentials) == message


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"\0tim",
        b"\0tim\0a\0b",
        b"\0\0secret",
        b"\0tim\0",
        b"\0t\xe9\0x",
        b"\0\xed\xa0\x80\0x",
    ],
)
def test_plain_refuses_what_is_not_three_parts_of_utf8(message: bytes) -> None:
    with pytest.raises(SaslFault):
        run(b"PLAIN", message)


def test_login() -> None:
    """The example of draft-murchison-sasl-login-00 §2.3, with the other challenges."""
    steps = run(b"LOGIN", None, b"tim", b"tanstaaftanstaaf")
    assert steps == [Challenge(b"Username:"), Challenge(b"Password:"), TIM]
    assert sasl.login_responses(TIM) == (b"tim", b"tanstaaftanstaaf")


def test_login_takes_the_name_as_initial_response() -> None:
    assert run(b"LOGIN", b"tim", b"tanstaaftanstaaf") == [Challenge(b"Password:"), TIM]


@pytest.mark.parametrize("texts", [(b"",), (b"tim", b""), (b"t\0m",), (b"tim", b"\xff")])
def test_login_refuses_empty_and_strange_texts(texts: tuple[bytes, ...]) -> None:
    with pytest.raises(SaslFault):
        run(b"LOGIN", None, *texts)


@pytest.mark.parametrize(
    ("line", "octets"),
    [(b"", b""), (b"dGVzdAB0ZXN0AHRlc3Q=", b"test\0test\0test"), (b"+/+/", b"\xfb\xff\xbf")],
)
def test_base64_is_decoded(line: bytes, octets: bytes) -> None:
    assert sasl.decode_response(line) == octets
    assert sasl.encode(octets) == line


@pytest.mark.parametrize(
    "line",
    [b"=", b"=AAA", b"AAA=BBB", b"AAA=AAAA", b"A", b"AA", b"AAA", b"AAAA=", b"AAAA====", b"AA AA",
     b"AAA\r", b"-_-_", b"AAAA*", b"\xc3\xa9AA", b"A===", b"A" * (sasl.MAX_RESPONSE + 4)],
)  # fmt: skip
def test_base64_is_strict(line: bytes) -> None:
    """T41; RFC 4959 §3 names `=AAA` and `AAA=BBB`."""
    with pytest.raises(SaslFault):
        sasl.decode_response(line)


def test_an_equals_sign_is_an_empty_initial_response() -> None:
    """T41"""
    assert sasl.decode_initial(b"=") == b""
    assert sasl.encode_initial(b"") == b"="
    assert sasl.decode_initial(sasl.encode_initial(b"tim")) == b"tim"


def test_a_star_cancels() -> None:
    """T41"""
    with pytest.raises(SaslCancelled):
        sasl.decode_response(b"*")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_base64_round_trip(octets: bytes) -> None:
    assert sasl.decode_response(sasl.encode(octets)) == octets
    assert sasl.encode(octets) == base64.b64encode(octets)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT.filter(bool), TEXT.filter(bool))
def test_plain_round_trip(authzid: str, authcid: str, password: str) -> None:
    credentials = Credentials(authzid, authcid, password)
    assert run(b"PLAIN", sasl.plain_response(credentials)) == [credentials]


@pytest.mark.parametrize(
    "credentials",
    [Credentials("", "", "x"), Credentials("", "x", ""), Credentials("", "a\0b", "x")],
)
def test_a_client_cannot_send_what_would_mean_something_else(credentials: Credentials) -> None:
    """W13: a NUL in a name would move the borders between the parts."""
    with pytest.raises(ValueError, match="needs a name"):
        sasl.plain_response(credentials)
    with pytest.raises(ValueError, match="needs a name"):
        sasl.login_responses(credentials)


def test_login_cannot_act_for_another() -> None:
    with pytest.raises(ValueError, match="no authzid"):
        sasl.login_responses(Credentials("other", "tim", "x"))


def test_passwords_do_not_show() -> None:
    """S13"""
    assert "tanstaaf" not in repr(TIM)
