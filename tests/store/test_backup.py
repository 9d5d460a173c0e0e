"""Backups are of one moment, and come back with UIDs that hold (R16, T58)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import AppPassword, Attributes
from mailserver.store.directory import Directory, NewAccount
from mailserver.store.maintenance.backup import (
    NOTE,
    BackedUp,
    Restored,
    backup_account,
    backup_directory,
    check_copy,
    restore_account,
    restore_directory,
    restore_row,
)
from mailserver.store.maintenance.verify import is_sound, verify_account
from tests import mailgen
from tests.store import damage
from tests.store.damage import ANN, BIG, BOB, database, directory
from tests.store.loop import Loop

LATER = 1 << 33  # seconds; whatever was written is settled then


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.closed(tmp_path_factory.mktemp("backup") / "data")


@pytest.fixture
def data(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "data"))


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def back_up(data: Path, copies: Path) -> BackedUp:
    done = backup_account(data, copies, ANN.id, now=LATER)
    assert check_copy(directory(copies), ANN.id) == []
    assert verify_account(copies, ANN.id) == []
    return done


def restored(copies: Path, data: Path, **how: bool) -> Restored:
    done = restore_account(copies, data, ANN.id, **how)
    assert is_sound(verify_account(data, ANN.id))
    return done


def test_elsewhere_everything_is_as_it_was(data: Path, copies: Path, tmp_path: Path) -> None:
    done = back_up(data, copies)
    assert (done.copied, done.files, done.damaged) == (True, 3, ())
    new = tmp_path / "new"
    assert restored(copies, new) == Restored(ANN.id, (), None)
    assert damage.stored(new) == damage.stored(data)
    for path in copies.rglob("*"):  # S14
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    rig = damage.rig_on(new)
    rig.deliver()
    rig.recount()
    rig.close()


def test_an_account_that_did_not_change_is_not_copied_again(data: Path, copies: Path) -> None:
    assert back_up(data, copies).copied
    before = (directory(copies) / NOTE).read_bytes()
    assert not back_up(data, copies).copied
    assert (directory(copies) / NOTE).read_bytes() == before
    rig = damage.rig_on(data)
    rig.run(rig.store.subscribe(rig.who, "Junk", False))  # no mod-sequence moves
    again = back_up(data, copies)
    assert (again.copied, again.files) == (True, 0), "files are not copied twice"
    assert not back_up(data, copies).copied
    rig.append(BIG % 50)
    rig.expunge(rig.image(), 62)
    assert back_up(data, copies).files == 1
    assert len(list((directory(copies) / "files").glob("*/*"))) == 3, "what went is removed"
    rig.close()


def test_what_was_just_written_is_looked_at_again(data: Path, copies: Path) -> None:
    """Two writes within one tick of the clock leave the same time on the file."""
    os.utime(database(data))
    assert backup_account(data, copies, ANN.id).copied
    assert backup_account(data, copies, ANN.id).copied


def test_a_moment_in_the_middle_of_changes(
    data: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail comes and large messages are expunged while files are being copied."""
    rig = damage.rig_on(data)
    image = rig.image()
    before = damage.stored(data)
    happened: list[int] = []

    def advance(octets: int) -> None:
        if not happened:
            happened.append(octets)
            rig.expunge(image, 61, 62, 63)
            rig.append(*(mailgen.message(n) for n in range(20)), BIG % 70)

    done = backup_account(data, copies, ANN.id, advance, now=LATER)
    assert happened and done.files == 3 and done.damaged == ()
    assert damage.stored(copies) == before, "nothing of what came later, all of what went"
    assert verify_account(copies, ANN.id) == []
    assert not image.has_uid(61)
    assert not list(directory(data).glob(".backup-*"))
    rig.close()


def test_without_hard_links(data: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*args: object, **keys: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    assert back_up(data, copies).files == 3


# -- the rule of UIDVALIDITY ---------------------------------------------------------------


def test_later_uids_raise_uidvalidity(data: Path, copies: Path) -> None:
    back_up(data, copies)
    was = damage.stored(data)
    rig = damage.rig_on(data)
    rig.append()
    known = rig.ref()
    rig.close()
    done = restored(copies, data)
    assert done.renumbered == ("INBOX",)
    now = damage.stored(data)
    assert now.places == was.places
    assert now.validity["INBOX"] > was.validity["INBOX"]
    assert {**now.validity, "INBOX": 0} == {**was.validity, "INBOX": 0}, "the others are as before"
    assert done.kept is not None
    with closing(sqlite3.connect(done.kept)) as kept:
        assert kept.execute("SELECT max(uid) FROM place").fetchall() == [(65,)]
    rig = damage.rig_on(data)
    assert rig.ref() != known, "sessions and caches of the old one end"
    rig.close()


def test_an_expunge_raises_it_too(data: Path, copies: Path) -> None:
    """A UID that clients were told is gone must not come back."""
    back_up(data, copies)
    rig = damage.rig_on(data)
    rig.expunge(rig.image("Lists/work"), 2)
    rig.close()
    assert restored(copies, data).renumbered == ("Lists/work",)


def test_changed_flags_only_raise_mod_sequences(data: Path, copies: Path) -> None:
    back_up(data, copies)
    rig = damage.rig_on(data)
    image = rig.image()
    rig.flag(image, [1], "\\Flagged")
    seen = image.mod_sequence
    rig.close()
    assert restored(copies, data).renumbered == ()
    rig = damage.rig_on(data)
    image = rig.image()
    assert min(image.mod_sequences) > seen, "who resumes reads all flags again"
    assert "\\Flagged" not in image.flag_table[image.flag_ids[0]].names()
    rig.close()


def test_names_that_went_or_came_again(data: Path, copies: Path) -> None:
    back_up(data, copies)
    old = damage.stored(data).validity
    rig = damage.rig_on(data)
    rig.run(rig.store.delete(rig.who, "Junk"))
    rig.run(rig.store.delete(rig.who, "Sent"))
    rig.create("Sent")
    high = damage.stored(data).validity["Sent"]
    rig.close()
    assert restored(copies, data).renumbered == ("Junk", "Sent")
    now = damage.stored(data).validity
    assert now["Junk"] > old["Junk"] and now["Sent"] > high > old["Sent"]


def test_a_damaged_account_may_have_handed_out_anything(data: Path, copies: Path) -> None:
    back_up(data, copies)
    database(data).write_bytes(b"x" * 9000)
    done = restored(copies, data)
    assert "INBOX" in done.renumbered and "Trash" in done.renumbered
    assert done.kept is not None and done.kept.read_bytes() == b"x" * 9000


def test_on_request_all_are_renumbered(data: Path, copies: Path, tmp_path: Path) -> None:
    back_up(data, copies)
    done = restored(copies, tmp_path / "new", renumber=True)
    assert len(done.renumbered) == len(damage.stored(data).validity)


# -- what cannot be used ---------------------------------------------------------------------


def test_damaged_files_are_told_and_kept_out(data: Path, copies: Path, tmp_path: Path) -> None:
    [first, second, _] = sorted((directory(data) / "files").glob("*/*"))
    damage.flip(first, 77)
    second.unlink()
    done = backup_account(data, copies, ANN.id)
    assert set(done.damaged) == {first.name, second.name}
    assert done.files == 1
    restore_account(copies, tmp_path / "new", ANN.id)
    found = verify_account(tmp_path / "new", ANN.id)
    assert len(found) == 2 and all("file is missing" in f.what for f in found)


@pytest.mark.parametrize("harm", ["flip", "no note", "bad note", "other's", "no database"])
def test_a_damaged_backup_is_refused(data: Path, copies: Path, harm: str) -> None:
    back_up(data, copies)
    folder = directory(copies)
    note = folder / NOTE
    if harm == "flip":
        damage.flip(folder / "mail.sqlite", 70_000)
    elif harm == "no note":
        note.unlink()
    elif harm == "bad note":
        note.write_text("{")
    elif harm == "other's":
        backup_account(data, copies, BOB.id)
        shutil.rmtree(folder)
        shutil.copytree(directory(copies, BOB), folder)
    else:
        (folder / "mail.sqlite").unlink()
    before = database(data).read_bytes()
    [finding] = check_copy(folder, ANN.id)
    assert finding.account == ANN.id
    with pytest.raises(MailError) as refused:
        restore_account(copies, data, ANN.id)
    assert refused.value.kind in (ErrorKind.CORRUPT, ErrorKind.NONEXISTENT)
    assert database(data).read_bytes() == before


def test_what_is_not_there_or_not_whole_is_not_backed_up(data: Path, copies: Path) -> None:
    with pytest.raises(MailError) as refused:
        backup_account(data, copies, BOB.id[::-1])  # type: ignore[arg-type]
    assert refused.value.kind is ErrorKind.NONEXISTENT
    shutil.copy(database(data, BOB), database(data))
    with pytest.raises(MailError) as refused:
        backup_account(data, copies, ANN.id)
    assert refused.value.kind is ErrorKind.CORRUPT
    assert not (directory(copies) / NOTE).exists()


# -- the directory of accounts ------------------------------------------------------------------


def make_directory(data: Path, *accounts: NewAccount) -> None:
    loop = Loop()

    async def fill() -> None:
        made = Directory.open(data / "directory.sqlite", loop)
        await made.create_accounts(accounts, add_domains=True)
        await made.stop()

    data.mkdir(exist_ok=True)
    loop.run(fill())


def addresses(data: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(data / "directory.sqlite")) as raw:
        return raw.execute("SELECT address, account FROM address ORDER BY address").fetchall()


def test_accounts_come_back_with_their_addresses(data: Path, copies: Path, tmp_path: Path) -> None:
    ann = NewAccount(ANN.name, id=ANN.id, aliases=("post@example.org",))
    make_directory(data, ann, NewAccount(BOB.name, id=BOB.id))
    backup_directory(data, copies)
    assert check_copy(copies, None) == []
    assert json.loads((copies / NOTE).read_text("utf-8"))["format"] == 1
    new = tmp_path / "new"
    assert restore_directory(copies, new) and not restore_directory(copies, new)
    assert addresses(new) == addresses(data)
    other = tmp_path / "other"
    make_directory(other, NewAccount("eve@example.net", id="e" * 26))  # type: ignore[arg-type]
    assert restore_row(copies, other, ANN.id) and not restore_row(copies, other, ANN.id)
    assert [name for name, _ in addresses(other)] == [
        "ann@example.org", "eve@example.net", "post@example.org",
    ]  # fmt: skip
    taken = tmp_path / "taken"
    make_directory(taken, NewAccount("post@example.org", id="p" * 26))  # type: ignore[arg-type]
    with pytest.raises(MailError) as refused:
        restore_row(copies, taken, ANN.id)
    assert refused.value.kind is ErrorKind.ALREADY_EXISTS
    assert [name for name, _ in addresses(taken)] == ["post@example.org"], "whole or not at all"
    with pytest.raises(MailError) as refused:
        restore_row(copies, taken, "n" * 26)  # type: ignore[arg-type]
    assert refused.value.kind is ErrorKind.NONEXISTENT
    damage.flip(copies / "directory.sqlite", 5000)
    with pytest.raises(MailError):
        restore_directory(copies, tmp_path / "third")


def test_what_belongs_to_an_account_comes_back_with_it(data: Path, copies: Path) -> None:
    """App passwords and what a source said; also from a backup that knows neither."""
    said = Attributes(storage_limit=5, aliases=("a.n@example.org",))
    make_directory(data, NewAccount(ANN.name, id=ANN.id, source="ldap", said=said))
    loop = Loop()

    async def fill() -> None:
        directory = Directory.open(data / "directory.sqlite", loop)
        await directory.add_app_password(ANN.id, AppPassword("i", "phone", frozenset(), b"d"))
        await directory.stop()

    loop.run(fill())
    backup_directory(data, copies)

    async def found() -> tuple[object, ...]:
        directory = Directory.open(data / "directory.sqlite", loop)
        account = await directory.account("a.n@example.org")
        names = [one.name for one in await directory.app_passwords(ANN.id)]
        of_source = await directory.said(ANN.id)
        await directory.delete_account(ANN.id)
        await directory.stop()
        assert account is not None
        return account.source, account.storage_limit, names, of_source and of_source.attributes

    assert loop.run(found()) == ("ldap", 5, ["phone"], said)
    assert restore_row(copies, data, ANN.id)
    assert loop.run(found()) == ("ldap", 5, ["phone"], said)
    with closing(sqlite3.connect(copies / "directory.sqlite", isolation_level=None)) as raw:
        for table in ("sourced_alias", "sourced", "app_password"):
            raw.execute(f"DROP TABLE {table}")
        raw.execute("PRAGMA user_version = 1")
    assert restore_row(copies, data, ANN.id)
    assert loop.run(found()) == ("", None, [], None)
