"""`mailctl demo`: a server with accounts and mail, in the foreground, on loopback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mailserver.cli.running import EX_CONFIG, EXIT_CODES, fail
from mailserver.errors import MailError
from mailserver.service.config import ConfigurationError
from mailserver.service.demo import HOST, Demo, Running, run
from mailserver.service.listeners import StartFault
from mailserver.service.logging import log_to_file
from mailserver.service.wiring import use_monotonic_timers

EX_UNAVAILABLE = 69

_HOW = {
    "imap": "STARTTLS, or without TLS",
    "imaps": "TLS",
    "pop3": "STLS, or without TLS",
    "pop3s": "TLS",
    "lmtp": "delivery; no login",
}


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MAILSERVER_DATA",
    default="var",
    show_default=True,
    help="Where everything is kept (MAILSERVER_DATA).",
)
@click.option(
    "--port-base",
    type=click.IntRange(1, 64000),
    envvar="MAILSERVER_PORT_BASE",
    default=10000,
    show_default=True,
    help="IMAP listens on this + 143, and so on (MAILSERVER_PORT_BASE).",
)
def demo(data: Path, port_base: int) -> None:
    """Start a server to try things on, with two accounts and some mail.

    The first start makes the data, later ones keep them. Ctrl-C ends it.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    use_monotonic_timers(reactor)
    os.umask(0o077)  # S14
    try:
        made = Demo(data, port_base, reactor)
        log = log_to_file(data.absolute() / "server.log")
        run(made, reactor, lambda running: show(running, log, Console()))
    except StartFault as fault:
        fail(f"{fault}; MAILSERVER_PORT_BASE chooses other ports", EX_UNAVAILABLE)
    except ConfigurationError as error:
        fail(str(error), EX_CONFIG)
    except MailError as error:
        fail(error.text, EXIT_CODES.get(error.kind, 1))


def show(running: Running, log: Path, console: Console) -> None:
    """Print services, addresses and passwords."""
    services = Table("service", "address", "port", "how", title="Services", title_justify="left")
    for name, port in running.services.items():
        services.add_row(name, HOST, str(port), _HOW.get(name, ""))
    accounts = Table("account", "password", title="Accounts", title_justify="left")
    for name, password in running.accounts:
        accounts.add_row(name, password)
    imap, account = running.services["imap"], running.accounts[0]
    ca_file = running.certificate.authority
    console.print(services, accounts)
    console.print(
        f"Certificate authority: {ca_file}\n"
        f"Data: {running.data}\nLog: {log}\n\n"
        f"Try: curl --cacert '{ca_file}' --ssl-reqd -u '{account[0]}:{account[1]}'"
        f" 'imap://localhost:{imap}/INBOX;MAILINDEX=1'\n\n"
        "Ctrl-C ends it; the data stay.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
