"""Several sessions change one mailbox in any order; each client believes what it is told.

A client here is a model: it counts messages by EXISTS and EXPUNGE, takes flags from FETCH
and works out its own silent STOREs. In the end what it believes must be what is there.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.rig import MAIL, Client, Rig, rig

FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "$a", "$b")
NO_EXPUNGE = ("FETCH", "STORE", "SEARCH")

_NUMBERED = re.compile(r"\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH)(?: \((.*)\))?", re.DOTALL)
_UID = re.compile(r"UID (\d+)")
_FLAGS = re.compile(r"FLAGS \(([^)]*)\)")


@attrs.define
class Message:
    """What a client believes of a message; None for what it was not told."""

    uid: int | None = None
    flags: frozenset[str] | None = None
    recent: bool = False


@attrs.define
class Believer:
    """A client with its picture of the mailbox."""

    client: Client
    messages: list[Message] = attrs.field(factory=list)
    keywords: set[str] = attrs.field(factory=set)
    recents: set[int] = attrs.field(factory=set)
    idles: bool = False

    def select(self) -> None:
        for line in self.client.command("SELECT INBOX"):
            self.hear(line, "SELECT")
        self.run("FETCH 1:* (UID FLAGS)" if self.messages else "NOOP")

    def run(self, command: str) -> str:
        """Run a command and take in what it brings; gives the tagged answer."""
        *lines, answer = self.client.command(command)
        for line in lines:
            self.hear(line, command)
        return answer

    def hear(self, line: str, command: str) -> None:
        if line.startswith("* FLAGS ("):
            self.keywords = set(line[9:-1].split())
        match = _NUMBERED.fullmatch(line)
        if match is None:
            return
        number, kind = int(match[1]), match[2]
        if kind == "EXISTS":
            assert number >= len(self.messages), "T4"
            self.messages += [Message() for _ in range(number - len(self.messages))]
        elif kind == "EXPUNGE":
            assert not command.startswith(NO_EXPUNGE), "T3"
            del self.messages[number - 1]
        elif kind == "FETCH":
            self.fetched(self.messages[number - 1], match[3], command)

    def fetched(self, message: Message, items: str, command: str) -> None:
        uid, flags = _UID.search(items), _FLAGS.search(items)
        assert uid or not command.startswith("UID "), "T15"
        if uid:
            assert message.uid in (None, int(uid[1])), "T5"
            message.uid = int(uid[1])
        if flags:
            words = set(flags[1].split())
            assert words - {"\\Recent"} <= self.keywords, "T10"
            if "\\Recent" in words and message.uid:
                self.recents.add(message.uid)
            message.flags = frozenset(words - {"\\Recent"})

    def store(self, number: int, sign: str, flag: str, silent: bool, by_uid: bool) -> None:
        message = self.messages[number - 1]
        if by_uid and message.uid is None:
            return
        name = f"UID STORE {message.uid}" if by_uid else f"STORE {number}"
        *lines, answer = self.client.command(
            f"{name} {sign}FLAGS{'.SILENT' if silent else ''} ({flag})"
        )
        if silent and message.flags is not None and answer.startswith(". OK"):
            apply = {"": {flag}, "+": message.flags | {flag}, "-": message.flags - {flag}}
            message.flags = frozenset(apply[sign])
        for line in lines:
            self.hear(line, name)

    def idle(self) -> None:
        self.client.send(b"i IDLE\r\n")
        assert self.client.read_response().startswith(b"+ ")
        self.idles = True

    def wake(self) -> None:
        self.client.send(b"DONE\r\n")
        self.idles = False
        while not (line := self.client.read_response().decode()).startswith("i OK"):
            self.hear(line, "IDLE")

    def check(self, truth: list[tuple[int, frozenset[str]]]) -> None:
        """Compare the picture with what is there."""
        self.run("NOOP")
        assert len(self.messages) == len(truth)
        for message, (uid, flags) in zip(self.messages, truth, strict=True):
            assert message.uid in (None, uid)
            assert message.flags in (None, flags), "T7, T8"


def truth(client: Client) -> list[tuple[int, frozenset[str]]]:
    """What a client that comes anew sees."""
    found = []
    if client.command("STATUS INBOX (MESSAGES)")[0].endswith("(MESSAGES 0)"):
        return []
    client.command("EXAMINE INBOX")
    for line in client.command("FETCH 1:* (UID FLAGS)")[:-1]:
        uid, flags = _UID.search(line), _FLAGS.search(line)
        assert uid and flags
        found.append((int(uid[1]), frozenset(flags[1].split()) - {"\\Recent"}))
    return found


STEP = st.tuples(
    st.integers(0, 2),
    st.sampled_from(
        "store store silent silent silent expunge append noop noop idle search fetch".split() * 2
        + ["uid-fetch", "move"]
    ),
    st.integers(0, 2),
    st.sampled_from(["+", "+", "-", "+", ""]),
    st.sampled_from(FLAGS),
    st.booleans(),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> object:
    with rig(Path(tmp_path_factory.mktemp("concurrent"))) as made:
        yield made


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEP, min_size=15, max_size=50))
def test_every_client_ends_with_the_truth(
    server: Rig, steps: list[tuple[int, str, int, str, str, bool]]
) -> None:
    """T3, T4, T5, T7, T8, T9, T10, T15, over the real store."""
    fresh = server.client()
    fresh.command("DELETE Elsewhere")
    fresh.command("CREATE Elsewhere")
    fresh.select().command("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    fresh.command("CLOSE")
    for _ in range(3):
        server.append(MAIL)
    believers = [Believer(server.client()) for _ in range(3)]
    for believer in believers:
        believer.select()
    for who, what, number, sign, flag, by_uid in steps:
        believer = believers[who]
        if believer.idles:
            believer.wake()
        at = number % len(believer.messages) + 1 if believer.messages else 0
        if what == "noop":
            believer.check(truth(fresh))
        elif what == "append":
            believer.run(f"APPEND INBOX {{{len(MAIL)}+}}\r\n{MAIL.decode()}")
        elif what == "expunge":
            believer.run("EXPUNGE")
        elif what == "idle":
            believer.idle()
        elif what == "search":
            believer.run("SEARCH ALL")
        elif at:
            if what in ("store", "silent"):
                believer.store(at, sign, flag, what == "silent", by_uid)
            elif what == "fetch":
                believer.run(f"FETCH {at}:* (UID FLAGS)")
            elif what == "uid-fetch":
                believer.run("UID FETCH 1:* FLAGS")
            elif what == "move":
                believer.run(f"MOVE {at} Elsewhere")
        server.settle(1)
    for believer in believers:
        if believer.idles:
            believer.wake()
    found = truth(fresh)
    for believer in believers:
        believer.check(found)
    for at, believer in enumerate(believers):  # T9
        for other in believers[at + 1 :]:
            assert not believer.recents & other.recents
    for client in (fresh, *(believer.client for believer in believers)):
        client.close()
    server.settle()
