"""Mailbox names have one spelling; patterns match as LIST says, in linear time."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.model.names import (
    MAX_DEPTH,
    MAX_NAME_LENGTH,
    ListPattern,
    canonical,
    parents,
)
from tests.timing import assert_linear


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("INBOX", "INBOX"),
        ("inBox", "INBOX"),
        ("inbox/x", "INBOX/x"),  # T21
        ("x/inbox", "x/inbox"),
        ("inboxes", "inboxes"),
        ("a/b/", "a/b"),
        ("Entwu\u0308rfe", "Entwürfe"),
        ("~sales/x", "~sales/x"),
        ("a\\b..%*", "a\\b..%*"),
        ("x" * MAX_NAME_LENGTH, "x" * MAX_NAME_LENGTH),
        ("/".join("x" * MAX_DEPTH), "/".join("x" * MAX_DEPTH)),
    ],
)
def test_spelling(name: str, spelling: str) -> None:
    """S8"""
    assert canonical(name) == spelling
    assert canonical(spelling) == spelling


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("/", "empty"),
        ("/a", "empty part"),
        ("a//b", "empty part"),
        ("a//", "empty part"),
        ("a\0b", r"U\+0000"),
        ("a\r\nb", r"U\+000D"),
        ("a\x7f", r"U\+007F"),
        ("a\u2028", r"U\+2028"),
        ("a\ud800", r"U\+D800"),
        ("x" * (MAX_NAME_LENGTH + 1), "at most 1000 characters"),
        ("/".join("x" * (MAX_DEPTH + 1)), "at most 50 levels"),
    ],
)
def test_refused_names(name: str, reason: str) -> None:
    """S8"""
    with pytest.raises(MailError, match=reason) as caught:
        canonical(name)
    assert caught.value.kind is ErrorKind.CANNOT


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_a_spelling_is_its_own_spelling(name: str) -> None:
    try:
        spelling = canonical(name)
    except MailError:
        return
    assert canonical(spelling) == spelling
    assert unicodedata.is_normalized("NFC", spelling)
    assert not spelling.endswith("/")


def test_parents() -> None:
    assert parents("a/b/c") == ["a", "a/b"]
    assert parents("a") == []


def slow_match(pattern: str, name: str) -> bool:
    """What RFC 3501 §6.3.8 says, by trying everything."""
    if not pattern:
        return not name
    if pattern[0] in "*%":
        lengths = range(len(name) + 1)
        stop = len(name) if pattern[0] == "*" else (name + "/").index("/")
        return any(slow_match(pattern[1:], name[n:]) for n in lengths if n <= stop)
    return bool(name) and name[0] == pattern[0] and slow_match(pattern[1:], name[1:])


@settings(max_examples=300, deadline=None)
@given(st.text("ab/*%", max_size=7), st.text("ab/", max_size=7))
def test_patterns_match_as_the_slow_reference_does(pattern: str, name: str) -> None:
    """T22"""
    assert ListPattern(pattern).matches(name) == slow_match(pattern, name)


@pytest.mark.parametrize(
    ("reference", "pattern", "name", "matches"),
    [
        ("", "*", "a/b/c", True),
        ("", "%", "a", True),
        ("", "%", "a/b", False),  # T22
        ("", "%/%", "a/b", True),
        ("a/", "%", "a/b", True),
        ("a", "b*", "ab/c", True),
        ("", "inbox", "INBOX", True),  # T21
        ("", "iNb%", "INBOX", True),
        ("", "inbox/*", "INBOX/x", True),
        ("in", "box/x", "INBOX/x", True),
        ("", "inb*", "inbag", True),
        ("", "INB*", "inbag", False),
        ("", "a", "A", False),
        ("", "u\u0308", "ü", True),
        ("", "", "", True),
        ("", "a**%%*b", "a/x/b", True),
        ("", "a%%%b", "a/x/b", False),
    ],
)
def test_joined_patterns(reference: str, pattern: str, name: str, matches: bool) -> None:
    assert ListPattern.joined(reference, pattern).matches(name) is matches


@pytest.mark.parametrize("part", ["*", "%", "*a", "%*", "a*", "%a"])
def test_matching_is_linear_in_the_pattern(part: str) -> None:
    """S4: also for runs of wildcards, which a client may send by the thousand."""
    name = "a" * 60
    assert_linear(lambda count: ListPattern(part * count + "b").matches(name), 4_000)


def test_a_pattern_made_to_hurt_is_answered_at_once() -> None:
    """S4: what takes a backtracking matcher for ever."""
    assert not ListPattern("*a" * 100 + "b").matches("a" * 200)


MARKS = "\u0301\u0316"
"""Two combining marks in the wrong order: a text of many takes quadratic time to compose."""


def test_names_and_patterns_too_long_to_be_any_are_not_composed() -> None:
    """S5: half a second for what fits into one command, were it composed."""

    def ask(count: int) -> None:
        with pytest.raises(MailError, match="at most 1000 characters"):
            canonical("a" + MARKS * count)
        pattern = ListPattern.joined("", "*" + MARKS * count + "*")
        assert not pattern.matches("a" + MARKS)

    assert_linear(ask, 30_000)


def test_a_decomposed_name_of_full_length_is_taken() -> None:
    name = "ᾂ" * MAX_NAME_LENGTH
    assert canonical(unicodedata.normalize("NFD", name)) == name
    pattern = ListPattern.joined("", unicodedata.normalize("NFD", "%".join(name)))
    assert pattern.matches(name)
