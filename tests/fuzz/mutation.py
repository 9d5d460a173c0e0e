"""Spoiling what a parser understands, so that it gets behind the first octets."""

from __future__ import annotations

import random
from collections.abc import Sequence

SPICE = (
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"  ", b"\t", b'"', b"\\", b"'", b"(", b")",
    b"<", b">", b"[", b"]", b"{", b"}", b",", b";", b":", b".", b"@", b"=", b"-", b"+", b"*",
    b"%", b"&", b"/", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"e\xcc\x81", b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"0", b"00", b"-1", b"4294967295",
    b"4294967296", b"9223372036854775807", b"9223372036854775808", b"9" * 30, b"1e999", b"A" * 300,
)  # fmt: skip

LARGE = 20_000
"""Octets of an input that has a piece repeated again and again."""

MAX = 40_000
"""Octets of the longest input."""


class Mutator:
    """An endless row of inputs, made of a corpus.

    One in 200 is large: something of it stands there thousands of times, because that is
    what makes a careless parser take quadratic time.
    """

    def __init__(
        self, source: random.Random, corpus: Sequence[bytes], words: Sequence[bytes] = ()
    ) -> None:
        self._source = source
        self._corpus = list(corpus)
        self._words = [*SPICE, *words, *words]

    def next(self) -> bytes:
        """Make the next input."""
        source = self._source
        octets = bytearray(source.choice(self._corpus))
        for _ in range(source.choice((1, 1, 1, 2, 2, 3, 5, 9))):
            self._spoil(octets)
        if source.random() < 0.005:
            self._inflate(octets)
        return bytes(octets[:MAX])

    def _spoil(self, octets: bytearray) -> None:
        source = self._source
        at = source.randint(0, len(octets))
        length = source.choice((0, 0, 1, 1, 2, 4, 10, 40))
        match source.randrange(8):
            case 0 | 1:
                octets[at : at + length] = source.choice(self._words)
            case 2:
                octets[at : at + length] = source.randbytes(source.choice((1, 1, 2, 8)))
            case 3:
                other = source.choice(self._corpus)
                octets[at:] = other[source.randint(0, len(other)) :]
            case 4:
                octets[at:at] = octets[at : at + length] * source.randint(1, 9)
            case 5:
                del octets[at : at + length]
            case 6 if octets:
                octets[min(at, len(octets) - 1)] ^= 1 << source.randrange(8)
            case _:
                other = source.choice(self._corpus)
                start = source.randint(0, len(other))
                octets[at:at] = other[start : start + source.choice((2, 8, 30))]

    def _inflate(self, octets: bytearray) -> None:
        source = self._source
        at = source.randint(0, len(octets))
        if source.random() < 0.5:
            piece = b"".join(source.choices(self._words, k=source.choice((1, 1, 2, 3))))
        else:
            piece = bytes(octets[at : at + source.choice((1, 2, 5, 20))])
        octets[at:at] = piece * (LARGE // max(1, len(piece)))
