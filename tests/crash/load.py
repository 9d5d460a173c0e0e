"""Eight clients that deliver, append, flag, copy, move and expunge until the server is gone."""

from __future__ import annotations

import imaplib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from tests.crash.journal import MAILBOXES, Content, Doubt, Journal, Place, message
from tests.crash.lmtp import Lmtp
from tests.crash.site import ACCOUNTS, Site

CROWD = 100
"""Messages of a mailbox above which its owner expunges first of all."""


class Refused(Exception):
    """The server said that it cannot."""


def _answered(answer: tuple[str, list[Any]]) -> list[Any]:
    """What came with OK; BAD is never an answer to these clients."""
    assert answer[0] != "BAD", answer
    if answer[0] != "OK":
        raise Refused(repr(answer[1]))
    return answer[1]


@attrs.define
class Deliverer:
    """Delivers messages to some accounts at once by LMTP."""

    site: Site
    journal: Journal
    accounts: Sequence[str]
    dice: random.Random

    def work(self, goes_on: Callable[[], bool]) -> None:
        """Deliver until the connection ends or time is over."""
        with Lmtp(self.site.lmtp) as lmtp:
            while goes_on():
                tag = self.journal.new_tag()
                doubts = [
                    self.journal.begin(Doubt(account, arrives=(("INBOX", tag),)))
                    for account in self.accounts
                ]
                answers = lmtp.deliver(message(tag), self.accounts)
                for doubt, answer in zip(doubts, answers, strict=True):
                    if answer[:3] == "250":
                        self.journal.done("LMTP", doubt, delivered=tag)
                    else:
                        assert answer[:1] == "4", answer
                        self.journal.refused(doubt, answer)


@attrs.define
class Owner:
    """Appends to the mailboxes of one account, and alone changes what stands there."""

    site: Site
    journal: Journal
    account: str
    dice: random.Random

    def work(self, goes_on: Callable[[], bool]) -> None:
        """Work until the connection ends or time is over; what is refused is left alone."""
        commands = (self.append, self.append, self.flag, self.copy, self.move, self.expunge)
        with self.site.session(self.account) as client:
            while goes_on():
                crowded = [m for m in MAILBOXES if len(self._known(m)) > CROWD]
                command = self.expunge if crowded else self.dice.choice(commands)
                try:
                    command(client, crowded[0] if crowded else self.dice.choice(MAILBOXES))
                except Refused:
                    pass

    def append(self, client: imaplib.IMAP4, mailbox: str) -> None:
        tag = self.journal.new_tag()
        doubt = self.journal.begin(Doubt(self.account, arrives=((mailbox, tag),)))
        with self._noted(doubt):
            data = _answered(client.append(mailbox, "(\\Seen)", "", message(tag)))
        found = re.search(rb"APPENDUID (\d+) (\d+)", data[0] or b"")
        assert found, data
        place = Place(self.account, mailbox, int(found[2]))
        content = Content(tag, frozenset({b"\\Seen"}))
        self.journal.done("APPEND", doubt, placed={place: content}, validity=int(found[1]))

    def flag(self, client: imaplib.IMAP4, mailbox: str) -> None:
        sign, flag = self.dice.choice("+-"), self.dice.choice([b"\\Flagged", b"$Work", b"\\Seen"])
        self._flag(client, self._some(mailbox), sign, flag)

    def copy(self, client: imaplib.IMAP4, mailbox: str) -> None:
        self._transfer(client, "COPY", self._some(mailbox))

    def move(self, client: imaplib.IMAP4, mailbox: str) -> None:
        self._transfer(client, "MOVE", self._some(mailbox))

    def expunge(self, client: imaplib.IMAP4, mailbox: str) -> None:
        known = self._known(mailbox)
        chosen = known[: len(known) // 2] if len(known) > CROWD else self._some(mailbox)
        if not chosen:
            return
        self._flag(client, chosen, "+", b"\\Deleted")
        # Those that an earlier, failed EXPUNGE left flagged have not been selected yet.
        _answered(client.select(mailbox))
        doubt = self.journal.begin(Doubt(self.account, leaves=tuple(chosen)))
        with self._noted(doubt):
            _answered(client.uid("EXPUNGE", _uids(chosen)))
        self.journal.done("EXPUNGE", doubt)

    def _known(self, mailbox: str) -> list[Place]:
        return self.journal.known(self.account, mailbox)

    def _some(self, mailbox: str) -> list[Place]:
        known = self._known(mailbox)
        return self.dice.sample(known, min(len(known), self.dice.randint(1, 5)))

    @contextmanager
    def _noted(self, doubt: Doubt) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            self.journal.refused(doubt, str(refused))
            raise

    def _flag(self, client: imaplib.IMAP4, places: list[Place], sign: str, flag: bytes) -> None:
        before = {place: self.journal.contents[place].flags for place in places}
        marks = {
            place: flags | {flag} if sign == "+" else flags - {flag}
            for place, flags in before.items()
            if (flag in flags) != (sign == "+")  # what changes nothing needs no disk
        }
        if not marks:
            return
        places = list(marks)
        _answered(client.select(places[0].mailbox))
        doubt = self.journal.begin(Doubt(self.account, marks=marks))
        with self._noted(doubt):
            item = f"{sign}FLAGS.SILENT"
            _answered(client.uid("STORE", _uids(places), item, f"({flag.decode()})"))
        self.journal.done("STORE", doubt)

    def _transfer(self, client: imaplib.IMAP4, command: str, places: list[Place]) -> None:
        if not places:
            return
        _answered(client.select(places[0].mailbox))
        [target] = {*MAILBOXES} - {places[0].mailbox}
        contents = [self.journal.contents[place] for place in places]
        doubt = self.journal.begin(
            Doubt(
                self.account,
                leaves=tuple(places) if command == "MOVE" else (),
                arrives=tuple((target, content.tag) for content in contents),
            )
        )
        client.response("COPYUID")
        with self._noted(doubt):
            _answered(client.uid(command, _uids(places), target))
        told = client.response("COPYUID")[1][0]
        assert isinstance(told, bytes), "no COPYUID"
        validity, source, copies = told.split()
        placed = {
            Place(self.account, target, copy): self.journal.contents[
                Place(self.account, places[0].mailbox, uid)
            ]
            for uid, copy in zip(_numbers(source), _numbers(copies), strict=True)
        }
        assert len(placed) == len(places), told
        self.journal.done(command, doubt, placed=placed, validity=int(validity))


def _uids(places: list[Place]) -> str:
    return ",".join(str(place.uid) for place in places)


def _numbers(text: bytes) -> list[int]:
    found: list[int] = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        found += range(int(first), int(last or first) + 1)
    return found


def crew(site: Site, journal: Journal, dice: random.Random) -> list[Deliverer | Owner]:
    """The eight clients: an owner for each account, and deliveries to each two accounts."""
    seeds = [random.Random(dice.random()) for _ in range(8)]
    return [
        *(Owner(site, journal, account, seeds[n]) for n, account in enumerate(ACCOUNTS)),
        *(
            Deliverer(site, journal, (ACCOUNTS[n], ACCOUNTS[(n + 1) % 4]), seeds[n + 4])
            for n in range(4)
        ),
    ]


def load(
    site: Site, journal: Journal, dice: random.Random, seconds: float, end: Callable[[], object]
) -> None:
    """Let all clients work for some seconds, call `end` amid it, and wait for them.

    Args:
        end: makes them stop by ending the server, or else they end by themselves soon.
    """
    over = threading.Event()
    faults: list[BaseException] = []
    before = journal.acknowledged.total()

    def work(client: Deliverer | Owner) -> None:
        try:
            client.work(lambda: not over.is_set())
        except (OSError, imaplib.IMAP4.abort):
            pass  # the server is gone
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(one,)) for one in crew(site, journal, dice)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while journal.acknowledged.total() == before and time.monotonic() < deadline and not faults:
        time.sleep(0.005)
    time.sleep(seconds)
    try:
        end()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
