"""R17: data of every released schema come up to date with all that is in them, or stay as
they were.

`fixtures/schema-NNNN.tar.xz` is a data directory as the program of that schema left it, the
JSON beside it what was in it then.
"""

from __future__ import annotations

import imaplib
import json
import os
import signal
import sqlite3
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account
from mailserver.store.directory import Directory, NewAccount
from mailserver.store.directory import database as directory_database
from mailserver.store.maintenance.backup import backup_account, restore_account
from mailserver.store.maintenance.layout import accounts_on_disk
from mailserver.store.maintenance.repair import repair_account
from mailserver.store.maintenance.verify import is_sound, verify_account, verify_installation
from mailserver.store.sqlite import schema
from mailserver.store.sqlite.connection import SqliteConnection
from tests.contract.rig import Rig, open_sqlite
from tests.service.process import MAILCTL, Process, run, write_config
from tests.store.fixtures.make import ANN, BOB, PASSWORD
from tests.store.holdings import Values, holdings, rows
from tests.store.loop import Loop

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("schema-*.tar.xz"))
TWISTD = str(Path(sys.executable).with_name("twistd"))

STEP = """
ALTER TABLE mailbox ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';
CREATE TABLE note (message INTEGER PRIMARY KEY, words TEXT NOT NULL) STRICT;
INSERT INTO note SELECT id, base_subject FROM message;
UPDATE mailbox SET colour = 'blue' WHERE name = 'INBOX';
CREATE INDEX mailbox_by_colour ON mailbox (colour);
"""
DIRECTORY_STEP = """
ALTER TABLE account ADD COLUMN motto TEXT NOT NULL DEFAULT '';
CREATE TABLE badge (account TEXT PRIMARY KEY, words TEXT NOT NULL) STRICT;
INSERT INTO badge SELECT id, display_name FROM account;
UPDATE account SET motto = 'onward' WHERE name LIKE 'ann@%';
"""
"""What a next schema might do, so that there is an upgrade to be tried whatever the newest is."""


@pytest.fixture(params=FIXTURES, ids=lambda path: path.name.partition(".")[0])
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def data(archive: Path, tmp_path: Path) -> Path:
    return unpacked(archive, tmp_path / "data")


@pytest.fixture
def kept(archive: Path) -> Values:
    """What is in it."""
    values: Values = json.loads(archive.with_name(f"{archive.name[:11]}.json").read_text("utf-8"))
    return values


@pytest.fixture
def next_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that knows one schema more than this one."""
    steps = (*schema.steps(), STEP)
    monkeypatch.setattr(schema, "steps", lambda: steps)
    statements_of, newest = directory_database._statements, directory_database.SCHEMA_VERSION

    def statements(name: str) -> list[str]:
        if name == f"directory_{newest + 1:04}.sql":
            return list(schema.statements(DIRECTORY_STEP))
        return statements_of(name)

    monkeypatch.setattr(directory_database, "_statements", statements)
    monkeypatch.setattr(directory_database, "SCHEMA_VERSION", newest + 1)


def unpacked(archive: Path, data: Path) -> Path:
    with tarfile.open(archive) as files:
        files.extractall(data, filter="data")
    return data


def database(data: Path, of: Account = ANN) -> Path:
    return data.joinpath("accounts", of.id[:2], of.id, "mail.sqlite")


def databases(data: Path) -> list[Path]:
    return [data / "directory.sqlite", *sorted(data.glob("accounts/*/*/mail.sqlite"))]


def assert_holds(found: Any, kept: Any, at: str = "") -> None:
    """Everything that was kept is there; there may be more attributes."""
    if isinstance(kept, dict):
        for key, value in kept.items():
            assert key in found, f"{at}/{key} is gone"
            assert_holds(found[key], value, f"{at}/{key}")
    elif isinstance(kept, list):
        assert len(found) == len(kept), at
        for number, value in enumerate(kept):
            assert_holds(found[number], value, f"{at}/{number}")
    else:
        assert found == kept, at


def tables(path: Path) -> set[tuple[str, str]]:
    """The tables and indices of a database, and how they were made."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        return {(name, " ".join(sql.split())) for name, sql in raw.execute(query)}


def new_installation(data: Path) -> Path:
    """Made by this program."""
    rig = Rig(data, open_sqlite)
    rig.close()
    loop = Loop()

    async def fill() -> None:
        directory = Directory.open(data / "directory.sqlite", loop)
        await directory.create_accounts([NewAccount(rig.ann.name, id=rig.ann.id)], add_domains=True)
        await directory.stop()

    loop.run(fill())
    return data


def test_every_released_schema_is_among_them() -> None:
    assert [path.name for path in FIXTURES] == [
        f"schema-{number:04}.tar.xz" for number in range(1, len(FIXTURES) + 1)
    ]
    assert FIXTURES


def test_all_that_was_there_is_there(data: Path, kept: Values) -> None:
    found = holdings(data)
    assert_holds(found, kept)
    assert holdings(data) == found, "opening it again changes nothing"
    assert is_sound(verify_installation(data))


def test_it_is_as_if_made_by_this_program(data: Path, tmp_path: Path) -> None:
    """A released schema is changed by further steps alone, never where it stands."""
    new = new_installation(tmp_path / "new")
    holdings(data)
    for path in databases(data):
        fresh = new / path.name if path.parent == data else database(new)
        assert tables(path) == tables(fresh), path.name


@pytest.mark.usefixtures("next_schema")
def test_a_next_schema(data: Path, kept: Values) -> None:
    assert_holds(holdings(data), kept)
    with closing(sqlite3.connect(database(data))) as raw:
        query = "SELECT colour, count(*) FROM mailbox GROUP BY colour ORDER BY colour"
        assert raw.execute(query).fetchall() == [("blue", 1), ("grey", 14)]
        assert raw.execute("SELECT count(*) FROM note").fetchone()[0] > 20
        applied = raw.execute("SELECT applied FROM schema ORDER BY version").fetchall()
        assert len(applied) == len(schema.steps())
        assert applied[-1][0] > 1_700_000_000, "it is noted when"
    assert is_sound(verify_installation(data))


@pytest.mark.usefixtures("next_schema")
def test_who_only_reads_brings_it_up_to_date_and_then_only_reads(data: Path) -> None:
    reader = SqliteConnection(database(data), ANN.id, writes=False)
    assert reader.row("SELECT max(version) FROM schema") == (len(schema.steps()),)
    with pytest.raises(MailError):
        reader.run("DELETE FROM mailbox")
    reader.close()


# -- interrupted -----------------------------------------------------------------------------


def in_a_process(work: Callable[[], object]) -> int:
    """Run something in a process of its own; returns how that ended, as `os.wait` does."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def killed_before(number: int, work: Callable[[], object]) -> bool:
    """Run something that SIGKILL ends when SQLite begins its nth statement; False if there
    are not so many."""

    def doomed() -> None:
        seen = 0
        connect = sqlite3.connect

        def count(statement: str) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def watched(*arguments: Any, **more: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **more)
            connection.set_trace_callback(count)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]
        work()

    ended = in_a_process(doomed)
    assert ended in (0, signal.SIGKILL)
    return ended != 0


def opened(data: Path) -> None:
    """Bring an account's mail up to date."""
    SqliteConnection(database(data), ANN.id, writes=True).close()


def directory_opened(data: Path) -> None:
    """Bring the directory up to date."""
    Directory.open(data / "directory.sqlite", Loop())


@pytest.mark.usefixtures("next_schema")
@pytest.mark.parametrize("opening", [opened, directory_opened])
def test_killed_in_the_middle(
    archive: Path, kept: Values, tmp_path: Path, opening: Callable[[Path], None]
) -> None:
    """At every statement: then it is done as a whole by the next start."""
    new = new_installation(tmp_path / "new")
    number = 0
    while True:
        number += 1
        data = unpacked(archive, tmp_path / f"killed-{number}")
        if not killed_before(number, partial(opening, data)):
            break
        assert is_sound(verify_account(data, ANN.id)), number
        opening(data)
        assert tables(database(data, BOB)) != tables(database(new)), "not asked for yet"
        assert_holds(holdings(data), kept)
        for path in databases(data):
            fresh = new / path.name if path.parent == data else database(new)
            assert tables(path) == tables(fresh), (number, path.name)
    assert number > 10, "there were statements to be killed at"


@pytest.mark.usefixtures("next_schema")
def test_several_processes_at_once(data: Path, kept: Values) -> None:
    def both() -> None:
        opened(data)
        directory_opened(data)

    def start() -> int:
        pid = os.fork()
        if pid == 0:
            try:
                both()
                os._exit(0)
            finally:
                os._exit(1)
        return pid

    assert [os.waitpid(pid, 0)[1] for pid in [start() for _ in range(4)]] == [0] * 4
    assert_holds(holdings(data), kept)


# -- backups and repairs ----------------------------------------------------------------------


@pytest.mark.usefixtures("next_schema")
def test_a_backup_of_before_comes_back(data: Path, kept: Values, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    for account in accounts_on_disk(data):
        backup_account(data, copies, account)
    holdings(data)
    for account in accounts_on_disk(data):
        restore_account(copies, data, account)
    assert_holds(holdings(data), kept)
    assert is_sound(verify_installation(data))


def without_mod_sequences(values: Values) -> Values:
    """A repair raises them, so that every client looks at everything."""
    for box in values["mail"][ANN.name]["mailboxes"].values():
        box.get("status", {}).pop("highest_mod_sequence", None)
        for row in box.get("mail", {}).values():
            del row[1]
    return values


@pytest.mark.usefixtures("next_schema")
@pytest.mark.parametrize("first", [lambda data: None, opened], ids=["before", "after"])
def test_a_repair_loses_nothing(data: Path, kept: Values, first: Callable[[Path], object]) -> None:
    """Of what was not brought up to date yet, and of rows that are older than a column."""
    first(data)
    was = rows(database(data))
    done = repair_account(data, ANN)
    assert done.lost == () and done.renumbered == ()
    assert rows(database(data)) == was | {"tombstone": []}, "clients look themselves"
    kept["mail"][ANN.name]["tombstone"] = []
    assert_holds(without_mod_sequences(holdings(data)), without_mod_sequences(kept))
    assert is_sound(verify_account(data, ANN.id))


# -- of a newer program -----------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, archive: Path) -> Path:
    """The configuration of a server on such data; its directory is closed."""
    unpacked(archive, tmp_path / "data")
    return write_config(tmp_path)


def test_mail_of_a_newer_program_is_refused_and_left_alone(site: Path) -> None:
    """Everybody else's is served; before, they are brought up to date."""
    data = site.parent / "data"
    holdings(data)
    newer = len(schema.steps()) + 1
    with closing(sqlite3.connect(database(data))) as raw:
        raw.execute("INSERT INTO schema VALUES (?, 1)", (newer,))
        raw.commit()
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = database(data).read_bytes()
    sentence = (
        f"the mail database was made by a newer version (schema {newer}; this program knows"
        f" {newer - 1})"
    )
    for writes in (False, True):
        with pytest.raises(MailError) as refused:
            SqliteConnection(database(data), ANN.id, writes=writes)
        assert (refused.value.kind, refused.value.text) == (ErrorKind.UNAVAILABLE, sentence)
    told = run(MAILCTL, "-c", str(site), "mailbox", "list", ANN.name)
    assert (told.returncode, told.stderr) == (75, f"mailctl: {sentence}\n")
    assert "install the newer version" in run(MAILCTL, "-c", str(site), "verify").stdout
    server = Process.start(TWISTD, "-n", "--pidfile=", "mailserver", "-c", str(site))
    try:
        port = server.ports["imap"]
        with imaplib.IMAP4("127.0.0.1", port, timeout=20) as ann:
            ann.login(ANN.name, PASSWORD)
            assert ann.select("INBOX") == ("NO", [f"[UNAVAILABLE] {sentence}".encode()])
        with imaplib.IMAP4("127.0.0.1", port, timeout=20) as bob:
            bob.login(BOB.name, PASSWORD)
            assert bob.select("INBOX") == ("OK", [b"2"])
    finally:
        server.stop()
    assert not [line for line in server.log if "Traceback" in line], server.log
    assert database(data).read_bytes() == before


def test_a_directory_of_a_newer_program_is_refused_and_left_alone(site: Path) -> None:
    data = site.parent / "data"
    with closing(sqlite3.connect(data / "directory.sqlite")) as raw:
        raw.execute("PRAGMA user_version = 99")
    before = (data / "directory.sqlite").read_bytes()
    for command in (
        (MAILCTL, "-c", str(site), "account", "list"),
        (TWISTD, "-n", "--pidfile=", "mailserver", "-c", str(site)),
    ):
        done = run(*command)
        assert done.returncode not in (0, None)
        said = done.stdout + done.stderr
        assert "directory.sqlite has schema 99" in said and "install that one" in said, said
        assert "Traceback" not in said, said
    assert (data / "directory.sqlite").read_bytes() == before
