"""The installation: where it is, its name, its log."""

from __future__ import annotations

from pathlib import Path

from mailserver.service.kinds import DIRECTORY, DOMAIN, choice, duration, integer, words
from mailserver.service.logging import LEVELS, MODULES
from mailserver.service.options.option import RELOAD, Rows

OPTIONS = Rows()


def _module(word: str) -> str:
    module, equals, level = word.lower().partition("=")
    if not equals or module not in MODULES or level not in LEVELS:
        raise ValueError(
            f"{word!r} is not MODULE=LEVEL, with one of {', '.join(MODULES)}"
            f" and one of {', '.join(LEVELS)}"
        )
    return f"{module}={level}"


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
    choice(*LEVELS),
    "info",
    "The least important events that are logged; trace: every command, without passwords",
    RELOAD,
)
LOG_MODULES = OPTIONS.row(
    "log.modules",
    words("modules with levels such as imap=debug", _module),
    (),
    f"Levels of their own: {', '.join(MODULES)}",
    RELOAD,
)
LOG_FORMAT = OPTIONS.row(
    "log.format", choice("text", "json"), "text", "Lines of text, or an object a line", RELOAD
)
