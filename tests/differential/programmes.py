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
    "UNDELETED", "DRAFT", "UNDRAFT", "KEYWORD $Work", "KEYWORD $work", "UNKEYWORD $Work",
    "KEYWORD $None", "UNKEYWORD $None", "OLD", "NOT OLD NOT RECENT",
    "1:50", "50:1", "*", "10,20,30:*", "UID 5:25", "UID 1:*", "NOT 1:100", "NOT UID 5:25",
    "1:100 50:150", "SEEN NOT ANSWERED", "UNSEEN UNDELETED", "OR FLAGGED DRAFT",
    "OR (SEEN 1:20) (NOT SEEN 40:60)", "NOT (OR SEEN FLAGGED)", "(UNDELETED (UNSEEN))",
    "OR OR SEEN DRAFT OR FLAGGED DELETED", "NOT NOT SEEN", "ALL SEEN ALL", "SEEN UNSEEN",
    "OR SEEN UNSEEN", "NOT ALL",
    # -- sizes
    "LARGER 0", "LARGER 500", "LARGER 3000", "LARGER 10000", "LARGER 4294967295", "SMALLER 500",
    "SMALLER 4000", "SMALLER 0", "SMALLER 1", "LARGER 1000 SMALLER 2000", "NOT LARGER 3000",
    "OR SMALLER 300 LARGER 9000",
    # -- dates
    "BEFORE 1-Feb-2026", "BEFORE 1-Jan-2026", "BEFORE 1-Jan-2027", "SINCE 15-Mar-2026",
    "SINCE 1-Jan-1970", "ON 3-Mar-2026", "ON 1-Jan-2026", "ON 28-Apr-2026", "ON 29-Feb-2024",
    "SINCE 1-Feb-2026 BEFORE 1-Mar-2026", "NOT SINCE 1-Mar-2026", "NOT ON 3-Mar-2026",
    "OR BEFORE 10-Jan-2026 SINCE 20-Apr-2026", 'SINCE "1-Apr-2026"',
    "SENTBEFORE 1-Jan-2001", "SENTSINCE 1-Jan-2021", "SENTSINCE 1-Jan-2020",
    "SENTSINCE 1-Jun-2020 SENTBEFORE 1-Jan-2021", "SENTON 2-Mar-2026", "SENTON 14-Dec-2020",
    "SENTON 15-Dec-2020", "NOT SENTSINCE 1-Jan-1990", "SENTSINCE 1-Jan-2020 BEFORE 1-Feb-2026",
    # -- addresses
    "FROM ann", "FROM ANN", "FROM example.org", "FROM sam.carter", 'FROM "Sam Carter"',
    'FROM "carter <sam"', "FROM ivan", "FROM nobody-at-all", 'FROM ""', "FROM @",
    "TO example", "TO anna.berg", 'TO "Anna Berg"', "TO tomas", "TO list", 'TO ""', "CC a",
    "CC petrov", 'CC ""', "BCC a", 'BCC ""', "FROM ann TO b", "OR FROM sam TO sam",
    "OR CC carter FROM carter", "NOT FROM corp", "FROM uni.example.edu SINCE 1-Mar-2026",
    # -- subjects and other fields
    "SUBJECT board", 'SUBJECT "board meeting"', "SUBJECT BOARD", 'SUBJECT ""', "SUBJECT first",
    "SUBJECT second", "SUBJECT re:", 'SUBJECT "build failed"', "SUBJECT #", "SUBJECT holiday",
    "SUBJECT meeting UNSEEN", "OR SUBJECT plans SUBJECT maintenance", "NOT SUBJECT e",
    "HEADER Message-ID example", "HEADER message-id @", "HEADER X-Mailer a",
    'HEADER X-Mailer "Example Mailer"', 'HEADER Received ""', "HEADER Received esmtps",
    'HEADER X-None ""', "HEADER X-None x", "HEADER Content-Type multipart",
    "HEADER Content-Type text/plain", 'HEADER List-Id ""', 'HEADER In-Reply-To ""',
    "HEADER References example", 'NOT HEADER Date ""', "HEADER Date 2020", "HEADER To example",
    "HEADER From ann", "HEADER Subject meeting", "HEADER X-Spam-Score -1.2",
    "HEADER DKIM-Signature rsa-sha256", 'HEADER MIME-Version "1.0"',
    'HEADER Authentication-Results "spf=pass"',
    "CHARSET UTF-8 SUBJECT K\u00f6ln", "CHARSET UTF-8 SUBJECT K\u00d6LN",
    "CHARSET UTF-8 FROM J\u00f6rg", "CHARSET UTF-8 FROM \u5c71\u7530",
    "CHARSET UTF-8 TO \u041e\u043b\u044c\u0433\u0430",
    "CHARSET UTF-8 TO \u043e\u043b\u044c\u0433\u0430", "CHARSET UTF-8 FROM Tom\u00e1s",
    "CHARSET UTF-8 SUBJECT \u4f1a\u8b70",
    # -- bodies
    "BODY budget", "BODY tomorrow", "BODY TOMORROW", 'BODY "quick answer"', "BODY xyzzy",
    'BODY "archive please"', "BODY ticket", "BODY garden UNSEEN", "NOT BODY the",
    "BODY server BODY station", "OR BODY winter BODY summer", 'BODY ""', "BODY station LARGER 3000",
    "BODY message.", "BODY attached SINCE 1-Feb-2026 BEFORE 1-Apr-2026",
    "TEXT boundary", "TEXT example.org", "TEXT budget", "TEXT esmtps", 'TEXT "sam carter"',
    "TEXT xyzzy", 'TEXT ""', "TEXT rsa-sha256 BODY budget", "NOT TEXT example", "TEXT multipart",
    "CHARSET UTF-8 BODY Gr\u00fc\u00dfe", "CHARSET UTF-8 BODY GR\u00dcSSE",
    "CHARSET UTF-8 BODY \u00fcberraschung", "CHARSET UTF-8 BODY \u00dcBERRASCHUNG",
    "CHARSET UTF-8 BODY sch\u00f6ne", "CHARSET UTF-8 TEXT \u660e\u65e5\u306e\u4f1a\u8b70",
    "CHARSET UTF-8 BODY \u660e\u65e5", "CHARSET UTF-8 TEXT \u5c71\u7530",
    "CHARSET UTF-8 TEXT K\u00f6ln", "BODY budget NOT TEXT ticket SINCE 1-Feb-2026",
    # -- as mail programs put them together
    "UNDELETED SINCE 1-Mar-2026", "UNDELETED UNSEEN SINCE 1-Jan-2026 NOT FROM ann",
    "OR SUBJECT budget FROM budget", "OR OR SUBJECT sam FROM sam TO sam",
    "UNDELETED (OR OR OR SUBJECT coffee FROM coffee TO coffee BODY coffee)",
    "UNDELETED (OR SUBJECT meeting BODY meeting) SINCE 1-Feb-2026",
    "UNDELETED HEADER Message-ID <3ed.5965b54b57@uni.example.edu>",
    "FLAGGED UNDELETED LARGER 2000", "UNDELETED NOT (SEEN ANSWERED)", "UID 100:200 UNDELETED",
    "UNDELETED TEXT morning TEXT evening", "UNSEEN UNDELETED UNDRAFT NOT KEYWORD $Junk",
)  # fmt: skip
"""Each in octets as UTF-8; sequence numbers are the same in both servers."""


def written(programme: str) -> bytes:
    """The command's octets; what is not ASCII goes into a literal, as RFC 3501 wants."""
    *before, last = programme.split(" ")
    if last.isascii():
        return b"SEARCH " + programme.encode()
    octets = last.encode()
    return b"SEARCH %b {%d+}\r\n%b" % (" ".join(before).encode(), len(octets), octets)
