"""Commands that name mailboxes: SELECT, EXAMINE, CREATE, DELETE, RENAME, (UN)SUBSCRIBE."""

from __future__ import annotations

from mailserver.wire.imap.commands import (
    Create,
    Delete,
    Rename,
    Select,
    Subscribe,
    Unsubscribe,
)
from mailserver.wire.imap.grammar.parameters import Table, parse_optional_parameters
from mailserver.wire.imap.scanner import Scanner

SELECT_PARAMETERS: Table = {}
"""RFC 4466 §2.4: parameters of SELECT and EXAMINE."""


def _special_uses(scanner: Scanner) -> tuple[str, ...]:
    # create-param =/ "USE" SP "(" [use-attr *(SP use-attr)] ")"
    scanner.open()
    return tuple(scanner.items(_use_attribute))


def _use_attribute(scanner: Scanner) -> str:
    start = scanner.at
    name = scanner.flag()
    if not name.startswith("\\"):
        scanner.fail("expected a special use such as \\Drafts", start)
    return name


CREATE_PARAMETERS: Table = {
    b"USE": _special_uses,  # RFC 6154 §3
}
"""RFC 4466 §2.2: parameters of CREATE."""


def parse_select(scanner: Scanner) -> Select:
    """Read SELECT (RFC 3501 §6.3.1)."""
    return _select(scanner, read_only=False)


def parse_examine(scanner: Scanner) -> Select:
    """Read EXAMINE (RFC 3501 §6.3.2)."""
    return _select(scanner, read_only=True)


def _select(scanner: Scanner, read_only: bool) -> Select:
    # select = "SELECT" SP mailbox [select-params]
    scanner.space()
    mailbox = scanner.mailbox()
    parameters = parse_optional_parameters(scanner, SELECT_PARAMETERS, "a SELECT parameter")
    return Select(mailbox, read_only, parameters)


def parse_create(scanner: Scanner) -> Create:
    """Read CREATE (RFC 3501 §6.3.3, RFC 6154 §3)."""
    # create = "CREATE" SP mailbox [create-params]
    scanner.space()
    mailbox = scanner.mailbox()
    uses: tuple[str, ...] = ()
    for parameter in parse_optional_parameters(scanner, CREATE_PARAMETERS, "a CREATE parameter"):
        if isinstance(parameter.value, tuple):
            uses = parameter.value
    return Create(mailbox, uses)


def parse_delete(scanner: Scanner) -> Delete:
    """Read DELETE (RFC 3501 §6.3.4)."""
    return Delete(_one_mailbox(scanner))


def parse_rename(scanner: Scanner) -> Rename:
    """Read RENAME (RFC 3501 §6.3.5)."""
    scanner.space()
    old = scanner.mailbox()
    return Rename(old, _one_mailbox(scanner))


def parse_subscribe(scanner: Scanner) -> Subscribe:
    """Read SUBSCRIBE (RFC 3501 §6.3.6)."""
    return Subscribe(_one_mailbox(scanner))


def parse_unsubscribe(scanner: Scanner) -> Unsubscribe:
    """Read UNSUBSCRIBE (RFC 3501 §6.3.7)."""
    return Unsubscribe(_one_mailbox(scanner))


def _one_mailbox(scanner: Scanner) -> str:
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.end()
    return mailbox
