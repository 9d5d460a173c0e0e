"""The event bus: every event arrives, joined per mailbox and turn (SUN-50)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from mailserver.events.bus import EventBus, coverage
from mailserver.interfaces import IEventBus
from mailserver.model.changes import Event, EventKind
from mailserver.model.ids import AccountId, MailboxId, MailboxRef, ModSeq

JOE = AccountId("j" * 26)
INBOX = MailboxRef(JOE, MailboxId("inbox"))
SENT = MailboxRef(JOE, MailboxId("sent"))
OTHER = MailboxRef(AccountId("o" * 26), MailboxId("inbox"))


def event(ref: MailboxRef, number: int, kind: EventKind = EventKind.NEW_MSG) -> Event:
    return Event(ref, ModSeq(number), kind)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(clock: Clock) -> EventBus:
    return EventBus(clock)


def test_it_is_an_event_bus(bus: EventBus) -> None:
    verifyObject(IEventBus, bus)


def test_a_listener_hears_of_its_mailbox_only(bus: EventBus, clock: Clock) -> None:
    heard: list[Event] = []
    bus.subscribe(INBOX, heard.append)
    for ref in (INBOX, SENT, OTHER):
        bus.publish(event(ref, 1))
    clock.advance(0)
    assert heard == [event(INBOX, 1)]


def test_no_listener_runs_inside_publish(bus: EventBus, clock: Clock) -> None:
    heard: list[Event] = []
    bus.subscribe(INBOX, heard.append)
    bus.publish(event(INBOX, 1))
    assert heard == []
    clock.advance(0)
    assert heard != []


def test_events_of_one_turn_become_one_call_with_the_highest_mod_sequence(
    bus: EventBus, clock: Clock
) -> None:
    heard: list[Event] = []
    bus.subscribe(INBOX, heard.append)
    for number in (1, 3, 2):
        bus.publish(event(INBOX, number))
    clock.advance(0)
    assert heard == [event(INBOX, 3)]
    clock.advance(1)
    assert len(heard) == 1, "nothing is told twice"
    bus.publish(event(INBOX, 4))
    clock.advance(0)
    assert heard[1:] == [event(INBOX, 4)]


def test_an_account_listener_is_called_once_for_each_changed_mailbox(
    bus: EventBus, clock: Clock
) -> None:
    heard: list[Event] = []
    bus.subscribe_account(JOE, heard.append)
    for ref in (INBOX, SENT, INBOX, OTHER):
        bus.publish(event(ref, 1))
    clock.advance(0)
    assert sorted(one.ref.mailbox for one in heard) == ["inbox", "sent"]


def test_a_change_of_the_mailbox_list_survives_joining(bus: EventBus, clock: Clock) -> None:
    heard: list[Event] = []
    bus.subscribe(INBOX, heard.append)
    bus.publish(event(INBOX, 1, EventKind.MAILBOXES))
    bus.publish(event(INBOX, 2, EventKind.NEW_MSG))
    clock.advance(0)
    assert heard == [event(INBOX, 2, EventKind.MAILBOXES)]


def test_a_failing_listener_is_logged_and_the_others_still_hear(
    bus: EventBus, clock: Clock
) -> None:
    heard: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("listener broke")

    bus.subscribe(INBOX, broken)
    bus.subscribe(INBOX, heard.append)
    bus.subscribe(SENT, heard.append)
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        bus.publish(event(INBOX, 1))
        bus.publish(event(SENT, 1))
        clock.advance(0)
        bus.publish(event(INBOX, 2))
        clock.advance(0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert heard == [event(INBOX, 1), event(SENT, 1), event(INBOX, 2)]
    failures = [one["log_failure"].getErrorMessage() for one in logged if "log_failure" in one]
    assert failures == ["listener broke", "listener broke"]


def test_who_unsubscribed_hears_nothing_more(bus: EventBus, clock: Clock) -> None:
    heard: list[str] = []
    ends: list[Callable[[], None]] = []

    def first(_: Event) -> None:
        heard.append("first")
        ends[1]()

    ends.append(bus.subscribe(INBOX, first))
    ends.append(bus.subscribe(INBOX, lambda _: heard.append("second")))
    bus.publish(event(INBOX, 1))
    clock.advance(0)
    assert heard == ["first"], "ended between publishing and the call"
    ends[0]()
    ends[0]()
    bus.publish(event(INBOX, 2))
    clock.advance(0)
    assert heard == ["first"]
    assert not clock.getDelayedCalls(), "an event that nobody watches costs no reactor turn"


def test_the_same_function_may_watch_twice(bus: EventBus, clock: Clock) -> None:
    heard: list[Event] = []
    end = bus.subscribe(INBOX, heard.append)
    bus.subscribe(INBOX, heard.append)
    bus.publish(event(INBOX, 1))
    clock.advance(0)
    assert len(heard) == 2
    end()
    bus.publish(event(INBOX, 2))
    clock.advance(0)
    assert len(heard) == 3


def test_what_a_listener_publishes_comes_in_a_later_turn(bus: EventBus, clock: Clock) -> None:
    heard: list[object] = []

    def again(one: Event) -> None:
        heard.append(one.mod_sequence)
        if one.mod_sequence < 3:
            bus.publish(event(INBOX, one.mod_sequence + 1))
        heard.append("done")

    bus.subscribe(INBOX, again)
    bus.publish(event(INBOX, 1))
    clock.advance(0)
    assert heard == [1, "done", 2, "done", 3, "done"]


def test_published_events_go_to_other_processes_and_theirs_do_not_go_back(
    bus: EventBus, clock: Clock
) -> None:
    sent: list[Event] = []
    heard: list[Event] = []
    bus.forward_to(sent.append)
    bus.subscribe(INBOX, heard.append)
    bus.publish(event(INBOX, 1))
    bus.publish(event(SENT, 1))
    bus.deliver(event(INBOX, 2))
    clock.advance(0)
    assert sent == [event(INBOX, 1), event(SENT, 1)]
    assert heard == [event(INBOX, 2)]


def test_when_events_may_have_been_lost_everybody_looks_again(bus: EventBus, clock: Clock) -> None:
    heard: list[Event] = []
    bus.subscribe(INBOX, heard.append)
    bus.subscribe(OTHER, heard.append)
    bus.subscribe_account(JOE, heard.append)
    bus.wake_all()
    clock.advance(0)
    refs = [one.ref for one in heard]
    assert {INBOX, OTHER, MailboxRef(JOE, MailboxId(""))} == set(refs)
    assert len(refs) == 4, "the account's listener hears of INBOX too"


def test_a_call_to_look_again_is_not_hidden_by_an_event(bus: EventBus, clock: Clock) -> None:
    heard: list[Event] = []
    bus.subscribe(INBOX, heard.append)
    bus.publish(event(INBOX, 7))
    bus.wake_all()
    clock.advance(0)
    bus.wake_all()
    bus.publish(event(INBOX, 8))
    clock.advance(0)
    assert [one.mod_sequence for one in heard] == [0, 0]


@pytest.mark.parametrize(
    ("plugin", "none_inbox", "key", "named"),
    [
        ("", True, "enp://127.0.0.1/store/%M", "local.store.notifyplugin is empty"),  # SUN-52
        ("libother", True, "enp://127.0.0.1/store/%M", "not libibiff"),
        ("libibiff", False, "enp://127.0.0.1/store/%M", "noneinbox.enable"),  # SUN-51
        ("libibiff", True, "enp://127.0.0.1/store", "%M"),  # SUN-53
        ("libibiff", True, "enp://127.0.0.1/%M/store", "%M"),
    ],
)
def test_without_events_for_all_mailboxes_the_reason_names_the_option(
    plugin: str, none_inbox: bool, key: str, named: str
) -> None:
    found = coverage(plugin, none_inbox, key)
    assert not found.all_mailboxes
    assert named in found.reason


@pytest.mark.parametrize(
    "plugin", ["libibiff", "/opt/SUNWmsgsr/lib/libibiff", "/opt/SUNWmsgsr/lib/libibiff.so"]
)
def test_events_cover_all_mailboxes_with_the_defaults(plugin: str) -> None:
    assert coverage(plugin, True, "enp://127.0.0.1/store/%M").all_mailboxes  # SUN-51
