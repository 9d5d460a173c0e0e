r"""FETCH and UID FETCH (RFC 3501 §6.4.5, RFC 3516 §4.2).

The answer goes out in slices: a slice is read by one call of the store, written as one
piece, and the next is read when the client has taken it (T52). Messages that are expunged,
which the client has not been told, are left out; the tagged OK then says EXPUNGEISSUED
(T5, RFC 5530 §3). What cannot be read or decoded of a message is left out too, and the
command ends with NO: one damaged message does not keep the others from being read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import compress

import attrs
from twisted.internet.defer import Deferred

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent
from mailserver.model.acl import Right
from mailserver.model.flags import FlagOp, Flags, System
from mailserver.model.ids import Uid
from mailserver.model.message import Column
from mailserver.model.numset import NumSet
from mailserver.server.imap.items.cuts import PIECE, Cut
from mailserver.server.imap.items.fetch import Plan, Slice
from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.server.imap.view import GONE, View
from mailserver.wire.imap.commands import Fetch, FetchAtt, FetchItem
from mailserver.wire.imap.grammar.fetch import parse_fetch
from mailserver.wire.imap.responses import EXPUNGEISSUED, Status

SLICE = 1000
"""Messages of one slice. The store would give 2,000 in one call; half of that holds the
reactor for 6 to 9 ms and costs 3 % more in all."""

HEADERS = 16 << 20
"""Octets of messages whose headers are in memory at a time; a header may be nearly all of
its message."""

HOLD = 0.01
"""Seconds after which what is cut out of messages gives way to other work: a command may
ask for thousands of items, each of which costs a decoding."""

CONTENTS = 1 << 20
"""Octets of messages that are read at once."""

CONTENTS_MESSAGES = 128
"""Messages that are asked for at once when their octets are read."""


async def fetch(session: Session, command: Fetch) -> Status | None:
    """Answer the items of each message that is there."""
    view = session.selected
    may_mark = not view.read_only and Right.SEEN in view.mailbox.rights
    plan = _plan(command.items, command.by_uid, may_mark)
    spans = view.find(command.numbers, by_uid=command.by_uid)
    seen = await _mark_seen(session, view, spans) if plan.marks_seen else frozenset()
    return await _Answer(session, view, plan, seen).send(spans)


async def tell_flags(
    session: Session, spans: Sequence[tuple[int, int]], *, by_uid: bool
) -> Status | None:
    """Answer FLAGS of the messages at spans of positions, as after a STORE."""
    plan = _plan((FetchAtt.FLAGS,), by_uid, False)
    return await _Answer(session, session.selected, plan, frozenset()).send(spans)


@lru_cache(maxsize=128)
def _plan(items: tuple[FetchItem, ...], by_uid: bool, may_mark: bool) -> Plan:
    """Clients ask for the same few things again and again: 20 µs spared each time."""
    return Plan.of(items, by_uid=by_uid, may_mark=may_mark)


def _slices(spans: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield the sequence numbers of spans of positions, at most `SLICE` at a time."""
    numbers: list[int] = []
    for start, end in spans:
        while start < end:
            stop = min(end, start + SLICE - len(numbers))
            numbers += range(start + 1, stop + 1)
            start = stop
            if len(numbers) == SLICE:
                yield numbers
                numbers = []
    if numbers:
        yield numbers


async def _mark_seen(
    session: Session, view: View, spans: Sequence[tuple[int, int]]
) -> frozenset[int]:
    r"""Set `\Seen` where it is not set, in one go; return the UIDs that have it from now on.

    Reading goes on where it cannot be set: a full disk must not keep mail from its owner.
    """
    table = view.image.flag_table
    unseen: list[int] = []
    for start, end in spans:
        ids = view.flag_ids(start, end)
        wanted = {i for i in set(ids) if i != GONE and not table[i].system & System.SEEN}
        if wanted:
            unseen += [u for u, i in zip(view.uids[start:end], ids, strict=True) if i in wanted]
    if not unseen:
        return frozenset()
    try:
        stored = await session.store.store_flags(
            session.who, view.image, NumSet.of(unseen), FlagOp.ADD, Flags(System.SEEN)
        )
    except MailError:
        return frozenset()
    view.told_flags(stored.changed, stored.mod_sequence)
    return frozenset(stored.changed)


@attrs.define
class _Answer:
    """What has been answered of one FETCH so far.

    Attributes:
        left_out: messages that are gone.
        failure: the first thing that could not be read or decoded.
        until: seconds of the clock when other work is to get a turn.
        held: whole responses that are not sent yet: small messages go out together.
        held_size: octets of messages in them.
    """

    session: Session
    view: View
    plan: Plan
    seen: frozenset[int]
    left_out: int = 0
    failure: MailError | None = None
    until: float = 0.0
    held: list[bytes] = attrs.field(factory=list)
    held_size: int = 0

    async def send(self, spans: Sequence[tuple[int, int]]) -> Status | None:
        """Answer the messages at spans of positions.

        Returns:
            OK with EXPUNGEISSUED if some are gone, else None.

        Raises:
            MailError: what could not be read or decoded.
        """
        for number, numbers in enumerate(_slices(spans)):
            if number:
                await self._turn()
            if Column.HEADER in self.plan.columns:
                for portion in await self._portions(numbers):
                    await self._send_slice(portion)
            else:
                await self._send_slice(numbers)
        if self.failure is not None:
            raise self.failure
        if self.left_out:
            return ok("some of the messages are no longer there", EXPUNGEISSUED)
        return None

    async def _portions(self, numbers: Sequence[int]) -> list[list[int]]:
        """Cut a slice so that all headers of a portion can be in memory (T52)."""
        session, uids = self.session, self._uids(numbers)
        rows = await session.store.fetch(session.who, self.view.image, uids, (Column.SIZE,))
        sizes: dict[int, int] = dict(rows)
        portions: list[list[int]] = [[]]
        total = 0
        for number, uid in zip(numbers, uids, strict=True):
            size = sizes.get(uid, 0)
            if portions[-1] and total + size > HEADERS:
                portions.append([])
                total = 0
            portions[-1].append(number)
            total += size
        return portions

    async def _send_slice(self, numbers: Sequence[int]) -> None:
        asked = len(numbers)
        numbers, part = await self._read(numbers)
        self.left_out += asked - len(numbers)
        if not numbers:
            return
        if self.plan.needs_flags:
            self.session.send(self.view.keyword_news())
        lines = self.plan.lines(numbers, part)
        if self.plan.cutters:
            await self._send_with_octets(lines, part)
        else:
            for octets in _pieces(lines):
                self.session.send((octets,))
                await self.session.drained()

    def _uids(self, numbers: Sequence[int]) -> Sequence[Uid]:
        uids, first, last = self.view.uids, numbers[0], numbers[-1]
        if last - first == len(numbers) - 1:
            return uids[first - 1 : last]  # type: ignore[return-value]
        return [uids[number - 1] for number in numbers]  # type: ignore[misc]

    def _flag_ids(self, numbers: Sequence[int]) -> Sequence[int]:
        view, first, last = self.view, numbers[0], numbers[-1]
        if last - first == len(numbers) - 1:
            return view.flag_ids(first - 1, last)
        return [view.flag_ids(number - 1, number)[0] for number in numbers]

    async def _read(self, numbers: Sequence[int]) -> tuple[Sequence[int], Slice]:
        """Read what the fields need of those messages that are there."""
        session, view, plan = self.session, self.view, self.plan
        uids = self._uids(numbers)
        ids: Sequence[int] = ()
        there: set[int] | None = None
        columns: dict[Column, Sequence[object]] = {}
        if plan.columns:
            rows = await session.store.fetch(session.who, view.image, uids, plan.columns)
            if len(rows) != len(uids):
                there = {row[0] for row in rows}
        if plan.needs_flags:
            ids = self._flag_ids(numbers)
            if GONE in ids:
                known: set[int] = {uid for uid, i in zip(uids, ids, strict=True) if i != GONE}
                there = known if there is None else there & known
        if there is not None:
            kept = [uid in there for uid in uids]
            numbers, uids = list(compress(numbers, kept)), list(compress(uids, kept))
            ids = list(compress(ids, kept))
            if plan.columns:
                rows = [row for row in rows if row[0] in there]
        if plan.columns and rows:
            columns = dict(zip(plan.columns, list(zip(*rows, strict=True))[1:], strict=True))
        return numbers, Slice(uids, _flags(view, uids, ids), self.seen, columns)

    async def _send_with_octets(self, lines: Sequence[bytes], part: Slice) -> None:
        """Send the lines with what is cut out of the messages' octets."""
        session, uids = self.session, part.uids
        sections = part.columns.get(Column.SECTIONS)
        self.until = session.services.clock.seconds() + HOLD
        at, width = 0, CONTENTS_MESSAGES
        while at < len(uids):
            asked = uids[at : at + width]
            try:
                contents = await session.store.contents(
                    session.who, self.view.image, asked, CONTENTS
                )
            except MailError as error:
                if error.kind is not ErrorKind.CORRUPT:
                    raise
                if width == 1:
                    self.failure = self.failure or error
                    at += 1
                width = 1  # to find which of them it is
                continue
            try:
                for uid, content in contents:
                    while uids[at] != uid:  # it is gone
                        self.left_out += 1
                        at += 1
                    await self._send_message(content, lines[at], sections[at] if sections else b"")
                    at += 1
            finally:
                self._send_held()
                for _, content in contents:
                    content.close()
            if not contents:
                self.left_out += len(asked)
                at += len(asked)
            await session.drained()
            if at < len(uids):
                await self._turn()

    async def _send_message(self, content: IContent, line: bytes, sections: bytes) -> None:
        """Send one message: the beginning of its line, and the cuts.

        A cut that fails is left out. When octets are missing in the middle of one, the
        error goes through: what was announced cannot be kept, the connection must end.
        """
        session, seconds = self.session, self.session.services.clock.seconds
        parts = [line]
        gap = b"" if line.endswith((b"(", b" ")) else b" "
        size = 0
        for cutter in self.plan.cutters:
            if seconds() > self.until:
                await self._turn()
            try:
                cut = cutter(content, sections, self._turn)
                if not isinstance(cut, Cut):
                    cut = await cut
            except MailError as error:
                self.failure = self.failure or error
                continue
            parts += (gap, cut.lead)
            gap = b" "
            size += len(cut.lead)
            for piece in cut.pieces:
                parts.append(piece)
                size += len(piece)
                if size >= PIECE:
                    self._send_held()
                    session.send_part(parts)
                    parts.clear()
                    size = 0
                    await session.drained()
            if cut.file is not None:
                self._send_held()
                session.send_part(parts)
                parts.clear()
                size = 0
                await session.send_file(cut.file)
        if not gap:  # none of the cuts is left
            if line.endswith(b"("):
                return
            parts = [line.rstrip(b" ")]
        parts.append(b")\r\n")
        self.held += parts
        self.held_size += size
        if self.held_size >= PIECE:
            self._send_held()
            await session.drained()

    def _send_held(self) -> None:
        if self.held:
            self.session.send(self.held)
            self.held.clear()
            self.held_size = 0

    async def _turn(self) -> None:
        """Let the reactor do other work."""
        over: Deferred[None] = Deferred()
        self.session.services.clock.callLater(0, over.callback, None)
        await over
        self.until = self.session.services.clock.seconds() + HOLD


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to pieces of some `PIECE` octets: what a client that reads slowly has not
    taken is kept in memory, and it is given minutes for it (T52)."""
    parts: list[bytes] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size >= PIECE:
            yield b"".join(parts)
            parts.clear()
            size = 0
    yield b"".join(parts)


def _flags(view: View, uids: Sequence[int], ids: Sequence[int]) -> Sequence[bytes]:
    """FLAGS of each message as written; nothing where no ids are given."""
    if not ids:
        return ()
    written = {i: view.flags_octets(i, 0) for i in set(ids)}
    recent = set(view.recent & NumSet.of(uids)) if view.recent else set()
    if not recent:
        return [written[i] for i in ids]
    one = min(recent)
    fresh = {i: view.flags_octets(i, one) for i in written}
    return [fresh[i] if uid in recent else written[i] for i, uid in zip(ids, uids, strict=True)]


SPECS = (
    CommandSpec(b"FETCH", parse_fetch, fetch, SELECTED, uses_seqs=True, breaks_seqs=False),
    CommandSpec(b"UID FETCH", parse_fetch, fetch, SELECTED, uses_seqs=True),
)
PROVIDES = (b"BINARY",)
