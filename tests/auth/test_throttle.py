"""The throttle: guessing gets slow, nobody else does (S7)."""

from __future__ import annotations

import math

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from mailserver.auth.throttle import Throttle, ThrottleLimits
from mailserver.interfaces import IThrottle
from mailserver.model.networks import Networks, counted_as

ATTACKER, HOME, OFFICE = "192.0.2.66", "198.51.100.1", "203.0.113.5"
JOE, ANN = "joe@example.org", "ann@example.org"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock)


def guess(throttle: Throttle, clock: Clock, address: str, name: str) -> float:
    """One serial guess: waits as told, then fails. Returns the wait."""
    wait = throttle.delay(address, name)
    clock.advance(wait)
    throttle.failed(address, name)
    return wait


def test_it_is_a_throttle(throttle: Throttle) -> None:
    verifyObject(IThrottle, throttle)


def test_the_delay_starts_at_two_seconds_and_grows_to_a_bound(
    throttle: Throttle, clock: Clock
) -> None:
    waits = [guess(throttle, clock, ATTACKER, JOE) for _ in range(7)]
    assert waits == [0, 2, 4, 8, 15, 15, 15]


def test_rotating_names_does_not_help(throttle: Throttle, clock: Clock) -> None:
    waits = [guess(throttle, clock, ATTACKER, f"user{n}@example.org") for n in range(5)]
    assert waits == [0, 2, 4, 8, 15]


def test_parallel_connections_give_no_more_guesses(throttle: Throttle, clock: Clock) -> None:
    for _ in range(4):
        guess(throttle, clock, ATTACKER, JOE)
    clock.advance(15)
    waits = [throttle.delay(ATTACKER, JOE) for _ in range(100)]
    assert waits[:3] == [0, 15, 30]
    assert set(waits[3:]) == {math.inf}


def test_refused_tries_do_not_push_the_next_turn_away(throttle: Throttle, clock: Clock) -> None:
    for _ in range(5):
        guess(throttle, clock, ATTACKER, JOE)
    while throttle.delay(ATTACKER, JOE) != math.inf:
        pass
    for _ in range(1000):
        throttle.delay(ATTACKER, JOE)
    clock.advance(60)
    assert throttle.delay(ATTACKER, ANN) == 0


def test_another_address_and_another_name_are_not_delayed(throttle: Throttle, clock: Clock) -> None:
    for _ in range(50):
        throttle.delay(ATTACKER, JOE)
        throttle.failed(ATTACKER, JOE)
    assert throttle.delay(HOME, ANN) == 0


def test_the_owner_waits_a_bounded_time_at_a_new_address_and_none_at_a_known_one(
    throttle: Throttle, clock: Clock
) -> None:
    assert throttle.delay(HOME, JOE) == 0
    throttle.succeeded(HOME, JOE)
    for n in range(50):  # a distributed attack
        guess(throttle, clock, f"192.0.2.{n}", JOE)
    assert throttle.delay(HOME, JOE) == 0
    for _ in range(20):
        assert throttle.delay(OFFICE, JOE) == 15
    clock.advance(15)
    assert throttle.delay(OFFICE, JOE) == 0


def test_a_guesser_behind_the_same_nat_keeps_nobody_out(throttle: Throttle, clock: Clock) -> None:
    throttle.succeeded(HOME, ANN)
    for _ in range(10):
        guess(throttle, clock, HOME, JOE)
    assert throttle.delay(HOME, ANN) == 0
    assert throttle.delay(HOME, JOE) == 15


def test_a_known_pair_is_slowed_by_its_own_failures(throttle: Throttle, clock: Clock) -> None:
    throttle.succeeded(HOME, JOE)
    assert [guess(throttle, clock, HOME, JOE) for _ in range(4)] == [0, 2, 4, 8]
    throttle.succeeded(HOME, JOE)
    assert throttle.delay(HOME, JOE) == 0


def test_success_forgives_ones_own_typing_errors_but_no_guessing(
    throttle: Throttle, clock: Clock
) -> None:
    guess(throttle, clock, HOME, JOE)
    guess(throttle, clock, HOME, JOE)
    throttle.succeeded(HOME, JOE)
    assert throttle.delay(HOME, ANN) == 0
    assert throttle.delay(OFFICE, JOE) == 0
    waits = []
    for _ in range(5):
        waits.append(guess(throttle, clock, ATTACKER, JOE))
        clock.advance(throttle.delay(ATTACKER, ANN))
        throttle.succeeded(ATTACKER, ANN)  # the attacker's own account
    assert waits == [0, 2, 4, 8, 15]


def test_failures_are_forgotten_after_the_window(throttle: Throttle, clock: Clock) -> None:
    for _ in range(3):
        throttle.failed(ATTACKER, JOE)
    clock.advance(599)
    throttle.failed(ATTACKER, JOE)
    clock.advance(1)
    assert [throttle.delay(ATTACKER, JOE) for _ in range(2)] == [14, 14 + 2], "one is left"
    clock.advance(600)
    assert [throttle.delay(ATTACKER, JOE) for _ in range(3)] == [0, 0, 0]


def test_an_ipv6_host_counts_by_its_network(throttle: Throttle, clock: Clock) -> None:
    for n in range(5):
        guess(throttle, clock, f"2001:db8:1:2::{n + 1:x}", f"u{n}@example.org")
    assert throttle.delay("2001:db8:1:2:ffff::1", ANN) == 15
    assert throttle.delay("2001:db8:1:3::1", ANN) == 0


def test_trusted_hosts_are_not_counted_but_names_are(clock: Clock) -> None:
    throttle = Throttle(clock, ThrottleLimits(trusted=Networks.of(["192.0.2.0/24"])))
    for n in range(20):
        guess(throttle, clock, ATTACKER, f"user{n}@example.org")
    assert throttle.delay(ATTACKER, ANN) == 0
    assert [guess(throttle, clock, ATTACKER, JOE) for _ in range(3)] == [0, 2, 4]


def test_memory_is_bounded(clock: Clock) -> None:
    throttle = Throttle(clock, ThrottleLimits(max_entries=10))
    for n in range(1000):
        address = f"2001:db8:{n:x}::1"
        throttle.delay(address, f"user{n}")
        throttle.failed(address, f"user{n}")
        throttle.succeeded(f"2001:db8:{n:x}:1::1", f"user{n}")
        for _ in range(20):
            throttle.failed(ATTACKER, JOE)
    tables = (throttle._failures, throttle._turns, throttle._known)
    assert all(len(table) <= 30 for table in tables)
    assert max(map(len, throttle._failures.values())) <= 5


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_what_an_address_counts_as(address: str, counted: str) -> None:
    assert counted_as(address) == counted


def test_networks_hold_addresses() -> None:
    networks = Networks.of(["127.0.0.0/8", "2001:db8::/32", "192.0.2.7"])
    assert all(a in networks for a in ("127.1.2.3", "::ffff:127.0.0.1", "2001:db8::5", "192.0.2.7"))
    assert not any(a in networks for a in ("192.0.2.8", "::1", "", "unix", 5))
    with pytest.raises(ValueError, match="host bits"):
        Networks.of(["127.0.0.1/8"])
