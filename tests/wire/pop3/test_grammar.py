"""POP3 command lines: what is understood, and what the client is told otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.wire.lines import TOO_LONG, LineBuffer
from mailserver.wire.pop3.commands import (
    Apop,
    Auth,
    Capa,
    Command,
    Dele,
    Lang,
    Last,
    List,
    Noop,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    SyntaxFault,
    Top,
    Uidl,
    User,
    Utf8,
)
from mailserver.wire.pop3.grammar import parse_command
from tests.timing import assert_linear

UNDERSTOOD: list[tuple[bytes, Command]] = [
    (b"USER mrose", User("mrose")),  # RFC 1939 §7
    (b"user mrose@example.org ", User("mrose@example.org")),
    ("USER jörg".encode(), User("jörg")),
    (b"PASS secret", Pass("secret")),
    # RFC 1939 §7: spaces are a part of the password
    (b"PASS two words ", Pass("two words ")),
    (b"PASS  leading", Pass(" leading")),
    (b"AUTH", Auth(None)),
    (b"AUTH ", Auth(None)),
    (b"auth plain", Auth(b"PLAIN")),
    (b"AUTH PLAIN dGVzdA==", Auth(b"PLAIN", b"dGVzdA==")),  # RFC 2449 §6.3
    (b"AUTH PLAIN =", Auth(b"PLAIN", b"=")),
    (b"AUTH SCRAM-SHA-256", Auth(b"SCRAM-SHA-256")),
    (b"CAPA", Capa()),
    (b"STLS", Stls()),
    (b"STAT", Stat()),
    (b"stat  ", Stat()),
    (b"LIST", List()),
    (b"LIST 2", List(2)),
    (b"list  02 ", List(2)),  # S3: a number may have leading zeros
    (b"UIDL", Uidl()),
    (b"UIDL 9223372036854775807", Uidl(2**63 - 1)),
    (b"RETR 1", Retr(1)),
    (b"RETR 0", Retr(0)),
    (b"TOP 1 10", Top(1, 10)),
    (b"TOP  1  0", Top(1, 0)),
    (b"DELE 1", Dele(1)),
    (b"RSET", Rset()),
    (b"NOOP", Noop()),
    # RFC 1939 §7
    (
        b"APOP mrose C4c9334bac560ecc979e58001b3e22fb",
        Apop("mrose", b"c4c9334bac560ecc979e58001b3e22fb"),
    ),
    (b"UTF8", Utf8()),
    (b"LANG", Lang(None)),
    (b"lang de-AT ", Lang("de-at")),  # RFC 6856 §3.2
    (b"LANG *", Lang("*")),
    (b"LAST", Last()),
    (b"QUIT", Quit()),
]


@pytest.mark.parametrize(("line", "command"), UNDERSTOOD)
def test_understood(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


def test_commands_at_every_split_point() -> None:
    """T16: packets may end anywhere."""
    octets = b"".join(line + b"\r\n" for line, _ in UNDERSTOOD)
    for step in (1, 2, 3, 7, len(octets)):
        buffer, found = LineBuffer(), []
        for at in range(0, len(octets), step):
            buffer.feed(octets[at : at + step])
            while (line := buffer.take_line(512)) is not None:
                assert line is not TOO_LONG
                found.append(parse_command(line))
        assert found == [command for _, command in UNDERSTOOD]


REFUSED = [
    (b"", "a command is missing"),
    (b" STAT", "a command is missing"),
    (b"FOO", "unknown command"),
    (b"HELO x", "unknown command"),
    (b"APOP mrose", "syntax: APOP name digest"),
    (b"APOP mrose c4c9334bac560ecc979e58001b3e22f", "syntax: APOP name digest"),
    (b"LANG a b", "syntax: LANG [language]"),
    (b"LANG -", "syntax: LANG [language]"),
    (b"LANG **", "syntax: LANG [language]"),
    (b"UTF8 USER", "this command takes no argument"),
    (b"STAT 1", "this command takes no argument"),
    (b"QUIT now", "this command takes no argument"),
    (b"USER", "syntax: USER name"),
    (b"USER  ", "syntax: USER name"),
    (b"USER a b", "a user name has no spaces"),
    (b"USER \xff", "expected text in UTF-8"),
    (b"PASS", "syntax: PASS password"),
    (b"PASS \xff", "expected text in UTF-8"),
    (b"PASS a\x00b", "control characters are not allowed in a command"),
    (b"STAT\rQUIT", "unknown command"),
    (b"LIST 1\rx", "control characters are not allowed in a command"),
    (b"AUTH PLAIN a b", "syntax: AUTH mechanism [initial-response]"),
    (b'AUTH "PLAIN"', "syntax: AUTH mechanism [initial-response]"),
    (b"LIST x", "syntax: LIST [message]"),
    (b"LIST -1", "syntax: LIST [message]"),
    (b"LIST +1", "syntax: LIST [message]"),  # S3: no sign
    (b"LIST 1 2", "syntax: LIST [message]"),
    (b"UIDL 1.0", "syntax: UIDL [message]"),
    (b"RETR", "syntax: RETR message"),
    (b"RETR 1 2", "syntax: RETR message"),
    ("RETR \u0661".encode(), "syntax: RETR message"),
    (b"RETR 9223372036854775808", "this number is too large"),
    (b"RETR 99999999999999999999", "syntax: RETR message"),
    (b"DELE *", "syntax: DELE message"),
    (b"TOP 1", "syntax: TOP message lines"),
    (b"TOP 1 -1", "syntax: TOP message lines"),
    (b"TOP", "syntax: TOP message lines"),
]


@pytest.mark.parametrize(("line", "text"), REFUSED)
def test_refused(line: bytes, text: str) -> None:
    assert parse_command(line) == SyntaxFault(text)


def test_secrets_are_not_shown() -> None:
    """S13."""
    assert "canary" not in repr(parse_command(b"PASS canary"))
    assert "canary" not in repr(parse_command(b"AUTH PLAIN canary=="))


@given(st.binary(max_size=300))
def test_any_octets_give_a_command_or_a_reason(line: bytes) -> None:
    """R7."""
    parsed = parse_command(line)
    if isinstance(parsed, SyntaxFault):
        assert parsed.text.isascii() and parsed.text.isprintable()


@pytest.mark.parametrize("start", [b"TOP 1 ", b"AUTH PLAIN ", b"LIST ", b"USER ", b"AUTH "])
def test_long_lines_take_linear_time(start: bytes) -> None:
    """S5."""
    for filler in (b" ", b"1", b"a ", b"="):
        assert_linear(lambda size, f=filler: parse_command(start + f * size), 20_000)
