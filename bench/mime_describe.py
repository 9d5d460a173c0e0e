"""What describing a delivered message costs, in microseconds.

python -m bench.mime_describe [MESSAGES]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from mailserver.mime import content
from mailserver.mime import describe as describing
from mailserver.mime.describe import describe, prefixed
from mailserver.mime.newlines import normalised
from mailserver.mime.sections import SectionIndex, SectionKind, select_fields
from mailserver.mime.text import search_text
from tests.mailgen import SORTS, message

ASKED = frozenset(b"date from to cc subject message-id references content-type".split())
PREFIX = (
    b"Return-Path: <a@example.org>\r\nDelivered-To: me@example.com\r\nReceived: from x\r\n by y\r\n"
)


def per_call(function: Callable[[], object], calls: int) -> float:
    """Microseconds of the best of five runs."""
    best = float("inf")
    for _run in range(5):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best / calls * 1e6


def forget() -> None:
    """Drop what is remembered of other messages: address lists and headers of parts."""
    describing._remembered_list.cache_clear()
    content._remembered_content.cache_clear()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 320
    mails = [message(seed) for seed in range(count)]
    descriptions = [describe(mail) for mail in mails]
    headers = [mail[: d.header_size] for mail, d in zip(mails, descriptions, strict=True)]
    size = sum(map(len, mails)) / count
    sections = sum(len(d.sections) for d in descriptions) / count
    index = sum(len(d.header_index) for d in descriptions) / count
    print(f"{count} messages of {size / 1024:.1f} KiB on average")
    print(f"packed: sections {sections:.0f} octets, header index {index:.0f} octets")
    rows: dict[str, Callable[[], object]] = {
        "describe": lambda: [describe(mail) for mail in mails],
        "  from strangers": lambda: [(forget(), describe(mail)) for mail in mails],
        "search_text": lambda: [search_text(mail) for mail in mails],
        "normalised": lambda: [normalised(mail) for mail in mails],
        "prefixed": lambda: [prefixed(each, PREFIX) for each in descriptions],
        "select_fields": lambda: [
            select_fields(header, each.header_index, ASKED, False)
            for header, each in zip(headers, descriptions, strict=True)
        ],
        "find section 1": lambda: [
            SectionIndex.unpack(each.sections).find((1,), SectionKind.WHOLE)
            for each in descriptions
        ],
    }
    for name, function in rows.items():
        print(f"{name:16} {per_call(function, count):8.1f} µs")
    for sort in SORTS:
        some = [message(seed, sort) for seed in range(20)]
        one = per_call(lambda some=some: [describe(mail) for mail in some], len(some))
        two = per_call(lambda some=some: [search_text(mail) for mail in some], len(some))
        octets = sum(map(len, some)) // len(some)
        print(f"  {sort:14} {octets:7} octets   describe {one:6.1f} µs   search_text {two:6.1f} µs")


if __name__ == "__main__":
    main()
