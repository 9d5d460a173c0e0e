"""Sets of message numbers, kept as ranges and never spelled out (S4).

`SequenceSet` is what a client wrote, with `*` and reversed ranges (RFC 9051 §9,
`sequence-set`); `NumSet` is what it means: ascending, disjoint, no `*`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import attrs

STAR = 0
"""Stands for `*` in a `SequenceSet`; 0 is no message number."""


@attrs.frozen
class NumSet:
    """Numbers as ascending, disjoint, non-touching closed ranges.

    Build with `of` or `from_ranges`; the constructor trusts its argument.
    """

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> NumSet:
        """Make a set of single numbers, in any order, doubles allowed."""
        ranges: list[tuple[int, int]] = []
        low = high = -2
        for number in sorted(numbers):
            if number <= high + 1:
                high = max(high, number)
                continue
            if high >= 0:
                ranges.append((low, high))
            low = high = number
        if high >= 0:
            ranges.append((low, high))
        return cls(tuple(ranges))

    @classmethod
    def from_ranges(cls, ranges: Iterable[tuple[int, int]]) -> NumSet:
        """Make a set of closed ranges (low <= high), in any order, overlaps allowed."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __len__(self) -> int:
        """Number of numbers in the set."""
        return sum(high - low + 1 for low, high in self.ranges)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers ascending. Clip first: a client's range may span 2^32."""
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self.ranges, (number, 2**64)) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def __or__(self, other: NumSet) -> NumSet:
        return NumSet.from_ranges((*self.ranges, *other.ranges))

    def __and__(self, other: NumSet) -> NumSet:
        out: list[tuple[int, int]] = []
        mine, theirs = self.ranges, other.ranges
        i = j = 0
        while i < len(mine) and j < len(theirs):
            low = max(mine[i][0], theirs[j][0])
            high = min(mine[i][1], theirs[j][1])
            if low <= high:
                out.append((low, high))
            if mine[i][1] < theirs[j][1]:
                i += 1
            else:
                j += 1
        return NumSet(tuple(out))

    def __sub__(self, other: NumSet) -> NumSet:
        out: list[tuple[int, int]] = []
        holes = other.ranges
        j = 0
        for low, high in self.ranges:
            while j < len(holes) and holes[j][1] < low:
                j += 1
            k = j
            while k < len(holes) and holes[k][0] <= high:
                if holes[k][0] > low:
                    out.append((low, holes[k][0] - 1))
                low = holes[k][1] + 1
                k += 1
            if low <= high:
                out.append((low, high))
        return NumSet(tuple(out))

    def clip(self, low: int, high: int) -> NumSet:
        """Return the numbers of this set that lie in low..high, both included."""
        return self & NumSet(((low, high),)) if low <= high else NumSet()

    @property
    def smallest(self) -> int:
        """The lowest number; the set must not be empty."""
        return self.ranges[0][0]

    @property
    def largest(self) -> int:
        """The highest number; the set must not be empty."""
        return self.ranges[-1][1]

    def __str__(self) -> str:
        """Write it as a sequence set: `1:3,5` (RFC 9051 §9); empty text for no number."""
        return ",".join(str(lo) if lo == hi else f"{lo}:{hi}" for lo, hi in self.ranges)


@attrs.frozen
class SequenceSet:
    """A sequence set as the client wrote it (RFC 9051 §9, `sequence-set`).

    Attributes:
        ranges: pairs in the order written; either end may be `STAR`, ends may be reversed.
    """

    ranges: tuple[tuple[int, int], ...]

    def resolve(self, largest: int) -> NumSet:
        """Give the meaning for a mailbox whose largest number in use is `largest`.

        `*` is `largest`, also when the other end is above it, so that `n:*` always holds
        the last message (T13). With `largest` 0 (an empty mailbox) `*` stands for nothing.
        """
        out: list[tuple[int, int]] = []
        for first, second in self.ranges:
            if not largest and STAR in (first, second):
                continue
            low, high = first or largest, second or largest
            out.append((low, high) if low <= high else (high, low))
        return NumSet.from_ranges(out)

    @property
    def highest_named(self) -> int:
        """The highest number that is spelled out; 0 if only `*` was given."""
        return max(map(max, self.ranges), default=0)
