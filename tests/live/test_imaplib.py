"""Python's imaplib and smtplib against the real server: the first whole path."""

from __future__ import annotations

import imaplib
import os
import signal
import smtplib
import socket
import ssl
import time
from collections.abc import Callable

import pytest

from tests.live.server import Server

MESSAGE = (
    b"From: a@example.org\r\nTo: b@example.org\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n"
    b"\r\nHello\r\n.dot\r\n"
)


def starttls(server: Server, account: tuple[str, str]) -> imaplib.IMAP4:
    client = imaplib.IMAP4(server.host, server.port("imap"), timeout=30)
    client.starttls(server.tls())
    client.login(*account)
    return client


def tls(server: Server, account: tuple[str, str]) -> imaplib.IMAP4_SSL:
    client = imaplib.IMAP4_SSL(
        server.host, server.port("imaps"), ssl_context=server.tls(), timeout=30
    )
    client.login(*account)
    return client


def deliver(server: Server, *recipients: str, octets: bytes = MESSAGE) -> None:
    with smtplib.LMTP(server.host, server.port("lmtp"), timeout=30) as lmtp:
        refused = lmtp.sendmail("sender@example.org", list(recipients), octets)
        assert not refused


def test_a_message_comes_in_by_lmtp_and_goes_out_by_imap(
    server: Server, new_account: Callable[[], tuple[str, str]]
) -> None:
    account = new_account()
    deliver(server, account[0])
    for connect in (starttls, tls):
        client = connect(server, account)
        assert client.select("INBOX") == ("OK", [b"1"])
        status, found = client.fetch("1", "(BODY.PEEK[] RFC822.SIZE)")
        assert status == "OK"
        assert found[0][1].endswith(MESSAGE.split(b"\r\n", 1)[1]), "octet for octet"
        assert b"Delivered-To: " + account[0].encode() in found[0][1]
        assert b"RFC822.SIZE %d" % len(found[0][1]) in found[0][0] + found[1]
        assert client.search(None, "SUBJECT", "Hello") == ("OK", [b""])
        assert client.search(None, "BODY", "hello") == ("OK", [b"1"])
        client.logout()


def test_an_idling_session_hears_of_a_delivery_at_once(
    server: Server, new_account: Callable[[], tuple[str, str]]
) -> None:
    """DOV-1: within 100 ms of the delivery; the median of five."""
    account = new_account()
    client = tls(server, account)
    client.select("INBOX")
    client.send(b"i1 IDLE\r\n")
    assert client.readline().startswith(b"+ ")
    waits = []
    for count in range(1, 6):
        deliver(server, account[0])
        delivered = time.perf_counter()
        while (line := client.readline()) != b"* %d EXISTS\r\n" % count:
            assert line.startswith(b"* "), line
        waits.append(time.perf_counter() - delivered)
    client.send(b"done\r\n")
    while not client.readline().startswith(b"i1 OK"):
        pass
    client.logout()
    assert sorted(waits)[2] < 0.1, waits


def test_mail_delivered_by_the_command_line_wakes_an_idling_session(
    server: Server, new_account: Callable[[], tuple[str, str]]
) -> None:
    """SUN-50: another process on the same data is heard at once."""
    account = new_account()
    client = tls(server, account)
    client.select("INBOX")
    client.send(b"i1 IDLE\r\n")
    assert client.readline().startswith(b"+ ")
    server.mailctl("deliver", "-d", account[0], text="Subject: by pipe\n\nHello\n")
    client.sock.settimeout(2)
    assert client.readline() == b"* 1 EXISTS\r\n"
    client.send(b"DONE\r\n")
    while not client.readline().startswith(b"i1 OK"):
        pass
    client.logout()


def test_plaintext_passwords_are_refused_before_tls(server: Server) -> None:
    """S2, SUN-6, SUN-11, CGP-7, T40: where an option says so, from the next reload on."""
    option = ("configutil", "-o", "service.imap.plaintextmincipher")
    server.mailctl(*option, "-v", "1")
    try:
        client = reloaded(server, lambda capabilities: "LOGINDISABLED" in capabilities)
        assert "STARTTLS" in client.capabilities
        assert not {"AUTH=PLAIN", "AUTH=LOGIN"} & set(client.capabilities)
        with pytest.raises(imaplib.IMAP4.error, match=r"\[PRIVACYREQUIRED\]"):
            client.login(*server.demo_account())
        client.starttls(server.tls())
        assert "LOGINDISABLED" not in client.capabilities
        client.login(*server.demo_account())
        client.logout()
    finally:
        server.mailctl(*option, "--unset")
        reloaded(server, lambda capabilities: "LOGINDISABLED" not in capabilities).logout()


def reloaded(server: Server, done: Callable[[tuple[str, ...]], bool]) -> imaplib.IMAP4:
    """Make the server read its configuration again; a connection that sees it."""
    os.kill(int(server.info["pid"]), signal.SIGHUP)
    until = time.monotonic() + 10
    while True:
        client = imaplib.IMAP4(server.host, server.port("imap"), timeout=30)
        if done(client.capabilities):
            return client
        client.logout()
        assert time.monotonic() < until, "not reloaded"


def test_what_is_glued_to_starttls_is_never_run(server: Server) -> None:
    """T1, S1: the connection ends, by a real TLS client's view too."""
    with socket.create_connection((server.host, server.port("imap")), timeout=10) as plain:
        assert plain.recv(4096).startswith(b"* OK")
        plain.sendall(b"a STARTTLS\r\nb NOOP\r\n")
        answer = b""
        while octets := plain.recv(4096):
            answer += octets
        assert b"b OK" not in answer
        assert b"b BAD" not in answer


def test_old_tls_versions_are_refused(server: Server) -> None:
    """S12."""
    context = ssl.create_default_context(cafile=server.ca_file)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((server.host, server.port("imaps")), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            assert secure.version() == "TLSv1.2"
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((server.host, server.port("imaps")), timeout=10) as plain:
        try:
            context.wrap_socket(plain, server_hostname="localhost").close()
        except (ssl.SSLError, ConnectionResetError):
            return
    raise AssertionError("TLS 1.1 was accepted")
