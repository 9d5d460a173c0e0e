"""Connections that have not logged in, and which of them goes first where there is no room.

Theory of operation. Guests are counted by where they come from (`counted_as`). The one that
goes is the one that waits longest at a place that has most of them, so that whoever floods
takes places from himself, and a place with one guest is touched last. Places lie on shelves
by their number of guests; a guest that comes or goes moves its place by one shelf, so every
operation costs the same with ten guests and with ten thousand.
"""

from __future__ import annotations

from collections import defaultdict

from mailserver.interfaces import ISession
from mailserver.model.networks import counted_as


class Guests:
    """Guests of one service; one whose login is being checked is taken out meanwhile.

    Attributes:
        most: guests of the place that has most of them.
    """

    def __init__(self) -> None:
        self.most = 0
        # Dictionaries for their order: what was put in first is first.
        self._places: dict[str, dict[ISession, None]] = {}
        self._shelves: defaultdict[int, dict[str, None]] = defaultdict(dict)

    def add(self, guest: ISession) -> None:
        """Let a guest wait, as the last of its place; one that waits already stays as it is."""
        place = counted_as(guest.address)
        waiting = self._places.setdefault(place, {})
        if guest not in waiting:
            waiting[guest] = None
            self._move(place, len(waiting) - 1, len(waiting))

    def remove(self, guest: ISession) -> bool:
        """Forget a guest; False if it does not wait here."""
        place = counted_as(guest.address)
        waiting = self._places.get(place)
        if waiting is None or guest not in waiting:
            return False
        del waiting[guest]
        if not waiting:
            del self._places[place]
        self._move(place, len(waiting) + 1, len(waiting))
        return True

    def of(self, address: str) -> int:
        """How many come from where this address does."""
        return len(self._places.get(counted_as(address), ()))

    def first(self) -> ISession | None:
        """Who has to go first; None if nobody waits."""
        if not self.most:
            return None
        place = next(iter(self._shelves[self.most]))
        return next(iter(self._places[place]))

    def _move(self, place: str, before: int, after: int) -> None:
        """Put a place on another shelf; the two numbers differ by one."""
        self._shelves[before].pop(place, None)
        if after:
            self._shelves[after][place] = None
        if not self._shelves[before]:
            del self._shelves[before]
            if self.most == before:
                self.most = after  # it was the only one with so many
        self.most = max(self.most, after)
