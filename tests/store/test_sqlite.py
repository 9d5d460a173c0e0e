"""The SQLite engine: threads, batches, handles."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.trial import unittest

from mailserver.errors import ErrorKind, MailError
from mailserver.store import sqlite
from mailserver.store.engine import Transaction
from mailserver.store.mailstore import open_store
from tests.contract.rig import Rig, open_sqlite
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
        run = sqlite.SqliteConnection.run

        def counted(handle: Any, statement: str, arguments: Any = ()) -> int:
            self.commits += statement == "COMMIT"
            return run(handle, statement, arguments)

        self.patch(sqlite.SqliteConnection, "run", counted)

    def tearDown(self) -> None:
        self.rig.close()

    def together(self, *operations: Any) -> list[Any]:
        """Run operations that wait for one thread until all are queued."""
        held = threading.Event()

        async def hold() -> None:
            await self.engine._submit(self.rig.ann.id, action=held.wait)

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
        self.assertGreaterEqual(self.rig.loop.turns - before, 200 // sqlite.RESULTS_PER_TURN)


def test_few_handles_are_open_and_all_accounts_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "READERS", 4)
    rig = Rig(tmp_path / "data", open_sqlite)
    accounts = [rig.other(f"user{n}@example.org") for n in range(30)]
    for _ in range(2):
        for each in accounts:
            rig.deliver(to=each)
            rig.ref("INBOX", each)
    engine = rig.store._engine
    assert len(engine._readers) <= 4
    assert all(len(writer._handles) <= 4 for writer in engine._writers)
    assert [rig.used(each)[1] for each in accounts] == [2] * 30
    rig.close()


def test_the_log_is_written_back_when_the_last_handle_is_closed(rig: Rig) -> None:
    """The writer closes last, so the reactor never waits for that."""
    rig.append()
    closed: list[str] = []
    close = sqlite.SqliteConnection.close

    def noted(self: Any) -> None:
        closed.append(threading.current_thread().name)
        close(self)

    sqlite.SqliteConnection.close = noted  # type: ignore[method-assign]
    try:
        rig.run(rig.store.stop())
    finally:
        sqlite.SqliteConnection.close = close  # type: ignore[method-assign]
    assert closed and all(name.startswith("store-") for name in closed)
    assert not list(rig.data.rglob("mail.sqlite-wal"))


def test_statements_are_cut_where_they_end() -> None:
    script = "CREATE TABLE a (x TEXT);  -- one;\nINSERT INTO a\n VALUES ('b;\nc');\n-- end\n"
    assert [statement.strip() for statement in sqlite.statements(script)][1].endswith("c');")
