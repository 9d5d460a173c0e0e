"""Passwords for single devices: rows, and the bodies of their transactions as in `edit`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import AppPassword
from mailserver.model.ids import AccountId
from mailserver.store.directory import edit

MAX_APP_PASSWORDS = 100
"""Of one account: a login looks at each."""

MAX_NAME_LENGTH = 100
"""Characters of an app password's name."""

_COLUMNS = "id, name, services, digest, scram_sha256, scram_sha1, created, last_used"

READ = f"SELECT {_COLUMNS} FROM app_password WHERE account = ? ORDER BY created, name"
"""Rows for `app_password`."""


def app_password(row: tuple[object, ...]) -> AppPassword:
    """Make the value of a row."""
    identifier, name, services, *others = row
    return AppPassword(
        str(identifier),
        str(name),
        frozenset(str(services).split()),
        *others,  # type: ignore[arg-type]
    )


def add(db: sqlite3.Connection, account: AccountId, new: AppPassword) -> None:
    """Give an account an app password.

    Raises:
        MailError: NONEXISTENT (account), INVALID (name), ALREADY_EXISTS (its name), LIMIT.
    """
    edit.name_of(db, account)
    if not (new.name.strip() and new.name.isprintable() and len(new.name) <= MAX_NAME_LENGTH):
        raise MailError(
            ErrorKind.INVALID,
            f"the name of an app password has 1 to {MAX_NAME_LENGTH} printable characters",
        )
    have = [
        name
        for (name,) in db.execute("SELECT name FROM app_password WHERE account = ?", (account,))
    ]
    if new.name in have:
        raise MailError(
            ErrorKind.ALREADY_EXISTS,
            f"there is an app password {new.name!r} already; remove it first",
            subject=new.name,
        )
    if len(have) >= MAX_APP_PASSWORDS:
        raise MailError(
            ErrorKind.LIMIT, f"an account has at most {MAX_APP_PASSWORDS} app passwords"
        )
    values = (new.id, new.name, " ".join(sorted(new.services)), new.digest)
    keys = (new.scram_sha256, new.scram_sha1, new.created, new.last_used)
    db.execute(
        f"INSERT INTO app_password (account, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (account, *values, *keys),
    )


def remove(db: sqlite3.Connection, account: AccountId, name: str) -> None:
    """Take an app password away.

    Raises:
        MailError: NONEXISTENT.
    """
    edit.name_of(db, account)
    if not db.execute(
        "DELETE FROM app_password WHERE account = ? AND name = ?", (account, name)
    ).rowcount:
        raise MailError(ErrorKind.NONEXISTENT, f"there is no app password {name!r}", subject=name)


def set_last_used(db: sqlite3.Connection, times: Mapping[str, int]) -> None:
    """Note when app passwords were used last, by id."""
    db.executemany(
        "UPDATE app_password SET last_used = ? WHERE id = ?",
        [(time, identifier) for identifier, time in times.items()],
    )
