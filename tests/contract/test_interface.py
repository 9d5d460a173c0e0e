"""What the store hands out keeps to the interfaces."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent, IMailboxImage, IMailStore, ISpool, ISpooled
from mailserver.model.flags import Flags
from mailserver.model.ids import Uid
from mailserver.model.message import InternalDate
from tests.contract.rig import Rig
from tests.contract.test_messages import LARGE


def test_objects_have_what_their_interfaces_say(rig: Rig) -> None:
    verifyObject(IMailStore, rig.store)
    verifyObject(ISpool, rig.store.spool())
    verifyObject(ISpooled, rig.spool())
    rig.append()
    rig.append(LARGE)
    image = rig.image()
    verifyObject(IMailboxImage, image)
    for uid in (1, 2):
        content = rig.run(rig.store.content(rig.who, image, Uid(uid)))
        assert content is not None
        verifyObject(IContent, content)
        content.close()


def test_a_discarded_message_cannot_be_stored(rig: Rig) -> None:
    spool = rig.store.spool()
    spool.write(LARGE)
    spool.discard()
    spool.discard()
    spool.write(b"more")
    with pytest.raises(MailError):
        rig.run(spool.finish())
    message = rig.spool(LARGE)
    message.discard()
    message.discard()
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.append(rig.who, rig.ref(), [(message, Flags(), InternalDate(0))]))
    assert raised.value.kind is ErrorKind.INVALID
    assert rig.used() == (0, 0)
    assert not list((rig.data / "spool").iterdir())


def test_a_stopped_store_refuses(rig: Rig) -> None:
    ref = rig.ref()
    message = rig.spool()
    rig.run(rig.store.stop())
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.append(rig.who, ref, [(message, Flags(), InternalDate(0))]))
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.mailboxes(rig.who))
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    rig.run(rig.store.stop())


def test_what_was_asked_before_the_stop_is_done(rig: Rig) -> None:  # R18
    ref = rig.ref()
    message = rig.spool()
    calls = [
        rig.store.append(rig.who, ref, [(message, Flags(), InternalDate(0))]) for _ in range(20)
    ]
    results = rig.loop.run_all(*calls, rig.store.stop())
    assert [result.target for result in results[:-1]] == [(n,) for n in range(1, 21)]
    rig.open()
    assert rig.run(rig.store.status(rig.who, ref)).messages == 20
