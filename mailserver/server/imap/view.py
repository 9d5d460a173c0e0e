r"""What one session knows of its selected mailbox, and what the client has been told.

The view alone turns sequence numbers into UIDs and back. It shares the arrays of the
store's image: what the client knows is the first `count` entries of `uids`, an array
that the store only ever appends to. After an expunge the image has new arrays, and the
view keeps the old one until the client has been told. So

- a message stays addressable until its EXPUNGE was sent, and its number never means
  another message (T3, T5);
- arrivals are announced only when no expunge is waiting, so that the client's messages
  are always a prefix of one array;
- the cost of looking is O(changes), not O(mailbox).

What was not told yet is kept as UIDs: `_gone` (expunges) and `_owed` (flags). Everything
else that happened after `_looked` is found in the image by mod-sequence (T35).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache

import attrs

from mailserver.interfaces import IMailboxImage
from mailserver.model.acl import Right, Rights
from mailserver.model.changes import FlagsStored
from mailserver.model.flags import SYSTEM_NAMES, FlagOp, Flags, System, apply_flags
from mailserver.model.ids import ModSeq, SeqNum, Uid
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.numset import STAR, NumSet, SequenceSet

EVERY = SequenceSet(((1, STAR),))
"""`1:*`, all messages."""

GONE = -1
"""Stands for the flag id of a message that is expunged but not told."""


class NoSuchNumber(Exception):
    """A sequence number above the number of messages: BAD (T14).

    Args:
        number: what the client wrote.
        count: messages that the client knows.
    """

    def __init__(self, number: int, count: int) -> None:
        super().__init__(number, count)
        self.number = number
        self.count = count

    def __str__(self) -> str:
        return f"there is no message {self.number}, the mailbox has {self.count}"


@attrs.frozen(eq=False)
class FlagsBefore:
    """The flags of a mailbox at one moment, for `View.hush`; made by `View.flags_before`."""

    uids: array[int]
    flag_ids: array[int]


class View:
    """One session's view of an open mailbox.

    Attributes:
        image: the store's shared image; to be given back with `IMailStore.close`.
        mailbox: name and rights as they were at SELECT.
        read_only: selected by EXAMINE, or without any right to change flags.
        uids: array('I'), ascending; its first `count` entries are the client's messages,
            what follows has not been announced. Never to be changed.
        count: number of messages that the client knows (its last EXISTS).
        recent: UIDs that are `\\Recent` in this session (T9).
    """

    __slots__ = (
        "_flag_octets",
        "_gone",
        "_keywords_told",
        "_looked",
        "_owed",
        "_own",
        "_recent_told",
        "count",
        "image",
        "mailbox",
        "read_only",
        "recent",
        "uids",
    )

    def __init__(self, image: IMailboxImage, mailbox: MailboxInfo, *, read_only: bool) -> None:
        self.image = image
        self.mailbox = mailbox
        self.read_only = read_only
        self.uids: array[int] = image.uids
        self.count = len(image.uids)
        self.recent = self._take_recent()
        self._recent_told = len(self.recent)
        self._keywords_told = len(image.keywords)
        self._looked: ModSeq = image.mod_sequence
        self._gone: list[Uid] = []
        self._owed: set[Uid] = set()
        self._own: dict[Uid, ModSeq] = {}
        self._flag_octets: list[bytes] = []

    # -- numbers ------------------------------------------------------------

    def resolve(self, numbers: SequenceSet, *, by_uid: bool) -> NumSet:
        """Turn what the client wrote into UIDs; cost O(ranges written).

        The set may also hold UIDs that do not exist, but none above the last message that
        the client knows: what it has not been told of it cannot mean.

        Args:
            by_uid: the numbers are UIDs; of these, unknown ones are no fault (T14).

        Raises:
            NoSuchNumber: a sequence number above `count`.
        """
        if by_uid:
            last = self.uids[self.count - 1] if self.count else 0
            return numbers.resolve(last).clip(1, last)
        uids = self.uids
        found = [(uids[start], uids[end - 1]) for start, end in self._numbered(numbers)]
        return NumSet(tuple(found))

    def find(self, numbers: SequenceSet, *, by_uid: bool) -> list[tuple[int, int]]:
        """Where in `uids` the messages lie that the client means; as `spans` of `resolve`."""
        return self.spans(self.resolve(numbers, by_uid=True)) if by_uid else self._numbered(numbers)

    def _numbered(self, numbers: SequenceSet) -> list[tuple[int, int]]:
        """The spans of sequence numbers.

        Raises:
            NoSuchNumber: one above `count`.
        """
        if not self.count and numbers == EVERY:
            return []  # scripts ask so without a look at EXISTS (T13)
        spans = [(low - 1, high) for low, high in numbers.resolve(self.count).ranges]
        highest = spans[-1][1] if spans else numbers.highest_named
        if highest > self.count:
            raise NoSuchNumber(numbers.highest_named, self.count)
        return spans

    def spans(self, uids: NumSet) -> list[tuple[int, int]]:
        """Where in `uids` the client's messages of a set lie.

        Returns:
            ascending, non-empty half-open spans (start, end) of 0-based positions; the
            message at position p has the sequence number p + 1.
        """
        found = []
        start = 0
        for low, high in uids.ranges:
            start = bisect_left(self.uids, low, start, self.count)
            end = bisect_right(self.uids, high, start, self.count)
            if start < end:
                found.append((start, end))
            start = end
        return found

    def known(self, uids: NumSet) -> list[Uid]:
        """The UIDs of a set that are messages of the client, ascending."""
        out: list[Uid] = []
        for start, end in self.spans(uids):
            out.extend(self.uids[start:end])  # type: ignore[arg-type]
        return out

    def numbers_of(self, uids: Iterable[int]) -> list[int]:
        """Sequence numbers of UIDs given ascending; those the client does not know are
        left out. For the results of SEARCH."""
        out = []
        at = 0
        mine, count = self.uids, self.count
        for uid in uids:
            if at < count and mine[at] == uid:  # results are often runs
                at += 1
                out.append(at)
                continue
            at = bisect_left(mine, uid, at, count)
            if at < count and mine[at] == uid:
                at += 1
                out.append(at)
        return out

    @property
    def largest_uid(self) -> int:
        """The UID of the client's last message, what `*` means; 0 if there is none."""
        return self.uids[self.count - 1] if self.count else 0

    def _position(self, uid: int) -> int:
        """0-based position of a message of the client, -1 if there is none."""
        at = bisect_left(self.uids, uid, 0, self.count)
        return at if at < self.count and self.uids[at] == uid else -1

    # -- flags --------------------------------------------------------------

    def flag_ids(self, start: int, end: int) -> Sequence[int]:
        """The flags of the messages at positions start..end (end not included), as they
        are now.

        Returns:
            as many indices into `image.flag_table`, `GONE` for a message that is
            expunged but not told.
        """
        image = self.image
        if self.uids is image.uids:
            return image.flag_ids[start:end]
        out = []
        theirs, ids, total = image.uids, image.flag_ids, len(image.uids)
        at = 0
        for uid in self.uids[start:end]:
            at = bisect_left(theirs, uid, at, total)
            out.append(ids[at] if at < total and theirs[at] == uid else GONE)
        return out

    def first_unseen(self) -> SeqNum | None:
        r"""The number of the first message without `\Seen`; only while nothing waits to be
        told, as at SELECT."""
        at = self.image.first_unseen()
        return None if at is None else SeqNum(at + 1)

    def flags_octets(self, flag_id: int, uid: int) -> bytes:
        r"""The flags of a message as they stand in FETCH, `(\Seen \Recent)`.

        Args:
            flag_id: index into `image.flag_table`.
            uid: for `\Recent`.
        """
        octets = self._flag_octets
        if flag_id >= len(octets):
            octets.extend(_names_octets(f) for f in self.image.flag_table[len(octets) :])
        names = octets[flag_id]
        if self.recent and uid in self.recent:
            return b"(%b \\Recent)" % names if names else b"(\\Recent)"
        return b"(%b)" % names

    def keyword_news(self) -> list[bytes]:
        """Lines that announce keywords which the client has not been told of (T10).

        To be sent before any FETCH line with flags; `drain` does so by itself.
        """
        if len(self.image.keywords) == self._keywords_told:
            return []
        return self.flag_lines()

    def flag_lines(self) -> list[bytes]:
        r"""The FLAGS and PERMANENTFLAGS lines, as in SELECT (T10).

        PERMANENTFLAGS names what the rights allow to change (RFC 4314 §4); it ends with
        `\*` where new keywords may be made, and is empty when read-only.
        """
        keywords = self.image.keywords
        self._keywords_told = len(keywords)
        rights = frozenset() if self.read_only else self.mailbox.rights
        return [_flags_line(keywords), _permanent_line(keywords, rights)]

    # -- what the client is told --------------------------------------------

    def told_flags(self, uids: Iterable[Uid], mod_sequence: ModSeq) -> None:
        """Note that the client has just been told the present flags of these messages.

        Args:
            mod_sequence: that of the own change, such as `\\Seen` set by FETCH; a later
                change by another session is told nevertheless.
        """
        for uid in uids:
            self._owed.discard(uid)
            self._own[uid] = mod_sequence

    def flags_before(self) -> FlagsBefore:
        """Remember all flags, right before a STORE that is silent; see `hush`."""
        self._look()
        return FlagsBefore(self.image.uids, self.image.flag_ids[:])

    def hush(self, before: FlagsBefore, stored: FlagsStored, op: FlagOp, given: Flags) -> None:
        """Keep quiet about own changes: the client of a silent STORE knows them (T8).

        A message is told of nevertheless if its flags are not what the client must now
        think, because another session changed it too or a right was missing, or if an
        earlier change of it was still to be told.

        Args:
            before: from `flags_before`, with nothing awaited before the STORE.
            stored: what the store answered.
            op, given: what was asked for.
        """
        image = self.image
        table = image.flag_table
        as_thought: dict[tuple[int, int], bool] = {}
        old_at = new_at = 0
        for uid in stored.changed:
            old_at = bisect_left(before.uids, uid, old_at, len(before.flag_ids))
            new_at = bisect_left(image.uids, uid, new_at)
            if new_at == len(image.uids) or image.uids[new_at] != uid:
                continue  # expunged meanwhile
            if old_at == len(before.flag_ids) or before.uids[old_at] != uid:
                continue  # arrived meanwhile: not announced, nothing to keep quiet about
            pair = (before.flag_ids[old_at], image.flag_ids[new_at])
            quiet = as_thought.get(pair)
            if quiet is None:
                quiet = apply_flags(table[pair[0]], op, given) == table[pair[1]]
                as_thought[pair] = quiet
            if quiet:
                self._own[uid] = stored.mod_sequence

    @property
    def is_current(self) -> bool:
        """Nothing is to be told; the image may still be behind the database."""
        image = self.image
        return (
            image.mod_sequence == self._looked
            and self.uids is image.uids
            and self.count == len(self.uids)
            and not self._owed
        )

    def drain(
        self, *, allow_expunge: bool, allow_arrivals: bool = True, with_uid: bool = False
    ) -> list[bytes]:
        """Tell what changed in the image since the last time.

        Args:
            allow_expunge: the client may be sent EXPUNGE now; never while it waits for
                FETCH, STORE or SEARCH (RFC 3501 §7.4.1, T3). Arrivals wait with it.
            allow_arrivals: without it both wait (T55).
            with_uid: put the UID into each FETCH line (T15).

        Returns:
            Complete response lines in the order in which they must be sent; empty if
            there is nothing.
        """
        if self.is_current:
            return []
        self._look()
        lines: list[bytes] = []
        if allow_arrivals:
            if self._gone and allow_expunge:
                self._tell_expunges(lines)
            if not self._gone:
                self._tell_arrivals(lines)
        if self._owed:
            lines += self.keyword_news()
            self._tell_flags(lines, with_uid)
        return lines

    def _look(self) -> None:
        """Take up what the image has learnt; nothing of it is told yet."""
        image = self.image
        if image.mod_sequence != self._looked:
            changes = image.changes_since(self._looked)
            self._looked = changes.mod_sequence
            if changes.complete:
                gone: Iterable[Uid] = changes.expunged
            else:
                left = set(image.uids)
                gone = (Uid(uid) for uid in self.uids[: self.count] if uid not in left)
            fresh = [uid for uid in gone if self._position(uid) >= 0]
            if fresh:
                self._gone = sorted({*self._gone, *fresh})
                self._owed.difference_update(fresh)
            for uid in changes.flagged:
                if self._position(uid) >= 0 and not self._is_own(uid):
                    self._owed.add(uid)
            self._own.clear()
        if not self._gone:
            self.uids = image.uids

    def _is_own(self, uid: Uid) -> bool:
        own = self._own.get(uid)
        if own is None:
            return False
        image = self.image
        at = bisect_left(image.uids, uid)
        return image.mod_sequences[at] == own

    def _tell_expunges(self, lines: list[bytes]) -> None:
        """Each number counts what was taken away before it (T6)."""
        at = 0
        for told, uid in enumerate(self._gone):
            at = bisect_left(self.uids, uid, at, self.count)
            lines.append(b"* %d EXPUNGE\r\n" % (at + 1 - told))
        self.count -= len(self._gone)
        if self.recent:
            self.recent -= NumSet.of(self._gone)
            self._recent_told = min(self._recent_told, len(self.recent))
        self._gone = []
        self.uids = self.image.uids

    def _tell_arrivals(self, lines: list[bytes]) -> None:
        total = len(self.uids)
        if total == self.count:
            return
        self.count = total
        self.recent |= self._take_recent()
        lines.append(b"* %d EXISTS\r\n" % total)
        if len(self.recent) != self._recent_told:
            self._recent_told = len(self.recent)
            lines.append(b"* %d RECENT\r\n" % self._recent_told)

    def _tell_flags(self, lines: list[bytes], with_uid: bool) -> None:
        image = self.image
        in_step = self.uids is image.uids
        for uid in sorted(self._owed):
            position = self._position(uid)
            at = position if in_step else bisect_left(image.uids, uid)
            if position < 0 or at == len(image.uids) or image.uids[at] != uid:
                continue
            flags = self.flags_octets(image.flag_ids[at], uid)
            if with_uid:
                lines.append(b"* %d FETCH (UID %d FLAGS %b)\r\n" % (position + 1, uid, flags))
            else:
                lines.append(b"* %d FETCH (FLAGS %b)\r\n" % (position + 1, flags))
        self._owed.clear()

    def _take_recent(self) -> NumSet:
        r"""What is newly `\Recent` here; EXAMINE takes it from nobody (T9)."""
        if not self.count:
            return NumSet()
        if self.read_only:
            return self.image.unclaimed_recent().clip(1, self.largest_uid)
        return self.image.claim_recent(Uid(self.largest_uid))


@lru_cache(maxsize=200)
def _flags_line(keywords: tuple[str, ...]) -> bytes:
    words = " ".join((*SYSTEM_NAMES.values(), *keywords)).encode("ascii")
    return b"* FLAGS (%b)\r\n" % words


@lru_cache(maxsize=200)
def _permanent_line(keywords: tuple[str, ...], rights: Rights) -> bytes:
    needed = {System.SEEN: Right.SEEN, System.DELETED: Right.DELETE_MESSAGES}
    names = [name for bit, name in SYSTEM_NAMES.items() if needed.get(bit, Right.WRITE) in rights]
    if Right.WRITE in rights:
        names += [*keywords, "\\*"]
    meaning = b"what you may change" if names else b"nothing may be changed"
    return b"* OK [PERMANENTFLAGS (%b)] %b\r\n" % (" ".join(names).encode("ascii"), meaning)


@lru_cache(maxsize=4096)
def _names_octets(flags: Flags) -> bytes:
    """Shared by all views: most mailboxes know the same few combinations."""
    return " ".join(flags.names()).encode("ascii")
