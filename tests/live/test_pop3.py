"""Python's poplib and curl over POP3 with STLS and over the TLS port, against the real server."""

from __future__ import annotations

import contextlib
import email
import email.policy
import hashlib
import imaplib
import os
import poplib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.mails import MANY, check_same, fill, kept, mails
from tests.live.server import Server
from tests.live.test_imaplib import deliver
from tests.requires import require_program
from tests.service.process import (
    HOST,
    MAILCTL,
    PASSWORD,
    TWISTD,
    Process,
    add_account,
    run,
    write_config,
)


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


@pytest.mark.parametrize("connect", [stls, pytest.param(tls, marks=pytest.mark.long)])
@pytest.mark.parametrize("count", MANY)
def test_messages_are_retrieved_octet_for_octet_and_half_of_them_removed(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    connect: Callable[[Server, tuple[str, str]], poplib.POP3],
    count: int,
) -> None:
    """T42, T43, T44, CGP-3; an IMAP session looks on, mail comes in meanwhile."""
    monkeypatch.setattr(poplib, "_MAXLINE", 1 << 20)  # it gives up at lines of 2,048 octets
    account, no_end = new_account(), b"Subject: no end\r\n\r\nx"
    sent = [*mails(count - 1), no_end]
    fill(server, account, sent)
    imap = imaplib.IMAP4_SSL(server.host, server.port("imaps"), ssl_context=server.tls())
    imap.login(*account)
    assert imap.select("INBOX") == ("OK", [b"%d" % count])

    client = connect(server, account)
    found = {}
    sizes = dict(line.split() for line in client.list()[1])
    for number in range(1, count + 1):
        octets = b"".join(line + b"\r\n" for line in client.retr(number)[1])
        assert int(sizes[b"%d" % number]) == len(octets)
        found[number] = octets
    assert client.stat() == (count, sum(map(len, found.values())))
    check_same(found.values(), [*sent[:-1], no_end + b"\r\n"])
    uids = dict(line.split() for line in client.uidl()[1])
    assert len(set(uids.values())) == count
    deliver(server, account[0])
    for number in range(1, count + 1, 2):
        client.dele(number)
    assert client.quit().startswith(b"+OK ")

    assert imap.noop()[0] == "OK"
    assert imap.select("INBOX") == ("OK", [b"%d" % (count // 2 + 1)])
    imap.logout()
    client = connect(server, account)
    left = dict(line.split() for line in client.uidl()[1])
    assert len(left) == count // 2 + 1
    for number in range(1, count // 2 + 1):
        assert left[b"%d" % number] == uids[b"%d" % (2 * number)]
        octets = b"".join(line + b"\r\n" for line in client.retr(number)[1])
        assert octets == found[2 * number]
    client.quit()


@pytest.mark.parametrize("scheme", ["pop3", pytest.param("pop3s", marks=pytest.mark.long)])
@pytest.mark.parametrize("count", MANY)
def test_curl(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    scheme: str,
    count: int,
) -> None:
    """STLS and the TLS port; numbers and commands as they stand in curl's manual."""
    account, sent = new_account(), mails(count)
    fill(server, account, sent)
    command = [require_program("curl"), "-sS", "--cacert", server.ca_file, "--max-time", "120"]
    command += ["--ssl-reqd", "-u", f"{account[0]}:{account[1]}"]
    base = f"{scheme}://localhost:{server.port(scheme)}/"

    def curl(*arguments: str) -> bytes:
        return subprocess.run([*command, *arguments], capture_output=True, check=True).stdout

    listed = dict(line.split() for line in curl(base).splitlines())
    assert list(listed) == [b"%d" % number for number in range(1, count + 1)]
    curl("-o", f"{tmp_path}/#1", f"{base}[1-{count}]")
    assert [(tmp_path / str(number)).read_bytes() for number in range(1, count + 1)] == sent
    assert list(map(int, listed.values())) == list(map(len, sent))
    names = curl("-X", "UIDL", base).split()[1::2]
    deletions: list[str] = []
    for number in range(1, count // 2 + 1):  # in one session; `--next` forgets all options
        deletions += [*command[1:], "-I", "-X", f"DELE {number}", base, "--next"]
    curl(*deletions[:-1])
    assert list(kept(server, account).values()) == sent[count // 2 :]
    assert curl("-X", "UIDL", base).split()[1::2] == names[count // 2 :]


def test_a_client_that_takes_utf_8_gets_it(
    server: Server, new_account: Callable[[], tuple[str, str]]
) -> None:
    """T57: another gets the header in ASCII, and sizes are right for both."""
    account = new_account()
    mail = "Subject: Grüße\r\nFrom: <jörg@example.org>\r\n\r\nText\r\n".encode()
    fill(server, account, [mail])
    for asked in (True, False):
        client = poplib.POP3_SSL(
            server.host, server.port("pop3s"), context=server.tls(), timeout=30
        )
        assert client.capa()["UTF8"] == ["USER"]
        if asked:
            client.utf8()
        client.user(account[0])
        client.pass_(account[1])
        octets = b"".join(line + b"\r\n" for line in client.retr(1)[1])
        assert client.stat() == (1, len(octets))
        assert (octets == mail) == asked
        assert octets.isascii() != asked
        assert email.message_from_bytes(octets, policy=email.policy.default)["subject"] == "Grüße"
        client.quit()


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


def resident(pid: int) -> int:
    """Octets of memory that a process holds now."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_large_message_to_a_slow_reader_costs_no_memory(tmp_path: Path) -> None:
    """T52: 64 MB, with dots to be stuffed, of which a client takes little at a time.

    The server is its own: mail of other tests that is read for SEARCH meanwhile takes memory.
    """
    name = "pat@example.org"
    config = write_config(tmp_path, service__pop__plaintextmincipher="0")
    add_account(config, name)
    file = tmp_path / "large.eml"
    line = b".a line that begins with a dot, to be stuffed, and is as long as lines of mail are\r\n"
    # No text: it is not read for SEARCH either.
    header = b"Subject: large\r\nContent-Type: application/octet-stream\r\n\r\n"
    file.write_bytes(header + line * (63 * 2**20 // len(line)))
    done = run(MAILCTL, "-c", str(config), "import", name, str(file))
    assert done.returncode == 0, done.stderr
    server = Process.start(*TWISTD, str(config))
    pid = server.popen.pid
    with socket.socket() as plain, contextlib.ExitStack() as ending:
        ending.callback(server.stop)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        plain.settimeout(20)
        plain.connect((HOST, server.ports["pop3"]))
        stream = plain.makefile("rb", buffering=16384)
        plain.sendall(f"USER {name}\r\nPASS {PASSWORD}\r\nRETR 1\r\n".encode())
        assert all(stream.readline().startswith(b"+OK ") for _ in range(3))
        before = resident(pid)
        answer = stream.readline()
        assert answer == b"+OK %d octets\r\n" % file.stat().st_size
        got, most = 0, 0
        digest = hashlib.sha256()
        while got < 16 * 2**20:
            octets = stream.read(16384)
            digest.update(octets)
            got += len(octets)
            most = max(most, resident(pid) - before)
        assert most < 4 * 2**20, "what the client has not taken stays where it is"
        stuffed = file.read_bytes().replace(b"\r\n.", b"\r\n..")
        assert digest.digest() == hashlib.sha256(stuffed[:got]).digest()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        while got < len(stuffed):
            octets = stream.read(min(2**18, len(stuffed) - got))
            digest.update(octets)
            got += len(octets)
        assert digest.digest() == hashlib.sha256(stuffed).digest()
        assert stream.readline() == b".\r\n"
        assert resident(pid) - before < 8 * 2**20
        plain.sendall(b"QUIT\r\n")
        assert stream.readline().startswith(b"+OK ")
