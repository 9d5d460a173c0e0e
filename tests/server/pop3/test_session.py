"""POP3 conversations over the real store, as a client sees them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailserver.model.flags import FlagOp, Flags
from mailserver.model.numset import NumSet
from mailserver.service.monitor import SessionMonitor
from tests.mailgen import message
from tests.server.pop3.harness import Client, plain, services
from tests.server.rig import MAIL, Rig
from tests.server.rig import rig as new_rig

Connect = Callable[..., Client]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with new_rig(tmp_path) as made:
        yield made


@pytest.fixture
def connect(rig: Rig) -> Connect:
    def connect(service: str = "pop3", step: int = 0, tls: Any = None, **settings: Any) -> Client:
        return Client(rig, services(rig, tls, **settings), service, step)

    return connect


def flags(rig: Rig, uid: int) -> list[str]:
    """The flags of a message in Ann's INBOX."""
    who = rig.principal()

    async def work() -> list[str]:
        inbox = await rig.store.find(who, "INBOX")
        image = await rig.store.open(who, inbox.ref)
        try:
            at = list(image.uids).index(uid)
            return image.flag_table[image.flag_ids[at]].names()  # type: ignore[no-any-return]
        finally:
            rig.store.close(image)

    return rig.loop.result(work())


def uids(rig: Rig) -> list[int]:
    """The UIDs in Ann's INBOX."""
    who = rig.principal()

    async def work() -> list[int]:
        inbox = await rig.store.find(who, "INBOX")
        image = await rig.store.open(who, inbox.ref)
        rig.store.close(image)
        return list(image.uids)

    return rig.loop.result(work())


def expunge(rig: Rig, *gone: int) -> None:
    """Another session removes messages."""
    who = rig.principal()

    async def work() -> None:
        inbox = await rig.store.find(who, "INBOX")
        image = await rig.store.open(who, inbox.ref)
        numbers = NumSet.of(gone)
        await rig.store.store_flags(who, image, numbers, FlagOp.ADD, Flags.of("\\Deleted"))
        await rig.store.expunge(who, image, numbers)
        rig.store.close(image)

    rig.loop.result(work())


# -- before login ---------------------------------------------------------------


def test_greeting_and_login(rig: Rig, connect: Connect) -> None:
    client = connect(banner="hello <there>")
    assert client.line() == "+OK hello (there)"  # SUN-5; no timestamp, since there is no APOP
    assert client.ok("USER ann@example.org") == "and the password"
    assert client.ok("PASS secret") == "0 messages (0 octets)"
    [session] = rig.monitor.sessions()
    assert (session.account, session.status) == ("ann@example.org", "connected to INBOX")
    assert client.ok("QUIT") == "bye, 0 messages removed"
    assert client.is_closed
    assert rig.monitor.sessions() == []


def test_a_wrong_password_and_a_wrong_name_are_told_alike(connect: Connect) -> None:
    """T40, T45: `[AUTH]`; the name alone tells nothing."""
    client = connect(login_timeout=600.0)
    client.line()
    answers = []
    for name in ("ann@example.org", "nobody@example.org"):
        client.ok(f"USER {name}")
        client.send(b"PASS wrong\r\n")
        client.rig.loop.advance(60)  # failures are slowed down
        answers.append(client.line())
    assert answers[0] == answers[1]
    assert answers[0].startswith("-ERR [AUTH] ")
    assert client.say("PASS secret") == "-ERR say USER first"


def test_sasl(connect: Connect) -> None:
    """RFC 1734 §2, RFC 2449 §6.3, T41."""
    secret = base64.b64encode(b"secret").decode()
    name = base64.b64encode(b"ann@example.org").decode()

    def fresh() -> Client:
        client = connect()
        client.line()
        return client

    assert fresh().ok(f"AUTH PLAIN {plain()}").startswith("0 messages")
    client = fresh()
    assert client.say("AUTH PLAIN") == "+ "
    assert client.ok(plain()).startswith("0 messages")
    client = fresh()
    assert client.say("AUTH LOGIN") == "+ VXNlcm5hbWU6"
    assert client.say(name) == "+ UGFzc3dvcmQ6"
    assert client.ok(secret).startswith("0 messages")
    client = fresh()
    assert client.say("AUTH PLAIN") == "+ "
    assert client.say("*") == "-ERR authentication was cancelled"
    assert client.say("AUTH PLAIN a") == "-ERR expected base64"
    assert client.lines("AUTH") == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    assert client.say("AUTH X-NONE") == "-ERR this mechanism is not known here"
    assert client.say("AUTH PLAIN") == "+ "
    assert client.say("A" * 70_000) == "-ERR this line is too long"


def test_capabilities_by_state(connect: Connect) -> None:
    """T45; the token is PIPELINING, and STLS is there only while it is possible."""
    always = {
        "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "USER",
            "UTF8 USER", "LANG",
        "SASL SCRAM-SHA-256 PLAIN LOGIN",
    }  # fmt: skip
    client = connect()
    client.line()
    assert set(client.lines("CAPA")) == always
    assert client.say("STLS").startswith("-ERR there is no certificate")  # SUN-4
    client = connect(tls=object())
    client.line()
    assert set(client.lines("CAPA")) == always | {"STLS"}
    client.ok("USER ann@example.org")
    client.ok("PASS secret")
    *rest, implementation = client.lines("CAPA")
    assert set(rest) == always
    assert implementation.startswith("IMPLEMENTATION mailserver-")
    assert client.say("STLS") == "-ERR this is allowed only before login"  # S2


@pytest.mark.parametrize("setting", [1, 128, -1])
def test_passwords_are_refused_where_so_set(connect: Connect, setting: int) -> None:
    """SUN-11, S2, T45: neither announced nor taken."""
    client = connect(plaintext_min_cipher=setting, tls=object())
    client.line()
    shown = client.lines("CAPA")
    assert "USER" not in shown and "PLAIN" not in " ".join(shown) and "STLS" in shown
    for command in ("USER ann@example.org", "PASS secret", f"AUTH PLAIN {plain()}", "AUTH LOGIN"):
        where = "over TLS only" if setting > 0 else "here"
        assert client.say(command).endswith(f" taken {where}")
    assert client.lines("AUTH") == (["SCRAM-SHA-256"] if setting > 0 else [])
    client.connection.secure = True  # as after STLS
    client.connection.channel_bindings = dict  # type: ignore[method-assign]
    shown = client.lines("CAPA")
    assert ("USER" in shown) == (setting > 0)
    if setting < 0:
        assert client.say("USER a") == "-ERR [AUTH] passwords are not taken here"
    else:
        client.ok("USER ann@example.org")
        client.ok("PASS secret")


def test_access_rules_know_the_service_by_its_name(rig: Rig, connect: Connect) -> None:
    """SUN-8, SUN-20: `pop` and `pops`."""
    rig.add_account("bob@example.org", allowed_services="+pops:*")
    client = connect()
    client.line()
    client.ok("USER bob@example.org")
    assert client.say("PASS secret").startswith("-ERR [AUTH] ")
    connect("pop3s").login("bob@example.org")


def test_too_many_sessions_are_told_so(rig: Rig, connect: Connect) -> None:
    """SUN-30."""
    rig.monitor.max_per_account = 1
    connect().login()
    second = connect()
    second.line()
    second.ok("USER ann@example.org")
    assert second.say("PASS secret") == (
        "-ERR [SYS/TEMP] too many sessions of this account are open"
    )
    assert second.say("STAT") == "-ERR log in first"
    rig.monitor.max_sessions = 2
    third = connect()
    assert third.line() == "-ERR [SYS/TEMP] too many connections, try again later"
    assert third.is_closed


def test_who_leaves_while_the_password_is_checked_is_forgotten(rig: Rig) -> None:
    monitor = SessionMonitor()
    client = Client(rig, attrs.evolve(services(rig), monitor=monitor))
    client.line()
    client.send(b"USER ann@example.org\r\nPASS secret\r\n")
    client.transport.lose()
    while rig.loop.turn(0.5):
        pass
    assert monitor.sessions() == []


def test_limits(rig: Rig, connect: Connect) -> None:
    """S3: lines, bad commands in a row, time to log in."""
    client = connect()
    client.line()
    assert client.say("USER " + "x" * 9000) == "-ERR this line is too long"
    assert client.say("FOO") == "-ERR unknown command"
    assert client.say("NOOP") == "-ERR log in first"
    assert client.is_closed
    client = connect().login()
    for _ in range(19):
        client.say("FOO")
    client.ok("NOOP")  # not in a row
    for _ in range(19):
        client.say("PASS x")
    assert not client.is_closed
    client.say("FOO")
    assert client.is_closed
    client = connect()
    client.line()
    for _ in range(59):
        rig.loop.advance(1)
        client.send(b"A")  # whatever is sent meanwhile
    assert not client.is_closed
    rig.loop.advance(1)
    assert client.line() == "-ERR [SYS/TEMP] you did not log in in time"
    assert client.is_closed


# -- the maildrop ---------------------------------------------------------------


def test_the_session_of_rfc_1939(rig: Rig, connect: Connect) -> None:
    """RFC 1939 §10, with our texts."""
    first = b"Subject: a\r\n\r\n" + b"x" * 104 + b"\r\n"
    second = b"Subject: b\r\n\r\n" + b"y" * 184 + b"\r\n"
    rig.append(first)
    rig.append(second)
    client = connect().login()
    assert client.ok("STAT") == "2 320"
    assert client.lines("LIST") == ["1 120", "2 200"]
    assert client.ok("LIST 2") == "2 200"
    assert client.octets("RETR 1") == first
    client.ok("DELE 1")
    assert client.octets("RETR 2") == second
    client.ok("DELE 2")
    assert client.ok("STAT") == "0 0"
    assert client.ok("QUIT") == "bye, 2 messages removed"
    assert client.is_closed
    assert uids(rig) == []


def test_any_packet_split_gives_the_same_conversation(rig: Rig, connect: Connect) -> None:
    """T16, RFC 2449 §6.6: pipelined commands, cut anywhere."""
    rig.append(MAIL)
    talk = (
        b"CAPA\r\nUSER ann@example.org\r\nPASS secret\r\nSTAT\r\nLIST\r\nUIDL 1\r\nRETR 1\r\n"
        b"TOP 1 0\r\nDELE 1\r\nRSET\r\nAUTH\r\nSTAT\r\nQUIT\r\n"
    )
    said = set()
    for step in range(1, len(talk) + 1):
        client = connect(step=step)
        client.send(talk)
        said.add(client.read_to(b"+OK bye, 0 messages removed\r\n"))
        assert client.is_closed
    assert len(said) == 1


def test_numbers_stay_whatever_others_do(rig: Rig, connect: Connect) -> None:
    """T42, CGP-3: the mailbox is open to IMAP and LMTP meanwhile."""
    for number in range(4):
        rig.append(b"Subject: %d\r\n\r\n" % number)
    client = connect().login()
    before = client.lines("UIDL"), client.lines("LIST"), client.ok("STAT")
    rig.deliver(MAIL)
    imap = rig.client(mailbox="INBOX")
    imap.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    imap.command("EXPUNGE")
    assert (client.lines("UIDL"), client.lines("LIST"), client.ok("STAT")) == before
    assert client.say("RETR 1") == "-ERR another session has removed this message"
    assert client.say("TOP 1 0") == "-ERR another session has removed this message"
    assert client.octets("RETR 4") == b"Subject: 3\r\n\r\n"
    assert client.say("RETR 5") == "-ERR no such message, only 4 in the maildrop"
    client.ok("DELE 1")
    client.ok("DELE 2")
    assert client.ok("QUIT") == "bye, 2 messages removed"  # the first one was gone already
    assert uids(rig) == [3, 4, 5]


def test_only_quit_removes(rig: Rig, connect: Connect) -> None:
    """T42: nothing is removed on a lost connection, a timeout, or a shutdown."""
    rig.append(MAIL)
    lost, idle, kicked = connect().login(), connect().login(), connect().login()
    for client in (lost, idle, kicked):
        client.ok("DELE 1")
    lost.transport.lose()
    kicked.connection.disconnect("server is shutting down")
    assert kicked.line() == "-ERR [SYS/TEMP] server is shutting down"
    rig.loop.advance(599)
    assert not idle.is_closed  # SUN-33, T34: ten minutes at least
    idle.ok("NOOP")
    rig.loop.advance(599)
    assert not idle.is_closed
    rig.loop.advance(1)
    assert idle.is_closed
    assert idle.transport.value() == b""  # RFC 1939 §3: without any response
    assert kicked.is_closed and rig.monitor.sessions() == []
    assert uids(rig) == [1] and flags(rig, 1) == []


def test_quit_leaves_what_imap_clients_marked(rig: Rig, connect: Connect) -> None:
    rig.append(MAIL, "\\Deleted")
    rig.append(MAIL)
    client = connect().login()
    client.ok("DELE 2")
    client.ok("QUIT")
    assert uids(rig) == [1] and flags(rig, 1) == ["\\Deleted"]


def test_imap_clients_hear_of_it(rig: Rig, connect: Connect) -> None:
    """CGP-3."""
    rig.append(MAIL)
    imap = rig.client(mailbox="INBOX")
    client = connect().login()
    client.ok("DELE 1")
    client.ok("QUIT")
    assert imap.command("NOOP")[0] == "* 1 EXPUNGE"


def test_quit_says_so_when_messages_are_left(
    rig: Rig, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T42: `-ERR` if some were not removed."""
    from mailserver.errors import ErrorKind, MailError

    rig.append(MAIL)
    client = connect().login()
    client.ok("DELE 1")

    async def full(*_: object) -> None:
        raise MailError(ErrorKind.DISK_FULL, "the disk is full")

    monkeypatch.setattr(type(rig.store), "expunge", full)
    assert client.say("QUIT") == ("-ERR [SYS/TEMP] deleted messages not removed: the disk is full")
    assert client.is_closed


def test_marks(rig: Rig, connect: Connect) -> None:
    """T43: what is deleted is in no listing."""
    for _ in range(3):
        rig.append(MAIL)
    size = len(MAIL)
    client = connect().login()
    client.ok("DELE 2")
    assert client.ok("STAT") == f"2 {2 * size}"
    assert client.lines("LIST") == [f"1 {size}", f"3 {size}"]
    assert [line.split()[0] for line in client.lines("UIDL")] == ["1", "3"]
    for command in ("DELE 2", "RETR 2", "TOP 2 0", "LIST 2", "UIDL 2"):
        assert client.say(command) == "-ERR message 2 is deleted"
    for command in ("DELE 0", "DELE 4", "RETR 9223372036854775807"):
        assert client.say(command).startswith("-ERR no such message, only 3")
    assert client.ok("RSET") == f"3 messages ({3 * size} octets)"
    assert client.ok("LIST 2") == f"2 {size}"
    client.ok("QUIT")
    assert uids(rig) == [1, 2, 3]


def test_unique_ids_are_the_same_in_every_session(rig: Rig, connect: Connect) -> None:
    """T44: unique, stable, never reused, 1 to 70 printable characters."""
    rig.append(MAIL)
    rig.append(MAIL)
    client = connect().login()
    first = dict(line.split(" ") for line in client.lines("UIDL"))
    assert client.ok("UIDL 2") == f"2 {first['2']}"
    for uid in first.values():
        assert 1 <= len(uid) <= 70 and all(0x21 <= ord(c) <= 0x7E for c in uid)
    client.ok("DELE 2")
    client.ok("QUIT")
    rig.append(MAIL)
    second = dict(line.split(" ") for line in connect().login().lines("UIDL"))
    assert second["1"] == first["1"]
    assert second["2"] not in first.values()


DROPS = [
    # stored, what RETR gives, what TOP 0 gives
    (b"A: b\r\n\r\n.x\r\n..\r\n.", b"A: b\r\n\r\n.x\r\n..\r\n.\r\n", b"A: b\r\n\r\n"),
    (b"A: b\r\n\r\nno line end", b"A: b\r\n\r\nno line end\r\n", b"A: b\r\n\r\n"),
    (b"A: b\r\n\r\n", b"A: b\r\n\r\n", b"A: b\r\n\r\n"),
    (b"A: b\r\n", b"A: b\r\n", b"A: b\r\n\r\n"),
    (b"A: b", b"A: b\r\n", b"A: b\r\n\r\n"),
    (b"\r\n", b"\r\n", b"\r\n"),
    (b"\r\n.\r\n", b"\r\n.\r\n", b"\r\n"),
    (b"A: b\r\n\r\n" + b".\r\n" * 70_000, b"A: b\r\n\r\n" + b".\r\n" * 70_000, b"A: b\r\n\r\n"),
    (b"A: b\r\n\r\n" + b"z" * 70_000, b"A: b\r\n\r\n" + b"z" * 70_000 + b"\r\n", b"A: b\r\n\r\n"),
]


def test_sizes_are_what_is_sent(rig: Rig, connect: Connect) -> None:
    """T43, T44: dots, a missing last line end, a missing empty line."""
    for stored, _, _ in DROPS:
        rig.append(stored)
    for _ in range(2):  # the second session knows how they end
        client = connect().login()
        assert client.ok("STAT") == f"{len(DROPS)} {sum(len(sent) for _, sent, _ in DROPS)}"
        for number, (_, sent, top) in enumerate(DROPS, 1):
            assert client.octets(f"RETR {number}") == sent
            assert client.ok(f"LIST {number}") == f"{number} {len(sent)}"
            assert client.octets(f"TOP {number} 0") == top


def test_what_comes_later_is_looked_at_too(rig: Rig, connect: Connect) -> None:
    shared = services(rig)
    rig.append(b"A: b\r\n\r\nx")
    assert Client(rig, shared).login().ok("STAT") == "1 11"
    rig.append(MAIL)
    rig.append(b"A: b\r\n\r\nxyz")
    expunge(rig, 1)
    assert Client(rig, shared).login().ok("STAT") == f"2 {len(MAIL) + 13}"
    assert Client(rig, shared).login().octets("RETR 2") == b"A: b\r\n\r\nxyz\r\n"


def test_top(rig: Rig, connect: Connect) -> None:
    """RFC 1939 §7."""
    body = [b"line %d\r\n" % number for number in range(20_000)]
    header = b"Subject: long\r\nX: y\r\n\r\n"
    rig.append(header + b"".join(body))
    client = connect().login()
    for count in (0, 1, 2, 9_000, 19_999, 20_000, 20_001, 2**63 - 1):
        assert client.octets(f"TOP 1 {count}") == header + b"".join(body[:count])
    assert client.say("TOP 1 x") == "-ERR syntax: TOP message lines"


def test_real_mail_comes_back_octet_for_octet(rig: Rig, connect: Connect) -> None:
    mails = [message(number) for number in range(32)]
    for mail in mails:
        rig.append(mail)
    client = connect().login()
    for number, mail in enumerate(mails, 1):
        wanted = mail if mail.endswith(b"\r\n") else mail + b"\r\n"
        assert client.octets(f"RETR {number}") == wanted


def test_workarounds_are_off_by_default_and_work(rig: Rig, connect: Connect) -> None:
    """T55: outlook-no-nuls, oe-ns-eoh."""
    rig.append(b"A: b\r\n\r\na\x00b\r\n")
    rig.append(b"A: b\r\n")
    rig.append(b"A: b")
    client = connect().login()
    assert client.octets("RETR 1") == b"A: b\r\n\r\na\x00b\r\n"
    assert client.octets("RETR 2") == b"A: b\r\n"
    client = connect(workarounds=("outlook-no-nuls",)).login()
    assert client.octets("RETR 1") == client.octets("TOP 1 9") == b"A: b\r\n\r\na\x80b\r\n"
    client = connect(workarounds=("oe-ns-eoh",)).login()
    assert client.octets("RETR 2") == client.octets("RETR 3") == b"A: b\r\n\r\n"
    assert client.lines("LIST") == ["1 13", "2 8", "3 8"]


def test_seen_is_set_where_so_set(rig: Rig, connect: Connect) -> None:
    r"""`service.pop.setseen`: at QUIT, by RETR and not by TOP."""
    rig.append(MAIL)
    rig.append(MAIL)
    client = connect().login()
    client.octets("RETR 1")
    client.ok("QUIT")
    assert flags(rig, 1) == []
    client = connect(set_seen=True).login()
    client.octets("RETR 1")
    client.octets("TOP 2 1")
    client.ok("QUIT")
    assert flags(rig, 1) == ["\\Seen"] and flags(rig, 2) == []


def test_a_client_that_does_not_read_gets_no_more(rig: Rig, connect: Connect) -> None:
    """T52: back-pressure in a message, and the cut-off."""
    rig.append(b"A: b\r\n\r\n" + b"x" * 998 * 1000 + b"\r\n")
    client = connect().login()
    client.transport.fill()
    client.send(b"RETR 1\r\nNOOP\r\n")
    rig.settle()
    assert client.transport.value() == b""
    rig.loop.advance(299)
    assert not client.is_closed
    client.transport.empty()
    sent = client.read_to(b"\r\n.\r\n")
    assert len(sent) > 998_000
    assert client.line() == "+OK nothing done"

    client.transport.fill()
    client.send(b"RETR 1\r\n")
    rig.loop.advance(300)
    assert client.is_closed and rig.monitor.sessions() == []


def test_a_full_transport_pauses_within_a_message(rig: Rig, connect: Connect) -> None:
    """T52: not more than a few pieces are read ahead of the client."""
    rig.append(b"A: b\r\n\r\n" + b"x" * 998_000 + b"\r\n")
    client = connect().login()
    write = client.transport.write

    def write_and_fill(data: bytes) -> None:
        write(data)
        client.transport.fill()

    client.transport.write = write_and_fill  # type: ignore[method-assign]
    client.send(b"RETR 1\r\n")
    total, rounds = 0, 0
    while True:
        rig.settle()
        part = client.transport.value()
        client.transport.clear()
        assert len(part) < 200_000
        total, rounds = total + len(part), rounds + 1
        if part.endswith(b"\r\n.\r\n"):
            break
        client.transport.empty()
    assert total > 998_000 and rounds > 10


def test_input_waits_while_a_command_runs(rig: Rig, connect: Connect) -> None:
    """T52."""
    rig.append(MAIL)
    client = connect(input_buffer=4096).login()
    client.transport.fill()
    client.send(b"NOOP\r\n" * 2000)
    assert client.transport.producerState == "paused"
    client.transport.empty()
    for _ in range(2000):
        assert client.line() == "+OK nothing done"
    assert client.transport.producerState == "producing"


def test_damaged_octets_are_told(rig: Rig, connect: Connect) -> None:
    """T45: `[SYS/PERM]`; the session goes on."""
    rig.append(b"A: b\r\n\r\n" + b"x" * 200_000 + b"\r\n")
    rig.append(MAIL)
    client = connect().login()
    files = [path for path in rig.data.rglob("*") if path.is_file() and path.stat().st_size > 2e5]
    for path in files:
        if "db" not in path.name:
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.truncate(1000)
    assert client.say("RETR 1").startswith("-ERR [SYS/PERM] ")
    assert client.octets("RETR 2") == MAIL


def test_a_mistake_of_ours_is_told_with_a_reference(
    rig: Rig, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.append(MAIL)
    client = connect().login()

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(rig.store), "content", broken)
    assert client.say("RETR 1").startswith("-ERR [SYS/TEMP] internal error (ref POP3-")
    client.ok("NOOP")


def test_a_shutdown_lets_quit_finish(rig: Rig, connect: Connect) -> None:
    """R18: a commit that is on its way is answered."""
    rig.append(MAIL)
    client = connect().login()
    client.ok("DELE 1")
    client.send(b"QUIT\r\n")
    client.connection.disconnect("server is shutting down")
    assert client.line() == "+OK bye, 1 messages removed"
    assert client.is_closed and uids(rig) == []
