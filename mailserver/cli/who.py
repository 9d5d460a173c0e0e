"""`mailctl who` and `mailctl kick`: the sessions of the running server (CGP-10)."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mailserver.cli.running import ask_server, fail, print_json
from mailserver.errors import MailError
from mailserver.model.addresses import canonical_address
from mailserver.service.control import ask

_NUMBER = re.compile(r"(?:[A-Za-z0-9]+-)?0*(\d{1,15})")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: an object for each session.")
@click.pass_context
def who(context: click.Context, as_json: bool) -> None:
    """Show who is connected to the running server."""
    rows = ask_server(context, "who")
    if as_json:
        print_json(rows)
        return
    table = Table("session", "service", "account", "address", "TLS", "status", "since")
    for row in rows:
        tls = "yes" if row["tls"] else "no"
        texts = [str(row[name]) for name in ("session", "service", "account", "address")]
        table.add_row(*texts, tls, str(row["status"]), str(row["since"]))
    Console().print(table)
    click.echo(f"{len(rows)} sessions, {sum(bool(row['account']) for row in rows)} logged in")


@click.command()
@click.argument("target", required=False)
@click.option("--all", "everyone", is_flag=True, help="End every session.")
@click.option("--json", "as_json", is_flag=True, help="For programs: an object for each session.")
@click.pass_context
def kick(context: click.Context, target: str | None, everyone: bool, as_json: bool) -> None:
    """End sessions: of an account, from an address, or the one with a number (IMAP-00012).

    Clients are told, in the words of their protocol, after the answer of the command that
    runs; they may connect again. Exit code 1 if there was no such session.
    """
    if (target is None) is not everyone:
        fail("give an account, an address or a session's number, or --all", 64)
    rows = ask_server(context, "kick", **({"all": True} if target is None else _chosen(target)))
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['session']} {row['account'] or '-'} {row['address']} ended")
    if not rows:
        fail("there is no such session")


def end_sessions(data: Path, account: str, reason: str) -> None:
    """End the sessions of an account whose password or state has changed; does nothing
    where no server runs. A server that does not answer is told of on standard error.

    Args:
        account: canonical name, as it was when the sessions logged in.
    """
    try:
        ask(data, "kick", account=account, reason=reason)
    except MailError as error:
        click.echo(f"mailctl: sessions of {account} may still be open: {error.text}", err=True)


def _chosen(target: str) -> dict[str, Any]:
    number = _NUMBER.fullmatch(target)
    if number is not None:
        return {"number": int(number[1])}
    try:
        return {"address": str(ipaddress.ip_address(target))}
    except ValueError:
        pass
    try:
        return {"account": canonical_address(target)}
    except MailError:
        fail(f"{target!r} is no account, address or number of a session", 64)
