"""COPY and UID COPY (RFC 3501 §6.4.7, RFC 4315 §3, RFC 5530 §3)."""

from __future__ import annotations

from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.server.imap.target import copy_uid, find_target, show_arrivals
from mailserver.wire.imap.commands import Copy
from mailserver.wire.imap.grammar.message import parse_copy
from mailserver.wire.imap.responses import EXPUNGEISSUED, Status


async def copy(session: Session, command: Copy) -> Status | None:
    """Copy the messages that are there, all or none of them (T26)."""
    view = session.selected
    uids = view.resolve(command.numbers, by_uid=command.by_uid)
    target, _ = await find_target(session, command.mailbox)
    if not view.spans(uids):
        return None  # T14
    copied = await session.store.copy(session.who, view.image, uids, target.ref)
    await show_arrivals(session, target)
    if not copied.source:
        return ok("these messages are no longer there", EXPUNGEISSUED)
    return ok("COPY completed", copy_uid(target, copied))


SPECS = (
    CommandSpec(b"COPY", parse_copy, copy, SELECTED, uses_seqs=True),
    CommandSpec(b"UID COPY", parse_copy, copy, SELECTED),
)
PROVIDES = (b"UIDPLUS",)
