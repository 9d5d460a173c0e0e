"""Clients that believe what they are told, and compute the rest, are right in the end.

Two or three sessions change one mailbox at random. Each is watched by a client that keeps
what RFC 3501 lets it conclude: how many messages there are, which UID has which number,
which flags it was told or has set itself. Whatever they do, nothing they are told may
contradict it, and when they have listened, what they believe is what is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.model.flags import FlagOp, Flags, apply_flags
from tests.server.rig import MAIL, Client, Rig, rig

FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "$Work", "$Later")
KEEPS_NUMBERS = ("FETCH", "STORE", "SEARCH")
_boxes = count(1)


@attrs.define
class Believer:
    """A client and what it believes.

    Attributes:
        uids: by number, None where it was not told yet.
        flags: likewise.
    """

    client: Client
    uids: list[int | None] = attrs.field(factory=list)
    flags: list[Flags | None] = attrs.field(factory=list)

    def command(self, text: str) -> list[str]:
        """Run a command, and learn from its answer."""
        answers = self.client.command(text)
        for line in answers[:-1]:
            self.hear(line, text)
        assert re.match(r"\. OK |\. NO \[(TRYCREATE|EXPUNGEISSUED)\]", answers[-1]), answers
        return answers

    def hear(self, line: str, command: str) -> None:
        """Learn from one response."""
        if found := re.fullmatch(r"\* (\d+) EXISTS", line):
            number = int(found[1])
            assert number >= len(self.uids), f"{line}: fewer without EXPUNGE (T4)"
            self.uids += [None] * (number - len(self.uids))
            self.flags += [None] * (number - len(self.flags))
        elif found := re.fullmatch(r"\* (\d+) EXPUNGE", line):
            assert command.split()[0] not in KEEPS_NUMBERS, f"{line} in {command} (T3)"
            number = int(found[1])
            assert 1 <= number <= len(self.uids), line
            del self.uids[number - 1], self.flags[number - 1]
        elif found := re.fullmatch(r"\* (\d+) FETCH \((.*)\)", line, re.DOTALL):
            number = int(found[1])
            assert 1 <= number <= len(self.uids), line
            if command.startswith("UID "):
                assert "UID " in found[2], f"{line} without its UID (T15)"
            if uid := re.search(r"UID (\d+)", found[2]):
                known = self.uids[number - 1]
                assert known in (None, int(uid[1])), f"{line}: the number had UID {known} (T5)"
                self.uids[number - 1] = int(uid[1])
            if flags := re.search(r"FLAGS \(([^)]*)\)", found[2]):
                names = [name for name in flags[1].split() if name != "\\Recent"]
                self.flags[number - 1] = Flags.of(*names)
        known_uids = [uid for uid in self.uids if uid is not None]
        assert known_uids == sorted(set(known_uids)), f"{line}: UIDs do not ascend (T12)"

    def numbers(self, first: int, last: int) -> tuple[int, int]:
        """A range of messages that are there for this client."""
        size = len(self.uids)
        low, high = sorted((first % size, last % size))
        return low + 1, high + 1

    def store(self, first: int, last: int, op: FlagOp, flags: Flags, silent: bool) -> None:
        """Change flags, and think oneself what becomes of them where nothing is told (T8)."""
        low, high = self.numbers(first, last)
        if silent:
            for at in range(low - 1, high):
                old = self.flags[at]
                if old is not None:
                    self.flags[at] = apply_flags(old, op, flags)
                elif op is FlagOp.REPLACE:
                    self.flags[at] = flags
        suffix = ".SILENT" if silent else ""
        self.command(f"STORE {low}:{high} {op.value}{suffix} ({' '.join(flags.names())})")


SMALL = st.integers(0, 9)
STORE = st.tuples(
    st.just("store"),
    SMALL,
    SMALL,
    st.sampled_from(FlagOp),
    st.sets(st.sampled_from(FLAGS), max_size=3),
    st.booleans(),
)
ON_SOME = st.tuples(
    st.sampled_from(["fetch", "uid fetch", "read", "copy", "move", "search"]), SMALL, SMALL
)
ON_ALL = st.tuples(st.sampled_from(["expunge", "uid expunge", "noop", "append", "deliver"]))
ACTION = st.one_of(STORE, STORE, ON_SOME, ON_ALL)


def act(server: Rig, box: str, who: Believer, action: tuple) -> None:  # type: ignore[type-arg]
    name, *arguments = action
    if name == "deliver":
        server.append(MAIL, mailbox=box)
    elif name == "append":
        who.command(f"APPEND {box} {{{len(MAIL)}+}}\r\n{MAIL.decode()}")
    elif name == "noop":
        who.command("NOOP")
    elif name == "expunge":
        who.command("EXPUNGE")
    elif name == "uid expunge":
        who.command("UID EXPUNGE 1:*")
    elif who.uids:
        low, high = who.numbers(*arguments[:2])
        if name == "store":
            _, _, op, flags, silent = arguments
            who.store(low - 1, high - 1, op, Flags.of(*sorted(flags)), silent)
        elif name == "fetch":
            who.command(f"FETCH {low}:{high} (UID FLAGS)")
        elif name == "uid fetch":
            who.command(f"UID FETCH {low}:{high} FLAGS")
        elif name == "read":
            who.command(f"FETCH {low}:{high} (UID BODY[TEXT])")
        elif name == "search":
            who.command(f"SEARCH {low}:{high} SEEN")
        else:
            who.command(f"{name.upper()} {low}:{high} {box if low % 2 else 'Archive'}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("believers")) as made:
        yield made


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    first=st.lists(ACTION, max_size=3),
    talk=st.lists(st.tuples(st.integers(0, 2), ACTION), min_size=5, max_size=40),
    events=st.booleans(),
)
def test_they_are_right_in_the_end(
    server: Rig,
    first: list[tuple],
    talk: list[tuple[int, tuple]],
    events: bool,  # type: ignore[type-arg]
) -> None:
    """T3, T4, T5, T7, T8, T12, T15: with events that arrive at once, and late."""
    box = f"box{next(_boxes)}"
    clients = [server.client() for _ in range(3)]
    clients[0].command(f"CREATE {box}")
    for _ in range(3):
        server.append(MAIL, mailbox=box)
    believers = [Believer(client) for client in clients]
    for believer in believers:
        believer.command(f"SELECT {box}")
        believer.command("FETCH 1:* (UID FLAGS)")
    for number, action in [(0, each) for each in first] + talk:
        act(server, box, believers[number], action)
        if events:
            server.settle()
    server.settle()
    for believer in believers:
        believer.command("NOOP")
    truth = Believer(server.client())
    truth.command(f"EXAMINE {box}")
    truth.command("UID FETCH 1:* FLAGS")
    for believer in believers:
        assert len(believer.uids) == len(truth.uids)
        for believed, true in zip(believer.flags, truth.flags, strict=True):
            assert believed in (None, true)
        believer.command("UID FETCH 1:* FLAGS")
        assert (believer.uids, believer.flags) == (truth.uids, truth.flags)
    for client in (*clients, truth.client):
        client.command("LOGOUT")
