"""The one gate: who may reach which mailbox of another account (S9, T39)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account
from mailserver.model.acl import VISIBLE_RIGHTS, Right, parse_rights
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.ids import MailboxId, MailboxRef, Uid
from mailserver.model.message import Column, InternalDate
from mailserver.model.numset import NumSet
from tests.contract.rig import MAIL, Rig, flags_of
from tests.contract.test_messages import LARGE

ONE = NumSet.of([1])
NOW = InternalDate(0)


def grant(rig: Rig, name: str, identifier: str, rights: str) -> None:
    """Write an ACL row of ann's; commands for it come with the ACL extension."""
    ref = rig.ref(name)
    rig.run(
        rig.store._engine.write(
            ref.account,
            lambda t: t.connection.run(
                "INSERT INTO acl SELECT number, ?, ? FROM mailbox WHERE id = ?",
                (identifier, rights, ref.mailbox),
            ),
        )
    )


class Guest:
    """Bob, with ann's INBOX of one message; ann has it open."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.bob: Account = rig.other("bob@example.org")
        self.who = rig.principal(self.bob)
        rig.append(MAIL)
        self.image = rig.image()
        self.ref = self.image.ref
        self.own = rig.ref("INBOX", self.bob)

    def calls(self, ref: MailboxRef) -> dict[str, tuple[str, Callable[[], Any]]]:
        """Operation → rights that it needs, and how it is called."""
        store, image = self.rig.store, self.image
        message = self.rig.spool()
        return {
            "status": ("r", lambda: store.status(self.who, ref)),
            "open": ("r", lambda: store.open(self.who, ref)),
            "append": ("i", lambda: store.append(self.who, ref, [(message, Flags(), NOW)])),
            "fetch": ("r", lambda: store.fetch(self.who, image, [Uid(1)], [Column.SIZE])),
            "content": ("r", lambda: store.content(self.who, image, Uid(1))),
            "expunge": ("e", lambda: store.expunge(self.who, image, None)),
            "copy": ("r", lambda: store.copy(self.who, image, ONE, self.own)),
            "move": ("rte", lambda: store.move(self.who, image, ONE, self.own)),
        }


OPERATIONS = ("status", "open", "append", "fetch", "content", "expunge", "copy", "move")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_needs_its_rights(rig: Rig, operation: str) -> None:
    guest = Guest(rig)
    needs, call = guest.calls(guest.ref)[operation]
    every = {right.value for right in Right}
    held = sorted(every - set(needs))
    grant(rig, "INBOX", "bob@example.org", "".join(held))
    with pytest.raises(MailError) as raised:
        rig.run(call())
    assert raised.value.kind is ErrorKind.NO_PERMISSION
    # with exactly what it needs (and `l`, so that it is not hidden) it works
    grant(rig, "INBOX", "anyone", needs)
    rig.run(call())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_invisible_answers_as_the_nonexistent(rig: Rig, operation: str) -> None:  # T39
    guest = Guest(rig)
    hidden = "".join(right.value for right in Right if right not in VISIBLE_RIGHTS)
    grant(rig, "INBOX", "bob@example.org", hidden)
    nowhere = MailboxRef(rig.ann.id, MailboxId("none"))
    _, call = guest.calls(guest.ref)[operation]
    with pytest.raises(MailError) as invisible:
        rig.run(call())
    with pytest.raises(MailError) as nonexistent:
        rig.run(rig.store.status(guest.who, nowhere))
    for said in (invisible.value, nonexistent.value):
        assert (said.kind, said.text, said.subject) == (
            ErrorKind.NONEXISTENT,
            "no such mailbox",
            None,
        )


def test_a_negative_row_takes_rights_away(rig: Rig) -> None:
    """RFC 4314 §2."""
    guest = Guest(rig)
    grant(rig, "INBOX", "anyone", "lr")
    rig.run(rig.store.status(guest.who, guest.ref))
    grant(rig, "INBOX", "-bob@example.org", "r")
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.status(guest.who, guest.ref))
    assert raised.value.kind is ErrorKind.NO_PERMISSION


def test_revocation_acts_at_once(rig: Rig) -> None:  # S9
    guest = Guest(rig)
    grant(rig, "INBOX", "bob@example.org", "lr")
    image = rig.run(rig.store.open(guest.who, guest.ref))
    assert rig.run(rig.store.fetch(guest.who, image, [Uid(1)], [])) == [(1,)]
    grant(rig, "INBOX", "-anyone", "lr")
    with pytest.raises(MailError):
        rig.run(rig.store.fetch(guest.who, image, [Uid(1)], []))


@pytest.mark.parametrize(
    ("rights", "changed"),
    [
        ("lrs", ["\\Seen"]),
        ("lrt", ["\\Deleted"]),
        ("lrw", ["\\Flagged", "word"]),
        ("lrst", ["\\Deleted", "\\Seen"]),
        ("lrswt", ["\\Flagged", "\\Deleted", "\\Seen", "word"]),
    ],
)
def test_only_permitted_flags_change(rig: Rig, rights: str, changed: list[str]) -> None:
    """RFC 4314 §4."""
    guest = Guest(rig)
    grant(rig, "INBOX", "bob@example.org", rights + "i")
    names = ("\\Seen", "\\Deleted", "\\Flagged", "word")
    rig.run(rig.store.store_flags(guest.who, guest.image, ONE, FlagOp.ADD, Flags.of(*names)))
    assert flags_of(guest.image)[1] == changed
    # replacing leaves what is not permitted as it was
    rig.flag(guest.image, (1,), *names, op=FlagOp.REPLACE)
    rig.run(rig.store.store_flags(guest.who, guest.image, ONE, FlagOp.REPLACE, Flags()))
    assert set(flags_of(guest.image)[1]) == set(names) - set(changed)
    # and APPEND sets only what is permitted
    item = (rig.spool(), Flags.of(*names), NOW)
    rig.run(rig.store.append(guest.who, guest.ref, [item]))
    assert flags_of(guest.image)[2] == changed
    rig.recount()


def test_flags_without_any_right_to_them(rig: Rig) -> None:
    guest = Guest(rig)
    grant(rig, "INBOX", "bob@example.org", "lrs")
    for op in (FlagOp.ADD, FlagOp.REMOVE):
        with pytest.raises(MailError) as raised:
            rig.run(rig.store.store_flags(guest.who, guest.image, ONE, op, Flags.of("\\Flagged")))
        assert raised.value.kind is ErrorKind.NO_PERMISSION


def test_mail_is_copied_and_moved_between_accounts(rig: Rig) -> None:
    guest = Guest(rig)
    rig.append((LARGE, Flags.of("\\Seen", "k")), date=InternalDate(77, 60))
    grant(rig, "INBOX", "bob@example.org", "lrte")
    both = NumSet(((1, 2),))
    copied = rig.run(rig.store.copy(guest.who, guest.image, both, guest.own))
    assert (copied.source, copied.target) == ((1, 2), (1, 2))
    moved = rig.run(rig.store.move(guest.who, guest.image, both, guest.own))
    assert (moved.source, moved.target) == ((1, 2), (3, 4))
    assert list(guest.image.uids) == []
    assert moved.source_mod_sequence == guest.image.mod_sequence
    rig.recount()
    assert rig.used() == (0, 0)
    assert rig.used(guest.bob) == (2 * len(MAIL) + 2 * len(LARGE), 4)
    theirs = rig.run(rig.store.open(guest.who, guest.own))
    assert flags_of(theirs)[4] == ["\\Seen", "k"]
    content = rig.run(rig.store.content(guest.who, theirs, Uid(4)))
    assert content is not None and content.read(0, 10**6) == LARGE
    content.close()
    rig.run(rig.store.delete_account(rig.ann.id))
    content = rig.run(rig.store.content(guest.who, theirs, Uid(2)))
    assert content is not None and content.read(0, 10**6) == LARGE
    content.close()


def test_rights_letters_of_the_table_are_real() -> None:
    assert all(parse_rights(needs) for needs in ("r", "i", "e", "rte"))


def test_a_copy_from_another_account_can_be_sent_from_its_file_too(rig: Rig) -> None:  # T31
    guest = Guest(rig)
    rig.append(LARGE, LARGE[:-1] + b"\0")
    grant(rig, "INBOX", "bob@example.org", "lr")
    rig.run(rig.store.copy(guest.who, guest.image, NumSet.of([1, 2, 3]), guest.own))
    image = rig.run(rig.store.open(guest.who, guest.own))
    in_file = []
    for uid in (1, 2, 3):
        content = rig.run(rig.store.content(guest.who, image, Uid(uid)))
        assert content is not None
        in_file.append(content.in_file(0, content.size) is not None)
        content.close()
    assert in_file == [False, True, False]
