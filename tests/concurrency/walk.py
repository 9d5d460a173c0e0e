"""Random walks: several clients at once against a real server, checked after every burst.

A burst is what all sessions send at about the same time, cut into packets and mixed. Then
all is quiet, and everything must agree: the order that `reference.explain` finds with what
a fresh reader sees, every session's belief with it, and the kept quota with a recount.
Restarts, kills amid a burst and connections that are cut are steps like others (R13, R14).

A step is data. A walk that fails is written down as JSON, step by step, with what was said;
`replay` takes the same steps again.
"""

from __future__ import annotations

import json
import random
import select
import signal
import socket
import sqlite3
import struct
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from mailserver.service.control import ask
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import StatusAtt
from tests.concurrency.client import (
    Entry,
    Library,
    Lmtp,
    Session,
    Slot,
    Violation,
    check,
    connect,
    lower,
)
from tests.concurrency.order import Talk, Truth, explain
from tests.concurrency.reference import (
    STARS,
    Answer,
    Command,
    Contradiction,
    Message,
    State,
)
from tests.service.process import BIN, PASSWORD, Process, add_account, write_config

NAME = "ann@example.org"
IMAP_SESSIONS = 4
LMTP_SESSION = IMAP_SESSIONS
HOME = ("INBOX", "INBOX", "INBOX", "Archive", "Archive", "a", "a/b")
"""Where sessions go: mostly where others are."""
NAMES = (*STARS[:3], "a", "a/b", "a/b/c", "d")
WORDS = ("\\Seen", "\\SEEN", "\\Deleted", "\\Flagged", "\\Answered", "$Work", "$WORK", "k1", "k2")
ITEMS = (
    "(UID FLAGS)",
    "FLAGS",
    "(FLAGS ENVELOPE)",
    "(UID RFC822.SIZE INTERNALDATE)",
    "(UID BODYSTRUCTURE)",
    "BODY.PEEK[]",
    "(UID BODY.PEEK[TEXT]<5.30>)",
    "(BODY.PEEK[HEADER.FIELDS (SUBJECT)] FLAGS)",
    "(UID BODY[TEXT])",
    "(UID BODY[])",
)
STATUS = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
KEYS = ("ALL", "SEEN", "UNDELETED FLAGGED", "KEYWORD $work", "OR ANSWERED UNKEYWORD k1")
AGREE_SECONDS = 15.0
"""How long news may take to reach an idling client, or one of another process."""
FULL = 60
"""Messages in all, above which more is removed than added."""


@attrs.frozen
class Part:
    """What one session sends in a burst.

    Attributes:
        cut: octets at the end that are not sent, for a connection that breaks then; -1 for
            one that stays.
    """

    session: int
    commands: tuple[Command, ...]
    cut: int = -1


@attrs.frozen
class Step:
    """A burst, and how servers end: amid it, after `delay` seconds, or afterwards.

    Attributes:
        seed: of the packets.
        ends: (number of the process, name of the signal).
    """

    parts: tuple[Part, ...]
    seed: int
    ends: tuple[tuple[int, str], ...] = ()
    delay: float = -1.0


def step_from(data: Any) -> Step:
    """Read a step that `attrs.asdict` and JSON have made of one."""

    def command(data: Any) -> Command:
        ranges = tuple((low, high) for low, high in data.pop("numbers"))
        return Command(numbers=ranges, **{k: _tuple(v) for k, v in data.items()})

    parts = tuple(
        Part(part["session"], tuple(map(command, part["commands"])), part["cut"])
        for part in data["parts"]
    )
    ends = tuple((number, name) for number, name in data["ends"])
    return Step(parts, data["seed"], ends, data["delay"])


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# -- what to do -----------------------------------------------------------------------------


class Chooser:
    """Makes up steps out of what the clients believe."""

    def __init__(self, seed: int, walk: Walk) -> None:
        self.random = random.Random(seed)
        self.walk = walk
        self.texts = 0

    def step(self) -> Step:
        dice = self.random
        who = dice.sample(range(IMAP_SESSIONS + 1), dice.choice((1, 2, 2, 3, 3, 4)))
        most = 4 if len(who) < 3 else 3 if len(who) == 3 else 2
        parts = [self.part(number, dice.randint(1, most)) for number in sorted(who)]
        if dice.random() < 0.2:
            parts = self.clash() or parts
        seed = dice.randrange(2**32)
        if dice.random() < self.walk.restarts:
            ends = tuple(
                (number, dice.choice(("SIGTERM", "SIGKILL", "SIGKILL")))
                for number in dice.choice(self.walk.process_groups)
            )
            delay = dice.choice((-1.0, 0.0, 0.001, 0.003, 0.01, 0.03))
            return Step(tuple(parts), seed, ends, delay)
        return Step(tuple(parts), seed)

    def part(self, number: int, length: int) -> Part:
        dice = self.random
        if number == LMTP_SESSION:
            commands = tuple(self.delivery() for _ in range(min(length, 2)))
        else:
            commands = tuple(self.talk(self.walk.imap(number), length))
        cut = -1
        if commands and dice.random() < 0.02:
            cut = dice.choice((0, 1, 2, 5, 20, 60))
        return Part(number, commands, cut)

    def clash(self) -> list[Part]:
        """Several sessions change the same message at once (T7, T8); none if no two of them
        know one."""
        dice = self.random
        meeting: dict[int, list[int]] = {}
        for number, (key, read_only) in self.walk.state.selected.items():
            session = self.walk.sessions[number]
            if isinstance(session, Session) and not session.idles and not read_only:
                meeting.setdefault(key, []).append(number)
        groups = [sorted(numbers) for numbers in meeting.values() if len(numbers) > 1]
        if not groups:
            return []
        numbers = dice.choice(groups)
        known = [{slot.uid for slot in self.walk.imap(n).slots if slot.uid} for n in numbers]
        shared = sorted(set.intersection(*known))
        if not shared:
            return []
        uid = dice.choice(shared)
        return [
            Part(
                number,
                tuple(
                    self.with_set("UID ", kind, str(uid), ((uid, uid),), (uid,))
                    for kind in dice.choices(("STORE", "MOVE"), (20, 1), k=dice.choice((1, 1, 2)))
                ),
            )
            for number in numbers
        ]

    def delivery(self) -> Command:
        name = self.random.choice(("INBOX", "INBOX", "Archive", "a"))
        return Command("DELIVER", name=name, texts=(self.text(),))

    def text(self) -> int:
        self.texts += 1
        return self.texts

    def talk(self, session: Session, length: int) -> Iterator[Command]:
        """Commands of one session, in order. A command with sequence numbers is not sent
        behind one whose answer may bring EXPUNGE (RFC 3501 §5.5)."""
        dice = self.random
        numbers_hold = True
        if session.idles:
            if dice.random() < 0.5:
                return
            yield Command("DONE")
            numbers_hold = False
        known = list(session.slots)
        selected, content_known = bool(session.selected), True
        while length:
            length -= 1
            if not selected or dice.random() < 0.06:
                yield self.select()
                selected, content_known, numbers_hold = True, False, True
                known = []
                continue
            command = self.command(session, known if content_known else [], numbers_hold)
            yield command
            if command.verb in ("CLOSE", "UNSELECT") or command.verb == "DELETE":
                selected, known = False, []
            if command.verb not in ("FETCH", "STORE", "SEARCH"):
                numbers_hold = False
        if selected and dice.random() < 0.15:
            yield Command("IDLE")
            if dice.random() < 0.3:
                yield Command("DONE")

    def select(self) -> Command:
        name = self.random.choice(HOME)
        return Command(self.random.choice(("SELECT",) * 6 + ("EXAMINE",)), name, name)

    def command(self, session: Session, known: list[Slot], numbers_hold: bool) -> Command:
        dice = self.random
        total = sum(len(box.messages) for box in self.walk.state.boxes.values())
        kinds = ["NOOP", "CHECK", "SEARCH", "STATUS", "FETCH", "FETCH", "EXPUNGE"]
        kinds += ["STORE"] * 5 + ["MOVE"] * 2
        kinds += ["APPEND", "APPEND", "COPY"] if total < FULL else ["CLEAN"] * 4
        kinds += ["LEAVE", "NAMES"] if dice.random() < 0.5 else []
        kind = dice.choice(kinds)
        if kind in ("STORE", "MOVE", "COPY", "FETCH", "CLEAN"):
            command = self.on_messages(kind, known, numbers_hold)
            return command or Command("NOOP")
        if kind == "EXPUNGE":
            uids = self.uids(known)
            if uids and dice.random() < 0.4:
                low, high = uids
                return Command(
                    "UID EXPUNGE", f"{low}:{high}", numbers=(uids,), uids=_range(low, high)
                )
            return Command("EXPUNGE")
        if kind == "SEARCH":
            if numbers_hold and dice.random() < 0.5:
                return Command("SEARCH", dice.choice(KEYS))
            return Command("UID SEARCH", dice.choice(KEYS))
        if kind == "APPEND":
            return self.append()
        if kind == "STATUS":
            name = dice.choice(NAMES)
            return Command("STATUS", f"{name} {STATUS}", name)
        if kind == "LEAVE":
            return Command(dice.choice(("CLOSE", "UNSELECT")))
        return self.names() if kind == "NAMES" else Command(kind)

    def append(self) -> Command:
        dice = self.random
        name = dice.choice(HOME)
        count = 1 if dice.random() < 0.8 else dice.randint(2, 3)
        texts = tuple(self.text() for _ in range(count))
        if count > 1:  # MULTIAPPEND: flags of each, here none
            return Command("APPEND", name, name, texts=texts)
        flags = self.flags()
        text = f"{name} ({' '.join(flags)})" if flags else name
        return Command("APPEND", text, name, flags=flags, texts=texts)

    def flags(self) -> tuple[str, ...]:
        return tuple(self.random.sample(WORDS, self.random.choice((0, 1, 1, 2, 3))))

    def names(self) -> Command:
        dice = self.random
        verb = dice.choice(
            ("CREATE",) * 4 + ("DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "LIST", "LSUB")
        )
        name, other = dice.choice(NAMES[1:]), dice.choice(("d", "e/f", "a", "g"))
        if verb == "RENAME":
            old = "INBOX" if dice.random() < 0.2 else name
            return Command(verb, f"{old} {other}", old, other)
        if verb in ("LIST", "LSUB"):
            return Command(verb, '"" *')
        return Command(verb, name, name)

    def uids(self, known: Sequence[Slot]) -> tuple[int, int] | None:
        """A range of UIDs, none above the largest that the client knows."""
        uids = [slot.uid for slot in known if slot.uid]
        if not uids:
            return None
        low = self.random.choice(uids)
        return low, min(low + self.random.choice((0, 0, 1, 3, 8, 50)), uids[-1])

    def on_messages(self, kind: str, known: Sequence[Slot], numbers_hold: bool) -> Command | None:
        """STORE, COPY, MOVE or FETCH, by number or by UID."""
        dice = self.random
        if numbers_hold and dice.random() < 0.5:
            return self.by_number(kind, known)
        uids = self.uids(known)
        if uids is None:
            return Command("UID FETCH", "1:* (FLAGS)", numbers=((1, 0),))
        low, high = uids
        written = f"{high}:{low}" if dice.random() < 0.2 else f"{low}:{high}"  # T13
        return self.with_set("UID ", kind, written, (uids,), _range(low, high))

    def by_number(self, kind: str, known: Sequence[Slot]) -> Command | None:
        dice = self.random
        if not known or known[0].uid is None:
            return None
        last = next((at for at, slot in enumerate(known) if slot.uid is None), len(known))
        low = dice.randint(1, last)
        high = min(low + dice.choice((0, 0, 1, 3, 8, 50)), last)
        uids = tuple(slot.uid for slot in known[low - 1 : high] if slot.uid)
        return self.with_set("", kind, f"{low}:{high}", ((low, high),), uids)

    def with_set(
        self,
        prefix: str,
        kind: str,
        written: str,
        ranges: tuple[tuple[int, int], ...],
        uids: tuple[int, ...],
    ) -> Command:
        dice = self.random
        shared: dict[str, Any] = {"numbers": ranges, "uids": uids}
        if kind in ("COPY", "MOVE"):
            name = dice.choice((*HOME, "missing", "d"))
            return Command(f"{prefix}{kind}", f"{written} {name}", name, **shared)
        if kind == "FETCH":
            return Command(f"{prefix}FETCH", f"{written} {dice.choice(ITEMS)}", **shared)
        operation, flags = dice.choice("++--") if dice.random() < 0.9 else "", self.flags()
        if kind == "CLEAN":
            operation, flags = "+", ("\\Deleted",)
        elif not flags:
            operation = ""
        silent = dice.random() < 0.5
        suffix = ".SILENT" if silent else ""
        return Command(
            f"{prefix}STORE",
            f"{written} {operation}FLAGS{suffix} ({' '.join(flags)})",
            operation=operation,
            flags=flags,
            silent=silent,
            **shared,
        )


def _range(low: int, high: int) -> tuple[int, ...]:
    return tuple(range(low, high + 1))


# -- the servers ----------------------------------------------------------------------------


@attrs.define
class Site:
    """A data directory with its server, and perhaps a second process on it: one that is
    talked to by itself (`two`), or a worker of the server."""

    folder: Path
    two: bool = False
    worker: bool = False
    processes: list[Process] = attrs.Factory(list)
    starts: int = 0
    longest_start: float = 0.0
    config: Path = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        processes = str(1 + self.worker)
        self.config = write_config(
            self.folder,
            service__imap__numprocesses=processes,
            service__lmtp__numprocesses=processes,
        )
        add_account(self.config, NAME)
        self.processes = [self._start(number) for number in range(1 + self.two)]

    def _start(self, number: int) -> Process:
        began = time.monotonic()
        if number:
            command = [sys.executable, "-m", "tests.concurrency.second", str(self.config)]
        else:
            command = [str(BIN / "twistd"), "-n", "--pidfile=", "mailserver", "-c"]
            command += [str(self.config)]
        process = Process.start(*command)
        if self.worker:
            process.wait_for("worker 1 (process", 30)
        self.starts += 1
        self.longest_start = max(self.longest_start, time.monotonic() - began)
        return process

    @property
    def several(self) -> bool:
        """Not all sessions are of one process."""
        return self.two or self.worker

    def readers(self) -> set[int]:
        """Processes that serve IMAP, as `mailctl who` calls them."""
        return {0, 1} if self.several else {0}

    def numbers(self) -> dict[int, int]:
        """The sessions' numbers in `mailctl who`, each with its process."""
        rows = ask(self.folder / "data", "who")
        assert rows is not None
        return {row["number"]: row["process"] for row in rows}

    def end(self, number: int, name: str) -> None:
        """Send a signal; `again` is to follow."""
        self.processes[number].signal(signal.Signals[name])

    def again(self, number: int) -> None:
        """Wait for the end of a process, and start it anew."""
        self._wait(number)
        self.processes[number] = self._start(number)

    def _wait(self, number: int) -> None:
        process = self.processes[number]
        code = process.wait(30)
        expected = (0, -signal.SIGTERM, -signal.SIGKILL)  # twistd ends by its own signal
        check(code in expected, f"process {number} ended with {code}")
        self._look(process)

    @staticmethod
    def _look(process: Process) -> None:
        log = "".join(process.log)
        check("Traceback" not in log and "ERROR" not in log.upper(), log[-6000:])

    def stop(self) -> None:
        for number in reversed(range(len(self.processes))):
            if self.processes[number].popen.poll() is None:
                self.end(number, "SIGTERM")
            self._wait(number)

    def kill(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.wait()

    def quota(self) -> tuple[int, int]:
        """Octets and messages that the account's quota root counts."""
        [path] = self.folder.glob("data/accounts/*/*/mail.sqlite")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT storage_used, message_used FROM quota_root").fetchone()
        return row[0], row[1]


# -- the walk -------------------------------------------------------------------------------


class Walk:
    """One walk; `step` does one step and checks everything."""

    def __init__(
        self, folder: Path, *, two: bool = False, worker: bool = False, restarts: float = 0.01
    ) -> None:
        self.log: list[Entry] = []
        self.steps: list[Step] = []
        self.commands = 0
        self.restarts = restarts
        self.process_groups = ((0,), (1,), (0, 1)) if two else ((0,),)
        self.library = Library()
        self.state = State.new_account()
        self.sessions: dict[int, Session | Lmtp] = {}
        self.recents: dict[tuple[str, int, int], Session] = {}
        self.site = Site(folder, two, worker)
        self._readers: dict[int, Session] = {}
        try:
            self.settle({})
        except BaseException:
            self.site.kill()
            raise

    def close(self) -> None:
        for session in (*self.sessions.values(), *self._readers.values()):
            session.close()

    def finish(self) -> None:
        """End the servers as an administrator does."""
        self.site.stop()
        self.close()

    # -- sessions -----------------------------------------------------------

    def imap(self, number: int) -> Session:
        session = self.sessions[number]
        assert isinstance(session, Session)
        return session

    def process_of(self, number: int) -> int:
        """Sessions take turns between the processes; mail is delivered to the first."""
        return number % len(self.site.processes) if number != LMTP_SESSION else 0

    def connect(self) -> None:
        """Open what is not open."""
        for number in range(IMAP_SESSIONS):
            if number not in self.sessions or self.sessions[number].gone:
                self.sessions[number] = self._log_in(number, self.process_of(number), self.log)
                self.state = self.state.forget(number)
        if LMTP_SESSION not in self.sessions or self.sessions[LMTP_SESSION].gone:
            port = self.site.processes[0].ports["lmtp"]
            self.sessions[LMTP_SESSION] = Lmtp(LMTP_SESSION, connect(port), NAME, self.log)

    def _log_in(self, number: int, process: int, log: list[Entry]) -> Session:
        port = self.site.processes[process].ports["imap"]
        session = Session(number, connect(port), self.library, log)
        answer = self.ask(session, Command("LOGIN", f"{NAME} {PASSWORD}"))
        check(answer.is_ok, f"{answer.status}")
        return session

    def ask(self, session: Session, *commands: Command) -> Answer:
        """Send commands beside the walk; gives the last answer."""
        session.answers.clear()
        session.socket.sendall(b"".join(session.octets(command) for command in commands))
        self.wait((session,))
        check(not session.gone, f"session {session.number} was closed: {session.bye}")
        return session.answers[-1][1]

    def wait(self, sessions: Iterable[Session | Lmtp], seconds: float = 30.0) -> None:
        """Read until each of the sessions has all its answers."""
        end = time.monotonic() + seconds
        while busy := [session for session in sessions if not session.is_quiet]:
            left = end - time.monotonic()
            running = [session.running for session in busy]
            check(left > 0, f"no answer in {seconds} s: {running}")
            self._read(busy, left)

    def _read(self, sessions: Sequence[Session | Lmtp], seconds: float) -> None:
        open_ones = [session for session in sessions if not session.gone]
        if open_ones:
            for session in select.select(open_ones, (), (), seconds)[0]:
                session.read()

    # -- a step -------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Do one step and check everything."""
        self.steps.append(step)
        self.log.append((len(self.steps), "step", step.ends or ""))
        for session in self.sessions.values():
            session.answers.clear()
        unsent: dict[int, list[Command]] = {}
        packets: list[tuple[int, bytes]] = []
        dice = random.Random(step.seed)
        for part in step.parts:
            self.commands += len(part.commands)
            octets, lost = self._octets(part)
            unsent[part.session] = lost
            packets += [(part.session, packet) for packet in _split(octets, dice)]
        self._send(_mixed(packets, dice))
        broken = [part.session for part in step.parts if part.cut >= 0]
        for number in broken:
            self._cut(self.sessions[number], dice)
        if step.ends:
            self._end(step)
        self.wait(self.sessions.values())
        self._barrier({self.process_of(number) for number in broken} - dict(step.ends).keys())
        talk = {
            number: self._talk(session, unsent.get(number, []))
            for number, session in self.sessions.items()
        }
        self.settle({number: said for number, said in talk.items() if said})

    def _octets(self, part: Part) -> tuple[bytes, list[Command]]:
        """What a part sends, and its commands that are then not whole."""
        session = self.sessions[part.session]
        pieces = [(command, session.octets(command)) for command in part.commands]
        octets = b"".join(piece for _, piece in pieces)
        if part.cut < 0:
            return octets, []
        kept = max(0, len(octets) - part.cut)
        lost, at = [], 0
        for command, piece in pieces:
            at += len(piece)
            if at > kept:
                lost.append(command)
        return octets[:kept], lost

    def _send(self, packets: Iterable[tuple[int, bytes]]) -> None:
        """Send packets, reading meanwhile, so that nobody waits for the other."""
        sessions = list(self.sessions.values())
        for number, packet in packets:
            session = self.sessions[number]
            rest = memoryview(packet)
            while rest and not session.gone:
                readers = [one for one in sessions if not one.gone]
                readable, writable, _ = select.select(readers, (session,), (), 30)
                for one in readable:
                    one.read()
                if writable and not session.gone:
                    try:
                        rest = rest[session.socket.send(rest, socket.MSG_DONTWAIT) :]
                    except BlockingIOError:
                        pass
                    except ConnectionError:
                        break  # the read will tell

    @staticmethod
    def _cut(session: Session | Lmtp, dice: random.Random) -> None:
        """Break a connection: properly, or with a reset."""
        if not session.gone and dice.random() < 0.5:
            linger = struct.pack("ii", 1, 0)
            session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        session.close()

    def _barrier(self, processes: Collection[int]) -> None:
        """Wait until nothing is going on any more for connections that were cut: they are
        read, and what they had begun stands before our own write in the writer's queue."""
        for process in self._readers if self.site.worker else processes:
            for _ in range(2):  # a message may still have been on its way to the store
                time.sleep(0.1)
                self.ask(self._readers[process], Command("UNSUBSCRIBE", "missing", "missing"))

    def _end(self, step: Step) -> None:
        """End processes amid the step or after it, and start them again."""
        if step.delay < 0:
            self.wait(self.sessions.values())
        else:
            end = time.monotonic() + step.delay
            while (left := end - time.monotonic()) > 0:
                self._read(list(self.sessions.values()), left)
        for number, name in step.ends:
            self.site.end(number, name)
        signals = dict(step.ends)
        mine = [
            session
            for session in self.sessions.values()
            if self.process_of(session.number) in signals and not session.gone
        ]
        end = time.monotonic() + 30
        while waiting := [session for session in mine if not session.gone]:
            check(time.monotonic() < end, f"{step.ends}: connections stay open")
            self._read(waiting, 1.0)
        for session in mine:  # R18
            name = signals[self.process_of(session.number)]
            check(
                name == "SIGKILL" or session.bye is not None or not isinstance(session, Session),
                f"session {session.number}: no BYE (T51)",
            )
        for number in signals:
            for process in self.site.readers() if self.site.worker else (number,):
                self._readers.pop(process).close()
            self.site.again(number)

    @staticmethod
    def _talk(
        session: Session | Lmtp, unsent: Sequence[Command]
    ) -> list[tuple[Command, Answer | None]]:
        """What a session said in this step, with its answers, if it was of consequence."""
        said: list[tuple[Command, Answer | None]] = [
            (command, answer)
            for command, answer in session.answers
            if not (answer.is_ok and _is_harmless(command))
        ]
        if session.gone:
            said += [
                (command, None)
                for command in session.unanswered
                if not _is_harmless(command) and not any(command is lost for lost in unsent)
            ]
            session.waiting.clear()
        return [
            (command, answer)
            for command, answer in said
            if answer is None
            or not isinstance(session, Session)
            or not (answer.status.condition is r.Condition.BAD and command.numbers)
        ]

    # -- when all is quiet ----------------------------------------------------

    def settle(self, talk: Talk) -> None:
        """Hold everything against everything."""
        for session in self.sessions.values():
            if session.gone and not talk.get(session.number):
                self.state = self.state.forget(session.number)
        dead = [number for number, session in self.sessions.items() if session.gone]
        self._connect_readers()
        truth = self.truth()
        try:
            self.state = explain(self.state, talk, truth)
        except Contradiction as contradiction:
            raise Violation(f"no order of these explains it: {contradiction}") from None
        for number in dead:
            self.state = self.state.forget(number)
        self._check_closed(dead)
        self._hear()
        self._check_recent()
        self._check_quota()
        self.connect()

    def _connect_readers(self) -> None:
        if self.site.worker:
            while missing := self.site.readers() - self._readers.keys():
                self._connect_a_reader(missing)
            return
        for process in self.site.readers():
            if process not in self._readers:
                self._readers[process] = self._log_in(90 + process, process, [])

    def _connect_a_reader(self, missing: set[int]) -> None:
        """Connect to whatever process is next; keep it if it is one that was missing."""
        before = self.site.numbers()
        reader = self._log_in(90, 0, [])
        [process] = [at for number, at in self.site.numbers().items() if number not in before]
        if process in missing:
            self._readers[process] = reader
        else:
            reader.close()

    def truth(self) -> Truth:
        """What a client sees that has just come."""
        reader = self._readers[len(self.steps) % len(self._readers)]
        self.ask(reader, Command("LIST", '"" *'), Command("LSUB", '"" *'))
        listed, subscribed = (answer.data for _, answer in reader.answers)
        boxes = [one for one in listed if isinstance(one, r.MailboxList)]
        levels = {one.mailbox for one in boxes if "\\noselect" in lower(one.attributes)}
        names = [one.mailbox for one in boxes if one.mailbox not in levels]
        commands: list[Command] = []
        for name in names:
            commands.append(Command("EXAMINE", name, name))
            items = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
            commands.append(Command("UID FETCH", f"1:* {items}", numbers=((1, 0),)))
            commands.append(Command("STATUS", f"{name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))
        self.ask(reader, *commands, Command("UNSELECT"))
        found: dict[str, tuple[int, tuple[Message, ...]]] = {}
        validities: dict[str, int] = {}
        answers = [answer for _, answer in reader.answers]
        for at, name in enumerate(names):
            examined, fetched, counted = answers[3 * at : 3 * at + 3]
            check(examined.is_ok and fetched.is_ok and counted.is_ok, f"{name} cannot be read")
            validities[name] = examined.number(b"UIDVALIDITY") or 0
            messages = self._messages(name, validities[name], fetched)
            uid_next = examined.number(b"UIDNEXT") or 0
            status = counted.one(r.MailboxStatus)
            assert isinstance(status, r.MailboxStatus)
            expected = {
                StatusAtt.MESSAGES: len(messages),
                StatusAtt.UIDNEXT: uid_next,
                StatusAtt.UIDVALIDITY: validities[name],
                StatusAtt.UNSEEN: sum("\\seen" not in flags for _, _, flags in messages),
            }
            check(dict(status.items) == expected, f"{name}: {status} is not {expected} (T24)")
            check(
                examined.one(r.Exists) == r.Exists(len(messages)),
                f"{name}: EXISTS is not {len(messages)}",
            )
            found[name] = uid_next, messages
        return Truth(
            found,
            validities,
            frozenset(levels),
            frozenset(one.mailbox for one in subscribed if isinstance(one, r.MailboxList)),
        )

    def _messages(self, name: str, validity: int, fetched: Answer) -> tuple[Message, ...]:
        messages: list[Message] = []
        for data in fetched.data:
            if isinstance(data, r.FetchData):
                items = {type(item): item for item in data.items}
                uid = items[r.UidItem].uid  # type: ignore[union-attr]
                flags = lower(items[r.FlagsItem].names)  # type: ignore[union-attr]
                number = self.library.shown.get((name, validity, uid))
                check(number is not None, f"{name}: UID {uid} has no text")
                assert number is not None
                messages.append((uid, number, flags - {"\\recent"}))
        return tuple(messages)

    def _check_closed(self, dead: Sequence[int]) -> None:
        """No connection was closed without a reason."""
        step = self.steps[-1] if self.steps else Step((), 0)
        excused = {part.session for part in step.parts if part.cut >= 0}
        ended = dict(step.ends)
        for number in dead:
            session = self.sessions[number]
            if number in excused or self.process_of(number) in ended:
                continue
            deleted = session.bye is not None and "deleted" in session.bye
            check(deleted, f"session {number} was closed: {session.bye}")

    def _expected(self, session: Session) -> tuple[Message, ...] | None:
        """What a session should see; None if it has no mailbox that is there."""
        selected = self.state.selected.get(session.number)
        if selected is None or not self.state.boxes[selected[0]].name:
            return None
        return self.state.boxes[selected[0]].messages

    def _hear(self) -> None:
        """Let sessions learn what they do not know, and compare it with what is there: at
        once by NOOP, in a moment where news comes by events.

        Some of them, and all only now and then: who was not told of an expunge for long must
        not take one message for another (T3, T5).
        """
        dice = random.Random(self.steps[-1].seed if self.steps else 0)
        share = 1.0 if len(self.steps) % 10 == 0 else 0.3
        for session in self.sessions.values():
            if not isinstance(session, Session) or session.gone:
                continue
            if dice.random() > share and not session.idles:
                continue
            expected = self._expected(session)
            if expected is None:
                self._let_go(session)
                continue
            end = time.monotonic() + AGREE_SECONDS
            waits = session.idles or self.site.several
            while True:
                if session.idles:
                    self._read((session,), 0.0)
                else:
                    self.ask(session, Command("NOOP"))
                    self._learn(session)
                wrong = _difference(session, expected)
                if not wrong:
                    break
                check(waits and time.monotonic() < end, f"session {session.number}: {wrong}")
                if session.idles:
                    self._read((session,), 0.05)
                check(not session.gone, f"session {session.number} was closed: {session.bye}")
            if not session.idles and self.steps and len(self.steps) % 5 == session.number:
                self._probe(session, expected)

    def _let_go(self, session: Session) -> None:
        """A session without a mailbox, or whose mailbox is deleted: that ends it (with BYE),
        at the latest behind its next command."""
        was_deleted = session.number in self.state.selected
        if session.idles and not was_deleted:
            return
        if not session.idles:
            session.answers.clear()
            session.socket.sendall(session.octets(Command("NOOP")))
        end = time.monotonic() + AGREE_SECONDS
        while not session.gone and time.monotonic() < end:
            self._read((session,), 0.1)
            if session.is_quiet and not session.idles and not was_deleted:
                break
        if not session.gone:
            session.slots, session.selected = [], ""
        if was_deleted:
            check(session.gone and session.bye is not None, f"{session.number}: no BYE (T51)")
            self.state = self.state.forget(session.number)

    def _learn(self, session: Session) -> None:
        """Ask for what a client of its kind wants to know of each message."""
        unknown = [at for at, s in enumerate(session.slots, 1) if s.uid is None or s.flags is None]
        if unknown:
            ranges = ((unknown[0], unknown[-1]),)
            text = f"{unknown[0]}:{unknown[-1]} (UID FLAGS)"
            self.ask(session, Command("FETCH", text, numbers=ranges))

    def _probe(self, session: Session, expected: Sequence[Message]) -> None:
        """Reads whose answer is known to the letter."""
        self.ask(
            session,
            Command("UID SEARCH", "OR DELETED KEYWORD $work"),
            Command("SEARCH", "UNSEEN"),
            Command("UID FETCH", "4000000000:* (FLAGS)", numbers=((4000000000, 0),)),
        )
        by_uid, by_number, last = (answer for _, answer in session.answers)
        uids = tuple(uid for uid, _, flags in expected if flags & {"\\deleted", "$work"})
        check(by_uid.one(r.SearchResult) == r.SearchResult(uids), f"{by_uid}, not {uids} (T33)")
        numbers = tuple(at for at, one in enumerate(expected, 1) if "\\seen" not in one[2])
        check(by_number.one(r.SearchResult) == r.SearchResult(numbers), f"not {numbers} (T33)")
        fetched = [one.number for one in last.data if isinstance(one, r.FetchData)]
        check(fetched == ([len(expected)] if expected else []), f"{last} (T13)")

    def _check_recent(self) -> None:
        r"""A message is `\Recent` in one session at most (T9); two processes may differ."""
        if self.site.several:
            return
        for session in self.sessions.values():
            if isinstance(session, Session):
                for message in session.recents:
                    owner = self.recents.setdefault(message, session)
                    check(owner is session, f"{message} is recent twice (T9)")
                session.recents.clear()
        if self.steps and self.steps[-1].ends:  # nobody remembers whom a dead server told
            self.recents.clear()

    def _check_quota(self) -> None:
        texts = [one[1] for box in self.state.boxes.values() for one in box.messages]
        expected = sum(self.library.sizes[text] for text in texts), len(texts)
        check(self.site.quota() == expected, f"quota {self.site.quota()}, not {expected}")


def _is_harmless(command: Command) -> bool:
    """It changes nothing and says nothing that the model would know."""
    if command.verb in ("NOOP", "IDLE", "DONE", "CHECK") or command.base == "SEARCH":
        return True
    return command.base == "FETCH" and "BODY[" not in command.text


def _difference(session: Session, expected: Sequence[Message]) -> str:
    """In what a client's belief is wrong; empty if it is right."""
    if len(session.slots) != len(expected):
        return f"{len(session.slots)} messages, not {len(expected)}"
    for at, (slot, (uid, _, flags)) in enumerate(zip(session.slots, expected, strict=True), 1):
        if slot.uid not in (None, uid):
            return f"message {at} has UID {slot.uid}, not {uid}"
        if slot.flags is not None and slot.flags != flags:
            return f"message {at}, UID {uid}, has {sorted(slot.flags)}, not {sorted(flags)} (T8)"
    return ""


def _split(octets: bytes, dice: random.Random) -> list[bytes]:
    """Cut octets into up to four packets."""
    if not octets:
        return []
    ends = sorted({dice.randint(1, len(octets)) for _ in range(dice.randrange(4))} | {len(octets)})
    return [octets[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def _mixed(
    packets: Sequence[tuple[int, bytes]], dice: random.Random
) -> Iterator[tuple[int, bytes]]:
    """Mix packets, keeping the order of each session."""
    queues: dict[int, list[bytes]] = {}
    for number, packet in packets:
        queues.setdefault(number, []).append(packet)
    while queues:
        number = dice.choice(sorted(queues))
        yield number, queues[number].pop(0)
        if not queues[number]:
            del queues[number]


# -- running ----------------------------------------------------------------------------------


def write_transcript(file: Path, walk: Walk, seed: int, why: str) -> None:
    """Write a walk down so that `replay` can take it again, and a person can read it."""
    content = {
        "seed": seed,
        "two": walk.site.two,
        "worker": walk.site.worker,
        "why": why,
        "steps": [attrs.asdict(step) for step in walk.steps],
        "said": [f"{number} {side}: {said}"[:400] for number, side, said in walk.log[-3000:]],
        "server": ["".join(process.log)[-20_000:] for process in walk.site.processes],
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False))


def run(
    folder: Path,
    seed: int,
    seconds: float,
    *,
    two: bool = False,
    worker: bool = False,
    restarts: float = 0.01,
) -> Walk:
    """Walk for a time.

    Raises:
        Violation: with the seed and the file of the transcript.
    """
    walk = Walk(folder, two=two, worker=worker, restarts=restarts)
    chooser = Chooser(seed, walk)
    end = time.monotonic() + seconds

    def steps() -> Iterator[Step]:
        while time.monotonic() < end:
            yield chooser.step()

    return _take(walk, steps(), seed)


def replay(folder: Path, transcript: Path) -> Walk:
    """Take the steps of a transcript again, on fresh data."""
    content = json.loads(transcript.read_text("utf-8"))
    walk = Walk(folder, two=content["two"], worker=content["worker"])
    return _take(walk, map(step_from, content["steps"]), content["seed"])


def _take(walk: Walk, steps: Iterable[Step], seed: int) -> Walk:
    try:
        for step in steps:
            walk.step(step)
            del walk.log[:-5_000]
        walk.finish()
    except Exception as fault:
        file = walk.site.folder / f"walk-{seed}.json"
        write_transcript(file, walk, seed, str(fault))
        two = ", two processes" if walk.site.several else ""
        raise Violation(
            f"seed {seed}{two}, step {len(walk.steps)}: {fault}\n"
            f"once more: python -m tests.concurrency --replay {file}"
        ) from fault
    finally:
        walk.site.kill()
        walk.close()
    return walk
