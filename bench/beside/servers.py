"""The two servers, each private: own directory, loopback, ports of its own, the same accounts.

Dovecot runs as its manual advises for many clients, durable as it is by default. It needs
root, because its master starts processes under other names.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs

from mailserver.store import texts

ACCOUNTS = 1000
DOMAIN = "example.com"
PASSWORD = "bench-4711"
START_SECONDS = 60.0

QUIET_SECONDS = 2 * texts.QUIET + 1
"""Seconds without work after which a server has nothing more to do that it puts off."""

_BIN = Path(sys.executable).parent

_OURS = """\
local.datadirectory = "data"
local.hostname = "mail.example.com"
service.defaultdomain = "example.com"
service.imap.address = "127.0.0.1"
service.imap.port = {imap}
service.imap.enablesslport = false
service.imap.plaintextmincipher = 0
service.imap.maxsessions = 5000
service.maxsessionsperaddress = 0
service.maxsessionsperuser = 0
service.pop.address = "127.0.0.1"
service.pop.port = {pop3}
service.pop.enablesslport = false
service.pop.plaintextmincipher = 0
# Passwords that cost next to nothing to check, as Dovecot's in plain text here: what is
# measured is the server.
auth.argon2.time = 1
auth.argon2.memory = "64KiB"
service.imap.numprocesses = {processes}
service.pop.numprocesses = {processes}
service.lmtp.numprocesses = {processes}
service.lmtp.address = "127.0.0.1"
service.lmtp.port = {lmtp}
"""

_DOVECOT = """\
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
listen = 127.0.0.1
protocols = imap lmtp pop3
ssl = no
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = {home}/passwd
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={home}/mail/%u
}}
mail_location = sdbox:~/sdbox
first_valid_uid = 1
mail_plugins = acl quota
plugin {{
  acl = vfile
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=100G
}}
protocol imap {{
  mail_plugins = acl quota imap_acl imap_quota
  mail_max_userip_connections = 10000
}}
default_client_limit = 10000
default_process_limit = 1000
default_vsz_limit = 1G
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
  service_count = 0
  process_min_avail = 2
  client_limit = 5000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  service_count = 0
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service imap {{
  process_limit = 5000
}}
service auth {{
  client_limit = 20000
}}
service anvil {{
  client_limit = 20000
}}
service stats {{
  client_limit = 20000
}}
service log {{
  client_limit = 20000
}}
"""


@attrs.frozen
class Peer:
    """A server to measure.

    Attributes:
        label: what the report calls it.
        imap, lmtp, pop3: ports on loopback.
        pid: of the process that all others descend from.
        idlers: connections that the idle workload opens.
    """

    label: str
    imap: int
    lmtp: int
    pop3: int
    pid: int
    idlers: int


def account(number: int) -> str:
    """Name of an account, `ACCOUNTS` of them."""
    return f"u{number:04}@{DOMAIN}"


@contextmanager
def ours(directory: Path, processes: int = 0) -> Iterator[Peer]:
    """This server, as twistd starts it, with so many processes for each service; 0 is one for
    each core, as its manual advises for many clients."""
    imap, lmtp, pop3 = _free_ports()
    configuration = directory / "mailserver.toml"
    configuration.write_text(_OURS.format(imap=imap, lmtp=lmtp, pop3=pop3, processes=processes))
    accounts = directory / "accounts.csv"
    rows = [f"{account(number)},{PASSWORD}" for number in range(ACCOUNTS)]
    accounts.write_text("\n".join(["name,password", *rows, ""]))
    mailctl = [str(_BIN / "mailctl"), "-c", str(configuration)]
    subprocess.run(
        [*mailctl, "account", "import", str(accounts)], check=True, stdout=subprocess.DEVNULL
    )
    command = [str(_BIN / "twistd"), "--nodaemon", "--pidfile=", "--reactor=epoll", "mailserver"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--config", str(configuration)], cwd=directory, stdout=log, stderr=log
        )
    try:
        _wait_for(imap, directory / "log")
        yield Peer("this server", imap, lmtp, pop3, process.pid, 1000)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def dovecot(directory: Path) -> Iterator[Peer]:
    """Debian's Dovecot; nothing of it outside of `directory` is touched."""
    imap, lmtp, pop3 = _free_ports()
    user = pwd.getpwnam("nobody")
    directory.chmod(0o755)
    for name in ("run", "state", "mail"):
        (directory / name).mkdir()
    os.chown(directory / "mail", user.pw_uid, user.pw_gid)
    lines = [f"{account(number)}:{{PLAIN}}{PASSWORD}::::::\n" for number in range(ACCOUNTS)]
    (directory / "passwd").write_text("".join(lines))
    configuration = directory / "dovecot.conf"
    configuration.write_text(
        _DOVECOT.format(
            home=directory,
            imap=imap,
            lmtp=lmtp,
            pop3=pop3,
            user=user.pw_uid,
            group=user.pw_gid,
        )
    )
    # In the foreground, so that it is a child of ours and ends with us.
    process = subprocess.Popen(
        ["dovecot", "-F", "-c", str(configuration)], stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(imap, directory / "log")
        # Every process of an idler needs an inotify instance, of which a user has 128 unless
        # the machine was told otherwise; above it Dovecot polls.
        instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
        yield Peer("Dovecot", imap, lmtp, pop3, process.pid, 1000 if instances > 1100 else 100)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def can_compare() -> str:
    """Empty if Dovecot can be started here, else what is missing."""
    if shutil.which("dovecot") is None:
        return "dovecot is not installed (dovecot-imapd, dovecot-lmtpd, dovecot-pop3d)"
    if os.getuid() != 0:
        return "Dovecot's master needs root"
    return ""


def _free_ports() -> tuple[int, ...]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in held)


def _wait_for(port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}:\n{log.read_text()[-2000:]}")


def memory(pid: int) -> int:
    """KiB that a process and all its descendants hold; shared pages counted once (PSS)."""
    total = 0
    for one in _tree(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def settle(peer: Peer) -> bool:
    """Wait until a server has done what it puts off while it is used, so that it does not take
    from the machine while another is measured: for `QUIET_SECONDS` it hardly works.

    Returns:
        False if it still worked after a minute.
    """
    end = time.monotonic() + 60
    quiet_since, before = time.monotonic(), _work(peer.pid)
    while time.monotonic() < quiet_since + QUIET_SECONDS:
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
        now = _work(peer.pid)
        if abs(now - before) > 0.05:  # less when a process has ended
            quiet_since, before = time.monotonic(), now
    return True


def _work(pid: int) -> float:
    """Processor seconds of a process and its descendants that still are."""
    total = 0
    for one in _tree(pid):
        with suppress(OSError):
            stat = Path(f"/proc/{one}/stat").read_text()
            user, system = stat[stat.rindex(")") + 2 :].split()[11:13]
            total += int(user) + int(system)
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def apart(peer: Peer) -> Iterator[None]:
    """Keep the client on one core and the server on another, as on two hosts.

    Where both find a core free, the kernel wakes the one on the core of the other or not, as
    chance will have it, and that decides about a short command: 0.03 or 0.1 ms. Does nothing
    where there is one core.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        yield
        return
    first, *others = sorted(cores)
    _keep_on(peer.pid, set(others))
    os.sched_setaffinity(0, {first})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _keep_on(peer.pid, cores)


def _keep_on(pid: int, cores: set[int]) -> None:
    """Bind all threads of a process and of its descendants, and what they start later."""
    for one in _tree(pid):
        with suppress(OSError):  # it has just ended
            for thread in os.listdir(f"/proc/{one}/task"):
                os.sched_setaffinity(int(thread), cores)


def _tree(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat[stat.rindex(")") + 2 :].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found
