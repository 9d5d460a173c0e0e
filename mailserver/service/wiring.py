"""The server as one Twisted service: what starts and stops when.

Order of a start: keys are read and ports bound while there are privileges
(`privilegedStartService`), everything else after twistd has forked and dropped them
(`startService`): databases, then listeners. Order of a stop: no new connections, goodbye
to the sessions, which finish what they are amid, then the databases (R18).
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mailserver import __version__
from mailserver.errors import MailError
from mailserver.server.connection import Connection
from mailserver.server.imap.commands import MODULES
from mailserver.server.imap.protocol import ImapFactory
from mailserver.server.imap.registry import Registry
from mailserver.server.imap.session import Services
from mailserver.server.lmtp.protocol import LmtpFactory
from mailserver.server.pop3.maildrop import Oddities
from mailserver.server.pop3.protocol import Pop3Factory
from mailserver.server.pop3.session import Services as Pop3Services
from mailserver.server.proxy import ProxyFactory
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Settings
from mailserver.service.control import CONTROL_SOCKET, ControlServer
from mailserver.service.installation import Installation, installation_settings
from mailserver.service.listeners import (
    Listener,
    StartFault,
)
from mailserver.service.logging import set_format, set_levels
from mailserver.service.monitor import SessionMonitor
from mailserver.service.options.option import Applies
from mailserver.service.parts import (
    imap_settings,
    listeners,
    lmtp_settings,
    load_tls,
    not_offered,
    pop3_settings,
    proxy_settings,
    session_limits,
    tls_error,
    tls_settings,
    warnings,
)
from mailserver.service.sessions import session_commands
from mailserver.service.sources import source_settings
from mailserver.service.switches import Entrance, switch_commands
from mailserver.service.tls import CertificateFault, ServiceTls
from mailserver.service.tls.server import Prepared
from mailserver.service.tokens import load_tokens

# Seconds that a client has, at a stop, to take our goodbye. TLS would wait for its answer to
# the closing of the connection, which a client that is not reading never gives.
_CLOSE_GRACE: Final = 1.0

# How often the keys of session tickets are made anew.
_TICKET_KEYS: Final = 24 * 3600.0

EX_UNAVAILABLE: Final = 69
"""Exit code when the server cannot start on this machine as it is (sysexits.h)."""
EX_CONFIG: Final = 78
"""Exit code when the configuration is wrong."""


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


def _begin_to_log(settings: Settings) -> None:
    """Log as the configuration says, from now on."""
    set_levels(settings[o.local.LOG_LEVEL], settings[o.local.LOG_MODULES])
    set_format(settings[o.local.LOG_FORMAT])


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
        installation: while the service runs.
        monitor: of all sessions.
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
        self.monitor = SessionMonitor(session_limits(settings), lambda: reactor.seconds())
        self.installation: Installation | None = None
        self._settings = settings
        self._reactor = reactor
        self._reread = reread
        self._in_foreground = in_foreground
        self._tls = load_tls(settings)
        self._tokens = load_tokens(settings, reactor)
        source_settings(settings)  # only whether they can be used
        self._registry = Registry.collect(MODULES)
        _begin_to_log(settings)
        self._listeners: list[Listener] = []
        self._factories: dict[str, ImapFactory | Pop3Factory | LmtpFactory] = {}
        self._proxies: list[ProxyFactory] = []
        self._entrances: list[Entrance] = []
        self._oddities = Oddities()
        self._control: ControlServer | None = None
        self._timers: list[LoopingCall] = []
        self._reloading = DeferredLock()

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
        bound = list(listeners(self._settings, self._tls is not None))
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
        installation = await Installation.open(
            installation_settings(self._settings), self._reactor, serves=True
        )
        self.installation = installation
        installation.authenticator.tokens = self._tokens
        self.monitor.access = installation.access
        for listener in self._listeners:
            if listener.service not in self._factories:
                self._factories[listener.service] = self._factory(installation, listener.service)
            entrance = Entrance(listener, self._serving(listener))
            listener.start(self._reactor, entrance.factory)
            self._entrances.append(entrance)
        commands = session_commands(self.monitor, self._reactor.seconds, time.time)
        commands |= switch_commands(self._entrances, self.monitor, self._reactor, self._note_switch)
        socket = self._settings.data / CONTROL_SOCKET
        self._control = ControlServer(socket, commands, self._reactor)
        self._control.start()
        self._listen_for_reload()
        self._every(self._settings[o.tls.CHECK_INTERVAL], self._look_at_certificates)
        self._every(_TICKET_KEYS, self._renew_ticket_keys)
        for text in (
            *warnings(self._settings, self._tls is not None),
            *not_offered(self._settings, installation.authenticator.accepts()),
        ):
            self.log.emit(LogLevel.warn, "{text}", text=text)
        self._warn_of_certificates()
        self.log.info(
            "mailserver {version} serves {services} in {seconds:.2f} s",
            version=__version__,
            services=", ".join(f"{name} {port}" for name, port in self.ports().items()),
            seconds=time.monotonic() - started,
        )

    def _factory(
        self, installation: Installation, service: str
    ) -> ImapFactory | Pop3Factory | LmtpFactory:
        if service in ("pop3", "pop3s"):
            pop3 = Pop3Services(
                store=installation.store,
                authenticator=installation.authenticator,
                monitor=self.monitor,
                settings=pop3_settings(self._settings),
                clock=self._reactor,
                tls=self._tls_of("pop3"),
                visits=installation.maildrop_visits,
                oddities=self._oddities,
            )
            return Pop3Factory(pop3, service)
        if service in ("lmtp", "lmtps"):
            return LmtpFactory(
                self.monitor,
                self._reactor,
                installation.store,
                installation.accounts,
                lmtp_settings(self._settings),
                self._tls_of("lmtp"),
                service,
            )
        services = Services(
            store=installation.store,
            directory=installation.accounts,
            authenticator=installation.authenticator,
            bus=installation.bus,
            monitor=self.monitor,
            settings=imap_settings(self._settings),
            registry=self._registry,
            clock=self._reactor,
            tls=self._tls_of("imap"),
        )
        return ImapFactory(services, service)

    def _note_switch(self, service: str, what: str) -> None:
        self.log.emit(
            LogLevel.warn, "{service} is {what} by the administrator", service=service, what=what
        )

    def _tls_of(self, service: str) -> ServiceTls | None:
        return None if self._tls is None else self._tls.for_service(service)

    def _serving(self, listener: Listener) -> IProtocolFactory:
        """What a listener hands its connections to: the PROXY header lies below TLS."""
        factory: IProtocolFactory = self._factories[listener.service]
        plain = listener.service.removesuffix("s")
        if plain != listener.service:
            tls = self._tls_of(plain)
            assert tls is not None
            wrapping = TLSMemoryBIOFactory(tls, False, factory)
            # A `Connection` joins its output itself.
            wrapping.protocol = TLSMemoryBIOProtocol
            factory = wrapping
        if listener.behind_proxy:
            trusted = proxy_settings(self._settings)
            factory = ProxyFactory(factory, listener.service, trusted, self._reactor)
            self._proxies.append(factory)
        return factory

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something until the service stops; never if it is every 0 seconds."""
        if seconds and self._tls is not None:
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
        for session in self.monitor.sessions():
            session.disconnect("server is shutting down")
        timeout = self._settings[o.local.SHUTDOWN_TIMEOUT]
        grace = min(_CLOSE_GRACE, timeout)
        if not await self._all_closed(grace) and not await self._all_closed(timeout - grace):
            left = len(list(self.monitor.sessions()))
            self.log.emit(
                LogLevel.warn,
                "{left} sessions did not end in {seconds} s",
                left=left,
                seconds=timeout,
            )
        installation, self.installation = self.installation, None
        if installation is not None:
            await installation.stop()
        self._listeners.clear()
        self._entrances.clear()
        self._factories.clear()

    async def _all_closed(self, seconds: float) -> bool:
        """Wait for the sessions to end; cut those that have nothing left to say."""
        try:
            await self.monitor.all_closed().addTimeout(seconds, self._reactor)
        except TimeoutError:
            for session in self.monitor.sessions():
                if isinstance(session, Connection) and not session.is_open:
                    session.abort()
            return not list(self.monitor.sessions())
        return True

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
            settings = self._reread()
            tokens = load_tokens(settings, self._reactor)
            source_settings(settings)
            prepared = await self._read_certificates(settings)
        except ConfigurationError as error:
            for problem in error.problems:
                self.log.error("not reloaded: {problem}", problem=str(problem))
            return
        waiting = [
            option.name
            for option in settings.changed(self._settings)
            if option.applies is Applies.RESTART
        ]
        # a listener and STARTTLS more or less
        if bool(settings[o.tls.CERTIFICATE]) != (self._tls is not None):
            waiting.append(o.tls.CERTIFICATE.name)
        if waiting:
            self.log.emit(
                LogLevel.warn, "only a restart brings: {options}", options=", ".join(waiting)
            )
        self._take_certificates(prepared)
        self._settings = settings
        self._tokens = tokens
        self._apply(settings)
        self.log.info("configuration and certificate reloaded")

    async def _read_certificates(self, settings: Settings) -> Prepared | None:
        """Read them in a thread, since large keys hold the reactor.

        Raises:
            ConfigurationError: naming option, file and reason.
        """
        if self._tls is None or not settings[o.tls.CERTIFICATE]:
            return None
        reactor = self._reactor
        try:
            return await deferToThreadPool(
                reactor, reactor.getThreadPool(), self._tls.prepare, tls_settings(settings)
            )
        except CertificateFault as fault:
            raise tls_error(settings, fault) from fault

    def _take_certificates(self, prepared: Prepared | None) -> None:
        if self._tls is not None and prepared is not None:
            self._tls.take(prepared)
            self._warn_of_certificates()

    def _look_at_certificates(self) -> Deferred[None]:
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._take_changed()))

    async def _take_changed(self) -> None:
        """Take files that have changed; a bad one is told once and tried again when it has
        changed again, as the second half of a pair that is being replaced will."""
        if self._tls is None or not self._tls.has_changed():
            return
        try:
            self._take_certificates(await self._read_certificates(self._settings))
        except ConfigurationError as error:
            for problem in error.problems:
                self.log.error("certificates not reloaded: {problem}", problem=str(problem))
            return
        self.log.info("certificates have changed and were reloaded")

    def _renew_ticket_keys(self) -> None:
        if self._tls is not None:
            self._tls.rotate_tickets()
            self._warn_of_certificates()

    def _warn_of_certificates(self) -> None:
        for text in self._tls.warnings(datetime.now(UTC)) if self._tls is not None else ():
            self.log.emit(LogLevel.warn, "{text}", text=text)

    def _apply(self, settings: Settings) -> None:
        _begin_to_log(settings)
        self.monitor.limits = session_limits(settings)
        for proxy in self._proxies:
            proxy.settings = proxy_settings(settings)
        if self.installation is not None:
            self.installation.apply(installation_settings(settings))
            self.installation.authenticator.tokens = self._tokens
        for factory in self._factories.values():
            if isinstance(factory, LmtpFactory):
                factory.settings = lmtp_settings(settings)
            elif isinstance(factory, Pop3Factory):
                pop3 = attrs.evolve(factory.services, settings=pop3_settings(settings))
                factory.services = pop3
            else:
                factory.services = attrs.evolve(factory.services, settings=imap_settings(settings))
