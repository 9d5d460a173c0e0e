"""LMTP framing: octets in, command lines and message data out (RFC 5321 §4.1, RFC 3030 §2).

Knows nothing of commands or sockets. The reader is in one of three modes: lines, data
(after the 354 reply) and chunk (after a BDAT line). The owner switches it by `start_data`
and `start_chunk`; it falls back to lines by itself at the end of the data or the chunk.

Invariants:

- Only CRLF ends a line and only CRLF "." CRLF ends data; a bare CR or LF never does (S10,
  T47). A bare LF in a command line is reported, for whoever sends one is not speaking
  LMTP, or somebody else's octets speak through him.
- Octets after the last event are kept, unread, until the caller asks again, so that
  STARTTLS can refuse them (T1).
- What is kept never grows beyond what was fed since the last `NEED_DATA` plus one line of
  `max_line` octets.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import attrs


@attrs.frozen
class Line:
    """A command line, without its CRLF."""

    octets: bytes


@attrs.frozen
class DataPart:
    """A piece of the message, transparency dots removed (RFC 5321 §4.5.2); never empty."""

    octets: bytes


class Signal(Enum):
    """Events that carry nothing."""

    NEED_DATA = auto()  # feed more
    LINE_TOO_LONG = auto()  # a command line over the limit was swallowed, to its end
    BARE_LF = auto()  # a command line ended, or was broken, by LF without CR
    DATA_END = auto()  # CRLF "." CRLF, or the last octet of a chunk


NEED_DATA: Final = Signal.NEED_DATA
LINE_TOO_LONG: Final = Signal.LINE_TOO_LONG
BARE_LF: Final = Signal.BARE_LF
DATA_END: Final = Signal.DATA_END

ReaderEvent = Line | DataPart | Signal


_END: Final = b"\r\n.\r\n"


def _held_back(octets: bytes) -> int:
    """How many octets at the end may begin `_END`, so that they must wait for more."""
    for length in range(min(len(_END) - 1, len(octets)), 0, -1):
        if octets.endswith(_END[:length]):
            return length
    return 0


class LmtpReader:
    """Cuts one connection's octets into events.

    Args:
        max_line: octets that a command line may have, its CRLF included (S3).
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._buffer = b""
        self._start = 0  # of what is unread in the buffer
        self._scanned = 0  # no LF between _start and here
        self._skipping = False  # in a line that is too long
        self._in_data = False
        self._chunk_left: int | None = None  # 0: DATA_END comes next
        # Data is read as if a CRLF stood before it: then a first line that begins with a
        # dot is like any other. These octets are never handed out.
        self._put_before = 0

    @property
    def unread(self) -> int:
        """Octets that were fed and are in no event yet."""
        return len(self._buffer) - self._start - self._put_before

    def feed(self, octets: bytes) -> None:
        """Add what the network brought."""
        if self._start == len(self._buffer):
            self._buffer = octets
        else:
            self._buffer = self._buffer[self._start :] + octets
        self._scanned = max(self._scanned - self._start, 0)
        self._start = 0

    def start_data(self) -> None:
        """Read message data from here on, until `DATA_END` (RFC 5321 §4.1.1.4)."""
        self._in_data = True
        self._buffer = b"\r\n" + self._buffer[self._start :]
        self._start = 0
        self._put_before = 2

    def start_chunk(self, size: int) -> None:
        """Read `size` octets of message from here on, until `DATA_END` (RFC 3030 §2)."""
        self._chunk_left = size

    def next(self) -> ReaderEvent:
        """Return the next event; `NEED_DATA` when what was fed is used up."""
        if self._chunk_left is not None:
            return self._next_of_chunk(self._chunk_left)
        if self._in_data:
            return self._next_of_data()
        return self._next_line()

    def _next_line(self) -> ReaderEvent:
        buffer, start = self._buffer, self._start
        end = buffer.find(b"\n", max(start, self._scanned))
        if end < 0:
            self._scanned = len(buffer)
            if self._skipping or len(buffer) - start > self._max_line:
                self._skipping = True
                self._start = max(start, len(buffer) - 1)  # perhaps the CR of the CRLF
            return NEED_DATA
        self._start = end + 1
        too_long = self._skipping or end + 1 - start > self._max_line
        self._skipping = False
        if end == start or buffer[end - 1] != 0x0D:
            return BARE_LF
        return LINE_TOO_LONG if too_long else Line(buffer[start : end - 1])

    def _next_of_data(self) -> ReaderEvent:
        buffer, start = self._buffer, self._start
        found = buffer.find(_END, start)
        stop = found + 2 if found >= 0 else len(buffer) - _held_back(buffer[-4:])
        # The one place where octets are copied: a search and a replacement at the speed
        # of memory, whatever the length of the lines.
        part = buffer[start:stop].replace(b"\r\n.", b"\r\n")[self._put_before :]
        if stop > start:
            self._put_before = 0
        self._start = stop
        if found >= 0:
            self._in_data = False
            self._start = self._scanned = found + len(_END)
            self._chunk_left = 0
        if part:
            return DataPart(part)
        return self.next() if found >= 0 else NEED_DATA

    def _next_of_chunk(self, left: int) -> ReaderEvent:
        if left == 0:
            self._chunk_left = None
            self._scanned = self._start
            return DATA_END
        part = self._buffer[self._start : self._start + left]
        if not part:
            return NEED_DATA
        self._start += len(part)
        self._chunk_left = left - len(part)
        return DataPart(part)
