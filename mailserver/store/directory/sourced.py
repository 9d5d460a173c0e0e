"""What other sources say of accounts: bodies of transactions, as in `edit`."""

from __future__ import annotations

import sqlite3

import attrs

from mailserver.errors import MailError
from mailserver.model.account import AccountStatus, Attributes
from mailserver.model.addresses import account_name
from mailserver.model.ids import AccountId
from mailserver.store.directory import edit

_COLUMNS = (
    "status",
    "display_name",
    "storage_limit",
    "message_limit",
    "allowed_services",
    "mail_host",
)

READ = f"SELECT source, made, {', '.join(_COLUMNS)} FROM sourced WHERE account = ?"
"""A row for `said`."""

READ_ALIASES = (
    "SELECT address FROM address JOIN sourced_alias USING (address)"
    " WHERE account = ? ORDER BY address"
)
"""The other rows for it."""


@attrs.frozen
class Said:
    """What a source said last of an account.

    Attributes:
        source: its label.
        made: the account came to be because of the source.
        attributes: what it said.
    """

    source: str
    made: bool
    attributes: Attributes


def said(row: tuple[object, ...], aliases: list[tuple[str]]) -> Said:
    """Make the value of the rows of `READ` and `READ_ALIASES`."""
    source, made, status, *others = row
    values = dict(zip(_COLUMNS[1:], others, strict=True))
    attributes = Attributes(
        status=None if status is None else AccountStatus(status),
        aliases=tuple(address for (address,) in aliases),
        **values,  # type: ignore[arg-type]
    )
    return Said(str(source), bool(made), attributes)


def say(
    db: sqlite3.Connection, account: AccountId, source: str, attributes: Attributes, made: bool
) -> list[str]:
    """Replace what a source said of an account; `made` is kept once it is set.

    Returns:
        Aliases that are left out: no addresses, or they lead to another account.

    Raises:
        MailError: NONEXISTENT (account), INVALID (an attribute).
    """
    edit.name_of(db, account)
    values = {column: getattr(attributes, column) for column in _COLUMNS}
    limits = ("storage_limit", "message_limit")
    for column, value in values.items():
        if value is not None and not (column in limits and value == -1):
            values[column] = edit.encoded(column, value)
    rows = {"account": account, "source": source, "made": int(made), **values}
    renewed = ", ".join(f"{column} = excluded.{column}" for column in ("source", *_COLUMNS))
    db.execute(
        f"INSERT INTO sourced ({', '.join(rows)}) VALUES ({', '.join('?' * len(rows))})"
        f" ON CONFLICT (account) DO UPDATE SET {renewed}, made = max(made, excluded.made)",
        tuple(rows.values()),
    )
    return _set_aliases(db, account, attributes.aliases)


def fall_silent(db: sqlite3.Connection, account: AccountId) -> None:
    """Note that the source does not know an account any more.

    One that came to be because of it is closed for the time being: no login, and mail
    waits at its sender, since a file that was cut short looks the same. One that was here
    before is what it was.
    """
    db.execute(
        "UPDATE sourced SET status = ? WHERE account = ? AND made",
        (AccountStatus.INACTIVE.value, account),
    )
    if db.execute("DELETE FROM sourced WHERE account = ? AND NOT made", (account,)).rowcount:
        _set_aliases(db, account, ())


def settle(db: sqlite3.Connection, account: AccountId) -> None:
    """Make what a source said last of an account the account's own: the source is no longer
    asked."""
    row = db.execute(READ, (account,)).fetchone()
    if row is None:
        return
    for column, value in zip(_COLUMNS, row[2:], strict=True):
        if value is not None:
            own = None if value == -1 else value
            db.execute(f"UPDATE account SET {column} = ? WHERE id = ?", (own, account))
    db.execute("DELETE FROM sourced WHERE account = ?", (account,))
    db.execute(
        "DELETE FROM sourced_alias"
        " WHERE address IN (SELECT address FROM address WHERE account = ?)",
        (account,),
    )


def _set_aliases(db: sqlite3.Connection, account: AccountId, aliases: tuple[str, ...]) -> list[str]:
    wanted: set[str] = set()
    left_out: list[str] = []
    for alias in aliases:
        try:
            wanted.add(account_name(alias))
        except MailError:
            left_out.append(alias)
    for (address,) in db.execute(READ_ALIASES, (account,)).fetchall():
        if address not in wanted:
            db.execute("DELETE FROM address WHERE address = ?", (address,))
    for address in sorted(wanted):
        owner = db.execute("SELECT account FROM address WHERE address = ?", (address,)).fetchone()
        if owner is None:
            edit.add_domain(db, address.rpartition("@")[2])
            edit.insert_address(db, address, account)
            db.execute("INSERT INTO sourced_alias VALUES (?)", (address,))
        elif owner[0] != account:
            left_out.append(address)
    return left_out
