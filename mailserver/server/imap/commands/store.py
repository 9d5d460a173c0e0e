"""STORE and UID STORE (RFC 3501 §6.4.6)."""

from __future__ import annotations

from mailserver.model.numset import NumSet
from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.server.imap.view import GONE, View
from mailserver.wire.imap.commands import Store
from mailserver.wire.imap.grammar.message import parse_store
from mailserver.wire.imap.responses import EXPUNGEISSUED, Status


async def store(session: Session, command: Store) -> Status | None:
    """Change flags of the messages that are there (T7).

    The new flags are told at the end of the command; with `.SILENT` only where they are
    not what the client must now think (T8).
    """
    view = session.writable()
    uids = view.resolve(command.numbers, by_uid=command.by_uid)
    if not view.spans(uids):
        return None  # T14
    before = view.flags_before() if command.silent else None
    stored = await session.store.store_flags(
        session.who, view.image, uids, command.operation, command.flags
    )
    if before is not None:
        view.hush(before, stored, command.operation, command.flags)
    else:
        view.owe_flags(view.known(uids))
    if _some_gone(view, uids):
        return ok("some of the messages are no longer there", EXPUNGEISSUED)
    return None


def _some_gone(view: View, uids: NumSet) -> bool:
    if view.uids is view.image.uids:
        return False
    return any(GONE in view.flag_ids(start, end) for start, end in view.spans(uids))


SPECS = (
    CommandSpec(b"STORE", parse_store, store, SELECTED, uses_seqs=True, breaks_seqs=False),
    CommandSpec(b"UID STORE", parse_store, store, SELECTED),
)
