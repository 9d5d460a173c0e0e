"""A maildrop: what INBOX held at login, numbered for the whole session (RFC 1939 §5, T42).

Numbers, sizes and unique ids come from one look at the mailbox and stay as they are,
whatever IMAP, LMTP or another POP3 session does meanwhile (CGP-3). The mailbox is neither
locked nor changed before `remove`.

The size of a message is what RETR sends (T43): a message that does not end its last line
gets a line end more, and one whose header is in UTF-8 gets another header for a client that
does not know UTF-8 (T57, RFC 6856 §4). Which ones that are is found out once per process and
message, because octets never change.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import attrs

from mailserver.interfaces import IContent, IMailboxImage, IMailStore
from mailserver.mime.surrogate import ascii_header
from mailserver.model.flags import FlagOp, Flags, System
from mailserver.model.ids import MailboxRef, Principal, Uid
from mailserver.model.message import Column
from mailserver.model.numset import NumSet

Turn = Callable[[], Awaitable[None]]
"""Lets the reactor do other work; awaited between slices."""

_SLICE: Final = 2000
# To see the end of a message the database reads all of it: 200 of 64 KiB take a few ms.
_ODDITIES_SLICE: Final = 200
_BLANK_LINE: Final = b"\r\n\r\n"


@attrs.frozen
class Oddity:
    """What RETR cannot send of a message as it is kept.

    Attributes:
        ends_line: its last line ends with CRLF.
        has_blank_line: an empty line ends its header.
        growth: octets that the header has more, or less, in ASCII; None if it is ASCII.
    """

    ends_line: bool = True
    has_blank_line: bool = True
    growth: int | None = None


USUAL: Final = Oddity()


@attrs.define
class _Known:
    uid_validity: int
    up_to: int  # every message up to this UID has been looked at
    unusual: dict[int, Oddity]


class Oddities:
    """The messages that are not `USUAL`; shared by all sessions.

    Args:
        mailboxes: of how many it is remembered which messages were looked at.
    """

    def __init__(self, mailboxes: int = 10_000) -> None:
        self._limit = mailboxes
        self._known: OrderedDict[MailboxRef, _Known] = OrderedDict()

    async def unusual(
        self,
        store: IMailStore,
        who: Principal,
        image: IMailboxImage,
        uids: Sequence[Uid],
        turn: Turn,
    ) -> Mapping[int, Oddity]:
        """Find the messages that are odd; only new ones are read.

        Args:
            uids: all of the mailbox, ascending.

        Raises:
            MailError: as `IMailStore.fetch`.
        """
        known = self._known.get(image.ref)
        if known is None or known.uid_validity != image.uid_validity:
            known = _Known(image.uid_validity, 0, {})
        fresh = [uid for uid in uids if uid > known.up_to]
        if not fresh:
            return known.unusual
        there = set(uids)
        unusual = {uid: oddity for uid, oddity in known.unusual.items() if uid in there}
        columns = (Column.SIZE, Column.HEADER, Column.ENDING)
        for start in range(0, len(fresh), _ODDITIES_SLICE):
            some = fresh[start : start + _ODDITIES_SLICE]
            for uid, size, header, end in await store.fetch(who, image, some, columns):
                oddity = _oddity(size, header, end)
                if oddity != USUAL:
                    unusual[uid] = oddity
            await turn()
        self._known[image.ref] = _Known(image.uid_validity, fresh[-1], unusual)
        self._known.move_to_end(image.ref)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return unusual


def _oddity(size: int, header: bytes, end: bytes) -> Oddity:
    return Oddity(
        ends_line=end.endswith(b"\r\n"),
        has_blank_line=len(header) < size or end.endswith(_BLANK_LINE) or end == b"\r\n",
        growth=None if header.isascii() else len(ascii_header(header)) - len(header),
    )


class Maildrop:
    """The messages of one session; numbers are from 1 to `len`.

    Use `open_maildrop`.

    Attributes:
        deleted: numbers that are marked.
        octets: of the messages that are not marked.
    """

    def __init__(
        self,
        store: IMailStore,
        who: Principal,
        image: IMailboxImage,
        uids: array[int],
        sizes: array[int],
        unusual: Mapping[int, Oddity],
        names: Mapping[int, str],
    ) -> None:
        self._store = store
        self._who = who
        self._image = image
        self._uid_validity = image.uid_validity
        self._uids = uids
        self._sizes = sizes
        self._unusual = unusual
        self._names = names
        self.deleted: set[int] = set()
        self.octets = sum(sizes)

    def __len__(self) -> int:
        """Messages at login, marked or not."""
        return len(self._uids)

    def __contains__(self, number: object) -> bool:
        """There is a message of this number, and it is not marked."""
        return (
            isinstance(number, int) and 0 < number <= len(self._uids) and number not in self.deleted
        )

    def numbers(self) -> Iterable[int]:
        """The numbers of messages that are not marked, ascending."""
        return (number for number in range(1, len(self) + 1) if number not in self.deleted)

    @property
    def count(self) -> int:
        """Messages that are not marked."""
        return len(self) - len(self.deleted)

    def size(self, number: int) -> int:
        """Octets that RETR sends, without dot-stuffing and the last line."""
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> bytes:
        """The same for this message in every session, and never another's (T44): no
        mailbox has a UIDVALIDITY twice, and no UIDVALIDITY a UID. A message that was imported
        has the name that clients know it by, unless it could be one of ours."""
        own = b"%d." % self._uid_validity
        name = self._names.get(self._uids[number - 1], "").encode("ascii")
        if name and not name.startswith(own):
            return name
        return b"%b%d" % (own, self._uids[number - 1])

    def oddity(self, number: int) -> Oddity:
        """What is not as usual with the message."""
        return self._unusual.get(self._uids[number - 1], USUAL)

    def mark(self, number: int) -> None:
        """Mark a message; nothing is removed before `remove`."""
        self.deleted.add(number)
        self.octets -= self.size(number)

    def unmark_all(self) -> None:
        """Take all marks away."""
        self.octets += sum(map(self.size, self.deleted))
        self.deleted.clear()

    async def content(self, number: int) -> IContent | None:
        """Open the octets of a message; None if another session has removed it.

        Raises:
            MailError: CORRUPT.
        """
        return await self._store.content(self._who, self._image, self._uid(number))

    async def header_size(self, number: int) -> int | None:
        """Octets of a message's header as it is kept, with its empty line; None if the
        message is gone."""
        for _, size in await self._store.fetch(
            self._who, self._image, (self._uid(number),), (Column.HEADER_SIZE,)
        ):
            return int(size)
        return None

    def last_seen(self) -> int:
        r"""The highest number of a message with `\Seen`, 0 if there is none."""
        image = self._image
        there = dict(zip(image.uids, image.flag_ids, strict=True))
        seen = [flags.system & System.SEEN != 0 for flags in image.flag_table]
        for number in range(len(self), 0, -1):
            flag_id = there.get(self._uids[number - 1])
            if flag_id is not None and seen[flag_id]:
                return number
        return 0

    async def mark_seen(self, numbers: Iterable[int]) -> None:
        r"""Set `\Seen`; durable.

        Raises:
            MailError: as `IMailStore.store_flags`.
        """
        uids = NumSet.of(map(self._uid, numbers))
        await self._store.store_flags(self._who, self._image, uids, FlagOp.ADD, Flags.of("\\Seen"))

    async def remove(self) -> int:
        r"""Remove the marked messages and no other, also where IMAP clients have set
        `\Deleted`; durable.

        Returns:
            How many of them are still there.

        Raises:
            MailError: as `IMailStore.store_flags` and `IMailStore.expunge`.
        """
        uids = NumSet.of(map(self._uid, self.deleted))
        await self._store.store_flags(
            self._who, self._image, uids, FlagOp.ADD, Flags.of("\\Deleted")
        )
        await self._store.expunge(self._who, self._image, uids)
        there = set(self._image.uids)
        return sum(self._uid(number) in there for number in self.deleted)

    def close(self) -> None:
        """Give the mailbox back."""
        self._store.close(self._image)

    def _uid(self, number: int) -> Uid:
        return Uid(self._uids[number - 1])


async def open_maildrop(
    store: IMailStore,
    who: Principal,
    oddities: Oddities,
    turn: Turn,
    *,
    ends_headers: bool,
    utf8: bool,
) -> Maildrop:
    """Look at a principal's INBOX; to be closed.

    Args:
        ends_headers: a message whose header no empty line ends gets one (T55).
        utf8: the client takes headers in UTF-8.

    Raises:
        MailError: NONEXISTENT, NO_PERMISSION.
    """
    inbox = await store.find(who, "INBOX")
    image = await store.open(who, inbox.ref)
    try:
        wanted = [Uid(uid) for uid in image.uids]
        unusual = await oddities.unusual(store, who, image, wanted, turn)
        uids, sizes = array("I"), array("Q")
        names: dict[int, str] = {}
        for start in range(0, len(wanted), _SLICE):
            some = wanted[start : start + _SLICE]
            for uid, size in await store.fetch(who, image, some, (Column.SIZE,)):
                odd = unusual.get(uid, USUAL)
                missing = (not odd.ends_line) + (ends_headers and not odd.has_blank_line)
                growth = 0 if utf8 or odd.growth is None else odd.growth
                uids.append(uid)
                sizes.append(size + 2 * missing + growth)
            names |= await store.unique_ids(who, image, some)
            await turn()
        return Maildrop(store, who, image, uids, sizes, unusual, names)
    except BaseException:
        store.close(image)
        raise
