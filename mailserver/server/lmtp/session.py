"""One LMTP conversation: which commands may follow which, and a message's way to the store.

Knows no sockets: it speaks to its client through a `Channel`. RFC 2033 §4 with RFC 5321
§4.1.4 (order of commands), RFC 3030 §2 (BDAT), RFC 3207 §4 (STARTTLS), RFC 6531 (SMTPUTF8).

Invariants:

- After DATA or BDAT LAST there is exactly one reply for each accepted RCPT, in their
  order, whatever goes wrong (T46).
- A 250 for a recipient is sent only after `IMailStore.deliver` said that the message is
  durable (T48).
- A spool that was opened is discarded when the transaction ends, however it ends.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailserver import __version__
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IDirectory, IMailStore, ISpool, ISpooled
from mailserver.model.account import Recipient
from mailserver.server.connection import escaped
from mailserver.server.lmtp.status import INTERNAL, reply_to
from mailserver.wire.lmtp import commands as c
from mailserver.wire.lmtp.grammar import STRICT, VERBS, Leniency, parse_command
from mailserver.wire.lmtp.replies import Reply
from mailserver.wire.lmtp.trace import Trace, delivered_to, received, return_path

TRACE_ROOM: Final = 4096
"""Octets that the lines added here may have. The size announced is smaller by them than
the store's limit, so that a message of just that size is taken (RFC 1870 §6.3)."""


@attrs.frozen
class LmtpSettings:
    """How the LMTP service is to behave.

    Attributes:
        hostname: this server's name, in the greeting and in `Received`.
        banner: text of the greeting after the name.
        max_recipients: accepted RCPTs in one transaction; 100 at least (RFC 5321
            §4.5.3.1.8).
        max_line: octets of a command line (S3).
        max_bad_commands: faulty commands after which the connection is closed (S3).
        lhlo_timeout: seconds from connect to LHLO, whatever is sent meanwhile.
        idle_timeout: seconds without an octet; 300 at least (RFC 5321 §4.5.3.2.7).
        message_timeout: seconds from the first octet of a message to its last.
        write_timeout: seconds that a client may leave our replies untaken.
        over_quota_is_temporary: answer 452 4.2.2 rather than 552 5.2.2 (T47).
        leniency: which faulty clients are served (T55).
        trace: log every command (CGP-1).
    """

    hostname: str
    banner: str = f"mailserver {__version__} LMTP ready"
    max_recipients: int = 1000
    max_line: int = 8192
    max_bad_commands: int = 20
    lhlo_timeout: float = 60.0
    idle_timeout: float = 300.0
    message_timeout: float = 3600.0
    write_timeout: float = 300.0
    over_quota_is_temporary: bool = True
    leniency: Leniency = STRICT
    trace: bool = False


class Channel(Protocol):
    """What a session may do with its connection."""

    address: str  # the client's IP address, or `local` for a Unix socket
    number: int  # of the session

    @property
    def label(self) -> str:
        """The session's name in the log."""

    def note(self, text: str, **values: object) -> None:
        """Log a line about this session; values are escaped and cut (S13)."""

    def send_reply(self, reply: Reply) -> None:
        """Queue a reply; it goes out when the input is used up or a wait begins."""

    def flush(self) -> None:
        """Send what is queued now."""

    def start_data(self) -> None:
        """Message data follows."""

    def start_chunk(self, size: int, *, is_first: bool) -> None:
        """A chunk of so many octets follows; the first or a further one of a message."""

    def accept_tls(self, reply: Reply) -> None:
        """Send the reply and begin the handshake; where input is there already, close
        the connection instead (S1)."""

    @property
    def can_start_tls(self) -> bool:
        """A certificate is configured and TLS is not active."""

    @property
    def tls_description(self) -> str:
        """Protocol version and cipher; empty without TLS."""

    def close(self) -> None:
        """Close after what is queued was sent."""


@attrs.define
class _Transaction:
    """From MAIL to the last reply."""

    mail: c.Mail
    id: str
    recipients: list[Recipient] = attrs.Factory(list)
    spool: ISpool | None = None
    is_chunked: bool = False
    is_last: bool = False  # the data or chunk that is coming in is the last
    octets: int = 0  # of the data or chunk that is coming in
    failure: Reply | None = None  # why the data cannot be taken

    def discard(self) -> None:
        if self.spool is not None:
            self.spool.discard()


OK: Final = Reply(250, "2.0.0", "Ok")
_NO_LHLO: Final = Reply(503, "5.5.1", "Say LHLO first")
_NO_MAIL: Final = Reply(503, "5.5.1", "MAIL must come first")
_NO_RECIPIENTS: Final = Reply(503, "5.5.1", "No recipient was accepted")
_MIXED: Final = Reply(503, "5.5.1", "BDAT has begun: only BDAT or RSET may follow")
_TRY_LATER: Final = Reply(*INTERNAL, "Internal error, try again later")


class LmtpSession:
    """Runs commands and takes message data for one connection.

    Args:
        channel: the connection.
        store, directory: where mail goes and who there is.
        settings: how to behave.
        now: seconds since 1970 UTC, for the trace lines.
    """

    log = Logger()

    def __init__(
        self,
        channel: Channel,
        store: IMailStore,
        directory: IDirectory,
        settings: LmtpSettings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._channel = channel
        self._store = store
        self._directory = directory
        self._settings = settings
        self._now = now
        self.client = ""  # its name, from LHLO on
        self._bad_commands = 0
        self._transaction: _Transaction | None = None
        self._swallowing: c.Bdat | None = None  # a chunk that belongs to no transaction
        self.is_delivering = False

    @property
    def max_size(self) -> int:
        """Octets of the largest message that is taken for certain (RFC 1870 §4)."""
        return max(self._store.max_message_size - TRACE_ROOM, 1)

    @property
    def is_receiving(self) -> bool:
        """A message has begun to come in and is not complete."""
        return self._transaction is not None and self._transaction.spool is not None

    def greeting(self) -> Reply:
        """The first reply of the connection."""
        return Reply(220, "", f"{self._settings.hostname} {self._settings.banner}")

    def reset(self) -> None:
        """Forget all that the client said, as after STARTTLS (RFC 3207 §4.2)."""
        self._end_transaction()
        self.client = ""

    def connection_lost(self) -> None:
        """The client is gone: what is not complete is dropped, what is goes on."""
        if not self.is_delivering:
            self._end_transaction()

    # -- commands -----------------------------------------------------------

    async def run_line(self, line: bytes) -> None:
        """Run one command line; its reply has been queued when this returns."""
        command = parse_command(line, self._settings.leniency)
        if self._settings.trace:
            self._channel.note("runs", command=command)
        if isinstance(command, c.SyntaxFault):
            self.refuse(command.reply, is_fatal=command.is_fatal)
            return
        try:
            waiting = _RUN[type(command)](self, command)
            if waiting is not None:
                await waiting
        except Exception:  # noqa: BLE001 - logged and answered
            self._channel.send_reply(self._internal_error("command"))

    def refuse(self, reply: Reply, *, is_fatal: bool = False) -> None:
        """Answer a faulty command; too many of them end the connection (S3)."""
        self._channel.send_reply(reply)
        self._bad_commands += 1
        if is_fatal:
            self._channel.close()
        elif self._bad_commands >= self._settings.max_bad_commands:
            self._channel.send_reply(Reply(421, "4.7.0", "Too many faulty commands, closing"))
            self._channel.close()

    def _lhlo(self, command: c.Lhlo) -> None:
        self._end_transaction()
        self.client = command.client
        extensions = [
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            f"SIZE {self.max_size}",
        ]
        if self._channel.can_start_tls:
            extensions.append("STARTTLS")
        self._channel.send_reply(Reply(250, "", self._settings.hostname, tuple(extensions)))

    def _mail(self, command: c.Mail) -> None:
        if not self.client:
            self.refuse(_NO_LHLO)
        elif self._transaction is not None:
            self.refuse(Reply(503, "5.5.1", "A transaction is open: RSET ends it"))
        elif command.size is not None and command.size > self.max_size:
            text = f"Message too big: at most {self.max_size} octets are taken"
            self._channel.send_reply(Reply(552, "5.3.4", text))
        else:
            id = f"{secrets.token_hex(6)}.{self._channel.number}"
            self._transaction = _Transaction(command, id)
            self._channel.send_reply(Reply(250, "2.1.0", "Sender ok"))

    async def _rcpt(self, command: c.Rcpt) -> None:
        transaction = self._transaction
        if transaction is None:
            self.refuse(_NO_MAIL)
        elif transaction.is_chunked:
            self.refuse(_MIXED)
        elif len(transaction.recipients) >= self._settings.max_recipients:
            # RFC 5321 §4.5.3.1.10: 452, and those accepted so far stay.
            self._channel.send_reply(Reply(452, "4.5.3", "Too many recipients, send these first"))
        elif not (transaction.mail.smtputf8 or command.recipient.isascii()):
            text = "A recipient that is not ASCII needs the SMTPUTF8 parameter of MAIL"
            self._channel.send_reply(Reply(553, "5.6.7", text))
        else:
            self._channel.send_reply(await self._accept(transaction, command.recipient))

    async def _accept(self, transaction: _Transaction, address: str) -> Reply:
        try:
            recipient = await self._directory.recipient(address)
            await self._store.check_deliverable(recipient, transaction.mail.size or 0)
        except MailError as error:
            return self._refusal(transaction, address, error)
        transaction.recipients.append(recipient)
        return Reply(250, "2.1.5", "Recipient ok")

    def _data(self, command: c.Data) -> None:
        transaction = self._transaction
        if transaction is None:
            self.refuse(_NO_MAIL)
        elif transaction.is_chunked:
            self.refuse(_MIXED)
        elif not transaction.recipients:
            self.refuse(_NO_RECIPIENTS)  # RFC 2033 §4.2
        else:
            self._begin_message(transaction)
            transaction.is_last = True
            self._channel.send_reply(Reply(354, "", "Send the message, end with CRLF.CRLF"))
            self._channel.start_data()

    def _bdat(self, command: c.Bdat) -> None:
        # The chunk comes whatever the answer will be: it must be read (RFC 3030 §2).
        transaction = self._transaction
        is_first = False
        if transaction is None or not transaction.recipients:
            self._swallowing = command
        else:
            if not transaction.is_chunked:
                transaction.is_chunked = is_first = True
                self._begin_message(transaction)
            transaction.is_last = command.last
            transaction.octets = 0
        self._channel.start_chunk(command.size, is_first=is_first)

    def _rset(self, command: c.Rset) -> None:
        self._end_transaction()
        self._channel.send_reply(OK)

    def _noop(self, command: c.Noop) -> None:
        self._channel.send_reply(OK)

    def _vrfy(self, command: c.Vrfy) -> None:
        text = "Cannot verify a user here, RCPT tells whether mail is taken"
        self._channel.send_reply(Reply(252, "2.5.0", text))

    def _help(self, command: c.Help) -> None:
        text = f"LMTP, RFC 2033. Commands: {' '.join(VERBS)}"
        self._channel.send_reply(Reply(214, "2.0.0", text))

    def _quit(self, command: c.Quit) -> None:
        self._end_transaction()
        self._channel.send_reply(
            Reply(221, "2.0.0", f"{self._settings.hostname} closing connection")
        )
        self._channel.close()

    def _starttls(self, command: c.StartTls) -> None:
        if self._channel.tls_description:
            self.refuse(Reply(503, "5.5.1", "TLS is active already"))
        elif not self._channel.can_start_tls:
            self.refuse(Reply(502, "5.5.1", "TLS is not available: no certificate is configured"))
        else:
            self._channel.accept_tls(Reply(220, "2.0.0", "Ready to start TLS"))

    # -- message data -------------------------------------------------------

    def take(self, octets: bytes) -> None:
        """Take a piece of message data."""
        transaction = self._transaction
        if self._swallowing is not None or transaction is None:
            return
        transaction.octets += len(octets)
        if transaction.failure is None and transaction.spool is not None:
            try:
                transaction.spool.write(octets)
            except MailError as error:
                transaction.failure = self._refusal(transaction, "", error)
            except Exception:  # noqa: BLE001 - logged and answered
                transaction.failure = self._internal_error(transaction.id)

    async def end_of_data(self) -> None:
        """The data or the chunk is complete: answer, and deliver after the last."""
        if self._swallowing is not None:
            self._refuse_chunk(self._swallowing)
            self._swallowing = None
            return
        transaction = self._transaction
        assert transaction is not None
        if transaction.is_last:
            await self._finish(transaction)
        else:
            done = Reply(250, "2.0.0", f"{transaction.octets} octets received")
            self._channel.send_reply(transaction.failure or done)

    def _refuse_chunk(self, command: c.Bdat) -> None:
        if self._transaction is None:
            self.refuse(_NO_MAIL)
        elif command.last:
            self._end_transaction()  # no accepted recipient, no reply: RFC 2033 §4.3
        else:
            self.refuse(_NO_RECIPIENTS)

    def _begin_message(self, transaction: _Transaction) -> None:
        recipients = transaction.recipients
        tls = self._channel.tls_description
        trace = Trace(
            client=self.client,
            address="" if self._channel.address == "local" else self._channel.address,
            host=self._settings.hostname,
            protocol=f"{'UTF8' if transaction.mail.smtputf8 else ''}LMTP{'S' if tls else ''}",
            tls=tls,
            id=transaction.id,
            recipient=recipients[0].address if len(recipients) == 1 else "",
            time=_local_time(int(self._now())),
        )
        transaction.spool = self._store.spool()
        self.take(received(trace))
        transaction.octets = 0

    async def _finish(self, transaction: _Transaction) -> None:
        self.is_delivering = True
        self._channel.flush()
        try:
            message = await self._spooled(transaction)
            if message is None:
                failure = transaction.failure or _TRY_LATER
                for _ in transaction.recipients:
                    self._channel.send_reply(failure)
                return
            try:
                await self._deliver_all(transaction, message)
            finally:
                message.discard()
        finally:
            self.is_delivering = False
            self._end_transaction()

    async def _spooled(self, transaction: _Transaction) -> ISpooled | None:
        if transaction.failure is None and transaction.spool is not None:
            try:
                return await transaction.spool.finish()
            except MailError as error:
                transaction.failure = self._refusal(transaction, "", error)
            except Exception:  # noqa: BLE001 - logged and answered
                transaction.failure = self._internal_error(transaction.id)
        return None

    async def _deliver_all(self, transaction: _Transaction, message: ISpooled) -> None:
        """Deliver to all at once: recipients are different accounts, whose commits run
        beside each other. Replies go out in order, each as soon as it can."""
        if len(transaction.recipients) == 1:  # as nearly always: nothing beside it to start
            [recipient] = transaction.recipients
            self._channel.send_reply(await self._deliver(transaction, recipient, message))
            return
        deliveries = [
            Deferred.fromCoroutine(self._deliver(transaction, recipient, message))
            for recipient in transaction.recipients
        ]
        for delivery in deliveries:
            if not delivery.called:
                self._channel.flush()  # RFC 2033 §5
            self._channel.send_reply(await delivery)

    async def _deliver(
        self, transaction: _Transaction, recipient: Recipient, message: ISpooled
    ) -> Reply:
        prefix = return_path(transaction.mail.sender) + delivered_to(recipient.address)
        try:
            mailbox = await self._store.deliver(recipient, message, prefix)
        except MailError as error:
            return self._refusal(transaction, recipient.address, error)
        except Exception:  # noqa: BLE001 - logged and answered
            return self._internal_error(transaction.id)
        self.log.info(
            "{label} delivered id={id} from=<{sender}> to=<{recipient}> mailbox={mailbox}"
            " octets={size}",
            label=self._channel.label,
            id=transaction.id,
            sender=escaped(transaction.mail.sender),
            recipient=escaped(recipient.address),
            account=recipient.account.name,
            mailbox=escaped(mailbox.name),
            size=message.size,
        )
        return Reply(250, "2.1.5", f"Delivered, id {transaction.id}")

    # -- endings ------------------------------------------------------------

    def _end_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.discard()
            self._transaction = None

    def _refusal(self, transaction: _Transaction, recipient: str, error: MailError) -> Reply:
        # A full disk concerns the administrator, an unknown user does not.
        write = self.log.error if error.kind in _OUR_FAULT else self.log.info
        write(
            "{label} refused id={id} from=<{sender}> to=<{recipient}> {kind}: {text}",
            label=self._channel.label,
            id=transaction.id,
            sender=escaped(transaction.mail.sender),
            recipient=escaped(recipient),
            kind=error.kind.value,
            text=escaped(error.text),
        )
        temporary = self._settings.over_quota_is_temporary
        return reply_to(error, over_quota_is_temporary=temporary)

    def _internal_error(self, ref: str) -> Reply:
        """Log the exception that is being handled; the reply tells where to find it."""
        label = self._channel.label
        self.log.failure("{label} failed, ref {ref}", label=label, ref=ref)
        return Reply(*INTERNAL, f"Internal error, try again later (ref {label} {ref})")


_OUR_FAULT: Final = frozenset({ErrorKind.DISK_FULL, ErrorKind.CORRUPT, ErrorKind.UNAVAILABLE})

_RUN: Final[dict[type[c.Command], Callable[[LmtpSession, Any], Awaitable[None] | None]]] = {
    c.Lhlo: LmtpSession._lhlo,
    c.Mail: LmtpSession._mail,
    c.Rcpt: LmtpSession._rcpt,
    c.Data: LmtpSession._data,
    c.Bdat: LmtpSession._bdat,
    c.Rset: LmtpSession._rset,
    c.Noop: LmtpSession._noop,
    c.Vrfy: LmtpSession._vrfy,
    c.Help: LmtpSession._help,
    c.Quit: LmtpSession._quit,
    c.StartTls: LmtpSession._starttls,
}


@lru_cache(maxsize=1)
def _local_time(seconds: int) -> datetime:
    """RFC 5321 §4.4 wants local time with its offset."""
    local = time.localtime(seconds)
    return datetime.fromtimestamp(seconds, timezone(timedelta(seconds=local.tm_gmtoff)))
