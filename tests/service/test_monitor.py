"""The monitor of sessions: numbers, limits, and the wait for the last one."""

from __future__ import annotations

from time import monotonic

import attrs
from twisted.internet.defer import CancelledError
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.networks import Networks
from mailserver.service.monitor import SessionLimits, SessionMonitor


@implementer(ISession)
@attrs.define(eq=False)
class Session:
    service: str
    account: str = ""
    address: str = "192.0.2.1"
    number: int = 0
    label: str = "X-00000"
    secure: bool = False
    status: str = ""
    connected_at: float = attrs.Factory(monotonic)
    opened: bool = False
    told: list[str] = attrs.Factory(list)

    def disconnect(self, reason: str) -> None:
        self.told.append(reason)


def test_it_is_a_monitor() -> None:
    verifyObject(ISessionMonitor, SessionMonitor())


def test_a_service_and_its_tls_port_share_one_limit() -> None:
    """SUN-30: over it a connection is refused; one that closes makes room."""
    monitor = SessionMonitor(SessionLimits({"imap": 2}))
    plain, tls, third = Session("imap"), Session("imaps"), Session("imap")
    assert monitor.opened(plain)
    assert monitor.opened(tls)
    assert not monitor.opened(third)
    assert monitor.opened(Session("lmtp"))  # no limit was given
    monitor.closed(third)  # a refused one makes no room
    assert not monitor.opened(Session("imap"))
    monitor.closed(plain)
    assert monitor.opened(Session("imaps"))
    assert monitor.count("imap") == monitor.count("imaps") == 2


def test_sessions_of_one_account_are_limited_per_address() -> None:
    monitor = SessionMonitor(SessionLimits(per_user=1))
    first, second = Session("imap", "a@x"), Session("imaps", "a@x")
    elsewhere = Session("imap", "a@x", "192.0.2.2")
    other = Session("imap", "b@x")
    for session in (first, second, elsewhere, other):
        assert monitor.opened(session)
    assert monitor.logged_in(first)
    assert not monitor.logged_in(second)
    assert monitor.logged_in(elsewhere)
    assert monitor.logged_in(other)
    monitor.closed(first)
    assert monitor.logged_in(second)
    monitor.closed(first)  # twice does no harm
    assert not monitor.logged_in(Session("imap", "a@x"))


def test_connections_without_login_are_limited_per_address() -> None:
    """R11: one host cannot take all; a login frees its place. An IPv6 host is its /64."""
    monitor = SessionMonitor(SessionLimits(per_address=1))
    first = Session("imap", "a@x", "2001:db8::1")
    assert monitor.opened(first)
    assert not monitor.opened(Session("imaps", "", "2001:db8::2"))
    assert monitor.opened(Session("imap", "", "2001:db8:0:1::1"))
    assert monitor.logged_in(first)
    assert monitor.opened(Session("imap", "", "2001:db8::3"))


def test_who_is_trusted_is_not_counted_per_address() -> None:
    """LMTP has no login, so its clients are not counted either."""
    trusted = Networks.of(["192.0.2.0/24"])
    monitor = SessionMonitor(SessionLimits({"imap": 3}, 1, 1, trusted))
    for _ in range(2):
        session = Session("imap", "a@x")
        assert monitor.opened(session)
        assert monitor.logged_in(session)
    for _ in range(5):
        assert monitor.opened(Session("lmtp", "", "198.51.100.1"))
    assert monitor.opened(Session("imap"))
    assert not monitor.opened(Session("imap"))


def test_sessions_of_one_account_are_limited_in_all() -> None:
    monitor = SessionMonitor(SessionLimits(per_account=2))
    places = [Session("imap", "a@x", f"192.0.2.{number}") for number in range(3)]
    assert all(map(monitor.opened, places))
    assert [monitor.logged_in(session) for session in places] == [True, True, False]
    other = Session("imap", "b@x")
    assert monitor.opened(other) and monitor.logged_in(other)
    monitor.closed(places[0])
    assert monitor.logged_in(places[2])


def test_who_logs_in_finds_room_among_those_who_do_not() -> None:
    """R11: a flood of connections that say nothing does not fill a service."""
    time = [100.0]
    monitor = SessionMonitor(SessionLimits({"imap": 3}), lambda: time[0])

    def connect(account: str = "") -> Session:
        session = Session("imap", account, connected_at=time[0])
        session.opened = monitor.opened(session)
        return session

    user = connect("a@x")
    assert monitor.logged_in(user)
    first, second = connect(), connect()
    assert not connect().opened  # the others have not had their time
    time[0] += 6
    assert connect().opened
    assert first.told == ["too many connections, try again later"]
    assert not second.told and not user.told
    monitor.closed(first)  # its place is taken already
    assert monitor.count("imap") == 3
    assert connect().opened and second.told
    assert not connect().opened  # both are new
    time[0] += 600
    late = connect()
    assert late.opened and not user.told
    assert monitor.logged_in(late)
    monitor.closed(user)
    assert monitor.count("imap") == 2


def test_no_room_is_made_for_an_address_that_has_its_share() -> None:
    time = [100.0]
    limits = SessionLimits({"imap": 2}, per_address=1)
    monitor = SessionMonitor(limits, lambda: time[0])
    first = Session("imap", connected_at=100.0)
    second = Session("imap", address="192.0.2.2", connected_at=100.0)
    assert monitor.opened(first) and monitor.opened(second)
    time[0] += 600
    assert not monitor.opened(Session("imap"))
    assert not first.told and not second.told


def test_descriptors_are_shared_by_all_services() -> None:
    """R11: a process never has more connections than it can open files for."""
    time = [100.0]
    monitor = SessionMonitor(SessionLimits(total=3), lambda: time[0])
    oldest, newer = Session("pop3", connected_at=0.0), Session("imap", connected_at=50.0)
    assert monitor.opened(newer) and monitor.opened(oldest)
    assert monitor.opened(Session("lmtp"))
    assert monitor.opened(Session("lmtp"))
    assert oldest.told and not newer.told
    assert monitor.opened(Session("imap", connected_at=99.0)) and newer.told
    assert not monitor.opened(Session("imap", connected_at=100.0))


def test_limits_can_be_replaced() -> None:
    monitor = SessionMonitor(SessionLimits({"imap": 1}))
    assert monitor.opened(Session("imap"))
    assert not monitor.opened(Session("imap"))
    monitor.limits = SessionLimits({"imap": 2})
    assert monitor.opened(Session("imap"))


def test_numbers_are_never_given_twice() -> None:
    """CGP-1."""
    monitor = SessionMonitor()
    assert [monitor.next_number() for _ in range(3)] == [1, 2, 3]


def test_the_last_one_turns_off_the_light() -> None:
    """R18: a shutdown waits for it."""
    monitor = SessionMonitor()
    assert monitor.all_closed().called
    first, second = Session("imap"), Session("lmtp")
    monitor.opened(first)
    monitor.opened(second)
    waiting, given_up = monitor.all_closed(), monitor.all_closed()
    given_up.addErrback(lambda failure: failure.trap(CancelledError))
    given_up.cancel()
    monitor.closed(first)
    assert not waiting.called
    assert monitor.sessions() == [second]
    monitor.closed(second)
    assert waiting.called
