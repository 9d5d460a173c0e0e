"""What happened: changes of one mailbox, and the hints that announce them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from mailserver.model.ids import MailboxRef, ModSeq, Uid


class EventKind(Enum):
    """Kinds of events, by SUN-55's names."""

    NEW_MSG = "NewMsg"  # delivered
    UPDATE_MSG = "UpdateMsg"  # appended or copied
    READ_MSG = "ReadMsg"
    TRASH_MSG = "TrashMsg"
    DELETE_MSG = "DeleteMsg"
    PURGE_MSG = "PurgeMsg"
    MSG_FLAGS = "MsgFlags"
    OVER_QUOTA = "OverQuota"
    UNDER_QUOTA = "UnderQuota"
    MAILBOXES = "Mailboxes"  # created, deleted, renamed, subscribed, rights changed


@attrs.frozen
class Event:
    """A hint that a mailbox has changed, published after the commit.

    A doubled one is harmless, a lost one only late: whoever gets it reads again.

    Attributes:
        ref: the mailbox.
        mod_sequence: its highest mod-sequence after the change; 0 if it is not known,
            because events may have been lost: look again.
        kind: what mainly happened, for listeners that filter.
    """

    ref: MailboxRef
    mod_sequence: ModSeq
    kind: EventKind


@attrs.frozen
class Changes:
    """What a mailbox went through after some mod-sequence.

    Attributes:
        mod_sequence: the mailbox's highest one; ask again with it.
        flagged: UIDs, ascending, whose flags changed, of messages that are still there
            and were there before; new messages are not among them.
        expunged: UIDs, ascending, that are gone.
        complete: False if tombstones older than the question were pruned; then
            `expunged` must be found by comparing UIDs.
    """

    mod_sequence: ModSeq
    flagged: Sequence[Uid]
    expunged: Sequence[Uid]
    complete: bool = True


@attrs.frozen
class Copied:
    """Result of COPY, MOVE and APPEND for the UIDPLUS codes (RFC 4315 §3).

    Attributes:
        uid_validity: of the target mailbox.
        source: UIDs copied, ascending; empty for APPEND.
        target: the UIDs given, in the same order.
        mod_sequence: highest mod-sequence of the target afterwards.
        source_mod_sequence: highest mod-sequence of the source afterwards (MOVE), else 0.
    """

    uid_validity: int
    source: tuple[Uid, ...]
    target: tuple[Uid, ...]
    mod_sequence: ModSeq
    source_mod_sequence: ModSeq = ModSeq(0)


@attrs.frozen
class FlagsStored:
    """Result of STORE.

    Attributes:
        mod_sequence: that the changed messages now have; unchanged ones keep theirs.
        changed: UIDs, ascending, whose flags are now different from before.
        refused: UIDs not touched because of `unchanged_since` (RFC 7162 §3.1.3 MODIFIED).
    """

    mod_sequence: ModSeq
    changed: tuple[Uid, ...]
    refused: tuple[Uid, ...] = ()
