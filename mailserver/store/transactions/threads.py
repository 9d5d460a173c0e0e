"""Which conversation a message belongs to, decided once when it comes in.

A conversation is never changed afterwards (RFC 8474 §5.2), so two that a later message
shows to be one stay two.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b

from mailserver.store.engine import Connection
from mailserver.store.sql import messages as sql

MAX_ANCESTORS = 40
"""References that are looked at: the oldest one and the nearest."""


def _digest(message_id: str) -> int:
    """A positive 63-bit number for a Message-ID."""
    octets = message_id.encode("utf-8", "replace")
    return int.from_bytes(blake2b(octets, digest_size=8).digest(), "big") >> 1 or 1


def join_thread(connection: Connection, message_id: str, ancestors: tuple[str, ...]) -> int:
    """Find the conversation of a message that comes in, or begin one.

    The message's own id comes first: a reply may have been here before it. A new
    conversation gets the number of its oldest known ancestor, so that two replies find
    each other even when what they reply to never came.

    Args:
        message_id: its own, or the empty text.
        ancestors: Message-IDs, oldest first.
    """
    if len(ancestors) > MAX_ANCESTORS:
        ancestors = (ancestors[0], *ancestors[1 - MAX_ANCESTORS :])
    ids = [word for word in (message_id, *reversed(ancestors)) if word]
    digests = list(dict.fromkeys(map(_digest, ids)))
    if len(digests) == 1 and connection.run(sql.JOIN_THREAD, (digests[0], digests[0])):
        return digests[0]  # as most begin one: found out by one statement
    for digest in digests:
        if found := connection.row(sql.THREAD_OF, (digest,)):
            number: int = found[0]
            break
    else:
        number = digests[-1] if digests else _digest(secrets.token_hex(16))
    if len(digests) > 1:
        connection.run_many(sql.JOIN_THREAD, [(digest, number) for digest in digests])
    return number
