"""The server as one Twisted service: what starts and stops when.

Order of a start: keys are read and ports bound while there are privileges
(`privilegedStartService`), everything else after twistd has forked and dropped them
(`startService`): databases, then listeners, then further processes. Order of a stop: no new
connections, goodbye to the sessions, which finish what they are amid, in all processes, then
the databases (R18).
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from mailserver import __version__
from mailserver.errors import MailError
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Settings
from mailserver.service.control import CONTROL_SOCKET, ControlServer
from mailserver.service.installation import Installation, Role
from mailserver.service.listeners import Listener, StartFault
from mailserver.service.monitor import SessionMonitor
from mailserver.service.parts import (
    check_processes,
    listeners,
    load_tls,
    not_offered,
    processes,
    warnings,
)
from mailserver.service.serving import Serving
from mailserver.service.sessions import session_commands
from mailserver.service.switches import Entrance, switch_commands
from mailserver.service.workers.crew import Crew

# How often the keys of session tickets are made anew.
_TICKET_KEYS: Final = 24 * 3600.0

EX_UNAVAILABLE: Final = 69
"""Exit code when the server cannot start on this machine as it is (sysexits.h)."""
EX_CONFIG: Final = 78
"""Exit code when the configuration is wrong."""


SHUTDOWN: Final = "server is shutting down"
"""What clients are told when the server stops."""


def give_up(text: str, code: int) -> NoReturn:
    """End the program with a sentence instead of a traceback."""
    for line in text.splitlines():
        sys.stderr.write(f"mailserver: {line}\n")
    sys.stderr.flush()
    raise SystemExit(code)


def use_monotonic_timers(reactor: Any) -> None:
    """Have the reactor's timers not follow the time of day (R5).

    Twisted's do: when the clock was set ahead, every session would be ended as idle, and
    when it was set back, none, and no timer would ring for long. Call it before there are
    timers, in a process that is only a server.
    """
    reactor.seconds = time.monotonic


# -- the service ------------------------------------------------------------------


class Server(Service):
    """Every listener over one installation.

    Args:
        settings: checked.
        reactor: the real one.
        reread: reads the configuration again, for SIGHUP; None if there is none to read.
        in_foreground: the process that a person started is this one.

    Raises:
        ConfigurationError: certificate or key cannot be used.

    Attributes:
        serving: what this process serves with.
    """

    name = "mailserver"
    log = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        reread: Callable[[], Settings] | None = None,
        *,
        in_foreground: bool = True,
    ) -> None:
        self._processes = processes(settings)
        size = max(self._processes.values(), default=1)
        check_processes(settings)
        self.serving = Serving(settings, reactor, count(1, size))
        self._crew = Crew(self.serving, self._processes, reactor) if size > 1 else None
        self._reactor = reactor
        self._reread = reread
        self._in_foreground = in_foreground
        self._listeners: list[Listener] = []
        self._entrances: list[Entrance] = []
        self._control: ControlServer | None = None
        self._timers: list[LoopingCall] = []
        self._reloading = DeferredLock()

    @property
    def installation(self) -> Installation | None:
        """While the service runs."""
        return self.serving.installation

    @property
    def monitor(self) -> SessionMonitor:
        """Of the sessions of this process."""
        return self.serving.monitor

    def privilegedStartService(self) -> None:
        """Bind the ports; called as root where twistd was started so."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            self.bind()
        except StartFault as fault:
            self._give_up(fault)

    def startService(self) -> None:
        """Open the data and serve; `twist` calls this alone."""
        if not self._listeners:
            self.privilegedStartService()
        try:
            self.open()
        except (StartFault, MailError) as fault:
            self._give_up(fault)

    def _give_up(self, fault: Exception) -> NoReturn:
        if self._in_foreground:
            give_up(str(fault), EX_UNAVAILABLE)
        # twistd's parent waits for a word of its child, which only an exception brings; it
        # shows the sentence and exits with 1.
        self.log.error("{fault}", fault=str(fault))
        raise fault.with_traceback(None) from None

    def bind(self) -> None:
        """Take the ports.

        Raises:
            StartFault: one cannot be had; then none is taken.
        """
        bound = list(listeners(self.serving.settings, self.serving.tls is not None))
        try:
            for listener in bound:
                listener.bind()
                self._listeners.append(listener)
        except StartFault:
            self._abandon()
            raise

    def open(self) -> None:
        """Open the data and serve on the ports that `bind` took.

        Raises:
            StartFault, MailError: it cannot be done; a sentence for the administrator.
        """
        super().startService()  # type: ignore[no-untyped-call]
        outcome: list[Failure | None] = []
        Deferred.fromCoroutine(self._start()).addBoth(outcome.append)
        assert outcome, "opening must not wait: whoever starts us would take it for done"
        [failure] = outcome
        if failure is not None:
            self._abandon()
            failure.raiseException()

    def stopService(self) -> Deferred[None]:
        """Stop as R18 says; fires when everything is on disk and closed."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def ports(self) -> dict[str, int]:
        """The TCP port of each service that has one; the first if it has several."""
        found: dict[str, int] = {}
        for listener in self._listeners:
            if listener.port:
                found.setdefault(listener.service, listener.port)
        return found

    async def _start(self) -> None:
        started = time.monotonic()
        serving = self.serving
        if self._crew is not None:
            self._workers_can_read_keys()
        installation = await serving.open(Role.SERVER)
        for listener in self._listeners:
            entrance = Entrance(listener, self._factory(listener))
            listener.start(self._reactor, entrance.factory)
            self._entrances.append(entrance)
        settings = serving.settings
        commands = session_commands(self.monitor, self._reactor.seconds, time.time)
        if self._crew is not None:
            commands = self._crew.over_all(commands)
        commands |= switch_commands(
            self._entrances, self.monitor, self._reactor, self._note_switch, self._tell_workers
        )
        self._control = ControlServer(settings.data / CONTROL_SOCKET, commands, self._reactor)
        self._control.start()
        if self._crew is not None:
            self._crew.start()
        self._listen_for_reload()
        self._every(settings[o.tls.CHECK_INTERVAL], self._look_at_certificates)
        self._every(_TICKET_KEYS, self._renew_ticket_keys)
        self._warn(warnings(settings, serving.tls is not None))
        self._warn(not_offered(settings, installation.authenticator.accepts()))
        self._warn(serving.certificate_warnings())
        self.log.info(
            "mailserver {version} serves {services} in {seconds:.2f} s",
            version=__version__,
            services=", ".join(f"{name} {port}" for name, port in self.ports().items()),
            seconds=time.monotonic() - started,
        )

    def _workers_can_read_keys(self) -> None:
        """See that certificates can be read without the privileges of the start: each worker
        reads them itself.

        Raises:
            StartFault: they cannot.
        """
        try:
            load_tls(self.serving.settings)
        except ConfigurationError as error:
            text = f"service.X.numprocesses above 1: workers cannot read this: {error}"
            raise StartFault(text) from error

    def _factory(self, listener: Listener) -> IProtocolFactory:
        """What a listener hands its connections to."""
        service, behind_proxy = listener.service, listener.behind_proxy
        factory = self.serving.factory(service, behind_proxy)
        if self._crew is None or self._processes[service] == 1:
            return factory
        return self._crew.door(service, behind_proxy, factory)

    def _tell_workers(self, name: str, *arguments: object) -> None:
        if self._crew is not None:
            self._crew.tell(name, *arguments)

    def _warn(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.log.emit(LogLevel.warn, "{text}", text=text)

    def _note_switch(self, service: str, what: str) -> None:
        self.log.emit(
            LogLevel.warn, "{service} is {what} by the administrator", service=service, what=what
        )

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something until the service stops; never if it is every 0 seconds."""
        if seconds and self.serving.tls is not None:
            timer = LoopingCall(work)
            timer.clock = self._reactor
            timer.start(seconds, now=False).addErrback(self._timer_failed)
            self._timers.append(timer)

    def _timer_failed(self, failure: Failure) -> None:
        self.log.failure("certificates are not looked at any more", failure)

    def _abandon(self) -> None:
        """Let go of what a start that failed had taken."""
        for listener in self._listeners:
            listener.stop()
        self._listeners.clear()

    async def _stop(self) -> None:
        self._stop_listening_for_reload()
        for timer in self._timers:
            timer.stop()
        self._timers.clear()
        if self._control is not None:
            await self._control.stop()
        for listener in self._listeners:
            await listener.stop()
        # All at once: each of them takes its time.
        workers_ended = Deferred.fromCoroutine(self._crew.stop()) if self._crew else None
        self.serving.end_sessions(SHUTDOWN)
        await self.serving.sessions_ended()
        if workers_ended is not None:
            await workers_ended
        await self.serving.close()
        self._listeners.clear()
        self._entrances.clear()

    # -- reload ---------------------------------------------------------------

    def _listen_for_reload(self) -> None:
        if self._reread is not None:
            signal.signal(
                signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload_configuration)
            )

    def _stop_listening_for_reload(self) -> None:
        if self._reread is not None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def reload_configuration(self) -> Deferred[None]:
        """Read configuration and certificates again; what is wrong changes nothing (R18).

        New connections get the new settings, live ones keep theirs. One reload after the
        other; fires when it is over, whatever came of it.
        """
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> None:
        assert self._reread is not None
        try:
            fresh = await self.serving.read(self._reread())
        except ConfigurationError as error:
            self._tell_problems("not reloaded", error)
            return
        if fresh.waiting:
            self.log.emit(
                LogLevel.warn, "only a restart brings: {options}", options=", ".join(fresh.waiting)
            )
        self.serving.take(fresh)
        if self._crew is not None:
            self._crew.reload()
        self._warn(self.serving.certificate_warnings())
        self.log.info("configuration and certificate reloaded")

    def _look_at_certificates(self) -> Deferred[None]:
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._take_changed()))

    async def _take_changed(self) -> None:
        try:
            if not await self.serving.take_changed_certificates():
                return
        except ConfigurationError as error:
            self._tell_problems("certificates not reloaded", error)
            return
        self._tell_workers("certificates")
        self._warn(self.serving.certificate_warnings())
        self.log.info("certificates have changed and were reloaded")

    def _renew_ticket_keys(self) -> None:
        self.serving.renew_ticket_keys()
        self._tell_workers("tickets")
        self._warn(self.serving.certificate_warnings())

    def _tell_problems(self, what: str, error: ConfigurationError) -> None:
        for problem in error.problems:
            self.log.error("{what}: {problem}", what=what, problem=str(problem))
