"""The client that believes: each rule can be broken, and is then noticed."""

from __future__ import annotations

import re
import socket

import pytest

from tests.concurrency.client import Library, Session, Violation, octets_of, text_of
from tests.concurrency.reference import Command

SELECT = Command("SELECT", "INBOX", "INBOX")
SELECTED = (
    "* FLAGS (\\Seen \\Deleted $a)",
    "* 3 EXISTS",
    "* OK [UIDVALIDITY 9] so",
    "t1 OK [READ-WRITE] so",
)
FETCH = Command("FETCH", "1:3 (UID FLAGS)", numbers=((1, 3),))
FETCHED = (
    "* 1 FETCH (UID 4 FLAGS ())",
    "* 2 FETCH (UID 6 FLAGS (\\Seen))",
    "* 3 FETCH (UID 7 FLAGS ($A))",
    "t2 OK so",
)
NOOP = Command("NOOP")
STORE = Command("STORE", "2 +FLAGS ($a)", numbers=((2, 2),), operation="+", flags=("$a",))
UID_STORE = Command(
    "UID STORE",
    "6:7 +FLAGS.SILENT ($a)",
    numbers=((6, 7),),
    uids=(6, 7),
    operation="+",
    flags=("$a",),
    silent=True,
)


def hear(*talk: Command | str) -> Session:
    """Let a session send commands and hear lines, in this order."""
    ours, theirs = socket.socketpair()
    session = Session(0, ours, Library(), [])
    for one in talk:
        if isinstance(one, Command):
            session.octets(one)
        else:
            theirs.sendall(one.encode() + b"\r\n")
            session.read()
    ours.close()
    theirs.close()
    return session


KNOWN = (SELECT, *SELECTED, FETCH, *FETCHED)


def test_it_learns() -> None:
    session = hear(
        *KNOWN, NOOP, "* 2 EXPUNGE", "* 3 EXISTS", "* 2 FETCH (FLAGS (\\Deleted))", "t3 OK so"
    )
    assert [(slot.uid, slot.flags) for slot in session.slots] == [
        (4, frozenset()),
        (7, frozenset({"\\deleted"})),
        (None, None),
    ]
    assert (session.selected, session.validity) == ("INBOX", 9)


def test_whose_done_is_sent_already_does_not_idle() -> None:
    """Two IDLEs in one piece: the end of the first must not hide that the second's DONE is
    on its way."""
    idle, done = Command("IDLE"), Command("DONE")
    begun = (idle, "+ idling")
    assert hear(*begun).idles
    assert not hear(*begun, done).idles
    both = (*begun, done, idle, done, "t1 OK so", "+ idling")
    assert not hear(*both).idles
    assert not hear(*both).is_quiet
    assert hear(*both, "t2 OK so", idle, "+ idling").idles
    assert hear(*begun, done, idle, "t1 OK so", "+ idling").idles


def test_it_works_out_what_a_silent_store_does() -> None:  # T8
    session = hear(*KNOWN, UID_STORE, "t3 OK so")
    assert [slot.flags for slot in session.slots[1:]] == [
        frozenset({"\\seen", "$a"}),
        frozenset({"$a"}),
    ]
    told = hear(*KNOWN, UID_STORE, "* 2 FETCH (UID 6 FLAGS ())", "t3 OK so")
    assert told.slots[1].flags == frozenset(), "another session was faster"


@pytest.mark.parametrize(
    ("rule", "talk"),
    [
        ("T3", (*KNOWN, "* 1 EXPUNGE")),
        ("T3", (*KNOWN, FETCH, "* 1 EXPUNGE")),
        ("T3", (*KNOWN, STORE, "* 1 EXPUNGE")),
        ("T3", (*KNOWN, Command("SEARCH", "ALL"), "* 1 EXPUNGE")),
        ("T4", (*KNOWN, NOOP, "* 2 EXISTS")),
        ("T4", (*KNOWN, NOOP, "* 4 EXPUNGE")),
        ("T5", (*KNOWN, NOOP, "* 4 FETCH (FLAGS ())")),
        ("T5", (*KNOWN, NOOP, "* 2 FETCH (UID 7 FLAGS ())")),
        ("nothing told", (SELECT, *SELECTED, FETCH, *FETCHED[:2], FETCHED[3])),
        ("nothing told", (*KNOWN, STORE, "t3 OK so")),
        ("T10", (*KNOWN, NOOP, "* 2 FETCH (FLAGS ($b))")),
        ("T12", (SELECT, *SELECTED, FETCH, FETCHED[0], "* 2 FETCH (UID 3 FLAGS ())")),
        ("T14", (*KNOWN, Command("FETCH", "4 FLAGS", numbers=((4, 4),)), "t3 OK so")),
        ("T15", (*KNOWN, UID_STORE, "* 2 FETCH (FLAGS (\\Seen))")),
        ("T16", (*KNOWN, NOOP, NOOP, "t4 OK so")),
        ("T27", (*KNOWN, Command("CLOSE"), "* 1 EXPUNGE")),
        ("T33", (*KNOWN, Command("SEARCH", "ALL"), "t3 OK so")),
        ("UIDs", (*KNOWN, Command("UID SEARCH", "ALL"), "* SEARCH 4 5")),
        ("SERVERBUG", (*KNOWN, NOOP, "t3 NO [SERVERBUG] oh")),
    ],
)
def test_what_breaks_a_rule_is_noticed(rule: str, talk: tuple[Command | str, ...]) -> None:
    with pytest.raises(Violation, match=re.escape(rule)):
        hear(*talk)


def body(number: int, section: str, octets: bytes) -> str:
    return f"* {number} FETCH (BODY[{section}] {{{len(octets)}}}\r\n{octets.decode()})"


@pytest.mark.parametrize(
    "lines",
    [
        (body(1, "TEXT", text_of(5)), body(1, "TEXT", text_of(6))),
        (body(1, "", octets_of(5)), body(1, "TEXT", text_of(6))),
        (body(1, "", octets_of(5)), body(1, "", octets_of(5)[:-9])),
        (body(1, "", octets_of(5)), "* 1 FETCH (RFC822.SIZE 1)"),
        (body(1, "TEXT", text_of(5)), body(1, "TEXT]<3", text_of(5)[4:]).replace("]<3]", "]<3>")),
        (body(1, "HEADER.FIELDS (SUBJECT)", b"Subject: msg 5\r\nX: y\r\n\r\n"),),
    ],
)
def test_a_uid_shows_one_text_for_ever(lines: tuple[str, ...]) -> None:  # T5, T31
    with pytest.raises(Violation):
        hear(*KNOWN, NOOP, *lines)


def test_what_messages_say_is_taken() -> None:
    session = hear(
        *KNOWN,
        NOOP,
        body(1, "", octets_of(5)),
        body(1, "TEXT", text_of(5)),
        body(1, "TEXT]<3", text_of(5)[3:]).replace("]<3]", "]<3>"),
        body(2, "HEADER.FIELDS (SUBJECT)", b"Subject: msg 8\r\n\r\n"),
    )
    assert session.library.shown == {("INBOX", 9, 4): 5, ("INBOX", 9, 6): 8}
