"""Commands that change messages: STORE, COPY, MOVE, EXPUNGE, with their UID variants."""

from __future__ import annotations

from mailserver.model.flags import FlagOp
from mailserver.model.numset import SequenceSet
from mailserver.wire.imap.commands import Copy, Expunge, Move, Parameter, Store
from mailserver.wire.imap.grammar.parameters import Table, parse_parameters
from mailserver.wire.imap.scanner import Scanner

STORE_MODIFIERS: Table = {}
"""RFC 4466 §2.5: modifiers of STORE."""

_OPERATIONS: dict[bytes, tuple[FlagOp, bool]] = {
    b"FLAGS": (FlagOp.REPLACE, False),
    b"FLAGS.SILENT": (FlagOp.REPLACE, True),
    b"+FLAGS": (FlagOp.ADD, False),
    b"+FLAGS.SILENT": (FlagOp.ADD, True),
    b"-FLAGS": (FlagOp.REMOVE, False),
    b"-FLAGS.SILENT": (FlagOp.REMOVE, True),
}
_PARENTHESIS = 0x28


def parse_store(scanner: Scanner) -> Store:
    """Read STORE (RFC 3501 §6.4.6)."""
    # store = "STORE" SP sequence-set [store-modifiers] SP store-att-flags
    scanner.space()
    numbers = scanner.sequence_set()
    scanner.space()
    modifiers: tuple[Parameter, ...] = ()
    if scanner.peek() == _PARENTHESIS:
        modifiers = parse_parameters(scanner, STORE_MODIFIERS, "a STORE modifier")
        scanner.space()
    start = scanner.at
    what = _OPERATIONS.get(scanner.keyword("FLAGS, +FLAGS or -FLAGS"))
    if what is None:
        scanner.fail("expected FLAGS, +FLAGS or -FLAGS, perhaps with .SILENT", start)
    operation, silent = what
    scanner.space()
    if scanner.peek() == _PARENTHESIS:
        flags = scanner.flag_list()
    else:
        start = scanner.at
        names = [scanner.flag()]
        while not scanner.at_end():
            scanner.space()
            names.append(scanner.flag())
        flags = scanner.make_flags(names, start)
    scanner.end()
    return Store(numbers, operation, flags, silent, scanner.by_uid, modifiers)


def parse_copy(scanner: Scanner) -> Copy:
    """Read COPY (RFC 3501 §6.4.7)."""
    numbers, mailbox = _numbers_and_mailbox(scanner)
    return Copy(numbers, mailbox, scanner.by_uid)


def parse_move(scanner: Scanner) -> Move:
    """Read MOVE (RFC 6851 §3.1)."""
    numbers, mailbox = _numbers_and_mailbox(scanner)
    return Move(numbers, mailbox, scanner.by_uid)


def _numbers_and_mailbox(scanner: Scanner) -> tuple[SequenceSet, str]:
    # copy = "COPY" SP sequence-set SP mailbox
    scanner.space()
    numbers = scanner.sequence_set()
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.end()
    return numbers, mailbox


def parse_expunge(scanner: Scanner) -> Expunge:
    """Read EXPUNGE (RFC 3501 §6.4.3)."""
    scanner.end()
    return Expunge()


def parse_uid_expunge(scanner: Scanner) -> Expunge:
    """Read UID EXPUNGE (RFC 4315 §2.1)."""
    scanner.space()
    uids = scanner.sequence_set()
    scanner.end()
    return Expunge(uids)
