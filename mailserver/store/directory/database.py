"""One SQLite file of the directory: read on the reactor thread, written on its own.

Knows nothing of accounts. Invariants:

- A write is one transaction that begins with BEGIN IMMEDIATE, so that two processes take
  turns instead of failing half-way; it is on disk (`synchronous=FULL`) when `write` returns.
- The reading handle holds no transaction open between two calls, and is closed before the
  writing one, which then folds the WAL into the file.
- After an error of the disk the writing handle is closed and opened anew: what it holds in
  memory may differ from the file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mailserver.errors import ErrorKind, MailError

T = TypeVar("T")

SCHEMA_VERSION = 2
"""Number of the newest `directory_NNNN.sql`."""

APPLICATION_ID = 0x4D534472  # "MSDr", shown by file(1)
WRITER_BUSY_TIMEOUT = 10.0
"""Seconds that a write waits for another process's."""

READER_BUSY_TIMEOUT = 0.1
"""Seconds; readers wait only while another process recovers the WAL after a crash."""

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
)

_KIND_OF_SQLITE_ERROR = {
    sqlite3.SQLITE_FULL: ErrorKind.DISK_FULL,
    sqlite3.SQLITE_CORRUPT: ErrorKind.CORRUPT,
    sqlite3.SQLITE_NOTADB: ErrorKind.CORRUPT,
}


class Database:
    """Handles and thread of one file; made by `open`."""

    _log = Logger()

    def __init__(self, path: Path, reactor: IReactorFromThreads) -> None:
        self._path = path
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="directory-writer")
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None

    @classmethod
    def open(cls, path: Path, reactor: IReactorFromThreads) -> Database:
        """Open a database file, made first (0600) where there is none.

        Runs before or on the reactor thread. The directory of the file must exist.

        Raises:
            MailError: CORRUPT (not our file, or of a newer program), UNAVAILABLE.
        """
        self = cls(path, reactor)
        try:
            _make_file(path)
            self._writer = self._connect(WRITER_BUSY_TIMEOUT)
            _upgrade(self._writer, path)
            self._reader = self._connect(READER_BUSY_TIMEOUT)
        except (OSError, sqlite3.Error) as error:
            for handle in (self._reader, self._writer):
                if handle is not None:
                    handle.close()
            raise self._refusal(error) from error
        except MailError:
            if self._writer is not None:
                self._writer.close()
            raise
        self._pool.start()
        return self

    def read(self, statement: str, arguments: Sequence[object] = ()) -> list[Any]:
        """Run one SELECT and return all its rows as tuples.

        Raises:
            MailError: UNAVAILABLE, CORRUPT.
        """
        if self._reader is None:
            raise MailError(ErrorKind.UNAVAILABLE, "the directory is closed")
        try:
            return self._reader.execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def version(self) -> int:
        """A number that changes whenever anybody, in any process, has changed the file."""
        rows = self.read("PRAGMA data_version")
        return int(rows[0][0])

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one transaction on the writing thread; durable.

        Whatever it raises undoes it.

        Raises:
            MailError: what `work` raises, DISK_FULL, UNAVAILABLE (another process has held
                the file for 10 s), CORRUPT.
        """
        if self._reader is None:
            raise MailError(ErrorKind.UNAVAILABLE, "the directory is closed")
        return await deferToThreadPool(self._reactor, self._pool, self._transact, work)

    async def close(self) -> None:
        """Finish writes that were asked for, then close both handles; may be called twice."""
        if self._reader is None:
            return
        self._reader.close()
        self._reader = None
        await deferToThreadPool(self._reactor, self._pool, self._drop_writer)
        self._pool.stop()

    def _connect(self, busy_timeout: float) -> sqlite3.Connection:
        # The writing handle is made here and used on the pool's only thread afterwards.
        handle = sqlite3.connect(
            self._path, timeout=busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                handle.execute(pragma).fetchall()
        except BaseException:
            handle.close()
            raise
        return handle

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._writer is None:
                self._writer = self._connect(WRITER_BUSY_TIMEOUT)
            writer = self._writer
            writer.execute("BEGIN IMMEDIATE")
            try:
                result = work(writer)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise
            return result
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.IntegrityError):
                self._drop_writer()
            raise self._refusal(error) from error

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _refusal(self, error: OSError | sqlite3.Error) -> MailError:
        """Translate; the path and the engine's words go to the log only."""
        self._log.error("directory {path}: {error!r}", path=str(self._path), error=error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low octet: without detail
        kind = _KIND_OF_SQLITE_ERROR.get(code, ErrorKind.UNAVAILABLE)
        return MailError(kind, _TEXTS[kind])


_TEXTS = {
    ErrorKind.DISK_FULL: "no space left for the directory of accounts",
    ErrorKind.CORRUPT: "the directory of accounts is damaged; the log says where",
    ErrorKind.UNAVAILABLE: "the directory of accounts cannot be used now; try again later",
}


def _make_file(path: Path) -> None:
    """Make an empty file that only we can read, or check the one that is there (S14)."""
    try:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except FileExistsError:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
        return
    os.close(descriptor)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _upgrade(handle: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to `SCHEMA_VERSION` in one transaction; nothing if it is there.

    Raises:
        MailError: CORRUPT if a newer program, or another one, wrote the file (R17).
    """
    if version_of(handle, path) == SCHEMA_VERSION:
        return
    handle.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have been first.
        for number in range(version_of(handle, path) + 1, SCHEMA_VERSION + 1):
            for statement in _statements(f"directory_{number:04}.sql"):
                handle.execute(statement)
        handle.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        handle.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        handle.execute("COMMIT")
    except BaseException:
        if handle.in_transaction:
            handle.execute("ROLLBACK")
        raise


def version_of(handle: sqlite3.Connection, path: Path) -> int:
    """The schema of a file that is open; 0 for an empty one.

    Raises:
        MailError: CORRUPT if it is not ours, or of a newer program.
    """
    [(application,)] = handle.execute("PRAGMA application_id").fetchall()
    [(version,)] = handle.execute("PRAGMA user_version").fetchall()
    [(tables,)] = handle.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    if application != APPLICATION_ID and (application or version or tables):
        raise MailError(
            ErrorKind.CORRUPT, f"{path.name} is not a directory of accounts", subject=path.name
        )
    if version > SCHEMA_VERSION:
        raise MailError(
            ErrorKind.CORRUPT,
            f"{path.name} has schema {version}, this program knows up to {SCHEMA_VERSION}:"
            " it was written by a newer version of the program, install that one",
            subject=path.name,
        )
    return int(version)


def _statements(name: str) -> list[str]:
    """Cut a schema file into statements: `executescript` would commit on its own."""
    text = (resources.files("mailserver.store.sql") / "schema" / name).read_text("utf-8")
    statements: list[str] = []
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
