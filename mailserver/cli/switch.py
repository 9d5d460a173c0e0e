"""`mailctl start` and `mailctl stop`: a service of the running server (SUN-7)."""

from __future__ import annotations

import click

from mailserver.cli.running import ask_server, print_json
from mailserver.service.switches import SERVICES

_SERVICE = click.argument("service", type=click.Choice(list(SERVICES), case_sensitive=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs: an object an address.")


@click.command()
@_SERVICE
@_JSON
@click.pass_context
def start(context: click.Context, service: str, as_json: bool) -> None:
    """Serve again what `stop` has stopped."""
    _switch(context, "start", service, as_json)


@click.command()
@_SERVICE
@_JSON
@click.pass_context
def stop(context: click.Context, service: str, as_json: bool) -> None:
    """Stop a service until `start`, or until the server is started anew.

    Its clients are told, after the answer of the command that runs; new connections are
    refused. To have it off for good, set service.SERVICE.enable to no.
    """
    _switch(context, "stop", service, as_json)


def _switch(context: click.Context, command: str, service: str, as_json: bool) -> None:
    rows = ask_server(context, command, service=service)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = "is served" if row["running"] else "is stopped"
        click.echo(f"{row['service']} on {row['address']} {state}")
