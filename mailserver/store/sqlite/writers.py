"""The threads that write and sync; see the package's invariants."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailserver.errors import ErrorKind, MailError
from mailserver.model.ids import AccountId
from mailserver.store.blobs import disk_error
from mailserver.store.engine import Transaction
from mailserver.store.sqlite.connection import BUSY_SECONDS, Busy, SqliteConnection

if TYPE_CHECKING:
    from mailserver.store.sqlite.engine import SqliteEngine

Operation = Callable[[Transaction], Any]

RESULTS_PER_TURN = 32
"""Results that one reactor turn hands out, so that a full queue does not hold it up."""

FIRST_LOOK = 0.0005
LAST_LOOK = 0.005
"""Seconds between looks whether another process has done with an account; doubled by each.
SQLite's own grow to 0.1."""

_log = Logger()


@attrs.define(eq=False)
class Handles:
    """What is open of one account.

    Attributes:
        reader: the reactor's, or None.
        writer: its thread's while `waiting`, else the reactor's; opened by the thread.
        waiting: jobs that the thread was given and has not answered; the reactor counts.
    """

    account: AccountId
    reader: SqliteConnection | None = None
    writer: SqliteConnection | None = None
    waiting: int = 0

    def drop_writer(self) -> None:
        """Close the writing handle; the next use opens and checks the file anew."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close()


@attrs.define(eq=False)
class Job:
    """One thing asked of a writer thread.

    Attributes:
        handles: of the account; of none for work that is no account's.
        operation: to be run in a transaction of the account, or
        action: as it is, between transactions.
        deferred: fires on the reactor.
        makes_room, is_synced: see `Engine.write`.
        begun: the open transaction that the operation ran in already, on the reactor.
        value: what it gave.
    """

    handles: Handles
    operation: Operation | None = None
    action: Callable[[], Any] | None = None
    deferred: Deferred[Any] = attrs.Factory(Deferred)
    makes_room: bool = False
    is_synced: bool = True
    begun: Transaction | None = None
    value: Any = None


@attrs.define
class Answer:
    """What a job is answered: a value, or why not."""

    job: Job
    value: Any = None
    error: Exception | None = None
    transaction: Transaction | None = None


class Results:
    """Hands results back to the reactor, a few per turn, waking it once for many.

    Args:
        committed: told on the reactor of each transaction, before who asked for it.
    """

    def __init__(self, reactor: Any, committed: Callable[[Transaction], None]) -> None:
        self._reactor = reactor
        self._committed = committed
        self._lock = threading.Lock()
        self._ready: deque[Answer] = deque()
        self._awake = False

    def add(self, answers: Sequence[Answer]) -> None:
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
            answer.job.handles.waiting -= 1
        for answer in some:
            if answer.error is not None:
                answer.job.deferred.errback(answer.error)
                continue
            if answer.transaction is not None:
                try:
                    self._committed(answer.transaction)
                except Exception:  # noqa: BLE001  it is durable: its caller must hear so
                    _log.failure("a commit was not told to those who watch")
            answer.job.deferred.callback(answer.value)


class Writer(threading.Thread):
    """One writer thread and its queue."""

    def __init__(self, engine: SqliteEngine, name: str, results: Results) -> None:
        super().__init__(name=name, daemon=True)
        self._engine = engine
        self._results = results
        self._has_reserve = False
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._begun: deque[Job] = deque()  # taken from there, to be committed
        self._put_off: list[Job | None] = []  # taken from there, to be done after that

    def run(self) -> None:
        """Work until a None comes; what is queued before it is still done."""
        while True:
            batch, last = self._next_batch()
            by_account: dict[Handles, list[Job]] = {}
            for job in batch:
                by_account.setdefault(job.handles, []).append(job)
            for handles, jobs in by_account.items():
                self._serve(handles, jobs)
            if last:
                break

    def _next_batch(self) -> tuple[list[Job], bool]:
        if not self._put_off:
            self._sort(self.jobs.get())
        self._commit_begun()
        batch, self._put_off = self._put_off, []
        last = None in batch
        return [job for job in batch if job is not None], last

    def _commit_begun(self) -> None:
        """Take all jobs from the queue, commit what was begun on the reactor, and put the
        others off. What was begun is the first of its account that is not answered, so no
        order is changed."""
        with suppress(queue.Empty):
            while True:
                self._sort(self.jobs.get_nowait())
        while self._begun:  # also what comes to it meanwhile
            job = self._begun.popleft()
            self._answer(job.handles, [job], self._finish)

    def _sort(self, job: Job | None) -> None:
        if job is not None and job.begun is not None:
            self._begun.append(job)
        else:
            self._put_off.append(job)

    def _begin_writing(self, handle: SqliteConnection) -> None:
        """Begin a transaction as soon as no other process writes the account. Meanwhile what
        was begun on the reactor is committed: one of that process's threads may wait for it,
        and would do so for ever.

        Raises:
            Busy: it took `BUSY_SECONDS`.
        """
        end = time.monotonic() + BUSY_SECONDS
        pause = FIRST_LOOK
        while True:
            try:
                handle.begin_writing()
                return
            except Busy:
                if time.monotonic() > end:
                    raise
            self._commit_begun()
            time.sleep(pause)
            pause = min(2 * pause, LAST_LOOK)

    def _serve(self, handles: Handles, jobs: list[Job]) -> None:
        """Do one account's jobs in order: runs of operations share a transaction."""
        together: list[Job] = []
        for job in jobs:
            if job.action is None:
                together.append(job)
                continue
            if together:
                self._answer(handles, together, self._commit)
                together = []
            self._results.add([_acted(job)])
        if together:
            self._answer(handles, together, self._commit)

    def _answer(
        self,
        handles: Handles,
        jobs: list[Job],
        commit: Callable[[Handles, list[Job]], list[Answer]],
    ) -> None:
        """Answer each job, also if what was not foreseen fails: without this thread its
        accounts could not be written any more."""
        try:
            answers = commit(handles, jobs)
        except Exception as error:  # noqa: BLE001  answered, and logged by refused
            handles.drop_writer()
            answers = _refuse(jobs, refused(error))
        self._results.add(answers)

    def _commit(self, handles: Handles, jobs: list[Job]) -> list[Answer]:
        """One transaction for the jobs; returns what each is to be answered."""
        try:
            handle = self._opened(handles)
            handle.sync_commits(any(job.is_synced for job in jobs))
            self._begin_writing(handle)
        except Exception as error:  # noqa: BLE001  answered, and logged by refused
            return self._given_up(handles, jobs, refused(error))
        answers: list[Answer] = []
        unused: list[str] = []
        is_alone = len(jobs) == 1  # then undoing it is undoing all
        for job in jobs:
            assert job.operation is not None
            answer = Answer(job)
            answers.append(answer)
            transaction = self._engine.transaction(handles.account, handle)
            try:
                if not is_alone:
                    handle.run("SAVEPOINT operation")
                answer.value = job.operation(transaction)
                if not is_alone:
                    handle.run("RELEASE operation")
                answer.transaction = transaction
                unused += transaction.unused
            except Exception as error:  # noqa: BLE001  answered, and logged by refused
                answer.error = refused(error)
                if not undone(handle, is_alone):
                    return self._given_up(handles, jobs, answer.error)
                if is_alone:
                    return answers
        return self._committed(handles, handle, jobs, answers, unused)

    def _finish(self, handles: Handles, jobs: list[Job]) -> list[Answer]:
        """Commit what an operation did on the reactor."""
        [job] = jobs
        assert handles.writer is not None and job.begun is not None
        transaction, job.begun = job.begun, None
        answers = [Answer(job, job.value, transaction=transaction)]
        return self._committed(handles, handles.writer, jobs, answers, transaction.unused)

    def _committed(
        self,
        handles: Handles,
        handle: SqliteConnection,
        jobs: list[Job],
        answers: list[Answer],
        unused: list[str],
    ) -> list[Answer]:
        """Make it durable, then return the answers."""
        try:
            handle.commit()
        except MailError as error:
            account = handles.account
            _log.error(
                "a commit failed: {text}; account {account}", text=error.text, account=account
            )
            return self._given_up(handles, jobs, error)
        self._remove_files(handles, handle, unused)
        return answers

    def _given_up(self, handles: Handles, jobs: list[Job], error: Exception) -> list[Answer]:
        """The transaction is lost. With a full disk each operation is tried alone, and
        with the reserve if it makes room; after any other error nothing is tried again,
        and the file is opened and checked anew."""
        handles.drop_writer()
        if not is_disk_full(error):
            return _refuse(jobs, error)
        if len(jobs) > 1:
            return [answer for job in jobs for answer in self._commit(handles, [job])]
        if not jobs[0].makes_room or self._has_reserve:
            return _refuse(jobs, error)
        with self._engine.reserve.lent():
            self._has_reserve = True
            try:
                return self._commit(handles, jobs)
            finally:
                self._has_reserve = False

    def _remove_files(self, handles: Handles, handle: SqliteConnection, unused: list[str]) -> None:
        """Unlink files that no row names; under the write lock, because another process
        may be about to name the same octets again."""
        if not unused:
            return
        try:
            self._begin_writing(handle)
            for digest in unused:
                if handle.row("SELECT 1 FROM message WHERE digest = ?", (digest,)) is None:
                    self._engine.blobs(handles.account).unlink(digest)
            handle.commit()
        except (MailError, OSError) as error:
            _log.warn("files are left: {e}", e=error)
            if handle.in_transaction:
                handles.drop_writer()

    def _opened(self, handles: Handles) -> SqliteConnection:
        if handles.writer is not None and handles.writer.is_moved:
            handles.drop_writer()
        if handles.writer is None:
            handles.writer = self._engine.connect(handles.account, writes=True)
        return handles.writer


def is_disk_full(error: Exception) -> bool:
    """Say whether a full disk is the reason."""
    return isinstance(error, MailError) and error.kind is ErrorKind.DISK_FULL


def refused(error: Exception) -> Exception:
    """The error to hand back; what nobody foresaw is logged."""
    if isinstance(error, OSError):
        return disk_error(error)
    if not isinstance(error, MailError):
        _log.failure("a store operation failed")
    return error


def undone(handle: SqliteConnection, is_alone: bool) -> bool:
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


def _refuse(jobs: Sequence[Job], error: Exception) -> list[Answer]:
    return [Answer(job, error=error) for job in jobs]


def _acted(job: Job) -> Answer:
    assert job.action is not None
    answer = Answer(job)
    try:
        answer.value = job.action()
    except Exception as error:  # noqa: BLE001  answered, and logged by refused
        answer.error = refused(error)
    return answer
