"""CLOSE (RFC 3501 §6.4.2)."""

from __future__ import annotations

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
        await session.store.expunge(session.who, view.image, None)
    session.unselect()


SPECS = (CommandSpec(b"CLOSE", parse_close, close, SELECTED),)
