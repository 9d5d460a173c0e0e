"""Reading a message without copying it.

A message is given as `bytes`, or as an `mmap` or `memoryview` when it is large. The
parser needs only four things of it, which `bytes` has already; `Windows` gives them
for the others, a window of octets at a time, so that a body of 1 GB costs one window
of memory, and searching runs at the speed of `bytes.find` (the one of `mmap` compares
octet by octet).
"""

from __future__ import annotations

import mmap
from typing import Protocol

Octets = bytes | mmap.mmap | memoryview
"""A whole message, in memory or mapped."""

COPIED = 1 << 20
"""Octets; a mapped message up to this size is simply copied."""

WINDOW = 1 << 20
"""Octets looked at in one step of a larger one."""


class Buffer(Protocol):
    """What is asked of a message's octets; offsets lie within its length."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...

    def find(self, sub: bytes, start: int, end: int, /) -> int:
        """Offset of the first `sub` within `start`..`end`, or -1."""
        ...

    def count(self, sub: bytes, start: int, end: int, /) -> int:
        """How often the single octet `sub` occurs within `start`..`end`."""
        ...


class Windows:
    """`Buffer` over an mmap or a memoryview of octets."""

    def __init__(self, octets: mmap.mmap | memoryview) -> None:
        self._view = memoryview(octets)

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, key: slice, /) -> bytes:
        return bytes(self._view[key])

    def find(self, sub: bytes, start: int, end: int, /) -> int:
        """Offset of the first `sub` within `start`..`end`, or -1."""
        overlap = len(sub) - 1
        while start + overlap < end:
            stop = min(start + WINDOW + overlap, end)
            found = bytes(self._view[start:stop]).find(sub)
            if found >= 0:
                return start + found
            start = stop - overlap
        return -1

    def count(self, sub: bytes, start: int, end: int, /) -> int:
        """How often the single octet `sub` occurs within `start`..`end`."""
        return sum(
            bytes(self._view[at : min(at + WINDOW, end)]).count(sub)
            for at in range(start, end, WINDOW)
        )


def buffer_of(octets: Octets) -> Buffer:
    """`octets` as a `Buffer`; small ones become `bytes`, large ones stay where they are."""
    if isinstance(octets, bytes):
        return octets
    if len(octets) <= COPIED:
        return bytes(octets)
    return Windows(octets)
