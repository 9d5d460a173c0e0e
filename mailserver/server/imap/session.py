"""One IMAP session: who it is, where it stands, and what command handlers may use.

A session knows the store and its view, not octets coming in: `protocol` reads those, runs
one command after the other (T16), and asks the session to `finish` each. Everything a
handler sends goes through `send` and friends; the connection joins it into few writes.

A handler of a command reads like this:

    async def check(session: Session, command: Check) -> None:
        await session.refresh()

The rules for handlers:

- never await between `send_part` and the `send` that ends that response, except `drained`;
- after the view was looked at, an await may change the image; the view itself changes only
  in `finish` and in IDLE, so numbers that were resolved stay valid for the whole command;
- refusals are `MailError`s, also those of the store; nothing else is caught.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import (
    IAuthenticator,
    IDirectory,
    IEventBus,
    IMailboxImage,
    IMailStore,
    ISessionMonitor,
)
from mailserver.model.changes import Event
from mailserver.model.ids import Principal
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.message import FileSpan
from mailserver.server.imap.charsets import decode_search_text
from mailserver.server.imap.registry import CommandSpec, Registry, States
from mailserver.server.imap.settings import DELAY_NEWMAIL, ImapSettings
from mailserver.server.imap.view import View
from mailserver.server.login import Door
from mailserver.wire.imap.responses import Response
from mailserver.wire.imap.scanner import Dialect
from mailserver.wire.imap.writer import write

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLContextFactory, IReactorTime


@attrs.frozen(eq=False)
class Services:
    """What all sessions of one listener share.

    Attributes:
        store, directory, authenticator, bus, monitor: the seams.
        settings: of the listener.
        registry: its commands.
        clock: timers; its `seconds` need not have to do with the time of day (R5).
        tls: context factory for STARTTLS, None while no certificate is configured (SUN-4).
        now: seconds since 1970 UTC.
        dialect_before_login, dialect_after_login: what clients may write.
    """

    store: IMailStore
    directory: IDirectory
    authenticator: IAuthenticator
    bus: IEventBus
    monitor: ISessionMonitor
    settings: ImapSettings
    registry: Registry
    clock: IReactorTime
    tls: IOpenSSLContextFactory | None = None
    now: Callable[[], float] = time.time
    dialect_before_login: Dialect = attrs.field(init=False)
    dialect_after_login: Dialect = attrs.field(init=False)

    @dialect_before_login.default
    def _dialect_before_login(self) -> Dialect:
        return Dialect(max_nesting=self.settings.nesting_before_login, decode=decode_search_text)

    @dialect_after_login.default
    def _dialect_after_login(self) -> Dialect:
        return Dialect(max_nesting=self.settings.nesting_after_login, decode=decode_search_text)


class Peer(Protocol):
    """The connection below a session, as far as the session may know it.

    Attributes:
        address, service, number, account, status: as in `ISession`.
        secure: TLS is on.
        in_response: a response was sent in part, so no other may come between.
    """

    address: str
    service: str
    number: int
    account: str
    status: str
    secure: bool
    in_response: bool

    @property
    def is_full(self) -> bool:
        """The client does not take what was sent."""

    def peer_account(self) -> str:
        """See `server.login.Peer`."""

    def channel_bindings(self) -> Mapping[bytes, bytes]:
        """See `server.login.Peer`."""

    def login_began(self) -> None:
        """See `server.login.Peer`."""

    def check_began(self) -> None:
        """See `server.login.Peer`."""

    def check_ended(self) -> None:
        """See `server.login.Peer`."""

    def logged_in(self, account: str) -> bool:
        """The client has logged in: count it for the account, and take the deadline for
        logging in off. False if it is one too many."""

    def send(self, octets: bytes) -> None:
        """Queue octets; they go out joined, at the latest when the command is over."""

    def flush(self) -> None:
        """Hand what is queued to the transport now."""

    async def send_file(self, span: FileSpan) -> None:
        """Send octets of a file behind what is queued, as the client takes them.

        Raises:
            MailError: CORRUPT if the file is shorter.
        """

    async def drained(self) -> None:
        """Wait until the transport takes more; returns at once while it does."""

    async def turn(self) -> None:
        """Let the reactor do other work if it was kept for 20 ms since it last could."""

    def say_goodbye(self, text: str) -> None:
        """Send `* BYE text` and close (T51)."""

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close, after the answer of the command that runs."""

    def close_after_reply(self) -> None:
        """Close once the running command has been answered (LOGOUT)."""

    def start_tls_after_reply(self) -> None:
        """Start TLS once the running command has been answered (RFC 3501 §6.2.1).

        Raises:
            Disconnected: octets came after STARTTLS; the client has been told, and none
                of them is ever run (S1, T1).
        """

    async def read_line(self, limit: int) -> bytes:
        """Wait for one line that is no command: a SASL response.

        Args:
            limit: octets it may have.

        Returns:
            The line without CRLF.

        Raises:
            MailError: TOO_BIG, when it is longer; it has been skipped.
        """

    def wake(self) -> None:
        """End a `line_or_wake` that waits."""

    async def line_or_wake(self, wake_after: float | None) -> bytes | None:
        """Wait for a line, for `wake`, or for the time; for IDLE.

        Args:
            wake_after: seconds, None for no limit.

        Returns:
            The line without CRLF, or None when woken.
        """

    @property
    def awaits_leave(self) -> bool:
        """The client waits to be asked for the literal that the command's octets end with."""

    async def accept_literal(self, sink: Callable[[bytes], None]) -> None:
        """Take in the literal that the command's octets end with.

        Asks for it (`+`) if the client waits for that, and gives its octets to `sink` as
        they come. What `sink` raises is raised here once the literal has been skipped.
        """

    async def command_rest(self) -> bytes:
        """Wait for the command's octets after a literal, up to its end or up to and
        including the announcement of the next literal."""

    def note(self, text: str, **values: object) -> None:
        """Log a line about this session; values are escaped and cut (S13)."""


class Session:
    """State of one client.

    Attributes:
        services: what it shares with the others.
        connection: the way to the client.
        state: RFC 3501 §3.
        principal: who acts; None before login.
        view: of the selected mailbox; None in every state but SELECTED.
        enabled: capabilities switched on by ENABLE, upper case (RFC 5161).
        disabled_capabilities: what nobody, or this account, must see, upper case (T38).
        tag: of the command that runs; ESEARCH repeats it (RFC 4731 §3.1).
    """

    __slots__ = (
        "_unsubscribe",
        "connection",
        "disabled_capabilities",
        "enabled",
        "principal",
        "services",
        "stale",
        "state",
        "tag",
        "view",
    )

    def __init__(self, services: Services, connection: Peer) -> None:
        self.services = services
        self.connection = connection
        self.state = States.NOT_AUTHENTICATED
        self.principal: Principal | None = None
        self.view: View | None = None
        self.enabled: frozenset[bytes] = frozenset()
        self.disabled_capabilities = services.settings.disabled_capabilities
        self.tag = b""
        self.stale = False
        self._unsubscribe: Callable[[], None] | None = None

    # -- what the services are, for short -----------------------------------

    @property
    def store(self) -> IMailStore:
        """All mail."""
        return self.services.store

    @property
    def bus(self) -> IEventBus:
        """Who tells of changes."""
        return self.services.bus

    @property
    def settings(self) -> ImapSettings:
        """Of the listener."""
        return self.services.settings

    @property
    def dialect(self) -> Dialect:
        """What the client may write now (S3)."""
        if self.state is States.NOT_AUTHENTICATED:
            return self.services.dialect_before_login
        return self.services.dialect_after_login

    @property
    def who(self) -> Principal:
        """The principal; only for handlers of commands that need a login."""
        assert self.principal is not None
        return self.principal

    @property
    def selected(self) -> View:
        """The view; only for handlers of commands that need a mailbox."""
        assert self.view is not None
        return self.view

    def writable(self) -> View:
        """The view, of a mailbox that was not opened by EXAMINE.

        Raises:
            MailError: READ_ONLY (T27).
        """
        view = self.selected
        if view.read_only:
            raise MailError(ErrorKind.READ_ONLY, "the mailbox is selected read-only")
        return view

    # -- output -------------------------------------------------------------

    def send(self, lines: Iterable[bytes]) -> None:
        """Send whole responses, or the end of one; octets with their CRLF."""
        connection = self.connection
        connection.in_response = False
        connection.send(*lines)

    def send_part(self, pieces: Iterable[bytes]) -> None:
        """Send a part of a response that a later `send` ends; for large literals."""
        self.connection.in_response = True
        self.connection.send(*pieces)

    async def send_file(self, span: FileSpan) -> None:
        """Send a part of a response from a file, as `send_part`, and wait as `drained`.

        Raises:
            MailError: CORRUPT if the file is shorter: the connection must end.
        """
        await self.connection.send_file(span)

    def respond(self, *values: Response) -> None:
        """Send responses given as values."""
        self.send(write(value) for value in values)

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent (T52).

        To be awaited every 64 KiB or so by whoever sends much. Costs a function call
        while there is room.
        """
        await self.connection.drained()

    async def turn(self) -> None:
        """Let the reactor do other work if this command has kept it for long enough.

        To be awaited between slices of work that may be many.
        """
        await self.connection.turn()

    # -- before login -------------------------------------------------------

    @property
    def may_start_tls(self) -> bool:
        """STARTTLS is announced and accepted (T2, SUN-4)."""
        return (
            self.state is States.NOT_AUTHENTICATED
            and self.services.tls is not None
            and not self.connection.secure
        )

    @property
    def door(self) -> Door:
        """The ways to log in now."""
        connection, services = self.connection, self.services
        return Door(services.authenticator, services.settings, connection, connection.service)

    async def enter(self, principal: Principal) -> None:
        """Become an account, at login or by PROXYAUTH.

        Raises:
            MailError: UNAVAILABLE if the account is going; TOO_MANY if it has too many
                sessions. Nothing has changed then.
        """
        services = self.services
        account = await services.directory.account_by_id(principal.account)
        if account is None:
            raise MailError(ErrorKind.UNAVAILABLE, "the account is being removed")
        if not self.connection.logged_in(principal.name):
            raise MailError(ErrorKind.TOO_MANY, "too many sessions of this account are open")
        self.principal = principal
        own = {name.encode() for name in account.disabled_capabilities}
        self.disabled_capabilities = services.settings.disabled_capabilities | own
        self._enter(States.AUTHENTICATED)

    # -- capabilities -------------------------------------------------------

    @property
    def capabilities(self) -> tuple[bytes, ...]:
        """The tokens that CAPABILITY announces now (T38)."""
        return self.services.registry.tokens(self)

    # -- mailbox ------------------------------------------------------------

    def select(self, mailbox: MailboxInfo, image: IMailboxImage, *, read_only: bool) -> View:
        """Enter the selected state with a mailbox that was opened.

        No mailbox may be selected: SELECT leaves the old one first, also when it then
        fails (RFC 3501 §6.3.1).
        """
        self.view = View(image, mailbox, read_only=read_only)
        self.stale = False
        self._unsubscribe = self.bus.subscribe(mailbox.ref, self._changed)
        self._enter(States.SELECTED)
        return self.view

    def unselect(self) -> None:
        """Leave the mailbox, if one is selected; nothing is expunged (RFC 3691 §2)."""
        if self.view is None:
            return
        assert self._unsubscribe is not None
        self._unsubscribe()
        self._unsubscribe = None
        self.store.close(self.view.image)
        self.view = None
        self._enter(States.AUTHENTICATED)

    @property
    def is_guest(self) -> bool:
        """The selected mailbox is another account's."""
        return self.view is not None and self.view.mailbox.ref.account != self.who.account

    async def leave_if_forbidden(self) -> None:
        """Leave another account's mailbox if it may not be read any more (S9).

        Flags and numbers come from the shared image, past the store's gate; so a guest asks
        there before each command and before each piece of news.
        """
        if not self.is_guest:
            return
        try:
            await self.store.status(self.who, self.selected.mailbox.ref)
        except MailError as error:
            if error.kind in (ErrorKind.NONEXISTENT, ErrorKind.NO_PERMISSION):
                self.unselect()

    async def refresh(self) -> None:
        """Bring the image up to date with the database; does nothing without a mailbox."""
        if self.view is not None:
            self.stale = False
            await self.store.refresh(self.view.image)

    async def look(self) -> None:
        """Refresh if something is said to have changed, or if nobody would say so. A failure
        is only logged and tried again later: it is not that of the command which happens to
        run."""
        if not self.stale and self.bus.covers_all_mailboxes:
            return
        try:
            await self.refresh()
        except MailError as error:
            self.stale = True
            self.connection.note("news could not be read", error=error.text)

    async def finish(self, spec: CommandSpec) -> None:
        """Tell what changed, at the end of a command and before its tagged response (T3).

        A mailbox that another session has deleted ends the session after the answer: no
        response could say so, and a client that idles there would wait in vain, also when
        a mailbox of that name is made again.
        """
        if self.view is None:
            return
        await self.look()
        if self.view.image.deleted:
            self.connection.disconnect("the selected mailbox has been deleted")
        elif not self.view.is_current:
            self.send(
                self.view.drain(
                    allow_expunge=spec.breaks_seqs,
                    allow_arrivals=spec.tells_arrivals or not self.works_around(DELAY_NEWMAIL),
                    with_uid=spec.by_uid,
                )
            )

    def works_around(self, weakness: str) -> bool:
        """Say whether a workaround for weak clients is switched on (T55)."""
        return weakness in self.settings.workarounds

    def closed(self) -> None:
        """The connection is gone: give everything back."""
        self.unselect()

    def _changed(self, event: Event) -> None:
        """The bus says that the selected mailbox has changed; the image may know already,
        if the event says up to where (else it is 0)."""
        known = self.view.image.mod_sequence if self.view is not None else 0
        if not event.mod_sequence or known < event.mod_sequence:
            self.stale = True
        self.connection.wake()

    def _enter(self, state: States) -> None:
        self.state = state
        self.connection.status = self._status()

    def _status(self) -> str:
        if self.view is not None:
            return f"connected to {self.view.mailbox.name}"
        return "authenticating" if self.principal is None else "connected"
