"""Opening and leaving a mailbox: SELECT, EXAMINE, CHECK (RFC 3501 §6.3, §6.4), UNSELECT
(RFC 3691)."""

from __future__ import annotations

from mailserver.model.acl import Right
from mailserver.server.imap.registry import LOGGED_IN, SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.wire.imap import commands
from mailserver.wire.imap.grammar.bare import parse_check, parse_unselect
from mailserver.wire.imap.grammar.mailbox import parse_examine, parse_select
from mailserver.wire.imap.responses import READ_ONLY, READ_WRITE, Status

CHANGING_RIGHTS = frozenset({Right.INSERT, Right.EXPUNGE, Right.WRITE, Right.DELETE_MESSAGES})
"""Without one of these SELECT answers READ-ONLY (RFC 4314 §5.2); `\\Seen` is each user's
own and does not count."""


async def select(session: Session, command: commands.Select) -> Status:
    """Open a mailbox; the old one is left, also if this fails (RFC 3501 §6.3.1)."""
    try:
        mailbox, image = await session.store.select(session.who, command.mailbox)
    finally:
        session.unselect()  # only now: nothing is loaded again if it is the same one
    view = session.select(mailbox, image, read_only=command.read_only)
    flags, permanent = view.flag_lines()
    first_unseen = view.first_unseen()
    numbers = b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.count, len(view.recent))
    uids = b"* OK [UIDVALIDITY %d] UIDs are valid\r\n* OK [UIDNEXT %d] predicted next UID\r\n" % (
        image.uid_validity,
        image.uid_next,
    )
    session.send((flags, numbers, permanent, uids))
    if first_unseen is not None:
        session.send((b"* OK [UNSEEN %d] first unseen message\r\n" % first_unseen,))
    if command.read_only:
        return ok("EXAMINE completed", READ_ONLY)
    return ok("SELECT completed", READ_WRITE if mailbox.rights & CHANGING_RIGHTS else READ_ONLY)


async def unselect(session: Session, command: commands.Unselect) -> None:
    """Leave the mailbox without expunging (RFC 3691 §2, T27)."""
    session.unselect()


async def check(session: Session, command: commands.Check) -> None:
    """Nothing to tidy up: everything answered is durable. Like NOOP (RFC 3501 §6.4.1)."""
    await session.refresh()


SPECS = (
    CommandSpec(b"SELECT", parse_select, select, LOGGED_IN),
    CommandSpec(b"EXAMINE", parse_examine, select, LOGGED_IN),
    CommandSpec(b"UNSELECT", parse_unselect, unselect, SELECTED, needs=b"UNSELECT"),
    CommandSpec(b"CHECK", parse_check, check, SELECTED, tells_arrivals=True),
)
