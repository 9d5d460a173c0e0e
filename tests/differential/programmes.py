"""SEARCH programmes that are put to both servers, and how messages are marked for them."""

from __future__ import annotations

FLAGS = (b"", b"\\Seen", b"\\Seen \\Answered", b"\\Flagged", b"\\Draft", b"\\Deleted", b"$Work")
"""Flags of the messages, in turn."""


def arguments(number: int) -> bytes:
    """What a message is appended with: flags, and a date in one of four months."""
    date = b'"%02d-%b-2026 10:%02d:00 %b"' % (
        number % 28 + 1,
        (b"Jan", b"Feb", b"Mar", b"Apr")[number % 4],
        number % 60,
        (b"+0000", b"+0900", b"-0500")[number % 3],
    )
    return b"(%b) %b " % (FLAGS[number % len(FLAGS)], date)


PROGRAMMES = (
    # -- flags and numbers
    "ALL", "SEEN", "UNSEEN", "ANSWERED", "UNANSWERED", "FLAGGED", "UNFLAGGED", "DELETED",
    "UNDELETED", "DRAFT", "UNDRAFT", "KEYWORD $Work", "UNKEYWORD $Work", "KEYWORD $None",
    "OLD", "1:50", "10,20,30:*", "UID 5:25", "NOT 1:100", "SEEN NOT ANSWERED",
    "OR FLAGGED DRAFT", "OR (SEEN 1:20) (NOT SEEN 40:60)", "NOT (OR SEEN FLAGGED)",
    # -- sizes and dates
    "LARGER 3000", "SMALLER 500", "LARGER 1000 SMALLER 2000", "SMALLER 0",
    "BEFORE 1-Feb-2026", "SINCE 15-Mar-2026", "ON 3-Mar-2026",
    "SINCE 1-Feb-2026 BEFORE 1-Mar-2026",
    "SENTBEFORE 1-Jan-2001", "SENTSINCE 1-Jan-2021", "SENTON 2-Mar-2026",
    "NOT SENTSINCE 1-Jan-1990",
    # -- headers
    "FROM ann", "FROM example.org", "TO example", "CC a", "BCC a", "SUBJECT board",
    'SUBJECT "board meeting"', "SUBJECT BOARD", 'SUBJECT ""', "SUBJECT first", "SUBJECT second",
    "HEADER Message-ID example", "HEADER X-Mailer a", 'HEADER Received ""', 'HEADER X-None ""',
    'HEADER Content-Type multipart', 'NOT HEADER Date ""', "CHARSET UTF-8 SUBJECT K\u00f6ln",
    "CHARSET UTF-8 SUBJECT K\u00d6LN", "CHARSET UTF-8 FROM J\u00f6rg",
    "CHARSET UTF-8 FROM \u5c71\u7530",
    # -- bodies
    "BODY budget", "BODY tomorrow", 'BODY "quick answer"', "BODY xyzzy", "TEXT boundary",
    "TEXT example.org", "CHARSET UTF-8 BODY Gr\u00fc\u00dfe", "CHARSET UTF-8 BODY GR\u00dcSSE",
    "CHARSET UTF-8 TEXT \u660e\u65e5\u306e\u4f1a\u8b70",
    "BODY budget NOT TEXT ticket SINCE 1-Feb-2026",
)  # fmt: skip
"""Sixty and more, each in octets as UTF-8; sequence numbers are the same in both servers."""


def written(programme: str) -> bytes:
    """The command's octets; what is not ASCII goes into a literal, as RFC 3501 wants."""
    *before, last = programme.split(" ")
    if last.isascii():
        return b"SEARCH " + programme.encode()
    octets = last.encode()
    return b"SEARCH %b {%d+}\r\n%b" % (" ".join(before).encode(), len(octets), octets)
