"""Quota roots: counted and enforced inside the transaction that uses them (R12)."""

from __future__ import annotations

from mailserver.model.quota import QuotaRoot
from mailserver.store.engine import Connection, Transaction
from mailserver.store.sql import quota as sql

ACCOUNT_ROOT = "#account"
"""Name of the root of everything in an account (CGP-11)."""


def root(connection: Connection, number: int) -> QuotaRoot:
    """Read a quota root."""
    row = connection.row(sql.ROOT, (number,))
    assert row is not None
    return QuotaRoot(*row)


def charge(transaction: Transaction, number: int, size: int, messages: int) -> None:
    """Use some of a root.

    Raises:
        MailError: OVER_QUOTA; then nothing is used.
    """
    if not messages:
        return  # nothing comes in, even where too much is in already
    connection = transaction.connection
    if not connection.run(sql.USE_IF_FREE, (size, messages, number, size, messages)):
        root(connection, number).check_room(size, messages)


def give_back(transaction: Transaction, number: int, size: int, messages: int) -> None:
    """Free some of a root."""
    transaction.connection.run(sql.USE, (-size, -messages, number))


def set_limits(
    transaction: Transaction, storage_limit: int | None, message_limit: int | None
) -> None:
    """Set the limits of the account's root; what is over them already stays."""
    transaction.connection.run(sql.SET_LIMITS, (storage_limit, message_limit, ACCOUNT_ROOT))
