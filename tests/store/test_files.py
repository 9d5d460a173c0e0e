"""The files of an account: who may read them, whose they are, what if they are damaged."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account
from mailserver.model.ids import AccountId, Uid
from mailserver.model.search import Body
from mailserver.store.sqlite import schema
from tests.contract.rig import MAIL, Rig, account, open_sqlite
from tests.contract.test_mailboxes import refused
from tests.contract.test_messages import LARGE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


def database(rig: Rig, of: Account | None = None) -> Path:
    of = of or rig.ann
    return rig.data / "accounts" / of.id[:2] / of.id / "mail.sqlite"


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_nobody_else_can_read_anything(tmp_path: Path, umask: int) -> None:  # S14
    before = os.umask(umask & 0o077)
    try:
        rig = Rig(tmp_path / "data", open_sqlite)
        rig.append(MAIL, LARGE)
        spooled = rig.spool(LARGE)
        rig.image()
        rig.loop.advance(10)
        rig.run(rig.store.search(rig.who, rig.image(), Body("x")))
        modes = {
            str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777
            for path in (tmp_path / "data", *(tmp_path / "data").rglob("*"))
        }
        directories = {name for name in modes if (tmp_path / name).is_dir()}
        spooled.discard()
        rig.close()
    finally:
        os.umask(before)
    assert {name.rpartition("/")[2] for name in modes} >= {"mail.sqlite", "text.sqlite", "spool"}
    for name, mode in modes.items():
        assert mode == (0o700 if name in directories else 0o600), name


BAD_IDS = ["", "..", "../../etc", "a" * 25, "A" * 26, "a" * 25 + "/", "a\n" * 13]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_an_id_that_is_none_never_becomes_a_path(rig: Rig, bad: str) -> None:  # S8
    stranger = account("x@y")
    odd = Account(AccountId(bad), "x@y")
    refused(rig, ErrorKind.NONEXISTENT, rig.store.create_account(odd))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.delete_account(odd.id))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.mailboxes(rig.principal(odd)))
    assert not database(rig, stranger).exists()


def test_another_accounts_file_is_never_shown(rig: Rig) -> None:  # R6
    bob = rig.other("bob@example.org")
    rig.append(b"Subject: private\r\n\r\n")
    rig.run(rig.store.stop())
    one, two = database(rig), database(rig, bob)
    one.rename(one.with_name("aside"))
    two.rename(one)
    one.with_name("aside").rename(two)
    rig.open()
    for of in (rig.ann, bob):
        refused(rig, ErrorKind.CORRUPT, rig.store.mailboxes(rig.principal(of)))
        refused(rig, ErrorKind.CORRUPT, rig.store.create(rig.principal(of), "x"))


def test_a_newer_schema_is_refused_with_a_clear_text(rig: Rig) -> None:  # R17
    rig.run(rig.store.stop())
    with sqlite3.connect(database(rig)) as raw:
        raw.execute("INSERT INTO schema VALUES (99, 0)")
    raw.close()
    rig.open()
    error = refused(rig, ErrorKind.UNAVAILABLE, rig.store.mailboxes(rig.who))
    assert "newer version" in error.text and "99" in error.text


def test_an_older_schema_is_brought_up_to_date(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:  # R17
    steps = schema.steps()
    added = "CREATE TABLE later (x INTEGER);\nINSERT INTO later VALUES (1);\n"
    rig.append()
    rig.run(rig.store.stop())
    monkeypatch.setattr(schema, "steps", lambda: (*steps, added))
    rig.open()
    assert len(rig.names()) == 6
    rig.append()
    rig.restart()  # idempotent
    rig.recount()
    with sqlite3.connect(database(rig)) as raw:
        assert raw.execute("SELECT count(*) FROM later").fetchall() == [(1,)]
        assert raw.execute("SELECT max(version) FROM schema").fetchall() == [(len(steps) + 1,)]
    raw.close()


def test_mail_of_every_schema_is_there_after_the_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # R17
    steps = schema.steps()
    for version in range(1, len(steps)):
        with monkeypatch.context() as patch:
            patch.setattr(schema, "steps", lambda: steps[:version])  # noqa: B023
            rig = Rig(tmp_path / str(version), open_sqlite)
            rig.append(MAIL, MAIL)
            rig.close()
        rig.open()
        image = rig.image()
        rig.append(unique_ids=["from elsewhere"])
        assert list(image.uids) == [1, 2, 3]
        assert rig.octets(image, 1) == MAIL
        assert rig.run(rig.store.unique_ids(rig.who, image, [Uid(3)])) == {3: "from elsewhere"}
        rig.close()


def test_a_failing_step_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = schema.steps()
    rig.run(rig.store.stop())
    with monkeypatch.context() as patch:
        broken = "CREATE TABLE later (x INTEGER);\nINSERT INTO nothing VALUES (1);\n"
        patch.setattr(schema, "steps", lambda: (*steps, broken))
        rig.open()
        refused(rig, ErrorKind.UNAVAILABLE, rig.store.mailboxes(rig.who))
        rig.run(rig.store.stop())
    rig.open()
    assert len(rig.names()) == 6
    with sqlite3.connect(database(rig)) as raw:
        assert not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'later'").fetchall()
    raw.close()


def test_flipped_octets_are_not_shown(rig: Rig) -> None:  # R6
    body = b"the quick brown fox jumps over the lazy dog " * 20
    rig.append(b"Subject: x\r\n\r\n" + body, MAIL)
    rig.run(rig.store.stop())
    path = database(rig)
    octets = bytearray(path.read_bytes())
    at = octets.index(body)
    octets[at + 100] ^= 1
    path.write_bytes(octets)
    rig.open()
    image = rig.image()
    error = refused(rig, ErrorKind.CORRUPT, rig.store.content(rig.who, image, Uid(1)))
    assert "damaged" in error.text
    assert rig.octets(image, 2) == MAIL


@pytest.mark.parametrize("damage", ["empty", "noise", "header"])
def test_a_damaged_database_is_refused_and_others_work(rig: Rig, damage: str) -> None:  # R6
    bob = rig.other("bob@example.org")
    rig.run(rig.store.stop())
    path = database(rig)
    octets = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "noise": os.urandom(9000), "header": b"x" * 100 + octets[100:]}[damage]
    )
    rig.open()
    for call in (
        rig.store.mailboxes(rig.who),
        rig.store.create(rig.who, "x"),
        rig.store.find(rig.who, "INBOX"),
    ):
        with pytest.raises(MailError) as raised:
            rig.run(call)
        assert raised.value.kind in (ErrorKind.CORRUPT, ErrorKind.UNAVAILABLE)
        assert str(rig.data) not in raised.value.text
    rig.deliver(to=bob)
    assert rig.used(bob) == (len(MAIL), 1)


def test_a_missing_or_cut_file_of_octets(rig: Rig) -> None:
    rig.append(LARGE, LARGE + b"2")
    image = rig.image()
    content = rig.run(rig.store.content(rig.who, image, Uid(1)))
    assert content is not None
    for path in rig.data.rglob("files/*/*"):
        os.truncate(path, 1000)
    with pytest.raises(MailError) as raised:
        content.read(0, content.size)
    assert raised.value.kind is ErrorKind.CORRUPT
    content.close()
    with pytest.raises(MailError):
        content.read(0, 10)
    shutil.rmtree(next(iter(rig.data.rglob("files"))))
    refused(rig, ErrorKind.CORRUPT, rig.store.content(rig.who, image, Uid(2)))


def test_what_a_crash_left_of_making_an_account_is_in_nobodys_way(rig: Rig) -> None:
    bob = account("bob@example.org")
    directory = database(rig, bob).parent
    for prefix in (".new-", ".gone-"):
        left = directory.with_name(prefix + bob.id)
        left.mkdir(parents=True)
        (left / "mail.sqlite").write_bytes(b"half")
    rig.run(rig.store.create_account(bob))
    rig.deliver(to=bob)
    rig.run(rig.store.delete_account(bob.id))
    assert [path for path in directory.parent.iterdir() if bob.id in path.name] == []


def test_an_account_that_could_not_be_made_leaves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = account("bob@example.org")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", _fails)
        with pytest.raises(MailError) as raised:
            rig.run(rig.store.create_account(bob))
    assert raised.value.kind is ErrorKind.DISK_FULL
    assert list(database(rig, bob).parent.parent.iterdir()) == []
    rig.run(rig.store.create_account(bob))


def _fails(*args: object) -> None:
    raise OSError(errno.ENOSPC, "no room")
