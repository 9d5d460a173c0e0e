"""Search programmes can be rewritten leaf by leaf."""

from __future__ import annotations

from mailserver.model.flags import System
from mailserver.model.numset import NumSet, SequenceSet
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
    rewrite,
)


def test_every_leaf_is_replaced_and_nothing_else() -> None:
    def leaf(key: SearchKey) -> SearchKey:
        match key:
            case IsRecent():
                return Uids(NumSet.of([9]))
            case Sequence(numbers):
                return Uids(numbers.resolve(5))
        return key

    seen = HasFlag(System.SEEN)
    before = And((IsRecent(), Or(Not(Sequence(SequenceSet(((3, 0),)))), seen), Not(Not(All()))))
    after = And((Uids(NumSet.of([9])), Or(Not(Uids(NumSet.of([3, 4, 5]))), seen), Not(Not(All()))))
    assert rewrite(before, leaf) == after
