"""CAPABILITY: computed from what is there, different by state (T2, T37, T38, T56)."""

from __future__ import annotations

import attrs
import pytest

from mailserver.wire.imap.capabilities import ROWS, State, capability_tokens

OFFERED = [row.token for row in ROWS if row.token != b"LITERAL-"]
CLEAR = State(
    authenticated=False,
    tls=False,
    starttls=True,
    password_login=True,
    mechanisms=(b"PLAIN", b"LOGIN"),
)
TLS = attrs.evolve(CLEAR, tls=True)
INSIDE = attrs.evolve(TLS, authenticated=True)


def test_before_login() -> None:
    assert capability_tokens(OFFERED, CLEAR) == tuple(
        b"IMAP4rev1 LITERAL+ SASL-IR LOGIN-REFERRALS ID ENABLE IDLE STARTTLS AUTH=PLAIN"
        b" AUTH=LOGIN".split()
    )


def test_passwords_refused_in_clear() -> None:
    """SUN-11, T2: no AUTH that would be refused, LOGINDISABLED instead."""
    state = attrs.evolve(CLEAR, password_login=False, mechanisms=())
    tokens = capability_tokens(OFFERED, state)
    assert tokens[-2:] == (b"STARTTLS", b"LOGINDISABLED")
    assert b"SASL-IR" not in tokens
    assert not any(token.startswith(b"AUTH=") for token in tokens)


def test_under_tls() -> None:
    """T2: STARTTLS is not there a second time."""
    tokens = capability_tokens(OFFERED, TLS)
    assert b"STARTTLS" not in tokens
    assert b"LOGINDISABLED" not in tokens
    assert b"AUTH=PLAIN" in tokens


def test_no_starttls_without_certificate() -> None:
    """SUN-4"""
    assert b"STARTTLS" not in capability_tokens(OFFERED, attrs.evolve(CLEAR, starttls=False))


@pytest.mark.parametrize("tls", [False, True])
def test_after_login(tls: bool) -> None:
    """T38: no AUTH=, no STARTTLS, no LOGINDISABLED, whatever the connection."""
    state = attrs.evolve(INSIDE, tls=tls, password_login=False)
    assert capability_tokens(OFFERED, state) == tuple(
        b"IMAP4rev1 LITERAL+ ID ENABLE IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE"
        b" LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE ESEARCH"
        b" MULTIAPPEND APPENDLIMIT BINARY".split()
    )


def test_only_what_is_offered() -> None:
    """SUN-51, T38"""
    without_idle = [token for token in OFFERED if token != b"IDLE"]
    for state in (CLEAR, INSIDE):
        assert b"IDLE" in capability_tokens(OFFERED, state)
        assert b"IDLE" not in capability_tokens(without_idle, state)
    assert capability_tokens([], INSIDE) == (b"IMAP4rev1",)


def test_what_has_no_row_comes_last_after_login() -> None:
    tokens = capability_tokens([b"X-B", b"X-A", b"IDLE"], INSIDE)
    assert tokens == (b"IMAP4rev1", b"IDLE", b"X-A", b"X-B")
    assert b"X-A" not in capability_tokens([b"X-A"], CLEAR)


def test_never_both_kinds_of_literals() -> None:
    """T56: LITERAL+ is the default; LITERAL- where LITERAL+ is switched off."""
    both = [*OFFERED, b"LITERAL-"]
    for state in (CLEAR, INSIDE):
        tokens = capability_tokens(both, state)
        assert b"LITERAL+" in tokens
        assert b"LITERAL-" not in tokens
        tokens = capability_tokens(both, attrs.evolve(state, disabled=frozenset({b"LITERAL+"})))
        assert b"LITERAL+" not in tokens
        assert b"LITERAL-" in tokens


def test_the_limit_of_append() -> None:
    """RFC 7889 §2"""
    state = attrs.evolve(INSIDE, append_limit=257890)
    tokens = capability_tokens(OFFERED, state)
    assert b"APPENDLIMIT=257890" in tokens
    assert b"APPENDLIMIT" not in tokens
    assert b"APPENDLIMIT=257890" not in capability_tokens([], state)
    off = attrs.evolve(state, disabled=frozenset({b"APPENDLIMIT"}))
    assert not any(token.startswith(b"APPENDLIMIT") for token in capability_tokens(OFFERED, off))


def test_switched_off_for_an_account() -> None:
    state = attrs.evolve(INSIDE, disabled=frozenset({b"IDLE", b"STATUS=SIZE"}))
    tokens = capability_tokens(OFFERED, state)
    assert b"IDLE" not in tokens
    assert b"STATUS=SIZE" not in tokens
    assert b"MOVE" in tokens
    plain = attrs.evolve(TLS, disabled=frozenset({b"AUTH=PLAIN"}))
    assert b"AUTH=PLAIN" not in capability_tokens(OFFERED, plain)


def test_what_keeps_passwords_safe_cannot_be_switched_off() -> None:
    state = attrs.evolve(
        CLEAR,
        password_login=False,
        disabled=frozenset({b"IMAP4REV1", b"STARTTLS", b"LOGINDISABLED"}),
    )
    tokens = capability_tokens([], state)
    assert tokens[0] == b"IMAP4rev1"
    assert b"STARTTLS" in tokens
    assert b"LOGINDISABLED" in tokens


def test_no_doubles() -> None:
    tokens = capability_tokens([*OFFERED, *OFFERED, b"STARTTLS", b"LOGINDISABLED"], TLS)
    assert len(tokens) == len(set(tokens))
    assert b"LOGINDISABLED" not in tokens
