"""SEARCH finds what people look for (T32, T33)."""

from __future__ import annotations

from datetime import date

import pytest

from mailserver.errors import ErrorKind
from mailserver.model import search as keys
from mailserver.model.flags import Flags, System
from mailserver.model.message import InternalDate
from mailserver.model.numset import NumSet
from mailserver.model.search import (
    Addresses,
    All,
    And,
    Body,
    DateField,
    DateKey,
    DateRelation,
    HasFlag,
    HasKeyword,
    Header,
    Larger,
    ModSeqAtLeast,
    Not,
    Or,
    SearchKey,
    Smaller,
    Text,
    Uids,
)
from tests.contract.rig import Rig
from tests.contract.test_mailboxes import refused


def mail(header: str, body: str = "", charset: str = "us-ascii") -> bytes:
    lines = f"{header}\nContent-Type: text/plain; charset={charset}\n\n{body}\n"
    return lines.replace("\n", "\r\n").encode("utf-8")


DAY = date(2024, 2, 29).toordinal()
NOON = (DAY - 719163) * 86400 + 43200

MESSAGES: list[tuple[bytes, Flags, InternalDate]] = [
    # 1
    (
        mail(
            "From: Ann <ann@x>\nSubject: Meeting on Monday\nDate: Thu, 29 Feb 2024 23:30:00 -0800"
        ),
        Flags.of("\\Seen"),
        InternalDate(NOON, 0),
    ),
    # 2: in its own zone the next day
    (
        mail(
            "From: Bob <bob@x>\nSubject: =?utf-8?q?Caf=C3=A9?= today\nTo: c@x", "Über uns", "utf-8"
        ),
        Flags.of("\\Flagged", "$Work"),
        InternalDate(NOON + 11 * 3600, 120),
    ),
    # 3
    (
        mail(
            "Subject: plain\nX-Empty:\nDate: Fri, 1 Mar 2024 01:00:00 +0900", "monday " + "x" * 3000
        ),
        Flags.of("\\Seen", "\\Deleted"),
        InternalDate(NOON + 86400),
    ),
    # 4: body in base64
    (
        b"Subject: coded\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nU3RyYd9lIHVuZCBIYXVz\r\n",
        Flags(),
        InternalDate(NOON + 2 * 86400),
    ),
    # 5: in a file
    (
        mail("Subject: long one", "filler words\n" * 8000 + "the very end"),
        Flags(),
        InternalDate(NOON + 3 * 86400),
    ),
]


@pytest.fixture
def filled(rig: Rig) -> Rig:
    for octets, flags, when in MESSAGES:
        rig.append((octets, flags), date=when)
    rig.flag(rig.image(), (4,), "$Work")
    return rig


def find(rig: Rig, key: SearchKey) -> list[int]:
    return list(rig.run(rig.store.search(rig.who, rig.image(), key)))


def dated(field: DateField, relation: DateRelation, day: int) -> DateKey:
    return DateKey(field, relation, day)


SECOND = len(MESSAGES[1][0])
ARRIVED, SENT = DateField.INTERNAL, DateField.SENT
BEFORE, ON, SINCE = DateRelation

CASES: list[tuple[SearchKey, list[int]]] = [
    (All(), [1, 2, 3, 4, 5]),
    (And(()), [1, 2, 3, 4, 5]),
    (HasFlag(System.SEEN), [1, 3]),
    (Not(HasFlag(System.SEEN)), [2, 4, 5]),
    (HasKeyword("$work"), [2, 4]),
    (HasKeyword("nothing"), []),
    (Uids(NumSet(((2, 3), (5, 4294967295)))), [2, 3, 5]),
    (Uids(NumSet()), []),
    (And((HasFlag(System.SEEN), Not(HasFlag(System.DELETED)))), [1]),
    (Or(HasFlag(System.FLAGGED), HasFlag(System.DELETED)), [2, 3]),
    (Not(Or(HasFlag(System.SEEN), HasKeyword("$WORK"))), [5]),
    # dates: the day as written, in the zone as written (T32)
    (dated(ARRIVED, ON, DAY), [1]),
    (dated(ARRIVED, ON, DAY + 1), [2, 3]),
    (dated(ARRIVED, BEFORE, DAY + 1), [1]),
    (dated(ARRIVED, SINCE, DAY + 2), [4, 5]),
    (dated(SENT, ON, DAY), [1]),
    (dated(SENT, ON, DAY + 1), [3]),
    (dated(SENT, SINCE, 1), [1, 3]),
    (Not(dated(SENT, SINCE, 1)), [2, 4, 5]),
    (dated(DateField.SAVED, ON, date(2023, 11, 14).toordinal()), [1, 2, 3, 4, 5]),
    (dated(DateField.SAVED, BEFORE, date(2023, 11, 14).toordinal()), []),
    (Larger(3000), [3, 5]),
    (And((Smaller(3000), Larger(10))), [1, 2, 4]),
    (Smaller(SECOND), [n for n in (1, 3, 4) if len(MESSAGES[n - 1][0]) < SECOND]),
    (Larger(len(MESSAGES[4][0])), []),
    (Larger(len(MESSAGES[4][0]) - 1), [5]),
    # text: decoded, any case, parts of words (T33)
    (Header("subject", "MEETING"), [1]),
    (Header("Subject", "eeting on m"), [1]),
    (Header("subject", "café"), [2]),
    (Header("subject", "CAFÉ TODAY"), [2]),
    (Header("from", "monday"), []),
    (Header("from", "@x"), [1, 2]),
    (Addresses("from", "monday"), []),
    (Addresses("from", "@X"), [1, 2]),
    (Addresses("to", ""), [2]),
    (Header("x-empty", ""), [3]),
    (Header("to", ""), [2]),
    (Header("not-there", ""), []),
    (Not(Header("date", "")), [2, 4, 5]),
    (Header("subject", ""), [1, 2, 3, 4, 5]),
    (Header("ubject", ""), []),
    (Body("monday"), [3]),
    (Text("monday"), [1, 3]),
    (Body("über"), [2]),
    (Body("straße"), [4]),
    (Body("STRASSE UND"), [4]),
    (Body("U3Ry"), []),
    (Body("the very end"), [5]),
    (Body("end filler"), []),
    (Body(""), [1, 2, 3, 4, 5]),
    (Text(""), [1, 2, 3, 4, 5]),
    (Body("words filler"), [5]),  # across a line end
    (Body(".*"), []),  # S4: nothing is a pattern
    (Or(Header("subject", "plain"), Body("über")), [2, 3]),
    (And((Body("monday"), HasFlag(System.DELETED), Larger(10))), [3]),
    (And((Not(Body("monday")), Text("monday"))), [1]),
    (Not(Not(Body("monday"))), [3]),
]


@pytest.mark.parametrize(("key", "found"), CASES, ids=lambda value: str(value)[:60])
def test_search_finds(filled: Rig, key: SearchKey, found: list[int]) -> None:
    assert find(filled, key) == found


def test_search_by_mod_sequence(filled: Rig) -> None:
    image = filled.image()
    assert find(filled, ModSeqAtLeast(image.mod_sequence)) == [4]
    assert find(filled, ModSeqAtLeast(image.mod_sequence + 1)) == []
    assert find(filled, ModSeqAtLeast(0)) == [1, 2, 3, 4, 5]


def test_an_empty_mailbox_holds_nothing(rig: Rig) -> None:
    for key in (All(), Body("x"), Not(HasFlag(System.SEEN))):
        assert find(rig, key) == []


def test_keys_of_a_session_are_refused(filled: Rig) -> None:
    image = filled.image()
    refused(filled, ErrorKind.INVALID, filled.store.search(filled.who, image, keys.IsRecent()))


def test_new_mail_is_found_at_once_and_removed_mail_is_not(filled: Rig) -> None:
    assert find(filled, Text("monday")) == [1, 3]
    filled.append(mail("Subject: another Monday"))
    assert find(filled, Text("monday")) == [1, 3, 6]
    filled.expunge(filled.image(), 1)
    assert find(filled, Text("monday")) == [3, 6]


ODD_ADDRESSES = mail('From: (sales) "B\\ob" < bob @ example . org >\nTo: Lists: (x) a@b;')


@pytest.mark.parametrize("keep", [False, True])
def test_addresses_are_searched_as_the_envelope_has_them(rig: Rig, keep: bool) -> None:
    """RFC 3501 §6.4.4: FROM, TO, CC, BCC; HEADER and TEXT look at what is written."""
    rig.append(ODD_ADDRESSES)
    if keep:  # texts are decoded when BODY is asked for, and found as they are kept then
        find(rig, Body("x"))
    for key, holds in (
        (Addresses("from", "bob@Example.ORG"), True),
        (Addresses("from", "Bob <"), True),
        (Addresses("from", "sales"), False),
        (Addresses("from", "a@b"), False),
        (Addresses("to", "lists: a@b;"), True),
        (Addresses("to", ""), True),
        (Addresses("cc", ""), False),
        (Header("from", "bob@example.org"), False),
        (Header("from", "sales"), True),
        (Text("bob@example.org"), False),
        (Text("sales"), True),
    ):
        assert find(rig, key) == [1] * holds, key


def test_what_one_recipient_alone_has_is_found_by_that_one(rig: Rig) -> None:
    rig.deliver(mail("Subject: s"), prefix=b"Delivered-To: ann+lists@example.org\r\n")
    rig.deliver(MESSAGES[4][0], prefix=b"Delivered-To: ann+big@example.org\r\n")
    assert find(rig, Header("delivered-to", "lists")) == [1]
    assert find(rig, Header("delivered-to", "BIG@")) == [2]


def test_a_copy_is_found_in_its_mailbox(filled: Rig) -> None:
    image = filled.image()
    filled.run(filled.store.copy(filled.who, image, NumSet.of([3]), filled.ref("Archive")))
    archive = filled.image("Archive")
    found = filled.run(filled.store.search(filled.who, archive, Body("monday")))
    assert list(found) == [1]


def test_a_long_search_gives_way(rig: Rig) -> None:
    """The reactor turns between slices."""
    for _ in range(3):
        rig.append(*[mail("Subject: s", "text")] * 800)
    image = rig.image()
    before = rig.loop.turns
    assert len(rig.run(rig.store.search(rig.who, image, Body("text")))) == 2400
    assert rig.loop.turns - before >= 3
