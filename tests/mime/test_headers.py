"""Header fields, addresses, dates, message ids and parameters as mail really has them."""

from __future__ import annotations

import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.headers import (
    MAX_PARAMETERS,
    MAX_REFERENCES,
    Address,
    parse_addresses,
    parse_date,
    parse_message_ids,
    parse_parameters,
    split_fields,
    unfold,
    without_comments,
)

FIELDS = [
    (b"", []),
    (b"A: b\r\n", [(b"a", b" b\r")]),
    (b"A:\r\nB:c\r\n", [(b"a", b"\r"), (b"b", b"c\r")]),
    (b"A: b\r\n c\r\n\td\r\nE: f", [(b"a", b" b\r\n c\r\n\td\r"), (b"e", b" f")]),
    (b"Sub-ject \t: x\r\n", [(b"sub-ject", b" x\r")]),  # RFC 7103 §7.4
    (b"no field\r\nA: b\r\n", [(b"", b"no field\r"), (b"a", b" b\r")]),  # RFC 7103 §7.2
    (b" first\r\n second\r\nA: b\r\n", [(b"", b" first\r\n second\r"), (b"a", b" b\r")]),
    (b"From a@b Mon Jan\r\nA: b\r\n", [(b"", b"From a@b Mon Jan\r"), (b"a", b" b\r")]),
    (b": x\r\nA: b\r\n", [(b"", b": x\r"), (b"a", b" b\r")]),
    (b"\xc3\xa4: x\r\n", [(b"", b"\xc3\xa4: x\r")]),
    (b"A: b:c\r\n", [(b"a", b" b:c\r")]),
    (b"A: b\r\n \r\nB: c\r\n", [(b"a", b" b\r\n \r"), (b"b", b" c\r")]),
    (b"A: b\nB: c\n", [(b"a", b" b"), (b"b", b" c")]),
]


@pytest.mark.parametrize(("header", "fields"), FIELDS)
def test_fields_are_split_where_they_begin(
    header: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    assert [(name, value) for name, value, _start in split_fields(header, 100)] == fields


@given(st.lists(st.sampled_from([b"A: b", b" c", b"d", b"E:", b"\r\n", b"\n", b":", b"\t"])))
def test_fields_tile_the_header(pieces: list[bytes]) -> None:
    header = b"".join(pieces)
    starts = [start for _name, _value, start in split_fields(header, 1000)]
    assert starts == sorted(set(starts))
    assert not header or starts[0] == 0
    for start in starts[1:]:
        assert header[start - 1 : start] == b"\n"
        assert header[start : start + 1] not in (b" ", b"\t")


def test_no_more_fields_than_asked_for() -> None:
    assert len(split_fields(b"A: b\r\n" * 50, 7)) == 7


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (b" a b \r", b"a b"),
        (b" a\r\n b", b"a b"),
        (b" a  \r\n\t  b\r\n c\r", b"a b c"),
        (b"a\0b", b"ab"),
        (b"a\rb", b"a b"),
        (b"a  b", b"a  b"),
    ],
)
def test_unfolding_joins_lines_with_one_space(value: bytes, line: bytes) -> None:
    assert unfold(value) == line


A = Address
MISSING = (b"MISSING_MAILBOX", b"MISSING_DOMAIN")
GROUP_END = A(None, None, None, None)
ADDRESSES: list[tuple[bytes, list[Address]]] = [
    (b"", []),
    (b" , ,, ", []),
    (b"a@b", [A(None, None, b"a", b"b")]),
    (b"<a@b>", [A(None, None, b"a", b"b")]),
    # RFC 5322 appendix A.1.1, A.1.2
    (b"John Doe <jdoe@machine.example>", [A(b"John Doe", None, b"jdoe", b"machine.example")]),
    (
        b'"Joe Q. Public" <john.q.public@example.com>',
        [A(b"Joe Q. Public", None, b"john.q.public", b"example.com")],
    ),
    (
        b"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
        [
            A(b"Mary Smith", None, b"mary", b"x.test"),
            A(None, None, b"jdoe", b"example.org"),
            A(b"Who?", None, b"one", b"y.test"),
        ],
    ),
    (
        b'<boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>',
        [
            A(None, None, b"boss", b"nil.test"),
            A(b'Giant; "Big" Box', None, b"sysservices", b"example.net"),
        ],
    ),
    # RFC 5322 appendix A.1.3
    (
        b"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
        [
            A(None, None, b"A Group", None),
            A(b"Ed Jones", None, b"c", b"a.test"),
            A(None, None, b"joe", b"where.test"),
            A(b"John", None, b"jdoe", b"one.test"),
            GROUP_END,
        ],
    ),
    (b"Undisclosed recipients:;", [A(None, None, b"Undisclosed recipients", None), GROUP_END]),
    # RFC 5322 appendix A.5, comments and blanks everywhere
    (
        b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
        [A(b"Pete", None, b"pete", b"silly.test")],
    ),
    (
        b"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;",
        [A(None, None, b"Hidden recipients", None), GROUP_END],
    ),
    # RFC 5322 appendix A.6.1, A.6.3
    (b"Joe Q. Public <john.q.public@x>", [A(b"Joe Q. Public", None, b"john.q.public", b"x")]),
    (
        b"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
        [
            A(b"Mary Smith", b"@node.test", b"mary", b"example.net"),
            A(None, None, b"jdoe", b"test.example"),
        ],
    ),
    (
        b"John Doe <jdoe@machine(comment).  example>",
        [A(b"John Doe", None, b"jdoe", b"machine.example")],
    ),
    (b"<@a.example,@b.example:c@d>", [A(None, b"@a.example,@b.example", b"c", b"d")]),
    (b"g@[192.0.2.1]", [A(None, None, b"g", b"[192.0.2.1]")]),
    (b'"quo ted"@h', [A(None, None, b"quo ted", b"h")]),
    (b'"@"@h, "\\""@i', [A(None, None, b"@", b"h"), A(None, None, b'"', b"i")]),
    (b"a@b (John (nested) Doe)", [A(b"John (nested) Doe", None, b"a", b"b")]),
    (
        b"=?utf-8?q?a_b?= =?utf-8?q?c?= <a@b>",
        [A(b"=?utf-8?q?a_b?= =?utf-8?q?c?=", None, b"a", b"b")],
    ),
    (b"a@b <a@b>", [A(b"a@b", None, b"a", b"b")]),
    # RFC 7103 §7.1
    (b"<<<user2@example.org>>>", [A(None, None, b"user2", b"example.org")]),
    (b"<another@example.net", [A(None, None, b"another", b"example.net")]),
    (b"second@example.org>", [A(None, None, b"second", b"example.org")]),
    (b"(Testing <fran@example.com>", [A(b"Testing", None, b"fran", b"example.com")]),
    (b"Testing) <sam@example.com>", [A(b"Testing)", None, b"sam", b"example.com")]),
    (
        b"<third@example.net, fourth@example.net>",
        [A(None, None, b"third", b"example.net"), A(None, None, b"fourth", b"example.net")],
    ),
    (b'"Joe <joe@example.com>', [A(b"Joe", None, b"joe", b"example.com")]),
    (b"Joe", [A(None, None, b"Joe", b"MISSING_DOMAIN")]),
    (b"Joe Smith", [A(b"Joe Smith", None, *MISSING)]),
    (b"<>", [A(None, None, *MISSING)]),
    # a forgotten comma, a name without brackets
    (b"a@b c@d", [A(None, None, b"a", b"b"), A(None, None, b"c", b"d")]),
    (b"Joe a@b", [A(b"Joe", None, b"a", b"b")]),
    (b"<@a,@b", [A(None, None, b"@a,", b"b")]),
    # RFC 5322 §3.4: a comment is a name where it follows the addr-spec
    (b"a@b (Ann)", [A(b"Ann", None, b"a", b"b")]),
    (b"(Ann) a@b", [A(None, None, b"a", b"b")]),
    (b"(Ann) <a@b>", [A(None, None, b"a", b"b")]),
    (
        b"g: a@b; c@d",
        [
            A(None, None, b"g", None),
            A(None, None, b"a", b"b"),
            GROUP_END,
            A(None, None, b"c", b"d"),
        ],
    ),
]


@pytest.mark.parametrize(("value", "addresses"), ADDRESSES)
def test_addresses(value: bytes, addresses: list[Address]) -> None:
    assert parse_addresses(value, 100) == addresses


@pytest.mark.parametrize(("value", "addresses"), ADDRESSES)
def test_addresses_mean_the_same_in_a_longer_list(value: bytes, addresses: list[Address]) -> None:
    if value.count(b'"') == 1 or b"(Testing" in value or value == b"<@a,@b":
        pytest.skip("what is never closed reaches beyond the comma")
    both = parse_addresses(b"x@y, " + value + b", Z <z@z>", 100)
    assert both[0] == A(None, None, b"x", b"y")
    assert both[1:-1] == addresses
    assert both[-1] == A(b"Z", None, b"z", b"z")


def test_a_semicolon_outside_of_a_group_ends_the_list() -> None:
    assert parse_addresses(b"a@b; c@d, e@f", 100) == [A(None, None, b"a", b"b")]
    assert parse_addresses(b"Ann <a@b>; c@d", 100) == [A(b"Ann", None, b"a", b"b")]


def test_no_more_addresses_than_asked_for() -> None:
    assert len(parse_addresses(b"a@b," * 50, 7)) == 7
    assert len(parse_addresses(b"(c) a@b," * 50, 7)) == 7


@given(st.text(alphabet=' "(),:;<>@[\\].ab', max_size=60))
def test_any_value_gives_addresses(text: str) -> None:
    addresses = parse_addresses(text.encode(), 1000)
    open_groups = 0
    for each in addresses:
        if each == GROUP_END:
            open_groups -= 1
        elif each.host is None:
            open_groups += 1
        else:
            assert each.mailbox and each.host
        assert open_groups in (0, 1)
    assert open_groups == 0


@given(
    st.lists(
        st.tuples(
            st.text(alphabet='ab ,.()"\\@é', max_size=12),
            st.from_regex(r"[a-z.]{0,5}[a-z]", fullmatch=True),
        ),
        min_size=1,
    )
)
def test_what_a_well_behaved_sender_writes_is_read_back(people: list[tuple[str, str]]) -> None:
    written = ", ".join(
        '"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <{mailbox}@example.com>'
        for name, mailbox in people
    )
    assert parse_addresses(written.encode(), 10_000) == [
        A(name.encode() or None, None, mailbox.encode(), b"example.com") for name, mailbox in people
    ]


UTC = datetime.UTC
DATES = [
    # RFC 5322 §3.3, appendix A
    (b"Fri, 21 Nov 1997 09:55:06 -0600", (1997, 11, 21), (1997, 11, 21, 15, 55, 6)),
    (b" Tue, 1 Jul 2003 10:52:37 +0200\r", (2003, 7, 1), (2003, 7, 1, 8, 52, 37)),
    (b"21 Nov 97 09:55:06 GMT", (1997, 11, 21), (1997, 11, 21, 9, 55, 6)),
    (
        b"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330"
        b" (Newfoundland Time)",
        (1969, 2, 13),
        (1969, 2, 14, 3, 2, 0),
    ),
    (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", (1997, 11, 21), None),
    # the day counts as written, not in UTC (T32)
    (b"Mon, 1 Jan 2024 00:30:00 +0100", (2024, 1, 1), (2023, 12, 31, 23, 30, 0)),
    # obsolete zones and years, RFC 5322 §4.3
    (b"1 Jan 49 12:00 EST", (2049, 1, 1), (2049, 1, 1, 17, 0, 0)),
    (b"1 Jan 50 12:00 PDT", (1950, 1, 1), (1950, 1, 1, 19, 0, 0)),
    (b"1 Jan 100 12:00 UT", (2000, 1, 1), (2000, 1, 1, 12, 0, 0)),
    (b"1 Jan 2000 12:00 K", (2000, 1, 1), (2000, 1, 1, 12, 0, 0)),
    (b"1 Jan 2000 12:00 -0000", (2000, 1, 1), (2000, 1, 1, 12, 0, 0)),
    # RFC 5322 §3.3: a blank stands before the zone
    (b"1 Jan 2001 00:01+0000", None, None),
    (b"1 Jan 2001 00:01:00-0500", None, None),
    # what senders do
    (b"Mon 01-January-2001 10:00:00 +0000", (2001, 1, 1), (2001, 1, 1, 10, 0, 0)),
    (b"Mon Jan  1 10:00:00 2001", (2001, 1, 1), (2001, 1, 1, 10, 0, 0)),
    (b"Mon Jan  1 10:00:00 EST 2001", (2001, 1, 1), (2001, 1, 1, 15, 0, 0)),
    (b"Mon, 1 Jan 2001 10.20.30 +0000", (2001, 1, 1), (2001, 1, 1, 10, 20, 30)),
    (b"Mon, 1 Jan 2001", (2001, 1, 1), (2001, 1, 1, 0, 0, 0)),
    (b"1 Jan 2001 25:00 +0000", (2001, 1, 1), (2001, 1, 1, 0, 0, 0)),  # RFC 5256 §2.2
    (b"1 Jan 2001 10:00 +9999", (2001, 1, 1), (2001, 1, 1, 10, 0, 0)),
    (b"29 Feb 2000 00:00:60 +0000", (2000, 2, 29), (2000, 2, 29, 0, 1, 0)),
    (b"29 Feb 2001 00:00:00 +0000", None, None),
    (b"32 Jan 2001 00:00:00 +0000", None, None),
    (b"1 Foo 2001 00:00:00 +0000", None, None),
    (b"1 Jan 0000 00:00:00 +0000", None, None),
    (b"yesterday", None, None),
    (b"", None, None),
]


@pytest.mark.parametrize(("value", "day", "moment"), DATES)
def test_dates(
    value: bytes, day: tuple[int, int, int] | None, moment: tuple[int, ...] | None
) -> None:
    sent = parse_date(value)
    if day is None:
        assert sent is None
        return
    assert sent is not None
    assert sent.day == datetime.date(*day).toordinal()
    if moment is not None:
        year, month, of_month, hour, minute, second = moment
        expected = datetime.datetime(year, month, of_month, hour, minute, second, tzinfo=UTC)
        assert sent.seconds == expected.timestamp()


@given(
    st.datetimes(min_value=datetime.datetime(1, 1, 2), max_value=datetime.datetime(9999, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
)
def test_dates_agree_with_the_standard_library(moment: datetime.datetime, minutes: int) -> None:
    aware = moment.replace(
        microsecond=0, tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes))
    )
    sent = parse_date(email.utils.format_datetime(aware).encode())
    assert sent is not None
    assert sent == (aware.timestamp(), aware.toordinal())


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (b" <a@b>\r", ("<a@b>",)),
        (b"<a@b>\r\n <c@d>,<e@f>", ("<a@b>", "<c@d>", "<e@f>")),
        (b"<a\r\n b@c>", ("<ab@c>",)),
        # RFC 5256 §3: the same id, quoted or not
        (b'<"01KF8JCEOCBS0045PS"@xxx.yyy.com>', ("<01KF8JCEOCBS0045PS@xxx.yyy.com>",)),
        (b'Your message of "Monday" <x@y> (by me)', ("<x@y>",)),
        (b"<<a@b>> < > no@brackets", ("<a@b>",)),
        (b"", ()),
    ],
)
def test_message_ids(value: bytes, ids: tuple[str, ...]) -> None:
    assert parse_message_ids(value) == ids


def test_long_references_keep_the_first_and_the_latest() -> None:
    ids = parse_message_ids(b" ".join(b"<%d@x>" % number for number in range(1000)))
    assert len(ids) == MAX_REFERENCES
    assert ids[0] == "<0@x>"
    assert ids[1] == f"<{1000 - MAX_REFERENCES + 1}@x>"
    assert ids[-1] == "<999@x>"


PARAMETERS = [
    (b" text/plain\r", (b"text", b"plain"), []),
    (b"Text/HTML; Charset=UTF-8", (b"Text", b"HTML"), [(b"charset", b"UTF-8")]),
    (b'a/b; c="d;e"; f="g\\"h"', (b"a", b"b"), [(b"c", b"d;e"), (b"f", b'g"h')]),
    (b"a/b;\r\n\tc=d;\r\n e = f", (b"a", b"b"), [(b"c", b"d"), (b"e", b"f")]),
    # RFC 2045 §5.1: comments
    (
        b"text/plain; charset=us-ascii (Plain text)",
        (b"text", b"plain"),
        [(b"charset", b"us-ascii")],
    ),
    (b"(c) text (d) / plain (e); x=1", (b"text", b"plain"), [(b"x", b"1")]),
    # what senders do
    (
        b"application/pdf; name=my report.pdf",
        (b"application", b"pdf"),
        [(b"name", b"my report.pdf")],
    ),
    (b'a/b; c="never closed', (b"a", b"b"), [(b"c", b"never closed")]),
    (b"a/b; c=1; c=2", (b"a", b"b"), [(b"c", b"1")]),
    (b"a/b;; ;c=d;", (b"a", b"b"), [(b"c", b"d")]),
    (b"a/b; novalue; c=d", (b"a", b"b"), [(b"c", b"d")]),
    (b"attachment; filename=x", (b"attachment", b""), [(b"filename", b"x")]),
    (b"", (b"", b""), []),
    (b"; x=y", (b"", b""), [(b"x", b"y")]),
    # RFC 2231 §3, §4.1
    (
        b'message/external-body; access-type=URL;\r\n URL*0="ftp://";\r\n'
        b' URL*1="cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"',
        (b"message", b"external-body"),
        [
            (b"access-type", b"URL"),
            (b"url", b"ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"),
        ],
    ),
    (
        b"application/x-stuff;\r\n title*0*=us-ascii'en'This%20is%20even%20more%20;"
        b'\r\n title*1*=%2A%2A%2Afun%2A%2A%2A%20;\r\n title*2="isn\'t it!"',
        (b"application", b"x-stuff"),
        [(b"title*", b"us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn't it!")],
    ),
    (b"a/b; n*1=y; n*0=x; n*3=lost", (b"a", b"b"), [(b"n", b"xy")]),
]


@pytest.mark.parametrize(("value", "kind", "parameters"), PARAMETERS)
def test_parameters(
    value: bytes, kind: tuple[bytes, bytes], parameters: list[tuple[bytes, bytes]]
) -> None:
    parsed = parse_parameters(value)
    assert (parsed.kind, parsed.subtype) == kind
    assert parsed.parameters == parameters


def test_parameters_are_bounded() -> None:
    value = b"a/b" + b"".join(b"; p%d=v" % number for number in range(20_000))
    assert len(parse_parameters(value).parameters) == MAX_PARAMETERS


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        (b"a (b) c", b"a   c"),
        (b"a (b (c) d) e", b"a   e"),
        (b'"a (b)" (c)', b'"a (b)"  '),
        (b"a (b", b"a (b"),
        (b"a (\\) b) c", b"a   c"),
    ],
)
def test_comments_are_taken_out(value: bytes, rest: bytes) -> None:
    assert without_comments(value) == rest
