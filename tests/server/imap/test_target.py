"""What COPY, MOVE and APPEND tell of their target."""

from __future__ import annotations

import attrs

from mailserver.model.acl import ALL_RIGHTS, Right
from mailserver.model.changes import Copied
from mailserver.model.ids import AccountId, MailboxId, MailboxRef, ModSeq, Uid
from mailserver.model.mailbox import MailboxInfo
from mailserver.model.numset import SequenceSet
from mailserver.server.imap.target import append_uid, copy_uid
from mailserver.wire.imap.responses import AppendUid, CopyUid

TARGET = MailboxInfo(MailboxRef(AccountId("a" * 26), MailboxId("m")), "Archive")
COPIED = Copied(9, (Uid(3), Uid(4), Uid(7)), (Uid(10), Uid(11), Uid(12)), ModSeq(5))


def test_codes() -> None:
    """RFC 4315 §3: the n-th of one set is the n-th of the other."""
    source, target = SequenceSet(((3, 4), (7, 7))), SequenceSet(((10, 12),))
    assert copy_uid(TARGET, COPIED) == CopyUid(9, source, target)
    assert append_uid(TARGET, COPIED) == AppendUid(9, target)


def test_a_mailbox_that_may_not_be_read_is_not_told_about() -> None:
    """RFC 4315 §3: no UIDs of a mailbox that the client can only put mail into."""
    closed = attrs.evolve(TARGET, rights=ALL_RIGHTS - {Right.READ})
    assert copy_uid(closed, COPIED) is None
    assert append_uid(closed, COPIED) is None


def test_nothing_copied_is_no_code() -> None:
    assert copy_uid(TARGET, Copied(9, (), (), ModSeq(5))) is None
