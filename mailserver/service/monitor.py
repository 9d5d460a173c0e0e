"""Every live session of this process, and how many there may be (SUN-30, CGP-10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver.interfaces import ISession, ISessionMonitor

COUNTED_AS: Final = {"imaps": "imap", "pops": "pop", "https": "http"}
"""A TLS port shares the limit of its service."""


@implementer(ISessionMonitor)
class SessionMonitor:
    """Counts sessions; those over a limit are refused and not counted.

    Args:
        max_sessions: by service, connections at once in this process; a service that is
            not named has no limit (`service.X.maxsessions`, SUN-30).
        max_per_account: logged-in sessions of one account and service; 0 for no limit.
    """

    def __init__(self, max_sessions: Mapping[str, int], max_per_account: int = 0) -> None:
        self._max_sessions = max_sessions
        self._max_per_account = max_per_account
        self._live: dict[ISession, str] = {}  # session -> what it is counted as, or nothing
        self._counts: Counter[str] = Counter()
        self._accounts: Counter[tuple[str, str]] = Counter()
        self._logged_in: dict[ISession, tuple[str, str]] = {}
        self._numbers = count(1)
        self._waiting: list[Deferred[None]] = []

    def opened(self, session: ISession) -> bool:
        """Register a connection; False if it is one too many."""
        service = COUNTED_AS.get(session.service, session.service)
        limit = self._max_sessions.get(service)
        if limit is not None and self._counts[service] >= limit:
            self._live[session] = ""
            return False
        self._live[session] = service
        self._counts[service] += 1
        return True

    def closed(self, session: ISession) -> None:
        """Forget a connection; one that is not known is passed over."""
        service = self._live.pop(session, "")
        if service:
            self._counts[service] -= 1
        account = self._logged_in.pop(session, None)
        if account is not None:
            self._accounts[account] -= 1
            if not self._accounts[account]:
                del self._accounts[account]
        if not self._live:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def logged_in(self, session: ISession) -> bool:
        """Count a session for its account; False if that is one too many."""
        account = (COUNTED_AS.get(session.service, session.service), session.account)
        if self._max_per_account and self._accounts[account] >= self._max_per_account:
            return False
        self._accounts[account] += 1
        self._logged_in[session] = account
        return True

    def sessions(self) -> Iterable[ISession]:
        """All live ones, oldest first; the list may be kept."""
        return list(self._live)

    def next_number(self) -> int:
        """A number for a new session: 1, 2, …"""
        return next(self._numbers)

    def count(self, service: str) -> int:
        """Connections of a service that are counted now."""
        return self._counts[COUNTED_AS.get(service, service)]

    def all_closed(self) -> Deferred[None]:
        """Fires when no session is left; may be cancelled."""
        deferred: Deferred[None] = Deferred(
            lambda gone: self._waiting.remove(gone) if gone in self._waiting else None
        )
        self._waiting.append(deferred)
        if not self._live:
            self._waiting.remove(deferred)
            deferred.callback(None)
        return deferred
