"""`mailctl`: the administrator's command. A new command is a module and a row here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

import click

from mailserver import __version__

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "account": ("mailserver.cli.account", "account"),
    "mailbox": ("mailserver.cli.mailbox", "mailbox"),
    "deliver": ("mailserver.cli.deliver", "deliver"),
    "import": ("mailserver.cli.transfer", "import_"),
    "export": ("mailserver.cli.transfer", "export"),
    "verify": ("mailserver.cli.verify", "verify"),
    "repair": ("mailserver.cli.verify", "repair"),
    "backup": ("mailserver.cli.backup", "backup"),
    "restore": ("mailserver.cli.backup", "restore"),
    "tls": ("mailserver.cli.tls", "tls"),
    "access": ("mailserver.cli.access", "access"),
    "who": ("mailserver.cli.who", "who"),
    "kick": ("mailserver.cli.who", "kick"),
    "start": ("mailserver.cli.switch", "start"),
    "stop": ("mailserver.cli.switch", "stop"),
    "configutil": ("mailserver.cli.configutil", "configutil"),
    "demo": ("mailserver.cli.demo", "demo"),
}
"""Name of a command -> module and attribute; imported only when it is used, so that a
command starts as fast as its own module does."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="MAILSERVER_CONFIG",
    help="Configuration file; by default that of the data directory, or the system's.",
)
@click.version_option(__version__, prog_name="mailctl")
def main(config: Path | None) -> None:
    """Administer a mailserver; every command works beside a running server."""
