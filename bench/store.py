"""The store: durable deliveries, images, FETCH, SEARCH, and how long they hold the reactor.

python -m bench.store [MESSAGES] [DIRECTORY]

DIRECTORY chooses the disk; the default is a temporary one. MESSAGES is the size of the
large mailbox, 100,000 by default, 10,000 of which are fetched and searched by text.
"""

from __future__ import annotations

import sys
import tempfile
import time
from array import array
from collections.abc import Awaitable
from pathlib import Path
from statistics import median
from typing import Any

from mailserver.model.account import Account, Recipient
from mailserver.model.flags import FlagOp, Flags, System
from mailserver.model.ids import AccountId, MailboxRef, Principal, Uid
from mailserver.model.message import Column, InternalDate
from mailserver.model.numset import NumSet
from mailserver.model.search import (
    And,
    Body,
    DateField,
    DateKey,
    DateRelation,
    HasFlag,
    Header,
    Larger,
    Not,
    SearchKey,
    Text,
    Uids,
)
from mailserver.store.image import Image
from mailserver.store.limits import StoreLimits
from mailserver.store.mailstore import MailStore, open_store
from mailserver.store.transactions.rows import by_id
from tests.mailgen import message
from tests.store.loop import Loop

SIZE = 8192
ACCOUNTS = 64
DELIVERIES = 3000
IN_FLIGHT = 256
LIMITS = StoreLimits(reserve=0)
LISTED = (Column.ENVELOPE, Column.BODY_STRUCTURE, Column.SIZE, Column.INTERNAL_DATE)


class Turns(Loop):
    """Notes how long each turn takes, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0.0
        self.lengths: list[float] = []

    def run_one(self, call: Any) -> None:
        started = time.perf_counter()
        call()
        self.lengths.append(time.perf_counter() - started)


def account(number: int) -> Account:
    return Account(AccountId(f"{number:026d}"), f"user{number}@example.org")


def principal(of: Account) -> Principal:
    return Principal(of.id, of.name, of.name)


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<58}{value:>10,.1f} {unit}", flush=True)


def milliseconds(run: Any, awaitables: Any, times: int = 5) -> float:
    """Median of some runs."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        run(awaitables())
        took.append(time.perf_counter() - started)
    return median(took) * 1000


def deliveries(data: Path, writers: int, accounts: int) -> float:
    """Durable deliveries of 8 KB per second, to many accounts in turn."""
    loop = Loop()
    store = open_store(
        data, loop, writers=writers, eager_texts=False, limits=StoreLimits(reserve=0)
    )
    people = [account(number) for number in range(accounts)]
    loop.run_all(*(store.create_account(each) for each in people))
    header = b"From: a@example.org\r\nSubject: number %d\r\nMessage-ID: <%d@x>\r\n\r\n"
    line = b"Some words of a message that nobody will read, to fill it.\r\n"

    async def deliver(number: int) -> None:
        spool = store.spool()
        spool.write(header % (number, number) + line * (SIZE // len(line)))
        spooled = await spool.finish()
        to = people[number % accounts]
        await store.deliver(Recipient(to.name, to), spooled, b"Delivered-To: someone\r\n")
        spooled.discard()

    numbers = iter(range(DELIVERIES))

    async def sender() -> None:
        for number in numbers:
            await deliver(number)

    started = time.perf_counter()
    loop.run_all(*(sender() for _ in range(IN_FLIGHT)))
    took = time.perf_counter() - started
    loop.run(store.stop())
    return DELIVERIES / took


def fill(loop: Loop, store: MailStore, who: Principal, ref: MailboxRef, messages: int) -> float:
    """Append generated mail; messages per second."""
    mails = [message(seed) for seed in range(300)]
    flags = [Flags.of(*names) for names in ((), ("\\Seen",), ("\\Seen", "$Work"), ("\\Flagged",))]
    started = time.perf_counter()

    async def append(start: int, stop: int) -> None:
        items = []
        for number in range(start, stop):
            spool = store.spool()
            spool.write(b"X-Number: %d\r\n" % number + mails[number % 300])
            items.append((await spool.finish(), flags[number % 4], InternalDate(number * 600)))
        await store.append(who, ref, items)

    for start in range(0, messages, 500):
        loop.run(append(start, min(start + 500, messages)))
    return messages / (time.perf_counter() - started)


def flags(data: Path, synced: bool) -> float:
    """Milliseconds of one change of a flag, the median."""
    loop = Loop()
    store = open_store(data, loop, eager_texts=False, limits=LIMITS, synced_flags=synced)
    owner = account(1)
    who = principal(owner)
    loop.run(store.create_account(owner))
    ref = loop.run(store.find(who, "INBOX")).ref
    fill(loop, store, who, ref, 100)
    image = loop.run(store.open(who, ref))
    numbers = iter(range(100))

    def change() -> Awaitable[Any]:
        uids = NumSet.of([next(numbers) + 1])
        return store.store_flags(who, image, uids, FlagOp.ADD, Flags.of("\\Flagged"))

    took = milliseconds(loop.run, change, 100)
    store.close(image)
    loop.run(store.stop())
    return took


def mailbox(data: Path, messages: int, detailed: int) -> None:
    """Everything that is measured on one large mailbox."""
    loop = Turns()
    store = open_store(data, loop, limits=LIMITS)
    owner = account(1)
    who = principal(owner)
    loop.run(store.create_account(owner))
    ref = loop.run(store.find(who, "INBOX")).ref
    show(f"append {messages:,} generated messages", fill(loop, store, who, ref, messages), "/s")

    def load() -> Awaitable[Any]:
        async def opened() -> None:
            store.close(await store.open(who, ref))

        return opened()

    image = loop.run(store.open(who, ref))

    async def from_rows() -> None:
        fresh = Image(ref, mailbox_row)
        await fresh._load_rows(store._engine)

    mailbox_row = loop.run(store._engine.read(owner.id, lambda c: by_id(c, ref.mailbox)))
    show(f"image of {messages:,} from rows", milliseconds(loop.run, from_rows, 3), "ms")
    store.close(image)
    loop.run(store.subscribe(who, "x", True))  # after the snapshot, in order
    show(f"image of {messages:,} opened again", milliseconds(loop.run, load), "ms")

    def load_packed() -> Awaitable[Any]:
        store._take_closed(ref)
        return load()

    show(f"image of {messages:,} from the snapshot", milliseconds(loop.run, load_packed), "ms")
    image = loop.run(store.open(who, ref))
    show(
        "refresh without news",
        milliseconds(loop.run, lambda: store.refresh(image), 200) * 1000,
        "µs",
    )
    show("status", milliseconds(loop.run, lambda: store.status(who, ref), 200) * 1000, "µs")

    async def fetch(columns: tuple[Column, ...], slice_: int, count: int) -> None:
        uids: Any = image.uids[:count]
        for start in range(0, len(uids), slice_):
            await store.fetch(who, image, uids[start : start + slice_].tolist(), columns)

    listed = milliseconds(loop.run, lambda: fetch(LISTED, 500, detailed))
    show(f"fetch envelope, structure, size, date of {detailed:,}", listed, "ms")
    headers = milliseconds(
        loop.run, lambda: fetch((Column.HEADER, Column.HEADER_INDEX), 500, detailed)
    )
    show(f"fetch headers of {detailed:,}", headers, "ms")

    async def bodies() -> None:
        at, uids = 0, image.uids[:detailed].tolist()
        while at < len(uids):
            got = await store.contents(who, image, [Uid(u) for u in uids[at : at + 200]], 1 << 20)
            for _, content in got:
                content.read(0, content.size)
                content.close()
            at += len(got)

    show(f"read all octets of {detailed:,}", milliseconds(loop.run, bodies, 3), "ms")

    def search(key: SearchKey) -> Awaitable[array[int]]:
        return store.search(who, image, key)

    for name, key in {
        "flag": Not(HasFlag(System.SEEN)),
        "three flags": And(
            (HasFlag(System.SEEN), Not(HasFlag(System.DELETED)), HasFlag(System.FLAGGED))
        ),
        "date": DateKey(DateField.INTERNAL, DateRelation.SINCE, 719163 + 100),
        "size": Larger(5000),
    }.items():
        took = milliseconds(loop.run, lambda key=key: search(key), 5)
        show(f"search {messages:,} by {name}", took, "ms")

    few = Uids(NumSet(((1, detailed),)))
    started = time.perf_counter()
    loop.run(search(And((few, Body("zyzzyva")))))
    show(
        f"search {detailed:,} by text, cold (decodes them)",
        (time.perf_counter() - started) * 1000,
        "ms",
    )
    for name, key in {
        "body": Body("zyzzyva"),
        "text": Text("zyzzyva"),
        "subject": Header("subject", "zyzzyva"),
        "common word of the body": Body("the"),
    }.items():
        took = milliseconds(loop.run, lambda key=key: search(And((few, key))), 5)
        show(f"search {detailed:,} by {name}, warm", took, "ms")

    everything = NumSet(((1, messages),))
    started = time.perf_counter()
    loop.run(store.store_flags(who, image, everything, FlagOp.ADD, Flags.of("\\Answered")))
    show(f"store a flag on {messages:,}", (time.perf_counter() - started) * 1000, "ms")
    started = time.perf_counter()
    archive = loop.run(store.find(who, "Archive")).ref
    loop.run(store.copy(who, image, NumSet(((1, detailed),)), archive))
    show(f"copy {detailed:,}", (time.perf_counter() - started) * 1000, "ms")
    lengths = sorted(loop.lengths)
    show("longest turn of the reactor", lengths[-1] * 1000, "ms")
    show("99th percentile of turns", lengths[len(lengths) * 99 // 100] * 1000, "ms")
    store.close(image)
    loop.run(store.stop())


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    directory = sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(dir=directory) as name:
        data = Path(name)
        for writers in (1, 4, 16):
            rate = deliveries(data / f"deliver{writers}", writers, ACCOUNTS)
            show(f"deliver 8 KB to {ACCOUNTS} accounts, {writers} writers", rate, "/s")
        show("deliver 8 KB to one account", deliveries(data / "one", 1, 1), "/s")
        show("store a flag, durable", flags(data / "durable", True), "ms")
        show("store a flag, not synced (relaxed)", flags(data / "relaxed", False), "ms")
        mailbox(data / "mailbox", messages, min(messages, 10_000))


if __name__ == "__main__":
    main()
