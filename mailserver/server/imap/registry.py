"""The table of commands, and the capabilities that follow from it.

A command is a row. What CAPABILITY announces is computed: a row of `CAPABILITIES` is
shown when its state and condition hold, and start-up fails if something would be announced
that no command module has, or a module has something that is never announced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Flag, auto
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs

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
        needs: the capability that brings the command; empty for the base protocol. The
            command is unknown (BAD) while that is not announced to this account.
    """

    name: bytes
    parser: Parser
    handler: Handler
    states: States
    uses_seqs: bool = False
    breaks_seqs: bool = True
    needs: bytes = b""

    @property
    def by_uid(self) -> bool:
        """It is the UID variant: unsolicited FETCH lines carry the UID (T15)."""
        return self.name.startswith(b"UID ")


@attrs.frozen
class Capability:
    """One token of CAPABILITY.

    Attributes:
        token: as announced.
        states: where it is announced (T38).
        offered: whether it holds now for this session; None for always.
        text: the token with its value where that is not fixed (APPENDLIMIT=n).
    """

    token: bytes
    states: States = LOGGED_IN
    offered: Callable[[Session], bool] | None = None
    text: Callable[[Session], bytes] | None = None


CAPABILITIES = (
    Capability(b"IMAP4rev1", ANY),
    Capability(b"LITERAL+", ANY),  # RFC 7888; never beside LITERAL- (T56)
    Capability(b"SASL-IR", ANY),  # RFC 4959
    Capability(b"ID", ANY),  # RFC 2971
    Capability(b"ENABLE", ANY),  # RFC 5161 §3.1: may be announced before login
    Capability(b"STARTTLS", NOT_AUTHENTICATED, lambda s: s.may_start_tls),
    Capability(b"LOGINDISABLED", NOT_AUTHENTICATED, lambda s: not s.passwords_allowed),
    Capability(b"AUTH=PLAIN", NOT_AUTHENTICATED, lambda s: s.may_authenticate(b"PLAIN")),
    Capability(b"AUTH=LOGIN", NOT_AUTHENTICATED, lambda s: s.may_authenticate(b"LOGIN")),
    Capability(b"IDLE", LOGGED_IN, lambda s: s.bus.covers_all_mailboxes),  # SUN-51
    Capability(b"NAMESPACE"),  # RFC 2342
    Capability(b"CHILDREN"),  # RFC 3348
    Capability(b"UNSELECT"),  # RFC 3691
    Capability(b"UIDPLUS"),  # RFC 4315
    Capability(b"MOVE"),  # RFC 6851
    Capability(b"LIST-EXTENDED"),  # RFC 5258
    Capability(b"LIST-STATUS"),  # RFC 5819
    Capability(b"SPECIAL-USE"),  # RFC 6154
    Capability(b"CREATE-SPECIAL-USE"),  # RFC 6154 §3
    Capability(b"ESEARCH"),  # RFC 4731
    Capability(b"MULTIAPPEND"),  # RFC 3502
    Capability(b"BINARY"),  # RFC 3516
    Capability(b"STATUS=SIZE"),  # RFC 8438
    Capability(b"APPENDLIMIT", text=lambda s: b"APPENDLIMIT=%d" % s.store.max_message_size),
)
"""Every capability, in the order in which they are announced."""


class RegistryError(Exception):
    """Commands and capabilities do not fit together; the server must not start."""


@attrs.frozen
class Registry:
    """The commands of the server.

    Attributes:
        specs: by name.
        capabilities: what may be announced.
    """

    specs: Mapping[bytes, CommandSpec]
    capabilities: tuple[Capability, ...]

    @classmethod
    def collect(
        cls,
        modules: Iterable[ModuleType],
        capabilities: tuple[Capability, ...] = CAPABILITIES,
    ) -> Registry:
        """Gather the rows of command modules.

        Args:
            modules: each has `SPECS`, and may have `PROVIDES`, a tuple of capabilities
                that it implements without a command of their own.

        Raises:
            RegistryError: two rows of one name; a capability announced that nothing
                implements; one implemented that is not in the table.
        """
        specs: dict[bytes, CommandSpec] = {}
        provided: set[bytes] = set()
        for module in modules:
            provided.update(getattr(module, "PROVIDES", ()))
            for spec in module.SPECS:
                if spec.name in specs:
                    raise RegistryError(f"two commands are named {spec.name.decode()}")
                specs[spec.name] = spec
                if spec.needs:
                    provided.add(spec.needs)
        announced = {capability.token for capability in capabilities}
        for token in sorted(announced - provided):
            raise RegistryError(f"{token.decode()} would be announced, but nothing implements it")
        for token in sorted(provided - announced):
            raise RegistryError(f"{token.decode()} is implemented, but never announced")
        return cls(specs, capabilities)

    def tokens(self, session: Session) -> tuple[bytes, ...]:
        """The capabilities to announce to a session now (T38)."""
        hidden = session.disabled_capabilities
        return tuple(
            capability.text(session) if capability.text else capability.token
            for capability in self.capabilities
            if session.state in capability.states
            and capability.token.upper() not in hidden
            and (capability.offered is None or capability.offered(session))
        )

    def find(self, name: bytes, session: Session) -> CommandSpec | None:
        """The command of a name in upper case; None if it is unknown to this session."""
        spec = self.specs.get(name)
        if spec is None or not spec.needs:
            return spec
        if session.state is States.NOT_AUTHENTICATED or spec.needs in session.capabilities:
            return spec
        return None
