"""Flags and keywords, and how an open mailbox learns of changes."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import ModSeq, Uid
from mailserver.model.numset import NumSet
from tests.contract.rig import MAIL, Rig, flags_of, open_sqlite


def test_flags_are_added_removed_and_replaced(rig: Rig) -> None:
    rig.append((MAIL, Flags.of("\\Seen")), MAIL, MAIL)
    image = rig.image()
    stored = rig.flag(image, (1, 2), "\\Flagged", "$Work")
    assert stored.changed == (1, 2)
    assert flags_of(image) == {
        1: ["\\Flagged", "\\Seen", "$Work"],
        2: ["\\Flagged", "$Work"],
        3: [],
    }
    rig.flag(image, (1,), "\\Seen", "$work", op=FlagOp.REMOVE)
    assert flags_of(image)[1] == ["\\Flagged"]
    rig.flag(image, (1, 2, 3), "\\Draft", op=FlagOp.REPLACE)
    assert flags_of(image) == {1: ["\\Draft"], 2: ["\\Draft"], 3: ["\\Draft"]}
    rig.flag(image, (1,), op=FlagOp.REPLACE)
    assert flags_of(image)[1] == []
    rig.recount()


def test_only_what_changes_counts_as_changed(rig: Rig) -> None:
    rig.append((MAIL, Flags.of("\\Seen")), MAIL)
    image = rig.image()
    before = image.mod_sequence
    stored = rig.flag(image, (1, 2), "\\Seen")
    assert stored.changed == (2,)
    assert list(image.mod_sequences) == [before, stored.mod_sequence]
    again = rig.flag(image, (1, 2), "\\Seen")
    assert again.changed == ()
    assert again.mod_sequence == stored.mod_sequence == image.mod_sequence


def test_uids_that_are_not_there_are_no_error(rig: Rig) -> None:  # T14
    rig.append(MAIL, MAIL)
    image = rig.image()
    rig.expunge(image, 1)
    everything = NumSet(((1, 2**32 - 1),))
    stored = rig.run(
        rig.store.store_flags(rig.who, image, everything, FlagOp.ADD, Flags.of("\\Seen"))
    )
    assert stored.changed == (2,)
    empty = rig.image("Drafts")
    stored = rig.run(
        rig.store.store_flags(rig.who, empty, everything, FlagOp.ADD, Flags.of("\\Seen"))
    )
    assert stored.changed == ()


def test_keywords_have_one_spelling_per_mailbox(rig: Rig) -> None:  # T11
    rig.append((MAIL, Flags.of("$Label")), (MAIL, Flags.of("$LABEL", "b")))
    image = rig.image()
    rig.flag(image, (1,), "B", "a")
    assert flags_of(image) == {1: ["$Label", "a", "b"], 2: ["$Label", "b"]}
    assert sorted(image.keywords) == ["$Label", "a", "b"]
    rig.flag(image, (1, 2), op=FlagOp.REPLACE)
    assert sorted(image.keywords) == ["$Label", "a", "b"]  # they were in use


def test_keywords_are_told_in_the_order_of_their_first_use(rig: Rig) -> None:
    rig.append(MAIL)
    image = rig.image()
    for word in ("z", "m", "a"):
        rig.flag(image, (1,), word)
    assert image.keywords == ("z", "m", "a")
    rig.restart()
    assert rig.image().keywords == ("z", "m", "a")


def test_any_number_of_keywords_up_to_the_limit(rig: Rig) -> None:
    rig.restart(keywords=100)
    rig.append(MAIL)
    image = rig.image()
    rig.flag(image, (1,), *(f"k{n}" for n in range(100)))
    assert len(flags_of(image)[1]) == 100
    for attempt in (
        lambda: rig.flag(image, (1,), "one-more"),
        lambda: rig.append((MAIL, Flags.of("one-more"))),
    ):
        with pytest.raises(MailError) as raised:
            attempt()
        assert raised.value.kind is ErrorKind.LIMIT
    rig.flag(image, (1,), "K7", op=FlagOp.REMOVE)  # a known one is no new one
    rig.flag(image, (1,), "never-seen", op=FlagOp.REMOVE)  # nor one that is taken
    assert len(flags_of(image)[1]) == 99


def test_two_sessions_change_different_flags_at_once(rig: Rig) -> None:  # T7
    rig.append(MAIL)
    image = rig.image()
    one = NumSet.of([1])

    def change(op: FlagOp, name: str):  # type: ignore[no-untyped-def]
        return rig.store.store_flags(rig.who, image, one, op, Flags.of(name))

    words = [f"w{n}" for n in range(20)]
    rig.loop.run_all(*(change(FlagOp.ADD, word) for word in words))
    assert flags_of(image)[1] == sorted(words)
    rig.loop.run_all(
        *(change(FlagOp.REMOVE, word) for word in words[:10]), change(FlagOp.ADD, "\\Seen")
    )
    assert flags_of(image)[1] == ["\\Seen", *sorted(words[10:])]


def test_a_message_changed_since_is_refused(rig: Rig) -> None:
    """RFC 7162 §3.1.3."""
    rig.append(MAIL, MAIL, MAIL)
    image = rig.image()
    since = image.mod_sequence
    rig.flag(image, (2,), "\\Flagged")
    stored = rig.run(
        rig.store.store_flags(
            rig.who, image, NumSet(((1, 3),)), FlagOp.ADD, Flags.of("\\Seen"), ModSeq(since)
        )
    )
    assert stored.changed == (1, 3)
    assert stored.refused == (2,)
    assert flags_of(image)[2] == ["\\Flagged"]


# -- what an open mailbox knows ------------------------------------------------


def test_sessions_share_one_image(rig: Rig) -> None:
    one, two = rig.image(), rig.image()
    assert one is two
    rig.store.close(one)
    rig.append()
    assert list(two.uids) == [1]
    rig.store.close(two)
    rig.append()
    assert list(rig.image().uids) == [1, 2]  # kept or made anew, it is up to date


def test_changes_are_told_once(rig: Rig) -> None:
    rig.append(MAIL, MAIL, MAIL)
    image = rig.image()
    start = image.mod_sequence
    assert image.changes_since(start).flagged == ()
    rig.append(MAIL)
    rig.flag(image, (2,), "\\Seen")
    middle = image.mod_sequence
    rig.flag(image, (4,), "\\Seen")
    rig.expunge(image, 1)
    told = image.changes_since(start)
    assert told.complete
    assert list(told.flagged) == [2]  # 4 is new, 1 is gone
    assert list(told.expunged) == [1]
    assert told.mod_sequence == image.mod_sequence
    later = image.changes_since(middle)
    assert (list(later.flagged), list(later.expunged)) == ([4], [1])
    nothing = image.changes_since(image.mod_sequence)
    assert (list(nothing.flagged), list(nothing.expunged)) == ([], [])


def test_what_a_view_holds_stays_true(rig: Rig) -> None:  # T3, T5
    rig.append(MAIL, MAIL, MAIL)
    image = rig.image()
    held, count = image.uids, len(image.uids)
    rig.append(MAIL)
    assert list(held[:count]) == [1, 2, 3]
    rig.expunge(image, 2)
    assert list(held[:count]) == [1, 2, 3]
    assert list(image.uids) == [1, 3, 4]


def test_a_question_from_before_the_image_was_open(rig: Rig) -> None:
    rig.append(MAIL, MAIL)
    image = rig.image()
    rig.expunge(image, 1)
    end = image.mod_sequence
    rig.store.close(image)
    image = rig.image()
    told = image.changes_since(ModSeq(1))
    assert not told.complete
    assert 2 in told.flagged
    assert told.mod_sequence == end


def test_mod_sequences_only_grow(rig: Rig) -> None:  # T36
    image = rig.image()
    seen = [image.mod_sequence]
    for step in range(6):
        rig.append()
        seen.append(image.mod_sequence)
        rig.flag(image, (step + 1,), "\\Seen")
        seen.append(image.mod_sequence)
    rig.expunge(image, 1, 2)
    seen.append(image.mod_sequence)
    rig.restart()
    image = rig.image()
    seen.append(ModSeq(image.mod_sequence + 1))
    assert seen == sorted(set(seen))


def test_each_message_is_recent_in_one_session(rig: Rig) -> None:  # T9
    rig.append(MAIL, MAIL)
    image = rig.image()
    assert rig.run(rig.store.status(rig.who, image.ref)).recent == 2
    assert list(image.unclaimed_recent()) == [1, 2]  # EXAMINE takes nothing
    assert list(image.claim_recent(Uid(1))) == [1]
    assert list(image.claim_recent(Uid(2))) == [2]
    assert list(image.claim_recent(Uid(2))) == []
    rig.append(MAIL)
    assert list(image.unclaimed_recent()) == [3]
    assert rig.run(rig.store.status(rig.who, image.ref)).recent == 1
    rig.store.close(image)
    rig.restart()
    image = rig.image()
    assert list(image.claim_recent(image.uid_next)) == [3]
    assert rig.run(rig.store.status(rig.who, image.ref)).recent == 0


def test_an_image_is_the_same_after_a_restart(rig: Rig) -> None:
    for n in range(30):
        rig.append((MAIL, Flags.of("\\Seen", f"k{n % 3}")))
    image = rig.image()
    rig.expunge(image, *range(5, 12))
    rig.flag(image, range(1, 5), "\\Answered")
    before = (list(image.uids), flags_of(image), list(image.mod_sequences), image.mod_sequence)
    rig.restart()
    image = rig.image()
    after = (list(image.uids), flags_of(image), list(image.mod_sequences), image.mod_sequence)
    assert after == before
    assert isinstance(image.uids, array)


@given(
    before=st.lists(st.sampled_from(("", "\\Seen", "\\Flagged", "$A")), min_size=1, max_size=12),
    gone=st.sets(st.integers(1, 12)),
    asked=st.sets(st.integers(1, 12), min_size=1),
    op=st.sampled_from(FlagOp),
)
@settings(max_examples=60, deadline=None)
def test_only_who_is_asked_for_changes(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    gone: set[int],
    asked: set[int],
    op: FlagOp,
) -> None:
    """T7: neighbours that get the same flags are written together; others stay out of it."""
    rig = Rig(tmp_path_factory.mktemp("data"), open_sqlite)
    rig.append(*((MAIL, Flags.of(*name.split())) for name in before))
    image = rig.image()
    rig.expunge(image, *(uid for uid in gone if uid <= len(before)))
    expected = flags_of(image)
    modseqs = dict(zip(image.uids, image.mod_sequences, strict=True))
    stored = rig.flag(image, tuple(sorted(asked)), "\\Seen", "$A", op=op)
    for uid in asked & set(expected):
        old = set(expected[uid])
        new = {"\\Seen", "$A"}
        after = new if op is FlagOp.REPLACE else old | new if op is FlagOp.ADD else old - new
        assert (uid in stored.changed) is (after != old)
        expected[uid] = sorted(after)
    assert {uid: sorted(flags) for uid, flags in flags_of(image).items()} == expected
    for uid, modseq in zip(image.uids, image.mod_sequences, strict=True):
        assert modseq == (stored.mod_sequence if uid in stored.changed else modseqs[uid])
    rig.recount()
    rig.close()
