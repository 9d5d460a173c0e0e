"""The program of a worker: serves what it is given, and ends when it is told to, when it gets
SIGTERM, or when the first process is gone.

It is started by `crew`, which tells it everything: it reads no configuration and no command
line. Its log goes to standard output, which the first process reads.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from itertools import count, islice
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger, globalLogBeginner
from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IThrottle
from mailserver.service.config import ConfigurationError, unpacked
from mailserver.service.control import Row
from mailserver.service.installation import Role
from mailserver.service.logging import filtered, line_observer, set_process
from mailserver.service.serving import Serving
from mailserver.service.sessions import describe, session_commands
from mailserver.service.switches import SERVICES
from mailserver.service.tap import take_all_descriptors
from mailserver.service.wiring import SHUTDOWN, use_monotonic_timers
from mailserver.service.workers import handing
from mailserver.service.workers.channel import Channel
from mailserver.service.workers.counts import Outgoing, Told, add
from mailserver.service.workers.crew import CHANNEL, HANDS
from mailserver.service.workers.handing import Accepted, Taker


@implementer(IThrottle)
class DistantThrottle:
    """The throttle of the first process, which counts for all (S7)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def turn(self, address: str, name: str) -> float:
        """See `IThrottle`."""
        wait = await self._channel.call("turn", address, name)
        return math.inf if wait is None else float(wait)

    def failed(self, address: str, name: str) -> None:
        """See `IThrottle`."""
        self._channel.tell("failed", address, name)

    def succeeded(self, address: str, name: str) -> None:
        """See `IThrottle`."""
        self._channel.tell("succeeded", address, name)


class Worker:
    """What the first process talks to.

    Args:
        reactor: the real one.
    """

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._serving: Serving | None = None
        self._taker: Taker | None = None
        self._factories: dict[tuple[str, bool], IProtocolFactory] = {}
        self._closed: set[str] = set()  # services that are stopped (SUN-7)
        self._is_stopping = False
        self._reloading = DeferredLock()
        self.channel = Channel(
            {
                "begin": self.begin,
                "certificates": self.look_at_certificates,
                "close": self.close,
                "counts": self.counted_elsewhere,
                "kick": self.kick,
                "open": self.open,
                "ping": lambda: None,
                "reload": self.reload,
                "sessions": self.sessions,
                "stop": self.end,
                "tickets": self.renew_ticket_keys,
            },
            self.end,
        )
        self._outgoing = Outgoing(
            reactor, lambda told, ended: self.channel.tell("counts", told, ended)
        )

    @property
    def serving(self) -> Serving:
        """What it serves with."""
        assert self._serving is not None, "begin comes first"
        return self._serving

    async def begin(
        self,
        settings: dict[str, str],
        number: int,
        first: int,
        step: int,
        doors: Sequence[tuple[str, bool]],
        counts: Told,
    ) -> None:
        """Open the data and take connections.

        Args:
            settings: as `config.packed` gives them.
            number: of this process.
            first, step: number of its first session, and from one to the next.
            doors: what it serves: names of listeners, and whether they are behind a proxy.
            counts: sessions elsewhere.

        Raises:
            MailError: it cannot be done; a sentence for the administrator.
        """
        set_process(number)
        try:
            serving = Serving(unpacked(settings), self._reactor, count(first, step))
        except ConfigurationError as error:
            raise MailError(ErrorKind.UNAVAILABLE, str(error)) from error
        add(serving.monitor.elsewhere, counts)
        serving.monitor.counted = self._outgoing.add
        await serving.open(Role.WORKER, DistantThrottle(self.channel))
        self._serving = serving
        for service, behind_proxy in doors:
            factory = self._factories[service, behind_proxy] = serving.factory(
                service, behind_proxy
            )
            factory.doStart()
        self._taker = Taker(socket.socket(fileno=HANDS), self._reactor, self._serve)

    def _serve(self, accepted: Accepted) -> None:
        def ended() -> None:
            self._outgoing.ended(accepted.number)

        if accepted.service in self._closed:
            accepted.socket.close()
            ended()
            return
        factory = self._factories[accepted.service, accepted.behind_proxy]
        handing.serve(accepted, factory, self._reactor, ended)

    # -- sessions ------------------------------------------------------------------

    def counted_elsewhere(self, told: Told) -> None:
        """There are other sessions in other processes."""
        add(self.serving.monitor.elsewhere, told)

    def sessions(self, after: int, most: int) -> list[Row]:
        """Some sessions as rows of `mailctl who`, by their numbers."""
        self._outgoing.flush()  # who hears of those that are there knows who is gone
        chosen = (one for one in self.serving.monitor.sessions() if one.number > after)
        clock, now = self._reactor.seconds(), time.time()
        return [describe(session, clock, now) for session in islice(chosen, most)]

    def kick(self, request: Row) -> list[Row]:
        """End sessions (CGP-10)."""
        commands = session_commands(self.serving.monitor, self._reactor.seconds, time.time)
        rows: Any = commands["kick"](request)
        return list(rows)

    def close(self, service: str, goodbye: str) -> None:
        """Stop a service, as an administrator calls it (SUN-7)."""
        names = SERVICES[service]
        self._closed.update(names)
        for (name, _), factory in self._factories.items():
            if name in names:
                factory.doStop()
        self.serving.end_sessions(goodbye, names)

    def open(self, service: str) -> None:
        """Start it again."""
        names = SERVICES[service]
        self._closed.difference_update(names)
        for (name, _), factory in self._factories.items():
            if name in names:
                factory.doStart()

    # -- reload -------------------------------------------------------------------------

    async def reload(self, settings: dict[str, str]) -> None:
        """Act by other settings, which were good in the first process a moment ago."""

        async def work() -> None:
            try:
                self.serving.take(await self.serving.read(unpacked(settings)))
            except ConfigurationError as error:
                self._tell_problems(error)

        await self._reloading.run(lambda: Deferred.fromCoroutine(work()))

    async def look_at_certificates(self) -> None:
        """Take those that have changed."""

        async def work() -> None:
            try:
                await self.serving.take_changed_certificates()
            except ConfigurationError as error:
                self._tell_problems(error)

        await self._reloading.run(lambda: Deferred.fromCoroutine(work()))

    def _tell_problems(self, error: ConfigurationError) -> None:
        for problem in error.problems:
            self.log.error("not reloaded: {problem}", problem=str(problem))

    def renew_ticket_keys(self) -> None:
        """Make the keys of session tickets anew; each process has its own."""
        self.serving.renew_ticket_keys()

    # -- the end ------------------------------------------------------------------------

    def end(self) -> None:
        """Stop, as SIGTERM does."""
        if not self._is_stopping:
            self._is_stopping = True
            self._reactor.stop()

    async def stop(self) -> None:
        """Say goodbye to everybody and close the data (R18)."""
        self._is_stopping = True
        self.channel.tell("leaving")
        if self._taker is not None:
            self._taker.close()
        if self._serving is not None:
            self._serving.end_sessions(SHUTDOWN)
            await self._serving.sessions_ended()
            await self._serving.close()


def main() -> None:
    """Serve until the end."""
    os.umask(0o077)  # S14
    # The first process hears of them and tells us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    out: Any = sys.stdout
    out.reconfigure(encoding="utf-8", errors="backslashreplace")
    globalLogBeginner.beginLoggingTo([filtered(line_observer(out))], redirectStandardIO=False)
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    take_all_descriptors()
    use_monotonic_timers(reactor)
    worker = Worker(reactor)
    factory = Factory.forProtocol(lambda: worker.channel)
    factory.noisy = False
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(worker.stop())
    )

    def begin() -> None:
        reactor.adoptStreamConnection(CHANNEL, socket.AF_UNIX, factory)
        os.close(CHANNEL)  # the reactor has its own

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()
