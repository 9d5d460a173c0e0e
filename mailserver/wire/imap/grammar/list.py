"""LIST with its options, LSUB and STATUS (RFC 3501 §6.3, RFC 5258, RFC 5819, RFC 6154)."""

from __future__ import annotations

from mailserver.wire.imap.commands import (
    List,
    ListReturn,
    ListSelect,
    Lsub,
    Status,
    StatusAtt,
)
from mailserver.wire.imap.scanner import Scanner

_SELECT = {option.value: option for option in ListSelect}
_RETURN = {option.value: option for option in ListReturn}
_STATUS = {att.value: att for att in StatusAtt}

_STATUS_OPTION = b"STATUS"  # RFC 5819 §4
_BASE_OPTIONS = frozenset(ListSelect) - {ListSelect.REMOTE, ListSelect.RECURSIVEMATCH}


def parse_list(scanner: Scanner) -> List:
    """Read LIST (RFC 3501 §6.3.8, RFC 5258 §6)."""
    # list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
    scanner.space()
    extended = False
    select: frozenset[ListSelect] = frozenset()
    start = scanner.at
    if scanner.opens():
        extended = True
        select = frozenset(scanner.items(_select_option))
        if ListSelect.RECURSIVEMATCH in select and not select & _BASE_OPTIONS:
            scanner.fail("RECURSIVEMATCH needs another selection option beside it", start)
        scanner.space()
    reference = scanner.mailbox()
    scanner.space()
    if scanner.opens():
        extended = True
        patterns = tuple(scanner.items(Scanner.list_mailbox))
        if not patterns:
            scanner.fail("expected a mailbox name or pattern")
    else:
        patterns = (scanner.list_mailbox(),)
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusAtt, ...] = ()
    if not scanner.at_end():
        extended = True
        returns, status = _return_options(scanner)
    return List(reference, patterns, select, returns, status, extended)


def _select_option(scanner: Scanner) -> ListSelect:
    start = scanner.at
    option = _SELECT.get(scanner.keyword("a selection option of LIST"))
    if option is None:
        scanner.fail("expected a selection option of LIST that is known here", start)
    return option


def _return_options(scanner: Scanner) -> tuple[frozenset[ListReturn], tuple[StatusAtt, ...]]:
    # list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"
    scanner.space()
    if not scanner.word_follows(b"RETURN"):
        scanner.fail("expected RETURN or the end of the command")
    returns: set[ListReturn] = set()
    status: tuple[StatusAtt, ...] = ()
    scanner.open()
    for option in scanner.items(_return_option):
        if isinstance(option, tuple):
            status = option
        else:
            returns.add(option)
    scanner.end()
    return frozenset(returns), status


def _return_option(scanner: Scanner) -> ListReturn | tuple[StatusAtt, ...]:
    start = scanner.at
    name = scanner.keyword("a return option of LIST")
    if name == _STATUS_OPTION:
        scanner.space()
        return parse_status_attributes(scanner)
    option = _RETURN.get(name)
    if option is None:
        scanner.fail("expected a return option of LIST that is known here", start)
    return option


def parse_lsub(scanner: Scanner) -> Lsub:
    """Read LSUB (RFC 3501 §6.3.9)."""
    # lsub = "LSUB" SP mailbox SP list-mailbox
    scanner.space()
    reference = scanner.mailbox()
    scanner.space()
    pattern = scanner.list_mailbox()
    scanner.end()
    return Lsub(reference, pattern)


def parse_status(scanner: Scanner) -> Status:
    """Read STATUS (RFC 3501 §6.3.10)."""
    # status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    attributes = parse_status_attributes(scanner)
    scanner.end()
    return Status(mailbox, attributes)


def parse_status_attributes(scanner: Scanner) -> tuple[StatusAtt, ...]:
    """Read one or more attributes of STATUS in parentheses; doubles are dropped."""
    return tuple(dict.fromkeys(scanner.list_of(_status_attribute, "a STATUS attribute")))


def _status_attribute(scanner: Scanner) -> StatusAtt:
    start = scanner.at
    attribute = _STATUS.get(scanner.keyword("a STATUS attribute"))
    if attribute is None:
        scanner.fail("expected a STATUS attribute that is known here", start)
    return attribute
