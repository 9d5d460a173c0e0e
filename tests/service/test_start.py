"""The server as `twistd` and `twist` start it, with real clients over real sockets."""

from __future__ import annotations

import imaplib
import os
import resource
import signal
import smtplib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver.service.tls import SelfSigned, ensure_self_signed
from tests.service.process import (
    BIN,
    HOST,
    MAILCTL,
    PASSWORD,
    TWISTD,
    Process,
    add_account,
    run,
    write_config,
)

NAME = "pat@example.org"
MESSAGE = b"From: s@example.org\r\nSubject: canary-0815\r\n\r\nhi\r\n"
TWIST = (sys.executable, "-m", "twisted", "mailserver", "--config")

Start = Callable[..., Process]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with a certificate and one account."""
    folder = tmp_path_factory.mktemp("site")
    ensure_self_signed(folder / "tls", ["localhost", HOST])
    file = write_config(
        folder,
        tls__certificate='"tls/cert.pem"',
        tls__key='"tls/key.pem"',
        service__lmtp__unixsocket='"lmtp.socket"',
    )
    add_account(file, NAME)
    return file


@pytest.fixture
def start(config: Path) -> Iterator[Start]:
    started: list[Process] = []

    def begin(*command: str) -> Process:
        started.append(Process.start(*(command or TWISTD), str(config)))
        return started[-1]

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.stop()


def trust(config: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(config.parent / "tls/ca.pem"))


def log_in(process: Process, config: Path) -> imaplib.IMAP4:
    client = imaplib.IMAP4(HOST, process.ports["imap"], timeout=10)
    client.starttls(trust(config))
    client.login(NAME, PASSWORD)
    client.select()
    return client


def idle(client: imaplib.IMAP4) -> None:
    client.send(b"I IDLE\r\n")
    assert client.readline().startswith(b"+ ")


def until(client: imaplib.IMAP4, text: bytes) -> bytes:
    while text not in (line := client.readline()):
        assert line, f"the connection was closed before {text!r}"
    return line


def deliver(process: Process) -> None:
    with smtplib.LMTP(HOST, process.ports["lmtp"], timeout=10) as lmtp:
        lmtp.sendmail("s@example.org", [NAME], MESSAGE)


def test_as_many_files_are_used_as_the_process_may_open(start: Start) -> None:  # R11
    process = start("/bin/sh", "-c", 'ulimit -S -n 400 && exec "$@"', "sh", *TWISTD)
    soft, hard = resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE)
    assert soft == hard > 400


@pytest.mark.parametrize("command", [TWISTD, TWIST], ids=["twistd", "twist"])
def test_mail_comes_in_and_goes_out(start: Start, config: Path, command: tuple[str, ...]) -> None:
    """DOV-1, SUN-3, SUN-4: delivered by LMTP, pushed by IDLE within 100 ms, kept over a
    restart; SIGTERM ends the server with a BYE (R18)."""
    process = start(*command)
    client = log_in(process, config)
    [before] = client.response("EXISTS")[1]
    times = []
    for number in range(3):
        idle(client)
        with smtplib.LMTP(HOST, process.ports["lmtp"], timeout=10) as lmtp:
            lmtp.ehlo("client.example.org")
            begin = time.perf_counter()
            lmtp.sendmail("s@example.org", [NAME], MESSAGE)
            until(client, b"* %d EXISTS" % (int(before) + number + 1))
            times.append(time.perf_counter() - begin)
        client.send(b"DONE\r\n")
        until(client, b"I OK")
    assert min(times) < 0.1, times

    with imaplib.IMAP4_SSL(HOST, process.ports["imaps"], ssl_context=trust(config)) as over_tls:
        over_tls.login(NAME, PASSWORD)
        over_tls.select(readonly=True)
        [(_, octets), _] = over_tls.fetch(str(int(before) + 3), "(BODY.PEEK[])")[1]
        assert octets.startswith(b"Return-Path: <s@example.org>\r\nDelivered-To: pat@example.org")
        assert octets.endswith(MESSAGE)

    idle(client)
    process.popen.terminate()
    assert until(client, b"* BYE").startswith(b"* BYE")
    process.wait()
    assert PASSWORD not in "".join(process.log)  # S13
    assert "canary-0815" not in "".join(process.log)

    again = start(*command)
    client = log_in(again, config)
    assert client.response("EXISTS")[1] == [b"%d" % (int(before) + 3)]
    client.logout()


def test_sigterm_says_goodbye_to_everybody(start: Start, config: Path) -> None:
    """R18: sessions in APPEND, in DATA and idle; exit within 10 s, and what was answered
    is there at the next start."""
    process = start()
    idling, appending = log_in(process, config), log_in(process, config)
    [before] = idling.response("EXISTS")[1]
    idle(idling)
    appending.send(b"A APPEND INBOX {1000}\r\n")
    assert appending.readline().startswith(b"+ ")
    appending.send(b"Subject: half")
    with socket.create_connection((HOST, process.ports["lmtp"]), 10) as lmtp:
        lmtp.sendall(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<pat@example.org>\r\nDATA\r\n")
        replies = b""
        while b"354 " not in replies:
            replies += lmtp.recv(4096)
        lmtp.sendall(b"Subject: half")
        deliver(process)
        begin = time.monotonic()
        process.popen.terminate()
        assert b"421 4.3.2 " in b"".join(iter(lambda: lmtp.recv(4096), b""))
    until(idling, b"* BYE")
    until(appending, b"* BYE")
    process.wait()
    assert time.monotonic() - begin < 10
    assert not list((config.parent / "data/spool").iterdir())

    again = log_in(start(), config)
    assert again.response("EXISTS")[1] == [b"%d" % (int(before) + 1)]
    again.logout()


def test_the_pipe_of_an_mta_wakes_idling_clients(start: Start, config: Path) -> None:
    """SUN-50: `mailctl deliver` works beside a running server."""
    client = log_in(start(), config)
    [before] = client.response("EXISTS")[1]
    idle(client)
    arguments = ("-c", str(config), "deliver", "-f", "s@example.org", "-d", NAME)
    done = run(MAILCTL, *arguments, text="Subject: piped\n\nhi\n")
    assert (done.returncode, done.stderr) == (0, "")
    until(client, b"* %d EXISTS" % (int(before) + 1))
    client.send(b"DONE\r\n")
    until(client, b"I OK")
    [(_, octets), _] = client.fetch(str(int(before) + 1), "(BODY[])")[1]
    assert octets == (
        b"Return-Path: <s@example.org>\r\nDelivered-To: pat@example.org\r\n"
        b"Subject: piped\r\n\r\nhi\r\n"
    )
    client.logout()


def test_unix_socket(start: Start, config: Path) -> None:
    process = start()
    path = config.parent / "lmtp.socket"
    assert path.stat().st_mode & 0o777 == 0o660
    with smtplib.LMTP(str(path), timeout=30) as lmtp:
        lmtp.sendmail("s@example.org", [NAME], MESSAGE)
    process.stop()
    assert not path.exists()


def test_a_socket_left_by_a_killed_server_is_replaced(start: Start, config: Path) -> None:
    killed = start()
    killed.popen.kill()
    killed.wait()
    assert (config.parent / "lmtp.socket").exists()
    start()
    with smtplib.LMTP(str(config.parent / "lmtp.socket"), timeout=30) as lmtp:
        assert lmtp.noop()[0] == 250


def test_a_new_certificate_without_a_stop(start: Start, config: Path, tmp_path: Path) -> None:
    """R18, S12: SIGHUP; live sessions stay, a bad certificate keeps the old one."""
    process = start()
    client = log_in(process, config)
    tls = config.parent / "tls"
    old = {file: file.read_bytes() for file in tls.iterdir()}
    fresh: SelfSigned = ensure_self_signed(tmp_path, ["localhost", HOST])
    try:
        (tls / "cert.pem").write_bytes(b"junk")
        process.signal(signal.SIGHUP)
        line = process.wait_for("not reloaded")
        assert "tls.certificate" in line
        assert "cert.pem" in line
        log_in(process, config).logout()

        (tls / "cert.pem").write_bytes(fresh.certificate.read_bytes())
        (tls / "key.pem").write_bytes(fresh.key.read_bytes())
        process.signal(signal.SIGHUP)
        process.wait_for("configuration and certificate reloaded")
        with pytest.raises(ssl.SSLCertVerificationError):
            log_in(process, config)
        (tls / "ca.pem").write_bytes(fresh.authority.read_bytes())
        log_in(process, config).logout()
        assert client.noop()[0] == "OK"
    finally:
        for file, octets in old.items():
            file.write_bytes(octets)


def test_a_second_server_on_the_same_data_is_refused(start: Start, config: Path) -> None:
    start()
    done = run(*TWISTD, str(config))
    assert done.returncode == 69
    assert "another server works on this data directory" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [TWISTD, TWIST], ids=["twistd", "twist"])
def test_a_wrong_configuration_stops_the_start(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A sentence with file, line, reason and the nearest right name; no traceback."""
    file = write_config(tmp_path, service__imap__prot="1")
    done = run(*command, str(file))
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1] == (
        f"mailserver: {file}:10: service.imap.prot: there is no such option;"
        " did you mean service.imap.port?"
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        number = taken.getsockname()[1]
        done = run(*TWISTD, str(write_config(tmp_path, service__imap__port=str(number))))
    assert done.returncode == 69
    output = done.stdout + done.stderr
    assert f"cannot listen on 127.0.0.1 port {number} (service.imap.port): another" in output
    assert "Traceback" not in output


def test_a_key_that_everybody_can_read_stops_the_start(tmp_path: Path) -> None:
    """S14: naming option, file and reason."""
    files = ensure_self_signed(tmp_path, ["localhost"])
    files.key.chmod(0o644)
    config = write_config(tmp_path, tls__certificate='"cert.pem"', tls__key='"key.pem"')
    done = run(*TWISTD, str(config))
    assert done.returncode == 78
    assert f"mailserver: {files.key}: tls.key: everybody on this machine" in done.stderr


def test_the_plug_in_is_listed() -> None:
    assert "mailserver" in run(str(BIN / "twistd"), "--help").stdout
    assert "--config" in run(str(BIN / "twistd"), "mailserver", "--help").stdout


def test_as_a_daemon(tmp_path: Path) -> None:
    """The parent tells how the start went: when it ends, the server serves, or does not."""
    twistd = [str(BIN / "twistd"), f"--pidfile={tmp_path / 'pid'}", f"--logfile={tmp_path / 'log'}"]
    config = write_config(tmp_path)
    done = run(*twistd, "mailserver", "-c", str(config))
    assert done.returncode == 0, done.stderr
    process = int((tmp_path / "pid").read_text())
    log = (tmp_path / "log").read_text()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    port = int(log.partition("serves imap ")[2].partition(",")[0])
    try:
        imaplib.IMAP4(HOST, port, timeout=10).logout()
        refused = run(*twistd[:1], "--pidfile=", twistd[2], "mailserver", "-c", str(config))
        assert refused.returncode == 1
        assert "another server works on this data directory" in (tmp_path / "log").read_text()
    finally:
        os.kill(process, signal.SIGTERM)
        ended = threading.Event()
        for _ in range(500):
            if not (tmp_path / "pid").exists():
                break
            ended.wait(0.02)
    assert not (tmp_path / "pid").exists()
