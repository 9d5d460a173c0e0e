"""`twistd mailserver` and `twist mailserver`: the command line, and the service it makes."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from mailserver import __version__
from mailserver.service.config import ConfigurationError, Settings, find_config, load
from mailserver.service.logging import TwistdLog, twistd_observer
from mailserver.service.wiring import EX_CONFIG, Server, give_up, use_monotonic_timers


class Options(usage.Options):
    """Options of the sub-command; those before it are twistd's own."""

    synopsis = "[options]"
    longdesc = (
        "Mail access server: IMAP with IDLE and LMTP delivery over one store of mailboxes."
        " Every option of the configuration can also be given here, as -o NAME=VALUE."
    )
    optParameters = (
        [
            "config",
            "c",
            None,
            "Configuration file; else the data directory's or the system's",
        ],
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.overrides: dict[str, str] = {}

    def opt_option(self, text: str) -> None:
        """Set an option, as NAME=VALUE; wins over the configuration file."""
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise usage.UsageError(f"--option {text}: give it as NAME=VALUE")
        self.overrides[name] = value

    opt_o = opt_option

    def opt_version(self) -> None:
        """Show the version and exit."""
        raise SystemExit(f"mailserver {__version__}")

    def postOptions(self) -> None:
        """Have twistd log from `log.level` on, unless it was told how to log; `twist` has
        an option of its own for that."""
        parent: Any = self.parent
        if "nodaemon" not in parent or parent["logger"] or parent["syslog"]:
            return
        if parent["nodaemon"] or parent["logfile"] != "-":  # twistd refuses the other case
            TwistdLog.file = parent["logfile"]
            TwistdLog.in_foreground = bool(parent["nodaemon"])
            # twistd looks for it by its name, and has no other place for arguments.
            parent["logger"] = f"{twistd_observer.__module__}.{twistd_observer.__name__}"

    def reader(self) -> Callable[[], Settings]:
        """A function that reads the configuration these options name, now or later.

        The file's path is made absolute: twistd may change the working directory. Without
        a file, options on the command line alone make a configuration.

        Raises:
            ConfigurationError: neither file nor options are given.
        """
        given = self["config"]
        overrides = dict(self.overrides)
        file = None if given is None and overrides else Path(given or find_config(os.environ))
        file = file.absolute() if file is not None else None
        return lambda: load(file, overrides)


def take_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one.

    Sessions and databases need them. The usual soft limit of 1,024 is there for programs
    that call select(); with it the store keeps so few databases open that deliveries to
    many accounts come to a third of the rate.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def makeService(options: Options) -> IService:
    """Make the service; a configuration that is wrong ends the program with what is wrong."""
    from twisted.internet import reactor as the_reactor  # not before twistd has chosen one

    os.umask(0o077)  # S14
    take_all_descriptors()
    reactor: Any = the_reactor
    use_monotonic_timers(reactor)
    try:
        read = options.reader()
        return Server(read(), reactor, read, in_foreground=TwistdLog.in_foreground)
    except ConfigurationError as error:
        give_up(str(error), EX_CONFIG)
