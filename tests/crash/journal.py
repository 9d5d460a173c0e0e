"""What clients were promised, what they do not know, and the check of both.

A client writes down what it begins and what was acknowledged. What was begun and not
acknowledged is a doubt: after a crash it has either happened as a whole or not at all.
What is found on the server must be what the journal says, with each doubt decided one way
or the other; then it is the journal's new state.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from pathlib import Path

import attrs

from tests.crash.site import Site

MAILBOXES = ("INBOX", "Archive")
_UID = re.compile(rb"UID (\d+)")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_TAG = re.compile(rb"^Subject: tag (\d+)", re.MULTILINE)


def message(tag: int) -> bytes:
    """A message that its number tells whole; one in eight is kept in a file."""
    length = 100_000 if tag % 8 == 0 else 500 + tag % 3000
    line = b"%08d " % tag * 7 + b"\r\n"
    return b"Subject: tag %d\r\n\r\n" % tag + line * (length // len(line))


@attrs.frozen(order=True)
class Place:
    """Where a message stands."""

    account: str
    mailbox: str
    uid: int


@attrs.frozen
class Content:
    """What stands there: the number of the message, and its flags."""

    tag: int
    flags: frozenset[bytes] = frozenset()


@attrs.frozen(eq=False)
class Doubt:
    """Something that was begun: it happens as a whole or not at all.

    Attributes:
        account: whose mail it concerns.
        leaves: places that it empties.
        arrives: (mailbox, tag) of the messages that it adds; their UIDs are not known.
        marks: the flags that it sets: place -> all flags afterwards.
    """

    account: str
    leaves: tuple[Place, ...] = ()
    arrives: tuple[tuple[str, int], ...] = ()
    marks: dict[Place, frozenset[bytes]] = attrs.Factory(dict)


@attrs.define
class Journal:
    """The promises of one site.

    Attributes:
        path: every line is on disk before the client goes on.
        contents: what stands where, as far as UIDs are known.
        delivered: (account, tag) acknowledged by LMTP, which tells no UID.
        doubts: begun, and not acknowledged.
        used: each UID that was ever told -> the message that had it.
        acknowledged: operations, by kind.
        by_account: the same, by account.
    """

    path: Path
    contents: dict[Place, Content] = attrs.Factory(dict)
    delivered: Counter[tuple[str, int]] = attrs.Factory(Counter)
    doubts: list[Doubt] = attrs.Factory(list)
    used: dict[Place, int] = attrs.Factory(dict)
    acknowledged: Counter[str] = attrs.Factory(Counter)
    by_account: Counter[str] = attrs.Factory(Counter)
    _validity: dict[tuple[str, str], int] = attrs.Factory(dict)
    _tag: int = 0
    _ended: bool = False
    _lock: threading.Lock = attrs.Factory(threading.Lock)
    _file: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def close(self) -> None:
        os.close(self._file)

    def new_tag(self) -> int:
        """A number that no message has yet."""
        with self._lock:
            self._tag += 1
            return self._tag

    # -- what clients tell ----------------------------------------------------

    def begin(self, doubt: Doubt) -> Doubt:
        """Note what a client is about to ask for."""
        self._write(f"begin {doubt}")
        with self._lock:
            self.doubts.append(doubt)
        return doubt

    def refused(self, doubt: Doubt, why: str) -> None:
        """Note that the server said no: it may still be there, as after a lost connection."""
        self._write(f"refused {id(doubt):x} {why}")

    def end(self) -> None:
        """From now on nothing is a promise: what is acknowledged stays a doubt."""
        self._ended = True

    def done(
        self,
        what: str,
        doubt: Doubt,
        *,
        placed: dict[Place, Content] | None = None,
        delivered: int | None = None,
        validity: int | None = None,
    ) -> None:
        """Note an acknowledgement.

        Args:
            what: the name of the command.
            doubt: what `begin` returned; it is none any more.
            placed: the messages that it added and their UIDs, if these were told.
            delivered: the tag of the message that it added, if its UID was not told.
            validity: the UIDVALIDITY that was told with the UIDs.
        """
        self._write(f"done {what} {id(doubt):x} {placed} {delivered}")
        with self._lock:
            if self._ended:
                return
            self.doubts.remove(doubt)
            self.acknowledged[what] += 1
            self.by_account[doubt.account] += 1
            for place in doubt.leaves:
                del self.contents[place]
            for place, flags in doubt.marks.items():
                self.contents[place] = attrs.evolve(self.contents[place], flags=flags)
            for place, content in (placed or {}).items():
                self._use(place, content.tag)
                self.contents[place] = content
                self._hold_validity(place.account, place.mailbox, validity)
            if delivered is not None:
                self.delivered[doubt.account, delivered] += 1

    def known(self, account: str, mailbox: str) -> list[Place]:
        """Places about which there is no doubt, ascending."""
        with self._lock:
            doubtful = {place for doubt in self.doubts for place in (*doubt.leaves, *doubt.marks)}
            return sorted(
                place
                for place in self.contents
                if (place.account, place.mailbox) == (account, mailbox) and place not in doubtful
            )

    def _write(self, line: str) -> None:
        os.write(self._file, line.encode() + b"\n")
        os.fdatasync(self._file)

    def _use(self, place: Place, tag: int) -> None:
        before = self.used.setdefault(place, tag)
        assert before == tag, f"{place} was given to messages {before} and {tag}"

    def _hold_validity(self, account: str, mailbox: str, validity: int | None) -> None:
        before = self._validity.setdefault((account, mailbox), validity or 0)
        assert before == validity, f"UIDVALIDITY of {mailbox} was {before} and is {validity}"

    # -- the check ------------------------------------------------------------

    def check(self, site: Site, accounts: tuple[str, ...]) -> None:
        """Fail unless the running server has all that was acknowledged, each message whole,
        nothing that nobody put there, and no UID for two messages."""
        self._ended = False
        for account in accounts:
            self._check_account(account, self._look(site, account))

    def _look(self, site: Site, account: str) -> dict[Place, Content]:
        """Read all mail of an account."""
        found: dict[Place, Content] = {}
        with site.session(account) as client:
            for mailbox in MAILBOXES:
                assert client.select(mailbox, readonly=True)[0] == "OK"
                told = {
                    name: int(client.untagged_responses[name][0])  # type: ignore[arg-type]
                    for name in ("UIDVALIDITY", "UIDNEXT", "EXISTS")
                }
                self._hold_validity(account, mailbox, told["UIDVALIDITY"])
                status, rows = client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")
                assert status == "OK", rows
                here = dict(
                    self._content(account, mailbox, *row) for row in rows if isinstance(row, tuple)
                )
                assert len(here) == told["EXISTS"]
                for place, content in here.items():
                    self._use(place, content.tag)
                highest = max(
                    (p.uid for p in self.used if (p.account, p.mailbox) == (account, mailbox)),
                    default=0,
                )
                assert told["UIDNEXT"] > highest, (
                    f"UIDNEXT fell back in {account} {mailbox}: {highest} was told before, and"
                    f" now {told}; the highest of {len(here)} is {max(here, default=None)}"
                )
                found |= here
        return found

    def _content(
        self, account: str, mailbox: str, items: bytes, octets: bytes
    ) -> tuple[Place, Content]:
        uid, flags, tag = _UID.search(items), _FLAGS.search(items), _TAG.search(octets)
        assert uid and flags and tag, (items, octets[:200])
        place = Place(account, mailbox, int(uid[1]))
        assert octets.endswith(message(int(tag[1]))), f"{place} is not whole"
        return place, Content(int(tag[1]), frozenset(flags[1].split()) - {b"\\Recent"})

    def _check_account(self, account: str, found: dict[Place, Content]) -> None:
        expected = {p: content for p, content in self.contents.items() if p.account == account}
        doubts = [doubt for doubt in self.doubts if doubt.account == account]
        owed = Counter(("INBOX", tag) for name, tag in self.delivered.elements() if name == account)
        possible = []  # doubts of which only the arrivals tell whether they happened
        for doubt in doubts:
            gone = [place for place in doubt.leaves if place not in found]
            assert len(gone) in (0, len(doubt.leaves)), f"half done: {doubt}"
            if gone:
                owed.update(doubt.arrives)
            elif doubt.arrives and not doubt.leaves:
                possible.append(doubt)
            for place in gone:
                expected.pop(place, None)
            marked = {p for p, flags in doubt.marks.items() if self._has(found, p, flags)}
            if marked == set(doubt.marks):
                for place, flags in doubt.marks.items():
                    if place in expected:
                        expected[place] = attrs.evolve(expected[place], flags=flags)
        wrong = {
            place: (content, found.get(place))
            for place, content in expected.items()
            if found.get(place) != content
        }
        assert not wrong, f"promised, and now: {wrong}"
        more = Counter(
            (place.mailbox, content.tag)
            for place, content in found.items()
            if place not in expected
        )
        assert owed <= more, f"acknowledged for {account} and lost: {owed - more}"
        more -= owed
        for doubt in possible:
            arrived = Counter(doubt.arrives)
            if arrived <= more:
                more -= arrived
        assert not more, f"nobody put that into {account}: {more}"
        for place in expected:
            self.contents.pop(place, None)
        for place in [place for place in self.contents if place.account == account]:
            del self.contents[place]
        self.contents |= found
        self.doubts = [doubt for doubt in self.doubts if doubt.account != account]
        for key in [key for key in self.delivered if key[0] == account]:
            del self.delivered[key]

    @staticmethod
    def _has(found: dict[Place, Content], place: Place, flags: frozenset[bytes]) -> bool:
        return place in found and found[place].flags == flags
