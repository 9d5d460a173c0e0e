"""A TCP transport for short questions and answers: what the kernel takes is sent at once, and
the next command of a quick client is looked for before the process sleeps.

Falling asleep and being woken costs a short command more than what it does. So while one
client alone sends command after command, its socket is looked at again and again for a moment
after each answer. Bounds: a process looks after `STREAK` quick commands in a row with none of
another connection between them; each look in vain doubles how many it takes until the next,
and one that finds something makes it `STREAK` again; `HELD` seconds after the reactor has come
to the connection it gets its turn, as soon as the command that runs then lets it.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

from twisted.internet import main, tcp

LINGER = 100e-6
"""Seconds after an answer for which the next command is looked for."""

QUICK = 200e-6
"""Seconds after an answer within which the next command of a quick client comes; being
woken is a part of them."""

STREAK, LONGEST_STREAK = 4, 1024
"""Quick commands in a row after which the next one is looked for."""

HELD = 2e-3
"""Seconds in which commands are read without the reactor, counted from the first, which it
handed over: one that takes longer is the last."""


class _Pace:
    """How quick the connection is that this process has heard of last.

    Attributes:
        connection: which one; None once it is gone.
        answered: when it was answered, by `perf_counter`.
        streak: its quick commands in a row, without the first.
        needed: how many it takes until the next one is looked for.
    """

    def __init__(self) -> None:
        self.connection: PromptServer | None = None
        self.answered = 0.0
        self.streak = 0
        self.needed = STREAK

    def heard(self, connection: PromptServer) -> None:
        """A command has come."""
        if connection is self.connection and perf_counter() - self.answered < QUICK:
            self.streak += 1
        else:
            self.connection = connection
            self.streak = 0

    def came(self) -> None:
        """A command was looked for, and came."""
        self.needed = STREAK

    def missed(self) -> None:
        """It did not come."""
        self.streak = 0
        self.needed = min(2 * self.needed, LONGEST_STREAK)


_pace = _Pace()


class PromptServer(tcp.Server):
    """The server's end of a connection, without the detour over the reactor.

    Twisted's own write waits for the reactor to say that the socket takes octets: three
    system calls and a turn of the reactor for an answer that nearly always fits. What does
    not fit goes that way here too. `bench.imap_session` shows the difference.
    """

    _reads = False
    _has_answered = False  # since it was last read from

    def write(self, data: bytes) -> None:
        """Send `data`, after whatever still waits to be sent."""
        if not self.TLS and self.connected and data and not self._waits_to_be_sent:
            try:
                data = data[self.socket.send(data) :]
            except OSError:
                pass  # the kernel's memory is full, or the connection lost: the reactor finds out
            self._has_answered = not data
            if not data:
                return
        super().write(data)  # type: ignore[no-untyped-call]

    def send_file(self, descriptor: int, start: int, count: int) -> int:
        """Have the kernel send octets of a file; they are copied no more than once.

        Returns:
            How many it took: 0 if it takes none now, if others have to be sent first, under
            TLS, or if there is anything else for which `write` is to be tried.
        """
        if self.TLS or not self.connected or self._waits_to_be_sent:
            return 0
        try:
            return os.sendfile(self.socket.fileno(), descriptor, start, count)
        except OSError:  # the kernel's memory is full, the connection lost, the disk bad
            return 0

    @property
    def _waits_to_be_sent(self) -> bool:
        return (
            self._tempDataLen > 0 or self.offset < len(self.dataBuffer) or self._writeDisconnected
        )

    def startReading(self) -> None:
        """See `IReadWriteDescriptor`; remembered, because nobody else tells."""
        self._reads = True
        super().startReading()  # type: ignore[no-untyped-call]

    def stopReading(self) -> None:
        """See `startReading`."""
        self._reads = False
        super().stopReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """Read what has come, and what comes soon after the answer; gives why the connection
        is to be ended, or None."""
        _pace.heard(self)
        latest = perf_counter() + HELD
        self._has_answered = False
        ending = super().doRead()
        if ending is None and self._has_answered:
            if _pace.streak >= _pace.needed:
                return self._linger(latest)
            _pace.answered = perf_counter()
        return ending

    def _linger(self, latest: float) -> Any:
        """Take the client's next commands, as long as they come quickly; see `doRead`."""
        now = perf_counter()
        while now < latest and self._has_answered and self._reads:
            end = now + LINGER
            while True:
                try:
                    data = self.socket.recv(self.bufferSize)
                except BlockingIOError:
                    if perf_counter() > end:
                        _pace.missed()
                        return None
                except OSError:
                    return main.CONNECTION_LOST
                else:
                    break
            _pace.came()
            self._has_answered = False
            ending = self._dataReceived(data)
            if ending is not None:
                return ending
            now = perf_counter()
            if self._has_answered:
                _pace.answered = now
        return None

    def connectionLost(self, reason: Any) -> None:
        """Forget it."""
        if _pace.connection is self:
            _pace.connection = None
        super().connectionLost(reason)
