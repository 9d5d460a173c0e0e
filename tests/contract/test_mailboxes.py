"""Mailboxes are made, removed, renamed, subscribed to."""

from __future__ import annotations

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.flags import Flags, System
from mailserver.model.ids import Uid
from mailserver.model.message import InternalDate
from mailserver.model.names import SpecialUse
from mailserver.model.quota import QuotaRoot
from tests.contract.rig import START, Rig, account


def refused(rig: Rig, kind: ErrorKind, awaitable: object) -> MailError:
    with pytest.raises(MailError) as raised:
        rig.run(awaitable)  # type: ignore[arg-type]
    assert raised.value.kind is kind, raised.value
    return raised.value


def test_a_new_account_has_its_first_mailboxes_subscribed(rig: Rig) -> None:
    found = rig.run(rig.store.mailboxes(rig.who))
    assert [(m.name, m.special_use) for m in found] == [
        ("INBOX", None),
        ("Archive", SpecialUse.ARCHIVE),
        ("Drafts", SpecialUse.DRAFTS),
        ("Junk", SpecialUse.JUNK),
        ("Sent", SpecialUse.SENT),
        ("Trash", SpecialUse.TRASH),
    ]
    assert all(m.subscribed and m.selectable for m in found)


def test_an_account_is_made_once(rig: Rig) -> None:
    refused(rig, ErrorKind.ALREADY_EXISTS, rig.store.create_account(rig.ann))


@pytest.mark.parametrize("spelled", ["inbox", "Inbox", "INBOX"])
def test_inbox_has_any_case(rig: Rig, spelled: str) -> None:  # T21
    assert rig.run(rig.store.find(rig.who, spelled)).name == "INBOX"


def test_other_names_keep_their_case(rig: Rig) -> None:
    rig.create("Work")
    rig.create("work")
    assert rig.ref("Work") != rig.ref("work")
    refused(rig, ErrorKind.NONEXISTENT, rig.store.find(rig.who, "WORK"))


def test_names_are_any_text_in_one_form(rig: Rig) -> None:
    made = rig.run(rig.store.create(rig.who, "Bu\u0308cher/日本語"))
    assert made.name == "B\u00fccher/日本語"
    assert rig.ref("B\u00fccher/日本語") == made.ref


def test_missing_superiors_are_made(rig: Rig) -> None:
    rig.create("a/b/c")
    assert {"a", "a/b", "a/b/c"} <= set(rig.names())


@pytest.mark.parametrize("name", ["", "a//b", "/a", "a\tb", "~bob/x", "~public"])
def test_a_bad_name_is_refused(rig: Rig, name: str) -> None:
    refused(rig, ErrorKind.CANNOT, rig.store.create(rig.who, name))


def test_creating_what_exists_is_refused(rig: Rig) -> None:
    refused(rig, ErrorKind.ALREADY_EXISTS, rig.store.create(rig.who, "Sent"))
    refused(rig, ErrorKind.ALREADY_EXISTS, rig.store.create(rig.who, "inbox"))


def test_a_special_use_belongs_to_one_mailbox(rig: Rig) -> None:  # T50
    refused(rig, ErrorKind.USE_ATTRIBUTE, rig.store.create(rig.who, "Out", SpecialUse.SENT))
    assert "Out" not in rig.names()
    rig.run(rig.store.delete(rig.who, "Sent"))
    made = rig.run(rig.store.create(rig.who, "Out", SpecialUse.SENT))
    assert made.special_use is SpecialUse.SENT


def test_a_special_use_goes_with_a_renamed_mailbox(rig: Rig) -> None:
    rig.run(rig.store.rename(rig.who, "Sent", "Gesendet"))
    assert rig.run(rig.store.find(rig.who, "Gesendet")).special_use is SpecialUse.SENT


def test_a_deleted_mailbox_is_gone_and_its_quota_is_free(rig: Rig) -> None:
    rig.create("x")
    rig.append(to="x")
    rig.run(rig.store.delete(rig.who, "x"))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.find(rig.who, "x"))
    assert rig.used() == (0, 0)


def test_inbox_cannot_be_deleted(rig: Rig) -> None:
    refused(rig, ErrorKind.CANNOT, rig.store.delete(rig.who, "inbox"))


def test_deleting_what_is_not_there_is_refused(rig: Rig) -> None:
    refused(rig, ErrorKind.NONEXISTENT, rig.store.delete(rig.who, "nothing"))


def test_a_deleted_mailbox_with_inferiors_stays_as_a_level(rig: Rig) -> None:
    """RFC 9051 §6.3.5."""
    rig.create("a/b")
    rig.append(to="a")
    old = rig.ref("a")
    rig.run(rig.store.delete(rig.who, "a"))
    level = rig.run(rig.store.find(rig.who, "a"))
    assert not level.selectable
    assert level.ref != old
    for there in (old, level.ref):
        refused(rig, ErrorKind.NONEXISTENT, rig.store.open(rig.who, there))
        refused(rig, ErrorKind.NONEXISTENT, rig.store.status(rig.who, there))
    message = rig.spool()
    refused(
        rig,
        ErrorKind.NONEXISTENT,
        rig.store.append(rig.who, level.ref, [(message, Flags(), InternalDate(0))]),
    )
    refused(rig, ErrorKind.HAS_CHILDREN, rig.store.delete(rig.who, "a"))
    assert "a/b" in rig.names()


def test_a_level_becomes_a_mailbox_again(rig: Rig) -> None:
    rig.create("a/b")
    before = rig.run(rig.store.status(rig.who, rig.ref("a"))).uid_validity
    rig.run(rig.store.delete(rig.who, "a"))
    made = rig.run(rig.store.create(rig.who, "a", SpecialUse.ALL))
    assert made.selectable
    assert made.special_use is SpecialUse.ALL
    assert rig.run(rig.store.status(rig.who, made.ref)).uid_validity > before


def test_a_level_goes_once_it_has_no_inferiors(rig: Rig) -> None:
    rig.create("a/b")
    rig.run(rig.store.delete(rig.who, "a"))
    rig.run(rig.store.delete(rig.who, "a/b"))
    rig.run(rig.store.delete(rig.who, "a"))
    assert "a" not in rig.names()


def validity(rig: Rig, name: str) -> int:
    return rig.run(rig.store.status(rig.who, rig.ref(name))).uid_validity


def test_a_name_never_gets_an_old_uidvalidity_back(rig: Rig) -> None:  # T12, T58
    seen = []
    for step in (0, 0, -1_000_000, 5, 5):  # the clock may stand still or go back: R5
        rig.time += step
        rig.create("x")
        seen.append(validity(rig, "x"))
        rig.run(rig.store.delete(rig.who, "x"))
    assert seen == sorted(set(seen))
    assert seen[0] == START


@pytest.mark.parametrize("clock", [0, -(10**9), 2**32, 10**11])
def test_uidvalidity_has_32_bits_whatever_the_clock_says(rig: Rig, clock: float) -> None:  # R5
    rig.time = clock
    seen = [0]
    for _ in range(3):
        rig.create("x")
        seen.append(validity(rig, "x"))
        rig.run(rig.store.delete(rig.who, "x"))
    assert seen == sorted(set(seen))
    assert seen[-1] < 2**32


def test_uidvalidity_rises_when_the_account_is_made_again(rig: Rig) -> None:  # T58
    before = validity(rig, "INBOX")
    rig.run(rig.store.delete_account(rig.ann.id))
    rig.time += 1
    rig.run(rig.store.create_account(rig.ann))
    assert validity(rig, "INBOX") > before


def test_rename_moves_inferiors_and_keeps_ids(rig: Rig) -> None:
    rig.create("a/b/c")
    rig.create("ab")
    rig.append(to="a/b")
    ids = {name: rig.ref(name) for name in ("a", "a/b", "a/b/c")}
    rig.run(rig.store.rename(rig.who, "a", "new/z"))
    assert {name.replace("new/z", "a"): rig.ref(name) for name in rig.names() if "z" in name} == ids
    assert "ab" in rig.names() and "new" in rig.names()
    rig.recount("new/z/b")


def test_rename_onto_a_name_with_a_past_gives_a_new_uidvalidity(rig: Rig) -> None:  # T12
    rig.create("fresh")
    rig.time += 10
    rig.create("old")
    past = validity(rig, "old")
    rig.run(rig.store.delete(rig.who, "old"))
    rig.run(rig.store.rename(rig.who, "fresh", "old"))
    assert validity(rig, "old") > past


def test_rename_onto_a_name_without_a_past_keeps_uidvalidity(rig: Rig) -> None:
    rig.create("a")
    rig.time += 10
    before = validity(rig, "a")
    rig.run(rig.store.rename(rig.who, "a", "b"))
    assert validity(rig, "b") == before


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("nothing", "x", ErrorKind.NONEXISTENT),
        ("a", "Sent", ErrorKind.ALREADY_EXISTS),
        ("a", "inbox", ErrorKind.ALREADY_EXISTS),
        ("a", "a", ErrorKind.ALREADY_EXISTS),
        ("a", "a/deeper", ErrorKind.CANNOT),
        ("a", "~x", ErrorKind.CANNOT),
        ("a", "x" * 999, ErrorKind.CANNOT),  # fits itself, but not its inferior
    ],
)
def test_a_rename_that_cannot_be_changes_nothing(
    rig: Rig, old: str, new: str, kind: ErrorKind
) -> None:
    rig.create("a/b")
    before = rig.names()
    refused(rig, kind, rig.store.rename(rig.who, old, new))
    assert rig.names() == before


def test_renaming_inbox_empties_it_into_the_new_mailbox(rig: Rig) -> None:
    """RFC 9051 §6.3.6: inferiors of INBOX stay."""
    rig.create("INBOX/sub")
    rig.append()
    rig.append()
    rig.run(rig.store.rename(rig.who, "INBOX", "2023"))
    assert rig.run(rig.store.status(rig.who, rig.ref("INBOX"))).messages == 0
    assert rig.run(rig.store.status(rig.who, rig.ref("2023"))).messages == 2
    assert "INBOX/sub" in rig.names() and "2023/sub" not in rig.names()
    rig.recount("INBOX")
    rig.recount("2023")
    assert rig.append().target == (Uid(3),)  # UIDs of INBOX go on


def test_subscriptions_outlive_mailboxes(rig: Rig) -> None:  # T23
    rig.run(rig.store.subscribe(rig.who, "never/there", True))
    rig.run(rig.store.delete(rig.who, "Sent"))
    rig.run(rig.store.rename(rig.who, "Junk", "Spam"))
    assert rig.run(rig.store.subscriptions(rig.who)) == [
        "Archive",
        "Drafts",
        "INBOX",
        "Junk",
        "Sent",
        "Trash",
        "never/there",
    ]
    assert not rig.run(rig.store.find(rig.who, "Spam")).subscribed
    rig.run(rig.store.subscribe(rig.who, "Junk", False))
    rig.run(rig.store.subscribe(rig.who, "Junk", False))  # twice does not fail
    assert "Junk" not in rig.run(rig.store.subscriptions(rig.who))


def test_a_new_mailbox_is_not_subscribed_unless_its_name_is(rig: Rig) -> None:
    assert not rig.run(rig.store.create(rig.who, "x")).subscribed
    rig.run(rig.store.subscribe(rig.who, "y", True))
    assert rig.run(rig.store.create(rig.who, "y")).subscribed


def test_numbers_of_mailboxes_and_subscriptions_are_limited(rig: Rig) -> None:
    rig.restart(mailboxes=8, subscriptions=8)
    rig.create("a/b")
    refused(rig, ErrorKind.LIMIT, rig.store.create(rig.who, "c"))
    rig.run(rig.store.subscribe(rig.who, "a", True))
    rig.run(rig.store.subscribe(rig.who, "b", True))
    refused(rig, ErrorKind.LIMIT, rig.store.subscribe(rig.who, "c", True))


def test_everything_is_there_after_a_restart(rig: Rig) -> None:
    rig.create("a/b")
    rig.append(to="a/b")
    ref = rig.ref("a/b")
    before = rig.run(rig.store.status(rig.who, ref))
    rig.restart()
    assert rig.ref("a/b") == ref
    assert rig.run(rig.store.status(rig.who, ref)) == before


def test_an_account_that_is_not_there(rig: Rig) -> None:
    nobody = rig.principal(account("nobody@example.org"))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.mailboxes(nobody))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.create(nobody, "x"))
    refused(rig, ErrorKind.NONEXISTENT, rig.store.delete_account(nobody.account))


def test_an_open_mailbox_learns_that_it_was_deleted(rig: Rig) -> None:
    rig.create("x")
    rig.append(to="x")
    image = rig.image("x")
    rig.run(rig.store.delete(rig.who, "x"))
    assert image.deleted
    assert rig.run(rig.store.fetch(rig.who, image, [Uid(1)], [])) == []
    refused(rig, ErrorKind.NONEXISTENT, rig.store.expunge(rig.who, image, None))
    rig.run(rig.store.refresh(image))
    rig.store.close(image)


def test_a_deleted_account_takes_its_open_mailboxes_with_it(rig: Rig) -> None:
    image = rig.image()
    rig.run(rig.store.delete_account(rig.ann.id))
    assert image.deleted
    rig.store.close(image)
    refused(rig, ErrorKind.NONEXISTENT, rig.store.find(rig.who, "INBOX"))


def test_quota_root_and_append_limit(rig: Rig) -> None:
    bob = rig.other("bob@example.org", storage_limit=5000, message_limit=7)
    who = rig.principal(bob)
    ref = rig.ref("INBOX", bob)
    expected = QuotaRoot("#account", 5000, 0, 7, 0)
    assert list(rig.run(rig.store.quota_roots(who, ref))) == [expected]
    assert rig.run(rig.store.append_limit(who, ref)) == rig.store.max_message_size
    rig.run(rig.store.set_quota(bob.id, None, 3))
    [root] = rig.run(rig.store.quota_roots(who, ref))
    assert (root.storage_limit, root.message_limit) == (None, 3)


def test_where_messages_are_to_go(rig: Rig) -> None:
    """`find` and `quota_roots` by one look (T25)."""
    bob = rig.other("bob@example.org", storage_limit=5000, message_limit=7)
    who = rig.principal(bob)
    info, roots = rig.run(rig.store.find_target(who, "inbox"))
    assert info == rig.run(rig.store.find(who, "INBOX"))
    assert list(roots) == [QuotaRoot("#account", 5000, 0, 7, 0)]
    refused(rig, ErrorKind.NONEXISTENT, rig.store.find_target(who, "nowhere"))
    rig.run(rig.store.create(who, "above/below"))
    rig.run(rig.store.delete(who, "above"))
    assert not rig.run(rig.store.find(who, "above")).selectable
    refused(rig, ErrorKind.NONEXISTENT, rig.store.find_target(who, "above"))


def test_messages_go_where_a_name_says(rig: Rig) -> None:
    """`find` and `append` by one look: what is refused leaves nothing (T25, T49)."""
    bob = rig.other("bob@example.org", message_limit=2)
    who = rig.principal(bob)
    item = (rig.spool(), Flags(System.SEEN, ("$Work",)), InternalDate(5))
    info, copied = rig.run(rig.store.append_to(who, "inbox", [item, item]))
    assert info == rig.run(rig.store.find(who, "INBOX"))
    assert list(copied.target) == [1, 2]
    status = rig.run(rig.store.status(who, info.ref))
    assert (status.messages, status.unseen, status.uid_next) == (2, 0, 3)
    refused(rig, ErrorKind.OVER_QUOTA, rig.store.append_to(who, "INBOX", [item]))
    rig.run(rig.store.create(who, "above/below"))
    rig.run(rig.store.delete(who, "above"))
    for name in ("nowhere", "above"):
        refused(rig, ErrorKind.NONEXISTENT, rig.store.append_to(who, name, [item]))
    refused(rig, ErrorKind.CANNOT, rig.store.append_to(who, "a//b", [item]))
    assert rig.run(rig.store.status(who, info.ref)) == status
