"""Quota roots: what may be used and what is used (RFC 9208)."""

from __future__ import annotations

import attrs

from mailserver.errors import ErrorKind, MailError


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

    def check_room(self, octets: int, messages: int) -> None:
        """Refuse what does not fit.

        Args:
            octets, messages: what would come in all together.

        Raises:
            MailError: OVER_QUOTA.
        """
        if self.storage_limit is not None and self.storage_used + octets > self.storage_limit:
            raise MailError(
                ErrorKind.OVER_QUOTA,
                f"the quota of {self.storage_limit // 1024} KiB would be exceeded",
                subject=self.name,
            )
        if self.message_limit is not None and self.message_used + messages > self.message_limit:
            raise MailError(
                ErrorKind.OVER_QUOTA,
                f"the quota of {self.message_limit} messages would be exceeded",
                subject=self.name,
            )
