"""Flags: bits and words, without regard to case, changed one by one (T7, T11)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.model.flags import SYSTEM_NAMES, FlagOp, Flags, System, apply_flags

WORDS = st.sampled_from(["$Forwarded", "$forwarded", "Work", "WORK", "x", "éA", "$MDN"])
FLAGS = st.lists(st.sampled_from([*SYSTEM_NAMES.values(), "\\SEEN"]) | WORDS, max_size=8).map(
    lambda names: Flags.of(*names)
)


def folded(flags: Flags) -> set[str]:
    return {name.lower() for name in flags.names()}


def test_names_come_back_in_order_without_doubles() -> None:
    flags = Flags.of("b", "\\seen", "A", "\\Answered", "B", "\\SEEN")
    assert flags == Flags(System.SEEN | System.ANSWERED, ("A", "b"))
    assert flags.names() == ["\\Answered", "\\Seen", "A", "b"]
    assert flags.has_keyword("a")
    assert flags.has_keyword("B")
    assert not flags.has_keyword("c")
    assert not flags.has_keyword("\\Seen")


@pytest.mark.parametrize("name", ["\\Recent", "\\Xyz", "\\", "\\*"])
def test_what_is_no_system_flag_is_refused(name: str) -> None:
    """T9, T11"""
    with pytest.raises(ValueError, match="not a flag that can be stored"):
        Flags.of("x", name)


def test_the_bits_are_what_stores_have_on_disk() -> None:
    assert [int(flag) for flag in System] == [1, 2, 4, 8, 16]
    assert list(SYSTEM_NAMES) == list(System)


@settings(max_examples=150, deadline=None)
@given(FLAGS, st.sampled_from(FlagOp), FLAGS)
def test_operations_are_those_of_sets(old: Flags, op: FlagOp, given_flags: Flags) -> None:
    """T7"""
    new = apply_flags(old, op, given_flags)
    expected = {
        FlagOp.REPLACE: folded(given_flags),
        FlagOp.ADD: folded(old) | folded(given_flags),
        FlagOp.REMOVE: folded(old) - folded(given_flags),
    }[op]
    assert folded(new) == expected
    assert len(new.names()) == len(expected)
    assert list(new.keywords) == sorted(new.keywords, key=str.lower)
    kept = {word.lower(): word for word in old.keywords}
    assert all(kept.get(word.lower(), word) == word for word in new.keywords)
