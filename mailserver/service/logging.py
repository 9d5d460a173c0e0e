"""Where the log goes, and from which level on (`log.level`).

Values in the log are escaped and cut where they are logged, by `server.connection.escaped`;
passwords, AUTH data and message text are never given to a logger (S13).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, Final

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

_ROTATE_AT: Final = 10_000_000  # octets
_KEEP: Final = 5  # rotated files

_level = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)


def set_level(name: str) -> None:
    """Set the least important level that is logged: debug, info, warn or error."""
    _level.clearLogLevels()
    _level.setLogLevelForNamespace("", LogLevel.levelWithName(name))


def filtered(observer: ILogObserver) -> ILogObserver:
    """An observer that gets only what `set_level` lets pass, now and later."""
    wrapped: ILogObserver = FilteringLogObserver(observer, [_level])
    return wrapped


def log_to_file(file: Path) -> Path:
    """Begin to log to a file, 0600, rotated at 10 MB; returns its path."""
    out: Any = LogFile(  # type: ignore[no-untyped-call]
        file.name,
        str(file.parent),
        rotateLength=_ROTATE_AT,
        maxRotatedFiles=_KEEP,
        defaultMode=0o600,
    )
    globalLogBeginner.beginLoggingTo([filtered(textFileLogObserver(out))], redirectStandardIO=False)
    return file


class TwistdLog:
    """Where twistd was told to log.

    Attributes:
        file: of `--logfile`, None if none was given, `-` for standard output.
        in_foreground: of `--nodaemon`.
    """

    file: str | None = None
    in_foreground: bool = True


def twistd_observer() -> ILogObserver:
    """What `twistd --logger` takes by its name: makes the observer.

    The log goes where twistd would send it: to standard output in the foreground, to
    `twistd.log` otherwise, or to the file that was named; SIGUSR1 rotates it.
    """
    if TwistdLog.file == "-" or (TwistdLog.in_foreground and not TwistdLog.file):
        return filtered(textFileLogObserver(sys.stdout))
    name = TwistdLog.file or "twistd.log"
    out: Any = LogFile.fromFullPath(name, defaultMode=0o600)  # type: ignore[no-untyped-call]
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: out.rotate())
    return filtered(textFileLogObserver(out))
