"""`IMailStore` over an engine: asks the gate, runs the rules, keeps the images.

Reads run at once; writes go through `Engine.write`, which answers when they are durable.
The gate is asked inside the same transaction that it protects.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent, IEventBus, IMailboxImage, IMailStore, ISpooled
from mailserver.model.account import Account, AccountStatus, Recipient
from mailserver.model.acl import ALL_RIGHTS, Right, Rights
from mailserver.model.changes import Copied, EventKind, FlagsStored
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import AccountId, MailboxRef, ModSeq, Principal, Uid
from mailserver.model.mailbox import MailboxInfo, MailboxStatus
from mailserver.model.message import Column, InternalDate
from mailserver.model.names import INBOX, SpecialUse, canonical
from mailserver.model.numset import NumSet
from mailserver.model.quota import QuotaRoot
from mailserver.model.search import SearchKey
from mailserver.store import reading
from mailserver.store.authorize import authorize
from mailserver.store.engine import Connection, Engine, Transaction
from mailserver.store.image import Image
from mailserver.store.limits import StoreLimits
from mailserver.store.search import Search
from mailserver.store.spool import Spool, Spooled
from mailserver.store.sql import mailboxes as sql
from mailserver.store.sqlite.engine import SqliteEngine
from mailserver.store.texts import Texts
from mailserver.store.transactions import copying, quota
from mailserver.store.transactions import flags as flag_rules
from mailserver.store.transactions import mailboxes as mailbox_rules
from mailserver.store.transactions import messages as message_rules
from mailserver.store.transactions.rows import Mailbox, by_name, no_such_mailbox

T = TypeVar("T")

KEPT_MESSAGES = 250_000
"""Messages of images that are kept though nobody has them open, 16 octets each. To open a
mailbox of 3,000 again costs 0.1 ms then, and 3 ms from its rows."""

FEW = 20
"""Messages that a short operation may add or change (see `Engine.write`)."""


def open_store(
    data: Path,
    reactor: Any,
    bus: IEventBus | None = None,
    *,
    limits: StoreLimits | None = None,
    writers: int = 4,
    now: Callable[[], float] = time.time,
    eager_texts: bool = True,
    synced_flags: bool = True,
) -> MailStore:
    """Open the store of an installation on SQLite.

    Call it after twistd has forked; end it with `MailStore.stop`.

    Args:
        data: directory of the installation (0700); `accounts/` and `spool/` are made in it.
        reactor: `IReactorTime` and `IReactorFromThreads`.
        bus: gets events after commits; None in programs that tell nobody.
        limits: see there; the default ones if None.
        writers: threads that write, 1 .. 16.
        now: seconds since 1970 UTC.
        eager_texts: decode the text of new messages for SEARCH soon after they came;
            False in programs that only bring mail, the first search does it then.
        synced_flags: see `MailStore`.
    """
    chosen = limits or StoreLimits()
    engine = SqliteEngine(data, reactor, bus, chosen, now, writers)
    texts = Texts(engine, reactor, eager=eager_texts)
    engine.watcher = lambda done: texts.changed(done.account, done.arrived, done.left)
    return MailStore(engine, texts, engine.spool_directory, chosen, now, synced_flags)


@implementer(IMailStore)
class MailStore:
    """All mail; see `IMailStore`.

    Beside it stand calls for administrators: `accounts_on_disk` and `account_size`.

    Args:
        engine: runs the transactions.
        texts: decoded text, for SEARCH.
        spool_directory: for messages coming in; on the engine's file system.
        limits: of the store.
        now: seconds since 1970 UTC.
        synced_flags: changes of flags are durable when they are answered, as all else is;
            False lets a power cut take the newest ones back (not a crash).
    """

    _log = Logger()

    def __init__(
        self,
        engine: Engine,
        texts: Texts,
        spool_directory: Path,
        limits: StoreLimits,
        now: Callable[[], float],
        synced_flags: bool = True,
    ) -> None:
        self._synced_flags = synced_flags
        self.max_message_size = limits.max_message_size
        self._engine = engine
        self._texts = texts
        self._spool_directory = spool_directory
        self._now = now
        self._images: dict[MailboxRef, Image] = {}
        self._closed: OrderedDict[MailboxRef, Image] = OrderedDict()
        self._closed_messages = 0

    # -- mailboxes ----------------------------------------------------------

    async def mailboxes(self, who: Principal) -> Sequence[MailboxInfo]:
        """List the principal's mailboxes; see `IMailStore.mailboxes`."""

        rows = await self._engine.read(who.account, lambda c: c.rows(sql.ALL))
        found = [_info(who.account, Mailbox(*row)) for row in rows]
        return sorted(found, key=lambda info: (info.name != INBOX, info.name))

    async def subscriptions(self, who: Principal) -> Sequence[str]:
        """List the subscribed names; see `IMailStore.subscriptions`."""
        rows = await self._engine.read(who.account, lambda c: c.rows(sql.SUBSCRIPTIONS))
        return [row[0] for row in rows]

    async def find(self, who: Principal, name: str, right: Right | None = None) -> MailboxInfo:
        """Find a mailbox by name; see `IMailStore.find`."""
        return _info(who.account, await self._named(who, name))

    async def _named(self, who: Principal, name: str) -> Mailbox:
        name = canonical(name)
        return await self._engine.read(who.account, lambda c: _there(c, name))

    async def create(self, who: Principal, name: str, use: SpecialUse | None = None) -> MailboxInfo:
        """Make a mailbox; see `IMailStore.create`."""
        name = mailbox_rules.own_name(name)

        def write(transaction: Transaction) -> MailboxInfo:
            return _info(who.account, mailbox_rules.create(transaction, name, use))

        return await self._engine.write(who.account, write)

    async def delete(self, who: Principal, name: str) -> None:
        """Remove a mailbox; see `IMailStore.delete`."""
        name = canonical(name)
        await self._engine.write(
            who.account, lambda t: mailbox_rules.delete(t, name), makes_room=True
        )
        await self._refresh_images(who.account)

    async def rename(self, who: Principal, old: str, new: str) -> None:
        """Rename a mailbox; see `IMailStore.rename`."""
        old, new = canonical(old), mailbox_rules.own_name(new)
        await self._engine.write(who.account, lambda t: mailbox_rules.rename(t, old, new))
        await self._refresh_images(who.account)

    async def subscribe(self, who: Principal, name: str, subscribed: bool) -> None:
        """Set or take a subscription; see `IMailStore.subscribe`."""
        name = canonical(name)
        await self._engine.write(
            who.account, lambda t: mailbox_rules.subscribe(t, name, subscribed)
        )

    async def status(self, who: Principal, ref: MailboxRef) -> MailboxStatus:
        """Return the kept counters; see `IMailStore.status`."""
        image = self._images.get(ref) or self._closed.get(ref)

        def read(connection: Connection) -> MailboxStatus:
            mailbox, _ = authorize(connection, who, ref, Right.READ)
            first = mailbox.first_recent
            if image is not None:
                first = max(first, image.first_recent)
            return MailboxStatus(
                messages=mailbox.messages,
                recent=connection.kept(
                    (mailbox.number, first),
                    lambda: mailbox_rules.recent(connection, mailbox, first),
                ),
                unseen=mailbox.unseen,
                deleted=mailbox.deleted,
                size=mailbox.size,
                deleted_size=mailbox.deleted_size,
                uid_next=Uid(mailbox.uid_next),
                uid_validity=mailbox.uid_validity,
                highest_mod_sequence=ModSeq(mailbox.highest_modseq),
            )

        return await self._engine.read(ref.account, read)

    async def find_target(
        self, who: Principal, name: str
    ) -> tuple[MailboxInfo, Sequence[QuotaRoot]]:
        """Find where messages are to go; see `IMailStore.find_target`."""
        name = canonical(name)

        def read(connection: Connection) -> tuple[MailboxInfo, Sequence[QuotaRoot]]:
            mailbox = _for_messages(connection, name)
            return _info(who.account, mailbox), (quota.root(connection, mailbox.quota_root),)

        return await self._engine.read(who.account, read)

    async def quota_roots(self, who: Principal, ref: MailboxRef) -> Sequence[QuotaRoot]:
        """Return the quota roots of a mailbox; see `IMailStore.quota_roots`."""

        def read(connection: Connection) -> Sequence[QuotaRoot]:
            mailbox, _ = authorize(connection, who, ref)
            return (quota.root(connection, mailbox.quota_root),)

        return await self._engine.read(ref.account, read)

    async def append_limit(self, who: Principal, ref: MailboxRef) -> int:
        """Return the octets that one message may have; the same everywhere."""
        await self._engine.read(ref.account, lambda c: authorize(c, who, ref))
        return self.max_message_size

    # -- an open mailbox ----------------------------------------------------

    async def open(self, who: Principal, ref: MailboxRef) -> Image:
        """Give the shared image; see `IMailStore.open`."""
        mailbox, _ = await self._engine.read(
            ref.account, lambda c: authorize(c, who, ref, Right.READ)
        )
        return await self._opened(ref, mailbox)

    async def select(self, who: Principal, name: str) -> tuple[MailboxInfo, Image]:
        """Find a mailbox and give its image; see `IMailStore.select`."""
        name = canonical(name)

        def find(connection: Connection) -> tuple[MailboxInfo, Mailbox]:
            mailbox = _for_messages(connection, name)
            return _info(who.account, mailbox), mailbox

        info, mailbox = await self._engine.read(
            who.account, lambda c: c.kept(("to select", name), lambda: find(c))
        )
        return info, await self._opened(info.ref, mailbox)

    async def _opened(self, ref: MailboxRef, mailbox: Mailbox) -> Image:
        image = self._images.get(ref)
        if image is None:
            image = self._images[ref] = self._take_closed(ref) or Image(ref, mailbox)
        image.users += 1
        try:
            if not image.is_current(mailbox):
                await image.refresh(self._engine)
        except BaseException:
            self.close(image)
            raise
        if image.deleted:
            self.close(image)
            raise no_such_mailbox()
        if image.uids:  # another process may have brought some of them
            self._texts.changed(ref.account, arrived=True, left=False)
        return image

    def close(self, image: IMailboxImage) -> None:
        """Give an image back; the last one saves what is worth saving, without haste."""
        assert isinstance(image, Image)
        image.users -= 1
        if image.users or self._images.get(image.ref) is not image:
            return
        del self._images[image.ref]
        if not image.deleted and image.mod_sequence:
            self._save(image)
            self._keep_closed(image)

    def _keep_closed(self, image: Image) -> None:
        """Keep an image for who opens it next, and with it what `_save` has on its way."""
        image.forget_changes()
        image.weight = len(image.uids) + 100  # an empty one is not free either
        self._closed[image.ref] = image
        self._closed_messages += image.weight
        while self._closed_messages > KEPT_MESSAGES:
            self._take_closed(next(iter(self._closed)))

    def _take_closed(self, ref: MailboxRef) -> Image | None:
        image = self._closed.pop(ref, None)
        if image is not None:
            self._closed_messages -= image.weight
        return image

    def _save(self, image: Image) -> None:
        packed = image.pack() if image.wants_snapshot else None
        claimed = image.claimed_recent
        if packed is None and not claimed:
            return
        image.saved(packed is not None)

        def write(transaction: Transaction) -> None:
            if claimed:
                transaction.connection.run(
                    sql.CLAIM_RECENT, (image.first_recent, image.ref.mailbox)
                )
            if packed is not None:
                transaction.connection.run(sql.KEEP_SNAPSHOT, (packed, image.ref.mailbox))

        saving = Deferred.fromCoroutine(self._engine.write(image.ref.account, write))
        saving.addErrback(
            lambda failure: self._log.warn(
                "an image of {account} is not saved: {why}",
                account=image.ref.account,
                why=failure.value,
            )
        )

    async def refresh(self, image: IMailboxImage) -> None:
        """Bring an image up to date; see `IMailStore.refresh`."""
        assert isinstance(image, Image)
        if not image.deleted:
            await image.refresh(self._engine)

    async def _refresh_images(self, account: AccountId) -> None:
        for image in [i for i in self._images.values() if i.ref.account == account]:
            await self.refresh(image)
            if image.deleted:
                self._images.pop(image.ref, None)

    async def _through(self, who: Principal, image: IMailboxImage, right: Right) -> Image:
        """Ask the gate for an open mailbox; the owner's own needs no look at the rows."""
        assert isinstance(image, Image)
        if who.account != image.ref.account:
            await self._engine.read(
                image.ref.account, lambda c: authorize(c, who, image.ref, right)
            )
        return image

    async def fetch(
        self, who: Principal, image: IMailboxImage, uids: Sequence[Uid], columns: Sequence[Column]
    ) -> list[tuple[Any, ...]]:
        """Read columns of messages; see `IMailStore.fetch`."""
        opened = await self._through(who, image, Right.READ)
        blobs = self._engine.blobs(opened.ref.account)
        return await self._engine.read(
            opened.ref.account,
            lambda c: reading.fetch(c, blobs, opened.number, uids, columns) if uids else [],
        )

    async def content(self, who: Principal, image: IMailboxImage, uid: Uid) -> IContent | None:
        """Open the octets of one message; see `IMailStore.content`."""
        found = await self.contents(who, image, (uid,), 0)
        return found[0][1] if found else None

    async def contents(
        self, who: Principal, image: IMailboxImage, uids: Sequence[Uid], limit: int
    ) -> list[tuple[Uid, IContent]]:
        """Open the octets of the first messages; see `IMailStore.contents`."""
        opened = await self._through(who, image, Right.READ)
        engine, account = self._engine, opened.ref.account

        def open_file(digest: str) -> int:
            return engine.blobs(account).open(digest)

        return await engine.read(
            account,
            lambda c: reading.contents(c, open_file, opened.number, uids, limit) if uids else [],
        )

    async def unique_ids(
        self, who: Principal, image: IMailboxImage, uids: Sequence[Uid]
    ) -> dict[int, str]:
        """Give the unique ids kept of other servers; see `IMailStore.unique_ids`."""
        opened = await self._through(who, image, Right.READ)
        return await self._engine.read(
            opened.ref.account, lambda c: reading.unique_ids(c, opened.number, uids)
        )

    async def search(self, who: Principal, image: IMailboxImage, key: SearchKey) -> array[int]:
        """Find messages; see `IMailStore.search`."""
        opened = await self._through(who, image, Right.READ)
        return await Search(self._engine, self._texts, opened).run(key)

    async def store_flags(
        self,
        who: Principal,
        image: IMailboxImage,
        uids: NumSet,
        op: FlagOp,
        flags: Flags,
        unchanged_since: ModSeq | None = None,
    ) -> FlagsStored:
        """Change flags; see `IMailStore.store_flags`."""

        def write(transaction: Transaction) -> FlagsStored:
            mailbox, rights = authorize(transaction.connection, who, image.ref)
            return flag_rules.store_flags(
                transaction, mailbox, rights, uids, op, flags, unchanged_since
            )

        stored = await self._engine.write(
            image.ref.account,
            write,
            makes_room=True,
            is_synced=self._synced_flags,
            is_short=len(uids) <= FEW,
        )
        await self.refresh(image)
        return stored

    async def expunge(self, who: Principal, image: IMailboxImage, uids: NumSet | None) -> ModSeq:
        r"""Remove messages with `\Deleted`; see `IMailStore.expunge`."""

        def write(transaction: Transaction) -> ModSeq:
            mailbox, _ = authorize(transaction.connection, who, image.ref, Right.EXPUNGE)
            return message_rules.expunge(transaction, mailbox, uids)

        modseq = await self._engine.write(image.ref.account, write, makes_room=True)
        await self.refresh(image)
        return modseq

    async def copy(
        self, who: Principal, image: IMailboxImage, uids: NumSet, target: MailboxRef
    ) -> Copied:
        """Copy messages; see `IMailStore.copy`."""
        source = image.ref

        def write(transaction: Transaction) -> Copied:
            into, _ = authorize(transaction.connection, who, target, Right.INSERT)
            if source.account == target.account:
                out_of, _ = authorize(transaction.connection, who, source, Right.READ)
                return copying.copy(transaction, out_of, uids, into)
            return self._copy_over(transaction, who, source, uids, into, (Right.READ,))

        copied = await self._engine.write(target.account, write)
        await self._refresh_open(target)
        return copied

    async def move(
        self, who: Principal, image: IMailboxImage, uids: NumSet, target: MailboxRef
    ) -> Copied:
        """Move messages; see `IMailStore.move`."""
        source = image.ref
        needed = (Right.READ, Right.DELETE_MESSAGES, Right.EXPUNGE)

        def write(transaction: Transaction) -> Copied:
            into, _ = authorize(transaction.connection, who, target, Right.INSERT)
            if source.account != target.account:
                return self._copy_over(transaction, who, source, uids, into, needed)
            for right in needed:
                out_of, _ = authorize(transaction.connection, who, source, right)
            return copying.move(transaction, out_of, uids, into)

        copied = await self._engine.write(target.account, write)
        if source.account != target.account:
            # The target is durable; a crash here leaves a duplicate, never a loss.
            gone = NumSet.of(copied.source)

            def remove(transaction: Transaction) -> ModSeq:
                out_of, _ = authorize(transaction.connection, who, source, Right.EXPUNGE)
                return copying.remove(transaction, out_of, gone)

            modseq = await self._engine.write(source.account, remove, makes_room=True)
            copied = attrs.evolve(copied, source_mod_sequence=modseq)
        await self._refresh_open(target)
        await self.refresh(image)
        return copied

    @staticmethod
    def _copy_over(
        transaction: Transaction,
        who: Principal,
        source: MailboxRef,
        uids: NumSet,
        into: Mailbox,
        rights: Iterable[Right],
    ) -> Copied:
        """Copy from another account, inside the target's transaction."""
        with transaction.foreign(source.account) as (origin, blobs):
            for right in rights:
                out_of, _ = authorize(origin, who, source, right)
            return copying.copy_from(transaction, origin, blobs, out_of, uids, into)

    async def _refresh_open(self, ref: MailboxRef) -> None:
        image = self._images.get(ref)
        if image is not None:
            await self.refresh(image)

    # -- mail coming in -----------------------------------------------------

    def spool(self) -> Spool:
        """Start a message."""
        return Spool(self._spool_directory, self.max_message_size, self._engine.work)

    async def append(
        self,
        who: Principal,
        target: MailboxRef,
        messages: Sequence[tuple[ISpooled, Flags, InternalDate]],
        import_keys: Sequence[str] = (),
        unique_ids: Sequence[str | None] = (),
    ) -> Copied:
        """Add messages; see `IMailStore.append`."""
        keys: Sequence[str | None] = import_keys or [None] * len(messages)
        names = unique_ids or [None] * len(messages)
        coming = [
            message_rules.incoming(_own(spooled), given, date, import_key=key, unique_id=name)
            for (spooled, given, date), key, name in zip(messages, keys, names, strict=True)
        ]

        _, copied = await self._take_in(
            target.account, coming, lambda c: authorize(c, who, target, Right.INSERT)
        )
        return copied

    async def append_to(
        self,
        who: Principal,
        name: str,
        messages: Sequence[tuple[ISpooled, Flags, InternalDate]],
    ) -> tuple[MailboxInfo, Copied]:
        """Find a mailbox and add messages; see `IMailStore.append_to`."""
        name = canonical(name)
        coming = [
            message_rules.incoming(_own(spooled), given, date) for spooled, given, date in messages
        ]
        mailbox, copied = await self._take_in(
            who.account, coming, lambda c: (_for_messages(c, name), ALL_RIGHTS)
        )
        return _info(who.account, mailbox), copied

    async def _take_in(
        self,
        account: AccountId,
        coming: Sequence[message_rules.Incoming],
        find: Callable[[Connection], tuple[Mailbox, Rights]],
        kind: EventKind = EventKind.UPDATE_MSG,
    ) -> tuple[Mailbox, Copied]:
        """Add messages to the mailbox that is found in the same transaction."""

        def write(transaction: Transaction) -> tuple[Mailbox, Copied]:
            mailbox, rights = find(transaction.connection)
            coming_in = _permitted(coming, rights)
            return mailbox, message_rules.append(transaction, mailbox, coming_in, kind)

        mailbox, copied = await self._engine.write(account, write, is_short=_is_short(coming))
        await self._refresh_open(MailboxRef(account, mailbox.id))
        return mailbox, copied

    async def deliver(self, recipient: Recipient, message: ISpooled, prefix: bytes) -> MailboxInfo:
        """Put a message into a recipient's mailbox; see `IMailStore.deliver`."""
        _must_be_active(recipient.account)
        coming = message_rules.incoming(
            _own(message), Flags(), InternalDate(int(self._now())), prefix
        )
        account = recipient.account.id
        mailbox, _ = await self._take_in(
            account,
            (coming,),
            lambda c: (mailbox_rules.delivery_mailbox(c, recipient.detail), ALL_RIGHTS),
            EventKind.NEW_MSG,
        )
        return _info(account, mailbox)

    async def check_deliverable(self, recipient: Recipient, size: int) -> None:
        """Say whether a message would be taken; see `IMailStore.check_deliverable`."""
        _must_be_active(recipient.account)
        if size > self.max_message_size:
            raise MailError(
                ErrorKind.TOO_BIG, f"a message may have at most {self.max_message_size} octets"
            )

        def read(connection: Connection) -> None:
            mailbox = mailbox_rules.delivery_mailbox(connection, recipient.detail)
            quota.root(connection, mailbox.quota_root).check_room(size, 1)

        await self._engine.read(recipient.account.id, read)

    # -- accounts -----------------------------------------------------------

    async def create_account(self, account: Account) -> None:
        """Make the data of a new account; see `IMailStore.create_account`."""
        await self._engine.create(
            account.id,
            account.name,
            lambda t: mailbox_rules.fill_account(t, account.storage_limit, account.message_limit),
        )

    async def delete_account(self, account: AccountId) -> None:
        """Remove all data of an account; open images of it become deleted."""
        await self._texts.drop(account)
        await self._engine.remove(account)
        for ref in [ref for ref in self._closed if ref.account == account]:
            self._take_closed(ref)
        for ref in [ref for ref in self._images if ref.account == account]:
            self._images.pop(ref).deleted = True

    async def set_quota(
        self, account: AccountId, storage_limit: int | None, message_limit: int | None
    ) -> None:
        """Set the limits of an account's root; durable."""
        await self._engine.write(
            account, lambda t: quota.set_limits(t, storage_limit, message_limit)
        )

    # -- for administrators -------------------------------------------------

    async def accounts_on_disk(self) -> Sequence[AccountId]:
        """List the accounts that have data here, ascending, whatever the directory says."""
        return await self._engine.work(self._engine.accounts)

    async def account_size(self, account: AccountId) -> int:
        """Octets on disk of an account: database, large messages, kept text.

        Raises:
            MailError: NONEXISTENT.
        """
        return await self._engine.work(lambda: self._engine.size(account))

    async def stop(self) -> None:
        """Finish what is being written, refuse new writes, close every handle."""
        for image in self._images.values():
            if not image.deleted and image.mod_sequence:
                self._save(image)
        self._images.clear()
        self._closed.clear()
        await self._texts.stop()
        await self._engine.stop()


def _there(connection: Connection, name: str) -> Mailbox:
    """The row of a mailbox.

    Raises:
        MailError: NONEXISTENT.
    """
    mailbox = by_name(connection, name)
    if mailbox is None:
        raise no_such_mailbox(name)
    return mailbox


def _for_messages(connection: Connection, name: str) -> Mailbox:
    """The row of a mailbox that is more than a level of hierarchy.

    Raises:
        MailError: NONEXISTENT.
    """
    mailbox = _there(connection, name)
    if not mailbox.selectable:
        raise no_such_mailbox(name)
    return mailbox


def _info(account: AccountId, mailbox: Mailbox) -> MailboxInfo:
    """A mailbox as its owner sees it."""
    return MailboxInfo(
        ref=MailboxRef(account, mailbox.id),
        name=mailbox.name,
        rights=ALL_RIGHTS,
        special_use=SpecialUse(mailbox.special_use) if mailbox.special_use else None,
        subscribed=bool(mailbox.subscribed),
        selectable=bool(mailbox.selectable),
    )


def _own(spooled: ISpooled) -> Spooled:
    """A spooled message of this store.

    Raises:
        TypeError: it is another store's.
    """
    if not isinstance(spooled, Spooled):
        raise TypeError("a store takes only what its own spool made")
    return spooled


def _permitted(
    coming: Sequence[message_rules.Incoming], rights: Rights
) -> Sequence[message_rules.Incoming]:
    """Leave out the flags that the rights do not allow to set (RFC 4314 §4)."""
    if rights == ALL_RIGHTS:
        return coming
    system, with_keywords = flag_rules.permitted(rights)
    return [
        attrs.evolve(
            message,
            flags=Flags(
                message.flags.system & system, message.flags.keywords if with_keywords else ()
            ),
        )
        for message in coming
    ]


def _is_short(coming: Sequence[message_rules.Incoming]) -> bool:
    """Say whether keeping them is a short operation: a few, and none in a file."""
    return len(coming) <= FEW and all(message.spooled.octets is not None for message in coming)


def _must_be_active(account: Account) -> None:
    if account.status is not AccountStatus.ACTIVE:
        raise MailError(
            ErrorKind.DISABLED, "this account takes no mail at present", subject=account.name
        )
