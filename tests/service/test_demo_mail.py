"""The demo's messages: the same at every call, and of every kind."""

from __future__ import annotations

from collections import Counter
from email import message_from_bytes
from email.policy import default

from mailserver.model.names import canonical
from mailserver.service.demo_mail import ACCOUNTS, messages


def test_the_same_at_every_call() -> None:
    assert list(messages()) == list(messages())


def test_a_few_dozen_for_the_accounts() -> None:
    placed = list(messages())
    assert 36 <= len(placed) <= 60
    assert {message.account for message in placed} == {name for name, _ in ACCOUNTS}
    assert len({(message.account, message.key) for message in placed}) == len(placed)
    for message in placed:
        assert canonical(message.mailbox) == message.mailbox


def test_lines_end_in_crlf_and_are_short_enough() -> None:
    """RFC 5322 §2.1.1: what a client would be allowed to send."""
    for message in messages():
        bare = message.octets.replace(b"\r\n", b"")
        assert b"\r" not in bare
        assert b"\n" not in bare
        assert max(map(len, message.octets.split(b"\r\n"))) <= 998


def test_every_kind_is_there() -> None:
    kinds: Counter[str] = Counter()
    for placed in messages():
        message = message_from_bytes(placed.octets, policy=default)
        kinds.update(part.get_content_type() for part in message.walk())
        kinds.update(filter(None, (part.get_content_charset() for part in message.walk())))
        kinds["thread"] += "References" in message
        kinds["attachment"] += any(True for _ in message.iter_attachments())
    for kind in (
        "multipart/mixed multipart/alternative multipart/related multipart/report text/html"
        " text/calendar message/rfc822 message/delivery-status image/png application/pdf"
        " iso-2022-jp shift_jis koi8-r utf-8 thread attachment"
    ).split():
        assert kinds[kind] > 0, kind
    assert kinds["thread"] >= 10


def test_the_japanese_subject_in_seven_bits_can_be_read() -> None:
    subjects = [message_from_bytes(m.octets, policy=default)["Subject"] for m in messages()]
    assert "桜の便り" in subjects
