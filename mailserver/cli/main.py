"""`mailctl`, the administrator's command: one group, its commands named in a table."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from mailserver import __version__

COMMANDS: dict[str, str] = {
    "account": "mailserver.cli.account:account",
    "configutil": "mailserver.cli.configutil:configutil",
    "deliver": "mailserver.cli.deliver:deliver",
    "demo": "mailserver.cli.demo:demo",
    "export": "mailserver.cli.transfer:export",
    "import": "mailserver.cli.transfer:import_",
    "mailbox": "mailserver.cli.mailbox:mailbox",
}
"""Name of a command -> module and name of what implements it, imported when it is used."""


class _Commands(click.Group):
    """Commands that are imported when they are used: `mailctl deliver` starts often."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="MAILSERVER_CONFIG",
    help="Configuration file; else mailserver.toml in $MAILSERVER_DATA (./var), else the system's.",
)
@click.version_option(__version__, prog_name="mailserver")
def main(config: Path | None) -> None:
    """Administer a mailserver; works beside a running one."""
