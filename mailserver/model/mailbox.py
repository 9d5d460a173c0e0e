"""Mailboxes as values: what LIST, STATUS and SELECT need of them."""

from __future__ import annotations

import attrs

from mailserver.model.acl import ALL_RIGHTS, Rights
from mailserver.model.ids import MailboxRef, ModSeq, Uid
from mailserver.model.names import SpecialUse


@attrs.frozen
class MailboxInfo:
    """A mailbox as a principal may see it.

    Attributes:
        ref: which one.
        name: its canonical name as this principal reaches it.
        rights: what this principal may do.
        special_use: at most one use; never shown for a foreign mailbox.
        subscribed: the principal has subscribed to this name.
        selectable: False for a level of hierarchy without messages of its own.
    """

    ref: MailboxRef
    name: str
    rights: Rights = ALL_RIGHTS
    special_use: SpecialUse | None = None
    subscribed: bool = False
    selectable: bool = True


@attrs.frozen
class MailboxStatus:
    """The counters of a mailbox, kept up to date by the store (RFC 9051 §6.3.11).

    Attributes:
        messages, unseen, deleted: numbers of messages; `unseen` is as the asking
            principal sees it.
        recent: messages that no session has been told of as recent (T9).
        size, deleted_size: octets (RFC 8438 §3; RFC 9051 §6.3.11 DELETED-STORAGE).
        uid_next, uid_validity, highest_mod_sequence: as in SELECT.
    """

    messages: int
    recent: int
    unseen: int
    deleted: int
    size: int
    deleted_size: int
    uid_next: Uid
    uid_validity: int
    highest_mod_sequence: ModSeq
