"""A store that keeps deliveries in a list and fails on demand, and an LMTP client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account, Recipient
from mailserver.model.ids import AccountId, MailboxId, MailboxRef
from mailserver.model.mailbox import MailboxInfo
from mailserver.server.lmtp.protocol import LmtpConnection
from mailserver.server.lmtp.session import LmtpSettings
from tests.server.rig import Monitor


@attrs.define
class Spool:
    store: Store
    octets: bytes = b""
    discarded: bool = False

    def write(self, octets: bytes) -> None:
        if self.store.write_error is not None and b"FAIL" in octets:
            self.discarded = True
            raise self.store.write_error
        assert not self.discarded
        self.octets += octets

    async def finish(self) -> Spooled:
        if self.store.finish_error is not None:
            raise self.store.finish_error
        return Spooled(self.store, self.octets, len(self.octets))

    def discard(self) -> None:
        self.discarded = True


@attrs.define
class Spooled:
    store: Store
    octets: bytes
    size: int

    def discard(self) -> None:
        self.store.discarded += 1


@attrs.define
class Store:
    """Stands for an `IMailStore`; real ones are driven by `tests/service`."""

    max_message_size: int = 1_004_096
    delivered: list[tuple[str, bytes]] = attrs.Factory(list)
    spools: list[Spool] = attrs.Factory(list)
    discarded: int = 0
    write_error: Exception | None = None
    finish_error: Exception | None = None
    errors: dict[str, Exception] = attrs.Factory(dict)  # address -> what deliver raises
    rcpt_errors: dict[str, Exception] = attrs.Factory(dict)
    waiting: dict[str, Deferred[None]] = attrs.Factory(dict)  # address -> deliver waits
    sizes: list[int] = attrs.Factory(list)

    def spool(self) -> Spool:
        self.spools.append(Spool(self))
        return self.spools[-1]

    async def check_deliverable(self, recipient: Recipient, size: int) -> None:
        self.sizes.append(size)
        if recipient.address in self.rcpt_errors:
            raise self.rcpt_errors[recipient.address]

    async def deliver(self, recipient: Recipient, message: Spooled, prefix: bytes) -> MailboxInfo:
        if recipient.address in self.waiting:
            await self.waiting[recipient.address]
        if recipient.address in self.errors:
            raise self.errors[recipient.address]
        self.delivered.append((recipient.address, prefix + message.octets))
        return MailboxInfo(MailboxRef(recipient.account.id, MailboxId("m")), "INBOX")


class Directory:
    """Knows everybody but `nobody@...`."""

    async def recipient(self, address: str) -> Recipient:
        if address.startswith("nobody@"):
            raise MailError(ErrorKind.NONEXISTENT, "No such user here")
        if address.startswith("bug@"):
            raise ZeroDivisionError
        return Recipient(address, Account(AccountId("a" * 26), address))


class Client:
    """Drives one connection; `transport` holds what the server sent."""

    def __init__(
        self,
        store: Store | None = None,
        settings: LmtpSettings | None = None,
        monitor: Monitor | None = None,
        tls: Any = None,
    ) -> None:
        self.store = store or Store()
        self.clock = Clock()
        self.monitor = monitor or Monitor()
        settings = settings or LmtpSettings("mail.example.org")
        directory: Any = Directory()
        self.connection = LmtpConnection(
            self.monitor, self.clock, self.store, directory, settings, tls
        )
        self.transport = StringTransportWithDisconnection(
            peerAddress=IPv4Address("TCP", "192.0.2.1", 4000)
        )
        self.transport.protocol = self.connection
        self.transport.abortConnection = self.transport.loseConnection
        self.connection.makeConnection(self.transport)
        self.greeting = self.read()

    def read(self) -> str:
        octets = self.transport.value()
        self.transport.clear()
        return octets.decode("ascii").replace("\r\n", "\n")

    def say(self, octets: bytes) -> str:
        """Send octets, return what came back with LF at line ends."""
        self.connection.dataReceived(octets)
        return self.read()

    @property
    def is_closed(self) -> bool:
        return not self.transport.connected

    def lose(self) -> None:
        self.transport.loseConnection()


ENVELOPE = b"LHLO mta.example.org\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<a@example.org>\r\n"
DELIVERY = ENVELOPE + b"DATA\r\nSubject: x\r\n\r\nhi\r\n.\r\n"

Case = Callable[[Client], None]
