"""Sessions as an administrator sees and ends them: `who` and `kick` (CGP-1, CGP-10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.service.control import Command, Row

KICKED = "disconnected by the administrator"


def session_commands(
    monitor: ISessionMonitor, clock: Callable[[], float], now: Callable[[], float]
) -> dict[str, Command]:
    """The commands of the control socket that concern sessions.

    Args:
        clock: that of `ISession.connected_at`.
        now: seconds since 1970 UTC.
    """

    def who(request: Row) -> Iterator[Row]:
        for session in monitor.sessions():
            yield describe(session, clock(), now())

    def kick(request: Row) -> list[Row]:
        is_chosen = _chooser(request)
        chosen = [session for session in monitor.sessions() if is_chosen(session)]
        rows = [describe(session, clock(), now()) for session in chosen]
        given, account = request.get("reason"), request.get("account")
        reason = given if isinstance(given, str) else KICKED
        if isinstance(account, str):  # nobody knows yet whose sessions those will be
            monitor.kicked(account, reason)
        for session in chosen:
            session.disconnect(reason)
        return rows

    return {"who": who, "kick": kick}


def describe(session: ISession, clock: float, now: float) -> Row:
    """A session as a row: `number`, `session`, `service`, `account`, `address`, `tls`,
    `status`, `since` (ISO 8601, UTC), `seconds`."""
    seconds = max(0.0, clock - session.connected_at)
    since = datetime.fromtimestamp(now - seconds, UTC)
    return {
        "number": session.number,
        "session": session.label,
        "service": session.service,
        "account": session.account,
        "address": session.address,
        "tls": session.secure,
        "status": session.status,
        "since": since.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(seconds),
    }


def _chooser(request: Row) -> Callable[[ISession], bool]:
    """Which sessions a request is about; it must say so.

    Raises:
        MailError: INVALID.
    """
    wanted: dict[str, Any] = {
        name: request[name] for name in ("account", "address", "number") if name in request
    }
    if not wanted and request.get("all") is not True:
        raise MailError(ErrorKind.INVALID, "which sessions: an account, address, number, or all")
    return lambda session: all(getattr(session, name) == value for name, value in wanted.items())
