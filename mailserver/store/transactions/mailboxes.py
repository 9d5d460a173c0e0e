"""Mailboxes are made, removed, renamed and subscribed to."""

from __future__ import annotations

import base64
import secrets

from mailserver.errors import ErrorKind, MailError
from mailserver.model.changes import EventKind
from mailserver.model.ids import MailboxId
from mailserver.model.names import (
    DELIMITER,
    INBOX,
    NEW_ACCOUNT_MAILBOXES,
    SpecialUse,
    canonical,
    parents,
)
from mailserver.store.engine import Connection, Transaction
from mailserver.store.sql import mailboxes as sql
from mailserver.store.sql import quota as quota_sql
from mailserver.store.transactions import messages, quota
from mailserver.store.transactions.copying import move_all
from mailserver.store.transactions.rows import (
    Mailbox,
    by_name,
    inferiors,
    no_such_mailbox,
)

FOREIGN_PREFIX = "~"
"""Begins the names of other users' and public mailboxes (CGP-12)."""


def new_id() -> MailboxId:
    """An id that no mailbox of the installation has: 130 random bits in [0-9a-z]."""
    text = base64.b32hexencode(secrets.token_bytes(17)).decode("ascii")
    return MailboxId(text[:26].lower())


def own_name(name: str) -> str:
    """The canonical form of a name that is to be given to a mailbox of one's own.

    Raises:
        MailError: CANNOT.
    """
    name = canonical(name)
    if name.startswith(FOREIGN_PREFIX):
        raise MailError(
            ErrorKind.CANNOT,
            f"names that begin with {FOREIGN_PREFIX!r} belong to other users",
            subject=name,
        )
    return name


HIGHEST_FROM_CLOCK = 2**32 - 2**24
"""A clock that is wrong by a century must not use up the 32 bits of UIDVALIDITY (R5)."""


def new_validity(transaction: Transaction, name: str) -> int:
    """A UIDVALIDITY above any that the name ever had, remembered from now on (T12, T58).

    Seconds since 1970 make it higher than what an account of the same name had that was
    removed with its history; the history makes it rise when the clock does not.
    """
    connection = transaction.connection
    last = connection.row(sql.LAST_VALIDITY, (name,))
    validity = max((last[0] if last else 0) + 1, min(transaction.now, HIGHEST_FROM_CLOCK))
    connection.run(sql.KEEP_VALIDITY, (name, validity))
    return validity


def create(transaction: Transaction, name: str, use: SpecialUse | None) -> Mailbox:
    """Make a mailbox and its missing superiors, which are mailboxes too.

    Raises:
        MailError: ALREADY_EXISTS, USE_ATTRIBUTE, LIMIT.
    """
    connection = transaction.connection
    found = by_name(connection, name)
    if found is not None and found.selectable:
        raise MailError(ErrorKind.ALREADY_EXISTS, "the mailbox exists already", subject=name)
    if use is not None:
        taken = connection.row(sql.USE_TAKEN, (use.value,))
        if taken is not None:
            raise MailError(
                ErrorKind.USE_ATTRIBUTE,
                f"another mailbox has the special use {use.value} already",
                subject=taken[0],
            )
    make_superiors(transaction, name)
    if found is not None:
        connection.run(
            sql.MAKE_SELECTABLE,
            (use.value if use else None, new_validity(transaction, name), found.number),
        )
        made = by_name(connection, name)
        assert made is not None
    else:
        made = _insert(transaction, name, use)
    transaction.changed(made.id, made.highest_modseq, EventKind.MAILBOXES)
    return made


def make_superiors(transaction: Transaction, name: str) -> None:
    """Make the levels above a name that are missing."""
    for superior in parents(name):
        if by_name(transaction.connection, superior) is None:
            made = _insert(transaction, superior, None)
            transaction.changed(made.id, made.highest_modseq, EventKind.MAILBOXES)


def _insert(
    transaction: Transaction, name: str, use: SpecialUse | None, *, selectable: bool = True
) -> Mailbox:
    connection = transaction.connection
    number = connection.row(sql.COUNT)
    if number is not None and number[0] >= transaction.limits.mailboxes:
        raise MailError(
            ErrorKind.LIMIT,
            f"an account may have at most {transaction.limits.mailboxes} mailboxes",
            subject=name,
        )
    root = 1  # the account's; others come with mailboxes of their own quota
    connection.insert(
        sql.INSERT,
        (
            new_id(),
            name,
            int(selectable),
            use.value if use else None,
            root,
            new_validity(transaction, name) if selectable else 0,
        ),
    )
    made = by_name(connection, name)
    assert made is not None
    return made


def delete(transaction: Transaction, name: str) -> None:
    """Remove a mailbox; with inferiors a level of hierarchy stays (RFC 9051 §6.3.5).

    Raises:
        MailError: NONEXISTENT, CANNOT, HAS_CHILDREN.
    """
    connection = transaction.connection
    if name == INBOX:
        raise MailError(ErrorKind.CANNOT, "INBOX cannot be deleted", subject=name)
    found = by_name(connection, name)
    if found is None:
        raise no_such_mailbox(name)
    below = inferiors(connection, name)
    if not found.selectable and below:
        raise MailError(
            ErrorKind.HAS_CHILDREN, "there are mailboxes below this level", subject=name
        )
    messages.empty(transaction, found)
    connection.run(sql.DELETE, (found.number,))
    transaction.changed(found.id, found.highest_modseq + 1, EventKind.MAILBOXES)
    if below:
        _insert(transaction, name, None, selectable=False)


def rename(transaction: Transaction, old: str, new: str) -> None:
    """Rename a mailbox and its inferiors (RFC 9051 §6.3.6).

    Raises:
        MailError: NONEXISTENT, ALREADY_EXISTS, CANNOT, LIMIT.
    """
    connection = transaction.connection
    found = by_name(connection, old)
    if found is None:
        raise no_such_mailbox(old)
    if by_name(connection, new) is not None:
        raise MailError(ErrorKind.ALREADY_EXISTS, "the mailbox exists already", subject=new)
    if old == INBOX:
        target = create(transaction, new, None)
        move_all(transaction, found, target)
        return
    if new.startswith(old + DELIMITER):
        raise MailError(ErrorKind.CANNOT, "a mailbox cannot be moved below itself", subject=new)
    moving = [found, *inferiors(connection, old)]
    for mailbox in moving:
        name = canonical(new + mailbox.name[len(old) :])
        if mailbox is not found and by_name(connection, name) is not None:
            raise MailError(ErrorKind.ALREADY_EXISTS, "the mailbox exists already", subject=name)
        connection.run(
            sql.RENAME, (name, _validity_under(transaction, mailbox, name), mailbox.number)
        )
        transaction.changed(mailbox.id, mailbox.highest_modseq, EventKind.MAILBOXES)
    make_superiors(transaction, new)


def _validity_under(transaction: Transaction, mailbox: Mailbox, name: str) -> int:
    """The UIDVALIDITY of a mailbox that comes to a name: its own, if the name never had
    one as high, so that clients may keep what they know of it; else a new one (T12)."""
    if not mailbox.selectable:
        return mailbox.uid_validity
    last = transaction.connection.row(sql.LAST_VALIDITY, (name,))
    if last is not None and last[0] >= mailbox.uid_validity:
        return new_validity(transaction, name)
    transaction.connection.run(sql.KEEP_VALIDITY, (name, mailbox.uid_validity))
    return mailbox.uid_validity


def subscribe(transaction: Transaction, name: str, subscribed: bool) -> None:
    """Set or take a subscription.

    Raises:
        MailError: LIMIT.
    """
    connection = transaction.connection
    found = by_name(connection, name)
    if found is not None:
        transaction.changed(found.id, found.highest_modseq, EventKind.MAILBOXES)
    if not subscribed:
        connection.run(sql.UNSUBSCRIBE, (name,))
        return
    count = connection.row(sql.SUBSCRIPTION_COUNT)
    if count is not None and count[0] >= transaction.limits.subscriptions:
        raise MailError(
            ErrorKind.LIMIT,
            f"an account may have at most {transaction.limits.subscriptions} subscriptions",
            subject=name,
        )
    connection.run(sql.SUBSCRIBE, (name,))


def fill_account(
    transaction: Transaction, storage_limit: int | None, message_limit: int | None
) -> None:
    """Give a new account its quota root and its first mailboxes, subscribed."""
    connection = transaction.connection
    connection.insert(quota_sql.ADD, (quota.ACCOUNT_ROOT, storage_limit, message_limit))
    for name, use in NEW_ACCOUNT_MAILBOXES:
        create(transaction, name, use)
        subscribe(transaction, name, True)


def recent(connection: Connection, mailbox: Mailbox, first: int) -> int:
    """Number of messages with a UID of at least `first`; counts the shorter side."""
    if mailbox.uid_next - first <= first:
        found = connection.row(sql.COUNT_FROM, (mailbox.number, first))
        return found[0] if found else 0
    found = connection.row(sql.COUNT_BEFORE, (mailbox.number, first))
    return mailbox.messages - (found[0] if found else 0)


def delivery_mailbox(connection: Connection, detail: str) -> Mailbox:
    """The mailbox that a subaddress names if there is one, else INBOX (RFC 5233).

    Letters of addresses often lose their case on the way, so a name that differs in case
    alone is taken when no name is the same.
    """
    inbox = by_name(connection, INBOX)
    assert inbox is not None
    if not detail:
        return inbox
    try:
        name = canonical(detail)
    except MailError:
        return inbox
    found = by_name(connection, name)
    if found is None:
        folded = name.casefold()
        alike = [Mailbox(*row) for row in connection.rows(sql.ALL) if row[2].casefold() == folded]
        found = alike[0] if len(alike) == 1 else None
    return found if found is not None and found.selectable else inbox
