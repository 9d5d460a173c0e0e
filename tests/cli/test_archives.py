"""Reading and writing mail in files: what other programs wrote comes in whole, once."""

from __future__ import annotations

import mailbox as stdlib_mailbox
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.cli.archives import eml, maildir, mbox
from mailserver.cli.archives.message import ArchivedMessage, ArchiveError, component_name, path_of
from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from tests.timing import assert_linear

MBOX = b"""\
From alice@example.org Tue Mar  5 10:11:12 2024
From: alice@example.org
Status: RO
X-Status: AF
X-Keywords: $Label1 work
Subject: one

Hello
>From the garden
>>From deeper

From nowhere in particular
From bob@example.org Wed Mar  6 00:00:00 +0100 2024
is a sentence that stands after no empty line

From bob@example.org Wed Mar  6 00:00:00 +0100 2024
From: bob@example.org
Subject: two

Bye
"""


def test_mbox_messages_end_at_separators_only(tmp_path: Path) -> None:
    file = tmp_path / "old"
    file.write_bytes(MBOX)
    one, two = mbox.read(file, "")
    assert one.mailbox == two.mailbox == "INBOX"
    assert one.octets == (
        b"From: alice@example.org\nSubject: one\n\nHello\nFrom the garden\n>From deeper\n\n"
        b"From nowhere in particular\nFrom bob@example.org Wed Mar  6 00:00:00 +0100 2024\n"
        b"is a sentence that stands after no empty line\n"
    )
    assert one.flags == Flags.of("\\Seen", "\\Answered", "\\Flagged", "$Label1", "work")
    assert one.date == InternalDate(1709633472, 0)
    assert two.flags == Flags()
    assert two.date == InternalDate(1709679600, 60)
    assert two.position == len(MBOX)


def test_mbox_with_crlf(tmp_path: Path) -> None:
    file = tmp_path / "dos"
    file.write_bytes(MBOX.replace(b"\n", b"\r\n"))
    one, two = mbox.read(file, "Old")
    assert one.octets.startswith(
        b"From: alice@example.org\r\nSubject: one\r\n\r\nHello\r\nFrom the"
    )
    assert two.octets == b"From: bob@example.org\r\nSubject: two\r\n\r\nBye\r\n"
    assert one.mailbox == "Old"


def test_mbox_keys_stay_when_the_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "box"
    file.write_bytes(MBOX)
    before = [message.key for message in mbox.read(file, "")]
    file.write_bytes(MBOX + b"\nFrom carol@example.org Thu Mar  7 00:00:00 2024\nSubject: 3\n\nx\n")
    after = [message.key for message in mbox.read(file, "")]
    assert after[:2] == before
    assert len(set(after)) == 3


def test_equal_messages_in_one_mbox_have_different_keys(tmp_path: Path) -> None:
    file = tmp_path / "box"
    file.write_bytes((b"From a@b Thu Mar  7 00:00:00 2024\nSubject: same\n\nx\n\n") * 3)
    assert len({message.key for message in mbox.read(file, "")}) == 3


def test_the_internal_data_of_uw_imap_is_no_mail(tmp_path: Path) -> None:
    file = tmp_path / "box"
    file.write_bytes(
        b"From MAILER-DAEMON Thu Mar  7 00:00:00 2024\nX-IMAP: 1 2\n"
        b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\n"
        b"This text is part of the internal format: mailbox internal data.\n\n"
        b"From a@b Thu Mar  7 00:00:00 2024\nSubject: mail\n\nx\n"
    )
    assert [message.octets for message in mbox.read(file, "")] == [b"Subject: mail\n\nx\n"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"Subject: no separator\n\nx\n", "does not start with a From line")],
)
def test_what_is_no_mbox_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "letter.txt"
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match=reason):
        list(mbox.read(file, ""))
    with pytest.raises(ArchiveError, match="No such file"):
        list(mbox.read(tmp_path / "missing", ""))


bodies = st.text(alphabet="From >\nab.\t", max_size=80)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(bodies, min_size=1, max_size=5),
    flags=st.sets(
        st.sampled_from(
            ["\\Seen", "\\Answered", "\\Flagged", "\\Draft", "\\Deleted", "$Label1", "blue"]
        )
    ),
)
def test_what_mbox_wrote_mbox_reads(tmp_path: Path, texts: list[str], flags: set[str]) -> None:
    target = tmp_path / os.urandom(8).hex()
    writer = mbox.Writer(target)
    assert writer.begin("Work/2024")
    sent = [b"Subject: s%d\n\n" % n + text.encode() + b"\nend\n" for n, text in enumerate(texts)]
    for uid, octets in enumerate(sent, 1):
        writer.write(uid, octets, Flags.of(*flags), InternalDate(1700000000 + uid, 0))
    writer.end()
    back = list(mbox.read(target, ""))
    assert [message.octets for message in back] == sent
    assert {message.mailbox for message in back} == {"Work/2024"}
    assert all(message.flags == Flags.of(*flags) for message in back)
    assert [message.date for message in back] == [
        InternalDate(1700000001 + n, 0) for n in range(len(sent))
    ]
    assert not mbox.Writer(target).begin("Work/2024"), "complete, so not written again"


def test_python_reads_the_mbox_that_we_write(tmp_path: Path) -> None:
    writer = mbox.Writer(tmp_path)
    writer.begin("INBOX")
    writer.write(1, b"Subject: a\r\n\r\nFrom here\r\n", Flags.of("\\Seen"), InternalDate(0))
    writer.write(2, b"Subject: b\r\n\r\nx", Flags(), InternalDate(0))
    writer.end()
    peer = stdlib_mailbox.mbox(tmp_path / "INBOX.mbox")
    assert [message["Subject"] for message in peer] == ["a", "b"]
    assert peer[0].get_flags() == "RO"


def _maildir(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_maildir_folders_flags_and_keywords(tmp_path: Path) -> None:
    _maildir(
        tmp_path,
        {
            "cur/1.a.host,S=10:2,FSab": b"Subject: one\n\n1\n",
            "new/2.b.host": b"Subject: two\n\n2\n",
            "tmp/3.c.host": b"half written",
            "dovecot-keywords": b"0 $Label1\n1 Junk\n",
            ".Work.2024/cur/4.d:2,RT": b"Subject: four\n\n4\n",
            ".Entw&APw-rfe/cur/5.e:2,D": b"Subject: five\n\n5\n",
            "dovecot.index.log": b"not mail",
        },
    )
    os.utime(tmp_path / "new/2.b.host", (1700000000, 1700000000))
    found = {message.octets[9:-4]: message for message in maildir.read(tmp_path, "")}
    assert {name: message.mailbox for name, message in found.items()} == {
        b"one": "INBOX",
        b"two": "INBOX",
        b"four": "Work/2024",
        b"five": "Entwürfe",
    }
    assert found[b"one"].flags == Flags.of("\\Flagged", "\\Seen", "$Label1", "Junk")
    assert found[b"two"].date == InternalDate(1700000000)
    assert found[b"four"].flags == Flags.of("\\Answered", "\\Deleted")
    assert found[b"five"].flags == Flags.of("\\Draft")
    assert found[b"four"].position <= maildir.size(tmp_path)


def test_a_maildir_message_keeps_its_key_when_its_flags_change(tmp_path: Path) -> None:
    _maildir(tmp_path, {"new/1.a": b"x\n", "cur/0.z:2,": b"y\n"})
    before = {message.key for message in maildir.read(tmp_path, "")}
    (tmp_path / "new/1.a").rename(tmp_path / "cur/1.a:2,S")
    assert {message.key for message in maildir.read(tmp_path, "")} == before


def test_what_maildir_wrote_maildir_reads_and_python_too(tmp_path: Path) -> None:
    flags = Flags.of("\\Seen", "\\Flagged", "$Forwarded", "blue", "red")
    for _ in range(2):  # the second time adds nothing
        writer = maildir.Writer(tmp_path)
        for name in ("INBOX", "Work/日本"):
            assert writer.begin(name)
            writer.write(7, b"Subject: s\r\n\r\nx\r\n", flags, InternalDate(1700000000))
            writer.write(8, b"Subject: t\r\n\r\ny\r\n", Flags(), InternalDate(1700000001))
            writer.end()
    back = list(maildir.read(tmp_path, ""))
    assert [(m.mailbox, m.octets, m.flags, m.date) for m in back] == [
        (name, octets, own, date)
        for name in ("INBOX", "Work/日本")
        for octets, own, date in (
            (b"Subject: s\n\nx\n", flags, InternalDate(1700000000)),
            (b"Subject: t\n\ny\n", Flags(), InternalDate(1700000001)),
        )
    ]
    peer = stdlib_mailbox.Maildir(tmp_path, create=False)
    assert sorted(m.get_flags() for m in peer if isinstance(m, stdlib_mailbox.MaildirMessage)) == [
        "",
        "FPSab",
    ]


def test_what_is_no_maildir_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="has no directory named cur"):
        list(maildir.read(tmp_path, ""))


def test_eml_files_and_directories(tmp_path: Path) -> None:
    _maildir(
        tmp_path,
        {
            "a.eml": b"Date: Tue, 5 Mar 2024 10:11:12 +0900\r\nSubject: a\r\n\r\nx\r\n",
            "Work/2024/b.eml": b"Subject: b\n\ny\n",
            "Work/notes.txt": b"no mail",
            "empty.eml": b"",
        },
    )
    one, two = sorted(eml.read(tmp_path, ""), key=lambda message: message.mailbox)
    assert (one.mailbox, one.date) == ("INBOX", InternalDate(1709601072))
    assert (two.mailbox, two.date) == ("Work/2024", None)
    with pytest.raises(ArchiveError, match=r"no \.eml file"):
        list(eml.read(tmp_path / "Work" / "nothing", ""))


def test_what_eml_wrote_eml_reads(tmp_path: Path) -> None:
    writer = eml.Writer(tmp_path)
    writer.begin("../.ssh/%2E")
    writer.write(3, b"Subject: s\r\n\r\nx\r\n", Flags(), InternalDate(1700000000))
    writer.end()
    assert not (tmp_path.parent / ".ssh").exists(), "no name leads out of the directory"
    (back,) = eml.read(tmp_path, "")
    assert isinstance(back, ArchivedMessage)
    assert back.octets == b"Subject: s\r\n\r\nx\r\n"
    assert back.mailbox == "../.ssh/%2E"


@given(
    st.text(alphabet="./%2Eax", min_size=1, max_size=20).filter(lambda s: "" not in s.split("/"))
)
def test_every_mailbox_has_a_path_of_its_own_inside(name: str) -> None:
    root = Path("/archive")
    steps = path_of(root, name).relative_to(root).parts
    assert not {".", ".."} & set(steps)
    assert "/".join(component_name(step) for step in steps) == name


def test_keywords_that_no_client_could_be_told_are_left_out(tmp_path: Path) -> None:
    """A mailbox with such a one could never be fetched from again."""
    separator = b"From a@b Mon Jan  1 00:00:00 +8100 2024\n"  # and no zone is that far east
    (tmp_path / "x.mbox").write_bytes(
        separator + b"X-Keywords: $Junk (x a{b \\Nonsense wo\x02rk\nSubject: x\n\nhi\n"
    )
    [message] = mbox.read(tmp_path / "x.mbox", "INBOX")
    assert message.flags == Flags.of("$Junk")
    assert message.date is None
    (tmp_path / "cur").mkdir()
    (tmp_path / "dovecot-keywords").write_bytes(b"0 work\n1 (\n2 b\xf6se\n")
    (tmp_path / "cur" / "1:2,Sabc").write_bytes(b"Subject: x\n\nhi\n")
    [message] = maildir.read(tmp_path, "")
    assert message.flags == Flags.of("\\Seen", "work")


def test_a_file_name_that_is_not_utf_8_makes_a_key_that_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "cur").mkdir()
    Path(os.fsdecode(bytes(tmp_path) + b"/cur/caf\xe9:2,S")).write_bytes(b"Subject: x\n\n")
    [message] = maildir.read(tmp_path, "")
    assert message.key == "maildir:INBOX:caf\\xe9"


@pytest.mark.parametrize("repeated", [b"00:00 2024 ", b"00:00 ", b"From ", b"From 00:00 "])
def test_looking_for_separators_takes_linear_time(tmp_path: Path, repeated: bytes) -> None:
    """S5"""
    start = b"From a@b Mon Jan  1 00:00:00 2024\nSubject: x\n\nFrom "

    def read(count: int) -> None:
        (tmp_path / "x.mbox").write_bytes(start + repeated * count)
        assert list(mbox.read(tmp_path / "x.mbox", "INBOX"))

    assert_linear(read, 4_000)
