"""In which order it happened: commands of several sessions, explained one by one.

Commands of several sessions run beside each other, so nobody can say beforehand what each
of them finds. `explain` looks for an order of them, each session's own order kept, in which
this model gives every answer that was observed and ends as the server ended. If there is
none, a change was lost, torn or made twice. A command that was never answered, because the
connection or the server went, may have been done or not, but not before an earlier one of
its session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tests.concurrency.reference import (
    Answer,
    Command,
    Contradiction,
    Message,
    State,
    apply,
    need,
)


@attrs.frozen
class Truth:
    """What the server showed when all was quiet.

    Attributes:
        boxes: name -> (UIDNEXT, messages) of those that hold messages.
        validities: name -> UIDVALIDITY.
        levels: names that hold none.
        subscribed: names.
    """

    boxes: Mapping[str, tuple[int, tuple[Message, ...]]]
    validities: Mapping[str, int]
    levels: frozenset[str]
    subscribed: frozenset[str]

    def compare(self, state: State) -> State:
        """Take up the UIDVALIDITY values of a state that is as it should be.

        Raises:
            Contradiction: it is not.
        """
        boxes = {b.name: (b.uid_next, b.messages) for b in state.boxes.values() if b.name}
        levels = {b.name for b in state.boxes.values() if b.name and not b.selectable}
        for name in levels:
            del boxes[name]
        names = set(boxes)
        need(names == set(self.boxes), f"mailboxes: {sorted(self.boxes)}, not {sorted(names)}")
        for name, (uid_next, messages) in boxes.items():
            found_next, found = self.boxes[name]
            need(found_next == uid_next, f"{name}: UIDNEXT {found_next}, not {uid_next}")
            need(found == messages, _difference(name, found, messages))
        need(levels == self.levels, f"levels: {sorted(self.levels)}, not {sorted(levels)}")
        need(
            self.subscribed == state.subscribed,
            f"subscriptions: {sorted(self.subscribed)}, not {sorted(state.subscribed)}",
        )
        for key, box in state.boxes.items():
            if box.name and box.selectable:
                state = state.put(key, box.told(self.validities[box.name]))
        return state


def _difference(name: str, found: Sequence[Message], expected: Sequence[Message]) -> str:
    odd = sorted(set(found) ^ set(expected), key=lambda message: message[0])
    lines = [
        f"  {'there' if one in found else 'missing'}: UID {one[0]}, text {one[1]},"
        f" {' '.join(sorted(one[2])) or 'no flags'}"
        for one in odd[:20]
    ]
    return "\n".join([f"{name} is not as it should be:", *lines])


Talk = Mapping[int, Sequence[tuple[Command, Answer | None]]]
"""Session -> its commands in order, each with what was observed."""


def explain(state: State, talk: Talk, truth: Truth) -> State:
    """Find the order in which it all happened.

    Returns:
        The state after it.

    Raises:
        Contradiction: there is none; it names the difference of the order that came
            furthest.
    """
    sessions = sorted(talk)
    dead: set[object] = set()
    furthest = (-1, "no order was tried")

    def search(state: State, done: tuple[int, ...]) -> State | None:
        nonlocal furthest
        reached = sum(done)
        rest = [talk[session][at:] for session, at in zip(sessions, done, strict=True)]
        if not any(answer is not None for left in rest for _, answer in left):
            try:
                return truth.compare(state)
            except Contradiction as contradiction:
                furthest = max(furthest, (reached, str(contradiction)))
        for which, (session, left) in enumerate(zip(sessions, rest, strict=True)):
            if not left:
                continue
            try:
                after = apply(state, session, *left[0])
            except Contradiction as contradiction:
                furthest = max(furthest, (reached, str(contradiction)))
                continue
            then = (*done[:which], done[which] + 1, *done[which + 1 :])
            mark = (then, after.fingerprint())
            if mark in dead:
                continue
            dead.add(mark)
            found = search(after, then)
            if found is not None:
                return found
        return None

    found = search(state, (0,) * len(sessions))
    if found is None:
        raise Contradiction(furthest[1])
    return found
