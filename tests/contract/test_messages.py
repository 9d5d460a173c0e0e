"""Messages come in, are read, and leave."""

from __future__ import annotations

import os

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.describe import describe
from mailserver.model.account import Account, AccountStatus, Recipient
from mailserver.model.changes import EventKind
from mailserver.model.flags import Flags
from mailserver.model.ids import Uid
from mailserver.model.message import Column, InternalDate
from mailserver.model.numset import NumSet
from mailserver.store.reading import FILES
from tests.contract.rig import MAIL, START, Rig, account, flags_of
from tests.contract.test_mailboxes import refused

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 20_000


def test_append_keeps_octets_flags_and_date(rig: Rig) -> None:  # T25
    flags = Flags.of("\\Seen", "\\Flagged", "$Forwarded", "Blue")
    date = InternalDate(START, -330)
    done = rig.append((MAIL, flags), date=date)
    assert done.target == (1,)
    image = rig.image()
    assert done.uid_validity == image.uid_validity
    assert done.mod_sequence == image.mod_sequence
    assert rig.octets(image, 1) == MAIL
    assert flags_of(image) == {1: flags.names()}
    assert rig.run(rig.store.fetch(rig.who, image, [Uid(1)], [Column.INTERNAL_DATE])) == [(1, date)]
    assert rig.used() == (len(MAIL), 1)


@pytest.mark.parametrize(
    ("chunks", "stored"),
    [
        ((b"A: b\n\nc\n",), b"A: b\r\n\r\nc\r\n"),
        ((b"A: b\r", b"\n\rc"), b"A: b\r\n\r\nc"),
        ((b"A: b\r\n\r\n\r", b"\r"), b"A: b\r\n\r\n\r\n\r\n"),
        ((b"A: \x00\r\n\r\n\xff",), b"A: \x00\r\n\r\n\xff"),
    ],
)
def test_line_ends_become_crlf_once(rig: Rig, chunks: tuple[bytes, ...], stored: bytes) -> None:
    """T31: what is stored is what is counted and sent."""
    spool = rig.store.spool()
    for chunk in chunks:
        spool.write(chunk)
    message = rig.run(spool.finish())
    assert message.size == len(stored)
    rig.run(rig.store.append(rig.who, rig.ref(), [(message, Flags(), InternalDate(0))]))
    assert rig.octets(rig.image(), 1) == stored


def test_a_message_of_no_octets_is_refused(rig: Rig) -> None:  # T25
    refused(rig, ErrorKind.BAD_MESSAGE, rig.store.spool().finish())


def test_a_message_over_the_limit_is_refused_as_it_comes(rig: Rig) -> None:
    rig.restart(max_message_size=100_000)
    spool = rig.store.spool()
    spool.write(b"x" * 90_000)
    with pytest.raises(MailError) as raised:
        spool.write(b"x" * 10_001)
    assert raised.value.kind is ErrorKind.TOO_BIG
    spool.write(b"ignored")
    refused(rig, ErrorKind.TOO_BIG, spool.finish())
    recipient = Recipient("a@b", rig.ann)
    refused(rig, ErrorKind.TOO_BIG, rig.store.check_deliverable(recipient, 100_001))


def test_several_messages_come_in_whole_or_not_at_all(rig: Rig) -> None:  # T25
    rig.run(rig.store.set_quota(rig.ann.id, None, 2))
    with pytest.raises(MailError) as raised:
        rig.append(MAIL, MAIL, MAIL)
    assert raised.value.kind is ErrorKind.OVER_QUOTA
    rig.recount()
    assert rig.used() == (0, 0)
    assert rig.append(MAIL, MAIL).target == (1, 2)


def test_the_number_of_messages_at_once_is_limited(rig: Rig) -> None:
    rig.restart(messages_per_append=2)
    with pytest.raises(MailError) as raised:
        rig.append(MAIL, MAIL, MAIL)
    assert raised.value.kind is ErrorKind.LIMIT


def test_uids_ascend_and_never_come_back(rig: Rig) -> None:  # T12
    assert rig.append(MAIL, MAIL, MAIL).target == (1, 2, 3)
    image = rig.image()
    rig.expunge(image, 2, 3)
    assert rig.append().target == (4,)
    rig.expunge(image, 1, 4)
    rig.restart()
    assert rig.append().target == (5,)


def test_a_large_message_is_the_same_as_a_small_one(rig: Rig) -> None:
    rig.append(LARGE)
    rig.deliver(LARGE, prefix=b"Delivered-To: ann\r\n")
    image = rig.image()
    assert rig.octets(image, 1) == LARGE
    assert rig.octets(image, 2) == b"Delivered-To: ann\r\n" + LARGE
    content = rig.run(rig.store.content(rig.who, image, Uid(2)))
    assert content is not None
    whole = b"Delivered-To: ann\r\n" + LARGE
    for start, end in ((0, 5), (10, 30), (19, 20), (300_000, 10**9), (len(whole), 10**9)):
        assert content.read(start, end) == whole[start:end]
    content.close()
    content.close()
    rows = rig.run(rig.store.fetch(rig.who, image, [Uid(1), Uid(2)], [Column.SIZE, Column.HEADER]))
    assert rows == [
        (1, len(LARGE), b"Subject: large\r\n\r\n"),
        (2, len(whole), b"Delivered-To: ann\r\nSubject: large\r\n\r\n"),
    ]


def test_a_very_long_header_is_whole(rig: Rig) -> None:
    header = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 900) for n in range(100)) + b"\r\n"
    rig.append(header + b"body")
    rig.deliver(header + b"body", prefix=b"Delivered-To: a\r\n")
    image = rig.image()
    rows = rig.run(rig.store.fetch(rig.who, image, [Uid(1), Uid(2)], [Column.HEADER]))
    assert rows == [(1, header), (2, b"Delivered-To: a\r\n" + header)]
    assert rig.octets(image, 2) == b"Delivered-To: a\r\n" + header + b"body"


def test_octets_can_be_read_after_the_message_is_gone(rig: Rig) -> None:
    for mail in (MAIL, LARGE):
        rig.append(mail)
        image = rig.image()
        uid = Uid(image.uids[-1])
        content = rig.run(rig.store.content(rig.who, image, uid))
        assert content is not None
        rig.expunge(image, uid)
        assert content.read(0, content.size) == mail
        content.close()
        assert rig.octets(image, uid) is None


def test_every_column_says_what_the_octets_say(rig: Rig) -> None:
    rig.time = START + 50
    rig.append((MAIL, Flags()), date=InternalDate(START, 60))
    image = rig.image()
    columns = list(Column)
    [row] = rig.run(rig.store.fetch(rig.who, image, [Uid(1)], columns))
    assert row[0] == 1
    got = dict(zip(columns, row[1:], strict=True))
    d = describe(MAIL)
    assert got[Column.EMAIL_ID] > 0 and got[Column.THREAD_ID] > 0
    del got[Column.EMAIL_ID], got[Column.THREAD_ID]
    assert got == {
        Column.INTERNAL_DATE: InternalDate(START, 60),
        Column.SIZE: len(MAIL),
        Column.ENVELOPE: d.envelope,
        Column.BODY: d.body,
        Column.BODY_STRUCTURE: d.body_structure,
        Column.SECTIONS: d.sections,
        Column.HEADER: MAIL[: d.header_size],
        Column.HEADER_SIZE: d.header_size,
        Column.ENDING: MAIL[-4:],
        Column.HEADER_INDEX: d.header_index,
        Column.PREVIEW: d.preview,
        Column.SAVE_DATE: START + 50,
        Column.HAS_ATTACHMENT: False,
    }


@pytest.mark.parametrize(
    "octets",
    [
        b"A: b",
        b"A: b\r\n",
        b"A: b\r\n\r\n",
        b"A: b\r\n\r\nx",
        b"A: b\r\n\r\n\x00\xff\r\n",
        b"\r\n",
        b"x",
        b"A: b\r\n\r\n" + b"y" * 100_000 + b"end",  # kept in a file
        b"A: " + b"y" * 100_000 + b"\r\n",  # a header that is kept in a file
    ],
)
def test_the_end_of_a_message_is_told_without_its_octets(rig: Rig, octets: bytes) -> None:
    """T43: POP3 has to know whether a message ends its last line."""
    rig.append((octets, Flags()))
    image = rig.image()
    columns = [Column.SIZE, Column.ENDING, Column.SIZE]
    [row] = rig.run(rig.store.fetch(rig.who, image, [Uid(1)], columns))
    assert row == (1, len(octets), octets[-4:], len(octets))


def test_columns_come_in_the_order_asked_for_also_twice(rig: Rig) -> None:
    rig.append()
    image = rig.image()
    date, size = Column.INTERNAL_DATE, Column.SIZE
    [row] = rig.run(
        rig.store.fetch(rig.who, image, [Uid(1)], [size, date, Column.HAS_ATTACHMENT, date, size])
    )
    when = InternalDate(START, 120)
    assert row == (1, len(MAIL), when, False, when, len(MAIL))


def test_messages_that_are_gone_are_left_out(rig: Rig) -> None:  # T5, T14
    rig.append(MAIL, MAIL, MAIL, MAIL)
    image = rig.image()
    rig.expunge(image, 2)
    ask = [Uid(n) for n in (1, 2, 3, 9)]
    assert rig.run(rig.store.fetch(rig.who, image, ask, [Column.SIZE])) == [
        (1, len(MAIL)),
        (3, len(MAIL)),
    ]
    assert rig.run(rig.store.fetch(rig.who, image, [], [Column.SIZE])) == []
    got = rig.run(rig.store.contents(rig.who, image, ask, 10**6))
    assert [uid for uid, _ in got] == [1, 3]


def test_too_many_uids_at_once_are_refused(rig: Rig) -> None:
    ask = [Uid(n) for n in range(1, 2002)]
    refused(rig, ErrorKind.INVALID, rig.store.fetch(rig.who, rig.image(), ask, []))


def test_contents_stops_at_its_limit_but_gives_one(rig: Rig) -> None:
    rig.append(MAIL, MAIL, MAIL, LARGE, MAIL)
    image = rig.image()
    uids = [Uid(n) for n in range(1, 6)]

    def ask(asked: list[Uid], limit: int) -> list[int]:
        got = rig.run(rig.store.contents(rig.who, image, asked, limit))
        for _, content in got:
            content.close()
        return [uid for uid, _ in got]

    assert ask(uids, 0) == [1]
    assert ask(uids, 2 * len(MAIL)) == [1, 2]
    assert ask(uids[3:], 0) == [4]
    taken: list[int] = []
    while left := [uid for uid in uids if uid not in taken]:
        taken += ask(left, 10**9)
    assert taken == uids


def test_octets_without_nul_can_be_sent_from_their_file(rig: Rig) -> None:  # T31
    prefix = b"Return-Path: <bob@example.org>\r\n"
    with_nul = LARGE[:-1] + b"\0"
    rig.append(LARGE, with_nul, MAIL)
    rig.deliver(LARGE, prefix=prefix)
    rig.run(rig.store.copy(rig.who, rig.image(), NumSet.of([1, 2]), rig.ref()))
    image = rig.image()
    for uid, octets in enumerate((LARGE, with_nul, MAIL, prefix + LARGE, LARGE, with_nul), 1):
        content = rig.run(rig.store.content(rig.who, image, Uid(uid)))
        assert content is not None
        span = content.in_file(100, 2 * len(LARGE))
        assert (span is not None) == (LARGE in octets), uid
        if span is not None:
            found = os.pread(span.descriptor, len(octets), span.start)
            assert found[: span.end - span.start] == octets[100:]
            assert span.end - span.start == len(octets) - 100
        if octets.startswith(prefix):
            assert content.in_file(len(prefix) - 1, len(octets)) is None, "that is not there"
        content.close()


def test_few_files_are_open_at_once(rig: Rig) -> None:
    """A client that reads slowly keeps them open, and there may be thousands of those."""
    rig.append(MAIL, *[LARGE] * (FILES + 1), MAIL)
    image = rig.image()
    got = rig.run(rig.store.contents(rig.who, image, list(image.uids), 10**9))
    assert [uid for uid, _ in got] == list(range(1, FILES + 2))
    for _, content in got:
        assert content.read(0, 5) in (MAIL[:5], LARGE[:5])
        content.close()


def test_an_import_can_be_repeated(rig: Rig) -> None:
    first = rig.append(MAIL, MAIL, keys=("k1", "k2"))
    assert first.target == (1, 2)
    again = rig.append(MAIL, MAIL, MAIL, keys=("k1", "k3", "k2"))
    assert again.target == (3,)
    assert rig.append(keys=("k3",)).target == ()
    rig.recount()
    assert rig.used() == (3 * len(MAIL), 3)


def test_delivery_goes_to_inbox_or_where_the_subaddress_says(rig: Rig) -> None:
    rig.create("Lists/Python")
    rig.create("Lists/empty")
    rig.create("Lists/empty/below")
    rig.run(rig.store.delete(rig.who, "Lists/empty"))
    assert rig.deliver() == "INBOX"
    assert rig.deliver(detail="Archive") == "Archive"
    assert rig.deliver(detail="lists/python") == "Lists/Python"  # addresses lose their case
    assert rig.deliver(detail="nothing") == "INBOX"
    assert rig.deliver(detail="Lists/empty") == "INBOX"
    assert rig.deliver(detail="//") == "INBOX"
    image = rig.image()
    assert flags_of(image)[1] == []
    [row] = rig.run(rig.store.fetch(rig.who, image, [Uid(1)], [Column.INTERNAL_DATE]))
    assert row == (1, InternalDate(START))


def test_a_delivery_has_its_own_header_lines(rig: Rig) -> None:
    bob = rig.other("bob@example.org")
    message = rig.spool()
    for to in (rig.ann, bob):
        prefix = b"Delivered-To: " + to.name.encode() + b"\r\n"
        rig.run(rig.store.deliver(Recipient(to.name, to), message, prefix))
    message.discard()
    assert rig.octets(rig.image(), 1) == b"Delivered-To: ann@example.org\r\n" + MAIL
    assert rig.used() == (len(MAIL) + 31, 1)
    image = rig.run(rig.store.open(rig.principal(bob), rig.ref("INBOX", bob)))
    content = rig.run(rig.store.content(rig.principal(bob), image, Uid(1)))
    assert content is not None
    assert content.read(0, 31) == b"Delivered-To: bob@example.org\r\n"


@pytest.mark.parametrize("status", [AccountStatus.INACTIVE, AccountStatus.DELETED])
def test_a_switched_off_account_takes_no_mail(rig: Rig, status: AccountStatus) -> None:
    off = Account(rig.ann.id, rig.ann.name, status)
    recipient = Recipient(off.name, off)
    refused(rig, ErrorKind.DISABLED, rig.store.check_deliverable(recipient, 0))
    refused(rig, ErrorKind.DISABLED, rig.store.deliver(recipient, rig.spool(), b""))


def test_delivery_to_an_account_that_is_gone(rig: Rig) -> None:
    recipient = Recipient("x@y", account("x@y"))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.check_deliverable(recipient, 0))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.deliver(recipient, rig.spool(), b""))


def test_expunge_takes_only_what_is_deleted(rig: Rig) -> None:
    rig.append(MAIL, MAIL, MAIL, MAIL)
    image = rig.image()
    rig.flag(image, (1, 3), "\\Deleted")
    before = image.mod_sequence
    # UID EXPUNGE 2:3 leaves 1, which is outside, and 2, which is not deleted
    after = rig.run(rig.store.expunge(rig.who, image, NumSet(((2, 3),))))
    assert list(image.uids) == [1, 2, 4]
    assert after == image.mod_sequence > before
    rig.run(rig.store.expunge(rig.who, image, None))
    assert list(image.uids) == [2, 4]
    unchanged = image.mod_sequence
    assert rig.run(rig.store.expunge(rig.who, image, None)) == unchanged
    rig.recount()
    assert rig.used() == (2 * len(MAIL), 2)


def test_replies_share_a_thread_with_what_they_answer(rig: Rig) -> None:
    def mail(number: int, *references: int) -> bytes:
        refs = " ".join(f"<{n}@x>" for n in references)
        return (
            f"Subject: s{number}\r\nMessage-ID: <{number}@x>\r\n"
            + (f"References: {refs}\r\n" if refs else "")
            + "\r\n.\r\n"
        ).encode()

    rig.append(mail(1), mail(2, 1), mail(3, 1, 2), mail(9), mail(11, 10), mail(12, 10))
    rig.append(b"Subject: no id\r\n\r\n", b"Subject: no id\r\n\r\n")
    image = rig.image()
    uids = [Uid(uid) for uid in image.uids]
    threads = [row[1] for row in rig.run(rig.store.fetch(rig.who, image, uids, [Column.THREAD_ID]))]
    one, two, three, nine, eleven, twelve, none, other = threads
    assert one == two == three
    assert eleven == twelve  # what they answer never came
    assert len({one, nine, eleven, none, other}) == 5
    rig.append(mail(10))  # and when it comes late
    [row] = rig.run(rig.store.fetch(rig.who, image, [Uid(9)], [Column.THREAD_ID]))
    assert row[1] == eleven


def test_events_follow_the_commit(rig: Rig) -> None:
    image = rig.image()
    rig.bus.events.clear()

    def kinds() -> list[tuple[EventKind, bool]]:
        seen = [(event.kind, event.mod_sequence == image.mod_sequence) for event in rig.bus.events]
        rig.bus.events.clear()
        return seen

    rig.append()
    assert kinds() == [(EventKind.UPDATE_MSG, True)]
    rig.deliver()
    assert kinds() == [(EventKind.NEW_MSG, True)]
    rig.flag(image, [1], "\\Seen")
    assert kinds() == [(EventKind.READ_MSG, True)]
    rig.flag(image, [1], "\\Deleted")
    assert kinds() == [(EventKind.TRASH_MSG, True)]
    rig.flag(image, [1], "\\Flagged", "x")
    assert kinds() == [(EventKind.MSG_FLAGS, True)]
    rig.flag(image, [1], "\\Flagged")  # nothing changes
    assert kinds() == []
    rig.run(rig.store.expunge(rig.who, image, None))
    assert kinds() == [(EventKind.DELETE_MSG, True)]
    with pytest.raises(MailError):
        rig.run(rig.store.delete(rig.who, "nothing"))
    assert kinds() == []
    rig.create("x")
    assert [kind for kind, _ in kinds()] == [EventKind.MAILBOXES]
    rig.run(rig.store.subscribe(rig.who, "x", True))
    assert [kind for kind, _ in kinds()] == [EventKind.MAILBOXES]
    rig.run(rig.store.subscribe(rig.who, "nothing", True))
    assert kinds() == []


def test_unique_ids_of_other_servers_are_kept(rig: Rig) -> None:  # T44
    image = rig.image()
    assert rig.run(rig.store.unique_ids(rig.who, image, [])) == {}
    rig.append(MAIL, MAIL, MAIL, keys=("a", "b", "c"), unique_ids=("old-1", None, "old-3"))
    rig.append(MAIL, MAIL, keys=("a", "d"), unique_ids=("again", "old-1"))
    rig.expunge(image, 3)
    rig.append(unique_ids=["old-3"])
    rig.append(MAIL, to="Archive" if "Archive" in rig.names() else "Drafts", unique_ids=["old-1"])
    rig.restart()
    image = rig.image()
    assert list(image.uids) == [1, 2, 4, 5]
    found = rig.run(rig.store.unique_ids(rig.who, image, list(map(Uid, image.uids))))
    assert found == {1: "old-1"}, "none for two messages, none given again"


def test_unique_ids_go_with_their_mailbox(rig: Rig) -> None:
    rig.create("Old")
    rig.append(MAIL, to="Old", unique_ids=["x"])
    rig.run(rig.store.delete(rig.who, "Old"))
    rig.create("Old")
    rig.append(MAIL, to="Old", unique_ids=["x"])
    assert rig.run(rig.store.unique_ids(rig.who, rig.image("Old"), [Uid(1)])) == {1: "x"}
