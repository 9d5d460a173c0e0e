"""Every live session of this process, and how many there may be (SUN-30, CGP-10, R11).

A service that is full of connections which have not logged in is no service. So where there
is no room, one that waits for its login makes some; who has logged in keeps his place, and so
does whoever's password is being checked. Which one goes: that which waits longest at the
address with most of them (`guests.py`), at once if the newcomer's address will have fewer,
else only after `GUEST_TIME`. What follows from that:

- Silent or trickling connections take no place from anybody who comes with fewer of them. If
  they come one from each address, they lose their places in the order of their coming.
- Quick connections from many addresses, while few places are free: from fewer addresses than
  places, they only push out each other. From more of them nobody can be told apart, so each
  has the time of a login and newcomers are refused meanwhile; without it nobody would ever
  get as far as a login.
- Clients that come back all at once, after a restart: a slow check costs none of them his
  place, because a check ends by itself. Whoever finds all places full of checks is refused, and
  comes again. The time for which the throttle holds a login back is no check: guessing on
  purpose would make places safe.
- TLS handshakes are guests like all others, since silence amid one costs nothing either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import count
from typing import Final, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.runtime import seconds
from zope.interface import implementer

from mailserver.auth.filters.access import Access
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.networks import Networks, counted_as
from mailserver.service.guests import Guests

_TLS_PORTS: Final = {"imaps": "imap", "pop3s": "pop3", "lmtps": "lmtp", "https": "http"}

_TOTAL: Final = "all"

SharedKey: TypeAlias = tuple[str, ...]
"""What is counted over all processes: (`address`, ADDRESS), (`account`, ACCOUNT) or (`user`,
ACCOUNT, ADDRESS)."""

_Wanted: TypeAlias = tuple[Hashable, int]
"""What is counted, and its limit."""

GUEST_TIME: Final = 1.0
"""Seconds after which a connection may have to make room for one whose address has as many:
a handshake and a login from far away."""

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
        total: connections of all services, what the process has descriptors for.
        per_user: sessions of one account from one address (`service.maxsessionsperuser`).
        per_account: sessions of one account (`service.maxsessionsperaccount`).
        per_address: connections from one address that have not logged in
            (`service.maxsessionsperaddress`); LMTP knows no login and is not counted.
        trusted: proxies and webmail hosts, for which the limits per address do not hold.
    """

    per_service: Mapping[str, int] = attrs.Factory(dict)
    per_user: int = 0
    per_address: int = 0
    trusted: Networks = Networks()
    total: int = 0
    per_account: int = 0


@implementer(ISessionMonitor)
class SessionMonitor:
    """Counts sessions; those over a limit are refused and not counted.

    Args:
        clock: seconds, that of `ISession.connected_at`: the reactor's.
        numbers: of sessions, ascending; 1, 2, … if None.

    Attributes:
        limits: may be replaced at any time; acts on what comes after.
        access: who may connect; everybody by default.
        elsewhere: sessions of other processes, by account and address: they count for the
            limits of an account and of an address, not for those of a service.
        counted: is called with an account's or an address's key, and how many sessions more
            there are here now.
    """

    log = Logger()

    def __init__(
        self,
        limits: SessionLimits = SessionLimits(),
        clock: Callable[[], float] = seconds,
        *,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.limits = limits
        self._clock = clock
        self.access = Access()
        # Everybody who is to be told of a shutdown, with what each is counted under.
        self._live: dict[ISession, list[Hashable]] = {}
        self._counts: Counter[Hashable] = Counter()
        # Not logged in, of each service where people log in; and those of them whose login
        # is being checked.
        self._guests: defaultdict[str, Guests] = defaultdict(Guests)
        self._checked: set[ISession] = set()
        # Logins under way, with the accounts that were kicked meanwhile, and why.
        self._entering: dict[ISession, dict[str, str]] = {}
        self.elsewhere: Counter[SharedKey] = Counter()
        self.counted: Callable[[SharedKey, int], None] = lambda key, more: None
        self._numbers = count(1) if numbers is None else numbers
        self._waiting: list[Deferred[None]] = []

    def opened(self, session: ISession) -> bool:
        """Register a connection; False if it is one too many. Another that waits for its
        login may be ended in its place."""
        held = self._live.setdefault(session, [])
        service = counted_service(session.service)
        limits = self.limits
        is_counted = service not in WITHOUT_LOGIN and session.address not in limits.trusted
        wanted: list[_Wanted] = []
        if is_counted:
            wanted.append((("address", counted_as(session.address)), limits.per_address))
        if self._is_over(wanted):
            return False
        own: _Wanted = (service, limits.per_service.get(service, 0))
        everybody: _Wanted = (_TOTAL, limits.total)
        if self._is_over([own]) and not self._make_room(session, [self._guests[service]]):
            return False
        if self._is_over([everybody]) and not self._make_room(session, self._guests.values()):
            return False
        self._take(held, [own, everybody, *wanted])
        if is_counted:
            self._guests[service].add(session)
        return True

    def _make_room(self, newcomer: ISession, services: Iterable[Guests]) -> bool:
        """End a connection that waits for its login; False if none has to go."""
        firsts = [(one, first) for one in services if (first := one.first()) is not None]
        if not firsts:
            return False
        crowded, found = min(firsts, key=lambda pair: (-pair[0].most, pair[1].connected_at))
        is_fair = crowded.most > crowded.of(newcomer.address) + 1
        if not is_fair and self._clock() - found.connected_at < GUEST_TIME:
            return False
        self.log.info(
            "{label} ended to make room for others", label=found.label, address=found.address
        )
        self._forget(found)
        found.disconnect("too many connections, try again later")
        return True

    def _forget(self, session: ISession) -> None:
        """Count a session no more."""
        self._no_guest(session)
        held = self._live.get(session, [])
        self._give_back(held, list(held))

    def _no_guest(self, session: ISession) -> None:
        self._checked.discard(session)
        self._guests[counted_service(session.service)].remove(session)

    def check_began(self, session: ISession) -> None:
        """Keep its place for it; nothing for one that is in, or not counted."""
        if self._guests[counted_service(session.service)].remove(session):
            self._checked.add(session)

    def check_ended(self, session: ISession) -> None:
        """Let it wait again, as the last one of its address."""
        if session in self._checked:
            self._checked.remove(session)
            self._guests[counted_service(session.service)].add(session)

    async def refusal(self, session: ISession) -> str:
        """Ask the filters of the service; where nobody logs in, an open decision refuses."""
        decision = await self.access.at_connect(session.service, session.address)
        waits_for_login = decision.open and counted_service(session.service) not in WITHOUT_LOGIN
        return "" if decision.granted or waits_for_login else decision.reason

    def login_began(self, session: ISession) -> None:
        """From now on `kicked` concerns this login."""
        self._entering[session] = {}

    def kicked(self, account: str, reason: str) -> None:
        """Let no login under way end in this account."""
        for kicked in self._entering.values():
            kicked[account] = reason

    def logged_in(self, session: ISession) -> bool:
        """Count a session for its account instead of its address; False if that is one
        too many.

        Raises:
            MailError: UNAVAILABLE if the account was kicked since `login_began`.
        """
        reason = self._entering.pop(session, {}).get(session.account)
        if reason is not None:
            raise MailError(ErrorKind.UNAVAILABLE, reason)
        held = self._live.setdefault(session, [])
        address, account, limits = counted_as(session.address), session.account, self.limits
        per_user = 0 if session.address in limits.trusted else limits.per_user
        wanted: list[_Wanted] = [
            (("user", account, address), per_user),
            (("account", account), limits.per_account),
        ]
        if self._is_over(wanted):
            return False
        # By PROXYAUTH a session becomes another account's (SUN-14).
        self._give_back(held, [key for key in held if isinstance(key, tuple)])
        self._take(held, wanted)
        self._no_guest(session)
        return True

    def closed(self, session: ISession) -> None:
        """Forget a connection; one that is not known is passed over."""
        self._forget(session)
        self._entering.pop(session, None)
        self._live.pop(session, None)
        if not self._live:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def _is_over(self, wanted: Iterable[_Wanted]) -> bool:
        """One more would be one too many."""
        return any(
            limit and self._counts[key] + self.elsewhere[key] >= limit  # type: ignore[index]
            for key, limit in wanted
        )

    def _take(self, held: list[Hashable], wanted: Iterable[_Wanted]) -> None:
        for key, _ in wanted:
            self._counts[key] += 1
            held.append(key)
            if isinstance(key, tuple):
                self.counted(key, 1)

    def _give_back(self, held: list[Hashable], keys: list[Hashable]) -> None:
        for key in keys:
            held.remove(key)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
            if isinstance(key, tuple):
                self.counted(key, -1)

    def shared(self) -> Counter[SharedKey]:
        """Sessions of this process by account and by address, as `elsewhere` has those of
        others."""
        return Counter({key: n for key, n in self._counts.items() if isinstance(key, tuple)})

    def sessions(self) -> Iterable[ISession]:
        """All live ones, oldest first; the list may be kept."""
        return list(self._live)

    def next_number(self) -> int:
        """A number for a new session."""
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
