"""The whole server as a stranger starts it: `mailctl demo` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs

MAILCTL = str(Path(sys.executable).with_name("mailctl"))
START_SECONDS = 60.0


def free_port_base() -> int:
    """Find a base such that the ports that the demo may use above it are free."""
    for _ in range(200):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = int(probe.getsockname()[1])
        if base < 62000 and all(
            _is_free(base + offset) for offset in (24, 80, 110, 143, 443, 993, 995)
        ):
            return base
    raise RuntimeError("no free range of ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@attrs.define
class Server:
    """A running server with its data directory."""

    data: Path
    environment: dict[str, str]
    process: subprocess.Popen[str]
    info: dict[str, Any]

    @property
    def host(self) -> str:
        return str(self.info["host"])

    def port(self, service: str) -> int:
        return int(self.info["services"][service])

    @property
    def ca_file(self) -> str:
        return str(self.info["ca_file"])

    def demo_account(self, number: int = 0) -> tuple[str, str]:
        account = self.info["accounts"][number]
        return account["name"], account["password"]

    def tls(self) -> ssl.SSLContext:
        """A context that trusts this server alone, host name checked."""
        return ssl.create_default_context(cafile=self.ca_file)

    def mailctl(self, *arguments: str, text: str | None = None, ok: bool = True) -> str:
        """Run the administrator's command beside the server; returns what it printed."""
        done = subprocess.run(
            [MAILCTL, *arguments],
            input=text,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if ok and done.returncode:
            raise AssertionError(
                f"mailctl {arguments}: {done.returncode}\n{done.stderr}{done.stdout}"
            )
        return done.stdout

    def new_account(self, name: str) -> tuple[str, str]:
        """Make an account without mail; returns name and password."""
        password = f"pass of {name}"
        self.mailctl("account", "add", name, "--password-file", "-", text=password + "\n")
        return name, password

    def stop(self, seconds: float = 10.0) -> int:
        """End it as an administrator would; returns its exit code (R18: within 10 s)."""
        if self.process.poll() is None:
            os.kill(int(self.info["pid"]), signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


def start(data: Path, port_base: int | None = None) -> Server:
    """Start a server on a data directory and wait until every listener answers."""
    data.mkdir(parents=True, exist_ok=True)
    environment = dict(
        os.environ,
        MAILSERVER_DATA=str(data),
        MAILSERVER_PORT_BASE=str(port_base or free_port_base()),
        COLUMNS="120",
    )
    log = (data.parent / f"{data.name}.log").open("a+")
    process = subprocess.Popen(
        [MAILCTL, "demo"], env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
    )
    end = time.monotonic() + START_SECONDS
    table = data / "demo.json"
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if table.exists():
            return Server(data, environment, process, json.loads(table.read_text("utf-8")))
        time.sleep(0.02)
    process.kill()
    process.wait()
    log.seek(0)
    raise AssertionError(f"mailctl demo did not start:\n{log.read()[-4000:]}")
