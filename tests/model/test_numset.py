"""Sets of numbers against Python's own sets; ranges are never spelled out (S4, T13)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.model.numset import STAR, NumSet, SequenceSet
from tests.timing import quickest

NUMBERS = st.integers(0, 60)
SETS = st.frozensets(NUMBERS, max_size=40)
RANGES = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair))), max_size=12)
many = settings(max_examples=150, deadline=None)


def well_formed(numbers: NumSet) -> bool:
    """Ascending, disjoint, not touching."""
    ends = [end for pair in numbers.ranges for end in pair]
    return ends == sorted(ends) and all(
        before[1] + 1 < after[0]
        for before, after in zip(numbers.ranges, numbers.ranges[1:], strict=False)
    )


@many
@given(SETS)
def test_a_set_has_the_numbers_it_was_made_of(numbers: frozenset[int]) -> None:
    made = NumSet.of([*numbers, *numbers])
    assert well_formed(made)
    assert list(made) == sorted(numbers)
    assert len(made) == len(numbers)
    assert bool(made) == bool(numbers)
    assert {n for n in range(-1, 63) if n in made} == numbers
    if numbers:
        assert (made.smallest, made.largest) == (min(numbers), max(numbers))


@many
@given(RANGES)
def test_ranges_merge(ranges: list[tuple[int, int]]) -> None:
    made = NumSet.from_ranges(ranges)
    assert well_formed(made)
    assert set(made) == {n for low, high in ranges for n in range(low, high + 1)}


@many
@given(SETS, SETS)
def test_algebra(one: frozenset[int], two: frozenset[int]) -> None:
    a, b = NumSet.of(one), NumSet.of(two)
    for made, expected in ((a | b, one | two), (a & b, one & two), (a - b, one - two)):
        assert well_formed(made)
        assert set(made) == expected


@many
@given(SETS, NUMBERS, NUMBERS)
def test_clip(numbers: frozenset[int], low: int, high: int) -> None:
    clipped = NumSet.of(numbers).clip(low, high)
    assert set(clipped) == {n for n in numbers if low <= n <= high}


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([5], "5"), ([1, 2, 3, 5], "1:3,5"), ([9, 8, 2], "2,8:9")]
)
def test_text(numbers: list[int], text: str) -> None:
    assert str(NumSet.of(numbers)) == text


def test_what_is_no_number_is_not_in_a_set() -> None:
    assert "1" not in NumSet.of([1])


MEANINGS: dict[str, tuple[tuple[tuple[int, int], ...], int, list[int]]] = {
    "plain": (((2, 4), (7, 7)), 10, [2, 3, 4, 7]),
    "reversed": (((5, 2),), 10, [2, 3, 4, 5]),
    "star": (((STAR, STAR),), 10, [10]),
    "to_star": (((8, STAR),), 10, [8, 9, 10]),
    "from_star": (((STAR, 8),), 10, [8, 9, 10]),
    "past_star": (((12, STAR),), 10, [10, 11, 12]),  # T13: the last message is in it
    "rfc3501": (((2, 2), (4, 7), (9, 9), (12, STAR)), 15, [2, 4, 5, 6, 7, 9, 12, 13, 14, 15]),
    "rfc3501_overlap": (((STAR, 4), (5, 7)), 10, [4, 5, 6, 7, 8, 9, 10]),
    "star_of_nothing": (((STAR, STAR), (3, STAR)), 0, []),  # T13: no error
    "numbers_of_nothing": (((3, 4),), 0, [3, 4]),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_meaning_of_sequence_sets(name: str) -> None:
    ranges, largest, meaning = MEANINGS[name]
    assert list(SequenceSet(ranges).resolve(largest)) == meaning


@pytest.mark.parametrize(
    ("ranges", "highest"),
    [(((1, STAR),), 1), (((STAR, STAR),), 0), (((7, 3), (5, 5)), 7), ((), 0)],
)
def test_highest_named(ranges: tuple[tuple[int, int], ...], highest: int) -> None:
    assert SequenceSet(ranges).highest_named == highest


def test_a_range_over_all_numbers_costs_nothing() -> None:
    """S4: `1:4294967295` on an empty mailbox in less than 10 ms."""

    def run() -> None:
        numbers = SequenceSet(((1, 2**32 - 1),)).resolve(0)
        assert not numbers.clip(1, 0)
        assert len(numbers) == 2**32 - 1
        assert list(numbers.clip(7, 8)) == [7, 8]
        assert 2**31 in numbers
        assert len(numbers - NumSet.of([5])) == 2**32 - 2

    assert quickest(run) < 0.01


def test_many_ranges_cost_linear_time() -> None:
    """S4: 100,000 ranges each, which a quadratic walk could not do in this time."""
    evens = NumSet(tuple((n, n) for n in range(0, 200_000, 2)))
    odds = NumSet(tuple((n, n) for n in range(1, 200_000, 2)))

    def run() -> None:
        assert not evens & odds
        assert evens - odds == evens
        assert (evens | odds).ranges == ((0, 199_999),)

    assert quickest(run) < 2
