"""The decoded, folded text of messages, kept for SEARCH beside the mail database.

Theory of operation. Each account has a second database, `text.sqlite`, with one row per
message: header lines and body, folded by `mailserver.mime.text.fold`, uncompressed. It is
written by one thread of its own, some time after messages came in and in small batches;
what is not there yet when it is searched is decoded then. All of it can be made anew: a
damaged file is removed, and a restored mail database comes without it.

Invariants:

- A search is exact whatever this file holds or lacks.
- No writer thread waits for it, and the reactor never touches it.
"""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import attrs
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.text import SearchText, search_text
from mailserver.model.ids import AccountId
from mailserver.store.blobs import open_new
from mailserver.store.engine import Connection
from mailserver.store.sql import messages as sql
from mailserver.store.sqlite.connection import SqliteConnection
from mailserver.store.sqlite.engine import SqliteEngine

DATABASE = "text.sqlite"
THREAD = "texts"

FORMAT = 2
"""Layout of the file and of the folded text; another one is made anew."""

BATCH = 50
"""Messages decoded in one go; a search that comes meanwhile waits for that long."""

QUIET = 2.0
"""Seconds without mail, and with little else to do, before it is read, so that this slows
down hardly anybody of this process, least of all who brings it."""

LITTLE = 0.25
"""Share of the time that the reactor was at work: below it there is little to do. A client that
fetches all of a mailbox, or commands without a pause, takes more."""

PATIENCE = 120.0
"""Seconds that mail which goes on coming in, or other work, puts the first account's turn off at
most."""

BATCH_DELAY = 0.05
"""Seconds between batches, in which the reactor has the interpreter to itself."""

BUSY_DELAY = 0.25
"""Seconds between batches, each of one account, while there is no quiet: up to 200 messages of 4
accounts per second, for less than a tenth of a processor."""

OPEN_FILES = 16

_SCHEMA = """
CREATE TABLE text (message INTEGER PRIMARY KEY, header BLOB, envelope BLOB, body BLOB);
CREATE TABLE state (account TEXT NOT NULL, format INTEGER NOT NULL, done INTEGER NOT NULL);
"""


@attrs.frozen
class Probe:
    """What to look for in a message's text; needles are folded UTF-8.

    Attributes:
        needle: to be found.
        in_header, in_body: where.
        field: only in header fields of this name (folded, UTF-8); None for anywhere.
        in_envelope: in the field as the envelope has it.
    """

    needle: bytes
    in_header: bool
    in_body: bool
    field: bytes | None = None
    in_envelope: bool = False

    def holds(self, header: bytes, body: bytes) -> bool:
        """Say whether the needle is there (T33); an empty one asks whether the field is."""
        if self.in_body and self.needle in body:
            return True
        if not self.in_header or self.needle not in header:
            return False
        if self.field is None:
            return True
        return any(self.needle in value for value in _values(header, self.field))


_Row = tuple[int, bytes, bytes, bytes]
"""Message, header, envelope, body."""

_HEADER = ("header", "iif(envelope = x'', header, envelope)")
"""Where a field is looked for: as it is written; as the envelope has it."""


def _values(header: bytes, field: bytes) -> Iterator[bytes]:
    """The values of the fields of a name, in lines `name: value`."""
    start = b"\n" + field + b":"
    lines = b"\n" + header
    at = lines.find(start)
    while at >= 0:
        begin = at + len(start)
        end = lines.find(b"\n", begin)
        yield lines[begin : end if end >= 0 else len(lines)].removeprefix(b" ")
        at = lines.find(start, begin)


class Texts:
    """The texts of all accounts; its public methods are for the reactor thread.

    Args:
        engine: whose accounts; lends the thread.
        reactor: to wait between batches.
        eager: decode what comes in soon after; False leaves it to the first search, for
            programs that only write.
    """

    _log = Logger()

    def __init__(self, engine: SqliteEngine, reactor: IReactorTime, *, eager: bool = True) -> None:
        self._engine = engine
        self._reactor = reactor
        self._eager = eager
        self._files: OrderedDict[AccountId, _File] = OrderedDict()
        self._arrived: OrderedDict[AccountId, None] = OrderedDict()
        self._left: set[AccountId] = set()
        self._call: Any = None
        self._working = False
        self._busy = False  # more changed since the last look, or since the last batch began
        self._waited_from = (0.0, 0.0)  # seconds, and seconds at work, when the wait began
        self._put_off = 0.0  # seconds by which what waits was put off
        self._stopped = False

    async def scan(
        self, account: AccountId, messages: Sequence[int], probe: Probe
    ) -> frozenset[int]:
        """Find the messages for which the probe holds.

        Args:
            messages: ids, ascending; a slice of the mailbox, not all of a large one.
        """
        return await self._engine.work(partial(self._scan, account, messages, probe), THREAD)

    def changed(self, account: AccountId, arrived: bool, left: bool) -> None:
        """Note that an account got or lost messages; it is caught up with later."""
        if not self._eager or self._stopped:
            return
        if left:
            self._left.add(account)
        if arrived or left:
            self._arrived[account] = None
            self._busy = self._working or self._call is not None
            self._later(QUIET)

    def _later(self, delay: float) -> None:
        if self._call is None and not self._working and not self._stopped:
            self._call = self._reactor.callLater(delay, self._next)
            self._waited_from = self._reactor.seconds(), thread_time()

    def _next(self) -> None:
        self._call = None
        if self._stopped:
            return
        if not self._arrived:
            self._put_off = 0.0
            return
        is_busy = self._busy or self._has_much_to_do
        self._busy = False
        if is_busy and self._put_off < PATIENCE:
            self._put_off += QUIET
            self._later(QUIET)
            return
        account, _ = self._arrived.popitem(last=False)
        left = account in self._left
        self._left.discard(account)
        self._working = True

        async def catch_up() -> None:
            more = await self._engine.work(partial(self._catch_up, account, left), THREAD)
            if more:
                self._arrived[account] = None

        def failed(failure: Any) -> None:
            self._log.warn("texts of {account}: {why}", account=account, why=failure.value)

        working = ensureDeferred(catch_up())
        working.addErrback(failed)
        working.addBoth(lambda _: self._go_on(is_busy))

    def _go_on(self, is_busy: bool) -> None:
        self._working = False
        if self._arrived:
            self._later(BUSY_DELAY if is_busy or self._busy else BATCH_DELAY)
        else:
            self._put_off = 0.0

    @property
    def _has_much_to_do(self) -> bool:
        """The reactor was at work for more than `LITTLE` of the wait that ends now."""
        began, at_work = self._waited_from
        return thread_time() - at_work > LITTLE * (self._reactor.seconds() - began)

    async def drop(self, account: AccountId) -> None:
        """Close an account's file, before the account is removed."""
        self._arrived.pop(account, None)
        await self._engine.work(partial(self._close, account), THREAD)

    async def stop(self) -> None:
        """Close all files."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._files:
            await self._engine.work(self._close_all, THREAD)

    # -- in the thread ------------------------------------------------------

    def _file(self, account: AccountId) -> _File:
        file = self._files.get(account)
        if file is None:
            path = self._engine.directory(account) / DATABASE
            file = self._files[account] = _File(path, account, self._engine)
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        else:
            self._files.move_to_end(account)
        return file

    def _close(self, account: AccountId) -> None:
        file = self._files.pop(account, None)
        if file is not None:
            file.close()

    def _close_all(self) -> None:
        for account in list(self._files):
            self._close(account)

    def _scan(self, account: AccountId, messages: Sequence[int], probe: Probe) -> frozenset[int]:
        try:
            return self._file(account).scan(messages, probe)
        except sqlite3.DatabaseError as error:
            self._start_again(account, error)
            return self._file(account).scan(messages, probe)

    def _catch_up(self, account: AccountId, left: bool) -> bool:
        try:
            file = self._file(account)
            if left:
                file.forget_removed()
            return file.decode_batch()
        except sqlite3.DatabaseError as error:
            self._start_again(account, error)
            return True

    def _start_again(self, account: AccountId, error: sqlite3.DatabaseError) -> None:
        """Remove the file: whatever was wrong with it, nothing in it is the only copy."""
        self._log.warn("texts of {account} are made anew: {why}", account=account, why=error)
        self._close(account)
        remove(self._engine.directory(account) / DATABASE)


def remove(path: Path) -> None:
    """Remove a database with its log."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class _File:
    """The text file of one account, and the mail database that it is made from."""

    def __init__(self, path: Path, account: AccountId, engine: SqliteEngine) -> None:
        # First: an account that is gone must not get a file.
        self._mail = SqliteConnection(engine.database(account), account, writes=False)
        self._blobs = engine.blobs(account)
        try:
            self._text = self._open(path, account)
        except BaseException:
            self._mail.close()
            raise

    def _open(self, path: Path, account: AccountId) -> sqlite3.Connection:
        try:
            os.close(open_new(path))
        except FileExistsError:
            pass
        text = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            # Large pages keep a text in one piece. WAL without a sync per commit can lose
            # the newest rows, which are then decoded again, but not damage the file.
            text.execute("PRAGMA page_size = 16384")
            text.execute("PRAGMA journal_mode = WAL")
            text.execute("PRAGMA synchronous = NORMAL")
            text.execute("BEGIN IMMEDIATE")
            if not text.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchall():
                for statement in _SCHEMA.strip().splitlines():
                    text.execute(statement)
                text.execute("INSERT INTO state VALUES (?, ?, 0)", (account, FORMAT))
            text.execute("COMMIT")
            [state] = text.execute("SELECT account, format FROM state").fetchall()
            if state != (account, FORMAT):
                raise sqlite3.DatabaseError("it is another account's, or of another format")
        except BaseException:
            text.close()
            raise
        return text

    def close(self) -> None:
        """Close both."""
        self._text.close()
        self._mail.close()

    def scan(self, messages: Sequence[int], probe: Probe) -> frozenset[int]:
        """See `Texts.scan`."""
        columns = ", ".join(
            (
                _HEADER[probe.in_envelope] if probe.in_header else "x''",
                "body" if probe.in_body else "x''",
            )
        )
        statement = f"SELECT message, {columns} FROM text WHERE message "
        arguments: tuple[Any, ...]
        if messages[-1] - messages[0] < 2 * len(messages):
            statement, arguments = statement + "BETWEEN ? AND ?", (messages[0], messages[-1])
        else:
            statement += "IN (SELECT value FROM json_each(?))"
            arguments = (json.dumps(list(messages)),)
        found: set[int] = set()
        seen: set[int] = set()
        holds = probe.holds
        for message, header, body in self._text.execute(statement, arguments):
            seen.add(message)
            if holds(header, body):
                found.add(message)
        missing = [message for message in messages if message not in seen]
        decode = self._decode if probe.in_body else self._decode_headers
        for at in range(0, len(missing), BATCH):
            for message, header, envelope, body in decode(missing[at : at + BATCH]):
                if holds((probe.in_envelope and envelope) or header, body):
                    found.add(message)
        return frozenset(found)

    def decode_batch(self) -> bool:
        """Decode the next messages in the order in which they came; False at the end."""
        [(done,)] = self._text.execute("SELECT done FROM state").fetchall()
        ids = [row[0] for row in self._mail.rows(sql.NEXT_MESSAGES, (done, BATCH))]
        if ids:
            known = {
                row[0]
                for row in self._text.execute(
                    "SELECT message FROM text WHERE message BETWEEN ? AND ?", (ids[0], ids[-1])
                )
            }
            self._decode([number for number in ids if number not in known])
            self._text.execute("UPDATE state SET done = max(done, ?)", (ids[-1],))
        return len(ids) == BATCH

    def forget_removed(self) -> None:
        """Remove the texts of messages that are no more."""
        there = {row[0] for row in self._mail.rows(sql.ALL_MESSAGES)}
        gone = [
            (row[0],)
            for row in self._text.execute("SELECT message FROM text")
            if row[0] not in there
        ]
        self._text.execute("BEGIN IMMEDIATE")
        self._text.executemany("DELETE FROM text WHERE message = ?", gone)
        self._text.execute("COMMIT")

    def _decode(self, messages: Iterable[int]) -> list[_Row]:
        """Decode messages and keep their texts, if the disk has room for them."""
        rows = []
        for message in messages:
            text = self._decoded(self._mail, message)
            if text is not None:
                kept = _octets(text.header), _octets(text.envelope), _octets(text.body)
                rows.append((message, *kept))
        try:
            self._text.execute("BEGIN IMMEDIATE")
            self._text.executemany("INSERT OR IGNORE INTO text VALUES (?, ?, ?, ?)", rows)
            self._text.execute("COMMIT")
        except sqlite3.OperationalError:  # full, or another process holds it too long
            if self._text.in_transaction:
                self._text.execute("ROLLBACK")
        return rows

    def _decode_headers(self, messages: Sequence[int]) -> list[_Row]:
        """Decode the headers alone, which is a quarter of the work; what is kept is whole, so
        these are not."""
        rows = []
        cut = []
        found = self._mail.rows(sql.HEADERS, (json.dumps(list(messages)),))
        for message, header, size in found:
            if header is None or len(header) < size:
                cut.append(message)
            else:
                text = search_text(header)
                rows.append((message, _octets(text.header), _octets(text.envelope), b""))
        return rows + self._decode(cut) if cut else rows

    def _decoded(self, mail: Connection, message: int) -> SearchText | None:
        """The text of a message; empty if its octets are damaged, None if it is gone."""
        row = mail.row(sql.OCTETS_OR_FILE, (message,))
        if row is None:
            return None
        header, prefix_size, digest, rest = row
        if digest is None:
            return search_text(header + (rest or b""))
        try:
            descriptor = self._blobs.open(digest)
        except MailError as error:
            if error.kind is not ErrorKind.CORRUPT:
                raise
            return SearchText("", "", "")
        try:
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as octets:
                text = search_text(octets)
        finally:
            os.close(descriptor)
        if prefix_size:
            before = search_text(header[:prefix_size] + b"\r\n")
            text = attrs.evolve(text, header=before.header + text.header)
        return text


def _octets(text: str) -> bytes:
    """Text as it is kept; lone surrogates, which no needle has, do not stop it."""
    return text.encode("utf-8", "replace")
