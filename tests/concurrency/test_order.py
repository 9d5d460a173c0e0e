"""The order that is looked for: what cannot have happened is not explained."""

from __future__ import annotations

import attrs
import pytest

from mailserver.model.numset import SequenceSet
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import BodySection, SectionText
from tests.concurrency.order import Talk, Truth, explain
from tests.concurrency.reference import (
    STARS,
    Answer,
    Box,
    Command,
    Contradiction,
    Message,
    State,
)

OK = Answer(r.Status(r.Condition.OK, "so"))
NO = Answer(r.Status(r.Condition.NO, "no"))


def state(*messages: Message) -> State:
    """An account with messages in INBOX, which sessions 0 and 1 have selected."""
    new = State.new_account()
    uid_next = max((message[0] for message in messages), default=0) + 1
    new = new.put(0, Box("INBOX", 7, 0, uid_next, tuple(messages)))
    return attrs.evolve(new, selected={0: (0, False), 1: (0, False)})


def truth(uid_next: int, *messages: Message, archive: tuple[Message, ...] = ()) -> Truth:
    boxes: dict[str, tuple[int, tuple[Message, ...]]] = dict.fromkeys(STARS, (1, ()))
    boxes["INBOX"] = uid_next, messages
    boxes["Archive"] = len(archive) + 1, archive
    return Truth(boxes, dict.fromkeys(STARS, 7), frozenset(), frozenset(STARS))


def message(uid: int, *flags: str) -> Message:
    return uid, uid * 10, frozenset(flags)


def store(uids: tuple[int, ...], operation: str, *flags: str) -> Command:
    return Command("UID STORE", uids=uids, operation=operation, flags=flags)


def append(text: int, uid: int) -> tuple[Command, Answer]:
    code = r.AppendUid(7, SequenceSet(((uid, uid),)))
    answer = Answer(r.Status(r.Condition.OK, "so", code))
    return Command("APPEND", "INBOX", "INBOX", texts=(text,)), answer


def move(uid: int, to: int) -> tuple[Command, Answer]:
    pair = SequenceSet(((uid, uid),)), SequenceSet(((to, to),))
    answer = Answer(r.Status(r.Condition.OK, "so", r.CopyUid(7, *pair)))
    return Command("UID MOVE", f"{uid} Archive", "Archive", uids=(uid,)), answer


TWO_FLAGS: Talk = {0: [(store((1,), "+", "a"), OK)], 1: [(store((1,), "+", "b"), OK)]}


def test_flags_of_two_sessions_are_both_kept() -> None:  # T7
    start = state(message(1))
    explain(start, TWO_FLAGS, truth(2, message(1, "a", "b")))
    for lost in (("a",), ("b",), ()):
        with pytest.raises(Contradiction, match="INBOX is not as it should be"):
            explain(start, TWO_FLAGS, truth(2, message(1, *lost)))


def test_either_of_two_that_replace_may_be_the_last() -> None:
    talk: Talk = {0: [(store((1, 2), "", "a"), OK)], 1: [(store((1, 2), "", "b"), OK)]}
    start = state(message(1), message(2))
    for last in "ab":
        explain(start, talk, truth(3, message(1, last), message(2, last)))
    with pytest.raises(Contradiction):
        explain(start, talk, truth(3, message(1, "a"), message(2, "b")))


def test_each_session_keeps_its_order() -> None:
    talk: Talk = {0: [(store((1,), "+", "a"), OK), (store((1,), "-", "a"), OK)]}
    explain(state(message(1)), talk, truth(2, message(1)))
    with pytest.raises(Contradiction):
        explain(state(message(1)), talk, truth(2, message(1, "a")))


def test_a_uid_is_given_once() -> None:  # T12
    there = (1, 10, frozenset[str]()), (2, 20, frozenset[str]())
    explain(state(), {0: [append(10, 1)], 1: [append(20, 2)]}, truth(3, *there))
    explain(state(), {0: [append(20, 2)], 1: [append(10, 1)]}, truth(3, *there))
    with pytest.raises(Contradiction, match="APPENDUID"):
        explain(state(), {0: [append(10, 1)], 1: [append(20, 1)]}, truth(3, *there))


def test_what_was_acknowledged_is_there() -> None:
    with pytest.raises(Contradiction, match="missing: UID 1, text 10"):
        explain(state(), {0: [append(10, 1)]}, truth(2))
    with pytest.raises(Contradiction, match="UIDNEXT"):
        explain(state(), {0: [append(10, 1)]}, truth(1))


def test_what_was_not_answered_may_be_done_or_not_but_in_order() -> None:
    talk: Talk = {0: [(append(10, 1)[0], None), (append(20, 2)[0], None)]}
    first, second = (1, 10, frozenset[str]()), (2, 20, frozenset[str]())
    explain(state(), talk, truth(1))
    explain(state(), talk, truth(2, first))
    explain(state(), talk, truth(3, first, second))
    with pytest.raises(Contradiction):
        explain(state(), talk, truth(2, (1, 20, frozenset())))
    with pytest.raises(Contradiction):
        explain(state(), talk, truth(3, second))


def test_a_message_is_moved_once() -> None:
    start, moved = state(message(1)), (1, 10, frozenset[str]())
    none = Answer(r.Status(r.Condition.OK, "gone", r.EXPUNGEISSUED))
    won, lost = move(1, 1), (move(1, 1)[0], none)
    explain(start, {0: [won], 1: [lost]}, truth(2, archive=(moved,)))
    with pytest.raises(Contradiction):
        explain(start, {0: [won], 1: [move(1, 2)]}, truth(2, archive=(moved, (2, 10, frozenset()))))
    with pytest.raises(Contradiction):
        explain(start, {0: [won]}, truth(2, message(1), archive=(moved,)))


def test_what_was_taken_away_while_it_was_read_may_have_been_marked() -> None:  # T28
    parts = (
        r.UidItem(2),
        r.FlagsItem(("\\Seen",)),
        r.SectionItem(BodySection((), SectionText.TEXT), b"x"),
    )
    code = r.Status(r.Condition.OK, "gone", r.EXPUNGEISSUED)
    fetch = Command("UID FETCH", "1:2 (UID BODY[TEXT])", uids=(1, 2))
    talk: Talk = {0: [(fetch, Answer(code, (r.FetchData(2, parts),)))], 1: [move(1, 1)]}
    start, read = state(message(1), message(2)), message(2, "\\seen")
    for flags in ((), ("\\seen",)):
        explain(start, talk, truth(3, read, archive=((1, 10, frozenset(flags)),)))
    with pytest.raises(Contradiction):
        explain(start, talk, truth(3, message(2), archive=((1, 10, frozenset()),)))


def test_a_refusal_needs_its_reason() -> None:
    create, remove = Command("CREATE", "x", "x"), Command("DELETE", "x", "x")
    shown = truth(1)
    with_x = attrs.evolve(
        shown, boxes={**shown.boxes, "x": (1, ())}, validities={**shown.validities, "x": 9}
    )
    explain(state(), {0: [(create, OK)], 1: [(create, NO)]}, with_x)
    explain(state(), {0: [(create, OK)], 1: [(remove, OK)]}, shown)
    with pytest.raises(Contradiction, match="not refused"):
        explain(state(), {0: [(create, OK)], 1: [(create, OK)]}, with_x)


def test_a_name_that_comes_back_has_a_higher_uidvalidity() -> None:  # T12
    again = [Command("DELETE", "Archive", "Archive"), Command("CREATE", "Archive", "Archive")]
    start = explain(state(), {}, truth(1))
    talk: Talk = {0: [(command, OK) for command in again]}
    shown = truth(1)
    with pytest.raises(Contradiction, match="UIDVALIDITY 7 of Archive"):
        explain(start, talk, shown)
    explain(start, talk, attrs.evolve(shown, validities={**shown.validities, "Archive": 8}))
