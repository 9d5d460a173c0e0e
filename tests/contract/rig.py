"""What the contract suite asks of an engine: how to open a store, and how to look inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import attrs
from zope.interface import implementer

from mailserver.interfaces import IEventBus, IMailboxImage
from mailserver.model.account import Account, Recipient
from mailserver.model.changes import Copied, Event
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import AccountId, MailboxRef, Principal, Uid
from mailserver.model.message import Column, InternalDate
from mailserver.model.numset import NumSet
from mailserver.store.limits import StoreLimits
from mailserver.store.mailstore import MailStore, open_store
from mailserver.store.spool import Spooled
from tests.store.loop import Loop

T = TypeVar("T")

MAIL = b"From: Ann <ann@example.org>\r\nSubject: hello\r\nMessage-ID: <1@x>\r\n\r\nText.\r\n"
START = 1_700_000_000
"""What the suite's clock shows at first."""

ARRIVED = InternalDate(START, 120)

Opener = Callable[[Path, Loop, "Bus", StoreLimits, Callable[[], float]], MailStore]


def open_sqlite(
    data: Path, loop: Loop, bus: Bus, limits: StoreLimits, now: Callable[[], float]
) -> MailStore:
    return open_store(data, loop, bus, limits=limits, now=now, writers=2)


ENGINES: dict[str, Opener] = {"sqlite": open_sqlite}
"""Every engine has to pass; a new one is a row here."""


@implementer(IEventBus)
class Bus:
    """Keeps what was published."""

    covers_all_mailboxes = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def subscribe(self, ref: MailboxRef, listener: Callable[[Event], None]) -> Callable[[], None]:
        raise NotImplementedError

    def subscribe_account(
        self, account: AccountId, listener: Callable[[Event], None]
    ) -> Callable[[], None]:
        raise NotImplementedError


def account(name: str = "ann@example.org", **limits: Any) -> Account:
    letters = "".join(c for c in name if c.isalnum()).lower()
    return Account(AccountId((letters + "0" * 26)[:26]), name, **limits)


@attrs.define
class Rig:
    """A store of one account, `ann`, and short ways to use it.

    Attributes:
        time: what the store's clock shows, seconds since 1970.
    """

    data: Path
    opener: Opener
    limits: StoreLimits = StoreLimits(reserve=0)
    loop: Loop = attrs.Factory(Loop)
    bus: Bus = attrs.Factory(Bus)
    time: float = START
    ann: Account = attrs.Factory(account)
    store: MailStore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.open()
        self.run(self.store.create_account(self.ann))

    def open(self) -> None:
        self.store = self.opener(self.data, self.loop, self.bus, self.limits, lambda: self.time)

    def restart(self, **limits: int) -> None:
        """Close the store and open it again, perhaps with other limits."""
        self.close()
        self.limits = attrs.evolve(self.limits, **limits)
        self.open()

    def close(self) -> None:
        self.run(self.store.stop())

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run(awaitable)

    @property
    def who(self) -> Principal:
        return self.principal(self.ann)

    @staticmethod
    def principal(of: Account) -> Principal:
        return Principal(of.id, of.name, of.name)

    def other(self, name: str, **limits: Any) -> Account:
        """Make a further account."""
        made = account(name, **limits)
        self.run(self.store.create_account(made))
        return made

    # -- mailboxes and messages -----------------------------------------------

    def ref(self, name: str = "INBOX", of: Account | None = None) -> MailboxRef:
        return self.run(self.store.find(self.principal(of or self.ann), name)).ref

    def names(self) -> list[str]:
        return [info.name for info in self.run(self.store.mailboxes(self.who))]

    def create(self, name: str) -> MailboxRef:
        return self.run(self.store.create(self.who, name)).ref

    def spool(self, octets: bytes = MAIL) -> Spooled:
        spool = self.store.spool()
        for at in range(0, len(octets), 50_000):
            spool.write(octets[at : at + 50_000])
        return self.run(spool.finish())

    def append(
        self,
        *messages: bytes | tuple[bytes, Flags],
        to: str = "INBOX",
        date: InternalDate = ARRIVED,
        keys: Iterable[str] = (),
        unique_ids: Iterable[str | None] = (),
    ) -> Copied:
        """Append messages, one MAIL by default."""
        items = [m if isinstance(m, tuple) else (m, Flags()) for m in messages or (MAIL,)]
        spooled = [(self.spool(octets), flags, date) for octets, flags in items]
        try:
            append = self.store.append(
                self.who, self.ref(to), spooled, tuple(keys), tuple(unique_ids)
            )
            return self.run(append)
        finally:
            for each, _, _ in spooled:
                each.discard()

    def deliver(
        self,
        octets: bytes = MAIL,
        *,
        to: Account | None = None,
        detail: str = "",
        prefix: bytes = b"",
    ) -> str:
        """Deliver; returns the name of the mailbox that it went to."""
        message = self.spool(octets)
        recipient = Recipient("whoever@example.org", to or self.ann, detail)
        try:
            return self.run(self.store.deliver(recipient, message, prefix)).name
        finally:
            message.discard()

    def image(self, name: str = "INBOX") -> IMailboxImage:
        return self.run(self.store.open(self.who, self.ref(name)))

    def flag(
        self, image: IMailboxImage, uids: Iterable[int], *names: str, op: FlagOp = FlagOp.ADD
    ) -> Any:
        return self.run(
            self.store.store_flags(self.who, image, NumSet.of(uids), op, Flags.of(*names))
        )

    def expunge(self, image: IMailboxImage, *uids: int) -> None:
        """Mark messages and remove them."""
        self.flag(image, uids, "\\Deleted")
        self.run(self.store.expunge(self.who, image, NumSet.of(uids)))

    def octets(self, image: IMailboxImage, uid: int) -> bytes | None:
        content = self.run(self.store.content(self.who, image, Uid(uid)))
        if content is None:
            return None
        try:
            return content.read(0, content.size)
        finally:
            content.close()

    def recount(self, name: str = "INBOX") -> None:
        """Check that the kept counters of a mailbox equal a count of its messages."""
        image = self.image(name)
        status = self.run(self.store.status(self.who, image.ref))
        flags = flags_of(image)
        sizes = sizes_of(self, image)
        deleted = [uid for uid, names in flags.items() if "\\Deleted" in names]
        assert status.messages == len(flags)
        assert status.unseen == sum("\\Seen" not in names for names in flags.values())
        assert status.deleted == len(deleted)
        assert status.size == sum(sizes.values())
        assert status.deleted_size == sum(sizes[uid] for uid in deleted)
        assert status.uid_next == image.uid_next
        assert status.highest_mod_sequence == image.mod_sequence
        self.store.close(image)

    def used(self, of: Account | None = None) -> tuple[int, int]:
        """Octets and messages that the account's quota root counts."""
        of = of or self.ann
        [root] = self.run(self.store.quota_roots(self.principal(of), self.ref("INBOX", of)))
        return root.storage_used, root.message_used


def flags_of(image: IMailboxImage) -> dict[int, list[str]]:
    """UID → names of the flags, as the image has them."""
    return {
        uid: image.flag_table[number].names()
        for uid, number in zip(image.uids, image.flag_ids, strict=True)
    }


def sizes_of(rig: Rig, image: IMailboxImage) -> dict[int, int]:
    uids = [Uid(uid) for uid in image.uids]
    return dict(rig.run(rig.store.fetch(rig.who, image, uids, [Column.SIZE])))
