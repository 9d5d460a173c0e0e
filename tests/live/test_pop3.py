"""Python's poplib and curl over POP3 with STLS and over the TLS port, against the real server."""

from __future__ import annotations

import imaplib
import mailbox
import poplib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.server import Server
from tests.live.test_imaplib import MESSAGE, deliver
from tests.mailgen import message
from tests.requires import require_program

COUNT = 200
"""Messages that each client retrieves."""


def stls(server: Server, account: tuple[str, str]) -> poplib.POP3:
    client = poplib.POP3(server.host, server.port("pop3"), timeout=30)
    assert "STLS" in client.capa()
    client.stls(server.tls())
    assert "STLS" not in client.capa()  # T45
    client.user(account[0])
    client.pass_(account[1])
    return client


def tls(server: Server, account: tuple[str, str]) -> poplib.POP3:
    client = poplib.POP3_SSL(server.host, server.port("pop3s"), context=server.tls(), timeout=30)
    client.user(account[0])
    client.pass_(account[1])
    return client


@pytest.fixture(scope="module")
def mails() -> list[bytes]:
    """Mail with all sorts of content, dots at line starts and one large message among it."""
    some = [message(number) for number in range(COUNT - 3)]
    dots = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n"
    large = b"Subject: large\r\n\r\n" + b".0123456789\r\n" * 100_000
    return [*some, dots, large, b"Subject: no end\r\n\r\nx"]


def fill(server: Server, account: tuple[str, str], mails: list[bytes], folder: Path) -> None:
    """Put the messages into an INBOX as they are."""
    box = mailbox.Maildir(folder / account[0])
    for number, mail in enumerate(mails):
        name = folder / account[0] / "new" / f"{1_700_000_000 + number}.{number:04d}.host"
        name.write_bytes(mail)
    box.close()
    server.mailctl("import", account[0], str(folder / account[0]))


@pytest.mark.parametrize("connect", [stls, tls])
def test_messages_are_retrieved_octet_for_octet_and_half_of_them_removed(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    connect: Callable[[Server, tuple[str, str]], poplib.POP3],
    mails: list[bytes],
    tmp_path: Path,
) -> None:
    """T42, T43, T44, CGP-3; an IMAP session looks on, mail comes in meanwhile."""
    account = new_account()
    fill(server, account, mails, tmp_path)
    imap = imaplib.IMAP4_SSL(server.host, server.port("imaps"), ssl_context=server.tls())
    imap.login(*account)
    assert imap.select("INBOX") == ("OK", [b"%d" % COUNT])

    client = connect(server, account)
    found = {}
    sizes = dict(line.split() for line in client.list()[1])
    for number in range(1, COUNT + 1):
        octets = b"".join(line + b"\r\n" for line in client.retr(number)[1])
        assert int(sizes[b"%d" % number]) == len(octets)
        found[number] = octets
    assert client.stat() == (COUNT, sum(map(len, found.values())))
    expected = [mail if mail.endswith(b"\r\n") else mail + b"\r\n" for mail in mails]
    assert sorted(found.values()) == sorted(expected)
    uids = dict(line.split() for line in client.uidl()[1])
    assert len(set(uids.values())) == COUNT
    deliver(server, account[0])
    for number in range(1, COUNT + 1, 2):
        client.dele(number)
    assert client.quit().startswith(b"+OK ")

    assert imap.noop()[0] == "OK"
    assert imap.select("INBOX") == ("OK", [b"%d" % (COUNT // 2 + 1)])
    imap.logout()
    client = connect(server, account)
    left = dict(line.split() for line in client.uidl()[1])
    assert len(left) == COUNT // 2 + 1
    for number in range(1, COUNT // 2 + 1):
        assert left[b"%d" % number] == uids[b"%d" % (2 * number)]
        octets = b"".join(line + b"\r\n" for line in client.retr(number)[1])
        assert octets == found[2 * number]
    client.quit()


@pytest.mark.parametrize("scheme", ["pop3", "pop3s"])
def test_curl(server: Server, new_account: Callable[[], tuple[str, str]], scheme: str) -> None:
    account = new_account()
    deliver(server, account[0])
    deliver(server, account[0])
    command = [require_program("curl"), "-sS", "--cacert", server.ca_file, "--max-time", "20"]
    command += ["--ssl-reqd", "-u", f"{account[0]}:{account[1]}"]
    base = f"{scheme}://localhost:{server.port(scheme)}/"

    def curl(*arguments: str) -> bytes:
        return subprocess.run([*command, *arguments], capture_output=True, check=True).stdout

    listed = dict(line.split() for line in curl(base).splitlines())
    assert list(listed) == [b"1", b"2"]
    octets = curl(f"{base}2")
    assert len(octets) == int(listed[b"2"])
    assert octets.endswith(MESSAGE.split(b"\r\n", 1)[1])
    curl("-X", "DELE 1", "-I", base)
    assert curl(base).startswith(b"1 ")
    assert len(curl("-X", "UIDL", base).splitlines()) == 1


def client_hello() -> bytes:
    """What a client sends first in TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        engine.do_handshake()
    return outgoing.read()


def read_all(plain: socket.socket) -> bytes:
    """Everything until the server closes, which it may do with a reset."""
    octets = b""
    try:
        while part := plain.recv(4096):
            octets += part
    except ConnectionResetError:
        pass
    return octets


@pytest.mark.parametrize("glued", [b"NOOP\r\n", b"\n", b"U", "hello"])
def test_what_is_glued_to_stls_is_never_run(server: Server, glued: bytes | str) -> None:
    """S1, T1: also a ClientHello."""
    behind = client_hello() if isinstance(glued, str) else glued
    with socket.create_connection((server.host, server.port("pop3")), timeout=10) as plain:
        plain.sendall(b"STLS\r\n" + behind)
        answer = read_all(plain)
    assert answer.endswith(b"-ERR nothing may follow STLS before TLS; closing\r\n")


def test_stls_at_every_split_point(server: Server) -> None:
    """S1, T16: however the commands come, what follows the answer is TLS alone."""
    talk = b"CAPA\r\nSTLS\r\n"
    context = server.tls()
    for at in range(1, len(talk)):
        with socket.create_connection((server.host, server.port("pop3")), timeout=10) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.sendall(talk[:at])
            plain.sendall(talk[at:])
            answer = b""
            while not answer.endswith(b"+OK begin TLS now\r\n"):
                part = plain.recv(4096)
                assert part, answer
                answer += part
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"PASS x\r\n")
                assert secure.recv(4096) == b"-ERR say USER first\r\n"
                secure.sendall(b"STLS\r\n")
                assert secure.recv(4096) == b"-ERR TLS is active already\r\n"


def test_a_name_said_in_clear_is_void_after_stls(
    server: Server, new_account: Callable[[], tuple[str, str]]
) -> None:
    """T1, S2."""
    name, password = new_account()
    client = poplib.POP3(server.host, server.port("pop3"), timeout=10)
    client.user(name)
    client.stls(server.tls())
    with pytest.raises(poplib.error_proto, match="say USER first"):
        client.pass_(password)
    client.quit()
