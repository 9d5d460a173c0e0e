"""Becoming somebody: STARTTLS, LOGIN, AUTHENTICATE (RFC 3501 §6.2), ENABLE (RFC 5161)."""

from __future__ import annotations

from mailserver.errors import MailError
from mailserver.server.imap.registry import LOGGED_IN, NOT_AUTHENTICATED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.status import bad, ok
from mailserver.wire import sasl
from mailserver.wire.imap import commands, responses
from mailserver.wire.imap.capabilities import SASL_IR, STARTTLS
from mailserver.wire.imap.grammar.bare import parse_starttls
from mailserver.wire.imap.grammar.login import (
    parse_authenticate,
    parse_enable,
    parse_login,
    parse_proxyauth,
)
from mailserver.wire.imap.responses import CapabilityCode, Status

ENABLABLE: frozenset[bytes] = frozenset()
"""Extensions that wait for ENABLE before they change anything (RFC 5161 §3.1)."""


async def starttls(session: Session, command: commands.StartTls) -> Status:
    """Go over to TLS after the answer; what was known before is void (T1, T2)."""
    session.connection.start_tls_after_reply()
    return ok("begin TLS now")


async def login(session: Session, command: commands.Login) -> Status:
    """Log in with name and password in clear (RFC 3501 §6.2.3, T40)."""
    await session.enter(await session.door.log_in(command.user, command.password))
    return _welcome(session)


async def authenticate(session: Session, command: commands.Authenticate) -> Status:
    """Log in by a SASL mechanism (RFC 3501 §6.2.2, T41), perhaps with the first response
    in the command (RFC 4959)."""

    async def ask(challenge: bytes) -> bytes:
        session.respond(responses.Continuation(sasl.encode(challenge)))
        try:
            return await session.connection.read_line(session.settings.auth_response)
        except MailError as error:
            raise sasl.SaslFault(error.text) from None

    try:
        principal = await session.door.authenticate(command.mechanism, command.initial, ask)
    except sasl.SaslFault as fault:
        return bad(fault.text)
    await session.enter(principal)
    return _welcome(session)


async def proxyauth(session: Session, command: commands.ProxyAuth) -> Status:
    """Have a store administrator act as another from here on (SUN-14)."""
    connection = session.connection
    connection.login_began()
    principal = await session.services.authenticator.act_as(
        session.who, command.user, service=connection.service, address=connection.address
    )
    session.unselect()
    await session.enter(principal)
    return _welcome(session)


def _welcome(session: Session) -> Status:
    """The tagged OK with the capabilities, which are others than before (T38, S2)."""
    return ok("logged in", CapabilityCode(session.capabilities))


async def enable(session: Session, command: commands.Enable) -> None:
    """Switch extensions on; what is unknown is left out of the answer (RFC 5161 §3.1)."""
    names = tuple(name for name in command.names if name in ENABLABLE - session.enabled)
    session.enabled |= frozenset(names)
    session.respond(responses.Enabled(names))


SPECS = (
    CommandSpec(b"STARTTLS", parse_starttls, starttls, NOT_AUTHENTICATED, needs=STARTTLS),
    CommandSpec(b"LOGIN", parse_login, login, NOT_AUTHENTICATED),
    CommandSpec(b"AUTHENTICATE", parse_authenticate, authenticate, NOT_AUTHENTICATED),
    CommandSpec(b"PROXYAUTH", parse_proxyauth, proxyauth, LOGGED_IN),
    CommandSpec(b"ENABLE", parse_enable, enable, LOGGED_IN, needs=b"ENABLE"),
)
PROVIDES = (SASL_IR,)
