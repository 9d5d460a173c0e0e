"""What a client is told of its mailbox, and what its numbers mean meanwhile."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.model.acl import Right
from mailserver.model.changes import Changes, FlagsStored
from mailserver.model.flags import FlagOp, Flags, System, apply_flags
from mailserver.model.ids import AccountId, MailboxId, MailboxRef, ModSeq, Uid
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.numset import STAR, NumSet, SequenceSet
from mailserver.server.imap.view import GONE, NoSuchNumber, View

REF = MailboxRef(AccountId("a"), MailboxId("m"))
INFO = MailboxInfo(REF, "INBOX")


class Image:
    """A mailbox image that keeps the promises of `IMailboxImage` by the simplest means."""

    def __init__(self, *uids: int) -> None:
        self.ref = REF
        self.uid_validity = 1
        self.uid_next = Uid(1)
        self.mod_sequence = ModSeq(1)
        self.uids = array("I")
        self.flag_ids = array("I")
        self.mod_sequences = array("Q")
        self.flag_table = [Flags()]
        self.keywords: tuple[str, ...] = ()
        self.deleted = False
        self.first_recent = 1
        self.log: list[tuple[ModSeq, int, str]] = []
        self.pruned = ModSeq(0)
        for uid in uids:
            self.arrive(uid)

    def arrive(self, uid: int = 0, *names: str) -> int:
        uid = uid or self.uid_next
        self.mod_sequence = ModSeq(self.mod_sequence + 1)
        self.uids.append(uid)
        self.flag_ids.append(self.flag_id(Flags.of(*names)))
        self.mod_sequences.append(self.mod_sequence)
        self.uid_next = Uid(uid + 1)
        self.log.append((self.mod_sequence, uid, "arrived"))
        return uid

    def expunge(self, *uids: int) -> None:
        self.mod_sequence = ModSeq(self.mod_sequence + 1)
        kept = [at for at, uid in enumerate(self.uids) if uid not in uids]
        self.log += [(self.mod_sequence, uid, "gone") for uid in self.uids if uid in uids]
        self.uids = array("I", [self.uids[at] for at in kept])
        self.flag_ids = array("I", [self.flag_ids[at] for at in kept])
        self.mod_sequences = array("Q", [self.mod_sequences[at] for at in kept])

    def store(self, op: FlagOp, flags: Flags, *uids: int) -> FlagsStored:
        self.mod_sequence = ModSeq(self.mod_sequence + 1)
        changed = []
        for at, uid in enumerate(self.uids):
            new = apply_flags(self.flag_table[self.flag_ids[at]], op, flags)
            if uid in uids and self.flag_id(new) != self.flag_ids[at]:
                self.flag_ids[at] = self.flag_id(new)
                self.mod_sequences[at] = self.mod_sequence
                self.log.append((self.mod_sequence, uid, "flagged"))
                changed.append(Uid(uid))
        return FlagsStored(self.mod_sequence, tuple(changed))

    def flag_id(self, flags: Flags) -> int:
        new = [word for word in flags.keywords if word not in self.keywords]
        self.keywords += tuple(new)
        if flags not in self.flag_table:
            self.flag_table.append(flags)
        return self.flag_table.index(flags)

    def changes_since(self, mod_sequence: ModSeq) -> Changes:
        said = [entry for entry in self.log if entry[0] > mod_sequence]
        of = {kind: {uid for _, uid, k in said if k == kind} for kind in KINDS}
        flagged = sorted(of["flagged"] - of["arrived"] - of["gone"])
        if mod_sequence < self.pruned:
            return Changes(self.mod_sequence, uids(flagged), (), complete=False)
        return Changes(self.mod_sequence, uids(flagged), uids(sorted(of["gone"])))

    def first_unseen(self) -> int | None:
        seen = [bool(self.flag_table[at].system & System.SEEN) for at in self.flag_ids]
        return seen.index(False) if False in seen else None

    def claim_recent(self, up_to: Uid) -> NumSet:
        taken = NumSet.of(uid for uid in self.uids if self.first_recent <= uid <= up_to)
        self.first_recent = max(self.first_recent, up_to + 1)
        return taken

    def unclaimed_recent(self) -> NumSet:
        return NumSet.of(uid for uid in self.uids if uid >= self.first_recent)


KINDS = ("arrived", "gone", "flagged")


def uids(numbers: Iterable[int]) -> list[Uid]:
    return [Uid(number) for number in numbers]


def view_of(image: Image, read_only: bool = False, info: MailboxInfo = INFO) -> View:
    return View(image, info, read_only=read_only)  # type: ignore[arg-type]


def told(view: View, expunge: bool = True, with_uid: bool = False) -> list[str]:
    lines = view.drain(allow_expunge=expunge, with_uid=with_uid)
    assert all(line.endswith(b"\r\n") for line in lines)
    return [line[:-2].decode() for line in lines]


SEEN, DELETED = Flags.of("\\Seen"), Flags.of("\\Deleted")


# -- cases with names --------------------------------------------------------------------


def nothing_happened(image: Image, view: View) -> None:
    pass


def arrival(image: Image, view: View) -> None:
    image.arrive()


def arrival_gone_again(image: Image, view: View) -> None:
    image.expunge(image.arrive())


def expunge_first_and_third(image: Image, view: View) -> None:
    image.expunge(10, 30)


def expunge_all(image: Image, view: View) -> None:
    image.expunge(10, 20, 30)


def expunge_then_arrival(image: Image, view: View) -> None:
    image.expunge(20)
    image.arrive()


def arrival_then_expunge(image: Image, view: View) -> None:
    image.arrive()
    image.expunge(20)


def expunge_twice(image: Image, view: View) -> None:
    image.expunge(30)
    image.expunge(10)


def flags_changed(image: Image, view: View) -> None:
    image.store(FlagOp.ADD, SEEN, 20)


def flags_changed_twice(image: Image, view: View) -> None:
    image.store(FlagOp.ADD, SEEN, 20)
    image.store(FlagOp.REMOVE, SEEN, 20)


def flags_changed_then_gone(image: Image, view: View) -> None:
    image.store(FlagOp.ADD, DELETED, 20)
    image.expunge(20)


def flags_of_last_after_expunge(image: Image, view: View) -> None:
    image.expunge(10)
    image.store(FlagOp.ADD, SEEN, 30)


def flags_of_an_arrival(image: Image, view: View) -> None:
    image.store(FlagOp.ADD, SEEN, image.arrive())


def new_keyword(image: Image, view: View) -> None:
    image.store(FlagOp.ADD, Flags.of("$Forwarded"), 10)


def pruned(image: Image, view: View) -> None:
    image.expunge(20)
    image.pruned = image.mod_sequence


SYSTEM = "\\Answered \\Flagged \\Deleted \\Seen \\Draft"

CASES: list[tuple[Callable[[Image, View], None], list[str], list[str]]] = [
    (nothing_happened, [], []),
    (arrival, ["* 4 EXISTS", "* 4 RECENT"], []),
    (arrival_gone_again, [], []),
    (expunge_first_and_third, [], ["* 1 EXPUNGE", "* 2 EXPUNGE"]),  # T6
    (expunge_all, [], ["* 1 EXPUNGE", "* 1 EXPUNGE", "* 1 EXPUNGE"]),
    (expunge_then_arrival, [], ["* 2 EXPUNGE", "* 3 EXISTS", "* 3 RECENT"]),  # T4
    (arrival_then_expunge, [], ["* 2 EXPUNGE", "* 3 EXISTS", "* 3 RECENT"]),
    (expunge_twice, [], ["* 1 EXPUNGE", "* 2 EXPUNGE"]),
    (flags_changed, ["* 2 FETCH (FLAGS (\\Seen \\Recent))"], []),
    (flags_changed_twice, ["* 2 FETCH (FLAGS (\\Recent))"], []),
    (flags_changed_then_gone, [], ["* 2 EXPUNGE"]),
    (
        flags_of_last_after_expunge,
        ["* 3 FETCH (FLAGS (\\Seen \\Recent))"],
        ["* 1 EXPUNGE"],
    ),
    (flags_of_an_arrival, ["* 4 EXISTS", "* 4 RECENT"], []),
    (
        new_keyword,  # T10
        [
            f"* FLAGS ({SYSTEM} $Forwarded)",
            f"* OK [PERMANENTFLAGS ({SYSTEM} $Forwarded \\*)] what you may change",
            "* 1 FETCH (FLAGS ($Forwarded \\Recent))",
        ],
        [],
    ),
    (pruned, [], ["* 2 EXPUNGE"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_news_while_expunge_is_forbidden_then_allowed(
    case: tuple[Callable[[Image, View], None], list[str], list[str]],
) -> None:
    """T3, T4, T6, T10: what may be told at once, and what waits."""
    happens, at_once, later = case
    image = Image(10, 20, 30)
    view = view_of(image)
    happens(image, view)
    assert told(view, expunge=False) == at_once
    assert told(view, expunge=False) == []
    assert told(view) == later
    assert told(view) == []
    assert view.is_current


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_news_while_everything_is_allowed(
    case: tuple[Callable[[Image, View], None], list[str], list[str]],
) -> None:
    image = Image(10, 20, 30)
    view = view_of(image)
    case[0](image, view)
    told(view)
    assert list(view.uids[: view.count]) == list(image.uids)
    assert told(view) == []


def test_opening_tells_nothing_of_the_past() -> None:
    """T35."""
    image = Image(10, 20, 30)
    image.store(FlagOp.ADD, SEEN, 10)
    image.expunge(20)
    assert told(view_of(image)) == []


def test_uid_stands_in_news_when_asked() -> None:
    """T15."""
    image = Image(10)
    view = view_of(image)
    image.store(FlagOp.ADD, SEEN, 10)
    assert told(view, with_uid=True) == ["* 1 FETCH (UID 10 FLAGS (\\Seen \\Recent))"]


# -- numbers -----------------------------------------------------------------------------


def test_a_message_keeps_its_number_until_its_expunge_is_told() -> None:
    """T5."""
    image = Image(10, 20, 30)
    view = view_of(image)
    image.expunge(10, 20)
    image.arrive()
    told(view, expunge=False)
    assert list(view.uids[: view.count]) == [10, 20, 30]
    assert list(view.numbers_of([Uid(31)])) == []
    assert list(view.flag_ids(0, 3)) == [GONE, GONE, 0]
    told(view)
    assert list(view.uids[: view.count]) == [30, 31]
    assert list(view.numbers_of([Uid(10)])) == []


@pytest.mark.parametrize(
    ("written", "by_uid", "meant"),
    [
        (((1, 2),), False, [10, 20]),
        (((3, 1),), False, [10, 20, 30]),
        (((STAR, STAR),), False, [30]),
        (((2, STAR),), False, [20, 30]),
        (((1, 1), (3, 3)), False, [10, 30]),
        (((20, 20),), True, [20]),
        (((11, 19),), True, []),
        (((40, STAR),), True, [30]),  # T13
        (((STAR, 40),), True, [30]),
        (((1, 2**32 - 1),), True, [10, 20, 30]),
        (((31, 99),), True, []),  # 40 is not known yet
    ],
)
def test_sets_mean_what_the_client_knows(
    written: tuple[tuple[int, int], ...], by_uid: bool, meant: list[int]
) -> None:
    """T13, T14; an arrival that was not announced cannot be meant."""
    image = Image(10, 20, 30)
    view = view_of(image)
    image.arrive(40)
    found = view.resolve(SequenceSet(written), by_uid=by_uid)
    assert view.known(found) == meant
    spans = view.spans(found)
    assert [view.uids[at] for start, end in spans for at in range(start, end)] == meant
    assert view.find(SequenceSet(written), by_uid=by_uid) == spans
    assert view.numbers_of(meant) == [at // 10 for at in meant]


@pytest.mark.parametrize("written", [((4, 4),), ((1, 4),), ((STAR, 7),)])
def test_a_number_above_the_last_is_refused(written: tuple[tuple[int, int], ...]) -> None:
    """T14."""
    view = view_of(Image(10, 20, 30))
    for meaning in (view.resolve, view.find):
        with pytest.raises(NoSuchNumber, match="the mailbox has 3"):
            meaning(SequenceSet(written), by_uid=False)


def test_an_empty_mailbox_has_no_last_message() -> None:
    """T13: `*` is no error there, nor is `1:*`, which is all of nothing; others are (T14)."""
    view = view_of(Image())
    assert view.resolve(SequenceSet(((STAR, STAR),)), by_uid=True) == NumSet()
    assert view.resolve(SequenceSet(((1, STAR),)), by_uid=True) == NumSet()
    assert view.resolve(SequenceSet(((STAR, STAR),)), by_uid=False) == NumSet()
    assert view.resolve(SequenceSet(((1, STAR),)), by_uid=False) == NumSet()
    with pytest.raises(NoSuchNumber):
        view.resolve(SequenceSet(((1, 1),)), by_uid=False)


def test_numbers_of_leaves_out_what_the_client_does_not_know() -> None:
    view = view_of(Image(10, 20, 30))
    assert view.numbers_of([5, 10, 30, 40]) == [1, 3]


# -- own changes -------------------------------------------------------------------------


@attrs.frozen
class Silent:
    """A silent STORE of one session, with something else around it."""

    name: str
    before: Callable[[Image], object]
    after: Callable[[Image], object]
    told: list[str]


def nothing(image: Image) -> None:
    pass


@pytest.mark.parametrize(
    "case",
    [
        Silent("alone", nothing, nothing, []),
        Silent(
            "other_message_before",
            lambda image: image.store(FlagOp.ADD, DELETED, 20),
            nothing,
            ["* 2 FETCH (FLAGS (\\Deleted \\Recent))"],
        ),
        Silent(
            "same_message_before",
            lambda image: image.store(FlagOp.ADD, DELETED, 10),
            nothing,
            ["* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))"],
        ),
        Silent(
            "same_message_after",
            nothing,
            lambda image: image.store(FlagOp.ADD, DELETED, 10),
            ["* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))"],
        ),
    ],
    ids=lambda case: case.name,
)
def test_silent_store_hides_own_changes_only(case: Silent) -> None:
    """T8."""
    image = Image(10, 20)
    view = view_of(image)
    case.before(image)
    before = view.flags_before()
    stored = image.store(FlagOp.ADD, SEEN, 10)
    case.after(image)
    view.hush(before, stored, FlagOp.ADD, SEEN)
    assert told(view, expunge=False) == case.told


def test_silent_store_tells_what_came_between_it_and_its_commit() -> None:
    """T8: another process's change is in the image only with ours."""
    image = Image(10)
    view = view_of(image)
    before = view.flags_before()
    image.store(FlagOp.ADD, DELETED, 10)
    stored = image.store(FlagOp.ADD, SEEN, 10)
    view.hush(before, stored, FlagOp.ADD, SEEN)
    assert told(view) == ["* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))"]


def test_silent_store_then_expunge_by_another() -> None:
    image = Image(10, 20)
    view = view_of(image)
    before = view.flags_before()
    stored = image.store(FlagOp.ADD, SEEN, 10, 20)
    image.expunge(10)
    view.hush(before, stored, FlagOp.ADD, SEEN)
    assert told(view, expunge=False) == []
    assert told(view) == ["* 1 EXPUNGE"]


def test_flags_told_in_fetch_are_not_told_again() -> None:
    r"""T28: FETCH reports the \Seen that it sets, once."""
    image = Image(10, 20)
    view = view_of(image)
    image.store(FlagOp.ADD, DELETED, 10)
    assert not view.is_current
    stored = image.store(FlagOp.ADD, SEEN, 10, 20)
    view.told_flags(stored.changed, stored.mod_sequence)
    image.store(FlagOp.REMOVE, SEEN, 20)
    assert told(view) == ["* 2 FETCH (FLAGS (\\Recent))"]


# -- \Recent, rights ---------------------------------------------------------------------


def test_recent_is_one_sessions_only() -> None:
    r"""T9."""
    image = Image(10)
    first, second = view_of(image), view_of(image)
    assert (list(first.recent), list(second.recent)) == ([10], [])
    image.arrive()
    assert told(second) == ["* 2 EXISTS", "* 1 RECENT"]
    assert told(first) == ["* 2 EXISTS"]


def test_examine_takes_recent_from_nobody() -> None:
    """T9."""
    image = Image(10)
    reader = view_of(image, read_only=True)
    assert list(reader.recent) == [10]
    image.arrive()
    assert told(reader) == ["* 2 EXISTS", "* 2 RECENT"]
    assert list(view_of(image).recent) == [10, 11]


def test_expunged_recent_messages_are_not_counted() -> None:
    image = Image(10, 20)
    view = view_of(image)
    image.expunge(10)
    image.arrive()
    assert told(view) == ["* 1 EXPUNGE", "* 2 EXISTS", "* 2 RECENT"]


@pytest.mark.parametrize(
    ("letters", "names"),
    [
        ("lrswite", f"{SYSTEM} $x \\*"),
        ("lrs", "\\Seen"),
        ("lrt", "\\Deleted"),
        ("lrw", "\\Answered \\Flagged \\Draft $x \\*"),
    ],
)
def test_permanentflags_follow_the_rights(letters: str, names: str) -> None:
    """T10, RFC 4314 §4."""
    image = Image(10)
    image.store(FlagOp.ADD, Flags.of("$x"), 10)
    info = attrs.evolve(INFO, rights=frozenset(map(Right, letters)))
    flags, permanent = view_of(image, info=info).flag_lines()
    assert flags == f"* FLAGS ({SYSTEM} $x)\r\n".encode()
    assert permanent.startswith(f"* OK [PERMANENTFLAGS ({names})] ".encode())


def test_permanentflags_are_empty_when_read_only() -> None:
    """T10."""
    permanent = view_of(Image(10), read_only=True).flag_lines()[1]
    assert permanent == b"* OK [PERMANENTFLAGS ()] nothing may be changed\r\n"


def test_first_unseen() -> None:
    image = Image(10, 20, 30)
    image.store(FlagOp.ADD, SEEN, 10)
    assert view_of(image).first_unseen() == 2
    image.store(FlagOp.ADD, SEEN, 20, 30)
    assert view_of(image).first_unseen() is None


# -- any history -------------------------------------------------------------------------


class Reader:
    """A client that believes what it is told, and keeps what each number shows."""

    def __init__(self, image: Image) -> None:
        self.view = view_of(image)
        self.messages = [(uid, image.flag_ids[at]) for at, uid in enumerate(image.uids)]

    def take(self, image: Image, expunge: bool) -> None:
        for line in told(self.view, expunge, with_uid=True):
            words = line.split()
            if words[2:] == ["EXPUNGE"]:
                assert expunge
                del self.messages[int(words[1]) - 1]
            elif words[2:] == ["EXISTS"]:
                assert int(words[1]) >= len(self.messages)  # T4
                for at in range(len(self.messages), int(words[1])):
                    uid = self.view.uids[at]
                    self.messages.append((uid, image.flag_ids[list(image.uids).index(uid)]))
            elif words[2] == "FETCH":
                at = int(words[1]) - 1
                assert self.messages[at][0] == int(words[4])
                flag_id = image.flag_ids[list(image.uids).index(int(words[4]))]
                self.messages[at] = (int(words[4]), flag_id)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "expunge", "add", "remove", "tell", "ask", "store", "prune"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_a_client_that_believes_everything_is_right_in_the_end(
    steps: list[tuple[str, int]],
) -> None:
    """T3, T4, T5, T6, T8 for any history of two sessions and a third that changes things."""
    image = Image(1, 2, 3)
    readers = [Reader(image), Reader(image)]
    words = [Flags.of(name) for name in ("\\Seen", "\\Deleted", "$a", "$b")]
    for step, number in steps:
        chosen = image.uids[number % len(image.uids)] if image.uids else 0
        if step == "arrive":
            image.arrive()
        elif step == "expunge":
            image.expunge(chosen)
        elif step in ("add", "remove"):
            op = FlagOp.ADD if step == "add" else FlagOp.REMOVE
            image.store(op, words[number % 4], chosen)
        elif step == "prune":
            image.pruned = image.mod_sequence
        elif step == "store":
            reader = readers[number % 2]
            before = reader.view.flags_before()
            stored = image.store(FlagOp.ADD, words[number % 4], chosen)
            reader.view.hush(before, stored, FlagOp.ADD, words[number % 4])
            reader.messages = [
                (uid, _added(image, flag_id, words[number % 4]) if uid == chosen else flag_id)
                for uid, flag_id in reader.messages
            ]
        else:
            readers[number % 2].take(image, expunge=step == "tell")
        for reader in readers:
            known = [uid for uid, _ in reader.messages]
            assert known == list(reader.view.uids[: reader.view.count])
    for reader in readers:
        reader.take(image, expunge=True)
        assert reader.messages == list(zip(image.uids, image.flag_ids, strict=True))


def _added(image: Image, flag_id: int, flags: Flags) -> int:
    return image.flag_id(apply_flags(image.flag_table[flag_id], FlagOp.ADD, flags))
