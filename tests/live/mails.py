"""Mail of all sorts for clients that fetch a whole mailbox, and what they made of it."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.live.server import Server
from tests.live.test_imaplib import tls
from tests.mailgen import message

MANY = [pytest.param(100, id="100"), pytest.param(1000, id="1000", marks=pytest.mark.long)]
"""How many messages a client fetches."""

_HEADER = (
    b"Return-Path: <bounce-0@example.org>\r\nFrom: a@example.org\r\nTo: b@example.org\r\n"
    b"Message-ID: <%b@example.org>\r\n"
)

SPECIAL = {
    b"dots": b".\r\n..\r\n.x\r\n\r\n.\r\n",
    b"empty": b"",
    b"blank": b"\r\n\r\n",
    b"8bit": "Grüße, 日本\r\n".encode() + b"\xe4\xf6\xfc\xff\r\n",
    b"from": b"From here on\r\n>From there\r\n",
    b"large": b".0123456789 " * 8 + b"\r\n" + b"the large one %\r\n" * 62_000,
}
"""Message-ID -> body: each has been somebody's trouble."""


def mails(count: int, longest_line: int = 19_000) -> list[bytes]:
    """Messages as they are kept, with CRLF, all different: 1 MB, attachments, 8-bit, a long
    line, dots, no body among them."""
    bodies = {**SPECIAL, b"long": b"0123456789" * (longest_line // 10) + b"\r\nshort\r\n"}
    special = [_HEADER % name + b"\r\n" + body for name, body in bodies.items()]
    return [message(number) for number in range(count - len(special))] + special


def fill(server: Server, account: tuple[str, str], octets: Iterable[bytes]) -> None:
    """Put messages into an INBOX as they are, in this order."""
    client = tls(server, account)
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for mail in octets:
        assert client.append("INBOX", None, None, mail)[0] == "OK"
    client.logout()


def as_local(octets: bytes) -> bytes:
    """A message as programs keep it in files of this system."""
    return octets.replace(b"\r\n", b"\n")


def check_same(got: Iterable[bytes], sent: Iterable[bytes]) -> None:
    """Have the same messages in any order; says where the first ones begin to differ."""
    there, wanted = Counter(got), Counter(sent)
    missing, other = sorted(wanted - there), sorted(there - wanted)
    assert not missing and not other, (
        f"{len(missing)} of {wanted.total()} missing, {len(other)} others: "
        f"{list(map(first_difference, missing, other))}"
    )


def first_difference(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """The octets at which two messages begin to differ."""
    at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), 0)
    return one[at : at + 60], other[at : at + 60]


def written(folder: Path) -> list[bytes]:
    """What a client has written, a file for each message."""
    return [file.read_bytes() for file in folder.iterdir()]


def kept(server: Server, account: tuple[str, str]) -> dict[int, bytes]:
    """What is in an INBOX now: UID -> octets."""
    client = tls(server, account)
    count = int(client.select("INBOX", readonly=True)[1][0])
    rows = client.fetch("1:*", "(UID BODY.PEEK[])")[1] if count else []
    client.logout()
    found = [row for row in rows if isinstance(row, tuple)]
    return {int(head.split(b"UID ")[1].split()[0]): octets for head, octets in found}
