"""What processes tell each other of their sessions."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mailserver.service.monitor import SessionLimits, SessionMonitor, SharedKey
from mailserver.service.workers.counts import TOLD_AFTER, Outgoing, Told, add, as_told
from tests.service.test_monitor import Session

KEYS: list[SharedKey] = [("address", "192.0.2.1"), ("account", "a@x"), ("user", "a@x", "192.0.2.1")]


def test_much_is_told_at_a_time_and_what_came_to_nothing_is_not() -> None:
    clock, told = Clock(), list[tuple[Told, list[int]]]()
    outgoing = Outgoing(clock, lambda counts, ended: told.append((counts, ended)))
    outgoing.add(KEYS[0], 1)
    outgoing.add(KEYS[1], 2)
    outgoing.add(KEYS[0], -1)
    outgoing.ended(7)
    outgoing.ended(9)
    assert not told
    clock.advance(TOLD_AFTER)
    assert told == [([(KEYS[1], 2)], [7, 9])]
    outgoing.add(KEYS[0], 1)
    outgoing.add(KEYS[0], -1)
    clock.advance(TOLD_AFTER)
    assert len(told) == 1
    outgoing.add(KEYS[0], 1)
    outgoing.forget()
    clock.advance(TOLD_AFTER)
    assert len(told) == 1
    assert not clock.getDelayedCalls()


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([-1, 1]))))
def test_what_was_told_is_what_is_there(changes: list[tuple[SharedKey, int]]) -> None:
    clock, here, there = Clock(), Counter[SharedKey](), Counter[SharedKey]()
    outgoing = Outgoing(clock, lambda counts, _: add(there, counts))
    for key, more in changes:
        add(here, [(key, more)])
        outgoing.add(key, more)
        clock.advance(TOLD_AFTER / 3)
    clock.advance(TOLD_AFTER)
    assert there == here
    add(there, as_told(here), -1)  # that process is gone
    assert not there


def test_sessions_elsewhere_count_for_accounts_and_addresses_alone() -> None:
    """SUN-30, SUN-31."""
    limits = SessionLimits({"imap": 3}, per_user=2, per_address=2, per_account=3)
    one, other = SessionMonitor(limits), SessionMonitor(limits)
    one.counted = lambda key, more: add(other.elsewhere, [(key, more)])
    other.counted = lambda key, more: add(one.elsewhere, [(key, more)])
    guests = [Session("imap"), Session("imap")]
    assert one.opened(guests[0])
    assert other.opened(guests[1])
    third = Session("imap")
    assert not one.opened(third), "two of one address"
    one.closed(third)
    for monitor, guest in zip((one, other), guests, strict=True):
        guest.account = "a@x"
        assert monitor.logged_in(guest)
    again = Session("imap", "a@x")
    assert one.opened(again)
    assert not one.logged_in(again), "two of one account and address"
    far = Session("imap", "a@x", "192.0.2.2")
    assert other.opened(far)
    assert other.logged_in(far)
    farther = Session("imap", "a@x", "192.0.2.3")
    assert other.opened(farther), "of the service there are two here"
    assert not other.logged_in(farther), "three of one account"
    assert one.shared() == Counter(other.elsewhere)
    for monitor, sessions in ((one, [guests[0], again]), (other, [guests[1], far, farther])):
        for session in sessions:
            monitor.closed(session)
    assert not one.elsewhere and not other.elsewhere


def test_numbers_of_sessions_are_given() -> None:
    monitor = SessionMonitor(numbers=iter([2, 5, 8]))
    assert [monitor.next_number() for _ in range(3)] == [2, 5, 8]
