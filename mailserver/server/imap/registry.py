"""The table of commands, and the capabilities that follow from it.

A command is a row. What CAPABILITY announces is computed: start-up fails if something would
be announced that no command module implements, or is implemented and never announced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Flag, auto
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs

from mailserver.wire.imap.capabilities import (
    APPENDLIMIT,
    LITERAL_PLUS,
    SASL_IR,
    STARTTLS,
    State,
    capability_tokens,
)
from mailserver.wire.imap.grammar.bare import Parser
from mailserver.wire.imap.responses import Status

if TYPE_CHECKING:
    from mailserver.server.imap.session import Session


class States(Flag):
    """States of a session (RFC 3501 §3), and sets of them in which a command is allowed."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()


NOT_AUTHENTICATED = States.NOT_AUTHENTICATED
"""Only before login."""
SELECTED = States.SELECTED
"""Only with a mailbox selected."""
LOGGED_IN = States.AUTHENTICATED | States.SELECTED
"""After login, with or without a mailbox."""
ANY = States.NOT_AUTHENTICATED | LOGGED_IN
"""Always."""

Handler = Callable[["Session", Any], Awaitable[Status | None]]
"""Runs a parsed command. It sends its untagged responses through the session and returns
the tagged one (`responses.Status` without a tag), or None for `OK <name> completed`.

Raises:
    MailError: answered by the table in `status.py`.
    NoSuchNumber: answered BAD (T14).
    Anything else: logged and answered `NO [SERVERBUG]`.
"""


@attrs.frozen
class CommandSpec:
    """One command.

    Attributes:
        name: in upper case; `UID ` and the name for the UID variant.
        parser: reads the arguments and gives the frozen command.
        handler: runs it.
        states: where it is allowed; elsewhere it is answered BAD.
        uses_seqs: sequence numbers are in its arguments or its answer, so a client must
            not send it before it has the answer of one that breaks them (RFC 3501 §5.5).
        breaks_seqs: EXPUNGE may be sent at its end; False for FETCH, STORE and SEARCH
            without UID, and for commands that are no occasion for it (T3).
        tells_arrivals: also told of arrivals and expunges are clients that lose such news
            elsewhere (T55).
        needs: the capability that brings the command; empty for the base protocol. While
            that is not to be had the command is answered BAD.
        streams: the handler itself takes the literals that follow (APPEND); the parser
            then reads up to the announcement of the first.
    """

    name: bytes
    parser: Parser
    handler: Handler
    states: States
    uses_seqs: bool = False
    breaks_seqs: bool = True
    tells_arrivals: bool = False
    needs: bytes = b""
    streams: bool = False

    @property
    def by_uid(self) -> bool:
        """It is the UID variant: unsolicited FETCH lines carry the UID (T15)."""
        return self.name.startswith(b"UID ")


ANNOUNCED: tuple[bytes, ...] = (
    LITERAL_PLUS,  # RFC 7888; never beside LITERAL- (T56)
    SASL_IR,
    b"ID",
    b"ENABLE",
    b"IDLE",
    b"NAMESPACE",
    b"CHILDREN",
    b"UNSELECT",
    b"UIDPLUS",
    b"MOVE",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE",
    b"STATUS=SIZE",
    b"ESEARCH",
    b"MULTIAPPEND",
    APPENDLIMIT,
    b"BINARY",
)
"""Capabilities of this server, whatever its configuration, beside IMAP4rev1, STARTTLS,
LOGINDISABLED and AUTH=. In which order and state each is shown says `wire.capabilities`."""

CONDITIONS: dict[bytes, Callable[[Session], bool]] = {
    b"IDLE": lambda session: session.bus.covers_all_mailboxes,  # SUN-51
    STARTTLS: lambda session: session.may_start_tls,
}
"""What has to hold for a capability to be had; without a row it always is."""


class RegistryError(Exception):
    """Commands and capabilities do not fit together; the server must not start."""


@attrs.frozen
class Registry:
    """The commands of the server.

    Attributes:
        specs: by name.
        announced: capabilities that sessions may have.
    """

    specs: Mapping[bytes, CommandSpec]
    announced: tuple[bytes, ...] = ANNOUNCED

    @classmethod
    def collect(
        cls, modules: Iterable[ModuleType], announced: tuple[bytes, ...] = ANNOUNCED
    ) -> Registry:
        """Gather the rows of command modules.

        Args:
            modules: each has `SPECS`, and may have `PROVIDES`, a tuple of capabilities
                that it implements without a command of their own.

        Raises:
            RegistryError: two rows of one name; a capability announced that nothing
                implements; one implemented that is not announced.
        """
        specs: dict[bytes, CommandSpec] = {}
        provided: set[bytes] = set()
        for module in modules:
            provided.update(getattr(module, "PROVIDES", ()))
            for spec in module.SPECS:
                if spec.name in specs:
                    raise RegistryError(f"two commands are named {spec.name.decode()}")
                specs[spec.name] = spec
                provided.add(spec.needs)
        provided -= {b"", STARTTLS}
        for token in sorted(set(announced) - provided):
            raise RegistryError(f"{token.decode()} would be announced, but nothing implements it")
        for token in sorted(provided - set(announced)):
            raise RegistryError(f"{token.decode()} is implemented, but never announced")
        return cls(specs, announced)

    def tokens(self, session: Session) -> tuple[bytes, ...]:
        """The capabilities to announce to a session now (T38)."""
        door = session.door
        is_in = session.principal is not None
        return capability_tokens(
            [token for token in self.announced if self._holds(token, session)],
            State(
                authenticated=is_in,
                tls=session.connection.secure,
                starttls=session.services.tls is not None,
                password_login=door.takes_passwords,
                mechanisms=() if is_in else door.mechanisms,
                append_limit=session.store.max_message_size,
                disabled=session.disabled_capabilities,
            ),
        )

    def offers(self, token: bytes, session: Session) -> bool:
        """Say whether a session has a capability now, so may use its commands."""
        return token not in session.disabled_capabilities and self._holds(token, session)

    @staticmethod
    def _holds(token: bytes, session: Session) -> bool:
        condition = CONDITIONS.get(token)
        return condition is None or condition(session)
