"""Where the files of an installation lie, and how one account's are replaced.

A database is replaced by: the old one linked aside, its log removed, the new one renamed
into place; at the end of `exclusive` the shared memory file goes. A crash before leaves a
shared memory file without a log, which the store refuses to open, so nobody ever sees a
half; the command is then run again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mailserver.errors import ErrorKind, MailError
from mailserver.model.ids import AccountId
from mailserver.store import texts
from mailserver.store.blobs import sync_directory
from mailserver.store.sqlite.connection import log_is_lost

DIRECTORY_DATABASE: Final = "directory.sqlite"
ACCOUNT_ID: Final = re.compile(r"[0-9a-z]{26}")

_OPENED = 128
"""The octet of the shared memory file that every open handle has a lock on (os_unix.c of
SQLite calls it the dead man's switch)."""

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux


def account_directory(data: Path, account: str) -> Path:
    """The directory of an account.

    Raises:
        MailError: INVALID for what cannot be an account's id (S8).
    """
    if not ACCOUNT_ID.fullmatch(account):
        raise MailError(ErrorKind.INVALID, "that is not an account's id", subject=account)
    return data / "accounts" / account[:2] / account


def accounts_on_disk(data: Path) -> list[AccountId]:
    """The accounts that have a directory here, ascending, whatever is in it."""
    found = (path.name for path in (data / "accounts").glob("??/*") if path.is_dir())
    return sorted(AccountId(name) for name in found if ACCOUNT_ID.fullmatch(name))


@contextmanager
def exclusive(database: Path) -> Iterator[bool]:
    """Have a database for oneself; others that open it meanwhile are refused.

    SQLite must not open this database in this process inside the block.

    Yields:
        Whether its log had been lost before (`log_is_lost`).

    Raises:
        MailError: IN_USE if another process has it open.
    """
    lost = log_is_lost(database)
    before = _identity(database)
    shared = database.with_name(database.name + "-shm")
    made = not shared.exists()
    descriptor = os.open(shared, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            # Of the open file, not of the process: reading the same file elsewhere keeps it.
            lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _OPENED, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise MailError(
                ErrorKind.IN_USE,
                "the account is open in another process; stop the server and run this again",
            ) from None
        try:
            yield lost
        finally:
            if made or _identity(database) != before:
                shared.unlink(missing_ok=True)
                sync_directory(database.parent)
    finally:
        os.close(descriptor)


def _identity(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def replace(database: Path, new: Path, aside: str) -> Path:
    """Put a synced new database in place of one that is held by `exclusive`.

    Args:
        new: in the same directory.
        aside: what the old one's name gets at its end; it is kept with its log.

    Returns:
        Path of the old one; it may not exist when there was none.
    """
    directory = database.parent
    kept = database.with_name(f"{database.name}.{aside}")
    log = database.with_name(database.name + "-wal")
    for old, to in ((database, kept), (log, kept.with_name(kept.name + "-wal"))):
        try:
            os.link(old, to)
        except FileNotFoundError:
            continue
    sync_directory(directory)
    log.unlink(missing_ok=True)
    sync_directory(directory)
    os.rename(new, database)
    texts.remove(directory / texts.DATABASE)  # made anew from the new database
    sync_directory(directory)
    return kept
