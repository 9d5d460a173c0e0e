"""Base subject (RFC 5256 §2.1): what is common to the subjects of one conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.subjects import base_subject, casemap


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("", ""),
        ("Lunch", "Lunch"),
        ("Re: Lunch", "Lunch"),
        ("re: RE : Fw: fwd: Lunch", "Lunch"),
        ("Re[2]: Lunch", "Lunch"),
        ("Re [a b] : Lunch", "Lunch"),
        ("[list] Lunch", "Lunch"),
        ("[list] Re: [other] Lunch", "Lunch"),
        ("Re: [list] [list2] Re: Lunch (fwd)", "Lunch"),
        ("Lunch (FWD) (fwd)  ", "Lunch"),
        ("[Fwd: Lunch]", "Lunch"),
        ("[fwd: Re: [fwd: [x] Lunch (fwd)]]", "Lunch"),
        ("Re: [Fwd: Lunch] (fwd)", "Lunch"),
        ("a\r\n\tb   c", "a b c"),
        ("[only a blob]", "[only a blob]"),
        ("Re: [only a blob]", "[only a blob]"),
        ("[a] [b]", "[b]"),
        ("Re:", ""),
        ("Re: (fwd)", ""),
        ("Reply: Lunch", "Reply: Lunch"),
        ("Ref: x", "Ref: x"),
        ("Re Lunch", "Re Lunch"),
        ("fwdd: x", "fwdd: x"),
        ("Fw x: y", "Fw x: y"),
        ("Lunch (fwd) today", "Lunch (fwd) today"),
        ("[unclosed Re: x", "[unclosed Re: x"),
        ("[fwd: unclosed", "[fwd: unclosed"),
        ("[fwd:]", ""),
        ("Re: Grüße", "Grüße"),
    ],
)
def test_base_subject(subject: str, base: str) -> None:
    assert base_subject(subject) == base


@given(st.lists(st.sampled_from(["re", "fw", "fwd", ":", "[", "]", " ", "(fwd)", "[fwd:", "x"])))
def test_the_base_of_a_base_is_itself(pieces: list[str]) -> None:
    base = base_subject("".join(pieces))
    assert base_subject(base) == base
    assert base_subject(f"Re: {base}") == base


@pytest.mark.parametrize(
    ("one", "other"),
    [("lunch", "LUNCH"), ("grüße", "GRÜßE"), ("é", "E\u0301"), ("ﬁ", "ﬁ"), ("Ａ", "a"), ("ǆ", "ǅ")],
)
def test_casemap_makes_variants_equal(one: str, other: str) -> None:
    assert casemap(one) == casemap(other)
