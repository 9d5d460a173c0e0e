"""IMAP framing: octets in, command lines and literals out (RFC 3501 §4.3, RFC 7888).

Knows nothing of commands or sockets. The owner feeds octets and asks for events until it
gets `NEED_DATA`.

A command is lines with literals between them. At each literal the reader stops with
`LiteralWanted`, and the owner says where it goes: `keep` puts it into the command's octets,
`stream` hands it out in `LiteralPart`s (a message of APPEND), `refuse` gives the command up.
When the command is complete its octets come as one `Line`, literals in their places as
`{5}` CRLF and five octets. What stood before a streamed literal is forgotten with it: the
next event has only what follows.

Invariants:

- Octets after the last event are kept, unread, until the caller asks again, so that
  STARTTLS can refuse them (T1, S1).
- Octets that were announced as a literal are never read as commands, whatever was wrong
  with the command (T17): a refused one is swallowed, unless the client waits for `+` and
  so never sends it.
- Any packet split gives the same events but for the cuts between `LiteralPart`s.
- What is kept never exceeds the limits (S3) and what was fed since `NEED_DATA`.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import attrs

from mailserver.model.ids import MAX_MODSEQ
from mailserver.wire.lines import TOO_LONG, LineBuffer

HEAD = 256
"""Octets of a command that `TooLong` keeps: enough for its tag."""

# "{" number ["+"] "}" at the end of a line; "~" before it makes it a literal8
_LITERAL_AT_END = re.compile(rb"\{0*+([0-9]*+)(\+?)\}\Z")


@attrs.frozen
class Limits:
    """How much a client may send in one command (S3); all in octets but `literals`.

    Attributes:
        line: one line, or the piece between two literals, without CRLF.
        literal: one literal that is kept; streamed ones are the owner's to limit.
        command: the whole command without streamed literals.
        literals: number of literals, streamed ones included.
    """

    line: int
    literal: int
    command: int
    literals: int


BEFORE_LOGIN = Limits(line=8 * 1024, literal=4 * 1024, command=16 * 1024, literals=8)
AFTER_LOGIN = Limits(line=64 * 1024, literal=256 * 1024, command=256 * 1024, literals=1000)


@attrs.frozen
class Line:
    """A complete command without its final CRLF, or what followed its last streamed
    literal. Empty lines are events too; clients send them, and they mean nothing (T54).
    """

    octets: bytes = attrs.field(repr=False)  # may hold a password (S13)


@attrs.frozen
class LiteralWanted:
    """A literal was announced: call `keep`, `stream` or `refuse` before anything else.

    Attributes:
        size: octets announced, capped at 2^63-1.
        synchronizing: the client waits for `+ ` before it sends them (T17).
        binary: it is a literal8 (RFC 3516 §4.4).
        first: it is the first literal of its command.
    """

    size: int
    synchronizing: bool
    binary: bool
    first: bool


@attrs.frozen
class LiteralPart:
    """A piece of a streamed literal; empty only for a literal of no octets."""

    octets: bytes
    last: bool


@attrs.frozen
class TooLong:
    """A line or command over the limits: answer BAD, the rest is being swallowed.

    Attributes:
        octets: the first octets of the command, at most `HEAD`.
    """

    octets: bytes = attrs.field(repr=False)


class Signal(Enum):
    """Events that carry nothing."""

    NEED_DATA = auto()  # feed more


NEED_DATA: Final = Signal.NEED_DATA

Event = Line | LiteralWanted | LiteralPart | TooLong | Signal


class _State(Enum):
    LINE = auto()  # a line of a command comes next
    WANTED = auto()  # the owner has to decide about a literal
    KEEP = auto()  # octets of a literal go into the command
    STREAM = auto()  # octets of a literal go out
    SWALLOW = auto()  # octets of a literal are dropped, then SKIP
    SKIP = auto()  # the rest of a line is dropped


class CommandReader:
    """The reader of one connection, server side.

    Attributes:
        limits: may be replaced at any time, for instance after login.
    """

    __slots__ = (
        "_buffer",
        "_command",
        "_left",
        "_literals",
        "_size",
        "_state",
        "_synchronizing",
        "limits",
    )

    def __init__(self, limits: Limits = BEFORE_LOGIN) -> None:
        self.limits = limits
        self._buffer = LineBuffer()
        self._state = _State.LINE
        self._command: list[bytes] = []  # pieces of the command that are kept
        self._size = 0  # octets of the command so far, streamed literals left out
        self._literals = 0  # of the command so far
        self._left = 0  # octets of the current literal that did not come yet
        self._synchronizing = False

    # -- octets --------------------------------------------------------------------------

    def feed(self, octets: bytes) -> None:
        """Take octets from the connection."""
        self._buffer.feed(octets)

    @property
    def has_unread(self) -> bool:
        """Whether octets came that no event has covered yet (S1)."""
        return len(self._buffer) > 0

    @property
    def command_so_far(self) -> bytes:
        """The octets of the unfinished command, up to and with the announcement of the
        literal that is wanted; after a streamed literal only what follows it.

        Each use joins them: for the first literals of a command, not for all of many.
        """
        return b"".join(self._command)

    # -- events --------------------------------------------------------------------------

    def next_event(self) -> Event:
        """Give the next event.

        Raises:
            RuntimeError: a `LiteralWanted` has not been decided.
        """
        while True:
            match self._state:
                case _State.LINE:
                    return self._next_line() if self._buffer else NEED_DATA
                case _State.STREAM:
                    return self._next_part()
                case _State.WANTED:
                    raise RuntimeError("keep, stream or refuse the literal first")
                case _State.KEEP:
                    if not self._keep_more():
                        return NEED_DATA
                case _:
                    if not self._swallow_more():
                        return NEED_DATA

    def next_line(self, limit: int | None = None) -> Line | TooLong | Signal:
        """Give the next line as it is, without looking for literals: DONE of IDLE, or an
        answer to an AUTHENTICATE challenge.

        Args:
            limit: octets that it may have; None for that of the limits.

        Raises:
            RuntimeError: a command has been begun.
        """
        while self._state in (_State.SWALLOW, _State.SKIP):
            if not self._swallow_more():
                return NEED_DATA
        if self._state is not _State.LINE or self._command:
            raise RuntimeError("the command before this line is not complete")
        line = self._buffer.take_line(self.limits.line if limit is None else limit)
        if line is None:
            return NEED_DATA
        if line is TOO_LONG:
            self._state = _State.SKIP
            return TooLong(b"")
        return Line(line)

    # -- decisions -----------------------------------------------------------------------

    def keep(self) -> bool:
        """Put the wanted literal into the command; the caller sends `+ ` if it is
        synchronizing. False if that would pass the limits: it was then refused instead.
        """
        self._check_wanted()
        limits = self.limits
        self._size += self._left
        if (
            self._left > limits.literal
            or self._size > limits.command
            or self._literals > limits.literals
        ):
            self.refuse()
            return False
        self._state = _State.KEEP
        return True

    def stream(self) -> bool:
        """Hand the wanted literal out in parts and forget the octets before it; the caller
        sends `+ ` if it is synchronizing. False if the command already has too many
        literals: it was then refused instead.
        """
        self._check_wanted()
        if self._literals > self.limits.literals:
            self.refuse()
            return False
        self._command.clear()
        self._state = _State.STREAM
        return True

    def refuse(self) -> None:
        """Give the unfinished command up, at a `LiteralWanted`, among the parts of a
        streamed literal or after them. The caller answers at once.

        What the client still sends of the command is swallowed (T17). A client that waits
        for `+` sends nothing more of it.
        """
        if self._state is _State.WANTED and self._synchronizing:
            self._state = _State.LINE
        elif self._state in (_State.WANTED, _State.STREAM):
            self._state = _State.SWALLOW
        elif self._state is _State.LINE and self._literals:
            self._state = _State.SKIP
        else:
            raise RuntimeError("there is no unfinished command to refuse")
        self._forget_command()

    def take_as_text(self) -> Line:
        """Say that what looked like the announcement of a literal was text that ends the
        line: a response's text for people may look so. Gives the complete line.
        """
        self._check_wanted()
        del self._command[-1]
        line = self.command_so_far
        self._forget_command()
        self._state = _State.LINE
        return Line(line)

    def _check_wanted(self) -> None:
        if self._state is not _State.WANTED:
            raise RuntimeError("no literal is wanted")

    # -- inside --------------------------------------------------------------------------

    def _next_line(self) -> Line | LiteralWanted | TooLong | Signal:
        line = self._buffer.take_line(self.limits.line)
        if line is None:
            return NEED_DATA
        if line is TOO_LONG:
            return self._too_long(_State.SKIP, self._buffer.first(min(HEAD, self.limits.line)))
        self._size += len(line)
        announced = self._announcement(line)
        if self._size > self.limits.command:
            following = _State.LINE
            if announced is not None and not self._synchronizing:
                following = _State.SWALLOW
            return self._too_long(following, line)
        if announced is None:
            command = self._command
            if command:
                command.append(line)
                line = b"".join(command)
            self._forget_command()
            return Line(line)
        self._command += (line, b"\r\n")
        self._literals += 1
        self._state = _State.WANTED
        return LiteralWanted(self._left, self._synchronizing, announced, self._literals == 1)

    def _announcement(self, line: bytes) -> bool | None:
        """Look whether the line ends with the announcement of a literal, and take its size.

        Returns:
            Whether it is a literal8; None if there is none.
        """
        if not line.endswith(b"}"):
            return None
        at = line.rfind(b"{")
        match = _LITERAL_AT_END.match(line, at) if at >= 0 else None
        if match is None or line[at + 1] == 0x2B or line[at + 1] == 0x7D:  # no digit
            return None
        digits = match[1] or b"0"
        self._left = min(int(digits), MAX_MODSEQ) if len(digits) <= 19 else MAX_MODSEQ
        self._synchronizing = not match[2]
        return at > 0 and line[at - 1] == 0x7E

    def _too_long(self, following: _State, line: bytes) -> TooLong:
        head = b"".join((*self._command, line[:HEAD]))[:HEAD]
        self._forget_command()
        self._state = following
        return TooLong(head)

    def _forget_command(self) -> None:
        self._command.clear()
        self._size = 0
        self._literals = 0

    def _keep_more(self) -> bool:
        """Move the literal into the command once all of it is there; False until then.

        It waits in the buffer: a piece for each packet would cost a client that sends
        single octets 50 octets of ours each.
        """
        if len(self._buffer) < self._left:
            return False
        self._command.append(self._buffer.take(self._left))
        self._state = _State.LINE
        return True

    def _next_part(self) -> LiteralPart | Signal:
        octets = self._buffer.take(self._left)
        if not octets and self._left:
            return NEED_DATA
        self._left -= len(octets)
        if not self._left:
            self._state = _State.LINE
        return LiteralPart(octets, not self._left)

    def _swallow_more(self) -> bool:
        """Drop octets of a refused command; False if more have to come first."""
        if self._state is _State.SWALLOW:
            self._left -= self._buffer.drop(self._left)
            if self._left:
                return False
            self._state = _State.SKIP
        tail = self._buffer.skip_line()
        if tail is None:
            return False
        if self._announcement(tail) is not None and not self._synchronizing:
            self._state = _State.SWALLOW
        else:
            self._state = _State.LINE
        return True
