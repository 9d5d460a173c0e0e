"""Account names and addresses: one spelling, whatever was typed (S8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.model.addresses import (
    Address,
    account_name,
    canonical_address,
    canonical_domain,
    display_domain,
    fold,
    parse_address,
)
from tests.timing import assert_linear


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("joe@example.org", "joe@example.org"),
        ("Joe.Smith@EXAMPLE.org", "joe.smith@example.org"),
        ("joe+Detail@example.org", "joe+detail@example.org"),
        ('"joe"@example.org', "joe@example.org"),
        ('"joe smith"@example.org', "joe smith@example.org"),
        (r'"a\"b\\c"@example.org', r'a"b\c@example.org'),
        ('"a@b"@example.org', "a@b@example.org"),
        ("postmaster", "postmaster"),
        ("Jo\u0308rg@b\u00fccher.example", "j\u00f6rg@xn--bcher-kva.example"),  # RFC 6531 §3.3
        ("J\u00d6RG@xn--BCHER-kva.example", "j\u00f6rg@xn--bcher-kva.example"),
        ("用户@例え.テスト", "用户@xn--r8jz45g.xn--zckzah"),
        ("o'neil/x=1@a-b.example", "o'neil/x=1@a-b.example"),
    ],
)
def test_one_spelling(text: str, name: str) -> None:
    assert canonical_address(text) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("@example.org", "empty"),
        ('""@example.org', "empty"),
        (".joe@example.org", "misplaced dot"),
        ("jo..e@example.org", "misplaced dot"),
        ("joe.@example.org", "misplaced dot"),
        ("joe smith@example.org", "needs quoting"),
        ("a@b@example.org", "needs quoting"),
        ("joe\r\n@example.org", "needs quoting"),
        ("joe\x00@example.org", "needs quoting"),
        ('"joe@example.org', "well-formed"),
        ('"jo"e"@example.org', "well-formed"),
        ("jo\x85e@example.org", "control"),
        ("jo\ud800e@example.org", "control"),
        ("a" * 65 + "@example.org", "64 octets"),
        ("ü" * 33 + "@example.org", "64 octets"),
        ("joe@", "not a domain"),
        ("joe@example..org", "not a domain"),
        ("joe@example.org.", "not a domain"),
        ("joe@-example.org", "not a domain"),
        ("joe@exam_ple.org", "not a domain"),
        ("joe@[127.0.0.1]", "not a domain"),
        ("joe@" + "a" * 64 + ".org", "not a domain"),
        ("joe@" + "a." * 127 + "orgs", "255 octets"),
        ("joe@xn--0.example", "not a domain"),
        ("joe@ex\u200bample\u0000.org", "not a domain"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(MailError) as refusal:
        canonical_address(text)
    assert refusal.value.kind is ErrorKind.INVALID
    assert reason in refusal.value.text


def test_the_case_of_a_detail_is_kept_until_it_is_folded() -> None:
    address = parse_address("Joe+Archive@Example.ORG")
    assert address == Address("Joe+Archive", "example.org")
    assert address.name == "joe+archive@example.org"


def test_the_default_domain_is_for_addresses_without_one() -> None:
    assert canonical_address("Joe", "example.org") == "joe@example.org"
    assert canonical_address("joe@other.example", "example.org") == "joe@other.example"


@pytest.mark.parametrize(
    "text",
    [
        "joe",
        "joe/x@example.org",
        "joe*@example.org",
        "100%@example.org",
        '"joe smith"@example.org',
        "~joe@example.org",
        "#joe@example.org",
        "$group@example.org",
        "-joe@example.org",
        "joe\u3000x@example.org",
        "joe\u202ex@example.org",
    ],
)
def test_names_that_would_be_misread_make_no_account(text: str) -> None:
    with pytest.raises(MailError) as refusal:
        account_name(text)
    assert refusal.value.kind is ErrorKind.INVALID


def test_a_plus_is_allowed_in_account_names() -> None:
    assert account_name("Joe+Lists@example.org") == "joe+lists@example.org"


def test_domains_are_shown_to_people_in_their_own_letters() -> None:
    assert display_domain("xn--bcher-kva.example") == "b\u00fccher.example"
    assert display_domain("example.org") == "example.org"
    assert display_domain("xn--0.example") == "xn--0.example"


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=60), st.sampled_from(["", "@example.org", "@b\u00fccher.example"]))
def test_any_text_is_an_address_or_refused_as_one(text: str, suffix: str) -> None:
    try:
        name = canonical_address(text + suffix)
    except MailError as refusal:
        assert refusal.kind is ErrorKind.INVALID
        return
    local, _, domain = name.rpartition("@") if suffix else (name, "", "")
    assert not domain or canonical_domain(domain) == domain
    assert fold(local) == local


def test_what_is_too_long_for_an_address_is_not_composed() -> None:
    """S5: to compose combining marks in the wrong order takes quadratic time."""

    def ask(count: int) -> None:
        for text in ("a" + "\u0301\u0316" * count, "a@b" + "\u0301\u0316" * count):
            with pytest.raises(MailError, match="longer"):
                canonical_address(text)

    assert_linear(ask, 30_000)
