"""EXPUNGE and UID EXPUNGE (RFC 3501 §6.4.3, RFC 4315 §2.1)."""

from __future__ import annotations

from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.wire.imap.commands import Expunge
from mailserver.wire.imap.grammar.message import parse_expunge, parse_uid_expunge


async def expunge(session: Session, command: Expunge) -> None:
    r"""Remove messages with `\Deleted`; the end of the command tells which (T6)."""
    view = session.writable()
    uids = None if command.uids is None else view.resolve(command.uids, by_uid=True)
    await session.store.expunge(session.who, view.image, uids)


SPECS = (
    CommandSpec(b"EXPUNGE", parse_expunge, expunge, SELECTED, uses_seqs=True),
    CommandSpec(b"UID EXPUNGE", parse_uid_expunge, expunge, SELECTED, needs=b"UIDPLUS"),
)
