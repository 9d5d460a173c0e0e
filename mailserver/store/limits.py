"""Limits of the store; each is an option of the configuration."""

from __future__ import annotations

import attrs

KEPT_INLINE = 64 * 1024
"""Octets up to which a message lies in the account's database; larger ones lie in files."""

MAX_SLICE = 2000
"""Rows that one statement on the reactor may read."""


@attrs.frozen
class StoreLimits:
    """What one account may take, so that no one can make the store slow for others.

    Attributes:
        max_message_size: octets of one message.
        mailboxes: mailboxes of an account.
        subscriptions: subscribed names of an account.
        keywords: different keywords ever used in one mailbox.
        tombstones: ranges of expunged UIDs remembered per mailbox; a client that resumes
            from before the oldest is told of every missing UID instead.
        messages_per_append: messages of one APPEND (MULTIAPPEND).
        reserve: octets kept back on the disk, so that mail can be removed when it is full;
            should be more than the log of one account, some 4 MiB. 0 for none.
    """

    max_message_size: int = 64 * 1024 * 1024
    mailboxes: int = 10_000
    subscriptions: int = 20_000
    keywords: int = 2_000
    tombstones: int = 10_000
    messages_per_append: int = 1_000
    reserve: int = 8 * 1024 * 1024
