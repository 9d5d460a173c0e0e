"""SEARCH and UID SEARCH (RFC 3501 §6.4.4, RFC 4731)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mailserver.server.imap.items.search import resolve_key, search_result
from mailserver.server.imap.registry import SELECTED, CommandSpec
from mailserver.server.imap.session import Session
from mailserver.wire.imap.commands import Search
from mailserver.wire.imap.grammar.search import parse_search


async def search(session: Session, command: Search) -> None:
    """Find messages among those that the client knows."""
    view = session.selected
    key = resolve_key(command.key, view)
    found = await session.store.search(session.who, view.image, key)
    numbers: Sequence[int]
    if command.by_uid:
        numbers = found[: bisect_right(found, view.largest_uid)]
    else:
        numbers = view.numbers_of(found)
    session.respond(search_result(numbers, command.returns, tag=session.tag, by_uid=command.by_uid))


SPECS = (
    CommandSpec(b"SEARCH", parse_search, search, SELECTED, uses_seqs=True, breaks_seqs=False),
    CommandSpec(b"UID SEARCH", parse_search, search, SELECTED, uses_seqs=True),
)
PROVIDES = (b"ESEARCH",)
