"""Connections that come through a proxy, which says first who its client is.

The header is read before anything else happens: no greeting, no TLS, no session of the
monitor. Then the connection becomes the protocol that was meant, with the client's address,
and this module has no more part in it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from mailserver.model.networks import Networks
from mailserver.wire.proxy import ProxyFault, ProxyHeader, read_header


@attrs.frozen
class ProxySettings:
    """Who may say who the client is.

    Attributes:
        trusted: the proxies' networks.
        timeout: seconds for the header to come.
    """

    trusted: Networks = Networks()
    timeout: float = 5.0


class ProxyConnection(Protocol):
    """One connection, until its header has come."""

    log = Logger()
    transport: Any  # a TCP connection of the server

    def __init__(self, factory: ProxyFactory) -> None:
        self._listener = factory
        self._octets = b""
        self._alarm: IDelayedCall | None = None

    def connectionMade(self) -> None:
        factory = self._listener
        peer = self._peer()
        if peer not in factory.settings.trusted:
            self._refuse("it is no trusted proxy")
            return
        factory.waiting.add(self)
        self._alarm = factory.clock.callLater(
            factory.settings.timeout, self._refuse, "no PROXY header came in time"
        )

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        try:
            header = read_header(self._octets)
        except ProxyFault as fault:
            self._refuse(str(fault))
            return
        if header is not None:
            self._go_on(header)

    def _go_on(self, header: ProxyHeader) -> None:
        """Become the protocol that was meant."""
        self._forget()
        transport = self.transport
        rest = self._octets[header.size :]
        self._octets = b""
        address = _address(header) if header.host else transport.getPeer()
        protocol = self._listener.wrapped.buildProtocol(address)
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()

    def _refuse(self, reason: str) -> None:
        self.log.emit(
            LogLevel.warn,
            "{service} refused {address}: {reason}",
            service=self._listener.service,
            address=self._peer(),
            reason=reason,
        )
        self.drop()

    def drop(self) -> None:
        """Close at once."""
        self._forget()
        self.transport.abortConnection()

    def _forget(self) -> None:
        self._listener.waiting.discard(self)
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()

    def _peer(self) -> str:
        return str(getattr(self.transport.getPeer(), "host", ""))


def _address(header: ProxyHeader) -> IAddress:
    kind = IPv4Address if ip_address(header.host).version == 4 else IPv6Address
    return kind("TCP", header.host, header.port)


class ProxyFactory(Factory):
    """Stands before the factory of a listener that only proxies connect to.

    Args:
        wrapped: gets `buildProtocol` with the client's address.
        service: the listener's name, for the log.
        settings: may be replaced at any time.
        clock: for the deadline.

    Attributes:
        waiting: connections whose header has not come.
    """

    noisy = False

    def __init__(
        self,
        wrapped: IProtocolFactory,
        service: str,
        settings: ProxySettings,
        clock: IReactorTime,
    ) -> None:
        self.wrapped = wrapped
        self.service = service
        self.settings = settings
        self.clock = clock
        self.waiting: set[ProxyConnection] = set()

    def buildProtocol(self, addr: IAddress | None) -> ProxyConnection:
        return ProxyConnection(self)

    def stopFactory(self) -> None:
        """The listener is closed: nobody waits for headers any more."""
        for connection in list(self.waiting):
            connection.drop()
