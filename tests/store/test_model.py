"""Random operations against a small model, through two stores on the same data (R14).

The second store stands for another process: it shares nothing with the first but the
files, so an image of one has to learn of the other's changes from the database.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IMailboxImage
from mailserver.model.flags import FlagOp, Flags, apply_flags
from mailserver.model.ids import Uid
from mailserver.model.message import Column, InternalDate
from mailserver.model.numset import NumSet
from tests.contract.rig import Rig, flags_of, open_sqlite

SECONDS = 4.0
"""How long each seed may take."""

NAMES = ("INBOX", "Archive", "a", "a/b", "a/b/c", "d")
WORDS = ("\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "k1", "k2")
SIZES = (40, 500, 70_000)


@attrs.define
class Message:
    octets: bytes
    flags: Flags
    date: InternalDate


@attrs.define
class Mailbox:
    messages: dict[int, Message] = attrs.Factory(dict)
    uid_next: int = 1
    validity: int = 0

    def add(self, message: Message) -> int:
        uid, self.uid_next = self.uid_next, self.uid_next + 1
        self.messages[uid] = attrs.evolve(message)
        return uid


class Walk:
    """One random walk: each step does the same to a store and to the model."""

    def __init__(self, data: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.rig = Rig(data, open_sqlite)
        self.second = open_sqlite(
            data, self.rig.loop, self.rig.bus, self.rig.limits, lambda: self.rig.time
        )
        self.model: dict[str, Mailbox] = {
            name: Mailbox() for name in ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash")
        }
        self.levels: set[str] = set()
        self.validities: dict[str, int] = {}
        self.images: dict[tuple[int, str], IMailboxImage] = {}

    def close(self) -> None:
        for (which, _), image in self.images.items():
            self.store(which).close(image)
        self.rig.run(self.second.stop())
        self.rig.close()

    def store(self, which: int) -> Any:
        return self.second if which else self.rig.store

    def some_flags(self) -> Flags:
        return Flags.of(*self.random.sample(WORDS, self.random.randrange(4)))

    def some_uids(self, mailbox: Mailbox) -> NumSet:
        low = self.random.randrange(1, mailbox.uid_next + 2)
        return NumSet(((low, low + self.random.randrange(6)),))

    def image(self, which: int, name: str) -> IMailboxImage:
        """The image that a store has open, up to date."""
        store, image = self.store(which), self.images.get((which, name))
        if image is not None:
            self.rig.run(store.refresh(image))
            if not image.deleted:
                return image
            store.close(image)
        info = self.rig.run(store.find(self.rig.who, name))
        image = self.images[which, name] = self.rig.run(store.open(self.rig.who, info.ref))
        return image

    def step(self) -> None:
        which = self.random.randrange(2)
        name = self.random.choice(sorted(self.model))
        operation = self.random.choices(
            ("append", "flag", "expunge", "copy", "move", "create", "delete", "rename", "check"),
            (8, 8, 4, 3, 3, 2, 1, 1, 4),
        )[0]
        getattr(self, operation)(which, name)

    def append(self, which: int, name: str) -> None:
        octets = b"Subject: %d\r\n\r\n" % self.random.randrange(9)
        octets += b"x" * self.random.choice(SIZES)
        messages = [
            Message(octets, self.some_flags(), InternalDate(self.random.randrange(10**9), 60))
            for _ in range(self.random.randrange(1, 4))
        ]
        store = self.store(which)
        ref = self.image(which, name).ref
        spool = store.spool()
        spool.write(octets)
        spooled = self.rig.run(spool.finish())
        done = self.rig.run(
            store.append(self.rig.who, ref, [(spooled, m.flags, m.date) for m in messages])
        )
        spooled.discard()
        assert list(done.target) == [self.model[name].add(message) for message in messages]

    def flag(self, which: int, name: str) -> None:
        image, mailbox = self.image(which, name), self.model[name]
        uids, op, given = (
            self.some_uids(mailbox),
            self.random.choice(list(FlagOp)),
            self.some_flags(),
        )
        done = self.rig.run(self.store(which).store_flags(self.rig.who, image, uids, op, given))
        changed = []
        for uid, message in mailbox.messages.items():
            if uid in uids:
                after = apply_flags(message.flags, op, given)
                if after != message.flags:
                    changed.append(uid)
                    message.flags = after
        assert list(done.changed) == sorted(changed)

    def check(self, which: int, name: str) -> None:
        image, mailbox = self.image(which, name), self.model[name]
        assert list(image.uids) == sorted(mailbox.messages)
        assert image.uid_next == mailbox.uid_next
        assert {uid: set(names) for uid, names in flags_of(image).items()} == {
            uid: set(message.flags.names()) for uid, message in mailbox.messages.items()
        }
        uids = [Uid(uid) for uid in image.uids]
        columns = [Column.SIZE, Column.INTERNAL_DATE]
        rows = self.rig.run(self.store(which).fetch(self.rig.who, image, uids, columns))
        assert rows == [
            (uid, len(message.octets), message.date)
            for uid, message in sorted(mailbox.messages.items())
        ]
        if uids:
            uid = self.random.choice(uids)
            content = self.rig.run(self.store(which).content(self.rig.who, image, uid))
            assert content.read(0, 10**6) == mailbox.messages[uid].octets
            content.close()
        status = self.rig.run(self.store(which).status(self.rig.who, image.ref))
        assert status.messages == len(mailbox.messages)
        deleted = [m for m in mailbox.messages.values() if "\\Deleted" in m.flags.names()]
        assert (status.deleted, status.deleted_size) == (
            len(deleted),
            sum(len(m.octets) for m in deleted),
        )
        assert status.size == sum(len(m.octets) for m in mailbox.messages.values())
        assert status.unseen == sum(
            "\\Seen" not in m.flags.names() for m in mailbox.messages.values()
        )
        everything = [m for box in self.model.values() for m in box.messages.values()]
        assert self.rig.used() == (sum(len(m.octets) for m in everything), len(everything))

    def expunge(self, which: int, name: str) -> None:
        image, mailbox = self.image(which, name), self.model[name]
        uids = None if self.random.random() < 0.3 else self.some_uids(mailbox)
        self.rig.run(self.store(which).expunge(self.rig.who, image, uids))
        for uid in list(mailbox.messages):
            flags = mailbox.messages[uid].flags.names()
            if "\\Deleted" in flags and (uids is None or uid in uids):
                del mailbox.messages[uid]

    def copy(self, which: int, name: str) -> None:
        self._copy(which, name, "copy")

    def move(self, which: int, name: str) -> None:
        self._copy(which, name, "move")

    def _copy(self, which: int, name: str, call: str) -> None:
        to = self.random.choice(sorted(self.model))
        image, target = self.image(which, name), self.image(which, to).ref
        mailbox = self.model[name]
        uids = self.some_uids(mailbox)
        done = self.rig.run(getattr(self.store(which), call)(self.rig.who, image, uids, target))
        source = [uid for uid in sorted(mailbox.messages) if uid in uids]
        assert list(done.source) == source
        made = [self.model[to].add(mailbox.messages[uid]) for uid in source]
        assert list(done.target) == made
        if call == "move":
            for uid in source:
                del mailbox.messages[uid]

    def create(self, which: int, name: str) -> None:
        name = self.random.choice(NAMES)
        if name in self.model:
            with pytest.raises(MailError) as raised:
                self.rig.run(self.store(which).create(self.rig.who, name))
            assert raised.value.kind is ErrorKind.ALREADY_EXISTS
            return
        self.rig.run(self.store(which).create(self.rig.who, name))
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            above = "/".join(parts[:depth])
            if above not in self.model and (above == name or above not in self.levels):
                self.model[above] = Mailbox()
                self.levels.discard(above)
                self.new_validity(which, above)

    def new_validity(self, which: int, name: str) -> None:
        validity = self.image(which, name).uid_validity
        assert validity > self.validities.get(name, 0)
        self.validities[name] = validity

    def delete(self, which: int, name: str) -> None:
        if name == "INBOX":
            return
        self.rig.run(self.store(which).delete(self.rig.who, name))
        del self.model[name]
        if any(other.startswith(name + "/") for other in (*self.model, *self.levels)):
            self.levels.add(name)

    def rename(self, which: int, name: str) -> None:
        new = self.random.choice(("d", "e/f", "g"))
        if name == "INBOX" or new in self.model or new in self.levels:
            return
        self.rig.time += 1
        if new.startswith(name + "/") or any(
            other.startswith(new + "/") for other in (*self.model, *self.levels)
        ):
            return
        self.rig.run(self.store(which).rename(self.rig.who, name, new))
        for old in list(self.model):
            if old == name or old.startswith(name + "/"):
                self.model[new + old[len(name) :]] = self.model.pop(old)
        for old in list(self.levels):
            if old.startswith(name + "/"):
                self.levels.discard(old)
                self.levels.add(new + old[len(name) :])
        if "/" in new:
            above = new.split("/")[0]
            if above not in self.model and above not in self.levels:
                self.model[above] = Mailbox()
        for (where, _), image in self.images.items():
            self.store(where).close(image)
        self.images.clear()


@pytest.mark.parametrize("seed", range(5))
def test_two_stores_and_a_model_agree(tmp_path: Path, seed: int) -> None:
    walk = Walk(tmp_path / "data", seed)
    end = time.monotonic() + SECONDS
    steps = 0
    while time.monotonic() < end and steps < 600:
        walk.step()
        steps += 1
    for name in sorted(walk.model):
        walk.check(0, name)
        walk.check(1, name)
    names = {info.name for info in walk.rig.run(walk.rig.store.mailboxes(walk.rig.who))}
    assert names == set(walk.model) | walk.levels
    assert steps > 50
    walk.close()
