"""LMTP: framing, commands, what a delivery writes of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mailserver.mime.describe import describe, prefixed
from mailserver.wire.lmtp import commands as c
from mailserver.wire.lmtp.grammar import STRICT, Leniency, parse_command
from mailserver.wire.lmtp.reader import (
    DATA_END,
    NEED_DATA,
    DataPart,
    Line,
    LmtpReader,
)
from mailserver.wire.lmtp.trace import Trace, delivered_to, received, return_path
from tests.fuzz.target import Target, choices, cut

# -- framing -----------------------------------------------------------------------------


def converse(packets: list[bytes], max_line: int) -> list[object]:
    """What a reader makes of packets, where DATA and BDAT are taken at their word."""
    reader = LmtpReader(max_line)
    events: list[object] = []
    for packet in packets:
        reader.feed(packet)
        while (event := reader.next()) is not NEED_DATA:
            if isinstance(event, DataPart) and events and isinstance(events[-1], DataPart):
                event = DataPart(events.pop().octets + event.octets)  # type: ignore[attr-defined]
            events.append(event)
            if not isinstance(event, Line):
                continue
            assert len(event.octets) <= max_line and b"\n" not in event.octets
            command = parse_command(event.octets)
            if isinstance(command, c.Data):
                reader.start_data()
            elif isinstance(command, c.Bdat):
                reader.start_chunk(command.size)
    return events


def check_reader(octets: bytes) -> None:
    max_line = choices(octets).choice((20, 512, 8192))
    events = converse([octets], max_line)
    assert converse(cut(octets), max_line) == events
    if octets.startswith(b"DATA\r\n"):
        check_data(octets[6:], events)


def check_data(octets: bytes, events: list[object]) -> None:
    """The message is what stands before the first line with a dot alone, and every other
    line has lost one dot at its start."""
    *lines, _ = octets.split(b"\r\n")
    if b"." in lines:
        lines = lines[: lines.index(b".")]
        message = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines)
        assert DATA_END in events
        end = events.index(DATA_END)
        parts = [event.octets for event in events[1:end] if isinstance(event, DataPart)]
        assert b"".join(parts) == message


def conversations() -> list[bytes]:
    envelope = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
    return [
        b"LHLO x\r\n" + envelope + b"DATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n",
        b"DATA\r\n..\r\n.a\r\na.\r\n\n.\n\r\n.\r\nNOOP\r\n",
        b"DATA\r\n.\r\nDATA\r\n\r\n.\r\n",
        envelope + b"BDAT 5\r\nabcdeBDAT 0 LAST\r\nBDAT 3 LAST\r\n\r\n.RSET\r\n",
        b"NOOP\nNOOP\r\n" + b"x" * 30 + b"\r\nRSET\r\n",
    ]


# -- commands ----------------------------------------------------------------------------

LENIENT = Leniency(whitespace_before_path=True, mailbox_for_path=True)
PLAIN = describe(b"Subject: x\r\n\r\nx\r\n")
NOW = datetime(2024, 1, 1, tzinfo=UTC)
REPLY = re.compile(rb"[2-5][0-9]{2}[ -][ -~]*\r\n")


def check_command(octets: bytes) -> None:
    for leniency in (STRICT, LENIENT):
        command = parse_command(octets, leniency)
        if isinstance(command, c.SyntaxFault):
            reply = command.reply.octets()
            assert len(reply) <= 512 and REPLY.fullmatch(reply), reply
            continue
        match command:
            case c.Lhlo(client):
                trace = Trace(client, "", "mail.example.org", "LMTP", "", "x1", "", NOW)
                check_fields(received(trace))
            case c.Mail(sender, size):
                assert size is None or 0 <= size < 1 << 63
                check_fields(return_path(sender))
            case c.Rcpt(recipient):
                assert recipient
                check_fields(delivered_to(recipient))


def check_fields(octets: bytes) -> None:
    """Whatever the client wrote, what is put before its message is one field or more, of
    lines of at most 998 octets (RFC 5322 §2.1.1)."""
    assert prefixed(PLAIN, octets).size == PLAIN.size + len(octets)
    assert b"\0" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def lines() -> list[bytes]:
    return [
        b"LHLO mail.example.org", b"LHLO [192.0.2.1]", b"LHLO [IPv6:2001:db8::1]",
        b"MAIL FROM:<a@example.org>", b"MAIL FROM:<>", b"mail from:<a@b> SIZE=100 BODY=8BITMIME",
        b"MAIL FROM:<@x,@y:a@b> SMTPUTF8", b'MAIL FROM:<"a b\\"c"@[1.2.3.4]> RET=HDRS',
        "RCPT TO:<jörg@müller.example>".encode(), b"RCPT TO:<postmaster>", b"RCPT TO: a@b",
        b"RCPT TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a@b", b"RCPT TO:<" + b"a" * 250 + b"@b.example>",
        b"BDAT 100", b"BDAT 0 LAST", b"DATA", b"RSET", b"VRFY a", b"NOOP x", b"HELP", b"QUIT",
        b"STARTTLS", b"EHLO x", b"FOO",
    ]  # fmt: skip


VERBS = (b"LHLO ", b"MAIL FROM:<", b"RCPT TO:<", b"DATA\r\n", b"BDAT ", b" LAST", b"RSET", b"\r\n.")
TARGETS = (
    Target("lmtp_reader", check_reader, conversations, (*VERBS, b"\r\n.\r\n", b"\r\n..", b".")),
    Target(
        "lmtp_commands",
        check_command,
        lines,
        (*VERBS, b"@", b">", b" SIZE=", b" BODY=8BITMIME", b" SMTPUTF8", b"\\", b'"', b"[", b"]"),
    ),
)
