"""The SQLite engine: a database per account, read on the reactor, written by threads.

Theory of operation. The reactor has one read-only handle per account (an LRU of them) and
reads with it directly: single statements, read to their end, some 5 µs each. Each writer
thread has its own handles for the accounts that it serves, and an account is always served
by the same thread. A thread takes everything that is queued, groups it by account, and for
each account runs one transaction: BEGIN IMMEDIATE, each operation in a savepoint of its
own, one COMMIT with one sync. Results go back to the reactor in batches.

Invariants:

- Nothing is answered before the COMMIT that holds it has returned.
- An operation that fails is undone alone. If SQLite gave up the whole transaction (disk
  full), each operation is run again in one of its own. If the COMMIT fails, every
  operation of it is refused, the handle is closed, and the next one opens and checks the
  file anew; the same sync is never tried again (R4).
- A group is synced if any operation of it wants that.
- A read handle is closed by the account's writer thread, before its own: the last closer
  writes the log back into the database, and that must not happen on the reactor.
- Other processes may write the same accounts: every write starts with BEGIN IMMEDIATE and
  a busy timeout, never by upgrading a read.
"""

from __future__ import annotations

import os
import queue
import re
import resource
import shutil
import sqlite3
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zlib import crc32

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IEventBus
from mailserver.model.ids import AccountId
from mailserver.store.blobs import Blobs, disk_error, make_directory, open_new, sync_directory
from mailserver.store.engine import Connection, Row, Transaction
from mailserver.store.limits import StoreLimits
from mailserver.store.reserve import Reserve
from mailserver.store.spool import remove_leftovers

T = TypeVar("T")
Operation = Callable[[Transaction], Any]

DATABASE = "mail.sqlite"
READERS = 256
"""Open read handles, and as many that write; one costs 3 descriptors and about 80 KB.
Fewer if the process may not have so many descriptors: its sessions need most of them."""

MOST_KEPT = 100
"""Answers that a reading handle remembers until the next commit: mailboxes, mostly."""

RESULTS_PER_TURN = 32
"""Results that one reactor turn hands out, so that a full queue does not hold it up."""

BUSY_SECONDS = 20.0
"""How long a writer waits for another process on the same account."""

_STEP = re.compile(r"\d{4}_\w+\.sql")
_ACCOUNT_ID = re.compile(r"[0-9a-z]{26}")


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
        return MailError(ErrorKind.UNAVAILABLE, "this account is busy, please try again")
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
        version, latest = found[1], len(schema_steps())
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
        for number, script in enumerate(schema_steps()[version:], version + 1):
            apply_step(self, number, script)
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


@cache
def schema_steps() -> tuple[str, ...]:
    """The scripts `NNNN_name.sql` that make the schema, in order."""
    directory = resources.files("mailserver.store.sql").joinpath("schema")
    names = sorted(step.name for step in directory.iterdir() if _STEP.fullmatch(step.name))
    return tuple(directory.joinpath(name).read_text("utf-8") for name in names)


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: sqlite3's own `executescript` commits."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def apply_step(connection: SqliteConnection, number: int, script: str) -> None:
    """Make one schema step, unless another process has made it meanwhile (R17)."""
    connection.run("BEGIN IMMEDIATE")
    try:
        done = number > 1 and connection.row("SELECT 1 FROM schema WHERE version = ?", (number,))
        if not done:
            for statement in statements(script):
                connection.run(statement)
            connection.run("INSERT INTO schema VALUES (?, unixepoch())", (number,))
        connection.run("COMMIT")
    finally:
        if connection.in_transaction:
            connection.run("ROLLBACK")


@attrs.define
class _Job:
    """One thing asked of a writer thread."""

    account: AccountId
    operation: Operation | None  # in a transaction of the account, or
    action: Callable[[], Any] | None  # as it is, between transactions
    deferred: Deferred[Any]
    makes_room: bool = False
    is_synced: bool = True


@attrs.define
class _Answer:
    """What a job is answered: a value, or why not."""

    deferred: Deferred[Any]
    value: Any = None
    error: Exception | None = None
    transaction: Transaction | None = None


class _Results:
    """Hands results back to the reactor, a few per turn, waking it once for many."""

    _log = Logger()

    def __init__(self, reactor: Any, committed: Callable[[Transaction], None]) -> None:
        self._reactor = reactor
        self._committed = committed
        self._lock = threading.Lock()
        self._ready: deque[_Answer] = deque()
        self._awake = False

    def add(self, answers: Sequence[_Answer]) -> None:
        """Called by writer threads."""
        with self._lock:
            self._ready.extend(answers)
            wake, self._awake = not self._awake, True
        if wake:
            self._reactor.callFromThread(self._hand_out)

    def _hand_out(self) -> None:
        with self._lock:
            some = [self._ready.popleft() for _ in range(min(RESULTS_PER_TURN, len(self._ready)))]
            self._awake = bool(self._ready)
            again = self._awake
        if again:
            self._reactor.callLater(0, self._hand_out)
        for answer in some:
            if answer.error is not None:
                answer.deferred.errback(answer.error)
                continue
            if answer.transaction is not None:
                # It is durable: who watches must not keep its caller from hearing so.
                with self._log.failuresHandled("a commit was not told to those who watch"):
                    self._committed(answer.transaction)
            answer.deferred.callback(answer.value)


class _Writer(threading.Thread):
    """One writer thread, its queue and its handles."""

    log = Logger()

    def __init__(self, engine: SqliteEngine, name: str, results: _Results) -> None:
        super().__init__(name=name, daemon=True)
        self._engine = engine
        self._results = results
        self._handles: OrderedDict[AccountId, SqliteConnection] = OrderedDict()
        self._has_reserve = False
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Work until a None comes; what is queued before it is still done."""
        while True:
            batch, last = self._next_batch()
            by_account: dict[AccountId, list[_Job]] = {}
            for job in batch:
                by_account.setdefault(job.account, []).append(job)
            for account, jobs in by_account.items():
                self._serve(account, jobs)
            if last:
                break
        for handle in self._handles.values():
            handle.close()

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        job = self.jobs.get()
        while job is not None:
            batch.append(job)
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _serve(self, account: AccountId, jobs: list[_Job]) -> None:
        """Do one account's jobs in order: runs of operations share a transaction."""
        together: list[_Job] = []
        for job in jobs:
            if job.action is None:
                together.append(job)
                continue
            if together:
                self._results.add(self._commit_or_refuse(account, together))
                together = []
            answer = _Answer(job.deferred)
            try:
                answer.value = job.action()
            except Exception as error:  # noqa: BLE001  answered, and logged by _refused
                answer.error = self._refused(error)
            self._results.add([answer])
        if together:
            self._results.add(self._commit_or_refuse(account, together))

    def _commit_or_refuse(self, account: AccountId, jobs: list[_Job]) -> list[_Answer]:
        """`_commit`, and an answer to each job also if that fails as nobody foresaw: without
        this thread its accounts could not be written any more."""
        try:
            return self._commit(account, jobs)
        except Exception as error:  # noqa: BLE001  answered, and logged by _refused
            self._drop(account)
            return _refuse(jobs, self._refused(error))

    def _commit(self, account: AccountId, jobs: list[_Job]) -> list[_Answer]:
        """One transaction for the jobs; returns what each is to be answered."""
        try:
            handle = self._opened(account)
            handle.sync_commits(any(job.is_synced for job in jobs))
            handle.run("BEGIN IMMEDIATE")
        except Exception as error:  # noqa: BLE001  answered, and logged by _refused
            return self._given_up(account, jobs, self._refused(error))
        answers: list[_Answer] = []
        unused: list[str] = []
        is_alone = len(jobs) == 1  # then undoing it is undoing all
        for job in jobs:
            assert job.operation is not None
            answer = _Answer(job.deferred)
            answers.append(answer)
            transaction = self._engine.transaction(account, handle)
            try:
                if not is_alone:
                    handle.run("SAVEPOINT operation")
                answer.value = job.operation(transaction)
                if not is_alone:
                    handle.run("RELEASE operation")
                answer.transaction = transaction
                unused += transaction.unused
            except Exception as error:  # noqa: BLE001  answered, and logged by _refused
                answer.error = self._refused(error)
                if not _undone(handle, is_alone):
                    return self._given_up(account, jobs, answer.error)
                if is_alone:
                    return answers
        try:
            handle.run("COMMIT")
        except MailError as error:
            self.log.error(
                "a commit failed: {text}; account {account}", text=error.text, account=account
            )
            return self._given_up(account, jobs, error)
        self._remove_files(account, handle, unused)
        return answers

    def _given_up(self, account: AccountId, jobs: list[_Job], error: Exception) -> list[_Answer]:
        """The transaction is lost. With a full disk each operation is tried alone, and
        with the reserve if it makes room; after any other error nothing is tried again,
        and the file is opened and checked anew."""
        self._drop(account)
        if not (isinstance(error, MailError) and error.kind is ErrorKind.DISK_FULL):
            return _refuse(jobs, error)
        if len(jobs) > 1:
            return [answer for job in jobs for answer in self._commit(account, [job])]
        if not jobs[0].makes_room or self._has_reserve:
            return _refuse(jobs, error)
        with self._engine.reserve.lent():
            self._has_reserve = True
            try:
                return self._commit(account, jobs)
            finally:
                self._has_reserve = False

    def _remove_files(
        self, account: AccountId, handle: SqliteConnection, unused: list[str]
    ) -> None:
        """Unlink files that no row names; under the write lock, because another process
        may be about to name the same octets again."""
        if not unused:
            return
        try:
            handle.run("BEGIN IMMEDIATE")
            for digest in unused:
                if handle.row("SELECT 1 FROM message WHERE digest = ?", (digest,)) is None:
                    self._engine.blobs(account).unlink(digest)
            handle.run("COMMIT")
        except (MailError, OSError) as error:
            self.log.warn("files are left: {e}", e=error)  # noqa: G010  Twisted's name
            if handle.in_transaction:
                self._drop(account)

    def _opened(self, account: AccountId) -> SqliteConnection:
        handle = self._handles.get(account)
        if handle is not None and handle.is_moved:
            self._drop(account)
            handle = None
        if handle is None:
            handle = self._engine.connect(account, writes=True)
            self._handles[account] = handle
            while len(self._handles) > self._engine.handles_per_writer:
                self._handles.popitem(last=False)[1].close()
        else:
            self._handles.move_to_end(account)
        return handle

    def _drop(self, account: AccountId) -> None:
        """Close the account's handle; the next use opens and checks the file anew."""
        handle = self._handles.pop(account, None)
        if handle is not None:
            handle.close()

    def drop(self, account: AccountId, reader: SqliteConnection | None, own: bool) -> None:
        """Close the reactor's handle, then perhaps our own; runs in this thread."""
        if reader is not None:
            reader.close()
        if own:
            self._drop(account)

    def _refused(self, error: Exception) -> Exception:
        """The error to hand back; what nobody foresaw is logged."""
        if isinstance(error, OSError):
            return disk_error(error)
        if not isinstance(error, MailError):
            self.log.failure("a store operation failed")
        return error


def _undone(handle: SqliteConnection, is_alone: bool) -> bool:
    """Undo the operation that failed; False if the whole transaction is lost with it."""
    if not handle.in_transaction:  # a full disk makes SQLite undo all of it by itself
        return False
    try:
        if is_alone:
            handle.run("ROLLBACK")
        else:
            handle.run("ROLLBACK TO operation")
            handle.run("RELEASE operation")
    except MailError:
        return False
    return True


def _refuse(jobs: Sequence[_Job], error: Exception) -> list[_Answer]:
    return [_Answer(job.deferred, error=error) for job in jobs]


class SqliteEngine:
    """`mailserver.store.engine.Engine` over SQLite; made and used on the reactor thread.

    Args:
        data: directory of the installation; `accounts/` and `spool/` are made in it.
        reactor: `IReactorTime` and `IReactorFromThreads`.
        bus: gets the events of what was committed; None for nobody.
        limits: of the store.
        now: seconds since 1970 UTC.
        writers: number of writer threads, 1 .. 16.

    Attributes:
        watcher: called on the reactor with each committed transaction, or None.
    """

    def __init__(
        self,
        data: Path,
        reactor: Any,
        bus: IEventBus | None,
        limits: StoreLimits,
        now: Callable[[], float],
        writers: int = 4,
    ) -> None:
        if not 1 <= writers <= 16:
            raise ValueError(f"there may be 1 to 16 writer threads, not {writers}")
        self.accounts_directory = data / "accounts"
        self.spool_directory = data / "spool"
        make_directory(self.accounts_directory)
        make_directory(self.spool_directory)
        remove_leftovers(self.spool_directory, now())
        self.reserve = Reserve(data / "reserve", limits.reserve)
        self.limits = limits
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_readers = max(4, min(READERS, descriptors // 16))
        self.handles_per_writer = max(4, self._most_readers // writers)
        self._reactor = reactor
        self._now = now
        self._stopped = False
        self._readers: OrderedDict[AccountId, SqliteConnection] = OrderedDict()
        self._results = _Results(reactor, self._committed)
        self._bus = bus
        self.watcher: Callable[[Transaction], None] | None = None
        self._writers = [
            _Writer(self, f"store-writer-{number}", self._results) for number in range(writers)
        ]
        self._workers: dict[str, _Writer] = {}
        for writer in self._writers:
            writer.start()

    # -- where things are ---------------------------------------------------

    def directory(self, account: AccountId) -> Path:
        """The directory of an account, whether or not it exists (S8).

        Raises:
            MailError: NONEXISTENT for what cannot be an account's id.
        """
        return Path(self._directory(account))

    def _directory(self, account: AccountId) -> str:
        if not _ACCOUNT_ID.fullmatch(account):
            raise MailError(ErrorKind.NONEXISTENT, "no such account")
        return f"{self.accounts_directory}/{account[:2]}/{account}"  # a tenth of a Path's time

    def database(self, account: AccountId) -> Path:
        """The database file of an account."""
        return self.directory(account) / DATABASE

    def blobs(self, account: AccountId) -> Blobs:
        """The files of an account."""
        return Blobs(self._directory(account))

    def accounts(self) -> list[AccountId]:
        """List the accounts that have data, ascending."""
        found = (path.parent.name for path in self.accounts_directory.glob(f"??/*/{DATABASE}"))
        return sorted(AccountId(name) for name in found if _ACCOUNT_ID.fullmatch(name))

    def size(self, account: AccountId) -> int:
        """Octets on disk of an account."""
        directory = self.directory(account)
        if not directory.is_dir():
            raise MailError(ErrorKind.NONEXISTENT, "no such account")
        return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

    def transaction(self, account: AccountId, connection: Connection) -> Transaction:
        """What an operation gets; made by the thread that runs it."""
        return Transaction(
            account, connection, self.blobs(account), int(self._now()), self.limits, self._foreign
        )

    @contextmanager
    def _foreign(self, account: AccountId) -> Iterator[tuple[Connection, Blobs]]:
        connection = SqliteConnection(self.database(account), account, writes=False)
        try:
            with connection.snapshot():
                yield connection, self.blobs(account)
        finally:
            connection.close()

    # -- reading ------------------------------------------------------------

    async def read(self, account: AccountId, function: Callable[[Connection], T]) -> T:
        """Run a short read on the reactor, at once."""
        try:
            return function(self._reader(account))
        except MailError as error:
            if error.kind in (ErrorKind.CORRUPT, ErrorKind.UNAVAILABLE):
                self._retire(account)
            raise

    def connect(self, account: AccountId, *, writes: bool) -> SqliteConnection:
        """Open a handle, with what room is kept back if there is no other (R3)."""
        path = self.database(account)
        try:
            return SqliteConnection(path, account, writes=writes)
        except MailError as error:
            if error.kind is not ErrorKind.DISK_FULL:
                raise
        with self.reserve.lent():
            return SqliteConnection(path, account, writes=writes)

    def _reader(self, account: AccountId) -> SqliteConnection:
        reader = self._readers.get(account)
        if reader is not None and reader.is_moved:
            self._retire(account)
            reader = None
        if reader is None:
            if self._stopped:
                raise MailError(ErrorKind.UNAVAILABLE, "the mail store is shutting down")
            reader = self.connect(account, writes=False)
            self._readers[account] = reader
            while len(self._readers) > self._most_readers:
                self._retire(next(iter(self._readers)))
        else:
            self._readers.move_to_end(account)
        return reader

    def _retire(self, account: AccountId) -> None:
        """Let the writer thread close the reactor's handle and then its own."""
        reader = self._readers.pop(account, None)
        if reader is not None:
            writer = self._writer(account)
            self._submit(account, action=lambda: writer.drop(account, reader, own=True))

    # -- writing ------------------------------------------------------------

    def _writer(self, account: AccountId) -> _Writer:
        return self._writers[crc32(account.encode()) % len(self._writers)]

    def _submit(
        self,
        account: AccountId,
        operation: Operation | None = None,
        action: Callable[[], Any] | None = None,
        writer: _Writer | None = None,
        makes_room: bool = False,
        is_synced: bool = True,
    ) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        job = _Job(account, operation, action, deferred, makes_room, is_synced)
        (writer or self._writer(account)).jobs.put(job)
        return deferred

    def _committed(self, transaction: Transaction) -> None:
        """Tell, on the reactor, what became durable; before its caller hears of it."""
        if self._bus is not None:
            for event in transaction.events:
                self._bus.publish(event)
        if self.watcher is not None:
            self.watcher(transaction)

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise MailError(ErrorKind.UNAVAILABLE, "the mail store is shutting down")

    async def write(
        self,
        account: AccountId,
        operation: Callable[[Transaction], T],
        *,
        makes_room: bool = False,
        is_synced: bool = True,
    ) -> T:
        """Run an operation in the account's writer thread; see `Engine.write`."""
        self._refuse_when_stopped()
        result: T = await self._submit(
            account, operation, makes_room=makes_room, is_synced=is_synced
        )
        return result

    async def create(
        self, account: AccountId, name: str, fill: Callable[[Transaction], None]
    ) -> None:
        """Make a new account: built aside, synced, and put in place by one rename."""
        self._refuse_when_stopped()
        await self._submit(account, action=lambda: self._create(account, name, fill))

    def _create(self, account: AccountId, name: str, fill: Callable[[Transaction], None]) -> None:
        directory = self.directory(account)
        if directory.exists():
            raise MailError(ErrorKind.ALREADY_EXISTS, "the account exists already", subject=name)
        make_directory(directory.parent)
        aside = directory.with_name(f".new-{account}")
        if aside.exists():  # left by a crash
            shutil.rmtree(aside)
        os.mkdir(aside, 0o700)
        try:
            self._make_database(aside / DATABASE, account, name, fill)
            sync_directory(aside)
            os.rename(aside, directory)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_directory(directory.parent)

    def _make_database(
        self,
        path: Path,
        account: AccountId,
        name: str,
        fill: Callable[[Transaction], None],
    ) -> None:
        """Write a database that nobody sees yet: without a log, one sync at the end."""
        descriptor = open_new(path)
        try:
            connection = SqliteConnection.unsafe(path)
            now = int(self._now())
            try:
                connection.run("BEGIN")
                for number, script in enumerate(schema_steps(), 1):
                    for statement in statements(script):
                        connection.run(statement)
                    connection.run("INSERT INTO schema VALUES (?, ?)", (number, now))
                connection.run("INSERT INTO account VALUES (?, ?, ?)", (account, name, now))
                fill(self.transaction(account, connection))
                connection.run("COMMIT")
                connection.run("PRAGMA journal_mode = WAL")  # the file remembers it
            finally:
                connection.close()
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    async def remove(self, account: AccountId) -> None:
        """Remove an account's data: out of sight by one rename, then file by file."""
        self._refuse_when_stopped()
        reader = self._readers.pop(account, None)
        await self._submit(account, action=lambda: self._remove(account, reader))

    def _remove(self, account: AccountId, reader: SqliteConnection | None) -> None:
        self._writer(account).drop(account, reader, own=True)
        directory = self.directory(account)
        aside = directory.with_name(f".gone-{account}")
        shutil.rmtree(aside, ignore_errors=True)  # left by a crash
        try:
            os.rename(directory, aside)
        except FileNotFoundError:
            raise MailError(ErrorKind.NONEXISTENT, "no such account") from None
        sync_directory(directory.parent)
        shutil.rmtree(aside, ignore_errors=True)

    # -- other work ---------------------------------------------------------

    async def work(self, function: Callable[[], T], thread: str = "messages") -> T:
        """Run a computation in the thread of that name, started when first needed."""
        self._refuse_when_stopped()
        if thread not in self._workers:
            self._workers[thread] = _Writer(self, f"store-{thread}", self._results)
            self._workers[thread].start()
        result: T = await self._submit(AccountId(""), action=function, writer=self._workers[thread])
        return result

    async def pause(self) -> None:
        """Come back in the next reactor turn."""
        turn: Deferred[None] = Deferred()
        self._reactor.callLater(0, turn.callback, None)
        await turn

    async def stop(self) -> None:
        """Finish what is queued, then close everything; may be called twice."""
        if self._stopped:
            return
        for account in list(self._readers):
            self._retire(account)
        self._stopped = True
        threads = [*self._writers, *self._workers.values()]
        await gatherResults(
            [self._submit(AccountId(""), action=lambda: None, writer=t) for t in threads],
            consumeErrors=True,
        )
        for thread in threads:
            thread.jobs.put(None)
        for thread in threads:
            thread.join()
