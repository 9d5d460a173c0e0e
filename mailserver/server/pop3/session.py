"""One POP3 conversation: which command may stand where, and what each does (RFC 1939).

Knows no sockets: it speaks to its client through a `Channel`, which calls `run` with one
line after the other.

Invariants:

- Nothing is removed but by QUIT in the TRANSACTION state (RFC 1939 §6, T42).
- Message numbers are those of the maildrop at login (`maildrop.py`).
- A multi-line reply that cannot be completed ends the connection: nothing that could be
  sent instead would be understood.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from enum import Flag, auto
from hmac import compare_digest
from itertools import islice
from secrets import token_bytes
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IOpenSSLContextFactory, IReactorTime
from twisted.logger import Logger

from mailserver import __version__
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import (
    IAuthenticator,
    IMaildropVisits,
    IMailStore,
    ISessionMonitor,
)
from mailserver.model.ids import Principal
from mailserver.model.secrets import PlainSecrets, SecretKind
from mailserver.server.connection import Disconnected
from mailserver.server.login import Door
from mailserver.server.pop3.channel import Channel
from mailserver.server.pop3.languages import DEFAULT, LANGUAGES, find_language
from mailserver.server.pop3.maildrop import Maildrop, Oddities, open_maildrop
from mailserver.server.pop3.outgoing import Outgoing
from mailserver.server.pop3.settings import OE_NS_EOH, Pop3Settings
from mailserver.server.pop3.status import CODES
from mailserver.wire import sasl
from mailserver.wire.pop3 import commands as c
from mailserver.wire.pop3.apop import apop_digest, apop_timestamp
from mailserver.wire.pop3.grammar import parse_command
from mailserver.wire.pop3.replies import END, Code, challenge, err, lines, ok

_LISTED: Final = 2000
"""Lines of a listing that are made at once."""

_FILTER_NAMES: Final = {"pop3": "pop", "pop3s": "pops"}
"""Listener → the name that access rules know it by (SUN-20)."""


class _Refused(Exception):
    """A command that makes no sense here; carries the reason."""


@attrs.frozen
class _No(Exception):
    """A command that makes sense, and whose answer is negative.

    Attributes:
        text: in English, with braces for what is to be filled in.
        values: what that is.
        code: the response code.
    """

    text: str
    values: Mapping[str, object] = attrs.field(factory=dict)
    code: Code | None = None


class State(Flag):
    """RFC 1939 §3; UPDATE is within QUIT."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()


@attrs.frozen(eq=False)
class Services:
    """What all sessions of one listener share.

    Attributes:
        store, authenticator, monitor: the seams.
        settings: of the listener.
        clock: time; `callLater` and `seconds`.
        tls: context factory for STLS, None while no certificate is configured (SUN-4).
        visits: who has a maildrop for itself, and when each was last opened; None where
            nobody asks for that.
        oddities: what is known of unusual messages.
    """

    store: IMailStore
    authenticator: IAuthenticator
    monitor: ISessionMonitor
    settings: Pop3Settings
    clock: IReactorTime
    tls: IOpenSSLContextFactory | None = None
    visits: IMaildropVisits | None = None
    oddities: Oddities = attrs.Factory(Oddities)


class Pop3Session:
    """Runs the commands of one connection.

    Args:
        channel: the connection.
        services: what it shares with others.
    """

    log = Logger()

    def __init__(self, channel: Channel, services: Services) -> None:
        self._channel = channel
        self._services = services
        self._settings = services.settings
        self._name = ""  # of USER, until PASS
        self._maildrop: Maildrop | None = None
        self._retrieved: set[int] = set()
        self._last = 0  # what LAST answers
        self._leave: Callable[[], None] | None = None  # gives the maildrop back to others
        self._language = DEFAULT
        self._utf8 = False  # the client has asked for it
        self._timestamp = ""  # of the greeting, for APOP
        self._bad = 0  # commands in a row that were none
        self._faults = 0  # internal errors so far, for references
        self._in_reply = False  # a multi-line reply has begun and not ended

    # -- what the connection asks for ----------------------------------------

    @property
    def state(self) -> State:
        """Where the session stands."""
        return State.AUTHORIZATION if self._maildrop is None else State.TRANSACTION

    def greeting(self) -> bytes:
        """The first line; with a timestamp where there is APOP (RFC 1939 §7)."""
        banner = self._settings.banner.replace("<", "(").replace(">", ")")
        if self._settings.apop and self._may_apop:
            self._timestamp = apop_timestamp(token_bytes(16), self._settings.hostname)
            banner = f"{banner} {self._timestamp}"
        return ok(banner)

    def refusal(self, text: str, code: Code | None) -> bytes:
        """A negative reply in the client's language."""
        return err(self._language.say(text, {}), code, self._language.charset)

    async def run(self, line: bytes | None) -> None:
        """Run a command and answer it, whatever happens.

        Args:
            line: None for one that was too long.
        """
        if line is None:
            self._refuse("this line is too long")
            return
        command = parse_command(line)
        if self._settings.trace:
            self._channel.note("runs", command=command)
        if isinstance(command, c.SyntaxFault):
            self._refuse(command.text)
            return
        states, handler = _COMMANDS[type(command)]
        if self.state not in states:
            is_late = self.state is State.TRANSACTION
            self._refuse("this is allowed only before login" if is_late else "log in first")
            return
        try:
            await handler(self, command)
            self._bad = 0
        except (_Refused, sasl.SaslFault) as fault:
            self._refuse(str(fault))
        except _No as answer:
            self._err(answer.text, answer.code, **answer.values)
        except MailError as error:
            text = self._language.refusal(error)
            self._fail(err(text, CODES.get(error.kind), self._language.charset))
        except Disconnected:
            raise
        except Exception:  # noqa: BLE001 - logged and answered
            self._fail(self._internal_error(command))
        if isinstance(command, c.Quit):
            self._channel.close()

    def closed(self) -> None:
        """The connection is gone: give everything back; nothing is removed (T42)."""
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is not None:
            maildrop.close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    # -- answers ---------------------------------------------------------------

    def _ok(self, text: str, **values: object) -> None:
        """Answer yes, or begin to.

        Args:
            text: in English, as the catalogues of `languages.py` know it.
            values: what its braces stand for.
        """
        self._channel.send(ok(self._language.say(text, values), self._language.charset))

    def _err(self, text: str, code: Code | None = None, **values: object) -> None:
        """Answer no; see `_ok`."""
        self._channel.send(err(self._language.say(text, values), code, self._language.charset))

    def _refuse(self, text: str) -> None:
        """Answer what is no command here; too many in a row end the connection (S3)."""
        self._bad += 1
        settings = self._settings
        is_guest = self.state is State.AUTHORIZATION
        self._err(text)
        if self._bad >= (settings.bad_before_login if is_guest else settings.bad_after_login):
            self._channel.note("closed: too many bad commands")
            self._channel.close()

    def _fail(self, reply: bytes) -> None:
        if self._in_reply:
            self._channel.note("cut off: a reply could not be completed")
            self._channel.abort()
        else:
            self._channel.send(reply)

    def _internal_error(self, command: c.Command) -> bytes:
        """Log the exception that is being handled, with a reference for the client."""
        self._faults += 1
        reference = f"{self._channel.label}-{self._faults}"
        self.log.failure(
            "{label} internal error in {command} (ref {reference})",
            label=self._channel.label,
            command=type(command).__name__.upper(),
            reference=reference,
        )
        text = self._language.say("internal error (ref {reference})", {"reference": reference})
        return err(text, Code.SYS_TEMP, self._language.charset)

    def _begin(self, text: str, **values: object) -> None:
        """Begin a multi-line reply; see `_ok`."""
        self._in_reply = True
        self._ok(text, **values)

    def _end(self) -> None:
        """End a multi-line reply."""
        self._channel.send(END)
        self._in_reply = False

    # -- before login ------------------------------------------------------------

    @property
    def _door(self) -> Door:
        """The ways to log in now."""
        channel, services = self._channel, self._services
        service = _FILTER_NAMES.get(channel.service, channel.service)
        return Door(services.authenticator, self._settings, channel, service)

    async def _user(self, command: c.User) -> None:
        # The same for every name: whether there is such a user stays unsaid (T40).
        if not self._door.takes_passwords:
            raise self._door.refusal()
        self._name = command.name
        self._ok("and the password")

    async def _pass(self, command: c.Pass) -> None:
        name, self._name = self._name, ""
        if not name and self._door.takes_passwords:
            raise _Refused("say USER first")
        await self._enter(await self._door.log_in(name, command.password))

    async def _auth(self, command: c.Auth) -> None:
        if command.mechanism is None:
            self._begin("mechanisms follow")
            self._channel.send(lines(self._door.mechanisms))
            self._end()
            return

        async def ask(octets: bytes) -> bytes:
            self._channel.send(challenge(octets))
            line = await self._channel.read_line(self._settings.auth_response)
            if line is None:
                raise sasl.SaslFault("this line is too long")
            return line

        door = self._door
        await self._enter(await door.authenticate(command.mechanism, command.initial, ask))

    @property
    def _may_apop(self) -> bool:
        """A digest can be checked, for every account, and may be sent now (SUN-11)."""
        accepted = self._services.authenticator.accepts()
        return SecretKind.PLAIN in accepted and self._door.takes_passwords

    async def _apop(self, command: c.Apop) -> None:
        if not self._timestamp or not self._may_apop:
            raise _Refused("APOP is not offered here")
        door = self._door
        door.peer.login_began()
        attempt = await door.authenticator.attempt(
            command.name, SecretKind.PLAIN, service=door.service, address=door.peer.address
        )
        assert isinstance(attempt.secrets, PlainSecrets)
        label = None
        for secret in attempt.secrets.passwords:
            if compare_digest(apop_digest(self._timestamp, secret.password), command.digest):
                label = secret.label
        if label is None:
            raise attempt.failed("wrong digest")
        await self._enter(await attempt.proved(label, ""))

    async def _enter(self, principal: Principal) -> None:
        """Open the maildrop of who has logged in (RFC 1939 §4)."""
        channel, services = self._channel, self._services
        self._visit(principal)
        try:
            maildrop = await open_maildrop(
                services.store,
                principal,
                services.oddities,
                channel.turn,
                ends_headers=OE_NS_EOH in self._settings.workarounds,
                utf8=self._utf8,
            )
        except BaseException:
            self.closed()  # others may come in
            raise
        self._maildrop = maildrop
        try:
            if not channel.logged_in(principal.name):
                text = "too many sessions of this account are open"
                raise MailError(ErrorKind.TOO_MANY, text)
        except BaseException:
            self.closed()
            raise
        channel.status = "connected to INBOX"
        if self._settings.set_seen:
            self._last = maildrop.last_seen()
        self._ok("{count} messages ({octets} octets)", count=maildrop.count, octets=maildrop.octets)

    def _visit(self, principal: Principal) -> None:
        """See that the maildrop may be opened now (RFC 2449 §8.1)."""
        visits, settings = self._services.visits, self._settings
        if visits is None:
            return
        if settings.exclusive:
            self._leave = visits.enter(principal.account)
            if self._leave is None:
                raise _No("the mailbox is in use by another session", code=Code.IN_USE)
        if settings.login_delay:
            wait = visits.again_in(principal.account, settings.login_delay)
            if wait:
                self.closed()
                seconds = {"seconds": math.ceil(wait)}
                raise _No(
                    "too soon after the last login; wait {seconds} s", seconds, Code.LOGIN_DELAY
                )

    async def _stls(self, command: c.Stls) -> None:
        if self._channel.secure:
            self._err("TLS is active already")
        elif self._services.tls is None:
            self._err("there is no certificate here, so no TLS")
        elif self._utf8:
            self._err("STLS has to come before UTF8")  # RFC 6856 §2.1
        else:
            self._name = ""  # T1: what was said in clear is void
            text = self._language.say("begin TLS now", {})
            charset, self._language = self._language.charset, DEFAULT
            self._channel.begin_tls(ok(text, charset))

    async def _utf8_mode(self, command: c.Utf8) -> None:
        self._utf8 = True
        self._ok("UTF-8 from now on")

    async def _lang(self, command: c.Lang) -> None:
        """Choose a language or list them (RFC 6856 §3.2)."""
        if command.range is None:
            self._begin("languages follow")
            rows = [f"{language.tag} {language.title}".encode() for language in LANGUAGES]
            self._channel.send(lines(rows))
            self._end()
            return
        wanted = self._settings.language if command.range == "*" else command.range
        found = find_language(wanted)
        if found is None:
            raise _No("there is no such language here")
        self._language = found
        self._ok("{tag} the language is English", tag=found.tag)

    async def _capa(self, command: c.Capa) -> None:
        self._begin("capabilities follow")
        self._channel.send(lines(self._capabilities()))
        self._end()

    def _capabilities(self) -> Iterator[bytes]:
        """What there is in this state (RFC 2449 §6, T45)."""
        yield from (b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING")
        yield from (b"UTF8 USER", b"LANG", b"EXPIRE NEVER")
        if self._settings.login_delay:
            yield b"LOGIN-DELAY %d" % math.ceil(self._settings.login_delay)
        if self._door.takes_passwords:
            yield b"USER"
        mechanisms = self._door.mechanisms
        if mechanisms:
            yield b"SASL " + b" ".join(mechanisms)
        if self.state is State.TRANSACTION:
            # Only here: a banner that hides the version hides it from strangers.
            yield b"IMPLEMENTATION mailserver-" + __version__.encode("ascii")
        elif self._services.tls is not None and not self._channel.secure:
            yield b"STLS"  # "present and permitted in the current state": RFC 2595 §4

    # -- the maildrop ------------------------------------------------------------

    @property
    def _drop(self) -> Maildrop:
        assert self._maildrop is not None
        return self._maildrop

    def _message(self, number: int) -> int:
        """Check that a message can be named.

        Raises:
            _No: it cannot.
        """
        if number in self._drop:
            return number
        if number in self._drop.deleted:
            raise _No("message {number} is deleted", {"number": number})
        count = {"count": len(self._drop)}
        raise _No("no such message, only {count} in the maildrop", count)

    async def _stat(self, command: c.Stat) -> None:
        self._channel.send(ok(f"{self._drop.count} {self._drop.octets}"))

    async def _list(self, command: c.List) -> None:
        drop = self._drop
        if command.number is not None:
            number = self._message(command.number)
            self._channel.send(ok(f"{number} {drop.size(number)}"))
            return
        await self._listing(
            "{count} messages ({octets} octets)",
            (b"%d %d" % (number, drop.size(number)) for number in drop.numbers()),
            count=drop.count,
            octets=drop.octets,
        )

    async def _uidl(self, command: c.Uidl) -> None:
        drop = self._drop
        if command.number is not None:
            number = self._message(command.number)
            self._channel.send(ok(f"{number} {drop.unique_id(number).decode('ascii')}"))
            return
        await self._listing(
            "unique ids follow",
            (b"%d %b" % (number, drop.unique_id(number)) for number in drop.numbers()),
        )

    async def _listing(self, text: str, values: Iterable[bytes], **filled: object) -> None:
        """Send a multi-line reply of perhaps very many lines."""
        self._begin(text, **filled)
        left = iter(values)
        while some := list(islice(left, _LISTED)):
            self._channel.send(lines(some))
            await self._channel.drained()
            await self._channel.turn()
        self._end()

    async def _retr(self, command: c.Retr) -> None:
        number = self._message(command.number)
        in_ascii = not self._utf8 and self._drop.oddity(number).growth is not None
        message = await self._opened(number, needs_header=in_ascii)
        try:
            self._begin("{octets} octets", octets=self._drop.size(number))
            await message.send()
            self._end()
        finally:
            message.content.close()
        self._retrieved.add(number)
        self._last = max(self._last, number)

    async def _top(self, command: c.Top) -> None:
        message = await self._opened(self._message(command.number), needs_header=True)
        try:
            self._begin("the top of the message follows")
            await message.send_top(command.lines)
            self._end()
        finally:
            message.content.close()

    async def _opened(self, number: int, *, needs_header: bool) -> Outgoing:
        """Open a message that is to be sent, and see that all octets are there while that
        can still be said.

        Args:
            needs_header: where the header ends has to be known.

        Raises:
            _No: another session has removed it.
            MailError: CORRUPT.
        """
        header_size = await self._drop.header_size(number) if needs_header else 0
        content = await self._drop.content(number)
        if content is None or header_size is None:
            raise _No("another session has removed this message")
        content.read(content.size - 1, content.size)
        oddity = self._drop.oddity(number)
        return Outgoing(
            self._channel, content, header_size, oddity, self._settings.workarounds, self._utf8
        )

    async def _dele(self, command: c.Dele) -> None:
        number = self._message(command.number)
        self._drop.mark(number)
        self._last = max(self._last, number)
        self._ok("message {number} is deleted at QUIT", number=number)

    async def _rset(self, command: c.Rset) -> None:
        drop = self._drop
        drop.unmark_all()
        self._last = drop.last_seen() if self._settings.set_seen else 0
        self._ok("{count} messages ({octets} octets)", count=drop.count, octets=drop.octets)

    async def _last_accessed(self, command: c.Last) -> None:
        self._channel.send(ok(str(self._last)))

    async def _noop(self, command: c.Noop) -> None:
        self._ok("nothing done")

    async def _quit(self, command: c.Quit) -> None:
        """Remove what is marked; durable before the answer (RFC 1939 §6, T42)."""
        if self._maildrop is None:
            self._ok("bye")
            return
        drop = self._drop
        marked, left = len(drop.deleted), 0
        try:
            seen = self._retrieved - drop.deleted
            if self._settings.set_seen and seen:
                await drop.mark_seen(seen)
            if marked:
                left = await drop.remove()
        except MailError as error:
            self._channel.note("messages not removed", messages=marked, error=error.text)
            reason = self._language.refusal(error)
            self._err("deleted messages not removed: {reason}", Code.SYS_TEMP, reason=reason)
            return
        self._channel.note("quit", retrieved=len(self._retrieved), removed=marked - left)
        if left:
            self._err("{count} deleted messages not removed", Code.SYS_PERM, count=left)
        else:
            self._ok("bye, {count} messages removed", count=marked)


_EVERYWHERE: Final = State.AUTHORIZATION | State.TRANSACTION

_COMMANDS: Final[
    dict[type[c.Command], tuple[State, Callable[[Pop3Session, Any], Awaitable[None]]]]
] = {
    c.User: (State.AUTHORIZATION, Pop3Session._user),
    c.Pass: (State.AUTHORIZATION, Pop3Session._pass),
    c.Auth: (State.AUTHORIZATION, Pop3Session._auth),
    c.Apop: (State.AUTHORIZATION, Pop3Session._apop),
    c.Stls: (State.AUTHORIZATION, Pop3Session._stls),
    c.Utf8: (State.AUTHORIZATION, Pop3Session._utf8_mode),
    c.Lang: (_EVERYWHERE, Pop3Session._lang),
    c.Capa: (_EVERYWHERE, Pop3Session._capa),
    c.Stat: (State.TRANSACTION, Pop3Session._stat),
    c.List: (State.TRANSACTION, Pop3Session._list),
    c.Uidl: (State.TRANSACTION, Pop3Session._uidl),
    c.Retr: (State.TRANSACTION, Pop3Session._retr),
    c.Top: (State.TRANSACTION, Pop3Session._top),
    c.Dele: (State.TRANSACTION, Pop3Session._dele),
    c.Rset: (State.TRANSACTION, Pop3Session._rset),
    c.Last: (State.TRANSACTION, Pop3Session._last_accessed),
    c.Noop: (State.TRANSACTION, Pop3Session._noop),
    c.Quit: (_EVERYWHERE, Pop3Session._quit),
}
