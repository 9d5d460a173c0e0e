"""The installation: where it is, its name, its log."""

from __future__ import annotations

from pathlib import Path

from mailserver.service.kinds import DIRECTORY, DOMAIN, choice, duration, integer
from mailserver.service.options.option import RELOAD, Rows

OPTIONS = Rows()

CONFIG_VERSION = OPTIONS.row(
    "config.version", integer(1, 1), 1, "Version of the configuration's form", overridable=False
)
DATA_DIRECTORY = OPTIONS.row(
    "local.datadirectory",
    DIRECTORY,
    Path("var"),
    "Where everything is kept; relative to the configuration file",
    overridable=False,
)
HOSTNAME = OPTIONS.row(
    "local.hostname", DOMAIN, "", "Name of this server in greetings; empty: the system's"
)
SHUTDOWN_TIMEOUT = OPTIONS.row(
    "local.shutdowntimeout", duration(0, 60), 8.0, "How long a stop waits for running commands"
)
LOG_LEVEL = OPTIONS.row(
    "log.level",
    choice("debug", "info", "warn", "error"),
    "info",
    "The least important events that are logged",
    RELOAD,
)
