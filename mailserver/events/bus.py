"""The event bus of one process (SUN-50).

Whoever commits calls `publish`; whoever watches is called once per reactor turn and
mailbox, however many events came in between. An event is a hint: a listener reads what
changed from the store, so of several events only the newest matters.

Invariants:

- No listener runs inside `publish`, so publishing never re-enters a session or a store.
- Every event published while somebody listens reaches that listener in a later turn: in
  one call for its mailbox, with the highest mod-sequence of all that were joined.
- A listener that raises is logged, and keeps its subscription; the others are called.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.interfaces import IEventBus
from mailserver.model.changes import Event, EventKind
from mailserver.model.ids import AccountId, MailboxId, MailboxRef, ModSeq

Listener = Callable[[Event], None]
Unsubscribe = Callable[[], None]


@attrs.frozen
class Coverage:
    """For which mailboxes events are published, and why not for all (SUN-51 … SUN-53).

    Attributes:
        all_mailboxes: events work for every mailbox, so IDLE may be announced.
        reason: for the log, what to set so that they do; empty if they do.
    """

    all_mailboxes: bool
    reason: str = ""


FULL_COVERAGE = Coverage(True)


def coverage(notify_plugin: str, none_inbox_enable: bool, event_key: str) -> Coverage:
    """Work out whether events cover all mailboxes.

    Args:
        notify_plugin: `local.store.notifyplugin`; empty is off, a path whose last part
            is `libibiff` (with or without an ending such as `.so`) is on (SUN-52).
        none_inbox_enable: `local.store.notifyplugin.noneinbox.enable` (SUN-51).
        event_key: `local.store.notifyplugin.enseventkey`, must end in `%M` (SUN-53).
    """
    option = "local.store.notifyplugin"
    plugin = notify_plugin.strip()
    if not plugin:
        return Coverage(False, f"{option} is empty: no events, so no IDLE")
    if plugin.rpartition("/")[2].partition(".")[0] != "libibiff":
        return Coverage(False, f"{option} is {plugin[:100]!r}, not libibiff: no events, so no IDLE")
    if not none_inbox_enable:
        return Coverage(False, f"{option}.noneinbox.enable is 0: events for INBOX only, so no IDLE")
    if not event_key.endswith("%M"):
        return Coverage(
            False,
            f"{option}.enseventkey is {event_key[:100]!r} and does not end in %M, the"
            " mailbox: IDLE could not tell mailboxes apart, so no IDLE",
        )
    return FULL_COVERAGE


@implementer(IEventBus)
class EventBus:
    """Listeners of this process, and the one place where events enter it.

    Args:
        clock: for `callLater(0, …)`; the reactor, or a `Clock` in tests.
        covers_all_mailboxes: from `coverage`.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, *, covers_all_mailboxes: bool = True) -> None:
        self.covers_all_mailboxes = covers_all_mailboxes
        self._clock = clock
        self._listeners: dict[MailboxRef | AccountId, dict[object, Listener]] = {}
        self._waiting: dict[MailboxRef, Event] = {}
        self._call: IDelayedCall | None = None
        self._forward: Listener | None = None

    def publish(self, event: Event) -> None:
        """Tell listeners here in the next reactor turn, and other processes at once."""
        self.deliver(event)
        if self._forward is not None:
            self._forward(event)

    def deliver(self, event: Event) -> None:
        """Tell the listeners of this process only: for events that came from others."""
        ref = event.ref
        if ref not in self._listeners and ref.account not in self._listeners:
            return
        earlier = self._waiting.get(ref)
        self._waiting[ref] = event if earlier is None else joined(earlier, event)
        if self._call is None:
            self._call = self._clock.callLater(0, self._dispatch)

    def wake_all(self) -> None:
        """Tell every listener to look again: events may have been lost.

        Nothing is known in these events: the mod-sequence is 0, and for a listener of an
        account the mailbox is empty, which means any.
        """
        for key in list(self._listeners):
            ref = key if isinstance(key, MailboxRef) else MailboxRef(key, MailboxId(""))
            self.deliver(Event(ref, ModSeq(0), EventKind.MAILBOXES))

    def forward_to(self, forward: Listener | None) -> None:
        """Set who carries published events to other processes; None for nobody."""
        self._forward = forward

    def subscribe(self, ref: MailboxRef, listener: Listener) -> Unsubscribe:
        """Watch one mailbox; the function returned ends it and may be called twice."""
        return self._add(ref, listener)

    def subscribe_account(self, account: AccountId, listener: Listener) -> Unsubscribe:
        """Watch all mailboxes of an account; one call per mailbox that changed."""
        return self._add(account, listener)

    def _add(self, key: MailboxRef | AccountId, listener: Listener) -> Unsubscribe:
        token = object()
        self._listeners.setdefault(key, {})[token] = listener

        def remove() -> None:
            listeners = self._listeners.get(key, {})
            if token in listeners:
                del listeners[token]
                if not listeners:
                    del self._listeners[key]

        return remove

    def _dispatch(self) -> None:
        self._call = None
        waiting, self._waiting = self._waiting, {}
        for ref, event in waiting.items():
            keys: tuple[MailboxRef | AccountId, ...] = (ref, ref.account)
            for key in keys:
                for token, listener in list(self._listeners.get(key, {}).items()):
                    if token not in self._listeners.get(key, {}):
                        continue  # ended by a listener that ran before it
                    with self._log.failuresHandled("an event listener failed"):
                        listener(event)


def joined(earlier: Event, later: Event) -> Event:
    """One event that says what both say.

    A change of the list of mailboxes must not hide behind a mere message event: who
    watches for it reads more than the mailbox. Nor must a call to look again, 0, hide
    behind a change that the listener may know already.
    """
    kind = EventKind.MAILBOXES if earlier.kind is EventKind.MAILBOXES else later.kind
    both = (earlier.mod_sequence, later.mod_sequence)
    return Event(later.ref, max(both) if all(both) else ModSeq(0), kind)
