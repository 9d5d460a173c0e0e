"""The first process's side of its workers: starts them, gives them connections, speaks for
all of them, and ends them."""

from __future__ import annotations

import math
import os
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IThrottle
from mailserver.service import options as o
from mailserver.service.config import packed
from mailserver.service.control import Command, Row
from mailserver.service.logging import LineWriter
from mailserver.service.monitor import SharedKey
from mailserver.service.serving import Serving
from mailserver.service.workers import handing
from mailserver.service.workers.channel import Channel
from mailserver.service.workers.counts import Outgoing, Told, add, as_told
from mailserver.service.workers.doors import Door, Load
from mailserver.service.workers.handing import Accepted, Giver

PROGRAM: Final = "mailserver.service.workers.worker"
"""Module that a worker runs."""

CHANNEL: Final = 3
"""Descriptor of the channel in a worker."""
HANDS: Final = 4
"""Descriptor by which a worker is given connections."""

FIRST_PAUSE: Final = 0.1
"""Seconds before a worker that ended is replaced; doubled while they end soon."""
LONGEST_PAUSE: Final = 30.0
_SOON: Final = 60.0  # seconds of life after which a worker counts as a good one

ANSWER_TIMEOUT: Final = 5.0
"""Seconds in which a worker answers what an administrator asks, or that it is well after all."""

LOOK: Final = 10.0
"""Seconds between looks whether a worker is well."""
HANGS: Final = 60.0
"""Seconds without an answer after which a worker hangs."""

END_GRACE: Final = 1.5
"""Seconds that a worker has to close its data, beside the time for its sessions."""

_PAGE: Final = 500  # sessions in one answer


class Crew:
    """All workers of a server.

    Args:
        serving: what the first process serves with.
        processes: how many processes serve a service, the first one among them, by the names
            of listeners; a process of a number below that does.
        reactor: the reactor.

    Attributes:
        members: by their numbers, from 1 on.
        factories: of the services with workers, by service and whether it is behind a proxy.
        is_stopping: no worker is replaced any more.
    """

    log = Logger()

    def __init__(self, serving: Serving, processes: Mapping[str, int], reactor: Any) -> None:
        self.serving = serving
        self.processes = processes
        self.size = max(processes.values(), default=1)
        self.reactor = reactor
        self.members = {number: Member(self, number) for number in range(1, self.size)}
        self._numbers = count(1)
        self._own = Load()
        self.factories: dict[tuple[str, bool], IProtocolFactory] = {}
        self.is_stopping = False
        serving.monitor.counted = self._counted

    def start(self) -> None:
        """Start them; connections are served meanwhile."""
        for member in self.members.values():
            self.reactor.callWhenRunning(member.start)

    async def stop(self) -> None:
        """Have all of them say goodbye and end (R18); who does not in time is killed."""
        self.is_stopping = True
        stopping = [Deferred.fromCoroutine(member.stop()) for member in self.members.values()]
        await DeferredList(stopping, fireOnOneErrback=True)

    # -- connections -------------------------------------------------------------

    def door(self, service: str, behind_proxy: bool, factory: IProtocolFactory) -> Door:
        """What a listener is to have in the place of a factory; arguments as `Listener`'s."""
        self.factories[service, behind_proxy] = factory

        def accept(connected: socket.socket, client: Sequence[Any]) -> None:
            number = next(self._numbers)
            self.hand(Accepted(number, service, behind_proxy, connected, tuple(client)))

        return Door(factory, accept)

    def hand(self, accepted: Accepted) -> None:
        """Give a connection to the process that has the fewest of its service."""
        if self.is_stopping:
            accepted.socket.close()
            return
        service = accepted.service
        loads = [self._own] + [
            member.load
            for member in self.members.values()
            if member.is_ready and member.number < self.processes[service]
        ]
        for load in sorted(loads, key=lambda load: load.order(service)):
            if load.give is not None and not load.give(accepted):
                continue
            if load is self._own:
                self.keep(accepted)
            else:
                load.began(accepted)
            return

    def keep(self, accepted: Accepted) -> None:
        """Serve a connection in this process."""
        self._own.began(accepted)
        factory = self.factories[accepted.service, accepted.behind_proxy]

        def ended() -> None:
            self._own.ended(accepted.number)

        handing.serve(accepted, factory, self.reactor, ended)

    # -- counts --------------------------------------------------------------------

    def _counted(self, key: SharedKey, more: int) -> None:
        for member in self.members.values():
            member.outgoing.add(key, more)

    def counted_by(self, source: Member, told: Told, sign: int = 1) -> None:
        """A worker has told what has changed there, or it is gone with all it told."""
        add(self.serving.monitor.elsewhere, told, sign)
        for member in self.members.values():
            if member is not source:
                for parts, more in told:
                    member.outgoing.add(tuple(parts), sign * more)

    def counts_without(self, one: Member) -> Told:
        """What one worker has to know at its start."""
        counts = self.serving.monitor.shared()
        for member in self.members.values():
            if member is not one:
                counts.update(member.counts)
        return as_told(counts)

    # -- for all ----------------------------------------------------------------

    def throttle(self) -> IThrottle:
        """The one of all processes."""
        assert self.serving.installation is not None, "the data are open"
        return self.serving.installation.throttle

    def tell(self, name: str, *arguments: object) -> None:
        """Have every worker do something."""
        for member in self.members.values():
            member.tell(name, *arguments)

    def reload(self) -> None:
        """Have every worker act by the settings that act here now."""
        self.tell("reload", packed(self.serving.settings))

    def over_all(self, own: Mapping[str, Command]) -> dict[str, Command]:
        """The commands `who` and `kick` of the control socket for all processes; rows have
        the number of the `process` too.

        Args:
            own: the same for this process.
        """

        async def everywhere(
            name: str, request: Row, ask: Callable[[Member], Awaitable[list[Row]]]
        ) -> list[Row]:
            here: Any = own[name](request)  # which may refuse it
            found: list[tuple[int, list[Row]]] = [(0, list(here))]
            answers = [self._answer(member, ask) for member in self.members.values()]
            for number, answer in enumerate([Deferred.fromCoroutine(one) for one in answers], 1):
                found.append((number, await answer))
            rows = [{**row, "process": number} for number, rows in found for row in rows]
            return sorted(rows, key=lambda row: (row["since"], row["number"]))

        async def who(request: Row) -> list[Row]:
            return await everywhere("who", request, lambda member: member.sessions())

        async def kick(request: Row) -> list[Row]:
            return await everywhere("kick", request, lambda member: member.call("kick", request))

        return {"who": who, "kick": kick}

    async def _answer(
        self, member: Member, ask: Callable[[Member], Awaitable[list[Row]]]
    ) -> list[Row]:
        """A worker's answer; nothing of one that is not there, as its sessions are not.

        Raises:
            MailError: UNAVAILABLE if it gives none.
        """
        if not member.serves():
            return []
        member.outgoing.flush()  # whoever has the answer finds that all know of it
        asked = Deferred.fromCoroutine(_awaited(ask(member)))
        try:
            return await asked.addTimeout(ANSWER_TIMEOUT, self.reactor)
        except MailError:
            if not member.serves():
                return []
            raise
        except TimeoutError as error:
            text = f"process {member.number} of the server does not answer"
            raise MailError(ErrorKind.UNAVAILABLE, text) from error


async def _awaited(value: Awaitable[list[Row]]) -> list[Row]:
    return await value


class Member:
    """One worker, as the first process knows it: what runs under its number now, or will
    again in a moment.

    Args:
        crew: that it belongs to.
        number: of its process.

    Attributes:
        load: connections that it serves or was given.
        counts: what it has told of its sessions, as the monitor counts them.
        outgoing: what it will be told of those of others.
        is_ready: it takes connections.
    """

    log = Logger()

    def __init__(self, crew: Crew, number: int) -> None:
        self.number = number
        self.load = Load(self._give)
        self.counts: Counter[SharedKey] = Counter()
        self.outgoing = Outgoing(crew.reactor, lambda told, _: self.tell("counts", told))
        self._is_there = False
        self.is_ready = False
        self._crew = crew
        self._reactor = crew.reactor
        self._process: Any = None  # IProcessTransport
        self._channel: Channel | None = None
        self._giver: Giver | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE
        self._restart: Any = None  # IDelayedCall
        self._kill: Any = None  # IDelayedCall
        self._ended: list[Deferred[None]] = []

    # -- life ------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process."""
        self._restart = None
        if self._crew.is_stopping:
            return
        self._started = self._reactor.seconds()
        ours, its = socket.socketpair()
        giving, taking = handing.pair()
        with its, taking, open(os.devnull, "rb") as nothing:
            try:
                self._process = self._reactor.spawnProcess(
                    _Process(self),
                    sys.executable,
                    # -P: the current directory is not where modules come from
                    [sys.executable, "-P", "-m", PROGRAM],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    childFDs={
                        0: nothing.fileno(),
                        1: "r",
                        2: "r",
                        CHANNEL: its.fileno(),
                        HANDS: taking.fileno(),
                    },
                )
            except OSError as error:
                ours.close()
                giving.close()
                self.log.error("worker {n} cannot be started: {error}", n=self.number, error=error)
                self._start_again()
                return
        channel = self._channel = Channel(self._commands(), lambda: self._lost(channel))
        with ours:
            factory = Factory.forProtocol(lambda: channel)
            factory.noisy = False
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        self._giver = Giver(giving, self._reactor, self._taken, self._refused, self._crew.hand)
        Deferred.fromCoroutine(self._begin(channel))

    async def _begin(self, channel: Channel) -> None:
        crew = self._crew
        doors = [door for door in crew.factories if self.number < crew.processes[door[0]]]
        first = self.number + 1 + crew.size * self.load.given
        settings = packed(crew.serving.settings)
        self.outgoing.forget()
        counts = crew.counts_without(self)
        pid = self._process.pid
        try:
            await channel.call("begin", settings, self.number, first, crew.size, doors, counts)
        except MailError as error:
            if channel is self._channel and not crew.is_stopping:
                text = "worker {n} (process {pid}) did not begin: {error}"
                self.log.error(text, n=self.number, pid=pid, error=error.text)
            channel.close()
            return
        self._is_there = self.is_ready = True
        services = ", ".join(sorted({service for service, _ in doors}))
        text = "worker {n} (process {pid}) serves {services}"
        self.log.info(text, n=self.number, pid=pid, services=services)
        await self._watch(channel)

    async def _watch(self, channel: Channel) -> None:
        """Kill it if it hangs: it would be given connections, and serve none of them."""
        while self.is_ready and channel is self._channel:
            if not await self._is_well(channel):
                if channel is self._channel:
                    text = "worker {n} has not answered for {seconds} s and is killed"
                    self._kill_now(text, seconds=HANGS)
                return
            await deferLater(self._reactor, LOOK)

    async def _is_well(self, channel: Channel) -> bool:
        # Asked twice: while all processes stood still together, the first may take a moment.
        for seconds in (HANGS, ANSWER_TIMEOUT):
            answer = Deferred.fromCoroutine(channel.call("ping"))
            try:
                await answer.addTimeout(seconds, self._reactor)
            except TimeoutError:
                continue
            except MailError:  # it is gone
                pass
            return True
        return False

    async def stop(self) -> None:
        """Have it say goodbye and end; it is killed if it does not."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._process is None:
            return
        self._let_go()
        self.tell("stop")
        self._kill_later()
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        await ended

    def leaving(self) -> None:
        """It ends of its own will, or at an administrator's: it is given nothing more."""
        self._let_go()
        self._kill_later()

    def _let_go(self) -> None:
        self.is_ready = False
        giver, self._giver = self._giver, None
        if giver is not None:
            giver.close()  # what it has not taken goes to others

    def _lost(self, channel: Channel) -> None:
        if channel is self._channel:
            self._channel = None
            self._forget()
            self._kill_later()

    def _forget(self) -> None:
        """Its sessions are gone, or cannot be known any more."""
        self._is_there = False
        self._let_go()
        self.load.clear()
        counts, self.counts = self.counts, Counter()
        self._crew.counted_by(self, as_told(counts), -1)

    def _kill_later(self) -> None:
        if self._kill is None and self._process is not None:
            timeout = self._crew.serving.settings[o.local.SHUTDOWN_TIMEOUT] + END_GRACE
            text = "worker {n} did not end in time and is killed"
            self._kill = self._reactor.callLater(timeout, self._kill_now, text)

    def _kill_now(self, text: str, **more: object) -> None:
        self._kill = None
        self.log.emit(LogLevel.warn, text, n=self.number, **more)
        with suppress(ProcessExitedAlready):  # and its output has not come to an end
            self._process.signalProcess("KILL")

    def ended(self, reason: str) -> None:
        """The process is gone."""
        self._process = None
        kill, self._kill = self._kill, None
        if kill is not None:
            kill.cancel()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self._forget()
        waiting, self._ended = self._ended, []
        for deferred in waiting:
            deferred.callback(None)
        if not self._crew.is_stopping:
            self._start_again(reason)

    def _start_again(self, reason: str = "") -> None:
        """Start another process, the later the sooner the last ones ended."""
        if self._reactor.seconds() - self._started > _SOON:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        text = "worker {n} has ended{reason}; another follows in {pause} s"
        self.log.error(text, n=self.number, reason=reason, pause=pause)
        self._restart = self._reactor.callLater(pause, self.start)

    # -- words -------------------------------------------------------------------------

    def tell(self, name: str, *arguments: object) -> None:
        """Have it do something, if it has begun."""
        if self._channel is not None:
            self._channel.tell(name, *arguments)

    async def call(self, name: str, *arguments: object) -> Any:
        """Have it do something and wait for the result; see `Channel.call`."""
        if self._channel is None:
            raise MailError(ErrorKind.UNAVAILABLE, f"worker {self.number} is not there")
        return await self._channel.call(name, *arguments)

    def serves(self) -> bool:
        """It has begun and is not gone, though it may serve its last sessions."""
        return self._is_there

    async def sessions(self) -> list[Row]:
        """All of its sessions; as many at a time as hold nobody up."""
        found: list[Row] = []
        while True:
            page = await self.call("sessions", found[-1]["number"] if found else 0, _PAGE)
            found += page
            if len(page) < _PAGE:
                return found

    def _commands(self) -> dict[str, Any]:
        """What it may call."""
        throttle = self._crew.throttle()

        async def turn(address: str, name: str) -> float | None:
            wait = await throttle.turn(address, name)
            return None if wait == math.inf else wait

        return {
            "counts": self._counted,
            "leaving": self.leaving,
            "turn": turn,
            "failed": throttle.failed,
            "succeeded": throttle.succeeded,
        }

    def _counted(self, told: Told, ended: list[int]) -> None:
        for number in ended:
            self.load.ended(number)
        if told:
            add(self.counts, told)
            self._crew.counted_by(self, told)

    def _give(self, accepted: Accepted) -> bool:
        return self._giver is not None and self._giver.give(accepted)

    def _refused(self, accepted: Accepted) -> None:
        self.load.ended(accepted.number)
        self._crew.keep(accepted)

    def _taken(self, accepted: Accepted) -> None:
        accepted.socket.close()  # the worker has its own


class _Process(ProcessProtocol):
    """A worker's process: where its output goes, and that it ends."""

    log = Logger()

    def __init__(self, member: Member) -> None:
        self._member = member
        self._lines = LineWriter()

    def outReceived(self, data: bytes) -> None:
        """Lines of its log."""
        self._lines.write(data)

    def errReceived(self, data: bytes) -> None:
        """What went wrong before or beside its log."""
        for line in data.decode("utf-8", "replace").splitlines():
            self.log.error("worker {n}: {line}", n=self._member.number, line=line)

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all of its output has come."""
        self._member.ended(_why(reason))


def _why(reason: Failure) -> str:
    signal = getattr(reason.value, "signal", None)
    code = getattr(reason.value, "exitCode", None)
    if signal is not None:
        return f" by signal {signal}"
    return f" with exit code {code}" if code else ""
