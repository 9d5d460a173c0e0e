"""What changes the directory: each function is the body of one transaction.

They run on the writing thread and see nothing but the handle and their arguments; what
they raise undoes everything they did.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypedDict

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account, AccountStatus, AdminRight, Attributes, Verifiers
from mailserver.model.addresses import account_name
from mailserver.model.ids import AccountId, MailboxId

MAX_TEXT_LENGTH = 1000
"""Characters of a display name, a host name or a rule of allowed services."""

_CAPABILITY = re.compile(r"[!#$&'+,./0-9:;<=>?@A-Z^_`|~-]{1,100}")
_LANGUAGE = re.compile(r"(?:[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,8})?")
_MAX_INTEGER = 2**63 - 1


class AccountChanges(TypedDict, total=False):
    """Attributes of an `Account` that are to get a new value; the others stay."""

    name: str
    status: AccountStatus
    display_name: str
    storage_limit: int | None
    message_limit: int | None
    allowed_services: str
    mail_host: str
    language: str
    disabled_capabilities: frozenset[str]


@attrs.frozen
class NewAccount:
    """An account to be made; attributes as of `Account`.

    Attributes:
        name: an address, in any spelling.
        aliases: further addresses, in any spelling.
        verifiers: of its password; empty ones for an account that cannot log in by one.
        id: where its mail data were made already; one is made up if None.
        source: label of the source because of which it is made; empty for none.
        said: what that source says of it, which wins over the attributes here.
    """

    name: str
    verifiers: Verifiers = Verifiers()
    status: AccountStatus = AccountStatus.ACTIVE
    display_name: str = ""
    storage_limit: int | None = None
    message_limit: int | None = None
    allowed_services: str = ""
    mail_host: str = ""
    language: str = ""
    disabled_capabilities: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    id: AccountId | None = None
    source: str = ""
    said: Attributes = Attributes()


def create_accounts(
    db: sqlite3.Connection,
    new: Sequence[NewAccount],
    new_id: Callable[[], AccountId],
    now: int,
    add_domains: bool,
) -> list[Account]:
    """Make accounts, all or none; see `Directory.create_accounts`."""
    out: list[Account] = []
    for one in new:
        name = account_name(one.name)
        aliases = tuple(sorted({account_name(alias) for alias in one.aliases} - {name}))
        account = Account(
            id=one.id or new_id(),
            name=name,
            status=one.status,
            display_name=one.display_name,
            storage_limit=one.storage_limit,
            message_limit=one.message_limit,
            allowed_services=one.allowed_services,
            mail_host=one.mail_host,
            language=one.language,
            disabled_capabilities=frozenset(c.upper() for c in one.disabled_capabilities),
            aliases=aliases,
        )
        for address in (name, *aliases):
            if add_domains:
                add_domain(db, address.rpartition("@")[2])
            _must_be_free(db, address)
        values = {"id": account.id, "name": name, "created": now, **_columns(account)}
        db.execute(
            f"INSERT INTO account ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            tuple(values.values()),
        )
        for address in (name, *aliases):
            insert_address(db, address, account.id)
        if one.verifiers != Verifiers():
            set_verifiers(db, account.id, one.verifiers, now)
        out.append(account)
    return out


def update_account(db: sqlite3.Connection, account: AccountId, changes: AccountChanges) -> None:
    """Give attributes new values."""
    old_name = name_of(db, account)
    values = {key: encoded(key, value) for key, value in changes.items()}
    if "name" in changes:
        name = values["name"] = account_name(changes["name"])
        if name != old_name:
            _must_be_free(db, name)
            db.execute("DELETE FROM address WHERE address = ?", (old_name,))
            insert_address(db, name, account)
    if values:
        assignments = ", ".join(f"{column} = ?" for column in values)
        db.execute(f"UPDATE account SET {assignments} WHERE id = ?", (*values.values(), account))


def delete_account(db: sqlite3.Connection, account: AccountId) -> None:
    """Remove an account with its addresses, verifiers, rights and shares."""
    name = name_of(db, account)
    db.execute("DELETE FROM share WHERE grantee = ?", (name,))
    db.execute("DELETE FROM account WHERE id = ?", (account,))


def set_verifiers(
    db: sqlite3.Connection, account: AccountId, verifiers: Verifiers, now: int
) -> None:
    """Replace the verifiers of an account."""
    name_of(db, account)
    db.execute(
        "INSERT OR REPLACE INTO verifier VALUES (?, ?, ?, ?, ?)",
        (account, verifiers.argon2id, verifiers.scram_sha256, verifiers.scram_sha1, now),
    )


def renew_verifiers(
    db: sqlite3.Connection, account: AccountId, old: Verifiers, new: Verifiers, now: int
) -> None:
    """Replace verifiers, if they are still the account's."""
    db.execute(
        "UPDATE verifier SET argon2id = ?, scram_sha256 = ?, scram_sha1 = ?, changed = ?"
        " WHERE account = ? AND argon2id = ? AND scram_sha256 = ? AND scram_sha1 = ?",
        (*attrs.astuple(new), now, account, *attrs.astuple(old)),
    )


def add_domain(db: sqlite3.Connection, domain: str) -> None:
    """Take mail for a canonical domain; nothing if it is already ours."""
    db.execute("INSERT OR IGNORE INTO domain VALUES (?)", (domain,))


def remove_domain(db: sqlite3.Connection, domain: str) -> None:
    """Stop taking mail for a canonical domain that no address is in."""
    in_use = db.execute(
        "SELECT address FROM address WHERE domain = ? ORDER BY address LIMIT 1", (domain,)
    ).fetchone()
    if in_use is not None:
        raise MailError(
            ErrorKind.IN_USE,
            f"domain {domain} still has addresses, such as {in_use[0]}",
            subject=domain,
        )
    if not db.execute("DELETE FROM domain WHERE name = ?", (domain,)).rowcount:
        raise MailError(ErrorKind.NONEXISTENT, f"there is no domain {domain}", subject=domain)


def add_alias(db: sqlite3.Connection, address: str, account: AccountId) -> None:
    """Let a further canonical address lead to an account."""
    name_of(db, account)
    _must_be_free(db, address)
    insert_address(db, address, account)


def remove_alias(db: sqlite3.Connection, address: str) -> None:
    """Remove an address that is not an account's own name."""
    if not db.execute(
        "DELETE FROM address WHERE address = ?"
        " AND NOT EXISTS (SELECT 1 FROM account WHERE name = address)",
        (address,),
    ).rowcount:
        raise MailError(ErrorKind.NONEXISTENT, f"there is no alias {address}", subject=address)


def set_rights(
    db: sqlite3.Connection, account: AccountId, domain: str, rights: Collection[AdminRight]
) -> None:
    """Replace what an account may administer in a canonical domain."""
    name_of(db, account)
    _must_be_ours(db, domain)
    db.execute("DELETE FROM administrator WHERE account = ? AND domain = ?", (account, domain))
    db.executemany(
        "INSERT INTO administrator VALUES (?, ?, ?)",
        [(account, domain, right.value) for right in rights],
    )


def set_route(db: sqlite3.Connection, name: str, target: str) -> None:
    """Set or replace a route."""
    db.execute("INSERT OR REPLACE INTO route VALUES (?, ?)", (name, target))


def remove_route(db: sqlite3.Connection, name: str) -> None:
    """Remove a route."""
    if not db.execute("DELETE FROM route WHERE name = ?", (name,)).rowcount:
        raise MailError(ErrorKind.NONEXISTENT, f"there is no route for {name}", subject=name)


def share(
    db: sqlite3.Connection, account: AccountId, grantees: Mapping[MailboxId, Collection[str]]
) -> None:
    """Replace the index rows of some mailboxes of an account."""
    name_of(db, account)
    for mailbox, names in grantees.items():
        db.execute("DELETE FROM share WHERE account = ? AND mailbox = ?", (account, mailbox))
        db.executemany(
            "INSERT INTO share VALUES (?, ?, ?)",
            [(name, account, mailbox) for name in sorted(set(names))],
        )


def reshare(
    db: sqlite3.Connection, account: AccountId, grantees: Mapping[MailboxId, Collection[str]]
) -> None:
    """Replace all index rows of an account."""
    name_of(db, account)
    db.execute("DELETE FROM share WHERE account = ?", (account,))
    share(db, account, grantees)


def _columns(account: Account) -> dict[str, Any]:
    return {
        key: encoded(key, getattr(account, key))
        for key in AccountChanges.__annotations__
        if key != "name"
    }


def encoded(key: str, value: Any) -> Any:
    """Check one attribute and give it the form of its column.

    Raises:
        MailError: INVALID with the reason.
    """
    if isinstance(value, AccountStatus):
        return value.value
    if isinstance(value, frozenset):
        words = sorted(word.upper() for word in value)
        for word in words:
            if not _CAPABILITY.fullmatch(word):
                raise _invalid(f"{word[:100]!r} is not the name of a capability")
        return " ".join(words)
    if isinstance(value, int) and not 0 <= value <= _MAX_INTEGER:
        raise _invalid(f"{key.replace('_', ' ')} must be 0 to {_MAX_INTEGER}, or none")
    if isinstance(value, str):
        if len(value) > MAX_TEXT_LENGTH:
            raise _invalid(f"{key.replace('_', ' ')} has at most {MAX_TEXT_LENGTH} characters")
        if not value.isprintable():
            raise _invalid(f"{key.replace('_', ' ')} must not hold control characters")
        if key == "language" and not _LANGUAGE.fullmatch(value):
            raise _invalid(f"{value[:100]!r} is not a language tag such as en or pt-BR")
    return value


def name_of(db: sqlite3.Connection, account: AccountId) -> str:
    """Return an account's name.

    Raises:
        MailError: NONEXISTENT.
    """
    row = db.execute("SELECT name FROM account WHERE id = ?", (account,)).fetchone()
    if row is None:
        raise MailError(ErrorKind.NONEXISTENT, "there is no such account", subject=account)
    return str(row[0])


def _must_be_ours(db: sqlite3.Connection, domain: str) -> None:
    if db.execute("SELECT 1 FROM domain WHERE name = ?", (domain,)).fetchone() is None:
        raise MailError(
            ErrorKind.NONEXISTENT, f"domain {domain} is not one of this server", subject=domain
        )


def _must_be_free(db: sqlite3.Connection, address: str) -> None:
    _must_be_ours(db, address.rpartition("@")[2])
    if db.execute("SELECT 1 FROM address WHERE address = ?", (address,)).fetchone() is not None:
        raise MailError(
            ErrorKind.ALREADY_EXISTS,
            f"{address} is already an account or an alias",
            subject=address,
        )


def insert_address(db: sqlite3.Connection, address: str, account: AccountId) -> None:
    """Let a canonical address that is free, of a domain of ours, lead to an account."""
    db.execute(
        "INSERT INTO address VALUES (?, ?, ?)", (address, address.rpartition("@")[2], account)
    )


def _invalid(text: str) -> MailError:
    return MailError(ErrorKind.INVALID, text)
