"""Names for the numbers and opaque ids that go through every layer.

`NewType`s cost nothing at run time and keep a UID from standing where a sequence
number is meant.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

import attrs

AccountId = NewType("AccountId", str)
"""Opaque id of an account, [0-9a-z]{26}; also the name of its directory on disk (S8)."""

MailboxId = NewType("MailboxId", str)
"""Opaque id of a mailbox, [A-Za-z0-9_-]{1,255}, unique within the installation and
kept through RENAME (RFC 8474 §4)."""

EmailId = NewType("EmailId", int)
"""Row number of a message's octets within its account; equal octets that were copied or
moved share it (RFC 8474 §5.1). Positive."""

ThreadId = NewType("ThreadId", int)
"""Number of a conversation within its account (RFC 8474 §5.2). Positive."""

Uid = NewType("Uid", int)
"""Unique identifier of a message in a mailbox: 1 .. 2^32-1, ascending (RFC 9051 §2.3.1.1)."""

SeqNum = NewType("SeqNum", int)
"""Message sequence number of one session: 1-based, no gaps (RFC 9051 §2.3.1.2)."""

ModSeq = NewType("ModSeq", int)
"""Mod-sequence: 1 .. 2^63-1, raised by every change of a mailbox (RFC 7162 §3.1)."""

MAX_UID = 2**32 - 1
MAX_MODSEQ = 2**63 - 1


class MailboxRef(NamedTuple):
    """Which mailbox: an account and an id within it. Survives RENAME.

    A tuple, since it is looked up ten times for each SELECT: its hash is C's.
    """

    account: AccountId
    mailbox: MailboxId


@attrs.frozen
class Principal:
    """Who acts: the account that commands run as, and who logged in for it.

    Attributes:
        account: id of the account that the session works as (the authorization identity).
        name: its canonical name, `local@domain`.
        authenticated: canonical name of who gave the password; differs from `name` only
            for store administrators (SUN-14).
        is_store_admin: holds the store-admin right (`store.admins`).
    """

    account: AccountId
    name: str
    authenticated: str
    is_store_admin: bool = False
