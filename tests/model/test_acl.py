"""Rights as letters (RFC 4314 §2.1)."""

from __future__ import annotations

import pytest

from mailserver.model.acl import ALL_RIGHTS, NO_RIGHTS, Right, format_rights, parse_rights


def test_all_letters() -> None:
    assert format_rights(ALL_RIGHTS) == "lrswipkxtea"
    assert parse_rights("lrswipkxtea") == ALL_RIGHTS
    assert parse_rights("") == NO_RIGHTS
    assert format_rights(NO_RIGHTS) == ""


@pytest.mark.parametrize(
    ("letters", "written"), [("rl", "lr"), ("llrr", "lr"), ("c", "kx"), ("d", "te"), ("cl", "lkx")]
)
def test_order_doubles_and_old_letters(letters: str, written: str) -> None:
    """RFC 4314 §2.1.1: `c` and `d` of RFC 2086."""
    assert format_rights(parse_rights(letters)) == written


@pytest.mark.parametrize("letters", ["L", "lq", " ", "1"])
def test_what_is_no_right_is_named(letters: str) -> None:
    with pytest.raises(ValueError, match="is not a right"):
        parse_rights(letters)


def test_each_right_has_its_letter() -> None:
    for right in Right:
        assert parse_rights(right.value) == frozenset({right})
