"""The seam between the store's rules and the database below them.

The rules (`transactions`, `authorize`) are plain functions over a `Connection`; an engine
runs them: reading ones at once, writing ones as part of a transaction of its own making.
A second engine implements `Engine` and passes `tests/contract/`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import attrs

from mailserver.model.changes import Event, EventKind
from mailserver.model.ids import AccountId, MailboxId, MailboxRef, ModSeq
from mailserver.store.blobs import Blobs
from mailserver.store.limits import StoreLimits

T = TypeVar("T")
Row = tuple[Any, ...]


class Connection(Protocol):
    """One account's database. Statements have `?` for arguments.

    Every method raises `MailError`: DISK_FULL, CORRUPT or UNAVAILABLE.
    """

    def rows(self, statement: str, arguments: Sequence[Any] = ()) -> list[Row]:
        """Run a query and read it to its end."""
        ...

    def row(self, statement: str, arguments: Sequence[Any] = ()) -> Row | None:
        """Run a query and return its first row, or None."""
        ...

    def while_taken(
        self, statement: str, arguments: Sequence[Any], take: Callable[[Row], bool]
    ) -> None:
        """Run a query and give each row to `take`, up to the first that it does not take;
        what follows is not read."""
        ...

    def kept(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` gave for this key, if nothing was committed since; else ask it.

        Args:
            find: reads from this connection alone, whenever it is called: it must not hand on
                what was read before (a `kept` of its own looks again); and gives a value that
                never changes.
        """
        ...

    def run(self, statement: str, arguments: Sequence[Any] = ()) -> int:
        """Run a change; returns the number of rows changed."""
        ...

    def run_many(self, statement: str, arguments: Iterable[Sequence[Any]]) -> None:
        """Run a change once for each of the arguments."""
        ...

    def insert(self, statement: str, arguments: Sequence[Any] = ()) -> int:
        """Add a row; returns the number that the database gave it."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Make the queries inside see one state; must not be held over a reactor turn."""
        ...


@attrs.define
class Transaction:
    """What one writing operation works with; it commits whole or not at all.

    Attributes:
        account: whose data it is.
        connection: inside an open write transaction.
        blobs: the files of this account.
        now: seconds since 1970 UTC.
        limits: of the store.
        events: to be published once it is committed; `changed` adds to them.
        arrived: messages were kept.
        left: messages were removed.
        unused: digests of files to be removed after the commit, if nothing needs them.
        foreign: opens another account for reading.
    """

    account: AccountId
    connection: Connection
    blobs: Blobs
    now: int
    limits: StoreLimits
    foreign: Callable[[AccountId], AbstractContextManager[tuple[Connection, Blobs]]]
    events: list[Event] = attrs.Factory(list)
    unused: list[str] = attrs.Factory(list)
    arrived: bool = False
    left: bool = False

    def changed(self, mailbox: MailboxId, modseq: int, kind: EventKind) -> None:
        """Announce a change of a mailbox of this account."""
        self.events.append(Event(MailboxRef(self.account, mailbox), ModSeq(modseq), kind))


class Engine(Protocol):
    """Accounts' databases, and who reads and writes them."""

    async def read(self, account: AccountId, function: Callable[[Connection], T]) -> T:
        """Run a short read; completes without suspending where the engine can.

        Raises:
            MailError: NONEXISTENT (no such account), CORRUPT, UNAVAILABLE.
        """
        ...

    async def write(
        self,
        account: AccountId,
        operation: Callable[[Transaction], T],
        *,
        makes_room: bool = False,
        is_synced: bool = True,
        is_short: bool = False,
    ) -> T:
        """Run an operation in a transaction; durable, and its events published, when the
        awaitable returns. Operations of an account run one after the other, in order.

        Args:
            makes_room: it removes mail or leads to that, so it is done even when the disk
                is full (R3).
            is_synced: False lets a power cut (no crash of the program) take it back; what
                is committed after it and synced makes it durable too.
            is_short: it is done in a fraction of a millisecond and syncs no files.

        Raises:
            MailError: what the operation raised, then nothing of it is done; NONEXISTENT,
                CORRUPT, DISK_FULL, UNAVAILABLE.
        """
        ...

    def blobs(self, account: AccountId) -> Blobs:
        """The files of an account."""
        ...

    async def create(
        self, account: AccountId, name: str, fill: Callable[[Transaction], None]
    ) -> None:
        """Make the data of a new account, filled by `fill`; durable, whole or not at all.

        Raises:
            MailError: ALREADY_EXISTS.
        """
        ...

    async def remove(self, account: AccountId) -> None:
        """Remove the data of an account; durable.

        Raises:
            MailError: NONEXISTENT.
        """
        ...

    def accounts(self) -> list[AccountId]:
        """List the accounts that have data, ascending; from any thread."""
        ...

    def size(self, account: AccountId) -> int:
        """Octets on disk of an account; from any thread.

        Raises:
            MailError: NONEXISTENT.
        """
        ...

    async def work(self, function: Callable[[], T], thread: str = "messages") -> T:
        """Run a long computation off the reactor, in a thread that writes no mail.

        Args:
            thread: whose work it is; works of one name run one after the other.
        """
        ...

    async def pause(self) -> None:
        """Let other work of the reactor go first."""
        ...

    async def stop(self) -> None:
        """Finish what was asked for, refuse everything new, close all files."""
        ...
