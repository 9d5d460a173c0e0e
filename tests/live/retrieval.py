"""What every program has to get right that fetches mail again and again, and removes it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest

from tests.live.mails import check_same, fill, kept
from tests.live.server import Server
from tests.live.test_imaplib import deliver

ONE_MORE = b"Subject: one more\r\n\r\nHello\r\n"


def services(always: Collection[str]) -> list[Any]:
    """IMAP and POP3, each on both ports; those that are not named here only with `--long`."""
    return [
        pytest.param(name, marks=() if name in always else pytest.mark.long)
        for name in ("imap", "imaps", "pop3", "pop3s")
    ]


def check_retrieval(
    server: Server,
    account: tuple[str, str],
    sent: list[bytes],
    *,
    fetch: Callable[[], list[bytes]],
    remove: Callable[[int], object],
    expected: Callable[[bytes], bytes],
) -> None:
    """All mail is fetched once, octet for octet, and the half of it that is then removed is
    all that goes (T42, T43, T44).

    Args:
        sent: to be put into the account, and fetched.
        fetch: fetches what is new and leaves it on the server; gives it.
        remove: removes so many of the oldest messages; 0 for all.
        expected: what a message becomes on its way.
    """
    fill(server, account, sent)
    before = kept(server, account)
    check_same(fetch(), map(expected, sent))
    assert fetch() == []
    deliver(server, account[0], octets=ONE_MORE)
    (one,) = fetch()
    assert one.endswith(expected(ONE_MORE))
    half = len(sent) // 2
    remove(half)
    left = list(before)[half:]
    after = kept(server, account)
    assert {uid: after[uid] for uid in left} == {uid: before[uid] for uid in left}
    assert len(after) == len(left) + 1
    remove(0)
    assert kept(server, account) == {}
