"""The image of a mailbox: how it is loaded, kept, and packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import ModSeq
from mailserver.model.numset import NumSet
from mailserver.store import image as images
from mailserver.store.image import Image
from tests.contract.rig import MAIL, Rig, flags_of, open_sqlite


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A store that reads in slices of 10 rows and packs snapshots early."""
    monkeypatch.setattr(images, "MAX_SLICE", 10)
    monkeypatch.setattr(images, "SNAPSHOT_AFTER", 20)
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


def state(image: Image) -> object:
    return (
        list(image.uids),
        flags_of(image),
        list(image.mod_sequences),
        image.mod_sequence,
        image.uid_next,
        image.keywords,
    )


def fill(rig: Rig, messages: int) -> None:
    for n in range(0, messages, 5):
        rig.append(*[(MAIL, Flags.of(f"k{n % 3}"))] * 5)


def snapshots(rig: Rig) -> int:
    ref = rig.ref()
    rows = rig.run(
        rig.store._engine.read(ref.account, lambda c: c.rows("SELECT mailbox FROM snapshot"))
    )
    return len(rows)


def without_snapshot(rig: Rig) -> None:
    rig.run(rig.store._engine.write(rig.ann.id, lambda t: t.connection.run("DELETE FROM snapshot")))


def test_slices_a_snapshot_and_changes_lead_to_the_same_image(rig: Rig) -> None:
    fill(rig, 95)
    kept = rig.image()  # loaded by slices, then kept up to date
    fill(rig, 30)
    rig.expunge(kept, *range(20, 33), 95)
    rig.flag(kept, range(1, 60), "\\Seen")
    expected = state(kept)
    rig.restart()  # packs it
    assert snapshots(rig) == 1
    assert state(rig.image()) == expected
    rig.restart()
    without_snapshot(rig)
    assert state(rig.image()) == expected
    assert snapshots(rig) == 0


def test_a_snapshot_is_brought_up_to_date(rig: Rig) -> None:
    fill(rig, 50)
    rig.store.close(rig.image())
    rig.restart()
    assert snapshots(rig) == 1
    image = rig.image()
    rig.expunge(image, 3, 4, 5)
    fill(rig, 5)
    rig.flag(image, range(1, 40), "\\Flagged")
    expected = state(image)
    rig.restart()
    without_snapshot(rig)
    fresh = rig.image()
    assert state(fresh) == expected


@pytest.mark.parametrize("damage", [b"", b"x" * 200, None])
def test_a_snapshot_that_makes_no_sense_is_not_used(rig: Rig, damage: bytes | None) -> None:
    fill(rig, 50)
    image = rig.image()
    expected = state(image)
    octets = image.pack()[:-4] if damage is None else damage
    rig.restart()
    rig.run(
        rig.store._engine.write(
            rig.ann.id, lambda t: t.connection.run("UPDATE snapshot SET octets = ?", (octets,))
        )
    )
    assert state(rig.image()) == expected


def test_a_little_change_packs_nothing(rig: Rig) -> None:
    fill(rig, 10)
    rig.store.close(rig.image())
    rig.restart()
    assert snapshots(rig) == 0


def test_loading_gives_way_and_misses_nothing_meanwhile(rig: Rig) -> None:
    """While one session loads by slices, others change the mailbox."""
    fill(rig, 100)
    ref = rig.ref()
    who = rig.who

    async def load() -> Image:
        return await rig.store.open(who, ref)

    second = open_sqlite(rig.data, rig.loop, rig.bus, rig.limits, lambda: rig.time)
    other = rig.run(second.open(who, ref))
    rig.flag(other, range(1, 99), "\\Deleted")

    async def change() -> None:
        for low in range(1, 60, 7):
            uids = NumSet(((low, low + 2),))
            await second.expunge(who, other, uids)
            await second.store_flags(who, other, NumSet(((90, 99),)), FlagOp.ADD, Flags.of("x"))

    before = rig.loop.turns
    loaded, again, _ = rig.loop.run_all(load(), load(), change())
    assert loaded is again
    assert rig.loop.turns - before > 10
    rig.run(rig.store.refresh(loaded))
    rig.run(second.refresh(other))
    assert state(loaded)[:4] == state(other)[:4]  # type: ignore[index]
    rig.run(second.stop())


def test_the_log_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LOG_UIDS", 30)
    monkeypatch.setattr(images, "LOG_STEPS", 5)
    fill(rig, 20)
    image = rig.image()
    seen = [image.mod_sequence]
    for n in range(8):
        rig.flag(image, range(1, 6), f"w{n}")
        seen.append(image.mod_sequence)
    assert image.changes_since(seen[-2]).complete
    assert list(image.changes_since(seen[-4]).flagged) == [1, 2, 3, 4, 5]
    oldest = image.changes_since(seen[0])
    assert not oldest.complete
    assert list(oldest.flagged) == [1, 2, 3, 4, 5]
    rig.expunge(image, *range(1, 20))
    assert not image.changes_since(seen[0]).complete
    assert image.changes_since(image.mod_sequence).complete


def test_tombstones_are_pruned_and_that_is_known(rig: Rig) -> None:
    rig.restart(tombstones=5)
    fill(rig, 40)
    image = rig.image()
    for uid in range(1, 40, 2):
        rig.expunge(image, uid)
    rows = rig.run(
        rig.store._engine.read(
            rig.ann.id, lambda c: c.rows("SELECT modseq, low, high FROM tombstone ORDER BY modseq")
        )
    )
    assert len(rows) == 5
    [(pruned,)] = rig.run(
        rig.store._engine.read(
            rig.ann.id, lambda c: c.rows("SELECT pruned_modseq FROM mailbox WHERE name = 'INBOX'")
        )
    )
    assert 0 < pruned < rows[0][0]


def test_an_image_whose_tombstones_were_pruned_is_still_right(rig: Rig) -> None:
    """Another process expunged more than is remembered, since this one looked."""
    rig.restart(tombstones=3)
    fill(rig, 30)
    image = rig.image()
    fill(rig, 5)
    second = open_sqlite(rig.data, rig.loop, rig.bus, rig.limits, lambda: rig.time)
    other = rig.run(second.open(rig.who, rig.ref()))
    start = image.mod_sequence
    for uid in range(1, 30, 2):
        one = NumSet.of([uid])
        rig.run(second.store_flags(rig.who, other, one, FlagOp.ADD, Flags.of("\\Deleted")))
        rig.run(second.expunge(rig.who, other, one))
    rig.run(rig.store.refresh(image))
    assert list(image.uids) == list(other.uids)
    assert state(image) == state(other)
    told = image.changes_since(ModSeq(start))
    assert list(told.expunged) == list(range(1, 30, 2))
    rig.run(second.stop())


def test_the_first_unseen_message_is_known_after_every_change(rig: Rig) -> None:
    def recounted(image: Image) -> int | None:
        seen = ["\\Seen" in names for names in flags_of(image).values()]
        return seen.index(False) if False in seen else None

    image = rig.image()
    assert image.first_unseen() is None
    fill(rig, 25)
    rig.run(rig.store.refresh(image))
    changes = [
        (FlagOp.ADD, range(1, 12)),
        (FlagOp.REMOVE, (3,)),
        (FlagOp.REMOVE, (7,)),
        (FlagOp.ADD, (3,)),
        (FlagOp.ADD, range(1, 26)),
        (FlagOp.REMOVE, (25,)),
    ]
    for op, uids in changes:
        rig.flag(image, uids, "\\Seen", op=op)
        assert image.first_unseen() == recounted(image)
        rig.expunge(image, min(uids))
        assert image.first_unseen() == recounted(image)
    fill(rig, 5)
    rig.run(rig.store.refresh(image))
    assert image.first_unseen() == recounted(image) is not None


def test_what_is_kept_of_mailboxes_is_asked_again_after_a_commit(rig: Rig) -> None:
    def numbers() -> tuple[int, int]:
        status = rig.run(rig.store.status(rig.who, rig.ref()))
        return status.messages, status.unseen

    assert numbers() == (0, 0)
    fill(rig, 5)
    assert numbers() == (5, 5)
    rig.flag(rig.image(), [1, 2], "\\Seen")
    assert numbers() == (5, 3)
