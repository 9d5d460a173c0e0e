"""A server in a process of its own, started as an administrator starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import attrs

BIN = Path(sys.executable).parent
MAILCTL = str(BIN / "mailctl")
TWISTD = (str(BIN / "twistd"), "--nodaemon", "--pidfile=", "mailserver", "--config")
HOST = "127.0.0.1"
PASSWORD = "canary-4711"
START_SECONDS = 30.0

# As text from twistd, as JSON from twist.
_SERVES = re.compile(r'mailserver \S+ serves ([\w ,]+) in |"services": "([\w ,]+)"')


def run(*command: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is kept."""
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ, COLUMNS="120", **environment),
    )


def write_config(folder: Path, **more: str) -> Path:
    """A configuration on loopback with ports that the kernel chooses."""
    lines = {
        "local.datadirectory": '"data"',
        "local.hostname": '"mail.example.org"',
        "service.imap.address": '"127.0.0.1"',
        "service.imap.port": "0",
        "service.imap.sslport": "0",
        "service.pop.address": '"127.0.0.1"',
        "service.pop.port": "0",
        "service.pop.sslport": "0",
        "service.lmtp.port": "0",
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    file = folder / "mailserver.toml"
    file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    return file


def add_account(config: Path, name: str) -> None:
    arguments = ("-c", str(config), "account", "add", name, "--password-file", "-")
    done = run(MAILCTL, *arguments, text=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr


@attrs.define
class Process:
    """A running server; `log` grows as it writes."""

    popen: subprocess.Popen[str]
    ports: dict[str, int]
    log: list[str]
    reader: threading.Thread

    @classmethod
    def start(cls, *command: str) -> Process:
        """Start a server and wait until it says that it serves; one that does not is ended."""
        popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        log: list[str] = []
        serves = threading.Event()

        def read() -> None:
            assert popen.stdout is not None
            for line in popen.stdout:
                log.append(line)
                if _SERVES.search(line):
                    serves.set()
            serves.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        process = cls(popen, {}, log, reader)
        try:
            serves.wait(START_SECONDS)
            found = _SERVES.search("".join(log))
            assert found, "".join(log) or "the server says nothing"
        except BaseException:  # also when somebody stops the tests
            process.end()
            raise
        pairs = (pair.split() for pair in (found[1] or found[2]).split(", "))
        process.ports |= {name: int(port) for name, port in pairs}
        return process

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait_for(self, text: str, seconds: float = 10.0) -> str:
        """Wait for a line of the log with `text`."""
        pause = threading.Event()
        for _ in range(int(seconds / 0.02)):
            for line in self.log:
                if text in line:
                    return line
            pause.wait(0.02)
        raise AssertionError(f"{text!r} is not in the log:\n" + "".join(self.log))

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM; returns the exit code (R18: within 10 s)."""
        self.popen.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = 10.0) -> int:
        try:
            return self.popen.wait(seconds)
        finally:
            self.end()

    def end(self) -> None:
        """Leave nothing of it behind; may be called twice."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self.reader.join(5)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
