"""Programmes of SEARCH as the store gets them, and results as clients get them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailserver.model.flags import System
from mailserver.model.numset import STAR, NumSet, SequenceSet
from mailserver.model.search import (
    All,
    And,
    HasFlag,
    IsRecent,
    Not,
    Or,
    SearchKey,
    Sequence,
    Uids,
    UidSequence,
)
from mailserver.server.imap.items.search import RETURNS, resolve_key, search_result
from mailserver.server.imap.view import NoSuchNumber, View
from mailserver.wire.imap.commands import SearchReturn
from mailserver.wire.imap.responses import ExtendedSearchResult, SearchResult
from mailserver.wire.imap.writer import write
from tests.server.rig import MAIL, rig


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """Of four messages with the UIDs 2, 4, 5 and 8, of which 5 and 8 are recent."""
    with rig(tmp_path_factory.mktemp("search")) as server:
        for _ in range(8):
            server.append(MAIL)
        first = server.client(mailbox="INBOX")
        first.command("STORE 1,3,6,7 +FLAGS.SILENT (\\Deleted)")
        first.command("EXPUNGE")
        session = first.connection.session
        assert session.view is not None
        session.view.recent = NumSet.of((5, 8))
        yield session.view


def uids(*numbers: int) -> Uids:
    return Uids(NumSet.of(numbers))


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        (All(), All()),
        (HasFlag(System.SEEN), HasFlag(System.SEEN)),
        (IsRecent(), uids(5, 8)),
        (Sequence(SequenceSet(((1, 1), (3, 3)))), uids(2, 5)),
        (Sequence(SequenceSet(((STAR, 2),))), Uids(NumSet(((4, 8),)))),
        (UidSequence(SequenceSet(((5, 5), (70, STAR)))), Uids(NumSet(((5, 5), (8, 8))))),
        (UidSequence(SequenceSet(((90, 99),))), Uids(NumSet())),
        (
            Or(Not(IsRecent()), And((Sequence(SequenceSet(((4, 4),))), All()))),
            Or(Not(uids(5, 8)), And((uids(8), All()))),
        ),
    ],
    ids=str,
)
def test_what_only_the_session_knows(view: View, written: SearchKey, resolved: SearchKey) -> None:
    """T33: bare numbers are sequence numbers; T13: `n:*` holds the last message."""
    assert resolve_key(written, view) == resolved


def test_a_sequence_number_that_does_not_exist(view: View) -> None:
    """T14."""
    with pytest.raises(NoSuchNumber):
        resolve_key(Not(Sequence(SequenceSet(((5, 5),)))), view)


def test_a_plain_search_is_answered_plainly() -> None:
    """T33, T37: SEARCH without RETURN, also for nothing."""
    assert search_result([1, 4], None, tag=b"a", by_uid=True) == SearchResult((1, 4))
    assert write(search_result([], None, tag=b"a", by_uid=False)) == b"* SEARCH\r\n"


@pytest.mark.parametrize(
    ("returns", "found", "written"),
    [
        ("MIN", [3, 4, 9], b" MIN 3"),
        ("MAX", [3, 4, 9], b" MAX 9"),
        ("ALL", [3, 4, 9], b" ALL 3:4,9"),
        ("COUNT", [3, 4, 9], b" COUNT 3"),
        ("MIN MAX COUNT ALL", [7], b" MIN 7 MAX 7 COUNT 1 ALL 7"),
        ("MIN MAX ALL", [], b""),
        ("MIN COUNT", [], b" COUNT 0"),
    ],
)
def test_result_options(returns: str, found: list[int], written: bytes) -> None:
    """RFC 4731 §3.1: what finds nothing is left out, COUNT is not."""
    asked = frozenset(SearchReturn[name] for name in returns.split())
    answer = search_result(found, asked, tag=b"A282", by_uid=True)
    assert isinstance(answer, ExtendedSearchResult)
    assert write(answer) == b'* ESEARCH (TAG "A282") UID%b\r\n' % written


def test_every_result_option_has_a_row() -> None:
    assert set(RETURNS) == set(SearchReturn)
