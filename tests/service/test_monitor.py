"""The monitor of sessions: numbers, limits, and the wait for the last one."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.defer import CancelledError
from twisted.python.runtime import seconds
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.model.networks import Networks
from mailserver.service.monitor import GUEST_TIME, SessionLimits, SessionMonitor


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
    connected_at: float = attrs.Factory(seconds)
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


@attrs.define
class Scene:
    """A service with few places, and whoever comes to it."""

    places: int
    time: float = 100.0
    monitor: SessionMonitor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.monitor = SessionMonitor(SessionLimits({"imap": self.places}), lambda: self.time)

    def connect(self, place: int = 1, account: str = "", service: str = "imap") -> Session:
        address = f"10.{place >> 16}.{place >> 8 & 255}.{place & 255}"
        session = Session(service, account, address, connected_at=self.time)
        session.opened = self.monitor.opened(session)
        return session

    def fill(self, hosts: int) -> list[Session]:
        """All places are taken, from so many hosts in turn."""
        return [self.connect(number % hosts) for number in range(self.places)]


def test_who_logs_in_finds_room_among_those_who_do_not() -> None:
    """R11: a flood of connections that say nothing does not fill a service."""
    scene = Scene(3)
    monitor = scene.monitor
    user = scene.connect(1, "a@x")
    assert monitor.logged_in(user)
    first, second = scene.connect(1), scene.connect(2)
    assert not scene.connect(3).opened  # the others have not had their time
    scene.time += GUEST_TIME
    assert scene.connect(3).opened
    assert first.told == ["too many connections, try again later"]
    assert not second.told and not user.told
    monitor.closed(first)  # its place is taken already
    assert monitor.count("imap") == 3
    assert scene.connect(4).opened and second.told
    assert not scene.connect(5).opened  # both are new
    scene.time += 600
    late = scene.connect(5)
    assert late.opened and not user.told
    assert monitor.logged_in(late)
    monitor.closed(user)
    assert monitor.count("imap") == 2


@pytest.mark.parametrize("service", ["imap", "imaps"])
def test_silence_takes_no_place_from_others(service: str) -> None:
    """R11: a few hosts open very many connections, within a moment; everybody else comes in
    at once, and amid a handshake of TLS a connection is a guest like any other."""
    scene = Scene(4000)
    flood = scene.fill(50)
    assert all(session.opened for session in flood)
    others = [scene.connect(1000 + number, "a@x", service) for number in range(70)]
    assert all(session.opened for session in others)
    assert flood[0].told and not any(session.told for session in others)
    gone = [number for number, session in enumerate(flood) if session.told]
    assert gone == list(range(70)), "each host has lost those that came first"
    assert all(map(scene.monitor.logged_in, others))


def test_a_quick_flood_for_few_places_pushes_out_itself() -> None:
    """R11: whoever comes alone keeps the place for as long as there is a host with more."""
    scene = Scene(4000)
    for number in range(3990):
        user = scene.connect(number + 1000, "a@x")
        assert user.opened and scene.monitor.logged_in(user)
    waiting = scene.connect(1)
    for number in range(500):
        scene.time += 0.002
        scene.connect(2 + number % 5)
    assert not waiting.told
    late = scene.connect(10)
    assert late.opened
    assert scene.monitor.count("imap") == 4000
    scene.time += 60
    for number in range(500):
        scene.connect(2 + number % 5)
    assert not waiting.told and not late.told


def test_of_a_flood_from_everywhere_each_has_the_time_of_a_login() -> None:
    """R11: from more hosts than there are places, one from each."""
    scene = Scene(10)
    admitted: list[Session] = []
    for number in range(1000):
        scene.time += 0.005
        session = scene.connect(number)
        if session.opened:
            admitted.append(session)
            assert not session.told
    assert len(admitted) == 10 * 5  # in five seconds
    for session in admitted[:-10]:
        assert session.told
    assert not any(session.told for session in admitted[-10:])


def test_clients_that_come_back_at_once_keep_places_while_they_are_checked() -> None:
    """R11: after a restart; the pool of checks takes its time."""
    scene = Scene(4000)
    clients = [scene.connect(number, "a@x") for number in range(4000)]
    for client in clients:
        scene.monitor.check_began(client)
    scene.time += 60
    late = [scene.connect(5000 + number) for number in range(1000)]
    assert not any(client.opened for client in late)
    assert not any(client.told for client in clients)
    for client in clients[:1000]:
        scene.monitor.check_ended(client)
        assert scene.monitor.logged_in(client)
    assert not scene.connect(9999).opened, "who is in keeps the place, too"
    scene.monitor.check_ended(clients[1000])  # a wrong password: it waits again
    assert scene.connect(9999).opened
    assert [client for client in clients if client.told] == [clients[1000]]


def test_who_was_checked_in_vain_waits_as_the_last_of_its_address() -> None:
    scene = Scene(3)
    first, second, _ = [scene.connect(1) for _ in range(3)]
    scene.monitor.check_began(first)
    scene.monitor.check_ended(first)
    scene.monitor.check_ended(first)  # twice does no harm
    assert scene.connect(2).opened
    assert second.told and not first.told


def test_no_check_brings_back_who_is_gone_or_in() -> None:
    scene = Scene(2)
    gone, user = scene.connect(1), scene.connect(2, "a@x")
    for session in (gone, user):
        scene.monitor.check_began(session)
    scene.monitor.closed(gone)
    assert scene.monitor.logged_in(user)
    for session in (gone, user):
        scene.monitor.check_ended(session)
        scene.monitor.check_began(session)
        scene.monitor.check_ended(session)
    scene.time += 600
    assert scene.connect(3).opened
    assert scene.monitor.count("imap") == 2
    assert not scene.connect(4).opened
    assert not user.told and not gone.told
    delivering = Session("lmtp")
    assert scene.monitor.opened(delivering)
    scene.monitor.check_began(delivering)
    scene.monitor.check_ended(delivering)


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
    assert monitor.opened(Session("imap", connected_at=99.5)) and newer.told
    assert not monitor.opened(Session("imap", connected_at=100.0))


def test_a_login_under_way_does_not_outlive_a_kick() -> None:
    """SUN-8: whose password was changed meanwhile; a later login is another one."""
    monitor = SessionMonitor(SessionLimits(per_account=1))
    session = Session("imap", "a@x")
    assert monitor.opened(session)
    monitor.kicked("a@x", "earlier")
    monitor.login_began(session)
    monitor.kicked("b@x", "somebody else")
    monitor.kicked("a@x", "a new password")
    with pytest.raises(MailError, match="a new password") as refusal:
        monitor.logged_in(session)
    assert refusal.value.kind is ErrorKind.UNAVAILABLE
    monitor.login_began(session)
    assert monitor.logged_in(session)
    monitor.closed(session)
    other = Session("imap", "a@x")
    assert monitor.opened(other) and monitor.logged_in(other)


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
