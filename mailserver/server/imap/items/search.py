"""SEARCH: what only a session can say in a programme, and what can be asked of its result.

The programme goes to the store, which knows neither sequence numbers nor `\\Recent`
(RFC 3501 §6.4.4); the result comes back as UIDs and leaves as the client asked for it
(RFC 4731 §3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mailserver.model.numset import NumSet, SequenceSet
from mailserver.model.search import IsRecent, SearchKey, Uids, UidSequence, rewrite
from mailserver.model.search import Sequence as Numbers
from mailserver.server.imap.view import View
from mailserver.wire.imap.commands import SearchReturn
from mailserver.wire.imap.responses import ExtendedSearchResult, SearchResult


def resolve_key(key: SearchKey, view: View) -> SearchKey:
    r"""Turn sequence numbers, written UIDs and `\Recent` into `Uids`.

    Raises:
        NoSuchNumber: a sequence number above the number of messages (T14).
    """

    def leaf(key: SearchKey) -> SearchKey:
        match key:
            case Numbers(numbers):
                return Uids(view.resolve(numbers, by_uid=False))
            case UidSequence(uids):
                return Uids(view.resolve(uids, by_uid=True))
            case IsRecent():
                return Uids(view.recent)
        return key

    return rewrite(key, leaf)


RETURNS: Mapping[SearchReturn, tuple[str, Callable[[Sequence[int]], Any]]] = {
    SearchReturn.MIN: ("min", lambda numbers: numbers[0] if numbers else None),
    SearchReturn.MAX: ("max", lambda numbers: numbers[-1] if numbers else None),
    SearchReturn.COUNT: ("count", len),
    SearchReturn.ALL: (
        "all",
        lambda numbers: SequenceSet(NumSet.of(numbers).ranges) if numbers else None,
    ),
}
"""Result option → member of `ExtendedSearchResult` and how it is had from the numbers
found, ascending. What finds nothing is left out, COUNT never is (RFC 4731 §3.1)."""


def search_result(
    numbers: Sequence[int],
    returns: frozenset[SearchReturn] | None,
    *,
    tag: bytes,
    by_uid: bool,
) -> SearchResult | ExtendedSearchResult:
    """Make the response: `SEARCH`, or `ESEARCH` where RETURN was given (T33, T37).

    Args:
        numbers: sequence numbers, or UIDs with `by_uid`; ascending.
        returns: result options; None if there was no RETURN.
    """
    if returns is None:
        return SearchResult(tuple(numbers))
    asked = {RETURNS[option][0]: RETURNS[option][1](numbers) for option in returns}
    return ExtendedSearchResult(tag, by_uid, **asked)
