"""The one gate (S9): may this principal do this to this mailbox?

The owner has every right. Others have what the ACL gives to their name and to `anyone`,
less what its `-` rows take (RFC 4314 §2). Who may not even see a mailbox gets the answer
of one that does not exist (T39).
"""

from __future__ import annotations

from mailserver.errors import ErrorKind, MailError
from mailserver.model.acl import ALL_RIGHTS, VISIBLE_RIGHTS, Right, Rights, parse_rights
from mailserver.model.ids import MailboxRef, Principal
from mailserver.store.engine import Connection
from mailserver.store.sql import mailboxes as sql
from mailserver.store.transactions.rows import Mailbox, by_id, no_such_mailbox

ANYONE = "anyone"


def rights_of(connection: Connection, who: Principal, ref: MailboxRef, number: int) -> Rights:
    """What a principal may do with the mailbox of this row number."""
    if who.account == ref.account:
        return ALL_RIGHTS
    given: set[Right] = set()
    taken: set[Right] = set()
    names = (who.name, ANYONE, f"-{who.name}", f"-{ANYONE}")
    for identifier, letters in connection.rows(sql.RIGHTS, (number, *names)):
        (taken if identifier.startswith("-") else given).update(parse_rights(letters))
    return frozenset(given - taken)


def authorize(
    connection: Connection, who: Principal, ref: MailboxRef, right: Right | None = None
) -> tuple[Mailbox, Rights]:
    """Let a principal through to a mailbox with messages, or refuse.

    Args:
        right: that must be held; None for any that makes the mailbox visible.

    Returns:
        The mailbox's row and all rights of the principal.

    Raises:
        MailError: NONEXISTENT, NO_PERMISSION.
    """
    mailbox = by_id(connection, ref.mailbox)
    if mailbox is None or not mailbox.selectable:
        raise no_such_mailbox()
    return mailbox, check(rights_of(connection, who, ref, mailbox.number), right)


def check(rights: Rights, right: Right | None, name: str | None = None) -> Rights:
    """Return the rights if they are enough, or refuse as `authorize` does."""
    if not rights & VISIBLE_RIGHTS:
        raise no_such_mailbox(name)
    if right is not None and right not in rights:
        raise MailError(ErrorKind.NO_PERMISSION, "you have no right to do that", subject=name)
    return rights
