"""Octets from a stream, given out as lines and counted pieces; shared by line protocols.

Knows nothing of any protocol. Invariants:

- Octets stay unread until they are asked for, so that STARTTLS can refuse them (T1).
- Whatever packets the octets came in, the same questions get the same answers.
- Every octet is looked at a bounded number of times (S5), and nothing that is asked for
  makes the buffer grow beyond what was fed since plus one line.

A line ends with LF; a CR before it belongs to the ending. People who type into a plain
connection send LF alone; a protocol in which that can smuggle must look for itself.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

TAIL = 64
"""Octets that `LineBuffer.skip_line` keeps of the end of a line; also the smallest limit."""

_LF = 0x0A
_CR = 0x0D


class LineFault(Enum):
    """Why there is no line."""

    TOO_LONG = auto()


TOO_LONG: Final = LineFault.TOO_LONG


class LineBuffer:
    """What came in and was not asked for yet."""

    __slots__ = ("_octets", "_searched")

    def __init__(self) -> None:
        self._octets = bytearray()
        self._searched = 0  # no LF before this offset

    def feed(self, octets: bytes) -> None:
        """Add octets at the end."""
        self._octets += octets

    def __len__(self) -> int:
        """Octets not yet asked for."""
        return len(self._octets)

    def take_line(self, limit: int) -> bytes | LineFault | None:
        """Take a line, without its ending.

        Args:
            limit: octets that it may have, at least `TAIL`.

        Returns:
            None if its end has not come yet, TOO_LONG if it has or will have more octets
            than the limit: it then stays, to be passed by `skip_line`.
        """
        octets = self._octets
        at = octets.find(b"\n", self._searched)
        if at < 0:
            self._searched = len(octets)
            # one more may be the CR of the ending
            too_long = len(octets) > limit + 1 or (len(octets) > limit and octets[-1] != _CR)
            return TOO_LONG if too_long else None
        end = at - 1 if at and octets[at - 1] == _CR else at
        if end > limit:
            return TOO_LONG
        line = bytes(octets[:end])
        del octets[: at + 1]
        self._searched = 0
        return line

    def skip_line(self) -> bytes | None:
        """Pass a line without keeping it.

        Returns:
            Its last octets, at most `TAIL`, without the ending; None if its end has not
            come yet: then feed more and call again.
        """
        octets = self._octets
        at = octets.find(b"\n", self._searched)
        if at < 0:
            del octets[: -TAIL - 1]
            self._searched = len(octets)
            return None
        end = at - 1 if at and octets[at - 1] == _CR else at
        tail = bytes(octets[max(0, end - TAIL) : end])
        del octets[: at + 1]
        self._searched = 0
        return tail

    def first(self, count: int) -> bytes:
        """Look at up to `count` octets without taking them."""
        return bytes(self._octets[:count])

    def take(self, count: int) -> bytes:
        """Take up to `count` octets, as many as are there."""
        out = bytes(self._octets[:count])
        del self._octets[:count]
        self._searched = 0
        return out

    def drop(self, count: int) -> int:
        """Forget up to `count` octets and return how many were there."""
        count = min(count, len(self._octets))
        del self._octets[:count]
        self._searched = 0
        return count
