"""Slows down guessing without locking anybody out (S7).

Failures of the last ten minutes are counted per address (IPv6: per /64), per name over all
addresses, and per pair of both. After n failures the next check waits 2, 4, 8, … seconds,
at most 15.

Invariants:

- The checks of one address take turns that far apart, so opening more connections gives no
  more guesses.
- A name from an address where it has logged in before is delayed by its own failures there
  only: neither somebody behind the same NAT nor a distributed attack keeps its owner out.
- Failing for a name delays others who try it by at most 15 seconds; turns are never shared
  between addresses.
- Memory is bounded; when full, what was not touched for the longest is forgotten.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailserver.interfaces import IThrottle
from mailserver.model.networks import Networks, counted_as

Key = tuple[str, ...]
V = TypeVar("V")


@attrs.frozen
class ThrottleLimits:
    """How hard failures are answered.

    Attributes:
        first_delay: seconds after the first failure; doubled by each further one.
        max_delay: seconds that it grows to.
        window: seconds for which a failure counts.
        max_wait: seconds that a check may have to wait for its turn; refused above.
        max_entries: addresses, names and pairs that are remembered, each.
        trusted: proxies and webmail hosts, through which many people come: not counted
            per address.
    """

    first_delay: float = 2.0
    max_delay: float = 15.0
    window: float = 600.0
    max_wait: float = 30.0
    max_entries: int = 10_000
    trusted: Networks = Networks()


@implementer(IThrottle)
class Throttle:
    """Counts for all protocols of the process.

    Args:
        clock: monotonic enough; `Clock` in tests.
    """

    def __init__(self, clock: IReactorTime, limits: ThrottleLimits = ThrottleLimits()) -> None:
        self._clock = clock
        self._limits = limits
        # No delay grows after so many failures, so no more are kept.
        ratio = max(1.0, limits.max_delay / limits.first_delay) if limits.first_delay else 1.0
        self._kept = math.ceil(math.log2(ratio)) + 1
        self._failures: OrderedDict[Key, tuple[float, ...]] = OrderedDict()
        self._turns: OrderedDict[Key, float] = OrderedDict()
        self._known: OrderedDict[Key, None] = OrderedDict()

    async def turn(self, address: str, name: str) -> float:
        """Take the next turn; see `IThrottle`."""
        return self.delay(address, name)

    def delay(self, address: str, name: str) -> float:
        """Take the next turn, as `turn` does, without a coroutine."""
        now = self._clock.seconds()
        source, pair = self._keys(address, name)
        if pair in self._known or address in self._limits.trusted:
            source, wait = pair, 0.0
        else:
            wait = self._rest_of_step(("name", name))
        step = self._step(source)
        if step:
            start = max(now, self._turns.get(source, now))
            if start - now > self._limits.max_wait:
                return math.inf
            self._put(self._turns, source, start + step)
            wait = max(wait, start - now)
        return wait

    def failed(self, address: str, name: str) -> None:
        """Count a failure for the address, the name and the pair."""
        now = self._clock.seconds()
        source, pair = self._keys(address, name)
        for key in (source, pair, ("name", name)):
            self._put(self._failures, key, (*self._recent(key), now)[-self._kept :])
            if key in (source, pair):
                due = now + self._step(key)
                self._put(self._turns, key, max(due, self._turns.get(key, 0.0)))

    def succeeded(self, address: str, name: str) -> None:
        """Take this name's failures from this address out of all counts.

        Other names' failures stay: logging in to one's own account does not pay for
        guessing at others.
        """
        source, pair = self._keys(address, name)
        forgiven = self._failures.pop(pair, ())
        for key in (source, ("name", name)):
            left = list(self._recent(key))
            for time in forgiven:
                if time in left:
                    left.remove(time)
            if left:
                self._failures[key] = tuple(left)
            else:
                self._failures.pop(key, None)
        self._turns.pop(pair, None)
        self._put(self._known, pair, None)

    def _keys(self, address: str, name: str) -> tuple[Key, Key]:
        network = counted_as(address)
        return ("address", network), ("pair", network, name)

    def _recent(self, key: Key) -> tuple[float, ...]:
        oldest = self._clock.seconds() - self._limits.window
        return tuple(time for time in self._failures.get(key, ()) if time > oldest)

    def _step(self, key: Key) -> float:
        count = len(self._recent(key))
        if not count:
            return 0.0
        return min(self._limits.max_delay, self._limits.first_delay * 2.0 ** (count - 1))

    def _rest_of_step(self, key: Key) -> float:
        """Seconds until a step after the last failure is over."""
        recent = self._recent(key)
        return max(0.0, recent[-1] + self._step(key) - self._clock.seconds()) if recent else 0.0

    def _put(self, table: OrderedDict[Key, V], key: Key, value: V) -> None:
        table[key] = value
        table.move_to_end(key)
        while len(table) > 3 * self._limits.max_entries:
            table.popitem(last=False)
