"""APPEND, whose messages do not stand in the command's octets (RFC 3501 §6.3.11, RFC 3502).

The reader stops at every literal. At those of an APPEND the session calls `parse_append`,
and for further messages `parse_append_next`, to learn what is coming: `LiteralPending`
means that the literal is the mailbox name, which belongs into the command.
"""

from __future__ import annotations

from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.wire.imap.commands import Append, AppendMessage
from mailserver.wire.imap.scanner import Scanner

_PARENTHESIS = 0x28
_QUOTE = 0x22


def parse_append(scanner: Scanner) -> Append:
    """Read APPEND up to the announcement of its first message, where the octets end.

    Raises:
        LiteralPending: the literal that the octets end with is the mailbox name.
        SyntaxFault: anything else is wrong, also when no literal was announced.
    """
    # append = "APPEND" SP mailbox 1*append-message
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    return Append(mailbox, _message(scanner))


def parse_append_next(scanner: Scanner) -> AppendMessage | None:
    """Read what follows a message's octets: the announcement of the next message, where
    the octets end, or the end of the command (None).
    """
    if scanner.at_end():
        return None
    scanner.space()
    return _message(scanner)


def _message(scanner: Scanner) -> AppendMessage:
    # append-message = [SP flag-list] [SP date-time] SP literal
    flags = Flags()
    date: InternalDate | None = None
    if scanner.peek() == _PARENTHESIS:
        flags = scanner.flag_list()
        scanner.space()
    if scanner.peek() == _QUOTE:
        date = scanner.date_time()
        scanner.space()
    size, binary, synchronizing = scanner.literal_header()
    return AppendMessage(flags, date, size, binary, synchronizing)
