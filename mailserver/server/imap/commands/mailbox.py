"""Making and naming mailboxes: CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE
(RFC 3501 §6.3), NAMESPACE (RFC 2342), special uses (RFC 6154 §3)."""

from __future__ import annotations

from mailserver.errors import ErrorKind, MailError
from mailserver.model.names import DELIMITER, SpecialUse
from mailserver.server.imap.registry import LOGGED_IN, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.wire.imap import commands, responses
from mailserver.wire.imap.grammar.bare import parse_namespace
from mailserver.wire.imap.grammar.mailbox import (
    parse_create,
    parse_delete,
    parse_rename,
    parse_subscribe,
    parse_unsubscribe,
)

_USES = {use.value.lower(): use for use in SpecialUse}


async def create(session: Session, command: commands.Create) -> None:
    """Make a mailbox, perhaps with a special use (RFC 3501 §6.3.3, RFC 6154 §3)."""
    await session.store.create(session.who, command.mailbox, _special_use(command))


def _special_use(command: commands.Create) -> SpecialUse | None:
    """The one use that is asked for; a mailbox has at most one here (T50).

    Raises:
        MailError: USE_ATTRIBUTE: an unknown use, or several.
    """
    uses = {name.lower() for name in command.special_uses}
    if not uses:
        return None
    if len(uses) > 1:
        raise MailError(ErrorKind.USE_ATTRIBUTE, "a mailbox has at most one special use here")
    use = _USES.get(uses.pop())
    if use is None:
        raise MailError(ErrorKind.USE_ATTRIBUTE, "this special use is not known here")
    return use


async def delete(session: Session, command: commands.Delete) -> None:
    """Remove a mailbox and its messages (RFC 3501 §6.3.4); the selected one is left."""
    await session.store.delete(session.who, command.mailbox)
    if session.view is not None and session.view.image.deleted:
        session.unselect()


async def rename(session: Session, command: commands.Rename) -> None:
    """Rename a mailbox and what is below it (RFC 3501 §6.3.5)."""
    await session.store.rename(session.who, command.old, command.new)


async def subscribe(session: Session, command: commands.Subscribe) -> None:
    """Subscribe to a name; it need not exist yet (RFC 3501 §6.3.6, T23)."""
    await session.store.subscribe(session.who, command.mailbox, True)


async def unsubscribe(session: Session, command: commands.Unsubscribe) -> None:
    """Take a subscription back (RFC 3501 §6.3.7)."""
    await session.store.subscribe(session.who, command.mailbox, False)


async def namespace(session: Session, command: commands.Namespace) -> None:
    """Tell where mailboxes lie: one's own at the top (RFC 2342 §5)."""
    own = responses.NamespaceEntry("", DELIMITER)
    session.respond(responses.Namespace((own,), (), ()))


SPECS = (
    CommandSpec(b"CREATE", parse_create, create, LOGGED_IN),
    CommandSpec(b"DELETE", parse_delete, delete, LOGGED_IN),
    CommandSpec(b"RENAME", parse_rename, rename, LOGGED_IN),
    CommandSpec(b"SUBSCRIBE", parse_subscribe, subscribe, LOGGED_IN),
    CommandSpec(b"UNSUBSCRIBE", parse_unsubscribe, unsubscribe, LOGGED_IN),
    CommandSpec(b"NAMESPACE", parse_namespace, namespace, LOGGED_IN, needs=b"NAMESPACE"),
)
PROVIDES = (b"CREATE-SPECIAL-USE",)
