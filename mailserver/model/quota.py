"""Quota roots: what may be used and what is used (RFC 9208)."""

from __future__ import annotations

import attrs


@attrs.frozen
class QuotaRoot:
    """One quota root with its limits and its use.

    Attributes:
        name: the root's name, for instance `#account` (CGP-11).
        storage_limit: octets, or None for no limit. IMAP counts units of 1024 (T49).
        storage_used: octets, the sum of the message sizes.
        message_limit: number of messages, or None for no limit.
        message_used: number of messages.
    """

    name: str
    storage_limit: int | None
    storage_used: int
    message_limit: int | None
    message_used: int
