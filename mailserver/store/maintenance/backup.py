"""Backups of a running installation, and their way back (R16).

A backup has the layout of a data directory, so that `verify` works on it; beside each
database lies `backup.json`, which says what it is a copy of and what its octets hash to.

Point in time: the write lock of an account is held for as long as it takes to give its
files second names and to begin a read at that state; then the lock goes, and the database
is copied from that read, the files from their second names, while mail comes and goes.

Incremental by account: an account whose database and log have not been written since the
last backup is not copied again, and no file is copied twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.model.ids import AccountId
from mailserver.store.blobs import Blobs, disk_error, make_directory, open_new, sync_directory
from mailserver.store.maintenance.layout import (
    DIRECTORY_DATABASE,
    account_directory,
    exclusive,
    replace,
)
from mailserver.store.maintenance.verify import Finding, Severity, open_read_only
from mailserver.store.spool import LEFT_SECONDS
from mailserver.store.sqlite.connection import BUSY_SECONDS, DATABASE, SqliteConnection, refusal
from mailserver.store.transactions.mailboxes import HIGHEST_FROM_CLOCK, new_id

NOTE: Final = "backup.json"
FORMAT: Final = 1
SETTLED_SECONDS: Final = 2.0
"""A file written later than this before it was looked at may be written again without its
time showing it; then its state is not remembered."""

_PIECE: Final = 1 << 20


@attrs.frozen
class BackedUp:
    """What became of one account.

    Attributes:
        copied: False if nothing had changed since the last backup.
        octets: copied, of database and files.
        files: copied.
        damaged: digests of files that are not what they should be; not copied.
    """

    account: AccountId
    copied: bool
    octets: int = 0
    files: int = 0
    damaged: tuple[str, ...] = ()


@attrs.frozen
class Restored:
    """What became of one account.

    Attributes:
        renumbered: mailboxes with a new UIDVALIDITY, because UIDs were handed out, or
            messages expunged, after the backup.
        kept: the database that was there before, or None.
    """

    account: AccountId
    renumbered: tuple[str, ...]
    kept: Path | None


# -- backup ------------------------------------------------------------------------------


def backup_directory(data: Path, target: Path) -> None:
    """Copy the directory of accounts, as it is at one moment.

    Raises:
        MailError: CORRUPT, UNAVAILABLE.
    """
    make_directory(target)
    with _told(), closing(open_read_only(data / DIRECTORY_DATABASE)) as source:
        source.execute("BEGIN")
        digest, size = _copy_database(source, target / DIRECTORY_DATABASE)
    _write_note(target, {"format": FORMAT, "directory": {"sha256": digest, "size": size}})


def backup_account(
    data: Path,
    target: Path,
    account: AccountId,
    advance: Callable[[int], None] = lambda octets: None,
    now: float | None = None,
) -> BackedUp:
    """Copy an account, as it is at one moment, unless it is as it was at the last backup.

    Args:
        target: directory of the backup; made if it is missing.
        advance: called with octets that were copied.
        now: seconds since 1970 UTC.

    Raises:
        MailError: NONEXISTENT, CORRUPT, UNAVAILABLE, DISK_FULL.
    """
    seconds = time.time() if now is None else now
    source = account_directory(data, account)
    into = account_directory(target, account)
    state = _state(source / DATABASE, seconds)
    note = read_note(into)
    unchanged = note is not None and state is not None and note.get("state") == state
    if unchanged and (into / DATABASE).exists():
        return BackedUp(account, copied=False)
    make_directory(into)
    with _told(), _moment(source, account) as (connection, names, second_names):
        digest, size = _copy_database(connection, into / DATABASE, keep_old=True)
        advance(size)
        copied, octets, damaged = _copy_files(names, second_names, Blobs(into), advance)
        os.rename(_fresh(into / DATABASE), into / DATABASE)
        sync_directory(into)
    _write_note(
        into,
        {
            "format": FORMAT,
            "account": account,
            "database": {"sha256": digest, "size": size},
            "made": int(seconds),
            "state": state,
        },
    )
    _remove_unnamed(into, names)
    return BackedUp(account, True, size + octets, copied, tuple(damaged))


def _state(database: Path, now: float) -> list[int] | None:
    """What changes whenever the database is written to; None if that cannot be told yet."""
    state: list[int] = []
    for suffix in ("", "-wal"):
        try:
            found = database.with_name(database.name + suffix).stat()
        except FileNotFoundError:
            if not suffix:
                raise MailError(
                    ErrorKind.NONEXISTENT, "there are no data of this account"
                ) from None
            continue
        if not found.st_size:
            continue
        if found.st_mtime > now - SETTLED_SECONDS:
            return None
        state += [found.st_ino, found.st_size, found.st_mtime_ns]
    return state


@contextmanager
def _moment(
    directory: Path, account: AccountId
) -> Iterator[tuple[sqlite3.Connection, list[str], Path]]:
    """One state of an account: a connection that sees it, the digests of its files, and a
    directory with second names for them, which no expunge takes away."""
    second_names = directory / f".backup-{os.getpid()}"
    for left in directory.glob(".backup-*"):
        if left == second_names or left.stat().st_mtime < time.time() - LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    path = directory / DATABASE
    reader = open_read_only(path)
    try:
        # Checks whose it is, and that nothing of it is lost (R6).
        writer = SqliteConnection(path, account, writes=True)
        try:
            writer.run("BEGIN IMMEDIATE")
            reader.execute("BEGIN")
            names = [
                row[0]
                for row in reader.execute("SELECT DISTINCT digest FROM message WHERE digest <> ''")
            ]
            second_names.mkdir(mode=0o700)
            _give_second_names(names, Blobs(directory), second_names)
            writer.run("ROLLBACK")
        finally:
            writer.close()
        yield reader, names, second_names
    finally:
        reader.close()
        shutil.rmtree(second_names, ignore_errors=True)


def _give_second_names(names: list[str], blobs: Blobs, into: Path) -> None:
    for digest in names:
        try:
            os.link(blobs.path(digest), into / digest)
        except FileNotFoundError:
            pass  # it is missing; told when it is to be copied
        except OSError:  # a file system without links
            shutil.copyfile(blobs.path(digest), into / digest)


def _fresh(path: Path) -> Path:
    return path.with_name(f".{path.name}.fresh")


def _copy_database(
    source: sqlite3.Connection, target: Path, *, keep_old: bool = False
) -> tuple[str, int]:
    """Copy what a connection sees; synced.

    Args:
        keep_old: leave the copy under its fresh name.

    Returns:
        SHA-256 in hexadecimal, and octets.
    """
    fresh = _fresh(target)
    fresh.unlink(missing_ok=True)
    descriptor = open_new(fresh)
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # to be read where nobody may write
        for suffix in ("-wal", "-shm"):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        os.fsync(descriptor)
        digest = _sha256(fresh)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if not keep_old:
        os.rename(fresh, target)
        sync_directory(target.parent)
    return digest, size


def _copy_files(
    names: list[str], second_names: Path, into: Blobs, advance: Callable[[int], None]
) -> tuple[int, int, list[str]]:
    """Copy the files that are not there yet; returns their number, octets, and the digests
    of those that are damaged."""
    copied = octets = 0
    damaged: list[str] = []
    directories: set[Path] = set()
    for digest in names:
        target = into.path(digest)
        source = second_names / digest
        if target.exists() and source.exists() and target.stat().st_size == source.stat().st_size:
            continue
        make_directory(target.parent)
        fresh = target.with_name(f".{digest}")
        fresh.unlink(missing_ok=True)
        try:
            size = _copy_file(source, fresh, digest)
        except (FileNotFoundError, ValueError):
            fresh.unlink(missing_ok=True)
            damaged.append(digest)
            continue
        os.rename(fresh, target)
        directories.add(target.parent)
        copied += 1
        octets += size
        advance(size)
    for directory in sorted(directories):
        sync_directory(directory)
    return copied, octets, damaged


def _copy_file(source: Path, fresh: Path, digest: str) -> int:
    """Copy a file and sync it; returns its octets.

    Raises:
        ValueError: its octets are not those of its name.
    """
    hashed = hashlib.sha256()
    size = 0
    with open(source, "rb") as octets, open(open_new(fresh), "wb") as copy:
        while piece := octets.read(_PIECE):
            hashed.update(piece)
            size += len(piece)
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
    if hashed.hexdigest() != digest:
        raise ValueError("damaged")
    return size


def _remove_unnamed(directory: Path, names: list[str]) -> None:
    """Remove the files that the new copy of the database does not name."""
    kept = set(names)
    for path in (directory / "files").glob("*/*"):
        if path.name not in kept:
            path.unlink()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_note(directory: Path, note: dict[str, Any]) -> None:
    fresh = _fresh(directory / NOTE)
    fresh.unlink(missing_ok=True)
    with open(open_new(fresh), "w", encoding="utf-8") as file:
        json.dump(note, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, directory / NOTE)
    sync_directory(directory)


def read_note(directory: Path) -> dict[str, Any] | None:
    """Read what a backup says of itself; None where there is none.

    Raises:
        MailError: CORRUPT.
    """
    try:
        note = json.loads((directory / NOTE).read_text("utf-8"))
        if not isinstance(note, dict) or note.get("format") != FORMAT:
            raise ValueError("of another format")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MailError(
            ErrorKind.CORRUPT, f"{NOTE} of the backup cannot be read: {error}"
        ) from None
    return note


def check_copy(directory: Path, account: AccountId | None) -> list[Finding]:
    """Look whether a database in a backup is what was copied; of an account, or of the
    directory of accounts with None."""
    name, key = (DATABASE, "database") if account else (DIRECTORY_DATABASE, "directory")
    try:
        note = read_note(directory)
        if note is None:
            raise MailError(ErrorKind.CORRUPT, f"its {NOTE} is missing: it was not finished")
        if account and note.get("account") != account:
            raise MailError(ErrorKind.CORRUPT, "it is the backup of another account")
        if note[key]["sha256"] != _sha256(directory / name):
            raise MailError(ErrorKind.CORRUPT, f"its {name} is not what was copied")
    except (OSError, KeyError, TypeError) as error:
        text = f"its {NOTE} or {name} cannot be used: {error!r}"
        return [Finding(Severity.ERROR, account, None, text, "back it up again")]
    except MailError as error:
        return [Finding(Severity.ERROR, account, None, error.text, "back it up again")]
    return []


@contextmanager
def _told() -> Iterator[None]:
    """Say what SQLite and the disk say in the store's words."""
    try:
        yield
    except sqlite3.Error as error:
        raise refusal(error) from error
    except OSError as error:
        raise disk_error(error) from error


# -- restore -----------------------------------------------------------------------------


def restore_directory(backup: Path, data: Path) -> bool:
    """Put the directory of accounts of a backup where there is none; False where there is.

    Raises:
        MailError: CORRUPT, DISK_FULL, UNAVAILABLE.
    """
    if (data / DIRECTORY_DATABASE).exists():
        return False
    _refuse(check_copy(backup, None))
    make_directory(data)
    with _told():
        _place_copy(backup / DIRECTORY_DATABASE, data / DIRECTORY_DATABASE)
    return True


def restore_account(
    backup: Path,
    data: Path,
    account: AccountId,
    *,
    renumber: bool = False,
    now: float | None = None,
) -> Restored:
    """Put an account back as it was; durable, whole or not at all.

    Where the account is there still, its database is kept aside, and a mailbox that has
    handed out UIDs since, or lost messages, gets a new UIDVALIDITY (T58).

    Args:
        renumber: give every mailbox a new UIDVALIDITY: where the account is lost, nobody
            else can know whether mail came after the backup.
        now: seconds since 1970 UTC.

    Raises:
        MailError: NONEXISTENT (not in the backup), CORRUPT (the backup is damaged), IN_USE
            (another process has the account open), DISK_FULL, UNAVAILABLE.
    """
    seconds = int(time.time() if now is None else now)
    source = account_directory(backup, account)
    target = account_directory(data, account)
    if not (source / DATABASE).exists():
        raise MailError(ErrorKind.NONEXISTENT, "the backup has no mail of this account")
    _refuse(check_copy(source, account))
    database = target / DATABASE
    with _told():
        if not target.exists():
            return Restored(account, _restore_new(source, target, renumber, seconds), None)
        had = _numbers(database)
        with exclusive(database):
            fresh = target / f".{DATABASE}.restored"
            renumbered = _prepare(source, target, fresh, had, renumber, seconds)
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
            kept = replace(database, fresh, f"replaced-{stamp}")
    return Restored(account, renumbered, kept if kept.exists() else None)


def _refuse(findings: list[Finding]) -> None:
    if findings:
        raise MailError(ErrorKind.CORRUPT, f"the backup cannot be used: {findings[0].what}")


def _restore_new(source: Path, target: Path, renumber: bool, now: int) -> tuple[str, ...]:
    """Build the account aside and put it in place by one rename."""
    aside = target.with_name(f".new-{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    make_directory(aside)
    renumbered = _prepare(source, aside, aside / DATABASE, {}, renumber, now)
    os.rename(aside, target)
    sync_directory(target.parent)
    return renumbered


def _prepare(
    source: Path,
    target: Path,
    fresh: Path,
    had: dict[str, _Numbers] | None,
    renumber: bool,
    now: int,
) -> tuple[str, ...]:
    """Make a database to be put in place, and put the files that it names there."""
    fresh.unlink(missing_ok=True)
    _place_copy(source / DATABASE, fresh)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = MEMORY")
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("BEGIN")
        rows = copy.execute("SELECT DISTINCT digest FROM message WHERE digest <> ''").fetchall()
        renumbered = _renumber(copy, had, renumber, now)
        copy.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = WAL")
    descriptor = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    into, out_of = Blobs(target), Blobs(source)
    for (digest,) in rows:
        path = into.path(digest)
        if path.exists():
            continue
        make_directory(path.parent)
        aside = path.with_name(f".{digest}")
        aside.unlink(missing_ok=True)
        try:
            _copy_file(out_of.path(digest), aside, digest)
        except (FileNotFoundError, ValueError):
            aside.unlink(missing_ok=True)
            continue  # the message is there without its octets; verify says so
        os.rename(aside, path)
        sync_directory(path.parent)
    return renumbered


def _place_copy(source: Path, target: Path) -> None:
    """Copy a file to a name that is not there yet; synced."""
    fresh = _fresh(target)
    fresh.unlink(missing_ok=True)
    with open(source, "rb") as octets, open(open_new(fresh), "wb") as copy:
        shutil.copyfileobj(octets, copy, _PIECE)
        copy.flush()
        os.fsync(copy.fileno())
    os.rename(fresh, target)
    sync_directory(target.parent)


@attrs.frozen
class _Numbers:
    """What a mailbox has given out."""

    uid_validity: int
    uid_next: int
    highest_modseq: int
    uids: frozenset[int]
    history: int


def _numbers(database: Path) -> dict[str, _Numbers] | None:
    """What the mailboxes of an account have given out, by name; None if it cannot be read,
    so that anything may have been."""
    try:
        with closing(open_read_only(database)) as mail:
            mail.execute("BEGIN")
            uids: dict[int, set[int]] = {}
            for mailbox, uid in mail.execute("SELECT mailbox, uid FROM place"):
                uids.setdefault(mailbox, set()).add(uid)
            history = dict(mail.execute("SELECT name, uid_validity FROM name_history"))
            found = {
                name: _Numbers(
                    validity,
                    uid_next,
                    modseq,
                    frozenset(uids.get(number, ())),
                    history.pop(name, 0),
                )
                for number, name, validity, uid_next, modseq in mail.execute(
                    "SELECT number, name, uid_validity, uid_next, highest_modseq FROM mailbox"
                ).fetchall()
            }
            gone = {
                name: _Numbers(0, 0, 0, frozenset(), validity) for name, validity in history.items()
            }
            return found | gone
    except sqlite3.Error:
        return None


def _renumber(
    copy: sqlite3.Connection, had: dict[str, _Numbers] | None, renumber: bool, now: int
) -> tuple[str, ...]:
    """Raise UIDVALIDITY where what clients know does not hold any more, and mod-sequences
    where they may have seen higher ones."""
    renumbered = []
    boxes = copy.execute(
        "SELECT number, name, uid_validity, uid_next, highest_modseq FROM mailbox WHERE selectable"
    ).fetchall()
    for number, name, validity, uid_next, modseq in boxes:
        before = (had or {}).get(name)
        uids = frozenset(
            row[0] for row in copy.execute("SELECT uid FROM place WHERE mailbox = ?", (number,))
        )
        # The same mailbox, and nothing that it gave out or took away contradicts the copy.
        agrees = before is None or (
            before.uid_validity == validity and before.uid_next == uid_next and uids <= before.uids
        )
        if renumber or had is None or not agrees:
            last = max(validity, before.history if before else 0)
            raised = max(last + 1, min(now, HIGHEST_FROM_CLOCK))
            copy.execute(
                "UPDATE mailbox SET uid_validity = ?, id = ? WHERE number = ?",
                (raised, new_id(), number),
            )
            copy.execute(
                "INSERT INTO name_history VALUES (?, ?) ON CONFLICT (name)"
                " DO UPDATE SET uid_validity = excluded.uid_validity",
                (name, raised),
            )
            renumbered.append(name)
        elif before is not None and (before.highest_modseq, before.uids) != (modseq, uids):
            above = max(before.highest_modseq, modseq) + 1
            copy.execute(
                "UPDATE mailbox SET highest_modseq = ?, pruned_modseq = ? WHERE number = ?",
                (above, above, number),
            )
            copy.execute("UPDATE place SET modseq = ? WHERE mailbox = ?", (above, number))
        copy.execute("DELETE FROM snapshot WHERE mailbox = ?", (number,))
    for name, before in (had or {}).items():
        copy.execute(
            "INSERT INTO name_history VALUES (?, ?) ON CONFLICT (name)"
            " DO UPDATE SET uid_validity = max(uid_validity, excluded.uid_validity)",
            (name, before.history),
        )
    return tuple(sorted(renumbered))


_OF_ACCOUNT = (
    ("account", "id = ?"),
    ("address", "account = ?"),
    ("verifier", "account = ?"),
    ("sourced", "account = ?"),
    ("sourced_alias", "address IN (SELECT address FROM address WHERE account = ?)"),
    ("app_password", "account = ?"),
)


def _directory_rows(
    old: sqlite3.Connection, account: AccountId
) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    """What a directory has of one account, by table; an older schema has fewer."""
    tables = {name for (name,) in old.execute("SELECT name FROM sqlite_schema")}
    for table, condition in _OF_ACCOUNT:
        if table in tables:
            yield (
                table,
                old.execute(f"SELECT * FROM {table} WHERE {condition}", (account,)).fetchall(),
            )


def restore_row(backup: Path, data: Path, account: AccountId) -> bool:
    """Make an account known to the directory again as the backup knew it, with its
    addresses and passwords; False if the directory knows it.

    Raises:
        MailError: NONEXISTENT (the backup does not know it), ALREADY_EXISTS (its name is
            another account's now), UNAVAILABLE.
    """
    path = quote(str(data / DIRECTORY_DATABASE))
    with (
        _told(),
        closing(
            sqlite3.connect(
                f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS
            )
        ) as directory,
        closing(open_read_only(backup / DIRECTORY_DATABASE)) as old,
    ):
        directory.execute("PRAGMA synchronous = FULL")
        directory.execute("BEGIN IMMEDIATE")
        if directory.execute("SELECT 1 FROM account WHERE id = ?", (account,)).fetchall():
            directory.execute("ROLLBACK")
            return False
        if not old.execute("SELECT 1 FROM account WHERE id = ?", (account,)).fetchall():
            raise MailError(ErrorKind.NONEXISTENT, "the backup does not know this account")
        try:
            for table, rows in _directory_rows(old, account):
                for row in rows:
                    if table == "address":
                        directory.execute("INSERT OR IGNORE INTO domain VALUES (?)", (row[1],))
                    marks = ", ".join("?" * len(row))
                    directory.execute(f"INSERT INTO {table} VALUES ({marks})", row)
            directory.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise MailError(
                ErrorKind.ALREADY_EXISTS,
                "an address of this account leads to another account now; change that first",
                subject=account,
            ) from None
    return True
