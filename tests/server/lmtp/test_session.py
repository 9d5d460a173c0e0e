"""LMTP conversations, as a client sees them."""

from __future__ import annotations

import re

import pytest
from twisted.internet.defer import Deferred

from mailserver.errors import ErrorKind, MailError
from mailserver.server.lmtp.session import TRACE_ROOM, LmtpSettings
from mailserver.wire.lmtp.grammar import Leniency
from tests.server.lmtp.harness import DELIVERY, ENVELOPE, Client
from tests.server.rig import Monitor


def codes(replies: str) -> list[str]:
    """`250 2.1.0` for each reply, the continued lines left out."""
    return re.findall(r"^(\d{3}(?: \d\.\d\.\d)?)(?= )", replies, re.MULTILINE)


@pytest.fixture
def client() -> Client:
    return Client()


def test_greeting_and_extensions(client: Client) -> None:
    """T46: PIPELINING and ENHANCEDSTATUSCODES are there; no STARTTLS without certificate."""
    assert client.greeting.startswith("220 mail.example.org mailserver ")
    assert client.say(b"LHLO mta.example.org\r\n") == (
        "250-mail.example.org\n250-PIPELINING\n250-ENHANCEDSTATUSCODES\n250-8BITMIME\n"
        "250-SMTPUTF8\n250-CHUNKING\n250 SIZE 1000000\n"
    )
    assert codes(client.say(b"STARTTLS\r\n")) == ["502 5.5.1"]  # SUN-4


def test_starttls_is_announced_with_a_certificate() -> None:
    """SUN-4."""
    assert "STARTTLS" in Client(tls=object()).say(b"LHLO mta.example.org\r\n")


def test_the_example_of_rfc_2033(client: Client) -> None:
    """T46: one reply per accepted recipient, in order; RFC 2033 §4.2."""
    over_quota = MailError(ErrorKind.OVER_QUOTA, "<green@foo.edu> is over quota")
    client.store.errors["green@foo.edu"] = over_quota
    assert codes(client.say(b"LHLO foo.edu\r\n")) == ["250"]
    assert codes(client.say(b"MAIL FROM:<chris@bar.com>\r\n")) == ["250 2.1.0"]
    assert codes(client.say(b"RCPT TO:<pat@foo.edu>\r\n")) == ["250 2.1.5"]
    assert codes(client.say(b"RCPT TO:<nobody@foo.edu>\r\n")) == ["550 5.1.1"]
    assert codes(client.say(b"RCPT TO:<green@foo.edu>\r\n")) == ["250 2.1.5"]
    assert codes(client.say(b"DATA\r\n")) == ["354"]
    assert client.say(b"Blah blah blah...\r\n..etc. etc. etc.\r\n") == ""
    replies = client.say(b".\r\n")
    assert codes(replies) == ["250 2.1.5", "452 4.2.2"]
    assert replies.endswith("452 4.2.2 <green@foo.edu> is over quota\n")
    assert codes(client.say(b"QUIT\r\n")) == ["221 2.0.0"]
    assert client.is_closed
    [(address, message)] = client.store.delivered
    assert address == "pat@foo.edu"
    assert message.endswith(b"\r\nBlah blah blah...\r\n.etc. etc. etc.\r\n")
    assert client.store.discarded == 1


def test_any_packet_split_gives_the_same_conversation() -> None:
    """T16: pipelined commands and data, cut anywhere, RFC 2920 §3.2."""
    octets = DELIVERY + b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nBDAT 3\r\na\r\n"
    octets += b"BDAT 3 LAST\r\nb\r\nQUIT\r\n"
    expected = ["250", "250 2.1.0", "250 2.1.5", "354", "250 2.1.5"]
    expected += ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.1.5", "221 2.0.0"]
    for size in range(1, len(octets) + 1):
        client = Client()
        replies = "".join(client.say(octets[i : i + size]) for i in range(0, len(octets), size))
        assert codes(replies) == expected
        assert [a for a, _ in client.store.delivered] == ["a@example.org", "b@example.org"]
        assert client.store.delivered[1][1].endswith(b"\r\na\r\nb\r\n")


def test_replies_to_a_group_leave_in_one_write(client: Client) -> None:
    """RFC 2920 §3.2: sent as a unit."""
    writes: list[bytes] = []
    client.transport.write = writes.append  # type: ignore[method-assign]
    client.say(ENVELOPE + b"DATA\r\n")
    assert len(writes) == 1


def test_headers_of_a_delivery(client: Client) -> None:
    """Return-Path and Delivered-To first, then Received (RFC 5321 §4.4), then the message."""
    client.say(DELIVERY)
    [(_, message)] = client.store.delivered
    lines = message.decode().split("\r\n")
    assert lines[0] == "Return-Path: <s@example.org>"
    assert lines[1] == "Delivered-To: a@example.org"
    assert lines[2] == "Received: from mta.example.org ([192.0.2.1])"
    assert re.fullmatch(r"\tby mail\.example\.org with LMTP id [0-9a-f]{12}\.1", lines[3])
    assert lines[4] == "\tfor <a@example.org>;"
    assert re.fullmatch(r"\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", lines[5])
    assert lines[6:] == ["Subject: x", "", "hi", ""]


def test_recipients_do_not_learn_of_each_other(client: Client) -> None:
    """RFC 5321 §7.2."""
    client.say(ENVELOPE + b"RCPT TO:<b@example.org>\r\nDATA\r\n\r\n.\r\n")
    for address, message in client.store.delivered:
        other = {"a@example.org": b"b@", "b@example.org": b"a@"}[address]
        assert other not in message


def test_utf8_envelope(client: Client) -> None:
    """RFC 6531 §3.7.3: the trace says so; without SMTPUTF8 such a recipient is refused."""
    client.say("LHLO x\r\nMAIL FROM:<太郎@example.jp> SMTPUTF8\r\n".encode())
    assert codes(client.say("RCPT TO:<花子@example.jp>\r\n".encode())) == ["250 2.1.5"]
    client.say(b"DATA\r\n.\r\n")
    [(_, message)] = client.store.delivered
    assert "Return-Path: <太郎@example.jp>".encode() in message
    assert b"with UTF8LMTP id" in message
    client.say(b"MAIL FROM:<>\r\n")
    assert codes(client.say("RCPT TO:<花子@example.jp>\r\n".encode())) == ["553 5.6.7"]


WRONG_ORDER = [
    (b"MAIL FROM:<>\r\n", ["503 5.5.1"]),
    (b"LHLO x\r\nRCPT TO:<a@b>\r\n", ["250", "503 5.5.1"]),
    (b"LHLO x\r\nDATA\r\n", ["250", "503 5.5.1"]),
    (b"LHLO x\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", ["250", "250 2.1.0", "503 5.5.1"]),
    # T46: without an accepted RCPT, 503 to DATA
    (b"LHLO x\r\nMAIL FROM:<>\r\nDATA\r\n", ["250", "250 2.1.0", "503 5.5.1"]),
    (
        b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@b>\r\nDATA\r\n",
        ["250", "250 2.1.0", "550 5.1.1", "503 5.5.1"],
    ),
    # RSET and LHLO end the transaction
    (ENVELOPE + b"RSET\r\nDATA\r\n", ["250", "250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
    (ENVELOPE + b"LHLO x\r\nDATA\r\n", ["250", "250 2.1.0", "250 2.1.5", "250", "503 5.5.1"]),
    # RFC 3030 §2: no DATA and no RCPT after BDAT
    (
        ENVELOPE + b"BDAT 1\r\nxDATA\r\nRCPT TO:<b@b>\r\n",
        ["250", "250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1", "503 5.5.1"],
    ),
    # a chunk is read also where it is refused
    (b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", ["503 5.5.1", "250 2.0.0"]),
    (b"LHLO x\r\nMAIL FROM:<>\r\nBDAT 6\r\nQUIT\r\n", ["250", "250 2.1.0", "503 5.5.1"]),
    # RFC 2033 §4.3: BDAT LAST without accepted recipients: no reply at all
    (
        b"LHLO x\r\nMAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        ["250", "250 2.1.0", "250 2.0.0"],
    ),
    (b"HELP\r\nVRFY a\r\nNOOP\r\nRSET\r\n", ["214 2.0.0", "252 2.5.0", "250 2.0.0", "250 2.0.0"]),
    (b"EHLO x\r\n", ["500 5.5.1"]),
]


@pytest.mark.parametrize(("octets", "replies"), WRONG_ORDER)
def test_order_of_commands(client: Client, octets: bytes, replies: list[str]) -> None:
    assert codes(client.say(octets)) == replies
    assert client.store.delivered == []
    client.lose()
    assert all(spool.discarded for spool in client.store.spools)


def test_the_same_recipient_twice_gets_two_replies(client: Client) -> None:
    """RFC 2033 §4.2."""
    replies = client.say(ENVELOPE + b"RCPT TO:<a@example.org>\r\nDATA\r\n.\r\n")
    assert codes(replies)[-2:] == ["250 2.1.5", "250 2.1.5"]


ERRORS = [
    (ErrorKind.NONEXISTENT, "550 5.1.1"),
    (ErrorKind.DISABLED, "450 4.2.1"),
    (ErrorKind.OVER_QUOTA, "452 4.2.2"),
    (ErrorKind.TOO_BIG, "552 5.3.4"),
    (ErrorKind.DISK_FULL, "452 4.3.1"),
    (ErrorKind.UNAVAILABLE, "451 4.3.0"),
    (ErrorKind.CORRUPT, "451 4.2.0"),
    (ErrorKind.INVALID, "553 5.1.3"),
    (ErrorKind.READ_ONLY, "451 4.3.0"),
]


@pytest.mark.parametrize(("kind", "expected"), ERRORS)
def test_errors_have_the_same_code_at_rcpt_and_after_data(kind: ErrorKind, expected: str) -> None:
    """T47, R3."""
    client = Client()
    client.store.rcpt_errors["r@b"] = client.store.errors["d@b"] = MailError(kind, "why")
    client.say(b"LHLO x\r\nMAIL FROM:<>\r\n")
    assert client.say(b"RCPT TO:<r@b>\r\n") == f"{expected} why\n"
    client.say(b"RCPT TO:<d@b>\r\nDATA\r\n")
    assert client.say(b".\r\n") == f"{expected} why\n"


def test_over_quota_may_be_for_ever() -> None:
    """T47: 552 5.2.2 by option, the same at RCPT and after DATA."""
    client = Client(settings=LmtpSettings("h", over_quota_is_temporary=False))
    over_quota = MailError(ErrorKind.OVER_QUOTA, "full")
    client.store.rcpt_errors["r@b"] = client.store.errors["d@b"] = over_quota
    client.say(b"LHLO x\r\nMAIL FROM:<>\r\n")
    assert client.say(b"RCPT TO:<r@b>\r\n") == "552 5.2.2 full\n"
    client.say(b"RCPT TO:<d@b>\r\nDATA\r\n")
    assert client.say(b".\r\n") == "552 5.2.2 full\n"


def test_declared_size_is_checked(client: Client) -> None:
    """T47: SIZE at MAIL, RFC 1870 §6.1; and the store is asked with it at RCPT."""
    client.say(b"LHLO x\r\n")
    limit = client.store.max_message_size - TRACE_ROOM
    assert codes(client.say(b"MAIL FROM:<> SIZE=%d\r\n" % (limit + 1))) == ["552 5.3.4"]
    assert codes(client.say(b"MAIL FROM:<> SIZE=%d\r\n" % limit)) == ["250 2.1.0"]
    client.say(b"RCPT TO:<a@b>\r\n")
    assert client.store.sizes == [limit]


@pytest.mark.parametrize("kind", [ErrorKind.TOO_BIG, ErrorKind.DISK_FULL])
def test_data_that_cannot_be_kept_is_read_to_its_end(client: Client, kind: ErrorKind) -> None:
    """One reply for each recipient, and what follows the message is a command again."""
    client.store.write_error = MailError(kind, "no")
    client.say(ENVELOPE + b"RCPT TO:<b@b>\r\nDATA\r\n")
    assert client.say(b"FAIL\r\nmore\r\nQUIT\r\n") == ""
    code = "552 5.3.4" if kind is ErrorKind.TOO_BIG else "452 4.3.1"
    assert codes(client.say(b".\r\nNOOP\r\n")) == [code, code, "250 2.0.0"]
    assert client.store.delivered == []


def test_chunks_after_a_failure_are_read_and_refused(client: Client) -> None:
    """RFC 3030 §2: accept and discard; one reply for each recipient at the last."""
    client.store.write_error = MailError(ErrorKind.DISK_FULL, "no")
    client.say(ENVELOPE + b"RCPT TO:<b@b>\r\n")
    assert codes(client.say(b"BDAT 4\r\nFAILBDAT 6\r\nQUIT\r\n")) == ["452 4.3.1", "452 4.3.1"]
    assert codes(client.say(b"BDAT 0 LAST\r\nNOOP\r\n")) == ["452 4.3.1", "452 4.3.1", "250 2.0.0"]


def test_a_message_that_cannot_be_described_is_refused(client: Client) -> None:
    client.store.finish_error = MailError(ErrorKind.BAD_MESSAGE, "empty")
    assert codes(client.say(DELIVERY))[-1] == "554 5.6.0"


@pytest.mark.parametrize("where", ["rcpt", "write", "finish", "deliver"])
def test_a_bug_is_answered_with_try_later(client: Client, where: str) -> None:
    """Nothing is lost and the conversation goes on; the text shows no exception."""
    from twisted.logger import globalLogPublisher

    failures: list[object] = []

    def observe(event: dict[str, object]) -> None:
        failures.extend([event["log_failure"]] if "log_failure" in event else [])

    globalLogPublisher.addObserver(observe)
    try:
        bug = ZeroDivisionError("secret")
        client.store.write_error = bug if where == "write" else None
        client.store.finish_error = bug if where == "finish" else None
        client.store.errors = {"a@example.org": bug} if where == "deliver" else {}
        if where == "rcpt":
            replies = client.say(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bug@b>\r\nNOOP\r\n")
        else:
            replies = client.say(ENVELOPE + b"DATA\r\nFAIL\r\n.\r\nNOOP\r\n")
    finally:
        globalLogPublisher.removeObserver(observe)
    assert codes(replies)[-2:] == ["451 4.3.0", "250 2.0.0"]
    assert "secret" not in replies
    assert "ref LMTP-00001" in replies
    assert len(failures) == 1


def test_replies_come_in_order_each_as_soon_as_it_can(client: Client) -> None:
    """RFC 2033 §5; deliveries run beside each other."""
    waits = {name: Deferred() for name in ("a@example.org", "b@b", "c@c")}
    client.store.waiting = dict(waits)
    client.say(ENVELOPE + b"RCPT TO:<b@b>\r\nRCPT TO:<c@c>\r\nDATA\r\n")
    assert client.say(b".\r\nNOOP\r\n") == ""
    waits["b@b"].callback(None)
    assert client.read() == ""
    waits["a@example.org"].callback(None)
    assert codes(client.read()) == ["250 2.1.5", "250 2.1.5"]
    assert [a for a, _ in client.store.delivered] == ["b@b", "a@example.org"]
    waits["c@c"].callback(None)
    assert codes(client.read()) == ["250 2.1.5", "250 2.0.0"]


def test_input_waits_behind_a_delivery_within_bounds(client: Client) -> None:
    """T52."""
    wait: Deferred[None] = Deferred()
    client.store.waiting["a@example.org"] = wait
    client.say(DELIVERY)
    client.say(b"NOOP\r\n" * 50_000)
    assert client.transport.producerState == "paused"
    wait.callback(None)
    assert client.transport.producerState == "producing"
    assert len(codes(client.read())) == 50_001


def test_the_number_of_recipients_is_limited() -> None:
    """RFC 5321 §4.5.3.1.10: 452, and those accepted so far get the message."""
    client = Client(settings=LmtpSettings("h", max_recipients=2))
    client.say(ENVELOPE)
    assert codes(client.say(b"RCPT TO:<b@b>\r\nRCPT TO:<c@c>\r\n")) == ["250 2.1.5", "452 4.5.3"]
    client.say(b"DATA\r\n.\r\n")
    assert [a for a, _ in client.store.delivered] == ["a@example.org", "b@b"]


def test_too_many_faulty_commands_end_the_connection() -> None:
    """S3."""
    client = Client(settings=LmtpSettings("h", max_bad_commands=3))
    assert codes(client.say(b"FOO\r\nBAR\r\n")) == ["500 5.5.1", "500 5.5.1"]
    assert codes(client.say(b"BAZ\r\nNOOP\r\n")) == ["500 5.5.1", "421 4.7.0"]
    assert client.is_closed


def test_lines_that_are_none(client: Client) -> None:
    """S3, S10: over the limit the line is refused; a bare LF ends the conversation."""
    assert codes(client.say(b"NOOP " + b"x" * 9000 + b"\r\nNOOP\r\n")) == ["500 5.5.2", "250 2.0.0"]
    assert codes(client.say(b"NOOP\nNOOP\r\n")) == ["500 5.5.2"]
    assert client.is_closed


def test_a_bad_bdat_ends_the_connection(client: Client) -> None:
    """What follows is a message, which must not be run."""
    assert codes(client.say(ENVELOPE + b"BDAT many\r\nQUIT\r\n"))[-1] == "501 5.5.4"
    assert client.is_closed


def test_lenient_forms_are_options() -> None:
    """T55."""
    client = Client(settings=LmtpSettings("h", leniency=Leniency(True, True)))
    assert codes(client.say(b"LHLO x\r\nMAIL FROM: a@b\r\nRCPT TO: <c@d>\r\n")) == [
        "250",
        "250 2.1.0",
        "250 2.1.5",
    ]


# -- deadlines and endings ---------------------------------------------------


def test_a_client_that_never_says_lhlo_is_closed(client: Client) -> None:
    """R11: absolute, whatever it sends."""
    for _ in range(5):
        client.clock.advance(10)
        client.say(b"NOOP\r\n")
    assert not client.is_closed
    client.clock.advance(10)
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.is_closed


def test_an_idle_client_is_closed(client: Client) -> None:
    """RFC 5321 §4.5.3.2.7: after 5 minutes, not before."""
    client.say(b"LHLO x\r\n")
    client.clock.advance(299)
    client.say(b"NOOP\r\n")
    client.clock.advance(299)
    assert not client.is_closed
    client.clock.advance(1)
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.is_closed


def test_a_command_that_trickles_in_is_not_waited_for(client: Client) -> None:
    """R11: octets of a line that does not end do not put the deadline off."""
    client.say(b"LHLO x\r\n")
    for _ in range(5):
        assert not client.is_closed
        client.say(b"x")
        client.clock.advance(60)
    assert codes(client.read())[-1] == "421 4.3.2"
    assert client.is_closed


def test_a_client_that_takes_no_replies_is_cut_off(client: Client) -> None:
    """R10, T52: after 5 minutes, not before."""
    client.say(b"LHLO x\r\n")
    client.transport.producer.pauseProducing()
    client.clock.advance(299)
    assert not client.is_closed
    client.clock.advance(1)
    assert client.is_closed


def test_a_message_that_trickles_in_is_not_waited_for_without_end(client: Client) -> None:
    """R11."""
    client.say(ENVELOPE + b"DATA\r\n")
    for _ in range(36):
        assert not client.is_closed
        client.clock.advance(100)
        client.say(b"x\r\n") if not client.is_closed else None
    assert client.is_closed
    assert client.store.spools[0].discarded
    assert client.store.delivered == []


def test_the_time_of_a_delivery_is_not_the_clients(client: Client) -> None:
    """RFC 5321 §4.5.3.2.6: a timeout here would deliver twice."""
    wait: Deferred[None] = Deferred()
    client.store.waiting["a@example.org"] = wait
    client.say(DELIVERY)
    client.clock.pump([100] * 20)
    assert not client.is_closed
    wait.callback(None)
    assert codes(client.read()) == ["250 2.1.5"]
    client.clock.advance(299)
    assert not client.is_closed


def test_shutdown_finishes_a_delivery_and_says_421(client: Client) -> None:
    """R18."""
    wait: Deferred[None] = Deferred()
    client.store.waiting["a@example.org"] = wait
    client.say(DELIVERY)
    client.connection.disconnect("server is stopping")
    assert not client.is_closed
    wait.callback(None)
    assert codes(client.read()) == ["250 2.1.5", "421 4.3.2"]
    assert client.is_closed


def test_shutdown_amid_data_drops_the_message(client: Client) -> None:
    """R18: the client keeps what was not answered."""
    client.say(ENVELOPE + b"DATA\r\nhalf")
    client.connection.disconnect("server is stopping")
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.is_closed
    assert client.store.spools[0].discarded


def test_commands_wait_while_the_client_does_not_read(client: Client) -> None:
    """T52: replies do not pile up."""
    client.connection.pauseProducing()
    assert client.say(b"NOOP\r\n" * 1000) == ""
    client.connection.resumeProducing()
    assert client.read().count("250 2.0.0") == 1000


def test_a_client_that_leaves_amid_data_leaves_nothing_behind(client: Client) -> None:
    client.say(ENVELOPE + b"DATA\r\nhalf")
    client.lose()
    assert client.store.spools[0].discarded
    assert client.store.delivered == []
    assert client.clock.getDelayedCalls() == []


def test_a_client_that_leaves_amid_the_delivery_gets_it(client: Client) -> None:
    """T48: a duplicate is possible then, a loss is not."""
    wait: Deferred[None] = Deferred()
    client.store.waiting["a@example.org"] = wait
    client.say(DELIVERY)
    client.lose()
    wait.callback(None)
    assert [a for a, _ in client.store.delivered] == ["a@example.org"]
    assert client.store.discarded == 1
    assert client.clock.getDelayedCalls() == []


def test_one_connection_too_many_is_told_so() -> None:
    """SUN-30: it may retry."""
    monitor = Monitor()
    monitor.max_sessions = 0
    client = Client(monitor=monitor)
    assert codes(client.greeting) == ["421 4.3.2"]
    assert client.is_closed


def test_the_log_cannot_be_forged(client: Client) -> None:
    """S13: what a client sends stands in the log as one line."""
    from twisted.logger import formatEvent, globalLogPublisher

    events: list[str] = []

    def observe(event: dict[str, object]) -> None:
        events.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        sender = "a\u2028LMTP-00001\u0085" + "x" * 300
        client.say(f"LHLO x\r\nMAIL FROM:<{sender}@b> SMTPUTF8\r\nRCPT TO:<c@d>\r\n".encode())
        client.say(b"DATA\r\n.\r\n")
    finally:
        globalLogPublisher.removeObserver(observe)
    [line] = [event for event in events if " delivered id=" in event]
    assert len(line.splitlines()) == 1
    assert len(line) < 600
