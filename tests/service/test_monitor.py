"""The monitor of sessions: numbers, limits, and the wait for the last one."""

from __future__ import annotations

import attrs
from twisted.internet.defer import CancelledError
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.interfaces import ISession, ISessionMonitor
from mailserver.service.monitor import SessionMonitor


@implementer(ISession)
@attrs.define(eq=False)
class Session:
    service: str
    account: str = ""

    def disconnect(self, reason: str) -> None: ...


def test_it_is_a_monitor() -> None:
    verifyObject(ISessionMonitor, SessionMonitor({}))


def test_a_service_and_its_tls_port_share_one_limit() -> None:
    """SUN-30: over it a connection is refused; one that closes makes room."""
    monitor = SessionMonitor({"imap": 2})
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


def test_sessions_of_one_account_are_limited() -> None:
    monitor = SessionMonitor({}, max_per_account=1)
    first, second = Session("imap", "a@x"), Session("imaps", "a@x")
    other = Session("imap", "b@x")
    for session in (first, second, other):
        monitor.opened(session)
    assert monitor.logged_in(first)
    assert not monitor.logged_in(second)
    assert monitor.logged_in(other)
    monitor.closed(first)
    assert monitor.logged_in(second)
    monitor.closed(first)  # twice does no harm
    assert not monitor.logged_in(Session("imap", "a@x"))


def test_numbers_are_never_given_twice() -> None:
    """CGP-1."""
    monitor = SessionMonitor({})
    assert [monitor.next_number() for _ in range(3)] == [1, 2, 3]


def test_the_last_one_turns_off_the_light() -> None:
    """R18: a shutdown waits for it."""
    monitor = SessionMonitor({})
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
