"""R7: whatever octets it is given, a parser answers in time or says what is wrong.

2,000 inputs for each, 20,000 with `--long`; `make fuzz` gives a million.
"""

from __future__ import annotations

import time

import pytest

from tests.fuzz.parsers import TARGETS
from tests.fuzz.target import Broken, Target, run, try_one, untraced

CASES = [
    pytest.param(TARGETS[name], octets, id=f"{name}-{number}")
    for name in TARGETS
    for number, octets in enumerate(TARGETS[name].cases())
]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_nothing_breaks_a_parser(target: Target) -> None:
    """R7, S5."""
    run(target, 2_000, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_nothing_breaks_a_parser_for_long(target: Target) -> None:
    """R7."""
    run(target, 20_000, seed=2)


@pytest.mark.parametrize(("target", "octets"), CASES)
def test_what_broke_a_parser_once_does_so_no_more(target: Target, octets: bytes) -> None:
    with untraced():
        try_one(target, octets)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_input_of_the_corpus_passes(target: Target) -> None:
    corpus = target.corpus()
    assert corpus
    for octets in corpus:
        try_one(target, octets)


def test_the_instrument_notices() -> None:
    """An exception and a wait are found, and the input comes with them."""

    def breaks(octets: bytes) -> None:
        if b"\0" in octets:
            raise KeyError("x")

    def waits(octets: bytes) -> None:
        end = time.process_time() + 1.1
        while time.process_time() < end:
            pass

    with pytest.raises(Broken, match="KeyError") as broken:
        run(Target("x", breaks, lambda: [b"abc"]), 2_000, seed=1)
    assert b"\0" in broken.value.octets
    with pytest.raises(Broken, match=r"takes .* s"):
        try_one(Target("x", waits, lambda: [b""]), b"")
