"""Quotas: enforced where mail comes in, never passed, always equal to a recount."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Recipient
from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.model.numset import NumSet
from tests.contract.rig import MAIL, Rig


def test_both_limits_hold(rig: Rig) -> None:  # T49
    rig.run(rig.store.set_quota(rig.ann.id, 2 * len(MAIL), None))
    rig.append(MAIL, MAIL)
    for attempt in (rig.append, rig.deliver):
        with pytest.raises(MailError) as raised:
            attempt()
        assert raised.value.kind is ErrorKind.OVER_QUOTA
    rig.run(rig.store.set_quota(rig.ann.id, None, 3))
    rig.append()
    with pytest.raises(MailError) as raised:
        rig.deliver()
    assert raised.value.kind is ErrorKind.OVER_QUOTA
    rig.run(rig.store.set_quota(rig.ann.id, None, None))
    rig.deliver()


def test_recipients_hear_before_the_data(rig: Rig) -> None:
    recipient = Recipient("a@b", rig.ann)
    rig.run(rig.store.set_quota(rig.ann.id, 1000, 1))
    rig.run(rig.store.check_deliverable(recipient, 1000))
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.check_deliverable(recipient, 1001))
    assert raised.value.kind is ErrorKind.OVER_QUOTA
    rig.append()
    with pytest.raises(MailError):
        rig.run(rig.store.check_deliverable(recipient, 0))


def test_what_was_removed_can_be_used_again(rig: Rig) -> None:
    rig.run(rig.store.set_quota(rig.ann.id, None, 1))
    rig.append()
    image = rig.image()
    rig.expunge(image, 1)
    rig.append()


def test_a_limit_below_the_use_loses_nothing(rig: Rig) -> None:
    rig.append(MAIL, MAIL)
    rig.run(rig.store.set_quota(rig.ann.id, 1, 1))
    assert rig.used() == (2 * len(MAIL), 2)
    image = rig.image()
    rig.flag(image, (1,), "\\Seen")  # everything but bringing mail goes on
    rig.run(rig.store.move(rig.who, image, NumSet.of([1]), rig.ref("Archive")))
    nothing = rig.run(rig.store.copy(rig.who, image, NumSet.of([99]), rig.ref("Archive")))
    assert nothing.target == ()


def test_sixty_four_at_once_never_pass_the_limit(rig: Rig) -> None:  # R12
    rig.append(MAIL, to="Archive")
    rig.run(rig.store.set_quota(rig.ann.id, 21 * len(MAIL), None))
    inbox, archive = rig.ref(), rig.image("Archive")
    message = rig.spool()
    recipient = Recipient("ann", rig.ann)
    calls: list[Awaitable[Any]] = []
    for n in range(64):
        if n % 3 == 0:
            item = (message, Flags(), InternalDate(0))
            calls.append(rig.store.append(rig.who, inbox, [item]))
        elif n % 3 == 1:
            calls.append(rig.store.deliver(recipient, message, b""))
        else:
            calls.append(rig.store.copy(rig.who, archive, NumSet.of([1]), inbox))
    results = rig.loop.run_all(*calls)
    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) == 64 - 20
    assert {type(error) for error in failed} == {MailError}
    assert {error.kind for error in failed if isinstance(error, MailError)} == {
        ErrorKind.OVER_QUOTA
    }
    assert rig.used() == (21 * len(MAIL), 21)
    rig.recount()
    rig.recount("Archive")
