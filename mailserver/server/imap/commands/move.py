"""MOVE and UID MOVE (RFC 6851)."""

from __future__ import annotations

from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.server.imap.target import copy_uid, find_target
from mailserver.wire.imap.commands import Move
from mailserver.wire.imap.grammar.message import parse_move
from mailserver.wire.imap.responses import EXPUNGEISSUED, Status


async def move(session: Session, command: Move) -> Status | None:
    """Move the messages that are there, all or none of them.

    COPYUID goes out untagged, before the EXPUNGEs that the end of the command sends (T26).
    """
    view = session.writable()
    uids = view.resolve(command.numbers, by_uid=command.by_uid)
    target, _ = await find_target(session, command.mailbox)
    if not view.spans(uids):
        return None  # T14
    copied = await session.store.move(session.who, view.image, uids, target.ref)
    await session.refresh()
    if not copied.source:
        return ok("these messages are no longer there", EXPUNGEISSUED)
    code = copy_uid(target, copied)
    if code is not None:
        session.respond(ok("moved", code))
    return None


SPECS = (
    CommandSpec(b"MOVE", parse_move, move, SELECTED, uses_seqs=True, needs=b"MOVE"),
    CommandSpec(b"UID MOVE", parse_move, move, SELECTED, needs=b"MOVE"),
)
