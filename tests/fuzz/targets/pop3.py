"""POP3: command lines, and messages with their dots stuffed."""

from __future__ import annotations

import attrs

from mailserver.mime.newlines import normalised
from mailserver.mime.surrogate import ascii_header
from mailserver.wire.lmtp.reader import DATA_END, NEED_DATA, DataPart, LmtpReader
from mailserver.wire.pop3.commands import SyntaxFault
from mailserver.wire.pop3.grammar import parse_command
from mailserver.wire.pop3.stuffing import DotStuffer, first_lines
from tests.fuzz.target import Target, cut, is_clean


def check_command(octets: bytes) -> None:
    command = parse_command(octets)
    if isinstance(command, SyntaxFault):
        assert command.text.isascii() and command.text.isprintable()
        assert len(command.text) < 500
        return
    for value in attrs.asdict(command).values():
        if isinstance(value, int):
            assert 0 <= value < 1 << 63
        elif isinstance(value, str):
            assert value and is_clean(value) and not set("\r\n\0") & set(value)


def check_stuffing(octets: bytes) -> None:
    """What is stuffed piece by piece is read back whole, as LMTP reads it."""
    message = normalised(octets)
    stuffer = DotStuffer()
    sent = b"".join(map(stuffer.stuff, cut(message)))
    assert stuffer.is_at_line_start == (not message or message.endswith(b"\r\n"))
    reader = LmtpReader(1000)
    reader.start_data()
    reader.feed(sent + (b"" if stuffer.is_at_line_start else b"\r\n") + b".\r\n")
    got = b""
    while (event := reader.next()) is not DATA_END:
        assert isinstance(event, DataPart) and event is not NEED_DATA
        got += event.octets
    assert got == message + (b"" if stuffer.is_at_line_start else b"\r\n")
    for count in (0, 1, 3):
        head, missing = first_lines(message, count)
        assert message.startswith(head) and head.count(b"\n") + missing == count


WORDS = (
    b"USER ", b"PASS ", b"TOP ", b"AUTH ", b"APOP ", b"LANG ", b" ", b"=", b"PLAIN", b"-",
)  # fmt: skip


def commands() -> list[bytes]:
    return [
        b"USER ann@example.org", b"PASS sec ret ", b"STAT", b"LIST", b"LIST 1", b"RETR 2",
        b"DELE 3", b"NOOP", b"RSET", b"TOP 1 10", b"UIDL", b"UIDL 1", b"QUIT", b"CAPA",
        b"STLS", b"AUTH", b"AUTH PLAIN AGEAYg==", b"auth login", "USER jörg".encode(), b"",
        b"APOP mrose c4c9334bac560ecc979e58001b3e22fb", b"UTF8", b"LANG", b"LANG de-AT",
        b"LANG *", b"LAST",
    ]  # fmt: skip


def check_surrogate(octets: bytes) -> None:
    """Whatever a header holds, it can be told to a client that knows only ASCII (T57)."""
    header = normalised(octets)
    made = ascii_header(header)
    assert made.isascii()
    assert len(made) <= 40 * len(header) + 100
    if header.isascii():
        assert made == header
    assert ascii_header(made) == made


TARGETS = (
    Target("pop3_commands", check_command, commands, WORDS),
    Target(
        "pop3_surrogate",
        check_surrogate,
        lambda: [
            'From: Jörg <jörg@x.org>, "a, b" <c@d>\r\nSubject: Grüße\r\n\r\n'.encode(),
            'To: Ä: ö@x, a@b;, c@d\r\nContent-Type: a/b; name="ü"; x=y\r\n'.encode(),
            b"Subject: \xfc =?utf-8?q?x?=\r\n y\r\nX: \xff\r\n\r\n",
        ],
        ("ü".encode(), b"\xff", b"<", b">", b"@", b",", b":", b";", b'"', b"\r\n ", b"Subject: ",
         b"To: ", b"Content-Type: ", b"(", b")", b"=?utf-8?q?x?="),
    ),
    Target(
        "pop3_stuffing",
        check_stuffing,
        lambda: [b".", b".\r\n..\r\n.a\r\na.\r\n\r\n", b"a\n.b", b"\r\n.\r\n", b"x"],
        (b".", b"\r\n.", b"\r\n", b"\n."),
    ),
)  # fmt: skip
