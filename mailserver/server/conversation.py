"""What protocols in which people log in have in common, beyond a `Connection`.

A client has so much time to log in, is not to be silent for ever after, and shares the
reactor with others; what runs may wait for its octets.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mailserver.interfaces import ISessionMonitor
from mailserver.server.connection import Connection, Disconnected

LOGIN = "login"
"""Deadline: the client has to have logged in (S3)."""
IDLE = "idle"
"""Deadline: autologout (RFC 3501 §5.4, RFC 1939 §3)."""

LATE = "you did not log in in time"
"""What is said when that deadline has passed."""

TURN = 0.02
"""Seconds for which one connection may keep the reactor with pipelined commands."""


class Conversation(Connection):
    """One client who logs in."""

    def __init__(
        self,
        service: str,
        monitor: ISessionMonitor,
        clock: IReactorTime,
        write_timeout: float,
    ) -> None:
        super().__init__(service, monitor, clock, write_timeout)
        self._input: Deferred[None] | None = None  # what runs waits for octets
        self._turn_ends = 0.0  # when others have to get a turn of the reactor

    def expect_login(self, seconds: float) -> None:
        """The client has been greeted: it has so long to log in, from when it connected."""
        self.status = "authenticating"
        self.set_deadline(LOGIN, self.time_left(seconds))

    def logged_in(self, account: str) -> bool:
        """See `Connection`; the deadline for it is gone."""
        if not super().logged_in(account):
            return False
        self.set_deadline(LOGIN, None)
        return True

    def begin_turn(self) -> None:
        """The reactor is ours, for `TURN` seconds."""
        self._turn_ends = self.clock.seconds() + TURN

    async def turn(self) -> None:
        """Let the reactor do other work if this connection has kept it for long."""
        if self.clock.seconds() > self._turn_ends:
            self.flush()
            await deferLater(self.clock, 0)
            self.begin_turn()

    def _wake_waiting(self) -> None:
        super()._wake_waiting()
        waiting, self._input = self._input, None
        if waiting is not None:
            waiting.errback(Disconnected())
