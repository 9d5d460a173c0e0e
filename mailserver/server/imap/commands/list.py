r"""What mailboxes there are: LIST with its options (RFC 3501 §6.3.8, RFC 5258, RFC 5819,
RFC 6154), LSUB (RFC 3501 §6.3.9), STATUS (RFC 3501 §6.3.10, RFC 8438, RFC 7889).

The answer is made from one reading of all mailboxes: names that exist, names that are
subscribed, and the levels of hierarchy above both that are no mailboxes themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import attrs

from mailserver.errors import MailError
from mailserver.model.acl import Right
from mailserver.model.mailbox import MailboxInfo, MailboxStatus
from mailserver.model.names import DELIMITER, INBOX, ListPattern, parents
from mailserver.server.imap.registry import LOGGED_IN, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.server.imap.settings import TB_LSUB_FLAGS
from mailserver.wire.imap import commands, responses
from mailserver.wire.imap.commands import ListReturn, ListSelect, StatusAtt
from mailserver.wire.imap.grammar.list import parse_list, parse_lsub, parse_status

# -- LIST ---------------------------------------------------------------------


async def list_mailboxes(session: Session, command: commands.List) -> None:
    """Answer LIST, one line at most for each name (RFC 5258 §3.3), with a STATUS line after
    it if asked (T22, T24)."""
    if command.patterns == ("",) and not command.extended:
        # Asks for the delimiter and the root of the reference, which is empty (T22).
        session.respond(responses.MailboxList(("\\Noselect",), DELIMITER, ""))
        return
    names = Names.of(await session.store.mailboxes(session.who))
    if _asks_for_subscriptions(command):
        names = attrs.evolve(
            names, subscribed=frozenset(await session.store.subscriptions(session.who))
        )
    patterns = [
        ListPattern.joined(command.reference, pattern) for pattern in command.patterns if pattern
    ]
    chosen = _selected(names, command.select)
    shown = await _matching(session, chosen, patterns)
    below: Collection[str] = ()
    child_info: tuple[str, ...] = ()
    if ListSelect.RECURSIVEMATCH in command.select:
        below = _levels_above(chosen)
        child_info = tuple(
            option.value.decode() for option in ListSelect if option in command.select & _CRITERIA
        )
        # A name that is not chosen itself is told only for one below it that is not told
        # (RFC 5258 §3.5).
        shown |= await _matching(session, _levels_above(chosen - shown), patterns)
    elif not command.select & _CRITERIA and any(p.pattern.endswith("%") for p in patterns):
        shown |= await _matching(session, names.missing_levels, patterns)
    for name in sorted(shown, key=_inbox_first):
        answer = responses.MailboxList(
            tuple(_attributes(names, name, command)),
            DELIMITER,
            name,
            child_info if name in below else (),
        )
        await _send(session, answer, names.mailboxes.get(name), command.status)
        await session.drained()
        await session.turn()


async def _send(
    session: Session,
    answer: responses.MailboxList,
    mailbox: MailboxInfo | None,
    attributes: Sequence[StatusAtt],
) -> None:
    r"""Send one LIST line and, if asked, its STATUS line; a mailbox whose counters may not
    be read is shown as one that cannot be selected (RFC 5819 §2)."""
    if not attributes or mailbox is None or not mailbox.selectable:
        session.respond(answer)
        return
    try:
        status = await _status_response(session, mailbox, attributes)
    except MailError:
        session.respond(attrs.evolve(answer, attributes=(*answer.attributes, "\\NoSelect")))
    else:
        session.respond(answer, status)


async def _matching(
    session: Session, names: Iterable[str], patterns: Sequence[ListPattern]
) -> set[str]:
    """Those names that match one of the patterns; gives way to others meanwhile."""
    found = set()
    for name in names:
        if any(pattern.matches(name) for pattern in patterns):
            found.add(name)
        await session.turn()
    return found


@attrs.frozen
class Names:
    """All that LIST knows of.

    Attributes:
        mailboxes: those that exist, by name, INBOX first, then ascending.
        subscribed: names that are subscribed, existing or not; empty where not asked for.
        with_children: names below which a mailbox exists.
    """

    mailboxes: Mapping[str, MailboxInfo]
    with_children: frozenset[str]
    subscribed: frozenset[str] = frozenset()

    @property
    def missing_levels(self) -> frozenset[str]:
        """Names above mailboxes that are no mailboxes."""
        return self.with_children - self.mailboxes.keys()

    @classmethod
    def of(cls, mailboxes: Sequence[MailboxInfo]) -> Names:
        """Take up what the store lists."""
        return cls(
            {mailbox.name: mailbox for mailbox in mailboxes},
            frozenset(_levels_above(mailbox.name for mailbox in mailboxes)),
        )


_CRITERIA = frozenset({ListSelect.SUBSCRIBED, ListSelect.SPECIAL_USE})
"""Selection options that choose; REMOTE and RECURSIVEMATCH do not."""


def _selected(names: Names, select: frozenset[ListSelect]) -> set[str]:
    """The names that meet the selection options, whatever the patterns say."""
    chosen: set[str] = set(names.mailboxes)
    if ListSelect.SUBSCRIBED in select:
        chosen = set(names.subscribed)
    if ListSelect.SPECIAL_USE in select:
        chosen = {
            name
            for name in chosen
            if name in names.mailboxes and names.mailboxes[name].special_use is not None
        }
    return chosen


def _asks_for_subscriptions(command: commands.List) -> bool:
    r"""Selecting by subscription tells `\Subscribed` too (RFC 5258 §3.1)."""
    return ListSelect.SUBSCRIBED in command.select or ListReturn.SUBSCRIBED in command.returns


def _attributes(names: Names, name: str, command: commands.List) -> Iterable[str]:
    r"""The attributes of one name. `\HasChildren` and special uses are always told
    (RFC 3348, T50), what RFC 5258 brought only to who uses it (T37)."""
    mailbox = names.mailboxes.get(name)
    if mailbox is None:
        yield "\\NonExistent" if command.extended else "\\Noselect"
    elif not mailbox.selectable:
        yield "\\Noselect"
    yield "\\HasChildren" if name in names.with_children else "\\HasNoChildren"
    if name in names.subscribed:
        yield "\\Subscribed"
    if mailbox is not None and mailbox.special_use is not None:
        yield mailbox.special_use.value


def _levels_above(names: Iterable[str]) -> set[str]:
    """Every superior of every name."""
    return {parent for name in names for parent in parents(name)}


def _inbox_first(name: str) -> tuple[bool, str]:
    return (name.partition(DELIMITER)[0] != INBOX, name)


# -- LSUB ---------------------------------------------------------------------


async def lsub(session: Session, command: commands.Lsub) -> None:
    r"""Tell the subscribed names, existing or not (T23). A `%` also gives levels that are
    not subscribed but lead to one that is, as `\Noselect` (RFC 3501 §6.3.9). Special uses
    are told here too: Outlook lists by LSUB and else makes its own Sent and Trash (T50)."""
    subscribed = await session.store.subscriptions(session.who)
    pattern = ListPattern.joined(command.reference, command.pattern)
    shown = {name for name in subscribed if pattern.matches(name)}
    mailboxes = {mailbox.name: mailbox for mailbox in await session.store.mailboxes(session.who)}
    marks_missing = session.works_around(TB_LSUB_FLAGS)
    found: dict[str, tuple[str, ...]] = {}
    if pattern.pattern.endswith("%"):
        levels = _levels_above(name for name in subscribed if name not in shown)
        found = {name: ("\\Noselect",) for name in levels if pattern.matches(name)}
    for name in shown:
        mailbox = mailboxes.get(name)
        if mailbox is not None and mailbox.selectable:
            found[name] = () if mailbox.special_use is None else (mailbox.special_use.value,)
        else:
            found[name] = ("\\Noselect",) if marks_missing else ()
    for name in sorted(found, key=_inbox_first):
        session.respond(responses.MailboxList(found[name], DELIMITER, name, lsub=True))


# -- STATUS -------------------------------------------------------------------


async def status(session: Session, command: commands.Status) -> None:
    """Tell counters of a mailbox; of the selected one those that the client then has
    (RFC 3501 §6.3.10, T24)."""
    mailbox = await session.store.find(session.who, command.mailbox, Right.READ)
    session.respond(await _status_response(session, mailbox, command.attributes))


async def _status_response(
    session: Session, mailbox: MailboxInfo, attributes: Sequence[StatusAtt]
) -> responses.MailboxStatus:
    """Read the counters of one mailbox.

    Raises:
        MailError: what `IMailStore.status` raises.
    """
    view = session.view
    if view is not None and view.mailbox.ref == mailbox.ref:
        await session.refresh()
        session.send(view.drain(allow_expunge=True))
    counters = await session.store.status(session.who, mailbox.ref)
    items: list[tuple[StatusAtt, int | None]] = []
    for attribute in attributes:
        if attribute is StatusAtt.APPENDLIMIT:
            items.append((attribute, await session.store.append_limit(session.who, mailbox.ref)))
        else:
            items.append((attribute, _COUNTERS[attribute](counters)))
    return responses.MailboxStatus(mailbox.name, tuple(items))


_COUNTERS: dict[StatusAtt, Callable[[MailboxStatus], int]] = {
    StatusAtt.MESSAGES: lambda counters: counters.messages,
    StatusAtt.RECENT: lambda counters: counters.recent,
    StatusAtt.UIDNEXT: lambda counters: counters.uid_next,
    StatusAtt.UIDVALIDITY: lambda counters: counters.uid_validity,
    StatusAtt.UNSEEN: lambda counters: counters.unseen,
    StatusAtt.SIZE: lambda counters: counters.size,  # RFC 8438
}

SPECS = (
    CommandSpec(b"LIST", parse_list, list_mailboxes, LOGGED_IN),
    CommandSpec(b"LSUB", parse_lsub, lsub, LOGGED_IN),
    CommandSpec(b"STATUS", parse_status, status, LOGGED_IN),
)
PROVIDES = (
    b"CHILDREN",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"SPECIAL-USE",
    b"STATUS=SIZE",
    b"APPENDLIMIT",
)
