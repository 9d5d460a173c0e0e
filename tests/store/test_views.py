"""Sessions that follow a mailbox by `changes_since` see what is there (R13)."""

from __future__ import annotations

import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from mailserver.interfaces import IMailboxImage
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import ModSeq
from mailserver.model.message import InternalDate
from mailserver.model.numset import NumSet
from tests.contract.rig import MAIL, Rig, flags_of, open_sqlite


class View:
    """What one client was told so far, and nothing else."""

    def __init__(self, image: IMailboxImage) -> None:
        self.image = image
        self.mod_sequence = ModSeq(0)
        self.flags: dict[int, list[str]] = {}
        self.highest = 0
        self.start()

    def start(self) -> None:
        self.mod_sequence = self.image.mod_sequence
        self.flags = flags_of(self.image)
        self.highest = max(self.flags, default=0)

    def follow(self) -> None:
        """Apply the changes as a session does: expunges, arrivals, flags."""
        told = self.image.changes_since(self.mod_sequence)
        assert told.complete
        now = flags_of(self.image)
        for uid in told.expunged:
            self.flags.pop(uid, None)
        for uid in told.flagged:
            assert uid in self.flags, "flags of a message that was never announced"
            self.flags[uid] = now[uid]
        for uid in now:
            if uid > self.highest:
                self.flags[uid] = now[uid]
        self.highest = max(now, default=self.highest)
        self.mod_sequence = told.mod_sequence
        assert self.flags == now


@pytest.mark.parametrize("seed", range(6))
def test_views_follow_what_many_do_at_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rig = Rig(tmp_path / "data", open_sqlite)
    second = open_sqlite(rig.data, rig.loop, rig.bus, rig.limits, lambda: rig.time)
    rig.append(*[MAIL] * 10)
    ref, trash = rig.ref(), rig.ref("Trash")
    stores: list[Any] = [rig.store, second]
    images = [rig.run(store.open(rig.who, ref)) for store in stores]
    views = [View(image) for image in images for _ in range(3)]
    spooled = [store.spool() for store in stores]
    for spool in spooled:
        spool.write(MAIL)
    messages = [rig.run(spool.finish()) for spool in spooled]

    def some() -> NumSet:
        low = chance.randrange(1, images[0].uid_next + 1)
        return NumSet(((low, low + chance.randrange(5)),))

    def operation() -> Awaitable[Any]:
        which = chance.randrange(2)
        store, image, who = stores[which], images[which], rig.who
        match chance.randrange(7):
            case 0:
                item = (messages[which], Flags.of("\\Seen"), InternalDate(0))
                return store.append(who, ref, [item] * chance.randrange(1, 4))
            case 1 | 2:
                given = Flags.of(chance.choice(("\\Deleted", "\\Flagged", "k1", "k2")))
                return store.store_flags(who, image, some(), chance.choice(list(FlagOp)), given)
            case 3:
                return store.expunge(who, image, chance.choice((None, some())))
            case 4:
                return store.move(who, image, some(), chance.choice((ref, trash)))
            case 5:
                return store.copy(who, image, some(), ref)
            case _:
                return store.refresh(image)

    for _ in range(40):
        results = rig.loop.run_all(*(operation() for _ in range(chance.randrange(1, 12))))
        assert not [result for result in results if isinstance(result, Exception)]
        for view in views:
            if chance.random() < 0.4:  # some look seldom
                view.follow()
    for store, image in zip(stores, images, strict=True):
        rig.run(store.refresh(image))
    for view in views:
        view.follow()
    assert flags_of(images[0]) == flags_of(images[1])
    rig.recount()
    for store, image, message in zip(stores, images, messages, strict=True):
        message.discard()
        store.close(image)
    rig.run(second.stop())
    rig.restart()
    assert flags_of(rig.image()) == views[0].flags
    rig.close()
