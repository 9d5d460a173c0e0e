"""`Engine` over SQLite: where things are, who reads, who writes; see the package."""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from twisted.internet.defer import Deferred, gatherResults

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IEventBus
from mailserver.model.ids import AccountId
from mailserver.store.blobs import Blobs, make_directory, open_new, sync_directory
from mailserver.store.engine import Connection, Transaction
from mailserver.store.limits import StoreLimits
from mailserver.store.reserve import Reserve
from mailserver.store.spool import remove_leftovers
from mailserver.store.sqlite import schema
from mailserver.store.sqlite.connection import DATABASE, SqliteConnection
from mailserver.store.sqlite.writers import (
    Handles,
    Job,
    Results,
    Writer,
    is_disk_full,
    refused,
    undone,
)

T = TypeVar("T")

ACCOUNTS_OPEN = 256
"""Accounts whose handles stay open; a handle costs 3 descriptors and about 80 KB.
Fewer if the process may not have so many descriptors: its sessions need most of them."""

_ACCOUNT_ID = re.compile(r"[0-9a-z]{26}")


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
        self._most_open = max(4, min(ACCOUNTS_OPEN, descriptors // 16))
        self._reactor = reactor
        self._now = now
        self._stopped = False
        self._open: OrderedDict[AccountId, Handles] = OrderedDict()
        self._results = Results(reactor, self._committed)
        self._bus = bus
        self.watcher: Callable[[Transaction], None] | None = None
        self._writers = [
            Writer(self, f"store-writer-{number}", self._results) for number in range(writers)
        ]
        self._workers: dict[str, Writer] = {}
        self._nobody = Handles(AccountId(""))
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

    # -- handles ------------------------------------------------------------

    def connect(self, account: AccountId, *, writes: bool) -> SqliteConnection:
        """Open a handle, with what room is kept back if there is no other (R3)."""
        path = self.database(account)
        try:
            return SqliteConnection(path, account, writes=writes)
        except MailError as error:
            if not is_disk_full(error):
                raise
        with self.reserve.lent():
            return SqliteConnection(path, account, writes=writes)

    def _handles(self, account: AccountId) -> Handles:
        """An account's handles, as the ones used last; one that nobody uses may go for it."""
        found = self._open.get(account)
        if found is not None:
            self._open.move_to_end(account)
            return found
        if len(self._open) >= self._most_open:
            idle = next((each for each in self._open.values() if not each.waiting), None)
            if idle is not None:
                del self._open[idle.account]
                self._close(idle)
        found = self._open[account] = Handles(account)
        return found

    def _close(self, handles: Handles) -> Deferred[None]:
        """Let the writer thread close the reactor's handle and then its own."""
        reader, handles.reader = handles.reader, None

        def close() -> None:
            if reader is not None:
                reader.close()
            handles.drop_writer()

        return self._submit(Job(handles, action=close))

    # -- reading ------------------------------------------------------------

    async def read(self, account: AccountId, function: Callable[[Connection], T]) -> T:
        """Run a short read on the reactor, at once."""
        handles = self._handles(account)
        try:
            return function(self._reader(handles))
        except MailError as error:
            if error.kind in (ErrorKind.CORRUPT, ErrorKind.UNAVAILABLE) and handles.reader:
                self._close(handles)
            raise

    def _reader(self, handles: Handles) -> SqliteConnection:
        if handles.reader is not None and handles.reader.is_moved:
            self._close(handles)
        if handles.reader is None:
            if self._stopped:
                raise MailError(ErrorKind.UNAVAILABLE, "the mail store is shutting down")
            handles.reader = self.connect(handles.account, writes=False)
        return handles.reader

    # -- writing ------------------------------------------------------------

    def _writer(self, account: AccountId) -> Writer:
        return self._writers[crc32(account.encode()) % len(self._writers)]

    def _submit(self, job: Job, writer: Writer | None = None) -> Deferred[Any]:
        job.handles.waiting += 1
        (writer or self._writer(job.handles.account)).jobs.put(job)
        return job.deferred

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
        is_short: bool = False,
    ) -> T:
        """Run an operation, a short one here if it can begin at once, others in the
        account's writer thread; see `Engine.write`."""
        self._refuse_when_stopped()
        job = Job(self._handles(account), operation, makes_room=makes_room, is_synced=is_synced)
        if is_short:
            self._begin(job)
        result: T = await self._submit(job)
        return result

    def _begin(self, job: Job) -> None:
        """Run an operation up to its COMMIT, or leave all of it to the thread.

        Raises:
            MailError: what the operation raised; nothing of it is done.
        """
        handles = job.handles
        handle = handles.writer
        if handles.waiting or handle is None or handle.is_moved:
            return
        try:
            handle.sync_commits(job.is_synced)
            handle.begin_writing()
        except MailError:
            return  # another process writes; what else there is, the thread will meet it
        transaction = self.transaction(handles.account, handle)
        assert job.operation is not None
        try:
            job.value = job.operation(transaction)
        except Exception as error:  # noqa: BLE001  raised again, and logged by refused
            answer = refused(error)
            is_undone = undone(handle, is_alone=True)
            if is_disk_full(answer):
                return  # the thread tries again, and knows when to lend the reserve
            if not is_undone:
                self._close(handles)  # the next use opens and checks the file anew (R4)
            raise answer from None
        job.begun = transaction

    async def create(
        self, account: AccountId, name: str, fill: Callable[[Transaction], None]
    ) -> None:
        """Make a new account: built aside, synced, and put in place by one rename."""
        self._refuse_when_stopped()
        await self._submit(
            Job(self._handles(account), action=lambda: self._create(account, name, fill))
        )

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
                for number, script in enumerate(schema.steps(), 1):
                    for statement in schema.statements(script):
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
        self._close(self._handles(account))
        await self._submit(Job(self._handles(account), action=lambda: self._remove(account)))

    def _remove(self, account: AccountId) -> None:
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
            self._workers[thread] = Writer(self, f"store-{thread}", self._results)
            self._workers[thread].start()
        result: T = await self._submit(Job(self._nobody, action=function), self._workers[thread])
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
        for handles in self._open.values():
            self._close(handles)
        self._stopped = True
        threads = [*self._writers, *self._workers.values()]
        await gatherResults(
            [self._submit(Job(self._nobody, action=lambda: None), thread) for thread in threads],
            consumeErrors=True,
        )
        for thread in threads:
            thread.jobs.put(None)
        for thread in threads:
            thread.join()
