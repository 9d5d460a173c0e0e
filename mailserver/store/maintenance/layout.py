"""Where the files of an installation lie, and how one account's are replaced.

A database is replaced by: the old one linked aside, its log removed, the new one renamed
into place, the shared memory file removed. A crash before the last step leaves a shared
memory file without a log, which the store refuses to open, so nobody ever sees a half; the
command is then run again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mailserver.errors import ErrorKind, MailError
from mailserver.model.ids import AccountId
from mailserver.store import texts
from mailserver.store.blobs import sync_directory

DIRECTORY_DATABASE: Final = "directory.sqlite"
ACCOUNT_ID: Final = re.compile(r"[0-9a-z]{26}")

_OPENED = 128
"""The octet of the shared memory file that every open handle has a lock on (os_unix.c of
SQLite calls it the dead man's switch)."""


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
def exclusive(database: Path) -> Iterator[None]:
    """Have a database for oneself; others that open it meanwhile are refused.

    SQLite must not open this database in this process inside the block. Who has replaced
    the database calls `reopen` afterwards.

    Raises:
        MailError: IN_USE if another process has it open.
    """
    shared = database.with_name(database.name + "-shm")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    made = not shared.exists()
    descriptor = os.open(shared, flags, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OPENED)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise MailError(
                ErrorKind.IN_USE,
                "the account is open in another process; stop the server and run this again",
            ) from None
        yield
    except BaseException:
        if made:  # or the log would be missed
            shared.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


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


def reopen(database: Path) -> None:
    """Let others open a database again that was replaced; after the end of `exclusive`."""
    database.with_name(database.name + "-shm").unlink(missing_ok=True)
    sync_directory(database.parent)
