"""The SQLite engine: threads, batches, handles."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial import unittest

from mailserver.errors import ErrorKind, MailError
from mailserver.store.engine import Transaction
from mailserver.store.limits import KEPT_INLINE
from mailserver.store.mailstore import FEW, open_store
from mailserver.store.sqlite import engine, schema, writers
from mailserver.store.sqlite.connection import SqliteConnection
from mailserver.store.sqlite.writers import Job
from tests.contract.rig import MAIL, Rig, account, open_sqlite
from tests.store.loop import Loop


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


@pytest.mark.parametrize("writers", [0, 17])
def test_there_are_one_to_sixteen_writers(tmp_path: Path, writers: int) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        open_store(tmp_path, Loop(), writers=writers)


def note(word: str) -> Any:
    def operation(transaction: Transaction) -> str:
        transaction.connection.run("INSERT INTO subscription VALUES (?)", (word,))
        return word

    return operation


class Batches(unittest.TestCase):
    """Trial's TestCase, for the log."""

    def setUp(self) -> None:
        self.rig = Rig(Path(self.mktemp()), open_sqlite)
        self.engine = self.rig.store._engine
        self.commits = 0
        commit = SqliteConnection.commit

        def counted(handle: Any) -> None:
            self.commits += 1
            commit(handle)

        self.patch(SqliteConnection, "commit", counted)

    def tearDown(self) -> None:
        self.rig.close()

    def together(self, *operations: Any) -> list[Any]:
        """Run operations that wait for one thread until all are queued."""
        held = threading.Event()

        async def hold() -> None:
            await self.engine._submit(Job(self.engine._handles(self.rig.ann.id), action=held.wait))

        async def release() -> None:
            held.set()

        writes = [self.engine.write(self.rig.ann.id, operation) for operation in operations]
        return self.rig.loop.run_all(hold(), *writes, release())[1:-1]

    def test_what_waits_together_is_synced_once(self) -> None:
        results = self.together(*(note(f"w{n}") for n in range(100)))
        self.assertEqual(results, [f"w{n}" for n in range(100)])
        self.assertLessEqual(self.commits, 2)
        self.assertGreaterEqual(len(self.rig.run(self.rig.store.subscriptions(self.rig.who))), 100)

    def test_one_that_fails_does_not_undo_the_others(self) -> None:
        def refuse(transaction: Transaction) -> None:
            note("gone")(transaction)
            raise MailError(ErrorKind.LIMIT, "no more")

        def broken(transaction: Transaction) -> None:
            note("gone too")(transaction)
            raise ZeroDivisionError("a bug")

        def wrong(transaction: Transaction) -> None:
            transaction.connection.run("INSERT INTO nothing VALUES (1)")

        results = self.together(note("a"), refuse, broken, wrong, note("b"), note("a"))
        self.assertEqual((results[0], results[4]), ("a", "b"))
        self.assertEqual(results[1].kind, ErrorKind.LIMIT)
        self.assertIsInstance(results[2], ZeroDivisionError)
        for error in (results[3], results[5]):  # no such table; a row twice
            self.assertIsInstance(error, MailError)
            self.assertNotIn("INSERT", error.text)
        words = self.rig.run(self.rig.store.subscriptions(self.rig.who))
        self.assertTrue({"a", "b"} <= set(words))
        self.assertFalse({"gone", "gone too"} & set(words))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_when_sqlite_gives_up_a_full_transaction_each_is_tried_alone(self) -> None:
        """An operation that does not fit must not take the others with it."""

        def too_much(transaction: Transaction) -> None:
            transaction.connection.run("PRAGMA max_page_count = 1")  # what it has now
            transaction.connection.run(
                "INSERT INTO annotation VALUES (0, '/x', '', zeroblob(9000000))"
            )

        results = self.together(note("a"), too_much, note("b"))
        self.assertEqual((results[0], results[2]), ("a", "b"))
        self.assertEqual(results[1].kind, ErrorKind.DISK_FULL)

    def test_results_come_a_few_per_turn(self) -> None:
        before = self.rig.loop.turns
        self.together(*(note(f"w{n}") for n in range(200)))
        self.assertGreaterEqual(self.rig.loop.turns - before, 200 // writers.RESULTS_PER_TURN)


def test_few_handles_are_open_and_all_accounts_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ACCOUNTS_OPEN", 4)
    rig = Rig(tmp_path / "data", open_sqlite)
    accounts = [rig.other(f"user{n}@example.org") for n in range(30)]
    for _ in range(2):
        for each in accounts:
            rig.deliver(to=each)
            rig.ref("INBOX", each)
    assert len(rig.store._engine._open) <= 4
    assert [rig.used(each)[1] for each in accounts] == [2] * 30
    rig.close()


def test_the_log_is_written_back_when_the_last_handle_is_closed(rig: Rig) -> None:
    """The writer closes last, so the reactor never waits for that."""
    rig.append()
    closed: list[str] = []
    close = SqliteConnection.close

    def noted(self: Any) -> None:
        closed.append(threading.current_thread().name)
        close(self)

    SqliteConnection.close = noted  # type: ignore[method-assign]
    try:
        rig.run(rig.store.stop())
    finally:
        SqliteConnection.close = close  # type: ignore[method-assign]
    assert closed and all(name.startswith("store-") for name in closed)
    assert not list(rig.data.rglob("mail.sqlite-wal"))


def test_statements_are_cut_where_they_end() -> None:
    script = "CREATE TABLE a (x TEXT);  -- one;\nINSERT INTO a\n VALUES ('b;\nc');\n-- end\n"
    assert [statement.strip() for statement in schema.statements(script)][1].endswith("c');")


class ShortWrites(unittest.TestCase):
    """Short operations on an account that nobody writes run on the reactor, all but the
    COMMIT; each test has the account's writing handle open already."""

    def setUp(self) -> None:
        self.rig = Rig(Path(self.mktemp()), open_sqlite)
        self.engine = self.rig.store._engine
        self.write(note("first"))
        self.ran: list[tuple[str, str]] = []
        run, commit = SqliteConnection.run, SqliteConnection.commit

        def ran(statement: str) -> None:
            here = threading.current_thread() is threading.main_thread()
            self.ran.append((statement, "here" if here else "thread"))

        def noted(handle: Any, statement: str, arguments: Any = ()) -> int:
            if statement in ("BEGIN IMMEDIATE", "ROLLBACK"):
                ran(statement)
            return run(handle, statement, arguments)

        def committed(handle: Any) -> None:
            ran("COMMIT")
            commit(handle)

        self.patch(SqliteConnection, "run", noted)
        self.patch(SqliteConnection, "commit", committed)

    def tearDown(self) -> None:
        self.rig.close()

    def write(self, operation: Any, **more: Any) -> Any:
        return self.rig.run(self.engine.write(self.rig.ann.id, operation, is_short=True, **more))

    def words(self) -> set[str]:
        return set(self.rig.run(self.rig.store.subscriptions(self.rig.who)))

    def other_process(self) -> Any:
        """A handle on the account that is none of the engine's."""
        raw = sqlite3.connect(self.engine.database(self.rig.ann.id), isolation_level=None)
        self.addCleanup(raw.close)
        return raw

    def test_only_the_commit_is_the_threads(self) -> None:
        self.assertEqual(self.write(note("a")), "a")
        self.assertEqual(self.ran, [("BEGIN IMMEDIATE", "here"), ("COMMIT", "thread")])
        self.assertIn("a", self.words())

    def test_a_transaction_that_is_lost_is_not_committed(self) -> None:
        """R4: SQLite gives one up by itself after some errors."""
        handle = self.engine.connect(self.rig.ann.id, writes=True)
        self.addCleanup(handle.close)
        handle.begin_writing()
        handle.run("INSERT INTO subscription VALUES ('lost')")
        handle._sqlite.rollback()
        with self.assertRaises(MailError) as raised:
            handle.commit()
        self.assertEqual(raised.exception.kind, ErrorKind.UNAVAILABLE)
        self.assertNotIn("lost", self.words())

    def test_what_is_not_committed_nobody_sees(self) -> None:
        raw = self.other_process()
        seen: list[int] = []

        def look(transaction: Transaction) -> None:
            note("a")(transaction)
            seen.append(raw.execute("SELECT count(*) FROM subscription").fetchone()[0])
            seen.append(len(self.words()))

        before = len(self.words())
        self.write(look)
        self.assertEqual(seen, [before, before])

    def test_the_order_is_that_of_the_asking(self) -> None:
        """The second finds the account being written, so the thread does it; the third
        comes after it although it would be short as well."""
        done: list[str] = []

        def step(name: str) -> Any:
            return lambda transaction: done.append(name)

        ann = self.rig.ann.id
        self.rig.loop.run_all(
            self.engine.write(ann, step("a"), is_short=True),
            self.engine.write(ann, step("b")),
            self.engine.write(ann, step("c"), is_short=True),
        )
        self.assertEqual(done, ["a", "b", "c"])
        self.assertEqual(self.ran[0], ("BEGIN IMMEDIATE", "here"))
        self.assertEqual({where for _, where in self.ran[1:]}, {"thread"})
        self.ran.clear()
        self.write(step("d"))
        self.assertEqual(self.ran[0], ("BEGIN IMMEDIATE", "here"))

    def test_one_that_fails_is_undone(self) -> None:
        def refuse(transaction: Transaction) -> None:
            note("gone")(transaction)
            raise MailError(ErrorKind.LIMIT, "no more")

        with self.assertRaises(MailError):
            self.write(refuse)
        self.assertEqual(self.ran, [("BEGIN IMMEDIATE", "here"), ("ROLLBACK", "here")])

        def broken(transaction: Transaction) -> None:
            note("gone")(transaction)
            raise ZeroDivisionError("a bug")

        with self.assertRaises(ZeroDivisionError):
            self.write(broken)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.write(note("a"))
        self.assertTrue({"first", "a"} <= self.words())
        self.assertNotIn("gone", self.words())

    def test_the_reactor_does_not_wait_for_another_process(self) -> None:
        raw = self.other_process()
        raw.execute("BEGIN IMMEDIATE")
        waiting = Deferred.fromCoroutine(
            self.engine.write(self.rig.ann.id, note("a"), is_short=True)
        )
        self.assertNotIn("a", self.words())  # the reactor turns meanwhile
        raw.execute("COMMIT")
        self.assertEqual(self.rig.run(waiting), "a")
        self.assertEqual(self.ran[-1], ("COMMIT", "thread"))
        self.ran.clear()
        self.write(note("b"))
        self.assertEqual(self.ran[0], ("BEGIN IMMEDIATE", "here"))

    def test_who_waits_for_another_process_commits_what_was_begun(self) -> None:
        """Or the two would wait for each other: that process may want what was begun here."""
        ann = self.rig.ann.id
        same = (account(f"n{number}@example.org") for number in range(100))
        other = next(one for one in same if self.engine._writer(one.id) is self.engine._writer(ann))
        self.rig.run(self.rig.store.create_account(other))
        raw = sqlite3.connect(self.engine.database(other.id), isolation_level=None)
        self.addCleanup(raw.close)
        raw.execute("BEGIN IMMEDIATE")
        waiting = Deferred.fromCoroutine(self.engine.write(other.id, note("a")))
        self.write(note("b"))
        self.assertFalse(waiting.called)
        mine = self.other_process()
        mine.execute("BEGIN IMMEDIATE")  # at once
        self.assertIn("b", self.words())
        queued = Deferred.fromCoroutine(self.engine.write(ann, note("c")))
        mine.execute("COMMIT")
        raw.execute("COMMIT")
        self.assertEqual(self.rig.run(waiting), "a")
        self.assertEqual(self.rig.run(queued), "c")

    def test_a_full_disk_is_the_threads_matter(self) -> None:
        """R3: it knows when to lend the reserve, so it begins again with the operation."""
        tries: list[bool] = []

        def full_at_first(transaction: Transaction) -> str:
            tries.append(threading.current_thread() is threading.main_thread())
            if len(tries) < 2:
                raise MailError(ErrorKind.DISK_FULL, "the disk of the mail store is full")
            return "done"

        self.assertEqual(self.write(full_at_first, makes_room=True), "done")
        self.assertEqual(tries, [True, False])

    def test_what_sqlite_gave_up_is_not_tried_again(self) -> None:
        """R4: the file is opened and checked anew by whoever comes next."""
        tries: list[None] = []

        def given_up(transaction: Transaction) -> None:
            tries.append(None)
            note("gone")(transaction)
            transaction.connection.run("ROLLBACK")  # as SQLite does it where a disk fails
            raise MailError(ErrorKind.UNAVAILABLE, "the mail database does not work")

        before = self.engine._handles(self.rig.ann.id).writer
        with self.assertRaises(MailError):
            self.write(given_up)
        self.assertEqual(len(tries), 1)
        self.write(note("a"))
        self.assertIsNot(self.engine._handles(self.rig.ann.id).writer, before)
        self.assertIn("a", self.words())
        self.assertNotIn("gone", self.words())

    def test_what_may_take_long_is_the_threads(self) -> None:
        """The reactor adds or changes `FEW` messages at once, and none in a file."""
        rig = self.rig
        for octets, where in (
            ([MAIL] * FEW, "here"),
            ([MAIL] * (FEW + 1), "thread"),
            ([MAIL, b"x" * (KEPT_INLINE + 1)], "thread"),
        ):
            self.ran.clear()
            rig.append(*octets)
            self.assertEqual(self.ran[0], ("BEGIN IMMEDIATE", where))
        image = rig.image()
        for last, where in ((FEW, "here"), (FEW + 1, "thread")):
            self.ran.clear()
            rig.flag(image, tuple(range(1, last + 1)), f"$W{last}")
            self.assertEqual(self.ran[0], ("BEGIN IMMEDIATE", where))

    def test_an_account_that_was_replaced_is_opened_anew(self) -> None:
        database = self.engine.database(self.rig.ann.id)
        aside = database.with_name("aside")
        raw = self.other_process()
        raw.execute("VACUUM INTO ?", (str(aside),))
        os.replace(aside, database)
        for file in database.parent.glob("mail.sqlite-*"):
            file.unlink()
        self.assertEqual(self.write(note("a")), "a")
        self.assertEqual(self.ran[0], ("BEGIN IMMEDIATE", "thread"))
        new = sqlite3.connect(database)
        self.addCleanup(new.close)
        self.assertIn(("a",), new.execute("SELECT * FROM subscription").fetchall())
