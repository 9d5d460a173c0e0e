"""One handle on an account's database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from mailserver.errors import ErrorKind, MailError
from mailserver.model.ids import AccountId
from mailserver.store.engine import Row
from mailserver.store.sqlite import schema

T = TypeVar("T")

DATABASE = "mail.sqlite"
"""Name of the file, in the directory of its account."""

MOST_KEPT = 100
"""Answers that a reading handle remembers until the next commit: mailboxes, mostly."""

BUSY_SECONDS = 20.0
"""How long a writer waits for another process on the same account."""


class Busy(MailError):
    """Another process writes the account."""

    def __init__(self) -> None:
        super().__init__(ErrorKind.UNAVAILABLE, "this account is busy, please try again")


def refusal(error: sqlite3.Error) -> MailError:
    """Say in the store's words what SQLite says; never the statement or a path."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return MailError(ErrorKind.DISK_FULL, "the disk of the mail store is full")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return MailError(
            ErrorKind.CORRUPT, "the mail database of this account is damaged; see mailctl verify"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy()
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return MailError(ErrorKind.UNAVAILABLE, f"the mail database does not work ({name})")


def log_is_lost(database: Path) -> bool:
    """Say whether the log was taken from a database that had not been closed.

    SQLite makes the log before the shared memory file and removes it after that, so the
    second is never there without the first. Looked at twice, since others open and close.
    """
    log = database.with_name(database.name + "-wal")
    shared = database.with_name(database.name + "-shm")
    return all(shared.exists() and not log.exists() for _ in range(2))


class SqliteConnection:
    """One handle; used by one thread at a time.

    Args:
        path: of an existing database.
        account: whose it must be.
        writes: False for a handle that only reads.

    Raises:
        MailError: NONEXISTENT, CORRUPT (also another account's file, R6), UNAVAILABLE
            (also a schema newer than this program's, R17).
    """

    def __init__(self, path: Path, account: AccountId, *, writes: bool) -> None:
        self._path = str(path)
        self._writes = writes
        self._syncs: bool | None = None  # not said yet
        self._waits = True
        self._version = 0
        self._kept: dict[Hashable, Any] = {}
        self._file = self._file_there()
        if self._file is None:
            raise MailError(ErrorKind.NONEXISTENT, "no such account")
        if log_is_lost(path):
            raise MailError(
                ErrorKind.CORRUPT,
                "the newest changes of this account are lost with their log; see mailctl verify",
            )
        try:
            self._sqlite = sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
                timeout=BUSY_SECONDS if writes else 2.0,
            )
        except sqlite3.Error as error:
            raise refusal(error) from error
        try:
            self._prepare(account, writes)
        except BaseException:
            self._sqlite.close()
            raise

    @classmethod
    def unsafe(cls, path: Path) -> SqliteConnection:
        """A handle for a new, empty file: it syncs nothing and checks nothing."""
        made = cls.__new__(cls)
        made._writes = True
        try:
            made._sqlite = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise refusal(error) from error
        made.run("PRAGMA journal_mode = MEMORY")
        made.run("PRAGMA synchronous = OFF")
        return made

    def _prepare(self, account: AccountId, writes: bool) -> None:
        if writes:
            self.sync_commits(True)
            self.run("PRAGMA cache_size = -1024")
            self.run("PRAGMA journal_size_limit = 4194304")
        else:
            self.run("PRAGMA query_only = ON")
            self.run("PRAGMA cache_size = -64")
        found = self.row("SELECT id, (SELECT max(version) FROM schema) FROM account")
        if found is None or found[0] != account:
            raise MailError(
                ErrorKind.CORRUPT,
                "this mail database belongs to another account; see mailctl verify",
            )
        version, latest = found[1], len(schema.steps())
        if version > latest:
            raise MailError(
                ErrorKind.UNAVAILABLE,
                f"the mail database was made by a newer version (schema {version}; this program"
                f" knows {latest})",
            )
        if version < latest:
            self._upgrade(version)

    def _upgrade(self, version: int) -> None:
        """Make the steps that are missing; a reader does so too if it is the first (R17)."""
        self.run("PRAGMA query_only = OFF")
        for number, script in enumerate(schema.steps()[version:], version + 1):
            schema.apply_step(self, number, script)
        if not self._writes:
            self.run("PRAGMA query_only = ON")

    def rows(self, statement: str, arguments: Sequence[Any] = ()) -> list[Row]:
        """Run a query and read it to its end."""
        try:
            return self._sqlite.execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            raise refusal(error) from error

    def row(self, statement: str, arguments: Sequence[Any] = ()) -> Row | None:
        """Run a query and return its first row, or None."""
        found = self.rows(statement, arguments)
        return found[0] if found else None

    def while_taken(
        self, statement: str, arguments: Sequence[Any], take: Callable[[Row], bool]
    ) -> None:
        """Run a query and give each row to `take`, up to the first that it does not take."""
        try:
            cursor = self._sqlite.execute(statement, arguments)
            try:
                for row in cursor:
                    if not take(row):
                        return
            finally:
                cursor.close()  # else it would pin the log
        except sqlite3.Error as error:
            raise refusal(error) from error

    def kept(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` gave, while the database is as it was then (see `Connection`).

        A handle that writes has to ask: it does not see its own changes in the version.
        """
        if self._writes:
            return find()
        version = self.rows("PRAGMA data_version")[0][0]
        if version != self._version or len(self._kept) >= MOST_KEPT:
            self._kept.clear()
            self._version = version
        try:
            return self._kept[key]  # type: ignore[no-any-return]
        except KeyError:
            found = find()
            if self._version == version:  # `find` has not looked at a later state itself
                self._kept[key] = found
            return found

    def run(self, statement: str, arguments: Sequence[Any] = ()) -> int:
        """Run a change; returns the number of rows changed."""
        try:
            return self._sqlite.execute(statement, arguments).rowcount
        except sqlite3.Error as error:
            raise refusal(error) from error

    def run_many(self, statement: str, arguments: Iterable[Sequence[Any]]) -> None:
        """Run a change once for each of the arguments."""
        try:
            self._sqlite.executemany(statement, arguments)
        except sqlite3.Error as error:
            raise refusal(error) from error

    def insert(self, statement: str, arguments: Sequence[Any] = ()) -> int:
        """Add a row; returns its rowid."""
        try:
            return self._sqlite.execute(statement, arguments).lastrowid or 0
        except sqlite3.Error as error:
            raise refusal(error) from error

    def sync_commits(self, wanted: bool) -> None:
        """Say, between transactions, whether the next commits wait for the disk. Those that
        do not are written in order all the same, so a later one that does saves them too."""
        if wanted is not self._syncs:
            self.run(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._syncs = wanted

    def begin_writing(self) -> None:
        """Begin a transaction that writes.

        Raises:
            Busy: another process does so now; there is no waiting for it.
        """
        if self._waits:  # as for what opening it may have met
            self.run("PRAGMA busy_timeout = 0")
            self._waits = False
        self.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit the transaction. This way the interpreter is let go of once and not three
        times as by a statement, and each time a thread may wait for it.

        Raises:
            MailError: it failed, or SQLite had given the transaction up by itself.
        """
        try:
            if not self._sqlite.in_transaction:  # then this way would do nothing, in silence
                raise MailError(ErrorKind.UNAVAILABLE, "the mail database gave a change up")
            self._sqlite.commit()
        except sqlite3.Error as error:
            raise refusal(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make the queries inside see one state."""
        self.run("BEGIN")
        try:
            yield
        finally:
            if self._sqlite.in_transaction:
                self.run("COMMIT")

    def _file_there(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @property
    def is_moved(self) -> bool:
        """The file is not the account's any more: another process removed or restored it.
        What is written to it then, nobody sees again."""
        return self._file_there() != self._file

    @property
    def in_transaction(self) -> bool:
        """False once SQLite has given the transaction up by itself."""
        return self._sqlite.in_transaction

    def close(self) -> None:
        """Close the handle; what was not committed is undone."""
        try:
            self._sqlite.close()
        except sqlite3.Error:
            pass  # a failing last checkpoint: the log stays and is read at the next opening
