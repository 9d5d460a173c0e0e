"""Listeners behind proxies: who is believed, and what a session then knows of its client."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher

from mailserver.model.networks import Networks
from mailserver.server.imap.protocol import ImapFactory
from mailserver.server.proxy import ProxyFactory, ProxySettings
from mailserver.wire.proxy import SIGNATURE
from tests.server.rig import Rig, Transport, rig

PROXY = "192.0.2.7"
LINE = b"PROXY TCP4 203.0.113.9 192.0.2.7 56324 143\r\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
V6 = SIGNATURE + b"\x21\x21" + struct.pack("!H", 36) + b"\x20\x01" + bytes(34)
SETTINGS = ProxySettings(Networks.of([f"{PROXY}/32"]), timeout=5)


class TcpTransport(Transport):
    """A transport whose protocol can become another one, with the proxy's address."""

    def __init__(self, server: Rig, address: str) -> None:
        super().__init__(server.loop)
        self.peerAddr = IPv4Address("TCP", address, 40000)


@attrs.define
class Peer:
    """What connects to the listener."""

    transport: TcpTransport
    factory: ProxyFactory

    def send(self, octets: bytes, step: int = 0) -> None:
        for at in range(0, len(octets), step or len(octets)):
            if not self.transport.disconnecting:
                self.transport.protocol.dataReceived(octets[at : at + (step or len(octets))])


@pytest.fixture
def said() -> Any:
    """Lines of the log about refusals."""
    events: list[str] = []

    def observe(event: Any) -> None:
        if "refused" in event.get("log_format", ""):
            events.append("{service} {address} {reason}".format(**event))

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with rig(tmp_path) as made:
        yield made


def connect(server: Rig, address: str = PROXY, factory: ProxyFactory | None = None) -> Peer:
    if factory is None:
        clock: Any = server.loop
        factory = ProxyFactory(ImapFactory(server.services), "imap", SETTINGS, clock)
    transport = TcpTransport(server, address)
    transport.protocol = factory.buildProtocol(transport.peerAddr)
    transport.protocol.makeConnection(transport)
    return Peer(transport, factory)


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(
    ("header", "address"), [(LINE, "203.0.113.9"), (V6, "2001::"), (LOCAL, PROXY)]
)
def test_the_session_has_the_clients_address(
    server: Rig, header: bytes, address: str, step: int
) -> None:
    peer = connect(server)
    assert server.monitor.live == [] and peer.transport.value() == b""  # no greeting before
    peer.send(header, step)
    [session] = server.monitor.live
    assert session.address == address
    assert peer.transport.value().startswith(b"* OK [CAPABILITY ")
    peer.transport.clear()
    peer.send(b"a NOOP\r\n")
    assert peer.transport.value() == b"a OK NOOP completed\r\n"
    assert not peer.factory.waiting


def test_what_follows_the_header_in_its_packet_is_the_clients(server: Rig) -> None:
    peer = connect(server)
    peer.send(LINE + b"a NOOP\r\nb LOGOUT\r\n")
    assert b"a OK NOOP completed\r\n" in peer.transport.value()
    assert b"b OK LOGOUT completed\r\n" in peer.transport.value()


def test_nobody_else_may_connect(server: Rig, said: list[str]) -> None:
    """An address can be invented by whoever is believed: only proxies are."""
    peer = connect(server, "192.0.2.8")
    assert peer.transport.disconnecting and peer.transport.value() == b""
    peer.send(LINE)
    assert server.monitor.live == []
    assert said == ["imap 192.0.2.8 it is no trusted proxy"]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"a NOOP\r\n", "there is no PROXY header"),
        (b"PROXY TCP4 x x 1 1\r\n", "the PROXY line is malformed"),
        (SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "too short for its addresses"),
    ],
)
def test_a_proxy_without_a_header_is_refused(
    server: Rig, said: list[str], octets: bytes, reason: str
) -> None:
    peer = connect(server)
    peer.send(octets)
    assert peer.transport.disconnecting and server.monitor.live == []
    assert len(said) == 1 and said[0].startswith(f"imap {PROXY} ") and reason in said[0]


def test_the_header_has_a_deadline(server: Rig, said: list[str]) -> None:
    """It is absolute: octets that trickle in do not push it out."""
    peer = connect(server)
    for octet in LINE[:4]:
        server.loop.advance(1)
        peer.send(bytes([octet]))
    assert not peer.transport.disconnecting
    server.loop.advance(1)
    assert peer.transport.disconnecting
    assert said == [f"imap {PROXY} no PROXY header came in time"]
    server.loop.turn()
    assert not peer.factory.waiting


def test_a_client_that_leaves_before_its_header(server: Rig) -> None:
    peer = connect(server)
    peer.transport.lose()
    assert not peer.factory.waiting and not server.loop.getDelayedCalls()


def test_closing_the_listener_drops_who_has_not_said_it(server: Rig) -> None:
    """R18: nothing is left behind."""
    peer = connect(server)
    gone_on = connect(server, factory=peer.factory)
    gone_on.send(LINE)
    peer.factory.stopFactory()
    assert peer.transport.disconnecting and not gone_on.transport.disconnecting


def test_new_settings_count_for_new_connections(server: Rig) -> None:
    peer = connect(server)
    peer.factory.settings = ProxySettings(Networks.of(["198.51.100.0/24"]))
    assert connect(server, factory=peer.factory).transport.disconnecting
    assert not connect(server, "198.51.100.3", peer.factory).transport.disconnecting
    peer.send(LINE)
    assert len(server.monitor.live) == 1


def test_a_factory_that_wants_no_more_connections(server: Rig) -> None:
    class Full:
        def buildProtocol(self, addr: object) -> None:
            assert str(addr.host) == "203.0.113.9"  # type: ignore[attr-defined]

    clock: Any = server.loop
    full: Any = Full()
    peer = connect(server, factory=ProxyFactory(full, "imap", SETTINGS, clock))
    peer.send(LINE)
    assert peer.transport.disconnecting


def test_the_address_is_that_of_the_transport_without_a_proxy(server: Rig) -> None:
    transport = StringTransport(peerAddress=IPv4Address("TCP", "198.51.100.1", 1))
    connection = ImapFactory(server.services).buildProtocol(None)
    connection.makeConnection(transport)
    assert connection.address == "198.51.100.1"
