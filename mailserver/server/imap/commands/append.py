"""APPEND (RFC 3501 §6.3.11, RFC 3502, RFC 4315 §3, RFC 7889)."""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISpooled
from mailserver.model.flags import Flags
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.message import InternalDate
from mailserver.model.quota import QuotaRoot
from mailserver.server.imap.registry import LOGGED_IN, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import ok
from mailserver.server.imap.target import append_uid, find_target, show_arrivals, try_create
from mailserver.wire.imap.commands import Append, AppendMessage
from mailserver.wire.imap.grammar.append import parse_append, parse_append_next
from mailserver.wire.imap.responses import Status
from mailserver.wire.imap.scanner import Scanner

SENT_ANYWAY = 65536
"""Octets of a command's messages up to which the target is not looked at before they are taken,
if the client sends them without being asked to."""


async def append(session: Session, command: Append) -> Status:
    """Take in one or more messages, all or none (T25).

    The target is looked at before the first octet is asked for. A message over the limit,
    over the quota or of no octets is refused when it is announced, and with it all others:
    a client need not send 50 MB to be told so. Only of the few octets that come unasked is it
    found out when they are put away.
    """
    store, who = session.store, session.who
    few = min(SENT_ANYWAY, store.max_message_size)
    target: MailboxInfo | None = None
    roots: Sequence[QuotaRoot] = ()
    taken: list[tuple[ISpooled, Flags, InternalDate]] = []
    try:
        message: AppendMessage | None = command.first
        octets = 0
        while message is not None:
            octets += message.size
            comes_unasked = message.size > 0 and octets <= few
            if target is None and (session.connection.awaits_leave or not comes_unasked):
                target, roots = await find_target(session, command.mailbox)
            _check(message, store.max_message_size)
            for root in roots:
                root.check_room(octets, len(taken) + 1)
            spooled = await _receive(session)
            taken.append((spooled, message.flags, message.date or _now(session)))
            rest = await session.connection.command_rest()
            message = parse_append_next(Scanner(rest, session.dialect)) if rest else None
        if target is not None:
            copied = await store.append(who, target.ref, taken)
        else:
            with try_create(command.mailbox):
                target, copied = await store.append_to(who, command.mailbox, taken)
    finally:
        for spooled, _, _ in taken:
            spooled.discard()
    await show_arrivals(session, target)
    return ok("APPEND completed", append_uid(target, copied))


def _check(message: AppendMessage, limit: int) -> None:
    """Look at what is announced.

    Raises:
        MailError: TOO_BIG, BAD_MESSAGE.
    """
    if message.size > limit:
        raise MailError(ErrorKind.TOO_BIG, f"a message may have at most {limit} octets here")
    if not message.size:
        raise MailError(ErrorKind.BAD_MESSAGE, "a message must not be empty")


async def _receive(session: Session) -> ISpooled:
    """Take in one message, streamed: it is never in memory as a whole when it is large.

    Raises:
        MailError: TOO_BIG once its line ends are mended, DISK_FULL.
    """
    spool = session.store.spool()
    try:
        await session.connection.accept_literal(spool.write)
        return await spool.finish()
    except BaseException:
        spool.discard()
        raise


def _now(session: Session) -> InternalDate:
    return InternalDate(int(session.services.now()))


SPECS = (CommandSpec(b"APPEND", parse_append, append, LOGGED_IN, streams=True),)
PROVIDES = (b"MULTIAPPEND", b"APPENDLIMIT")
