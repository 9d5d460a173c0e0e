"""IDLE (RFC 2177): news as they happen (DOV-1 … DOV-3, SUN-50, T34).

The command waits for a line of the client, for an event, or for the time of the next
keepalive, whichever comes first. Everything that an event brings goes out in one write.
"""

from __future__ import annotations

from zlib import crc32

from mailserver.server.imap.registry import LOGGED_IN, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import bad, ok
from mailserver.wire.imap import commands
from mailserver.wire.imap.grammar.bare import parse_idle
from mailserver.wire.imap.responses import Status


async def idle(session: Session, command: commands.Idle) -> Status:
    """Tell what changes until the client sends DONE (RFC 2177 §3)."""
    connection = session.connection
    session.send((b"+ idling\r\n",))
    session.stale = True  # what changed since the last command is told at once (DOV-3)
    alive_at = next_keepalive(session)
    while True:
        await session.leave_if_forbidden()
        await session.look()
        if session.view is not None:
            if session.view.image.deleted:
                return ok("there is nothing to wait for")
            session.send(session.view.drain(allow_expunge=True))
        now = session.services.clock.seconds()
        if now >= alive_at:
            if not connection.is_full:  # DOV-2: not while output is pending
                session.send((b"* OK Still here\r\n",))
            alive_at = next_keepalive(session)
        line = await connection.line_or_wake(alive_at - now if alive_at < FOREVER else None)
        if line is not None:
            break
    if line.upper() != b"DONE":
        return bad("expected DONE")
    return ok("IDLE completed")


FOREVER = float("inf")


def next_keepalive(session: Session) -> float:
    """When to say `* OK Still here` next, by the clock; `FOREVER` if never.

    The moments follow from account and address, so that the connections of one client
    wake it together, and those of many clients are spread (DOV-2).
    """
    interval = session.settings.idle_notify_interval
    if interval <= 0:
        return FOREVER
    who = f"{session.who.name} {session.connection.address}".encode()
    offset = crc32(who) % 65536 / 65536 * interval
    now = session.services.clock.seconds()
    return now + interval - (now - offset) % interval


SPECS = (CommandSpec(b"IDLE", parse_idle, idle, LOGGED_IN, needs=b"IDLE"),)
