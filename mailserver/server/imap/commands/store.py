"""STORE and UID STORE (RFC 3501 §6.4.6)."""

from __future__ import annotations

from mailserver.server.imap.commands.fetch import tell_flags
from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.server.imap.view import GONE
from mailserver.wire.imap.commands import Store
from mailserver.wire.imap.grammar.message import parse_store
from mailserver.wire.imap.responses import EXPUNGEISSUED, Status


async def store(session: Session, command: Store) -> Status | None:
    """Change flags of the messages that are there (T7), and tell the new ones.

    With `.SILENT` they are told at the end of the command, and only where they are not
    what the client must now think (T8).
    """
    view = session.writable()
    uids = view.resolve(command.numbers, by_uid=command.by_uid)
    spans = view.spans(uids)
    if not spans:
        return None  # T14
    before = view.flags_before() if command.silent else None
    stored = await session.store.store_flags(
        session.who, view.image, uids, command.operation, command.flags
    )
    if before is None:
        view.told_flags(stored.changed, stored.mod_sequence)
        return await tell_flags(session, spans, by_uid=command.by_uid)
    view.hush(before, stored, command.operation, command.flags)
    if view.uids is not view.image.uids and any(GONE in view.flag_ids(*span) for span in spans):
        return ok("some of the messages are no longer there", EXPUNGEISSUED)
    return None


SPECS = (
    CommandSpec(b"STORE", parse_store, store, SELECTED, uses_seqs=True, breaks_seqs=False),
    CommandSpec(b"UID STORE", parse_store, store, SELECTED),
)
