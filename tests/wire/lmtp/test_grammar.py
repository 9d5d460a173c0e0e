"""LMTP command lines: what is understood, and what the client is told otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.wire.lmtp.commands import (
    Bdat,
    Body,
    Command,
    Data,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    SyntaxFault,
    Vrfy,
)
from mailserver.wire.lmtp.grammar import MAX_PATH, Leniency, parse_command
from mailserver.wire.lmtp.replies import Reply
from tests.timing import quickest

UNDERSTOOD: list[tuple[bytes, Command]] = [
    (b"LHLO foo.edu", Lhlo("foo.edu")),  # RFC 2033 §4.2
    (b"lhlo localhost ", Lhlo("localhost")),
    (b"LHLO my_host", Lhlo("my_host")),
    (b"LHLO [192.0.2.1]", Lhlo("[192.0.2.1]")),
    (b"LHLO [IPv6:::1]", Lhlo("[IPv6:::1]")),
    (b"MAIL FROM:<chris@bar.com>", Mail("chris@bar.com")),
    (b"mail from:<Chris@Bar.com>", Mail("Chris@Bar.com")),
    (b"MAIL FROM:<>", Mail("")),
    (b"MAIL FROM:<> SIZE=0", Mail("", 0)),
    (b"MAIL FROM:<ned@thor.innosoft.com> SIZE=500000", Mail("ned@thor.innosoft.com", 500000)),
    (b"MAIL FROM:<a@b> BODY=8BITMIME", Mail("a@b", None, Body.EIGHT_BIT)),
    (b"MAIL FROM:<a@b>  body=7bit  size=12 ", Mail("a@b", 12, Body.SEVEN_BIT)),
    (b"MAIL FROM:<a@b> SIZE=99999999999999999999", Mail("a@b", 99999999999999999999)),
    ("MAIL FROM:<太郎@例え.jp> SMTPUTF8".encode(), Mail("太郎@例え.jp", smtputf8=True)),
    (b"MAIL FROM:<bounce+a=b.example@c>", Mail("bounce+a=b.example@c")),
    (b"MAIL FROM:<@a.example,@b.example:c@d.example>", Mail("c@d.example")),
    (b"RCPT TO:<@jkl.org:userc@d.bar.org>", Rcpt("userc@d.bar.org")),  # RFC 5321 §4.1.1.3
    (b"RCPT TO:<pat@foo.edu>", Rcpt("pat@foo.edu")),
    (b"RCPT TO:<pat+lists/work@foo.edu>", Rcpt("pat+lists/work@foo.edu")),
    (b"RCPT TO:<Postmaster>", Rcpt("Postmaster")),
    (b"RCPT TO:<..docomo..@example.jp>", Rcpt("..docomo..@example.jp")),
    (b"RCPT TO:<pat@[127.0.0.1]>", Rcpt("pat@[127.0.0.1]")),
    ("RCPT TO:<花子@example.jp>".encode(), Rcpt("花子@example.jp")),
    # All quoted forms are equal, the least quoted one is used: RFC 5321 §4.1.2
    (b'RCPT TO:<"pat"@foo.edu>', Rcpt("pat@foo.edu")),
    (rb'RCPT TO:<"\p\a\t"@foo.edu>', Rcpt("pat@foo.edu")),
    (rb'RCPT TO:<"Joe\,Smith"@foo.edu>', Rcpt('"Joe,Smith"@foo.edu')),
    (rb'RCPT TO:<"a b\"c\\> SIZE=1"@foo.edu>', Rcpt(r'"a b\"c\\> SIZE=1"@foo.edu')),
    (b'RCPT TO:<""@foo.edu>', Rcpt('""@foo.edu')),
    (b"DATA", Data()),
    (b"data ", Data()),
    (b"BDAT 86 LAST", Bdat(86, True)),  # RFC 3030 §4.1
    (b"bdat 0 last", Bdat(0, True)),
    (b"BDAT 100000", Bdat(100000, False)),
    (b"BDAT 9223372036854775807", Bdat(2**63 - 1, False)),
    (b"RSET", Rset()),
    (b"VRFY pat", Vrfy("pat")),
    (b"NOOP", Noop()),
    (b"NOOP any words", Noop()),
    (b"HELP", Help()),
    (b"HELP MAIL", Help()),
    (b"STARTTLS", StartTls()),
    (b"QUIT", Quit()),
]


@pytest.mark.parametrize(("line", "command"), UNDERSTOOD)
def test_understood(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


REFUSED = [
    (b"", 500, "5.5.1", "Empty command"),
    (b"FOO", 500, "5.5.1", "Unknown command FOO"),
    # T46: LHLO, not EHLO or HELO, RFC 2033 §4.1
    (b"EHLO foo.edu", 500, "5.5.1", "This is LMTP, not SMTP: send LHLO instead of EHLO"),
    (b"helo foo.edu", 500, "5.5.1", "This is LMTP, not SMTP: send LHLO instead of helo"),
    (b"EXPN list", 500, "5.5.1", "Unknown command EXPN"),
    (b"NOOP\rQUIT", 500, "5.5.1", "Unknown command NOOP\rQUIT"),
    (b"NOOP a\rb", 501, "5.5.2", "Control characters are not allowed in a command"),
    (b"MAIL FROM:<a\x00b@c>", 501, "5.5.2", "Control characters are not allowed in a command"),
    (b"LHLO", 501, "5.5.4", "LHLO needs the name of the client: LHLO host.example"),
    (b"LHLO a b", 501, "5.5.4", "LHLO needs a domain name or an [address]"),
    (b"LHLO <script>", 501, "5.5.4", "LHLO needs a domain name or an [address]"),
    ("LHLO 例え.jp".encode(), 501, "5.5.4", "LHLO needs a domain name or an [address]"),
    (b"LHLO " + b"x" * 256, 501, "5.5.4", "LHLO needs a domain name or an [address]"),
    (b"MAIL", 501, "5.5.4", "Syntax: MAIL FROM:<address>"),
    (b"MAIL TO:<a@b>", 501, "5.5.4", "Syntax: MAIL FROM:<address>"),
    (b"RCPT FROM:<a@b>", 501, "5.5.4", "Syntax: RCPT TO:<address>"),
    (b"MAIL FROM: <a@b>", 501, "5.5.2", "No space is allowed after MAIL FROM:"),
    (
        b"MAIL FROM:a@b",
        501,
        "5.5.2",
        "The address must stand in angle brackets: MAIL FROM:<address>",
    ),
    (b"MAIL FROM:<a@b", 501, "5.1.7", "This is not a valid address"),
    (b"MAIL FROM:<a@b>SIZE=1", 501, "5.1.7", "This is not a valid address"),
    (b"MAIL FROM:<a b@c>", 501, "5.1.7", "This is not a valid address"),
    (b"MAIL FROM:<@c>", 501, "5.1.7", "This is not a valid address"),
    (b"RCPT TO:<a@>", 501, "5.1.3", "This is not a valid address"),
    (b"RCPT TO:<a@b@c>", 501, "5.1.3", "This is not a valid address"),
    (b'RCPT TO:<"a@b>', 501, "5.1.3", "This is not a valid address"),
    (b"RCPT TO:<a@b..c>", 501, "5.1.3", "This is not a valid address"),
    (b"RCPT TO:<>", 501, "5.1.3", "A recipient must have an address"),
    (b"RCPT TO:<a@[300.1.1.1]>", 501, "5.1.3", "This is not a valid address literal"),
    (b"RCPT TO:<a@[IPv6:1]>", 501, "5.1.3", "This is not a valid address literal"),
    (b"RCPT TO:<" + b"x" * MAX_PATH + b">", 501, "5.1.3", "Path too long: at most 900 octets"),
    (b"RCPT TO:<a\xff@b>", 501, "5.1.3", "Not valid UTF-8"),
    (
        "MAIL FROM:<太郎@b>".encode(),
        550,
        "5.6.7",
        "A sender that is not ASCII needs the SMTPUTF8 parameter",
    ),
    (b"MAIL FROM:<a@b> SIZE", 501, "5.5.4", "Syntax: SIZE=octets"),
    (b"MAIL FROM:<a@b> SIZE=-1", 501, "5.5.4", "Syntax: SIZE=octets"),
    (b"MAIL FROM:<a@b> SIZE=1k", 501, "5.5.4", "Syntax: SIZE=octets"),
    (b"MAIL FROM:<a@b> SIZE=" + b"1" * 21, 501, "5.5.4", "Syntax: SIZE=octets"),
    (b"MAIL FROM:<a@b> SIZE=1 SIZE=2", 501, "5.5.4", "SIZE is given twice"),
    (b"MAIL FROM:<a@b> =1", 501, "5.5.4", "After the address: KEYWORD or KEYWORD=value"),
    (b"MAIL FROM:<a@b> BODY=", 501, "5.5.4", "After the address: KEYWORD or KEYWORD=value"),
    (b"MAIL FROM:<a@b> BODY=9BIT", 501, "5.5.4", "BODY is 7BIT or 8BITMIME"),
    (b"MAIL FROM:<a@b> BODY=\xff", 501, "5.5.4", "BODY is 7BIT or 8BITMIME"),
    (b"MAIL FROM:<a@b> BODY=BINARYMIME", 555, "5.5.4", "BODY=BINARYMIME is not supported"),
    (b"MAIL FROM:<a@b> SMTPUTF8=1", 501, "5.5.4", "SMTPUTF8 takes no value"),
    (b"MAIL FROM:<a@b> RET=HDRS", 555, "5.5.4", "MAIL parameter RET is not supported"),
    (b"RCPT TO:<a@b> NOTIFY=NEVER", 555, "5.5.4", "RCPT parameter NOTIFY is not supported"),
    (b"DATA now", 501, "5.5.4", "DATA takes no argument"),
    (b"STARTTLS x", 501, "5.5.4", "STARTTLS takes no argument"),
    (b"VRFY", 501, "5.5.4", "Syntax: VRFY address"),
]


@pytest.mark.parametrize(("line", "code", "status", "text"), REFUSED)
def test_refused_with_the_reason(line: bytes, code: int, status: str, text: str) -> None:
    assert parse_command(line) == SyntaxFault(Reply(code, status, text))


@pytest.mark.parametrize(
    "line", [b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 1 LAST 2", b"BDAT 99999999999999999999"]
)
def test_after_a_bad_bdat_no_line_can_be_trusted(line: bytes) -> None:
    """What follows are octets of a message, which must not be run as commands."""
    fault = parse_command(line)
    assert fault == SyntaxFault(Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]"), is_fatal=True)


def test_faulty_clients_are_served_where_so_set() -> None:
    """T55: `whitespace-before-path` and `mailbox-for-path`."""
    spaced = Leniency(whitespace_before_path=True)
    bare = Leniency(mailbox_for_path=True)
    both = Leniency(whitespace_before_path=True, mailbox_for_path=True)
    assert parse_command(b"MAIL FROM:  <a@b> SIZE=1", spaced) == Mail("a@b", 1)
    assert parse_command(b"RCPT TO: <a@b>", spaced) == Rcpt("a@b")
    assert parse_command(b"RCPT TO:a@b", bare) == Rcpt("a@b")
    assert parse_command(b"MAIL FROM: a@b SIZE=1", both) == Mail("a@b", 1)
    assert isinstance(parse_command(b"RCPT TO:a@b", spaced), SyntaxFault)
    assert isinstance(parse_command(b"RCPT TO: a@b", bare), SyntaxFault)
    assert isinstance(parse_command(b"RCPT TO:a@b>", bare), SyntaxFault)


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda verb, rest: verb + rest,
        st.sampled_from(
            [b"LHLO ", b"MAIL FROM:<", b"RCPT TO:<", b"BDAT ", b"VRFY ", b"MAIL FROM:<a@b> "]
        ),
        st.binary(max_size=60),
    )
)
def test_any_octets_get_an_answer(line: bytes) -> None:
    """R7: whatever comes in is a command or a fault, and a fault is one clean reply."""
    result = parse_command(line, Leniency(True, True))
    if isinstance(result, SyntaxFault):
        octets = result.reply.octets()
        assert octets.count(b"\r\n") == 1
        assert octets.isascii()
        assert len(octets) <= 512


@pytest.mark.parametrize(
    "attack",
    [
        b"MAIL FROM:<" + b"a." * 4000,
        b'MAIL FROM:<"' + rb"\a" * 4000,
        b"MAIL FROM:<" + b"@a," * 2600,
        b"MAIL FROM:<a@b>" + b" " * 8000,
        b"MAIL FROM:<a@b>" + b" x=y" * 2000,
        b"LHLO " + b"a-" * 4000,
    ],
)
def test_hostile_lines_cost_little(attack: bytes) -> None:
    """S4, S5."""
    assert quickest(lambda: parse_command(attack)) < 0.1


def test_replies_cannot_be_forged_by_their_text() -> None:
    """Each line carries the enhanced code (RFC 2034 §4); nothing else makes a line."""
    assert Reply(250, "", "a", ("b",)).octets() == b"250-a\r\n250 b\r\n"
    assert Reply(551, "5.7.1", "a", ("b",)).octets() == b"551-5.7.1 a\r\n551 5.7.1 b\r\n"
    assert Reply(550, "5.1.1", "a\r\n250 2.0.0 ok é").octets() == b"550 5.1.1 a??250 2.0.0 ok ?\r\n"
    assert len(Reply(550, "5.1.1", "x" * 2000).octets()) <= 512  # RFC 5321 §4.5.3.1.5
