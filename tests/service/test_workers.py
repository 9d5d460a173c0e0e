"""Several processes behind one port, as `twistd` starts them (SUN-31)."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailserver.service.config import ConfigurationError, load
from mailserver.service.control import ask
from mailserver.service.parts import connections, processes
from mailserver.service.tls import ensure_self_signed
from mailserver.service.wiring import Server
from tests.service.process import HOST, MAILCTL, PASSWORD, TWISTD, Process, run, write_config

NAMES = ("ann@example.org", "bob@example.org", "col@example.org", "dee@example.org")
ANYBODY = ssl.create_default_context()
"""Trusts whatever is shown: the test compares it."""
ANYBODY.check_hostname = False
ANYBODY.verify_mode = ssl.CERT_NONE
BEHIND_PROXY = "127.0.0.4"
MOST = 6
"""Sessions of one account that the configuration allows."""

_SERVES = re.compile(r"worker (\d) \(process (\d+)\) serves")


@attrs.define
class Client:
    """A line at a time, over TCP, TLS or a Unix socket."""

    connection: socket.socket
    greeting: bytes = b""
    _file: Any = None

    def __attrs_post_init__(self) -> None:
        self._file = self.connection.makefile("rb")
        self.greeting = self.line()

    def line(self) -> bytes:
        try:
            return bytes(self._file.readline())
        except ConnectionResetError:
            return b""

    def send(self, *lines: str) -> None:
        self.connection.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def until(self, start: bytes) -> list[bytes]:
        """The lines up to the one that begins so."""
        found = [self.line()]
        while not found[-1].startswith(start):
            assert found[-1], f"closed before {start!r}: {found}"
            found.append(self.line())
        return found

    def imap(self, command: str) -> bytes:
        """A command's tagged reply."""
        self.send(f"a {command}")
        return self.until(b"a ")[-1]

    def say(self, command: str) -> bytes:
        """A one-line reply of POP3 or LMTP."""
        self.send(command)
        return self.line()

    def start_tls(self) -> None:
        self.connection = ANYBODY.wrap_socket(self.connection, server_hostname="localhost")
        self._file = self.connection.makefile("rb")

    def certificate(self) -> bytes:
        assert isinstance(self.connection, ssl.SSLSocket)
        return self.connection.getpeercert(binary_form=True) or b""

    def close(self) -> None:
        self._file.close()
        self.connection.close()


@attrs.define
class Site:
    """A server of three processes."""

    config: Path
    process: Process
    _clients: list[Client] = attrs.Factory(list)

    @property
    def data(self) -> Path:
        return self.config.parent / "data"

    def pids(self) -> dict[int, int]:
        """Process ids of the workers that have begun, the newest under each number."""
        return {int(m[1]): int(m[2]) for line in self.process.log if (m := _SERVES.search(line))}

    def connect(self, service: str = "imap", *, source: str = HOST) -> Client:
        port = self.process.ports[service]
        plain = socket.create_connection((HOST, port), 10, source_address=(source, 0))
        if service.endswith("s"):
            client = Client(ANYBODY.wrap_socket(plain, server_hostname="localhost"))
        else:
            client = Client(plain)
        self._clients.append(client)
        return client

    def log_in(self, name: str) -> Client:
        client = self.connect()
        reply = client.imap(f"LOGIN {name} {PASSWORD}")
        assert reply.startswith(b"a OK"), reply
        return client

    def who(self, **wanted: object) -> list[dict[str, Any]]:
        rows = ask(self.data, "who")
        assert rows is not None
        return [row for row in rows if wanted.items() <= row.items()]

    def until(self, is_so: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        pause = threading.Event()
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"{what}\n{''.join(self.process.log)}"
            pause.wait(0.02)

    def mailctl(self, *arguments: str, text: str = "") -> None:
        done = run(MAILCTL, "-c", str(self.config), *arguments, text=text)
        assert done.returncode == 0, done.stderr

    def hang_up(self) -> None:
        """End all clients, and wait until nobody is there."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.until(lambda: not self.who(), "sessions are left")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


IMPATIENT = (
    sys.executable,
    "-c",
    "from mailserver.service.workers import crew\n"
    "crew.LOOK, crew.HANGS, crew.ANSWER_TIMEOUT = 0.1, 3.0, 1.0\n"
    "from twisted.scripts.twistd import run\n"
    "run()",
    *TWISTD[1:],
)
"""The server, which waits for workers that do not answer no longer than a test can."""


def begin(folder: Path, *, command: Sequence[str] = TWISTD) -> Site:
    ensure_self_signed(folder / "tls", ["localhost", HOST])
    config = write_config(
        folder,
        tls__certificate='"tls/cert.pem"',
        tls__key='"tls/key.pem"',
        tls__checkinterval="0",
        service__imap__numprocesses="3",
        service__pop__numprocesses="2",
        service__lmtp__numprocesses="2",
        service__imap__plaintextmincipher="0",
        service__pop__address=f'["{HOST}", "{BEHIND_PROXY}"]',
        service__pop__port=str(free_port()),
        service__proxyhosts=f'["{HOST}"]',
        service__proxylisteners=f'["pop3@{BEHIND_PROXY}"]',
        service__maxsessionsperaccount=str(MOST),
        service__lmtp__unixsocket='"lmtp.socket"',
        auth__throttle__firstdelay='"400ms"',
        auth__throttle__maxdelay='"800ms"',
        auth__argon2__time="1",
        auth__argon2__memory='"64KiB"',
    )
    if not (folder / "data").exists():
        rows = [f"{name},{PASSWORD}" for name in NAMES]
        (folder / "accounts.csv").write_text("\n".join(["name,password", *rows, ""]))
        arguments = ("-c", str(config), "account", "import")
        done = run(MAILCTL, *arguments, str(folder / "accounts.csv"))
        assert done.returncode == 0, done.stderr
    site = Site(config, Process.start(*command, str(config)))
    site.process.wait_for("worker 1 (process", 30)
    site.process.wait_for("worker 2 (process", 30)
    return site


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = begin(tmp_path_factory.mktemp("site"))
    yield site
    if site.process.popen.poll() is None:
        site.process.stop()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    yield running
    running.hang_up()


def deliver(client: Client, *names: str) -> list[bytes]:
    """One message by LMTP; the replies after its end."""
    client.send("MAIL FROM:<s@example.org>", *(f"RCPT TO:<{name}>" for name in names), "DATA")
    client.until(b"354")
    client.send("Subject: canary", "", "hi", ".")
    return [client.line() for _ in names]


def lhlo(client: Client) -> Client:
    client.send("LHLO mta.example.net")
    client.until(b"250 ")
    return client


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state[state.rindex(")") + 2] != "Z"


# -- one server --------------------------------------------------------------------------


def test_connections_are_spread_evenly_and_can_be_told_apart(site: Site) -> None:
    """Opened one after another; CGP-1: numbers are unique over all processes."""
    for _ in range(12):
        site.connect()
    for _ in range(4):
        site.connect("pop3")
    for _ in range(4):
        lhlo(site.connect("lmtp"))
    spread = Counter((row["service"], row["process"]) for row in site.who())
    assert spread == {
        **{("imap", number): 4 for number in range(3)},
        **{("pop3", number): 2 for number in range(2)},
        **{("lmtp", number): 2 for number in range(2)},
    }
    assert len({row["number"] for row in site.who()}) == 20
    [line] = [
        line for line in site.process.log if f"{site.who(process=2)[0]['session']} conn" in line
    ]
    assert "[worker 2, mailserver.server.imap" in line


def test_mail_that_comes_to_one_process_is_pushed_to_all(site: Site) -> None:
    """SUN-50."""
    idlers = [site.log_in(NAMES[0]) for _ in range(3)]
    for client in idlers:
        client.imap("SELECT INBOX")
        client.send("b IDLE")
        client.until(b"+")
    assert {row["process"] for row in site.who(service="imap")} == {0, 1, 2}
    mtas = [lhlo(site.connect("lmtp")) for _ in range(2)]
    assert {row["process"] for row in site.who(service="lmtp")} == {0, 1}
    for mta in mtas:
        [reply] = deliver(mta, NAMES[0])
        assert reply.startswith(b"250"), reply
        for client in idlers:
            while not (line := client.line()).endswith(b" EXISTS\r\n"):
                assert line

    # A Unix socket's connections are spread like all others.
    local = []
    for _ in range(2):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(site.config.parent / "lmtp.socket"))
        local.append(lhlo(Client(connection)))
    assert {row["process"] for row in site.who(address="local")} == {0, 1}
    for mta in local:
        assert deliver(mta, NAMES[1])[0].startswith(b"250")
        mta.close()


def test_what_a_proxy_says_is_heard_in_all_processes(site: Site) -> None:
    for number in range(2):
        connection = socket.create_connection((BEHIND_PROXY, site.process.ports["pop3"]), 10)
        connection.sendall(b"PROXY TCP4 192.0.2.%d 192.0.2.100 1000 110\r\n" % number)
        assert Client(connection).greeting.startswith(b"+OK")
        [row] = site.who(address=f"192.0.2.{number}")
        assert row["process"] == number
        connection.close()


def test_an_account_has_so_many_sessions_in_all_processes_together(site: Site) -> None:
    """SUN-30; those of other processes count a moment later."""
    for _ in range(MOST):
        site.log_in(NAMES[0])

    def one_more() -> bytes:
        client = site.connect()
        try:
            return client.imap(f"LOGIN {NAMES[0]} {PASSWORD}")
        finally:
            client.close()

    for _ in range(6):  # whoever's turn it is
        site.until(lambda: one_more().startswith(b"a NO [LIMIT]"), "one too many is let in")
    site.log_in(NAMES[1])


def test_guessing_gets_slow_in_all_processes_together(site: Site) -> None:
    """S7: three connections to three processes have one turn between them."""
    clients = [site.connect(source="127.0.0.2") for _ in range(3)]
    assert {row["process"] for row in site.who(address="127.0.0.2")} == {0, 1, 2}
    start = time.monotonic()
    for client in clients:
        client.send(f"a LOGIN {NAMES[2]} wrong")
    for client in clients:
        assert client.until(b"a ")[-1].startswith(b"a NO [AUTHENTICATIONFAILED]")
    site.who()  # asks all of them, so what they had to tell has been told
    for client in clients:
        client.send(f"a LOGIN {NAMES[2]} wrong")
    for client in clients:
        client.until(b"a ")
    assert time.monotonic() - start > 2.3, "turns are 800 ms apart by now"
    # Who is somewhere else is not held up.
    start = time.monotonic()
    site.log_in(NAMES[1])
    assert time.monotonic() - start < 2


def test_a_kick_and_a_new_password_reach_all_processes(site: Site) -> None:
    """CGP-10."""
    kicked = [site.log_in(NAMES[3]) for _ in range(3)]
    others = [site.log_in(NAMES[1]) for _ in range(3)]
    rows = ask(site.data, "kick", account=NAMES[3])
    assert rows is not None
    assert {row["process"] for row in rows} == {0, 1, 2}
    for client in kicked:
        assert client.until(b"* BYE")
    one = site.who(process=1, account=NAMES[1])
    assert ask(site.data, "kick", number=one[0]["number"]) is not None
    site.until(lambda: len(site.who(account=NAMES[1])) == 2, "one by its number")
    site.mailctl("account", "passwd", NAMES[1], "--password-file", "-", text="other-4711\n")
    for client in others:
        client.until(b"* BYE")
    again = [site.connect() for _ in range(3)]
    assert {row["process"] for row in site.who(service="imap")} == {0, 1, 2}
    for client in again:
        assert client.imap(f"LOGIN {NAMES[1]} other-4711").startswith(b"a OK")
    for client in (site.connect() for _ in range(3)):
        assert client.imap(f"LOGIN {NAMES[1]} {PASSWORD}").startswith(b"a NO")
    site.mailctl("account", "set", NAMES[1], "--status", "inactive")
    for client in again:
        client.until(b"* BYE")
    for client in (site.connect() for _ in range(3)):
        assert client.imap(f"LOGIN {NAMES[1]} other-4711").startswith(b"a NO")


def test_tls_and_a_new_certificate_in_all_processes(site: Site) -> None:
    """R18: IMAP and POP3, by the TLS port, STARTTLS and STLS."""
    certificates = site.config.parent / "tls"

    def shown() -> set[bytes]:
        found = set()
        for service, command in (("imap", "a STARTTLS"), ("pop3", "STLS")):
            for _ in range(3):
                found.add(site.connect(f"{service}s").certificate())
                client = site.connect(service)
                assert client.say(command).split()[0] in (b"a", b"+OK")
                client.start_tls()
                found.add(client.certificate())
        spread = {(row["service"], row["process"]) for row in site.who() if row["tls"]}
        site.hang_up()
        assert len(spread) == 10  # imap and imaps in three, pop3 and pop3s in two
        return found

    [first] = shown()
    kept = (certificates / "cert.pem").read_bytes()
    (certificates / "cert.pem").write_bytes(b"not a certificate")
    site.process.signal(signal.SIGHUP)
    site.process.wait_for("not reloaded: ")
    assert shown() == {first}, "a bad one changes nothing anywhere"
    (certificates / "cert.pem").write_bytes(kept)
    for file in ("cert.pem", "key.pem"):
        (certificates / file).unlink()
    ensure_self_signed(certificates, ["localhost", HOST])
    site.process.signal(signal.SIGHUP)
    site.process.wait_for("configuration and certificate reloaded")
    site.until(lambda: first not in (found := shown()) and len(found) == 1, "the old one is shown")


def test_a_service_stops_and_starts_in_all_processes(site: Site) -> None:
    """SUN-7."""
    pop3 = [site.connect("pop3") for _ in range(4)]
    imap = [site.connect() for _ in range(3)]
    assert ask(site.data, "stop", service="pop") is not None
    for client in pop3:
        assert client.line().startswith(b"-ERR")
    with pytest.raises(ConnectionRefusedError):
        site.connect("pop3")
    for client in imap:
        assert client.imap("NOOP").startswith(b"a OK")
    assert ask(site.data, "start", service="pop") is not None
    for _ in range(4):
        assert site.connect("pop3").greeting.startswith(b"+OK")
    assert {row["process"] for row in site.who(service="pop3")} == {0, 1}


def test_no_connection_is_lost_while_a_worker_ends_and_another_begins(site: Site) -> None:
    pid = site.pids()[2]
    os.kill(pid, signal.SIGTERM)
    greeted = 0
    while site.pids()[2] == pid:
        with ExitStack() as stack:
            for _ in range(3):
                client = site.connect()
                stack.callback(client.close)
                assert client.greeting.startswith(b"* OK"), client.greeting
                greeted += 1
    assert greeted > 3
    site.hang_up()
    for _ in range(3):
        site.connect()
    assert {row["process"] for row in site.who()} == {0, 1, 2}


def test_a_worker_that_is_killed_is_replaced_and_all_others_go_on(site: Site) -> None:
    clients: dict[int, list[Client]] = {}
    for _ in range(MOST):
        before = site.who()
        client = site.log_in(NAMES[0])
        known = {row["number"] for row in before}
        [row] = [row for row in site.who() if row["number"] not in known]
        clients.setdefault(row["process"], []).append(client)
    assert {number: len(some) for number, some in clients.items()} == {0: 2, 1: 2, 2: 2}
    numbers = {row["number"] for row in site.who()}
    pid = site.pids()[1]
    os.kill(pid, signal.SIGKILL)
    for client in clients[1]:
        assert client.line() == b""
    site.process.wait_for("worker 1 has ended by signal 9")
    for client in clients[0] + clients[2]:
        assert client.imap("NOOP").startswith(b"a OK")
    # Its sessions do not count any more, neither for who is there nor for limits.
    assert len(site.who()) == 4
    for _ in range(2):
        site.log_in(NAMES[0])
    site.until(lambda: site.pids()[1] != pid, "no other begins")
    for _ in range(3):
        site.connect()
    assert {row["process"] for row in site.who()} == {0, 1, 2}
    newest = {row["number"] for row in site.who()} - numbers
    assert len(newest) == 5


def test_sigterm_ends_all_of_them_in_order(running: Site) -> None:
    """R18."""
    clients = [running.log_in(NAMES[3]) for _ in range(3)]
    clients += [running.connect("pop3") for _ in range(2)]
    pids = running.pids().values()
    start = time.monotonic()
    running.process.stop()
    assert time.monotonic() - start < 5
    for client in clients:
        assert client.line().startswith((b"* BYE", b"-ERR"))
    assert not any(map(is_alive, pids))
    log = "".join(running.process.log)
    assert "Traceback" not in log, log
    assert "did not end" not in log


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    site = begin(tmp_path, command=IMPATIENT)
    pids = site.pids()
    # All stand still together, the first while it waits for an answer: that is no hanging.
    os.kill(pids[1], signal.SIGSTOP)
    time.sleep(0.5)
    site.process.signal(signal.SIGSTOP)
    time.sleep(3.5)
    os.kill(pids[1], signal.SIGCONT)
    site.process.signal(signal.SIGCONT)
    time.sleep(1.5)
    assert site.pids() == pids
    os.kill(pids[1], signal.SIGSTOP)
    # Whoever was given to it is greeted all the same, by another.
    with ThreadPoolExecutor() as pool:
        clients = list(pool.map(lambda _: site.connect(), range(3)))
    assert all(client.greeting.startswith(b"* OK") for client in clients)
    site.process.wait_for("worker 1 has not answered for 3.0 s and is killed")
    site.until(lambda: site.pids()[1] != pids[1], "no other begins")
    assert site.pids()[2] == pids[2]  # it answers
    assert not is_alive(pids[1])
    site.process.stop()


# -- the end of the first process ------------------------------------------------------


def test_workers_end_when_the_first_process_is_gone(tmp_path: Path) -> None:
    site = begin(tmp_path)
    clients = [site.connect() for _ in range(3)]
    where = {row["process"] for row in site.who()}
    assert where == {0, 1, 2}
    pids = site.pids().values()
    site.process.popen.kill()
    greetings = [client.line() for client in clients]
    assert sorted(line[:5] for line in greetings) == [b"", b"* BYE", b"* BYE"]
    site.until(lambda: not any(map(is_alive, pids)), "workers are left")
    site.process.wait()
    # Nothing stands in the way of the next one.
    again = Process.start(*TWISTD, str(site.config))
    again.stop()


# -- what cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["-1", "65", "many"])
@pytest.mark.parametrize("service", ["imap", "pop", "lmtp"])
def test_a_number_that_cannot_be_is_refused(service: str, number: str) -> None:
    name = f"service.{service}.numprocesses"
    with pytest.raises(ConfigurationError, match=f"{name}: .*0 to 64"):
        load(None, {name: number})


def test_more_processes_than_files_can_be_open_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twisted.internet import reactor

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    options = {"local.datadirectory": str(tmp_path), "service.pop.numprocesses": "8"}
    with pytest.raises(ConfigurationError, match=r"service.pop.numprocesses: 8 .* 1024 files"):
        Server(load(None, options), reactor)
    # What is not served needs no processes.
    Server(load(None, {**options, "service.pop.enable": "no"}), reactor)


def test_the_processes_of_a_service() -> None:
    given = load(None, {"service.imap.numprocesses": "3", "service.lmtp.enable": "no"})
    assert processes(given) == {"imap": 3, "imaps": 3, "pop3": 1, "pop3s": 1}
    assert connections(processes(load(None, {}))) - connections(processes(given)) > 100


def test_no_number_is_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    given = load(None, {"service.imap.numprocesses": "0", "service.pop.enable": "no"})
    for cores, expected in ((1, 1), (6, 6), (96, 64)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert processes(given) == {"imap": expected, "imaps": expected, "lmtp": 1, "lmtps": 1}
