"""COPY and MOVE, within an account and between accounts."""

from __future__ import annotations

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.flags import Flags
from mailserver.model.ids import Uid
from mailserver.model.message import Column, InternalDate
from mailserver.model.numset import NumSet
from tests.contract.rig import MAIL, START, Rig, flags_of
from tests.contract.test_messages import LARGE

EVERYTHING = NumSet(((1, 2**32 - 1),))


def test_a_copy_keeps_flags_keywords_and_date(rig: Rig) -> None:  # T26
    date = InternalDate(START - 999, 60)
    flags = Flags.of("\\Seen", "\\Deleted", "$Forwarded")
    rig.append((MAIL, flags), (LARGE, Flags()), date=date)
    rig.append((MAIL, Flags.of("$FORWARDED")), to="Archive")
    rig.time += 100
    source = rig.image()
    copied = rig.run(rig.store.copy(rig.who, source, EVERYTHING, rig.ref("Archive")))
    target = rig.image("Archive")
    assert copied.source == (1, 2)
    assert copied.target == (2, 3)
    assert copied.uid_validity == target.uid_validity
    assert copied.mod_sequence == target.mod_sequence
    assert flags_of(target)[2] == ["\\Deleted", "\\Seen", "$FORWARDED"]
    columns = [Column.INTERNAL_DATE, Column.SAVE_DATE, Column.EMAIL_ID, Column.THREAD_ID]
    [there] = rig.run(rig.store.fetch(rig.who, target, [Uid(2)], columns))
    [here] = rig.run(rig.store.fetch(rig.who, source, [Uid(1)], columns))
    assert there[1] == date
    assert there[2] == START + 100
    assert there[3:] == here[3:]  # RFC 8474 §5.1
    assert rig.octets(target, 3) == LARGE
    rig.recount("Archive")
    assert rig.used() == (3 * len(MAIL) + 2 * len(LARGE), 5)


def test_octets_live_as_long_as_any_copy(rig: Rig) -> None:
    rig.append(MAIL, LARGE)
    source = rig.image()
    for name in ("Archive", "Trash", "INBOX"):
        rig.run(rig.store.copy(rig.who, source, NumSet(((1, 2),)), rig.ref(name)))
    rig.expunge(source, *source.uids)
    rig.run(rig.store.delete(rig.who, "Trash"))
    target = rig.image("Archive")
    assert (rig.octets(target, 1), rig.octets(target, 2)) == (MAIL, LARGE)
    rig.expunge(target, 1, 2)
    assert rig.used() == (0, 0)
    assert not list(rig.data.rglob("files/*/*"))


def test_a_copy_that_does_not_fit_copies_nothing(rig: Rig) -> None:  # T26, T49
    rig.append(MAIL, MAIL, MAIL)
    rig.run(rig.store.set_quota(rig.ann.id, None, 5))
    image = rig.image()
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.copy(rig.who, image, EVERYTHING, rig.ref("Archive")))
    assert raised.value.kind is ErrorKind.OVER_QUOTA
    rig.recount("Archive")
    assert rig.used() == (3 * len(MAIL), 3)
    copied = rig.run(rig.store.copy(rig.who, image, NumSet.of([3, 1]), rig.ref("Archive")))
    assert copied.target == (1, 2)


def test_copying_twice_makes_two(rig: Rig) -> None:  # T26
    rig.append(MAIL)
    image = rig.image()
    for _ in range(2):
        rig.run(rig.store.copy(rig.who, image, EVERYTHING, rig.ref("Archive")))
    rig.run(rig.store.copy(rig.who, image, EVERYTHING, image.ref))
    assert list(rig.image("Archive").uids) == [1, 2]
    assert list(image.uids) == [1, 2]


def test_copying_nothing_is_no_error(rig: Rig) -> None:  # T14
    image = rig.image()
    for call in (rig.store.copy, rig.store.move):
        copied = rig.run(call(rig.who, image, NumSet.of([7]), rig.ref("Archive")))
        assert (copied.source, copied.target) == ((), ())


def test_a_move_takes_the_messages_away(rig: Rig) -> None:
    """RFC 6851; no quota check (CGP-15)."""
    rig.append((MAIL, Flags.of("a")), MAIL, LARGE)
    rig.run(rig.store.set_quota(rig.ann.id, 1, 1))
    source = rig.image()
    before = source.mod_sequence
    moved = rig.run(rig.store.move(rig.who, source, NumSet.of([1, 3]), rig.ref("Archive")))
    assert (moved.source, moved.target) == ((1, 3), (1, 2))
    assert list(source.uids) == [2]
    assert list(source.changes_since(before).expunged) == [1, 3]
    assert moved.source_mod_sequence == source.mod_sequence
    target = rig.image("Archive")
    assert moved.mod_sequence == target.mod_sequence
    assert flags_of(target) == {1: ["a"], 2: []}
    assert rig.octets(target, 2) == LARGE
    rig.recount()
    rig.recount("Archive")
    assert rig.used() == (2 * len(MAIL) + len(LARGE), 3)


def test_a_move_onto_itself_gives_new_uids(rig: Rig) -> None:
    rig.append((MAIL, Flags.of("a")), MAIL)
    image = rig.image()
    moved = rig.run(rig.store.move(rig.who, image, NumSet.of([1]), image.ref))
    assert (moved.source, moved.target) == ((1,), (3,))
    assert list(image.uids) == [2, 3]
    assert flags_of(image)[3] == ["a"]
    assert moved.mod_sequence == moved.source_mod_sequence == image.mod_sequence
    rig.recount()
    assert rig.octets(image, 3) == MAIL


@pytest.mark.parametrize("call", ["copy", "move"])
def test_a_target_that_is_not_there(rig: Rig, call: str) -> None:  # T25
    rig.create("x")
    gone = rig.ref("x")
    rig.run(rig.store.delete(rig.who, "x"))
    rig.append(MAIL)
    image = rig.image()
    with pytest.raises(MailError) as raised:
        rig.run(getattr(rig.store, call)(rig.who, image, EVERYTHING, gone))
    assert raised.value.kind is ErrorKind.NONEXISTENT
    assert list(image.uids) == [1]
