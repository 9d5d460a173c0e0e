"""What a process serves with: the data, the sessions, and a factory for each service.

The process that has the listeners (`mailserver.service.wiring`) and its workers
(`mailserver.service.workers`) are made of the same: whatever a client meets is here, and
where connections come from is theirs to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import attrs
from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from mailserver.auth.tokens import ITokenVerifier
from mailserver.interfaces import IThrottle
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
from mailserver.service.config import Settings
from mailserver.service.installation import Installation, Role, installation_settings
from mailserver.service.logging import set_format, set_levels
from mailserver.service.monitor import SessionMonitor
from mailserver.service.options.option import Applies
from mailserver.service.parts import (
    imap_settings,
    lmtp_settings,
    load_tls,
    pop3_settings,
    proxy_settings,
    session_limits,
    tls_error,
    tls_settings,
)
from mailserver.service.sources import source_settings
from mailserver.service.tls import CertificateFault, ServiceTls
from mailserver.service.tls.server import Prepared
from mailserver.service.tokens import load_tokens

# Seconds that a client has, at a stop, to take our goodbye. TLS would wait for its answer to
# the closing of the connection, which a client that is not reading never gives.
_CLOSE_GRACE: Final = 1.0


@attrs.frozen
class Fresh:
    """What a reload brings, read and found good.

    Attributes:
        settings: in which options that only a restart brings are as they were.
        waiting: names of those that have another value now.
    """

    settings: Settings
    waiting: tuple[str, ...]
    tokens: ITokenVerifier | None
    certificates: Prepared | None


class Serving:
    """The services of one process, but for where their connections come from.

    Args:
        settings: checked.
        reactor: the real one.
        numbers: of sessions, ascending; 1, 2, … if None.

    Raises:
        ConfigurationError: certificate or key, or a source of accounts, cannot be used.

    Attributes:
        settings: that act.
        monitor: of all sessions.
        installation: while it is open.
        tls: None where there is no certificate.
    """

    log = Logger()

    def __init__(
        self, settings: Settings, reactor: Any, numbers: Iterator[int] | None = None
    ) -> None:
        self.settings = settings
        self.monitor = SessionMonitor(
            session_limits(settings), lambda: reactor.seconds(), numbers=numbers
        )
        self.installation: Installation | None = None
        self.tls = load_tls(settings)
        self._reactor = reactor
        self._tokens: ITokenVerifier | None = load_tokens(settings, reactor)
        source_settings(settings)  # only whether they can be used
        self._registry = Registry.collect(MODULES)
        self._factories: dict[str, ImapFactory | Pop3Factory | LmtpFactory] = {}
        self._proxies: list[ProxyFactory] = []
        self._oddities = Oddities()
        self._begin_to_log()

    async def open(self, role: Role, throttle: IThrottle | None = None) -> Installation:
        """Open the data; nothing in it waits.

        Args:
            role: of this process.
            throttle: that of all processes; one of its own if None.

        Raises:
            MailError: it cannot be done; a sentence for the administrator.
        """
        installation = await Installation.open(
            installation_settings(self.settings), self._reactor, role, throttle
        )
        self.installation = installation
        installation.authenticator.tokens = self._tokens
        self.monitor.access = installation.access
        return installation

    def factory(self, service: str, behind_proxy: bool) -> IProtocolFactory:
        """What a listener hands its connections to: the PROXY header lies below TLS.

        Args:
            service, behind_proxy: as `Listener` has them.
        """
        assert self.installation is not None, "open comes first"
        if service not in self._factories:
            self._factories[service] = self._protocols(self.installation, service)
        factory: IProtocolFactory = self._factories[service]
        plain = service.removesuffix("s")
        if plain != service:
            tls = self._tls_of(plain)
            assert tls is not None
            wrapping = TLSMemoryBIOFactory(tls, False, factory)
            # A `Connection` joins its output itself.
            wrapping.protocol = TLSMemoryBIOProtocol
            factory = wrapping
        if behind_proxy:
            trusted = proxy_settings(self.settings)
            factory = ProxyFactory(factory, service, trusted, self._reactor)
            self._proxies.append(factory)
        return factory

    def _protocols(
        self, installation: Installation, service: str
    ) -> ImapFactory | Pop3Factory | LmtpFactory:
        if service in ("pop3", "pop3s"):
            pop3 = Pop3Services(
                store=installation.store,
                authenticator=installation.authenticator,
                monitor=self.monitor,
                settings=pop3_settings(self.settings),
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
                lmtp_settings(self.settings),
                self._tls_of("lmtp"),
                service,
            )
        services = Services(
            store=installation.store,
            directory=installation.accounts,
            authenticator=installation.authenticator,
            bus=installation.bus,
            monitor=self.monitor,
            settings=imap_settings(self.settings),
            registry=self._registry,
            clock=self._reactor,
            tls=self._tls_of("imap"),
        )
        return ImapFactory(services, service)

    def _tls_of(self, service: str) -> ServiceTls | None:
        return None if self.tls is None else self.tls.for_service(service)

    def _begin_to_log(self) -> None:
        """Log as the configuration says, from now on."""
        set_levels(self.settings[o.local.LOG_LEVEL], self.settings[o.local.LOG_MODULES])
        set_format(self.settings[o.local.LOG_FORMAT])

    # -- the end ---------------------------------------------------------------

    def end_sessions(self, reason: str, services: Iterable[str] | None = None) -> None:
        """Say goodbye to everybody, or to the sessions of some services, in words of their
        protocols."""
        chosen = None if services is None else frozenset(services)
        for session in self.monitor.sessions():
            if chosen is None or session.service in chosen:
                session.disconnect(reason)

    async def sessions_ended(self) -> None:
        """Wait for the sessions that were told to end, for the time of
        `local.shutdowntimeout` at most (R18)."""
        timeout = self.settings[o.local.SHUTDOWN_TIMEOUT]
        grace = min(_CLOSE_GRACE, timeout)
        if not await self._all_closed(grace) and not await self._all_closed(timeout - grace):
            left = len(list(self.monitor.sessions()))
            self.log.emit(
                LogLevel.warn,
                "{left} sessions did not end in {seconds} s",
                left=left,
                seconds=timeout,
            )

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

    async def close(self) -> None:
        """Finish what is being written, and close the data; may be called twice."""
        installation, self.installation = self.installation, None
        if installation is not None:
            await installation.stop()
        self._factories.clear()
        self._proxies.clear()

    # -- reload ------------------------------------------------------------------

    async def read(self, settings: Settings) -> Fresh:
        """Read what a reload is to bring; nothing changes yet.

        Raises:
            ConfigurationError: something of it cannot be used.
        """
        tokens = load_tokens(settings, self._reactor)
        source_settings(settings)
        certificates = await self._read_certificates(settings)
        waiting = [
            option
            for option in settings.changed(self.settings)
            if option.applies is Applies.RESTART
        ]
        # a listener and STARTTLS more or less
        if bool(settings[o.tls.CERTIFICATE]) != (self.tls is not None):
            waiting.append(o.tls.CERTIFICATE)
        return Fresh(
            settings.keeping(waiting, self.settings),
            tuple(option.name for option in waiting),
            tokens,
            certificates,
        )

    def take(self, fresh: Fresh) -> None:
        """Act by what `read` gave: new connections get the new settings, live ones keep
        theirs (R18)."""
        settings = self.settings = fresh.settings
        self._tokens = fresh.tokens
        self._take_certificates(fresh.certificates)
        self._begin_to_log()
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

    async def _read_certificates(self, settings: Settings) -> Prepared | None:
        """Read them in a thread, since large keys hold the reactor.

        Raises:
            ConfigurationError: naming option, file and reason.
        """
        if self.tls is None or not settings[o.tls.CERTIFICATE]:
            return None
        reactor = self._reactor
        try:
            return await deferToThreadPool(
                reactor, reactor.getThreadPool(), self.tls.prepare, tls_settings(settings)
            )
        except CertificateFault as fault:
            raise tls_error(settings, fault) from fault

    def _take_certificates(self, prepared: Prepared | None) -> None:
        if self.tls is not None and prepared is not None:
            self.tls.take(prepared)

    async def take_changed_certificates(self) -> bool:
        """Take files of certificates that have changed; False if none has.

        Raises:
            ConfigurationError: one cannot be used. It is told once, and tried again when it
                has changed again, as the second half of a pair that is being replaced will.
        """
        if self.tls is None or not self.tls.has_changed():
            return False
        self._take_certificates(await self._read_certificates(self.settings))
        return True

    def renew_ticket_keys(self) -> None:
        """Make the keys of session tickets anew."""
        if self.tls is not None:
            self.tls.rotate_tickets()

    def certificate_warnings(self) -> Iterator[str]:
        """What an administrator should know of the certificates now."""
        if self.tls is not None:
            yield from self.tls.warnings(datetime.now(UTC))
