"""Large messages of a real server reach the client octet by octet, whether the kernel sends
them from their file, a client that reads slowly makes it stop, or TLS has them read (T31, T52)."""

from __future__ import annotations

import imaplib
import os
import random
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.handshake import Authority
from tests.service.process import HOST, PASSWORD, TWISTD, Process, add_account, write_config

ANN = "ann@example.org"
CHANCE = random.Random(31)
LINES = b"".join(b"%060d\r\n" % CHANCE.randrange(10**60) for _each in range(150_000))
"""9 MB of octets that are nowhere the same: more than the kernel keeps for a connection."""

MIXED = (
    b"From: a@example.org\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\n\r\nfirst\r\n--b\r\nContent-Type: application/pdf\r\n\r\n%b\r\n--b--\r\n"
)
PLAIN = MIXED % LINES
WITH_NUL = MIXED % (LINES[:-3] + b"\0" + LINES[-2:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("large")


@pytest.fixture(scope="module")
def process(folder: Path) -> Iterator[Process]:
    chain, key = Authority.make().write_pair(folder / "tls", "mail.example.org", [])
    config = write_config(
        folder,
        service__imap__plaintextmincipher="0",
        tls__certificate=f'"{chain}"',
        tls__key=f'"{key}"',
    )
    add_account(config, ANN)
    add_account(config, "ben@example.org")
    process = Process.start(*TWISTD, str(config))
    client = imaplib.IMAP4(HOST, process.ports["imap"])
    client.login(ANN, PASSWORD)
    for octets in (PLAIN, b"Subject: small\r\n\r\nsmall\r\n", PLAIN):
        assert client.append("INBOX", "", "", octets)[0] == "OK"
    client.socket().sendall(b"x APPEND INBOX ~{%d+}\r\n%b\r\n" % (len(WITH_NUL), WITH_NUL))
    while not (line := client.readline()).startswith(b"x "):
        assert line.startswith(b"* "), line
    assert line.startswith(b"x OK"), line
    client.logout()
    yield process
    process.stop()
    assert not [line for line in process.log if "Traceback" in line]


@pytest.fixture(params=["plain", "starttls", "tls"])
def client(process: Process, request: pytest.FixtureRequest) -> Iterator[imaplib.IMAP4]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if request.param == "tls":
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL(HOST, process.ports["imaps"], ssl_context=context)
    else:
        client = imaplib.IMAP4(HOST, process.ports["imap"])
    if request.param == "starttls":
        client.starttls(context)
    client.login(ANN, PASSWORD)
    client.select("INBOX", readonly=True)
    yield client
    client.logout()


def fetched(client: imaplib.IMAP4, numbers: str, items: str) -> list[bytes]:
    """The literals of an answer."""
    kind, data = client.fetch(numbers, items)
    assert kind == "OK"
    return [part[1] for part in data if isinstance(part, tuple)]


def test_messages_come_whole_and_in_order(client: imaplib.IMAP4) -> None:
    got = fetched(client, "1:4", "(BODY.PEEK[])")
    assert got[1] == b"Subject: small\r\n\r\nsmall\r\n"
    assert got[0] == got[2] == PLAIN
    assert got[3] == WITH_NUL.replace(b"\0", b"\x80"), "T31: NUL cannot be sent"


def test_parts_and_ranges_are_cut_out(client: imaplib.IMAP4) -> None:
    got = fetched(client, "1", "(BODY.PEEK[2] BODY.PEEK[1] BODY.PEEK[]<70000.5000000> UID)")
    assert got == [LINES, b"first", PLAIN[70000:5070000]]
    assert fetched(client, "4", "(BODY.PEEK[2])") == [LINES[:-3] + b"\x80" + LINES[-2:]]


def test_what_delivery_puts_before_it_comes_first(process: Process) -> None:
    """Those lines are not in the file, so its octets are at other places than the message's."""
    with smtplib.LMTP(HOST, process.ports["lmtp"]) as lmtp:
        lmtp.ehlo("mx.example.org")
        lmtp.sendmail("bob@example.org", ["ben@example.org"], PLAIN)
    client = imaplib.IMAP4(HOST, process.ports["imap"])
    client.login("ben@example.org", PASSWORD)
    client.select("INBOX", readonly=True)
    [got] = fetched(client, "1", "(BODY.PEEK[])")
    assert got.endswith(b"\r\n" + PLAIN.rstrip(b"\r\n") + b"\r\n"), "with its last line ended"
    assert got.startswith(b"Return-Path: <bob@example.org>\r\n")
    client.logout()


def test_a_client_that_reads_slowly_gets_the_same(process: Process) -> None:
    slow = socket.create_connection((HOST, process.ports["imap"]))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    with slow, slow.makefile("rb") as lines:
        lines.readline()
        slow.sendall(b"a LOGIN %b %b\r\n" % (ANN.encode(), PASSWORD.encode()))
        slow.sendall(b"b EXAMINE INBOX\r\nc FETCH 1,3 (BODY.PEEK[])\r\n")
        for number in (1, 3):
            start = b"* %d FETCH (" % number
            while not (line := lines.readline()).startswith(start):
                assert line
            assert line == start + b"BODY[] {%d}\r\n" % len(PLAIN)
            got = b""
            while len(got) < len(PLAIN):
                got += lines.read(min(1_000_000, len(PLAIN) - len(got)))
                time.sleep(0.02)  # the kernel's memory for it is full meanwhile
            assert got == PLAIN
            assert lines.readline() == b")\r\n"
        assert lines.readline().startswith(b"c OK")


def test_a_client_that_goes_away_amid_one_leaves_the_file_closed(process: Process) -> None:
    def files() -> int:
        return sum(
            "/files/" in str(link.readlink())
            for link in Path(f"/proc/{process.popen.pid}/fd").iterdir()
            if link.is_symlink()
        )

    gone = socket.create_connection((HOST, process.ports["imap"]))
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    gone.sendall(b"a LOGIN %b %b\r\n" % (ANN.encode(), PASSWORD.encode()))
    gone.sendall(b"b EXAMINE INBOX\r\nc FETCH 1,3 (BODY.PEEK[])\r\n")
    got = b""
    while b"BODY[] {" not in got:
        got += gone.recv(4096)
    assert files() >= 1
    gone.close()
    end = time.monotonic() + 5
    while files() and time.monotonic() < end:
        time.sleep(0.02)
    assert files() == 0


def test_a_file_that_is_cut_off_ends_the_connection(process: Process, folder: Path) -> None:
    """R6: what was announced cannot be kept, and nothing else may be taken for it."""
    cut = b"Subject: cut\r\n\r\n" + LINES[:1_000_000]
    client = imaplib.IMAP4(HOST, process.ports["imap"])
    client.login(ANN, PASSWORD)
    client.create("cut")
    assert client.append("cut", "", "", cut)[0] == "OK"
    [file] = [
        path
        for path in folder.joinpath("data", "accounts").glob("*/*/files/*/*")
        if path.stat().st_size == len(cut)
    ]
    os.truncate(file, 700_000)
    client.select("cut", readonly=True)
    with pytest.raises((imaplib.IMAP4.abort, ConnectionResetError)):
        client.fetch("1", "(BODY.PEEK[])")
    client.shutdown()
    assert process.wait_for("a response could not be completed")
