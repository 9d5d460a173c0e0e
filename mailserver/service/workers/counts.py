"""How many sessions accounts and addresses have in other processes, told a moment later.

Each process tells what has changed some milliseconds later, much at a time. So two that let
somebody in within these may both do it: a limit can be passed by the logins of one moment, and
never by those that come after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from mailserver.service.monitor import SharedKey

Told: TypeAlias = list[tuple[Sequence[str], int]]
"""Counts as they are sent: keys with what they are more, or less."""


def as_told(counts: Mapping[SharedKey, int]) -> Told:
    """Counts for another process."""
    return [(key, more) for key, more in counts.items() if more]


def add(counts: Counter[SharedKey], told: Told, sign: int = 1) -> None:
    """Add what another process has told, or take it away; nothing is kept of zeros."""
    for parts, more in told:
        key = tuple(parts)
        counts[key] += sign * more
        if not counts[key]:
            del counts[key]


TOLD_AFTER: Final = 0.005
"""Seconds for which changes are collected: telling each would cost a connection that is
handed over half as much again."""


class Outgoing:
    """What is to be told to one process, collected for a moment.

    Args:
        reactor: the clock.
        tell: sends counts, and numbers of connections that have ended.
    """

    def __init__(self, reactor: Any, tell: Callable[[Told, list[int]], None]) -> None:
        self._reactor = reactor
        self._tell = tell
        self._counts: Counter[SharedKey] = Counter()
        self._ended: list[int] = []
        self._is_due = False

    def add(self, key: SharedKey, more: int) -> None:
        """There are so many more, or less."""
        self._counts[key] += more
        self._send_later()

    def ended(self, number: int) -> None:
        """A connection that was handed over is gone."""
        self._ended.append(number)
        self._send_later()

    def forget(self) -> None:
        """What was collected is known already."""
        self._counts.clear()
        self._ended.clear()

    def _send_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._reactor.callLater(TOLD_AFTER, self._send)

    def _send(self) -> None:
        self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Tell what was collected now."""
        told, ended = as_told(self._counts), self._ended
        self._counts, self._ended = Counter(), []
        if told or ended:
            self._tell(told, ended)
