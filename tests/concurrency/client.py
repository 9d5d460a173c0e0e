r"""A client that believes what it is told, and holds every response against the rules.

It keeps what RFC 3501 lets a client conclude: how many messages there are, which number has
which UID, the flags that it was told of or has set itself. A response that contradicts it is
a `Violation`. What the messages say is checked against `Library`, which knows every text by
its number: a UID that once showed one text may never show another (T5, T31).
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Iterable, Sequence

import attrs

from mailserver.model.message import InternalDate
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import BodySection, SectionText
from mailserver.wire.imap.response_parser import ResponseReader
from tests.concurrency.reference import Answer, Command, Flags

KEEPS_NUMBERS = frozenset({"FETCH", "STORE", "SEARCH"})
"""Commands during which no EXPUNGE may come (T3)."""

SECONDS = 30.0
"""How long an answer may take on a machine that has much else to do."""

HEADER = b"From: Ann <ann@example.org>\r\nMessage-ID: <%d@example.org>\r\nSubject: msg %d\r\n\r\n"
_SUBJECT = re.compile(rb"(?:\A|\n)Subject: msg (\d+)\r\n")
_TEXT = re.compile(rb"\Atext of (\d+)\r\n")


Entry = tuple[int, str, object]
"""What was said: the session, who said it (C or S), and what; written out only if needed."""


class Violation(AssertionError):
    """The server broke a rule."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


# -- messages -------------------------------------------------------------------------------


def text_of(number: int) -> bytes:
    """The body of a message: it names itself; a few are long enough for a file of their own."""
    lines = 1400 if number % 29 == 0 else number % 7
    return b"text of %d\r\n" % number + b"%039d line of a message\r\n" % number * lines


def octets_of(number: int) -> bytes:
    """The message of a number, as it is sent."""
    return HEADER % (number, number) + text_of(number)


@attrs.define
class Library:
    """Which text each UID showed, and what it weighs; shared by all sessions.

    Attributes:
        shown: (name, UIDVALIDITY, UID) -> number of the text (RFC 3501 §2.3.1.1).
        sizes, dates: of each text, as first told; a delivery adds to the header.
    """

    shown: dict[tuple[str, int, int], int] = attrs.Factory(dict)
    sizes: dict[int, int] = attrs.Factory(dict)
    dates: dict[int, InternalDate] = attrs.Factory(dict)

    def is_text(self, box: tuple[str, int], uid: int, number: int, where: str) -> None:
        """Note that a UID of a mailbox, given as name and UIDVALIDITY, showed a text."""
        known = self.shown.setdefault((*box, uid), number)
        check(known == number, f"{where}: UID {uid} showed text {known}, now {number} (T5)")

    def learn(
        self, box: tuple[str, int], uid: int, items: Sequence[r.FetchDatum], where: str
    ) -> None:
        """Hold the data of one message against each other and what was shown before."""
        for item in items:
            self._claim(box, uid, item, where)
        number = self.shown.get((*box, uid))
        if number is None:
            return
        for item in items:
            if isinstance(item, r.SizeItem):
                size = self.sizes.setdefault(number, item.size)
                check(item.size == size, f"{where}: size {item.size} of text {number}, was {size}")
                least = len(octets_of(number))
                check(item.size >= least, f"{where}: size {item.size} of text {number} < {least}")
            elif isinstance(item, r.InternalDateItem):
                date = self.dates.setdefault(number, item.date)
                check(item.date == date, f"{where}: {item.date} of text {number}, was {date}")
            elif isinstance(item, r.StructureItem):
                part = item.structure
                check(isinstance(part, r.SinglePart), f"{where}: {part} of text {number}")
                assert isinstance(part, r.SinglePart)
                size = len(text_of(number))
                check(part.size == size, f"{where}: body of {part.size} octets, not {size}")
            elif isinstance(item, r.SectionItem):
                self._section(number, item, where)

    def _claim(self, box: tuple[str, int], uid: int, item: r.FetchDatum, where: str) -> None:
        subject: re.Match[bytes] | None = None
        if isinstance(item, r.EnvelopeItem):
            subject = re.fullmatch(rb"msg (\d+)", item.envelope.subject or b"")
            check(subject is not None, f"{where}: {item.envelope}")
            assert subject is not None
            identity = b"<%b@example.org>" % subject[1]
            check(item.envelope.message_id == identity, f"{where}: {item.envelope}")
        elif isinstance(item, r.SectionItem):
            octets = item.octets or b""
            subject = _SUBJECT.search(octets) or _TEXT.match(octets)
        if subject is not None:
            self.is_text(box, uid, int(subject[1]), where)

    def _section(self, number: int, item: r.SectionItem, where: str) -> None:
        section, octets = item.section, item.octets or b""
        assert isinstance(section, BodySection)
        if section.text is SectionText.TEXT:
            text = text_of(number)
            if section.partial is not None:
                start = section.partial[0]
                right = text[start : start + len(octets)] == octets
                right = right and (bool(octets) or start >= len(text))
            else:
                right = octets == text
        elif section.text is SectionText.HEADER_FIELDS:
            right = octets == b"Subject: msg %d\r\n\r\n" % number
        elif section.text is SectionText.ALL and section.partial is None:
            right = octets.endswith(octets_of(number))
            size = self.sizes.setdefault(number, len(octets))
            check(size == len(octets), f"{where}: {len(octets)} octets, size {size} (T31)")
        else:
            right = True
        check(right, f"{where}: {section} of text {number} is not right: {octets[:200]!r}")


def connect(port: int) -> socket.socket:
    """Open a connection that does not wait for more to send."""
    connection = socket.create_connection(("127.0.0.1", port), SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


# -- what a client believes -----------------------------------------------------------------


@attrs.define(eq=False)
class Slot:
    """One message as a client knows it; None for what it was not told."""

    uid: int | None = None
    flags: Flags | None = None


def lower(names: Iterable[str]) -> Flags:
    return frozenset(name.lower() for name in names)


class Session:
    """One connection, and its client's belief.

    Attributes:
        number: of the session, for the transcript.
        slots: the messages of the selected mailbox, in order.
        waiting: commands that are sent and not answered, the running one first.
        answers: of those that are, with their commands.
        idles: IDLE has begun and DONE was not sent.
        leaving: IDLEs not answered yet whose DONE was sent.
        gone: the connection is closed.
        recents: (name, UIDVALIDITY, UID) that were `\\Recent` here.
    """

    def __init__(
        self, number: int, connection: socket.socket, library: Library, log: list[Entry]
    ) -> None:
        self.number = number
        self.library = library
        self.log = log
        self.socket = connection
        self.reader = ResponseReader()
        self.slots: list[Slot] = []
        self.keywords: Flags = frozenset()
        self.selected = ""
        self.read_only = False
        self.validity = 0
        self.waiting: deque[tuple[bytes, Command]] = deque()
        self.data: list[r.Response] = []
        self.answers: list[tuple[Command, Answer]] = []
        self.told: set[int] = set()
        self.meant: list[Slot] = []
        self.refusal_due = False
        self.idles = False
        self.leaving = 0
        self.bye: str | None = None
        self.gone = False
        self.recents: set[tuple[str, int, int]] = set()
        self._tags = 0

    # -- sending ------------------------------------------------------------

    def octets(self, command: Command) -> bytes:
        """Write a command, and expect its answer."""
        if command.verb == "DONE":
            self.idles = False
            self.leaving += 1
            self.log.append((self.number, "C", b"DONE"))
            return b"DONE\r\n"
        self._tags += 1
        tag = b"t%d" % self._tags
        line = b" ".join(filter(None, (tag, command.verb.encode(), command.text.encode())))
        self.log.append((self.number, "C", line))
        for number in command.texts:
            octets = octets_of(number)
            line += b" {%d+}\r\n%b" % (len(octets), octets)
        self.waiting.append((tag, command))
        if len(self.waiting) == 1:
            self._begin(command)
        return line + b"\r\n"

    @property
    def is_quiet(self) -> bool:
        """Everything that was sent is answered, but an IDLE that goes on."""
        return self.gone or not self.waiting or (self.idles and len(self.waiting) == 1)

    @property
    def running(self) -> Command | None:
        return self.waiting[0][1] if self.waiting else None

    @property
    def unanswered(self) -> list[Command]:
        return [command for _, command in self.waiting]

    # -- receiving ----------------------------------------------------------

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self) -> None:
        """Take what has come; to be called when there is something."""
        try:
            octets = self.socket.recv(1 << 18)
        except ConnectionError:
            octets = b""
        if not octets:
            self.close()
            return
        self.reader.feed(octets)
        while (response := self.reader.next_response()) is not None:
            self.log.append((self.number, "S", response))
            self.hear(response)

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            self.log.append((self.number, "closed", self.bye))
            self.socket.close()

    def where(self) -> str:
        return f"session {self.number}, {self.running}"

    def hear(self, response: r.Response) -> None:
        """Learn from one response."""
        match response:
            case r.Status(tag=bytes() as tag):
                self._over(tag, response)
                return
            case r.Status(condition=r.Condition.BYE):
                self.bye = response.text
            case r.Status(condition=condition):
                check(condition is r.Condition.OK, f"{self.where()}: {response}")
            case r.Continuation():
                running = self.running
                check(running is not None and running.verb == "IDLE", f"{self.where()}: +")
                self.idles = not self.leaving  # else DONE was sent right behind it
            case r.Exists(number):
                self._exists(number)
            case r.Recent(number):
                check(number <= len(self.slots), f"{self.where()}: {number} RECENT")
            case r.Expunged(number):
                self._expunged(number)
            case r.FetchData():
                self._fetched(response)
            case r.FlagsList(names):
                self.keywords = lower(names)
            case r.SearchResult(numbers):
                self._found(numbers)
        self.data.append(response)

    def _exists(self, number: int) -> None:
        check(number >= len(self.slots), f"{self.where()}: {number} EXISTS shrinks (T4)")
        self.slots += [Slot() for _ in range(number - len(self.slots))]

    def _expunged(self, number: int) -> None:
        running = self.running
        check(running is not None, f"{self.where()}: EXPUNGE with no command (T3)")
        assert running is not None
        check(running.verb not in KEEPS_NUMBERS, f"{self.where()}: EXPUNGE (T3)")
        check(running.verb not in ("CLOSE", "UNSELECT"), f"{self.where()}: EXPUNGE (T27)")
        check(1 <= number <= len(self.slots), f"{self.where()}: EXPUNGE {number} (T4)")
        del self.slots[number - 1]

    def _fetched(self, data: r.FetchData) -> None:
        running = self.running
        where = f"{self.where()}: {data.number} FETCH"
        check(1 <= data.number <= len(self.slots), f"{where}: there is no such message (T5)")
        slot = self.slots[data.number - 1]
        uids = [item.uid for item in data.items if isinstance(item, r.UidItem)]
        check(bool(uids) or running is None or not running.by_uid, f"{where} without UID (T15)")
        if uids:
            check(slot.uid in (None, uids[0]), f"{where}: UID {uids[0]}, was {slot.uid} (T5)")
            if slot.uid is None:
                slot.uid = uids[0]
                self._check_order(data.number - 1, where)
        for item in data.items:
            if isinstance(item, r.FlagsItem):
                flags = lower(item.names)
                slot.flags = flags - {"\\recent"}
                check(slot.flags <= self.keywords, f"{where}: {item.names} not announced (T10)")
                if "\\recent" in flags and slot.uid and not self.read_only:
                    self.recents.add((self.selected, self.validity, slot.uid))
        if slot.uid is not None and self.validity:
            self.library.learn((self.selected, self.validity), slot.uid, data.items, where)
        self.told.add(id(slot))

    def _check_order(self, at: int, where: str) -> None:
        """UIDs ascend (T12)."""
        uid = self.slots[at].uid
        assert uid is not None
        before = next((s.uid for s in reversed(self.slots[:at]) if s.uid), 0)
        behind = next((s.uid for s in self.slots[at + 1 :] if s.uid), 2**32)
        check(before < uid < behind, f"{where}: UID {uid} between {before} and {behind} (T12)")

    def _found(self, numbers: tuple[int, ...]) -> None:
        running = self.running
        assert running is not None
        check(list(numbers) == sorted(set(numbers)), f"{self.where()}: {numbers}")
        if running.by_uid:
            known = {slot.uid for slot in self.slots if slot.uid}
            unknown = sum(slot.uid is None for slot in self.slots)
            check(len(set(numbers) - known) <= unknown, f"{self.where()}: UIDs {numbers}")
        else:
            check(not numbers or numbers[-1] <= len(self.slots), f"{self.where()}: {numbers}")

    # -- the beginning and end of a command -----------------------------------

    def _begin(self, command: Command) -> None:
        """The server turns to a command: everything before it is answered."""
        self.data = []
        self.told = set()
        self.meant = []
        self.refusal_due = False
        if command.verb in ("SELECT", "EXAMINE"):
            self.slots, self.selected, self.validity = [], "", 0
            self.keywords = frozenset()
            self.read_only = command.verb == "EXAMINE"
        if command.base in ("STORE", "FETCH", "COPY", "MOVE"):
            self._mean(command)
        if command.base == "STORE" and command.silent and not self.read_only:
            self._store_silently(command)

    def _mean(self, command: Command) -> None:
        """Which messages the command is about, and whether it must be refused (T14)."""
        count = len(self.slots)
        ranges = [tuple(sorted((low or count, high or count))) for low, high in command.numbers]
        if not command.by_uid:
            self.refusal_due = any(
                max(one) > count or (0 in one and not count) for one in command.numbers
            )
            if not self.refusal_due:
                self.meant = [s for low, high in ranges for s in self.slots[low - 1 : high]]
            return
        if all(0 not in one for one in command.numbers):
            self.meant = [
                slot
                for slot in self.slots
                if slot.uid and any(low <= slot.uid <= high for low, high in ranges)
            ]

    def _store_silently(self, command: Command) -> None:
        """Think oneself what becomes of flags that will not be told (T8)."""
        given = lower(command.flags)
        for slot in self.meant:
            if command.operation == "":
                slot.flags = given
            elif slot.flags is not None:
                slot.flags = slot.flags | given if command.operation == "+" else slot.flags - given
        if command.by_uid:
            for slot in self.slots:
                if slot.uid is None:
                    slot.flags = None

    def _over(self, tag: bytes, status: r.Status) -> None:
        check(bool(self.waiting), f"session {self.number}: {status} with no command")
        expected, command = self.waiting[0]
        where = self.where()
        check(tag == expected, f"{where}: answer to {tag.decode()} out of order (T16)")
        check(status.code != r.SERVERBUG, f"{where}: {status}")
        answer = Answer(status, tuple(self.data))
        if self.refusal_due and self.selected:
            check(status.condition is r.Condition.BAD, f"{where}: {status}, not BAD (T14)")
        elif answer.is_ok:
            self._check_all_told(command, answer)
        if command.base == "STORE" and not answer.is_ok:
            for slot in self.meant:
                slot.flags = None
        if command.verb in ("SELECT", "EXAMINE") and answer.is_ok:
            self.selected = command.name
            self.validity = answer.number(b"UIDVALIDITY") or 0
            check(self.validity > 0, f"{where}: no UIDVALIDITY")
        elif command.verb in ("SELECT", "EXAMINE") or (
            command.verb in ("CLOSE", "UNSELECT") and answer.is_ok
        ):
            self.slots, self.selected, self.validity = [], "", 0
        if command.verb == "IDLE":
            self.idles = False
            self.leaving = max(0, self.leaving - 1)
        self.answers.append((command, answer))
        self.waiting.popleft()
        if self.waiting:
            self._begin(self.waiting[0][1])

    def _check_all_told(self, command: Command, answer: Answer) -> None:
        """Each message that is meant is answered, or known to be gone (T5)."""
        verb = command.base
        if answer.status.code == r.EXPUNGEISSUED or self.bye is not None:
            return
        if verb == "FETCH" or (verb == "STORE" and not command.silent):
            still = set(map(id, self.slots))
            missing = [s for s in self.meant if id(s) in still and id(s) not in self.told]
            check(not missing, f"{self.where()}: nothing told of {missing}")
        elif verb == "SEARCH":
            check(answer.one(r.SearchResult) is not None, f"{self.where()}: no * SEARCH (T33)")


class Lmtp:
    """A connection that delivers to one account; each delivery is one command of it.

    Attributes as those of `Session`.
    """

    def __init__(
        self, number: int, connection: socket.socket, account: str, log: list[Entry]
    ) -> None:
        self.number = number
        self.account = account
        self.log = log
        self.socket = connection
        self.rest = b""
        self.waiting: deque[Command] = deque()
        self.answers: list[tuple[Command, Answer]] = []
        self.replies: list[bytes] = []
        self.due = 2  # greeting, LHLO
        self.gone = False
        self.bye: str | None = None
        self.idles = False
        self.socket.sendall(b"LHLO client.example.org\r\n")

    def octets(self, command: Command) -> bytes:
        """Write a delivery in one piece (RFC 3030 §4.2)."""
        self.waiting.append(command)
        self.log.append((self.number, "C", command))
        [number] = command.texts
        local, _, domain = self.account.partition("@")
        if command.name != "INBOX":
            local = f"{local}+{command.name}"
        octets = octets_of(number)
        return b"MAIL FROM:<bob@example.org>\r\nRCPT TO:<%b@%b>\r\nBDAT %d LAST\r\n%b" % (
            local.encode(),
            domain.encode(),
            len(octets),
            octets,
        )

    @property
    def is_quiet(self) -> bool:
        return self.gone or (not self.waiting and not self.due)

    @property
    def running(self) -> Command | None:
        return self.waiting[0] if self.waiting else None

    @property
    def unanswered(self) -> list[Command]:
        return list(self.waiting)

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self) -> None:
        """Take what has come."""
        try:
            octets = self.socket.recv(1 << 16)
        except ConnectionError:
            octets = b""
        if not octets:
            self.close()
            return
        *lines, self.rest = (self.rest + octets).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._reply(line)

    def _reply(self, line: bytes) -> None:
        if line.startswith(b"421"):
            self.bye = line.decode()
        elif self.due:
            self.due -= 1
            check(line.startswith(b"2"), f"LMTP: {line!r}")
        else:
            self.log.append((self.number, "S", line))
            self.replies.append(line)
            if len(self.replies) == 3:
                fine = all(reply.startswith(b"250") for reply in self.replies)
                condition = r.Condition.OK if fine else r.Condition.NO
                answer = Answer(r.Status(condition, self.replies[-1].decode()))
                check(bool(self.waiting), f"LMTP: {line!r} for nothing")
                self.answers.append((self.waiting.popleft(), answer))
                self.replies.clear()

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            self.socket.close()
