"""How a command of `mailctl` runs: finds the configuration, opens the data, does its work,
and ends with the exit code that says what happened.

A command works beside a running server. Run by root, it acts as the owner of the data
directory, so that the server can use what it made.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailserver.errors import ErrorKind, MailError
from mailserver.service.config import ConfigurationError, Settings, find_config, load
from mailserver.service.control import Row, ask
from mailserver.service.installation import Installation, installation_settings

T = TypeVar("T")

EXIT_CODES: dict[ErrorKind, int] = {
    ErrorKind.NONEXISTENT: 67,  # EX_NOUSER
    ErrorKind.INVALID: 65,  # EX_DATAERR
    ErrorKind.CANNOT: 65,
    ErrorKind.BAD_MESSAGE: 65,
    ErrorKind.TOO_BIG: 65,
    ErrorKind.ALREADY_EXISTS: 73,  # EX_CANTCREAT
    ErrorKind.USE_ATTRIBUTE: 73,
    ErrorKind.NO_PERMISSION: 77,  # EX_NOPERM
    ErrorKind.OVER_QUOTA: 75,  # EX_TEMPFAIL
    ErrorKind.UNAVAILABLE: 75,
    ErrorKind.TOO_MANY: 75,
    ErrorKind.DISK_FULL: 75,
    ErrorKind.CORRUPT: 70,  # EX_SOFTWARE
}
"""Kind -> exit code of sysexits.h; 1 for all others."""

EX_CONFIG = 78
EX_INTERRUPTED = 130


def fail(text: str, code: int = 1) -> NoReturn:
    """Say what is wrong and end the program."""
    click.echo(f"mailctl: {text}", err=True)
    sys.exit(code)


def settings_of(context: click.Context) -> Settings:
    """Read the configuration that the command line names."""
    try:
        return load(context.find_root().params.get("config") or find_config(os.environ))
    except ConfigurationError as error:
        fail(str(error), EX_CONFIG)


def act_as_owner(data: Path) -> None:
    """Change from root to the owner of the data directory (S14)."""
    if os.geteuid() != 0 or not data.exists():
        return
    owner = data.stat()
    if owner.st_uid == 0:
        return
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def run(context: click.Context, work: Callable[[Installation], Awaitable[T]]) -> T:
    """Open the installation, run `work` on a reactor, close it, and return the result.

    A refusal ends the program with its sentence and exit code; an interrupt lets what is
    being written finish.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    settings = settings_of(context)
    os.umask(0o077)
    act_as_owner(settings.data)
    try:
        wanted = installation_settings(settings)
    except ConfigurationError as error:
        fail(str(error), EX_CONFIG)
    outcome: list[Any] = []

    async def everything() -> T:
        installation = await Installation.open(wanted, reactor)
        try:
            return await work(installation)
        finally:
            await installation.stop()

    def start() -> None:
        running = Deferred.fromCoroutine(everything())
        running.addBoth(outcome.append)
        running.addBoth(lambda _: reactor.stop() if not ending else None)

        def end() -> Deferred[Any]:
            ending.append(True)
            running.cancel()
            return running

        reactor.addSystemEventTrigger("before", "shutdown", end)

    ending: list[bool] = []
    reactor.callWhenRunning(start)
    reactor.run()
    result: Any = outcome[0]
    if isinstance(result, Failure):
        _fail_with(result.value)
    done: T = result
    return done


def _fail_with(error: BaseException | None) -> NoReturn:
    if isinstance(error, CancelledError):
        fail("interrupted; what was done stays, run the command again to go on", EX_INTERRUPTED)
    if isinstance(error, MailError):
        known = error.subject is None or error.subject in error.text
        text = error.text if known else f"{error.subject}: {error.text}"
        fail(text, EXIT_CODES.get(error.kind, 1))
    if isinstance(error, OSError | click.ClickException):
        fail(str(error))
    assert error is not None
    raise error


def print_json(value: object) -> None:
    """Print one value for programs."""
    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=True))


def ask_server(context: click.Context, command: str, **arguments: object) -> list[Row]:
    """Ask the running server; ends the command with a sentence if there is none or it refuses.

    Returns:
        The rows of its answer; see `mailserver.service.control`.
    """
    data = settings_of(context).data
    act_as_owner(data)
    try:
        rows = ask(data, command, **arguments)
    except MailError as error:
        fail(error.text, EXIT_CODES.get(error.kind, 1))
    if rows is None:
        fail(f"no server runs on {data}", EXIT_CODES[ErrorKind.UNAVAILABLE])
    return rows
