"""Messages as POP3 sends them: dot-stuffed, ended by a line break (RFC 1939 §3, T43)."""

from __future__ import annotations

_LINE_END = b"\r\n"


class DotStuffer:
    """Puts a dot before each line that begins with one, piece by piece.

    Lines end with CRLF, as every stored message's do (T31). A piece costs one search and
    one replacement at the speed of memory, whatever the length of its lines.
    """

    __slots__ = ("_before",)

    def __init__(self) -> None:
        # The last octets so far, at most two: what a line break can begin in. Never handed
        # out again. A message is read as if a CRLF stood before it.
        self._before = _LINE_END

    def stuff(self, octets: bytes) -> bytes:
        """Take the next piece of the message; returns it as it is sent."""
        before = self._before
        whole = before + octets
        self._before = whole[-2:]
        return whole.replace(b"\r\n.", b"\r\n..")[len(before) :]

    @property
    def is_at_line_start(self) -> bool:
        """What came so far is nothing, or ends with a line break."""
        return self._before == _LINE_END


def first_lines(octets: bytes, count: int) -> tuple[bytes, int]:
    """The first lines of a piece of text.

    Args:
        octets: lines that end with CRLF; the last may be cut off.
        count: how many line ends are wanted, 0 or more.

    Returns:
        The octets up to the last line end that is wanted, and how many are still missing.
    """
    found = octets.count(b"\n")
    if found < count:
        return octets, count - found
    rest = octets.split(b"\n", count)[-1]
    return octets[: len(octets) - len(rest)], 0
