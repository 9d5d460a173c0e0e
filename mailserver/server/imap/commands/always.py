"""Commands of every state: CAPABILITY, NOOP, LOGOUT (RFC 3501 §6.1), ID (RFC 2971)."""

from __future__ import annotations

from mailserver import __version__
from mailserver.server.imap.registry import ANY, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.wire.imap import commands, responses
from mailserver.wire.imap.capabilities import LITERAL_PLUS
from mailserver.wire.imap.grammar.bare import parse_capability, parse_logout, parse_noop
from mailserver.wire.imap.grammar.login import parse_id

SERVER_ID = responses.Id((("name", "mailserver"), ("version", __version__)))
"""What ID tells of the server: what a person reporting a fault would say."""


async def capability(session: Session, command: commands.Capability) -> None:
    """Tell what the server can do now (RFC 3501 §6.1.1)."""
    session.respond(responses.Capability(session.capabilities))


async def noop(session: Session, command: commands.Noop) -> None:
    """Look for news, which are told at the end of every command (RFC 3501 §6.1.2)."""
    await session.refresh()


async def logout(session: Session, command: commands.Logout) -> None:
    """Say goodbye, then answer, then close (RFC 3501 §6.1.3, T51)."""
    session.unselect()
    session.respond(responses.Status(responses.Condition.BYE, "logging out"))
    session.connection.close_after_reply()


async def identify(session: Session, command: commands.Id) -> None:
    """Exchange names with the client, for the log only (RFC 2971 §3)."""
    if command.fields:
        session.connection.note(
            "client",
            **{name: value for name, value in command.fields if name.lower() in _LOGGED},
        )
    session.respond(SERVER_ID)


_LOGGED = ("name", "version", "os", "os-version", "vendor")

SPECS = (
    CommandSpec(b"CAPABILITY", parse_capability, capability, ANY),
    CommandSpec(b"NOOP", parse_noop, noop, ANY, tells_arrivals=True),
    CommandSpec(b"LOGOUT", parse_logout, logout, ANY),
    CommandSpec(b"ID", parse_id, identify, ANY, needs=b"ID"),
)
PROVIDES = (LITERAL_PLUS,)  # by the reader, for every command
