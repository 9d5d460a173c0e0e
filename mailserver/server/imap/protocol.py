"""The IMAP connection: octets to commands, one command after the other (T16).

Theory of operation. Octets are fed to the wire reader and stay there: `_pump` asks for the
next command only when none is running and the transport takes output, so the queue of
pipelined commands is the reader's buffer. When more than `input_buffer` octets wait behind
a running command, the transport is paused until all of them have been used (T52). Any
packet split therefore gives the same conversation.

A running command may itself read: the message of APPEND, the answer to a SASL challenge,
DONE of IDLE. While it does, what comes in is the command's.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mailserver.errors import ErrorKind, MailError
from mailserver.server.connection import CLOSE, REST_TIMEOUT, Disconnected
from mailserver.server.conversation import IDLE, LATE, LOGIN, Conversation
from mailserver.server.imap.registry import NOT_AUTHENTICATED, CommandSpec, States
from mailserver.server.imap.session import Services, Session
from mailserver.server.imap.status import CHARSETS, CODES, bad, no, refusal
from mailserver.server.imap.view import NoSuchNumber
from mailserver.wire.imap.commands import Command
from mailserver.wire.imap.faults import LiteralPending, SyntaxFault, UnknownCharset
from mailserver.wire.imap.reader import (
    NEED_DATA,
    CommandReader,
    Line,
    LiteralPart,
    LiteralWanted,
    TooLong,
)
from mailserver.wire.imap.responses import (
    NOPERM,
    SERVERBUG,
    BadCharset,
    CapabilityCode,
    Condition,
    Status,
)
from mailserver.wire.imap.scanner import Scanner
from mailserver.wire.imap.writer import status, write

WAKE = "wake"
"""Deadline: `line_or_wake` returns."""
WORKING = "working"
"""Deadline: a running command says that it still works (T53)."""


class ImapConnection(Conversation):
    """One IMAP client; the session's `Peer`."""

    log = Logger()
    log_name = "IMAP"

    def __init__(self, services: Services, service: str) -> None:
        settings = services.settings
        super().__init__(service, services.monitor, services.clock, settings.write_timeout)
        self.settings = settings
        self.services = services
        self.session = Session(services, self)
        self.reader = CommandReader(settings.before_login)
        self.in_response = False
        self._running = False
        self._pumping = False
        self._behind = 0  # octets that came while a command was running
        self._bad = 0  # commands answered BAD in a row
        self._faults = 0  # internal errors so far, for references
        self._wanted: LiteralWanted | None = None  # announced to the running command
        self._has_rest = False  # the running command's octets are not all read
        self._pending: tuple[bytes, CommandSpec] | None = None  # being read, with literals
        self._wakeable = False  # the running command waits for octets, or for `wake`
        self._farewell = ""  # say this and close when the command is over
        self._then: Callable[[], None] | None = None  # do this when the reply is sent

    # -- beginning and end --------------------------------------------------

    def greeted(self) -> None:
        self.expect_login(self.settings.login_timeout)
        self.session.respond(
            Status(
                Condition.OK,
                self.settings.banner,
                CapabilityCode(self.session.capabilities),
            )
        )
        self.flush()

    def farewell(self, text: str, kind: ErrorKind | None = None) -> bytes:
        return write(Status(Condition.BYE, text, None if kind is None else CODES[kind]))

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close: at once if no command runs or it waits for the client,
        else when it is over, so that a commit in flight is answered (R18)."""
        if not self._running or self._input is not None:
            self.say_goodbye(reason)
            return
        self._farewell = reason
        if self.in_response and self.is_full:  # amid a literal that may never be taken
            self.set_deadline(CLOSE, REST_TIMEOUT)

    def closed(self) -> None:
        if not self._running:
            self.session.closed()

    def gone(self) -> None:
        self._running = False
        self.session.closed()

    def logged_in(self, account: str) -> bool:
        if not super().logged_in(account):
            return False
        if self._farewell == LATE:  # the check took longer than the client had
            self._farewell = ""
        self.reader.limits = self.settings.after_login
        return True

    def close_after_reply(self) -> None:
        """Close once the running command has been answered (LOGOUT)."""
        self._then = self.close

    def start_tls_after_reply(self) -> None:
        """Start TLS once the running command has been answered (RFC 3501 §6.2.1).

        Raises:
            Disconnected: octets came after STARTTLS; the client has been told, and none
                of them is ever run (S1, T1).
        """
        if self.reader.has_unread:
            self.note("closed: octets after STARTTLS")
            self.say_goodbye("nothing may be sent after STARTTLS before it is answered")
            raise Disconnected
        self._then = self._begin_tls

    def _begin_tls(self) -> None:
        assert self.services.tls is not None
        self.start_tls(self.services.tls)
        self.reader = CommandReader(self.settings.before_login)
        self.session = Session(self.services, self)  # T1: what was known in clear is void

    def deadline_passed(self, name: str) -> None:
        if name == LOGIN:
            self.disconnect(LATE)
        elif name == IDLE:
            if self._running and self._input is None:
                return  # set again when the command is over
            self.disconnect("you were idle for too long")
        elif name == WAKE:
            self.wake()
        elif name == WORKING and self._running:
            if not self.in_response and not self.is_full:
                self.send(b"* OK Still working\r\n")
                self.flush()
            self.set_deadline(WORKING, self.settings.working_interval)

    # -- commands -----------------------------------------------------------

    def octets_received(self, octets: bytes) -> None:
        self.reader.feed(octets)
        waiting = self._input
        if waiting is not None:
            self._input = None
            waiting.callback(None)
        elif self._running or self.is_full:
            self._behind += len(octets)
            if self._behind > self.settings.input_buffer:
                self.pause_input()
        else:
            self._pump()

    def room_made(self) -> None:
        self._pump()

    def _pump(self) -> None:
        """Run the commands that have come, until one waits or there are no more."""
        if self._pumping:
            return
        self._pumping = True
        seconds = self.clock.seconds
        self.begin_turn()
        while self.is_open and not self._running:
            if self.is_full:
                break
            event = self.reader.next_event()
            if event is NEED_DATA:
                self._behind = 0
                self.resume_input()
                break
            if isinstance(event, Line):
                if event.octets:  # T54: empty lines mean nothing
                    self._begin(event.octets)
            elif isinstance(event, LiteralWanted):
                self._begin_literal(event)
            elif isinstance(event, TooLong):
                self._too_long(event.octets)
            if seconds() > self._turn_ends:  # the others want to live too
                self.clock.callLater(0, self._pump)
                break
        self._pumping = False
        self.flush()

    def _begin(self, octets: bytes) -> None:
        """Start the command that has been read."""
        session = self.session
        scanner = Scanner(octets, session.dialect)
        try:
            tag, name = scanner.head()
        except SyntaxFault as fault:
            self._answer(bad(str(fault)))
            return
        spec = self._spec(tag, name)
        if spec is None:
            return
        try:
            command = spec.parser(scanner)
        except SyntaxFault as fault:
            self._answer(bad(str(fault)), tag)
        except UnknownCharset:
            self._answer(no("this charset is not known here", BadCharset(CHARSETS)), tag)
        except Exception:  # noqa: BLE001 - logged and answered
            self._answer(self._internal_error(spec), tag)
        else:
            self._start(tag, spec, command)

    def _begin_literal(self, wanted: LiteralWanted) -> None:
        """Decide about a literal of the command that is being read (T17).

        A message of APPEND belongs to the handler, which is started for it; everything
        else into the command's octets.
        """
        reader = self.reader
        scanner = None
        if wanted.first or self._pending is None:
            scanner = Scanner(reader.command_so_far, self.session.dialect)
            try:
                tag, name = scanner.head()
            except SyntaxFault as fault:
                reader.refuse()
                self._answer(bad(str(fault)))
                return
            spec = self._spec(tag, name)
            if spec is None:
                reader.refuse()
                return
            self._pending = tag, spec
        tag, spec = self._pending
        if spec.streams:
            if scanner is None:
                scanner = Scanner(reader.command_so_far, self.session.dialect)
                scanner.head()
            if self._begin_stream(tag, spec, scanner, wanted):
                return
        if not reader.keep():
            self._answer(bad("this literal is too large, or one too many"), tag)
        elif wanted.synchronizing:
            self.send(b"+ go ahead\r\n")

    def _begin_stream(
        self, tag: bytes, spec: CommandSpec, scanner: Scanner, wanted: LiteralWanted
    ) -> bool:
        """Start a command whose handler reads the literal that is announced.

        Args:
            scanner: behind the command's name.

        Returns:
            False if the literal is an argument like any other: a mailbox name.
        """
        try:
            command = spec.parser(scanner)
        except LiteralPending:
            return False
        except SyntaxFault as fault:
            self.reader.refuse()
            self._answer(bad(str(fault)), tag)
            return True
        self._wanted = wanted
        self._has_rest = True
        self._start(tag, spec, command)
        return True

    def _spec(self, tag: bytes, name: bytes) -> CommandSpec | None:
        """The row of a command that may run now; if there is none, the client is told."""
        session = self.session
        spec = self.services.registry.specs.get(name)
        if spec is None:
            self._answer(bad("unknown command" if name else "a command is missing"), tag)
        elif session.state not in spec.states:
            self._answer(bad(_wrong_state(spec, session.state)), tag)
        elif spec.needs and not self.services.registry.offers(spec.needs, session):
            self._answer(bad(f"{name.decode('ascii')} is not available here"), tag)
        else:
            return spec
        return None

    def _start(self, tag: bytes, spec: CommandSpec, command: Command) -> None:
        self._pending = None
        self._running = True
        if self.settings.trace:
            self.note("runs", command=command)
        self.run(self._execute(tag, spec, command), self._done)
        if self._running and self._input is None:
            self.set_deadline(WORKING, self.settings.working_interval)

    async def _execute(self, tag: bytes, spec: CommandSpec, command: Command) -> None:
        """Run a command and answer it, whatever happens."""
        session = self.session
        session.tag = tag
        answer = await self._handled(spec, command)
        if self._has_rest:
            self._has_rest = False
            self.reader.refuse()
        if self.in_response:
            # Octets of a literal were promised that will not come: nothing that could be
            # sent now would be understood.
            self.note("cut off: a response could not be completed", command=spec.name.decode())
            self.abort()
            return
        try:
            await session.finish(spec)
        except Exception:  # noqa: BLE001 - logged; what the command did stays answered
            self._internal_error(spec)
        if answer is None:
            self._bad = 0
            self.send(b"%b OK %b completed\r\n" % (tag, spec.name))
        else:
            self._answer(answer, tag)

    async def _handled(self, spec: CommandSpec, command: Command) -> Status | None:
        """Run the handler; gives its answer, or that to what went wrong."""
        session = self.session
        try:
            if session.is_guest:
                await session.leave_if_forbidden()
                if session.state not in spec.states:
                    return no("the selected mailbox may not be read any more", NOPERM)
            return await spec.handler(session, command)
        except MailError as error:
            return refusal(error)
        except (NoSuchNumber, SyntaxFault) as error:
            return bad(str(error))
        except Disconnected:
            raise
        except Exception:  # noqa: BLE001 - logged and answered
            return self._internal_error(spec)

    def _internal_error(self, spec: CommandSpec) -> Status:
        """Log the exception that is being handled, with a reference for the client."""
        self._faults += 1
        reference = f"{self.label}-{self._faults}"
        self.log.failure(
            "{label} internal error in {command} (ref {reference})",
            label=self.label,
            command=spec.name.decode("ascii"),
            reference=reference,
        )
        return no(f"internal error (ref {reference})", SERVERBUG)

    def _done(self, _result: None) -> None:
        """The command is over and answered."""
        self._running = False
        if not self.is_open:
            self.session.closed()
            return
        then, self._then = self._then, None
        if then is not None:
            then()
        elif self._farewell:
            self.say_goodbye(self._farewell)
        elif self.session.state is not States.NOT_AUTHENTICATED:
            if not self.reader.has_unread:
                self.flush()  # a quick client has it 4 of 120 µs earlier than by `_pump`
            self.set_deadline(IDLE, self.settings.idle_timeout)
        if not self._pumping:
            self._pump()

    # -- answers ------------------------------------------------------------

    def _answer(self, answer: Status, tag: bytes | None = None) -> None:
        """Send a status response; too many BAD in a row end the connection (S3, T51).

        Args:
            tag: None if the client gave none, then the response is untagged.
        """
        self.send(status(answer.condition, answer.text, answer.code, tag))
        if answer.condition is not Condition.BAD:
            self._bad = 0
            return
        self._pending = None
        self._bad += 1
        if self.session.state is States.NOT_AUTHENTICATED:
            limit = self.settings.bad_before_login
        else:
            limit = self.settings.bad_after_login
        if self._bad >= limit:
            self.note("closed: too many bad commands")
            self.say_goodbye("too many bad commands")

    def _too_long(self, octets: bytes) -> None:
        """Answer a command over the limits, of which only the first octets are left."""
        tag: bytes | None = None
        try:
            tag, _ = Scanner(octets).head()
        except SyntaxFault:
            pass
        self._answer(bad("this command is too long"), tag)

    # -- what a running command reads ---------------------------------------

    async def read_line(self, limit: int) -> bytes:
        """See `Peer.read_line`."""
        while True:
            event = self.reader.next_line(limit)
            if isinstance(event, Line):
                return event.octets
            if event is not NEED_DATA:
                raise MailError(ErrorKind.TOO_BIG, "this line is too long")
            await self._more_input()

    async def line_or_wake(self, wake_after: float | None) -> bytes | None:
        """See `Peer.line_or_wake`."""
        event = self.reader.next_line()
        if event is NEED_DATA:
            self.set_deadline(WAKE, wake_after)
            self._wakeable = True
            try:
                await self._more_input()
            finally:
                self._wakeable = False
                self.set_deadline(WAKE, None)
            event = self.reader.next_line()
        if isinstance(event, Line):
            return event.octets
        return None if event is NEED_DATA else b""

    def wake(self) -> None:
        """See `Peer.wake`."""
        if self._wakeable:
            waiting, self._input = self._input, None
            if waiting is not None:
                waiting.callback(None)

    @property
    def awaits_leave(self) -> bool:
        """See `Peer.awaits_leave`."""
        return self._wanted is not None and self._wanted.synchronizing

    async def accept_literal(self, sink: Callable[[bytes], None]) -> None:
        """See `Peer.accept_literal`."""
        wanted, self._wanted = self._wanted, None
        assert wanted is not None, "no literal is announced"
        if not self.reader.stream():
            self._has_rest = False
            raise MailError(ErrorKind.LIMIT, "too many literals in one command")
        if wanted.synchronizing:
            self.send(b"+ go ahead\r\n")
        while True:
            event = self.reader.next_event()
            if event is NEED_DATA:
                await self._more_input()
                continue
            assert isinstance(event, LiteralPart)
            sink(event.octets)
            if event.last:
                return

    async def command_rest(self) -> bytes:
        """See `Peer.command_rest`."""
        while True:
            event = self.reader.next_event()
            if event is NEED_DATA:
                await self._more_input()
                continue
            if isinstance(event, LiteralWanted):
                self._wanted = event
                return self.reader.command_so_far
            self._has_rest = False
            if isinstance(event, Line):
                return event.octets
            raise MailError(ErrorKind.TOO_BIG, "this command is too long")

    async def _more_input(self) -> None:
        """Wait until octets have come. What was sent so far goes out first: the client may
        need it to go on."""
        self.flush()
        self._behind = 0
        self.resume_input()
        if not self.is_open:
            raise Disconnected
        self._input = Deferred()
        self.set_deadline(WORKING, None)
        if not self._wakeable and self.session.state is not States.NOT_AUTHENTICATED:
            self.set_deadline(IDLE, self.settings.idle_timeout)
        await self._input
        if not self._wakeable:
            self.set_deadline(WORKING, self.settings.working_interval)


def _wrong_state(spec: CommandSpec, state: States) -> str:
    """Say what keeps a command from being allowed."""
    if spec.states is NOT_AUTHENTICATED:
        return "this command is allowed only before login"
    return "log in first" if state is NOT_AUTHENTICATED else "select a mailbox first"


class ImapFactory(Factory):
    """Makes the connections of one listener.

    Args:
        services: what they share.
        service: the listener's name, `imap` or `imaps`; only a name, whether TLS is on
            the transport tells.
    """

    noisy = False

    def __init__(self, services: Services, service: str = "imap") -> None:
        self.services = services
        self.service = service

    def buildProtocol(self, addr: IAddress | None) -> ImapConnection:
        connection = ImapConnection(self.services, self.service)
        connection.peer = addr
        connection.factory = self
        return connection
