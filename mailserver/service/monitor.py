"""Every live session of this process, and how many there may be (SUN-30, CGP-10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from itertools import count
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver.auth.filters.access import Access
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.networks import Networks, counted_as

_TLS_PORTS: Final = {"imaps": "imap", "pop3s": "pop3", "lmtps": "lmtp", "https": "http"}

WITHOUT_LOGIN: Final = frozenset({"lmtp"})
"""Services whose clients are few hosts with many connections, which never log in."""


def counted_service(service: str) -> str:
    """The service whose limit a listener shares: that of its plain port."""
    return _TLS_PORTS.get(service, service)


@attrs.frozen
class SessionLimits:
    """How many sessions there may be at once; 0 or no entry for no limit.

    Attributes:
        per_service: connections of a service in this process (`service.X.maxsessions`).
        per_user: sessions of one account from one address (`service.maxsessionsperuser`).
        per_address: connections from one address that have not logged in
            (`service.maxsessionsperaddress`); LMTP knows no login and is not counted.
        trusted: proxies and webmail hosts, for which the limits per address do not hold.
    """

    per_service: Mapping[str, int] = attrs.Factory(dict)
    per_user: int = 0
    per_address: int = 0
    trusted: Networks = Networks()


@implementer(ISessionMonitor)
class SessionMonitor:
    """Counts sessions; those over a limit are refused and not counted.

    Attributes:
        limits: may be replaced at any time; acts on what comes after.
        access: who may connect; everybody by default.
    """

    def __init__(self, limits: SessionLimits = SessionLimits()) -> None:
        self.limits = limits
        self.access = Access()
        # Everybody who is to be told of a shutdown, with what each is counted under.
        self._live: dict[ISession, list[Hashable]] = {}
        self._counts: Counter[Hashable] = Counter()
        self._numbers = count(1)
        self._waiting: list[Deferred[None]] = []

    def opened(self, session: ISession) -> bool:
        """Register a connection; False if it is one too many."""
        held = self._live.setdefault(session, [])
        service = counted_service(session.service)
        limits = self.limits
        wanted: list[tuple[Hashable, int]] = [(service, limits.per_service.get(service, 0))]
        if service not in WITHOUT_LOGIN and session.address not in limits.trusted:
            wanted.append((("address", counted_as(session.address)), limits.per_address))
        return self._take(held, wanted)

    async def refusal(self, session: ISession) -> str:
        """Ask the filters of the service; where nobody logs in, an open decision refuses."""
        decision = await self.access.at_connect(session.service, session.address)
        waits_for_login = decision.open and counted_service(session.service) not in WITHOUT_LOGIN
        return "" if decision.granted or waits_for_login else decision.reason

    def logged_in(self, session: ISession) -> bool:
        """Count a session for its account instead of its address; False if that is one
        too many."""
        held = self._live.setdefault(session, [])
        address = counted_as(session.address)
        limit = 0 if session.address in self.limits.trusted else self.limits.per_user
        if not self._take(held, [(("user", session.account, address), limit)]):
            return False
        # By PROXYAUTH a session becomes another account's (SUN-14).
        self._give_back(held, [key for key in held[:-1] if isinstance(key, tuple)])
        return True

    def closed(self, session: ISession) -> None:
        """Forget a connection; one that is not known is passed over."""
        held = self._live.pop(session, [])
        self._give_back(held, list(held))
        if not self._live:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def _take(self, held: list[Hashable], wanted: list[tuple[Hashable, int]]) -> bool:
        """Count under all of the keys, or under none if one is at its limit."""
        if any(limit and self._counts[key] >= limit for key, limit in wanted):
            return False
        for key, _ in wanted:
            self._counts[key] += 1
            held.append(key)
        return True

    def _give_back(self, held: list[Hashable], keys: list[Hashable]) -> None:
        for key in keys:
            held.remove(key)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def sessions(self) -> Iterable[ISession]:
        """All live ones, oldest first; the list may be kept."""
        return list(self._live)

    def next_number(self) -> int:
        """A number for a new session: 1, 2, …"""
        return next(self._numbers)

    def count(self, service: str) -> int:
        """Connections of a service that are counted now."""
        return self._counts[counted_service(service)]

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
