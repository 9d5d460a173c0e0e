"""Passwords that were verified, remembered for a while as keyed digests.

A digest covers what the password was verified against, so nothing is found under a verifier
that has been replaced; the key never leaves the process.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime


class Remembered:
    """Digests with a life.

    Args:
        clock: measures it.
        size: digests that are kept, 0 for none.
        seconds: their life.
        random: gives that many random octets.
    """

    def __init__(
        self,
        clock: IReactorTime,
        size: int = 10_000,
        seconds: float = 3600.0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock = clock
        self._size = size
        self._seconds = seconds
        self._key = random(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def digest(self, *parts: bytes) -> bytes:
        """Make the digest of a password and of what it is verified against; which octets are
        of which part matters."""
        made = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            made.update(len(part).to_bytes(8, "big") + part)
        return made.digest()

    def __contains__(self, digest: bytes) -> bool:
        until = self._until.get(digest)
        if until is None:
            return False
        if until <= self._clock.seconds():
            del self._until[digest]
            return False
        self._until.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Remember; the one that was not asked for the longest goes when there are too many."""
        self._until[digest] = self._clock.seconds() + self._seconds
        while len(self._until) > self._size:
            self._until.popitem(last=False)
