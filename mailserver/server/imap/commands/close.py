"""CLOSE (RFC 3501 §6.4.2)."""

from __future__ import annotations

from mailserver.errors import ErrorKind, MailError
from mailserver.model.acl import Right
from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.wire.imap.commands import Close
from mailserver.wire.imap.grammar.bare import parse_close


async def close(session: Session, command: Close) -> None:
    r"""Leave the mailbox, and remove what has `\Deleted` without a word about it, unless it
    is open read-only or the right to do so is missing (T27)."""
    view = session.selected
    if not view.read_only and Right.EXPUNGE in view.mailbox.rights:
        try:
            await session.store.expunge(session.who, view.image, None)
        except MailError as error:
            if error.kind not in _NOTHING_TO_REMOVE:
                raise
    session.unselect()


_NOTHING_TO_REMOVE = (ErrorKind.NONEXISTENT, ErrorKind.NO_PERMISSION)
"""The mailbox, or the right, has been taken away meanwhile: it can be left nevertheless."""

SPECS = (CommandSpec(b"CLOSE", parse_close, close, SELECTED),)
