"""One mailbox in memory, shared by all sessions of the process that have it open.

Theory of operation. The image is three parallel arrays (UID, flags, mod-sequence). It is
loaded from the packed snapshot row, or by slices of rows, and then kept up to date by
reading what has a mod-sequence above its own: changed rows by the index on mod-sequence,
expunges by tombstones. A bounded log of what each refresh found answers `changes_since`.

Invariants:

- `uids` is ascending and only ever appended to; an expunge makes three new arrays, so who
  holds the old ones still sees what it saw.
- `mod_sequence` moves last: everything up to it is in the arrays.
- A refresh that fails half-way may be done again: what is in the arrays is not added twice.
- One refresh at a time; others wait for it.
- Nothing here holds the reactor for more than one slice of `MAX_SLICE` rows.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any
from zlib import crc32

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver.interfaces import IMailboxImage
from mailserver.model.changes import Changes
from mailserver.model.flags import Flags, System
from mailserver.model.ids import MailboxRef, ModSeq, Uid
from mailserver.model.numset import NumSet
from mailserver.store.engine import Connection, Engine, Row
from mailserver.store.limits import MAX_SLICE
from mailserver.store.sql import mailboxes as mailbox_sql
from mailserver.store.sql import messages as sql
from mailserver.store.transactions.rows import Mailbox, by_id

LOG_UIDS = 50_000
"""UIDs that the change log of one image keeps; older questions are answered by a scan."""

LOG_STEPS = 20_000
"""Refreshes that the change log keeps."""

SNAPSHOT_AFTER = 500
"""Changed rows after which a new snapshot is worth its writing."""

_PACKED = struct.Struct("<8sQQQQQ")  # magic, validity, uid_next, mod-sequence, messages, flags
_CHECKSUM = struct.Struct("<I")  # CRC-32 of all that is before it, at the end
_MAGIC = b"image2" + sys.byteorder[:2].encode()


@attrs.frozen
class _Step:
    """What one refresh found.

    Attributes:
        mod_sequence: of the image afterwards.
        uid_next_before: of the image before.
        flagged: UIDs with changed flags, arrivals among them; None if too many to keep.
        expunged: UIDs that went; None if too many to keep.
    """

    mod_sequence: int
    uid_next_before: int
    flagged: Sequence[int]
    expunged: Sequence[int]


@implementer(IMailboxImage)
class Image:
    """See `IMailboxImage`.

    Attributes:
        number: of the mailbox's row.
        users: how often it is open.
        changed_rows: rows read since the last snapshot.
        weight: messages that it counted when nobody had it open any more.
    """

    def __init__(self, ref: MailboxRef, mailbox: Mailbox) -> None:
        self.ref = ref
        self.number = mailbox.number
        self.uid_validity = mailbox.uid_validity
        self.uid_next = Uid(1)
        self.mod_sequence = ModSeq(0)
        self.uids = array("I")
        self.flag_ids = array("I")
        self.mod_sequences = array("Q")
        self.flag_table: list[Flags] = []
        self.keywords: tuple[str, ...] = ()
        self.deleted = False
        self.users = 0
        self.changed_rows = 0
        self.weight = 0
        self.first_recent = self._saved_recent = mailbox.first_recent
        self._flag_numbers: dict[tuple[int, str], int] = {}
        self._unseen_ids: set[int] = set()  # those of the flag table without \Seen
        self._seen_before = 0  # every message before this position is seen
        self._log: deque[_Step] = deque()
        self._log_uids = 0
        self._log_since = 0  # the log is whole for questions from here on
        self._refreshing: list[Deferred[None]] | None = None

    # -- questions ----------------------------------------------------------

    def changes_since(self, mod_sequence: ModSeq) -> Changes:
        """Tell what happened after `mod_sequence`; see `IMailboxImage`."""
        if mod_sequence >= self.mod_sequence:
            return Changes(self.mod_sequence, (), ())
        if mod_sequence < self._log_since:
            return self._scan(mod_sequence)
        steps: list[_Step] = []
        for step in reversed(self._log):
            if step.mod_sequence <= mod_sequence:
                break
            steps.append(step)
        first = steps[-1].uid_next_before
        expunged: set[int] = set().union(*(step.expunged for step in steps))
        flagged: set[int] = set().union(*(step.flagged for step in steps)) - expunged
        return Changes(
            self.mod_sequence,
            [Uid(uid) for uid in sorted(flagged) if uid < first],
            [Uid(uid) for uid in sorted(expunged)],
        )

    def _scan(self, mod_sequence: int) -> Changes:
        """The answer from the arrays alone; what is gone cannot be told from them."""
        flagged = [
            Uid(uid)
            for uid, since in zip(self.uids, self.mod_sequences, strict=True)
            if since > mod_sequence
        ]
        return Changes(self.mod_sequence, flagged, (), complete=False)

    def first_unseen(self) -> int | None:
        r"""The position of the first message without `\Seen`; see `IMailboxImage`."""
        at, flag_ids, unseen = self._seen_before, self.flag_ids, self._unseen_ids
        total = len(flag_ids)
        while at < total and flag_ids[at] not in unseen:
            at += 1
        self._seen_before = at
        return at if at < total else None

    def claim_recent(self, up_to: Uid) -> NumSet:
        """Take the unclaimed UIDs up to `up_to`; see `IMailboxImage`."""
        taken = self._recent(up_to)
        self.first_recent = max(self.first_recent, up_to + 1)
        return taken

    def unclaimed_recent(self) -> NumSet:
        """The UIDs that `claim_recent` would hand out."""
        return self._recent(self.uid_next)

    def _recent(self, up_to: int) -> NumSet:
        if up_to < self.first_recent:
            return NumSet()
        low = bisect_left(self.uids, self.first_recent)
        return NumSet.of(self.uids[low : bisect_right(self.uids, up_to)])

    def has_uid(self, uid: int) -> bool:
        """Say whether a message is there."""
        at = bisect_left(self.uids, uid)
        return at < len(self.uids) and self.uids[at] == uid

    # -- loading ------------------------------------------------------------

    def is_current(self, mailbox: Mailbox) -> bool:
        """Say whether the image has all that this row of its mailbox counts."""
        return (
            self.mod_sequence == mailbox.highest_modseq
            and self.uid_validity == mailbox.uid_validity
            and len(self.keywords) == mailbox.keywords
            and self._refreshing is None
        )

    async def refresh(self, engine: Engine) -> None:
        """Bring the image up to date, after whoever is doing so already.

        Raises:
            MailError: NONEXISTENT (account gone), CORRUPT, UNAVAILABLE.
        """
        while self._refreshing is not None:
            turn: Deferred[None] = Deferred()
            self._refreshing.append(turn)
            await turn
        self._refreshing = []
        try:
            if self.mod_sequence:
                await self._catch_up(engine)
            else:
                await self._load(engine)
        finally:
            waiting, self._refreshing = self._refreshing, None
            for turn in waiting:
                turn.callback(None)

    async def _load(self, engine: Engine) -> None:
        """Fill the empty image: from the snapshot, else from rows by slices."""
        for numbers in (self.uids, self.flag_ids, self.mod_sequences):
            del numbers[:]  # what an earlier try left that failed
        self._seen_before = 0
        packed = await engine.read(
            self.ref.account, lambda c: c.row(mailbox_sql.SNAPSHOT, (self.number,))
        )
        if packed is None or not self.unpack(packed[0]):
            mailbox = await engine.read(self.ref.account, lambda c: by_id(c, self.ref.mailbox))
            if mailbox is None:
                self.deleted = True
                return
            await self._load_rows(engine)
            # What the slices missed because it came between them has a higher one.
            self.mod_sequence = ModSeq(mailbox.highest_modseq)
            self.uid_next = Uid(mailbox.uid_next)
        await self._catch_up(engine)
        self.forget_changes()

    async def _load_rows(self, engine: Engine) -> None:
        last = 0
        while True:
            rows = await engine.read(
                self.ref.account,
                partial(self._read_slice, after=last),
            )
            self._append(rows)
            self.changed_rows += len(rows)
            if len(rows) < MAX_SLICE:
                return
            last = rows[-1][0]
            await engine.pause()

    async def _catch_up(self, engine: Engine) -> None:
        """Apply everything with a mod-sequence above the image's.

        Rows are read in the order of their mod-sequence; a row that changes meanwhile
        moves behind those not yet read, so none is missed. The last slice is read together
        with the mailbox's row and the tombstones in one state of the database.
        """
        since, uid_next = self.mod_sequence, self.uid_next
        at = (int(since), MAX_UID_SEEN)
        changed: list[Row] = []
        while True:
            mailbox, rows, gone = await engine.read(
                self.ref.account, partial(self._read_changes, since=since, at=at)
            )
            if mailbox is None:
                self.deleted = True
                return
            if gone is not None:
                break
            self._update(rows)
            changed += rows
            at = (rows[-1][3], rows[-1][0])
            await engine.pause()
        known_words = mailbox.keywords == len(self.keywords)  # not so right after `_load`
        if not (rows or changed) and mailbox.highest_modseq == since and known_words:
            self.uid_validity = mailbox.uid_validity
            return
        self._update(rows)
        changed = changed + rows if changed else rows
        if mailbox.pruned_modseq > since:  # not all that went left a trace
            expunged = await self._missing(engine)
        else:
            expunged = NumSet.from_ranges(gone)
        if mailbox.keywords != len(self.keywords):
            words = await engine.read(
                self.ref.account, lambda c: c.rows(mailbox_sql.KEYWORDS, (self.number,))
            )
            self.keywords = tuple(row[0] for row in words)
        # Not all that `uid_next` calls new is: `_load` may have met some of it in a slice.
        last = self.uids[-1] if self.uids else 0
        arrived = sorted({row[0]: row for row in changed if row[0] > last}.values())
        if expunged:
            arrived = [row for row in arrived if row[0] not in expunged]
        for at_row in range(0, len(arrived), MAX_SLICE):
            if at_row:
                await engine.pause()
            self._append(arrived[at_row : at_row + MAX_SLICE])
        removed = self._remove(expunged) if expunged else ()
        self.uid_validity = mailbox.uid_validity
        self.uid_next = Uid(mailbox.uid_next)
        self.mod_sequence = ModSeq(mailbox.highest_modseq)
        if mailbox.first_recent > self.first_recent:
            self.first_recent = self._saved_recent = mailbox.first_recent
        self.changed_rows += len(changed) + len(removed)
        flagged = [row[0] for row in changed if row[0] < uid_next]
        self._remember(_Step(self.mod_sequence, uid_next, flagged, removed))

    async def _missing(self, engine: Engine) -> NumSet:
        """The UIDs of the image that are not among the rows any more."""
        missing = set(self.uids)
        last = 0
        while True:
            rows = await engine.read(self.ref.account, partial(self._read_slice, after=last))
            missing.difference_update(row[0] for row in rows)
            if len(rows) < MAX_SLICE:
                return NumSet.of(missing)
            last = rows[-1][0]
            await engine.pause()

    def _read_slice(self, connection: Connection, after: int) -> list[Row]:
        return connection.rows(sql.IMAGE_SLICE, (self.number, after, MAX_SLICE))

    def _read_changes(
        self, connection: Connection, since: int, at: tuple[int, int]
    ) -> tuple[Mailbox | None, list[Row], list[Row] | None]:
        """The mailbox, a slice of changed rows, and with the last slice the tombstones."""
        if at == (since, MAX_UID_SEEN):
            mailbox = by_id(connection, self.ref.mailbox)
            if mailbox is not None and mailbox.highest_modseq == since:
                return mailbox, [], []  # nothing new, as nearly always
        with connection.snapshot():
            mailbox = by_id(connection, self.ref.mailbox)
            if mailbox is None:
                return None, [], []
            rows = connection.rows(sql.IMAGE_CHANGES, (self.number, *at, MAX_SLICE))
            if len(rows) == MAX_SLICE:
                return mailbox, rows, None
            return mailbox, rows, connection.rows(sql.IMAGE_EXPUNGES, (self.number, since))

    def _flag_id(self, system: int, words: str) -> int:
        number = self._flag_numbers.get((system, words))
        if number is None:
            number = self._flag_numbers[system, words] = len(self.flag_table)
            self.flag_table.append(Flags(System(system), tuple(words.split())))
            if not system & System.SEEN:
                self._unseen_ids.add(number)
        return number

    def _append(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        uids, systems, words, mod_sequences = zip(*rows, strict=True)
        flag_id = self._flag_id
        self.uids.extend(uids)
        self.mod_sequences.extend(mod_sequences)
        self.flag_ids.extend(map(flag_id, systems, words))

    def _update(self, rows: Sequence[Row]) -> None:
        """Set flags and mod-sequences of those rows that are in the arrays already."""
        uids, flag_ids, mod_sequences = self.uids, self.flag_ids, self.mod_sequences
        size, flag_id, unseen = len(uids), self._flag_id, self._unseen_ids
        at = -1
        for uid, system, words, mod_sequence in rows:
            at += 1
            if not (at < size and uids[at] == uid):
                at = bisect_left(uids, uid)
                if not (at < size and uids[at] == uid):
                    continue
            flag_ids[at] = number = flag_id(system, words)
            mod_sequences[at] = mod_sequence
            if at < self._seen_before and number in unseen:
                self._seen_before = at

    def _remove(self, expunged: NumSet) -> list[int]:
        """Replace the arrays by ones without these UIDs; returns those that were there."""
        kept: list[tuple[int, int]] = []
        removed: list[int] = []
        start = 0
        for low, high in expunged.ranges:
            first, after = bisect_left(self.uids, low), bisect_right(self.uids, high)
            if first < after:
                kept.append((start, first))
                removed.extend(self.uids[first:after])
                start = after
        if removed:
            kept.append((start, len(self.uids)))
            self.uids = _joined(self.uids, kept)
            self.flag_ids = _joined(self.flag_ids, kept)
            self.mod_sequences = _joined(self.mod_sequences, kept)
            self._seen_before = 0
        return removed

    def _remember(self, step: _Step) -> None:
        self._log.append(step)
        self._log_uids += len(step.flagged) + len(step.expunged)
        while self._log_uids > LOG_UIDS or len(self._log) > LOG_STEPS:
            oldest = self._log.popleft()
            self._log_uids -= len(oldest.flagged) + len(oldest.expunged)
            self._log_since = oldest.mod_sequence

    # -- what is kept of it -------------------------------------------------

    @property
    def claimed_recent(self) -> bool:
        """UIDs were handed out as recent that the database does not know of."""
        return self.first_recent > self._saved_recent

    def forget_changes(self) -> None:
        """Let the log go: nobody is left who could ask what happened up to now."""
        self._log.clear()
        self._log_uids = 0
        self._log_since = self.mod_sequence

    def saved(self, with_snapshot: bool) -> None:
        """Note that what is to be kept is on its way to the database."""
        self._saved_recent = self.first_recent
        if with_snapshot:
            self.changed_rows = 0

    @property
    def wants_snapshot(self) -> bool:
        """Enough has changed since the last one."""
        return self.changed_rows >= max(SNAPSHOT_AFTER, len(self.uids) // 4)

    def pack(self) -> bytes:
        """The image as octets for the snapshot row."""
        flags = json.dumps([[int(f.system), " ".join(f.keywords)] for f in self.flag_table])
        text = flags.encode("utf-8")
        head = _PACKED.pack(
            _MAGIC,
            self.uid_validity,
            self.uid_next,
            self.mod_sequence,
            len(self.uids),
            len(text),
        )
        packed = b"".join(
            (
                head,
                text,
                self.mod_sequences.tobytes(),
                self.uids.tobytes(),
                self.flag_ids.tobytes(),
            )
        )
        return packed + _CHECKSUM.pack(crc32(packed))

    def unpack(self, packed: bytes) -> bool:
        """Fill the empty image; False if the octets are damaged (R6), or not of this
        machine's layout."""
        octets, checksum = packed[: -_CHECKSUM.size], packed[-_CHECKSUM.size :]
        if len(octets) < _PACKED.size or checksum != _CHECKSUM.pack(crc32(octets)):
            return False
        magic, _validity, uid_next, mod_sequence, messages, length = _PACKED.unpack_from(octets)
        start = _PACKED.size + length
        if magic != _MAGIC or len(octets) != start + messages * 16:
            return False
        for system, words in json.loads(octets[_PACKED.size : start]):
            self._flag_id(system, words)
        view = memoryview(octets)
        self.mod_sequences.frombytes(view[start : start + messages * 8])
        start += messages * 8
        self.uids.frombytes(view[start : start + messages * 4])
        start += messages * 4
        self.flag_ids.frombytes(view[start:])
        self.mod_sequence = ModSeq(mod_sequence)
        self.uid_next = Uid(uid_next)
        return True


MAX_UID_SEEN = 2**32
"""Above every UID: starts a slice after all rows of a mod-sequence."""


def _joined(numbers: array[int], kept: Sequence[tuple[int, int]]) -> array[int]:
    """A new array of the given half-open ranges of positions."""
    out: array[Any] = array(numbers.typecode)
    for start, end in kept:
        out.extend(numbers[start:end])
    return out
