"""`mailctl configutil`: get and set options (SUN-6)."""

from __future__ import annotations

import os

import click
from rich.console import Console
from rich.table import Table

from mailserver.cli.running import EX_CONFIG, act_as_owner, fail, print_json, settings_of
from mailserver.service.config import ConfigurationError, listing, set_override, show


@click.command()
@click.option("-o", "option", help="Name of the option, in any case.")
@click.option("-v", "value", help="Set it; without, its value is printed.")
@click.option("--unset", is_flag=True, help="Take an earlier -v back.")
@click.option("-H", "with_help", is_flag=True, help="List all options with defaults and help.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def configutil(
    context: click.Context,
    option: str | None,
    value: str | None,
    unset: bool,
    with_help: bool,
    as_json: bool,
) -> None:
    """Get and set options.

    What is set is kept in overrides.toml of the data directory and goes before the
    configuration file; the command line of the server goes before both.
    """
    if option is None and (value is not None or unset):
        fail("which option? Name it with -o", 64)
    if value is not None and unset:
        fail("give either -v or --unset", 64)
    settings = settings_of(context)
    try:
        if option is None:
            _list(context, with_help, as_json)
        elif value is None and not unset:
            click.echo(show(settings, option))
        else:
            os.umask(0o077)
            act_as_owner(settings.data)
            settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            changed = set_override(settings.data, option, value)
            settings_of(context)  # says so if the whole does not go together any more
            click.echo(f"{changed.name} is set; a {changed.applies.value} makes it act")
    except ConfigurationError as error:
        fail(str(error), EX_CONFIG)


def _list(context: click.Context, with_help: bool, as_json: bool) -> None:
    rows = list(listing(settings_of(context)))
    if as_json:
        print_json(
            {
                row.name: {
                    "value": row.value,
                    "default": row.default,
                    "source": row.source.value,
                    "kind": row.kind,
                    "unit": row.unit,
                    "help": row.help,
                    "applies": row.applies.value,
                }
                for row in rows
            }
        )
        return
    if not with_help:
        for row in rows:
            click.echo(f"{row.name} = {row.value}")
        return
    table = Table("option", "value", "default", "from", "applies by", "help")
    for row in rows:
        text = f"{row.help} ({row.kind}{', ' + row.unit if row.unit else ''})"
        table.add_row(row.name, row.value, row.default, row.source.value, row.applies.value, text)
    Console().print(table)
