"""Guests, and who has to go first: against a slow and simple model, and in the time it takes."""

from __future__ import annotations

from collections import Counter

import attrs
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer

from mailserver.interfaces import ISession
from mailserver.service.guests import Guests
from tests.timing import assert_linear


@implementer(ISession)
@attrs.frozen
class Guest:
    number: int
    address: str


PLACES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "local")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11))))
def test_the_first_is_the_oldest_of_the_most(acts: list[tuple[bool, int]]) -> None:
    """R11: it always comes from an address with most, and is the oldest of those."""
    everybody = [Guest(number, PLACES[number % len(PLACES)]) for number in range(12)]
    guests = Guests()
    waiting: list[Guest] = []
    for comes, number in acts:
        one = everybody[number]
        if comes:
            guests.add(one)
            if one not in waiting:
                waiting.append(one)
        else:
            assert guests.remove(one) == (one in waiting)
            if one in waiting:
                waiting.remove(one)
        counts = Counter(guest.address for guest in waiting)
        assert guests.most == max(counts.values(), default=0)
        assert all(guests.of(address) == counts[address] for address in PLACES)
        first = guests.first()
        if not waiting:
            assert first is None
        else:
            assert first is not None and counts[first.address] == guests.most
            assert first is next(one for one in waiting if one.address == first.address)


def test_hosts_of_ipv6_are_networks() -> None:
    guests = Guests()
    guests.add(Guest(1, "192.0.2.1"))
    first, second = Guest(2, "2001:db8::1"), Guest(3, "2001:db8::2")
    guests.add(first)
    guests.add(second)
    assert guests.of("2001:db8::ffff") == 2
    assert guests.first() is first


def test_thousands_cost_what_few_do_each() -> None:
    """R11: with one guest from each host, and with all from a few."""

    def flood(size: int) -> None:
        for hosts in (size, 7):
            guests = Guests()
            for number in range(size):
                guests.add(Guest(number, f"10.0.{number % hosts // 250}.{number % hosts % 250}"))
            while (first := guests.first()) is not None:
                guests.remove(first)

    assert_linear(flood, 2000)
