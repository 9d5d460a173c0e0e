"""`verify` finds what is wrong, and nothing where nothing is (R6)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mailserver.mime.describe import FORMAT
from mailserver.store import texts
from mailserver.store.directory import Directory, NewAccount
from mailserver.store.maintenance.repair import repair_account
from mailserver.store.maintenance.verify import (
    MAX_ALIKE,
    Severity,
    is_sound,
    verify_account,
    verify_installation,
)
from tests.contract.rig import Rig, open_sqlite
from tests.store import damage
from tests.store.damage import ANN, BOB, change, database, directory
from tests.store.loop import Loop

LATER = 1 << 34  # seconds; all files are old then


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.closed(tmp_path_factory.mktemp("verify") / "data")


@pytest.fixture
def data(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "data"))


def read(data: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database(data))) as connection:
        return connection.execute(statement).fetchall()


def said(data: Path) -> list[str]:
    return [
        f"{f.severity.value} {f.mailbox or '-'} {f.what}"
        for f in verify_account(data, ANN.id, now=LATER)
    ]


def test_nothing_is_found_where_nothing_is_wrong(data: Path) -> None:
    octets: list[int] = []
    before = database(data).read_bytes()
    assert verify_account(data, ANN.id, octets.append, now=LATER) == []
    assert verify_account(data, BOB.id, now=LATER) == []
    assert sum(octets) > 3 * len(damage.BIG)
    assert database(data).read_bytes() == before, "it only reads"
    left = {path.name for path in directory(data).iterdir()}
    assert left == {"mail.sqlite", "files"}, "and leaves nothing"


def test_beside_a_running_server_nothing_is_found_either(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "data", open_sqlite)
    damage.fill(rig, 20)
    assert verify_account(rig.data, ANN.id, now=LATER) == []
    rig.append(damage.BIG % 7)
    rig.restart()
    assert verify_account(rig.data, ANN.id, now=LATER) == []
    rig.close()


BOX = "WHERE name = 'INBOX'"
DAMAGES: dict[str, tuple[str, str]] = {
    # name: (statement, what is said)
    "messages": (f"UPDATE mailbox SET messages = 7 {BOX}", "INBOX the counter of messages is 7"),
    "unseen": (f"UPDATE mailbox SET unseen = unseen - 1 {BOX}", "INBOX the counter of unseen"),
    "deleted": (f"UPDATE mailbox SET deleted = 0 {BOX}", "the counter of deleted is 0"),
    "size": (f"UPDATE mailbox SET size = size + 1 {BOX}", "warning INBOX the counter of size"),
    "deleted_size": (f"UPDATE mailbox SET deleted_size = 1 {BOX}", "the counter of deleted size"),
    "keyword_count": (f"UPDATE mailbox SET keywords = 5 {BOX}", "the counter of keywords is 5"),
    "storage": ("UPDATE quota_root SET storage_used = 1", "quota root #account counts 1 "),
    "message_quota": ("UPDATE quota_root SET message_used = 0", "quota root #account counts"),
    "no_root": ("UPDATE mailbox SET quota_root = 9", "error - quota root 9 is missing"),
    "uid_next": (f"UPDATE mailbox SET uid_next = 40 {BOX}", "error INBOX its next UID is 40"),
    "modseq": (f"UPDATE mailbox SET highest_modseq = 2 {BOX}", "its highest mod-sequence is 2"),
    "validity": (f"UPDATE mailbox SET uid_validity = 5 {BOX}", "error INBOX its UIDVALIDITY is 5"),
    "no_validity": (f"UPDATE mailbox SET uid_validity = 0 {BOX}", "INBOX its UIDVALIDITY is 0"),
    "history": (f"DELETE FROM name_history {BOX}", "the name ever had is kept as 0"),
    "recent": (f"UPDATE mailbox SET first_recent = 999 {BOX}", "what has not happened yet"),
    "name": ("UPDATE mailbox SET name = 'a//b' WHERE name = 'Junk'", "the name 'a//b'"),
    "inbox": (f"UPDATE mailbox SET name = 'INBOY' {BOX}", "error - there is no INBOX"),
    "superior": ("DELETE FROM mailbox WHERE name = 'Lists'", "its superior Lists is missing"),
    "mailbox": ("DELETE FROM mailbox WHERE name = 'Lists/work'", "in a mailbox that is not there"),
    "message": ("DELETE FROM message WHERE id = 8", "error INBOX UID 8 shows a message that"),
    "no_place": ("DELETE FROM place WHERE message = 8", "message 8 is in no mailbox"),
    "places": ("UPDATE message SET places = 3 WHERE id = 8", "message 8 counts 3 places, it has 1"),
    "no_octets": ("DELETE FROM octets WHERE message = 8", "message 8: its octets are missing"),
    "octets_left": ("INSERT INTO octets VALUES (5000, x'00')", "octets of message 5000"),
    "gone_nul": ("INSERT INTO without_nul VALUES (5000)", "message 5000 is in no file"),
    "inline_nul": ("INSERT INTO without_nul VALUES (8)", "message 8 is in no file to be sent"),
    "place_size": ("UPDATE place SET size = 1 WHERE uid = 8", "UID 8 has another size"),
    "date": ("UPDATE place SET internal_day = 1 WHERE uid = 8", "the date of UID 8 does not fit"),
    "flags": ("UPDATE place SET system = 99 WHERE uid = 8", "messages have flags 99"),
    "keyword": ("UPDATE place SET keywords = 'zzz' WHERE uid = 8", "keywords 'zzz' that it does"),
    "folded": ("UPDATE keyword SET folded = 'x' WHERE number = 0", "keyword 0 is kept as"),
    "header": ("UPDATE message SET header = x'4142' WHERE id = 8", "message 8: its octets have"),
    "rest": ("UPDATE octets SET rest = zeroblob(length(rest)) WHERE message = 8", "are not those"),
    "crc": ("UPDATE message SET crc = 1 WHERE id = 8", "message 8: its octets are not those"),
    "sizes": ("UPDATE message SET header_size = -1 WHERE id = 8", "its sizes cannot be"),
    "digest": ("UPDATE message SET digest = printf('%064d', 1) WHERE id = 61", "file is missing"),
    "bad_digest": ("UPDATE message SET digest = 'x' WHERE id = 61", "message 61: its file"),
    "envelope": ("UPDATE message SET envelope = x'28' WHERE id = 8", "octets say: envelope"),
    "preview": ("UPDATE message SET preview = 'you won' WHERE id = 61", "octets say: preview"),
    "prefix": ("UPDATE message SET prefix_size = 7 WHERE id = 64", "its prefix is damaged"),
    "tombstone": ("INSERT INTO tombstone VALUES (1, 3, 8, 8)", "UIDs 8 to 8 are remembered"),
    "acl": ("INSERT INTO acl VALUES (77, 'anyone', 'l')", "1 rows of acl belong to mailbox 77"),
    "sequence": ("UPDATE sqlite_sequence SET seq = 1", "the next number of message was given"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_is_found_and_repaired(data: Path, name: str) -> None:
    statement, what = DAMAGES[name]
    change(data, statement)
    found = said(data)
    assert any(what in line for line in found), found
    before = damage.stored(data)
    done = repair_account(data, ANN)
    after = [f for f in verify_account(data, ANN.id, now=LATER) if f.severity is not Severity.NOTE]
    assert after == []
    kept = set(damage.stored(data).places.values())
    assert len(set(before.places.values()) - kept) <= 1, "one message at most was damaged"
    assert done.kept.read_bytes(), "the original is kept aside"


def test_a_message_with_a_nul_is_not_sent_as_if_it_had_none(tmp_path: Path) -> None:  # T31
    rig = Rig(tmp_path / "data", open_sqlite)
    rig.append(damage.BIG % 1, (damage.BIG % 2)[:-1] + b"\0", damage.BIG % 3)
    rig.expunge(rig.image(), 3)
    rig.close()
    rows = "SELECT message FROM without_nul"
    assert read(rig.data, rows) == [(1,)]
    change(rig.data, "INSERT INTO without_nul VALUES (2)")
    [finding] = verify_account(rig.data, ANN.id, now=LATER)
    assert finding.severity is Severity.ERROR
    assert "message 2 has a NUL and would be sent with it" in finding.what
    repair_account(rig.data, ANN)
    assert verify_account(rig.data, ANN.id, now=LATER) == []
    assert read(rig.data, rows) == [(1,)], "and the other is found to have none"


def test_an_older_description_is_no_damage(data: Path) -> None:
    change(data, f"UPDATE message SET format = {FORMAT - 1}, envelope = x'28' WHERE id = 8")
    [finding] = verify_account(data, ANN.id, now=LATER)
    assert (finding.severity, finding.mailbox) == (Severity.NOTE, "INBOX")
    assert "format" in finding.what
    repair_account(data, ANN)
    assert verify_account(data, ANN.id, now=LATER) == [], "described anew"


def test_files_are_read_and_what_a_crash_left_is_told(data: Path) -> None:
    files = sorted(path for path in (directory(data) / "files").glob("*/*"))
    damage.flip(files[0], 5000)
    os.truncate(files[1], 100)
    left = files[2].with_name("0" * 64)
    left.write_bytes(b"left")
    found = said(data)
    assert sum("its file has other octets" in line for line in found) == 1
    assert sum("its file has another size" in line for line in found) == 1
    assert "note - file 000000000000… belongs to no message; left by a crash" in found
    young = verify_account(data, ANN.id)
    assert not any("belongs to no message" in f.what for f in young), "its row may be to come"
    quick = verify_account(data, ANN.id, quick=True)
    assert is_sound(quick), "octets are not read"


def test_a_message_expunged_meanwhile_is_not_called_damaged(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server commits, then unlinks; we read the state before."""
    rig = damage.rig_on(data)
    image = rig.image()

    def advance(octets: int) -> None:
        if image.has_uid(61):
            rig.expunge(image, 61, 62)

    assert verify_account(data, ANN.id, advance) == []
    assert not image.has_uid(61)
    rig.close()


def test_a_sort_of_findings_is_cut_short(data: Path) -> None:
    change(data, "UPDATE message SET preview = 'x'")
    found = [line for line in said(data) if "octets say" in line]
    assert len(found) == MAX_ALIKE
    assert any("more: descriptions" in line for line in said(data))


def test_a_snapshot_with_flipped_octets_is_not_believed(data: Path) -> None:
    rig = damage.rig_on(data)
    image = rig.image()
    packed = image.pack()  # type: ignore[attr-defined]
    rig.close()
    with closing(sqlite3.connect(database(data))) as raw:
        bad = packed[:200] + bytes([packed[200] ^ 4]) + packed[201:]
        raw.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?)", (bad,))
        raw.commit()
    assert said(data) == ["note INBOX its packed image cannot be used"]
    rig = damage.rig_on(data)
    rig.recount()
    rig.close()


def test_text_for_search(data: Path) -> None:
    text = directory(data) / "text.sqlite"
    with closing(sqlite3.connect(text)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
    assert said(data) == [], "begun, and the power was cut: the server goes on with it (R2)"
    text.unlink()
    text.write_bytes(b"no database")
    assert said(data)[0].startswith("warning - the text kept for SEARCH cannot be used")
    text.unlink()
    with closing(sqlite3.connect(text)) as raw:
        raw.execute("CREATE TABLE state (account TEXT, format INTEGER, done INTEGER)")
        raw.execute("INSERT INTO state VALUES (?, ?, 900)", (ANN.id, texts.FORMAT))
        raw.commit()
    assert "error - the mail database is older than the text that was made from it" in said(data)


def test_another_accounts_database_and_none(data: Path) -> None:
    shutil.copy(database(data, BOB), database(data))
    assert said(data) == ["error - the mail database belongs to another account"]
    database(data).unlink()
    assert said(data) == ["error - the mail database is missing"]
    database(data).write_bytes(b"x" * 5000)
    assert said(data)[0].startswith("error - the mail database cannot be read")


def test_another_schema(data: Path) -> None:  # R17
    change(data, "INSERT INTO schema VALUES (99, 0)")
    [finding] = verify_account(data, ANN.id)
    assert (finding.severity, finding.mend) == (
        Severity.ERROR,
        "install the newer version of the program",
    )
    change(
        data,
        "UPDATE schema SET version = 0 WHERE version = 1",
        "DELETE FROM schema WHERE version > 1",
    )
    [finding] = verify_account(data, ANN.id)
    assert finding.severity is Severity.NOTE and "brought up to date" in finding.mend


# -- the installation -------------------------------------------------------------------


@pytest.fixture
def installation(data: Path) -> Path:
    loop = Loop()

    async def fill() -> None:
        directory = Directory.open(data / "directory.sqlite", loop)
        await directory.create_accounts(
            [NewAccount(ANN.name, id=ANN.id), NewAccount(BOB.name, id=BOB.id)], add_domains=True
        )
        await directory.stop()

    loop.run(fill())
    return data


def told(data: Path) -> list[str]:
    return [f"{f.severity.value} {f.what}" for f in verify_installation(data, now=LATER)]


def test_the_directory_and_what_lies_around(installation: Path) -> None:
    assert told(installation) == []
    (installation / "spool" / ("a" * 32)).write_bytes(b"x")
    (installation / "accounts" / "an" / f".new-{ANN.id}").mkdir()
    shutil.copytree(directory(installation), installation / "accounts" / "zz" / ("z" * 26))
    shutil.rmtree(directory(installation, BOB))
    assert told(installation) == [
        "error there is no mail of this account",
        f"note accounts/zz/{'z' * 26} belongs to no account of the directory",
        "note aaaaaaaaaaaa… lies in the spool since a crash",
        f"note .new-{ANN.id} was left by a crash",
    ]


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (["DELETE FROM address"], "error the address ann@example.org does not lead to"),
        (["PRAGMA foreign_keys = OFF", "DELETE FROM domain"], "a row of address belongs to nobody"),
        (["PRAGMA user_version = 77"], "was written by a newer version"),
    ],
)
def test_a_damaged_directory(installation: Path, statements: list[str], what: str) -> None:
    with closing(sqlite3.connect(installation / "directory.sqlite")) as raw:
        for statement in statements:
            raw.execute(statement)
        raw.commit()
    assert any(what in line for line in told(installation)), told(installation)


def test_a_directory_that_cannot_be_read(installation: Path) -> None:
    path = installation / "directory.sqlite"
    octets = path.read_bytes()
    (path.with_name(path.name + "-shm")).write_bytes(b"")
    assert told(installation)[0].startswith("error the log of the directory of accounts is lost")
    path.with_name(path.name + "-shm").unlink()
    path.write_bytes(octets[:5000] + b"\xff" * (len(octets) - 5000))
    assert told(installation)[0].startswith("error the directory of accounts cannot be")
    path.write_bytes(b"x" * 9000)
    assert told(installation)[0].startswith("error the directory of accounts cannot be read")
    path.unlink()
    assert told(installation) == ["error the directory of accounts is missing"]
