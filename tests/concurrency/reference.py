"""What the server should do, small enough to be read: mailboxes as tuples of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from mailserver.model.numset import SequenceSet
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import StatusAtt

Flags = frozenset[str]
Message = tuple[int, int, Flags]
"""UID, number of its text, its flags in lower case."""

STARS = ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash")
"""The mailboxes of a new account."""


@attrs.frozen
class Command:
    r"""One command as a client sends it; also a delivery, and the end of an IDLE.

    Attributes:
        verb: in upper case, with `UID `; `DELIVER` for LMTP, `DONE`.
        text: arguments as sent, without the octets of messages.
        name, other: mailboxes named.
        numbers: sequence numbers or UIDs as ranges; 0 is `*`.
        uids: the messages meant, where they are to change.
        operation, flags, silent: of STORE; flags also of APPEND.
        texts: numbers of the messages sent.
    """

    verb: str
    text: str = ""
    name: str = ""
    other: str = ""
    numbers: tuple[tuple[int, int], ...] = ()
    uids: tuple[int, ...] = ()
    operation: str = ""
    flags: tuple[str, ...] = ()
    silent: bool = False
    texts: tuple[int, ...] = ()

    def __str__(self) -> str:
        said = f"{self.verb} {self.text or self.name}"
        return f"{said} {list(self.texts)}" if self.texts else said

    @property
    def by_uid(self) -> bool:
        return self.verb.startswith("UID ")

    @property
    def base(self) -> str:
        """The verb without `UID`."""
        return self.verb.removeprefix("UID ")


@attrs.frozen
class Answer:
    """What came back: the untagged responses and the tagged one."""

    status: r.Status
    data: tuple[r.Response, ...] = ()

    @property
    def is_ok(self) -> bool:
        return self.status.condition is r.Condition.OK

    def number(self, code: bytes) -> int | None:
        """The number of an untagged OK's code."""
        for response in self.data:
            found = response.code if isinstance(response, r.Status) else None
            if isinstance(found, r.NumberCode) and found.name == code:
                return found.number
        return None

    def one(self, kind: type[Any]) -> Any:
        """The first untagged response of a kind, None if there is none."""
        return next((response for response in self.data if isinstance(response, kind)), None)

    def copied(self) -> r.CopyUid | None:
        """COPYUID, of the tagged answer or of an untagged one (T26)."""
        for status in (self.status, *self.data):
            if isinstance(status, r.Status) and isinstance(status.code, r.CopyUid):
                return status.code
        return None


class Contradiction(Exception):
    """The model would not have answered so."""


@attrs.frozen
class Box:
    """One mailbox.

    Attributes:
        name: empty once it is deleted.
        validity: UIDVALIDITY, None until somebody was told.
        floor: what the UIDVALIDITY must exceed (T12).
        messages: by UID, ascending.
    """

    name: str
    validity: int | None = None
    floor: int = 0
    uid_next: int = 1
    messages: tuple[Message, ...] = ()
    selectable: bool = True

    def add(self, what: Sequence[tuple[int, Flags]]) -> tuple[Box, tuple[int, ...]]:
        """Append messages; gives their UIDs."""
        uids = tuple(range(self.uid_next, self.uid_next + len(what)))
        new = tuple((uid, *one) for uid, one in zip(uids, what, strict=True))
        messages = self.messages + new
        return attrs.evolve(self, messages=messages, uid_next=self.uid_next + len(what)), uids

    def told(self, validity: int | None) -> Box:
        """Hold a UIDVALIDITY that was observed against what is known."""
        if validity is None:
            return self
        if self.validity is None and validity > self.floor:
            return attrs.evolve(self, validity=validity)
        if validity != self.validity:
            raise Contradiction(
                f"UIDVALIDITY {validity} of {self.name}, not {self.validity or self.floor}"
            )
        return self


def store(messages: tuple[Message, ...], command: Command) -> tuple[Message, ...]:
    """What STORE leaves (T7)."""
    given = frozenset(flag.lower() for flag in command.flags)
    wanted = frozenset(command.uids)

    def change(old: Flags) -> Flags:
        if command.operation == "+":
            return old | given
        return old - given if command.operation == "-" else given

    return tuple(
        (uid, text, change(flags) if uid in wanted else flags) for uid, text, flags in messages
    )


@attrs.frozen
class State:
    """Everything of one account, and which mailbox each session has selected."""

    boxes: Mapping[int, Box]
    subscribed: frozenset[str]
    history: Mapping[str, int] = attrs.Factory(dict)
    selected: Mapping[int, tuple[int, bool]] = attrs.Factory(dict)
    next_key: int = 0

    @classmethod
    def new_account(cls) -> State:
        boxes = {key: Box(name) for key, name in enumerate(STARS)}
        return cls(boxes, frozenset(STARS), next_key=len(STARS))

    # -- reading ------------------------------------------------------------

    def find(self, name: str) -> int | None:
        """Key of the mailbox, or level, of that name."""
        return next((key for key, box in self.boxes.items() if box.name == name), None)

    def target(self, name: str) -> int | None:
        """Key of the mailbox of that name that can hold messages."""
        key = self.find(name)
        return key if key is not None and self.boxes[key].selectable else None

    def below(self, name: str) -> list[int]:
        return [key for key, box in self.boxes.items() if box.name.startswith(name + "/")]

    def fingerprint(self) -> object:
        return (
            tuple(self.boxes.items()),
            self.subscribed,
            tuple(self.selected.items()),
            tuple(self.history.items()),
        )

    # -- changing -----------------------------------------------------------

    def put(self, key: int, box: Box) -> State:
        return attrs.evolve(self, boxes={**self.boxes, key: box})

    def forget(self, session: int) -> State:
        """The session has nothing selected."""
        return attrs.evolve(
            self, selected={of: what for of, what in self.selected.items() if of != session}
        )

    def make(self, name: str, *, selectable: bool = True) -> tuple[State, int]:
        """Make a mailbox, or make a level one."""
        floor = self.history.get(name, 0)
        key = self.find(name)
        if key is not None:
            box = attrs.evolve(self.boxes[key], selectable=True, validity=None, floor=floor)
            return self.put(key, box), key
        state = self.put(self.next_key, Box(name, floor=floor, selectable=selectable))
        return attrs.evolve(state, next_key=self.next_key + 1), self.next_key

    def with_superiors(self, name: str) -> State:
        state, parts = self, name.split("/")
        for depth in range(1, len(parts)):
            if state.find("/".join(parts[:depth])) is None:
                state, _ = state.make("/".join(parts[:depth]))
        return state

    def remember(self, name: str, validity: int | None) -> State:
        history = {**self.history, name: max(validity or 0, self.history.get(name, 0))}
        return attrs.evolve(self, history=history)


# -- commands -------------------------------------------------------------------------------


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Contradiction(what)


@attrs.frozen
class Turn:
    """One command of one session, done in some state.

    Attributes:
        answer: what was observed, None if nothing was.
    """

    state: State
    session: int
    command: Command
    answer: Answer | None

    def need(self, holds: bool, what: str) -> None:
        need(holds, f"{self.session}: {self.command}: {what}")

    def refused(self, *codes: r.ResponseCode) -> State:
        """It must have been answered NO, with one of the codes, if any; nothing happens."""
        if self.answer is not None:
            status = self.answer.status
            self.need(status.condition is r.Condition.NO, "is not refused")
            self.need(not codes or status.code in codes, f"{status}, not {codes}")
        return self.state

    def accepted(self) -> None:
        self.need(self.answer is None or self.answer.is_ok, "is refused")

    # -- of commands with a mailbox selected ----------------------------------

    @property
    def key(self) -> int:
        return self.state.selected[self.session][0]

    @property
    def box(self) -> Box:
        return self.state.boxes[self.key]

    @property
    def read_only(self) -> bool:
        return self.state.selected[self.session][1]

    def changed(self, messages: tuple[Message, ...]) -> State:
        """The state with other messages in the selected mailbox."""
        return self.state.put(self.key, attrs.evolve(self.box, messages=messages))


def apply(state: State, session: int, command: Command, answer: Answer | None) -> State:
    """Do one command.

    Args:
        answer: what was observed, None if nothing was.

    Raises:
        Contradiction: the answer is none that the model would give.
    """
    turn = Turn(state, session, command, answer)
    verb = command.base
    if verb in _ON_ACCOUNT:
        return _ON_ACCOUNT[verb](turn)
    if verb in ("NOOP", "IDLE", "DONE"):
        return state
    if session not in state.selected:
        is_bad = answer is None or answer.status.condition is r.Condition.BAD
        turn.need(is_bad, "without a mailbox is not BAD")
        return state
    if not turn.box.name:  # it has been deleted: whatever is answered, nothing happens
        return state.forget(session) if verb in ("CLOSE", "UNSELECT") else state
    return _ON_SELECTED[verb](turn)


def _select(turn: Turn) -> State:
    turn = attrs.evolve(turn, state=turn.state.forget(turn.session))
    state, key, answer = turn.state, turn.state.target(turn.command.name), turn.answer
    if key is None:
        return turn.refused()
    turn.accepted()
    if answer is not None:
        box = state.boxes[key]
        exists, uid_next = answer.one(r.Exists), answer.number(b"UIDNEXT")
        turn.need(exists == r.Exists(len(box.messages)), f"{exists}, not {len(box.messages)}")
        turn.need(uid_next == box.uid_next, f"UIDNEXT {uid_next}, not {box.uid_next}")
        state = state.put(key, box.told(answer.number(b"UIDVALIDITY")))
    read_only = turn.command.verb == "EXAMINE"
    return attrs.evolve(state, selected={**state.selected, turn.session: (key, read_only)})


def _create(turn: Turn) -> State:
    name = turn.command.name
    if turn.state.target(name) is not None:
        return turn.refused()
    turn.accepted()
    return turn.state.with_superiors(name).make(name)[0]


def _delete(turn: Turn) -> State:
    state, name = turn.state, turn.command.name
    key, below = state.find(name), state.below(name)
    if name == "INBOX" or key is None or (below and not state.boxes[key].selectable):
        return turn.refused()
    turn.accepted()
    box = state.boxes[key]
    state = state.put(key, attrs.evolve(box, name="", messages=()))
    state = state.remember(name, box.validity)
    if below:
        state, _ = state.make(name, selectable=False)
    if turn.session in state.selected and turn.key == key:
        state = state.forget(turn.session)
    return state


def _rename(turn: Turn) -> State:
    state, old, new = turn.state, turn.command.name, turn.command.other
    key = state.find(old)
    if old == "INBOX":
        return _rename_inbox(turn)
    moving = [] if key is None else [key, *state.below(old)]
    names = {each: new + state.boxes[each].name[len(old) :] for each in moving}
    taken = any(state.find(name) is not None for name in names.values())
    if key is None or taken or new.startswith(old + "/"):
        return turn.refused()
    turn.accepted()
    for each, name in names.items():
        box = state.boxes[each]
        state = state.remember(box.name, box.validity)
        # It keeps its own, or gets a new one where the name had one as high.
        floor = max((box.validity or box.floor + 1) - 1, state.history.get(name, 0))
        if box.selectable:
            box = attrs.evolve(box, validity=None, floor=floor)
        state = state.put(each, attrs.evolve(box, name=name))
    return state.with_superiors(new)


def _rename_inbox(turn: Turn) -> State:
    """Its messages go, it stays (RFC 3501 §6.3.5)."""
    state, new = turn.state, turn.command.other
    if state.find(new) is not None:
        return turn.refused()
    turn.accepted()
    state, made = state.with_superiors(new).make(new)
    key = state.find("INBOX")
    assert key is not None
    inbox = state.boxes[key]
    box, _ = state.boxes[made].add([message[1:] for message in inbox.messages])
    return state.put(made, box).put(key, attrs.evolve(inbox, messages=()))


def _subscribe(turn: Turn) -> State:
    turn.accepted()
    names, name = turn.state.subscribed, {turn.command.name}
    names = names | name if turn.command.verb == "SUBSCRIBE" else names - name
    return attrs.evolve(turn.state, subscribed=names)


def _status(turn: Turn) -> State:
    key = turn.state.target(turn.command.name)
    if key is None:
        return turn.refused()
    turn.accepted()
    if turn.answer is None:
        return turn.state
    told = turn.answer.one(r.MailboxStatus)
    turn.need(told is not None, "no STATUS")
    counters = dict(told.items)
    box = turn.state.boxes[key]
    expected = {
        StatusAtt.MESSAGES: len(box.messages),
        StatusAtt.UIDNEXT: box.uid_next,
        StatusAtt.UNSEEN: sum("\\seen" not in flags for _, _, flags in box.messages),
    }
    found = {attribute: counters[attribute] for attribute in expected}
    turn.need(found == expected, f"{found}, not {expected}")
    return turn.state.put(key, box.told(counters[StatusAtt.UIDVALIDITY]))


def _list(turn: Turn) -> State:
    turn.accepted()
    if turn.answer is not None:
        names = {one.mailbox for one in turn.answer.data if isinstance(one, r.MailboxList)}
        expected = set(turn.state.subscribed)
        if turn.command.verb == "LIST":
            expected = {box.name for box in turn.state.boxes.values() if box.name}
        turn.need(names == expected, f"{sorted(names)}, not {sorted(expected)}")
    return turn.state


_NO_TARGET = (r.TRYCREATE, r.NONEXISTENT)
"""T25; a target that goes amid the command is only missed."""


def _append(turn: Turn) -> State:
    command = turn.command
    key = turn.state.target(command.name)
    if key is None:
        return turn.refused(*_NO_TARGET)
    turn.accepted()
    flags = frozenset(flag.lower() for flag in command.flags)
    box, uids = turn.state.boxes[key].add([(text, flags) for text in command.texts])
    if turn.answer is not None:
        code = turn.answer.status.code
        assert isinstance(code, r.AppendUid), code
        turn.need(_uids(code.uids) == uids, f"APPENDUID {_uids(code.uids)}, not {uids}")
        box = box.told(code.uid_validity)
    return turn.state.put(key, box)


def _deliver(turn: Turn) -> State:
    turn.accepted()
    key = turn.state.target(turn.command.name)
    key = turn.state.find("INBOX") if key is None else key
    assert key is not None
    box, _ = turn.state.boxes[key].add([(text, frozenset()) for text in turn.command.texts])
    return turn.state.put(key, box)


def _uids(numbers: SequenceSet) -> tuple[int, ...]:
    return tuple(numbers.resolve(0))


_ON_ACCOUNT: dict[str, Callable[[Turn], State]] = {
    "SELECT": _select,
    "EXAMINE": _select,
    "CREATE": _create,
    "DELETE": _delete,
    "RENAME": _rename,
    "SUBSCRIBE": _subscribe,
    "UNSUBSCRIBE": _subscribe,
    "STATUS": _status,
    "LIST": _list,
    "LSUB": _list,
    "APPEND": _append,
    "DELIVER": _deliver,
}


def _store(turn: Turn) -> State:
    if turn.read_only:
        return turn.refused()
    turn.accepted()
    return turn.changed(store(turn.box.messages, turn.command))


def _fetch(turn: Turn) -> State:
    turn.accepted()
    if "BODY[" not in turn.command.text or turn.read_only:
        return turn.state
    uids = turn.command.uids
    if turn.answer is not None:
        # Those that it tells of. The others were seen when it looked; that another session
        # takes the flag from one of them meanwhile does not undo the rest. What it does not
        # speak of was taken away before it was read, perhaps with the mark.
        fetched = {uid for data in turn.answer.data for uid in _uids_of(data)}
        told = {uid for data in turn.answer.data for uid in _told_seen(data)}
        uids = tuple(uid for uid in uids if uid in told or uid not in fetched)
    seen = attrs.evolve(turn.command, operation="+", flags=("\\Seen",), uids=uids)
    return turn.changed(store(turn.box.messages, seen))


def _told_seen(data: r.Response) -> Iterator[int]:
    """The UID of a FETCH response for octets that also tells flags."""
    if isinstance(data, r.FetchData):
        kinds = {type(item) for item in data.items}
        if kinds >= {r.SectionItem, r.FlagsItem}:
            yield from _uids_of(data)


def _uids_of(data: r.Response) -> Iterator[int]:
    if isinstance(data, r.FetchData):
        yield from (item.uid for item in data.items if isinstance(item, r.UidItem))


def _look(turn: Turn) -> State:
    turn.accepted()
    return turn.state


def _expunge(turn: Turn) -> State:
    if turn.read_only:
        return turn.refused()
    turn.accepted()
    return turn.changed(_without_deleted(turn))


def _without_deleted(turn: Turn) -> tuple[Message, ...]:
    only = turn.command.uids if turn.command.verb == "UID EXPUNGE" else None
    return tuple(
        one
        for one in turn.box.messages
        if "\\deleted" not in one[2] or (only is not None and one[0] not in only)
    )


def _leave(turn: Turn) -> State:
    turn.accepted()
    state = turn.state
    if turn.command.verb == "CLOSE" and not turn.read_only:  # T27
        state = turn.changed(_without_deleted(turn))
    return state.forget(turn.session)


def _copy(turn: Turn) -> State:
    command = turn.command
    if command.base == "MOVE" and turn.read_only:
        return turn.refused()
    to = turn.state.target(command.name)
    if to is None:
        return turn.refused(*_NO_TARGET)
    turn.accepted()
    there = [message for message in turn.box.messages if message[0] in command.uids]
    target, made = turn.state.boxes[to].add([message[1:] for message in there])
    if turn.answer is not None:
        code = turn.answer.copied()
        observed = (_uids(code.source), _uids(code.target)) if code is not None else ((), ())
        expected = (tuple(message[0] for message in there), made)
        turn.need(observed == expected, f"COPYUID {observed}, not {expected}")
        target = target.told(code.uid_validity if code is not None else None)
    turn = attrs.evolve(turn, state=turn.state.put(to, target))
    if command.base == "MOVE":
        return turn.changed(tuple(one for one in turn.box.messages if one not in there))
    return turn.state


_ON_SELECTED: dict[str, Callable[[Turn], State]] = {
    "STORE": _store,
    "FETCH": _fetch,
    "SEARCH": _look,
    "CHECK": _look,
    "EXPUNGE": _expunge,
    "CLOSE": _leave,
    "UNSELECT": _leave,
    "COPY": _copy,
    "MOVE": _copy,
}
