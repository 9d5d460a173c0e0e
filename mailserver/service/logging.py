"""Where the log goes, and from which level on (`log.level`).

Values in the log are escaped and cut where they are logged, by `server.connection.escaped`;
passwords, AUTH data and message text are never given to a logger (S13).
"""

from __future__ import annotations

import signal
import sys
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, cast

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEventAsClassicLogText,
    formatTime,
    globalLogBeginner,
)
from twisted.python.logfile import LogFile
from zope.interface import provider

_ROTATE_AT: Final = 10_000_000  # octets
_KEEP: Final = 5  # rotated files

_LEVELS: Final = tuple(LogLevel.iterconstants())  # least important first
_logged: set[object] = set()


def set_level(name: str) -> None:
    """Set the least important level that is logged: debug, info, warn or error."""
    _logged.clear()
    _logged.update(_LEVELS[_LEVELS.index(LogLevel.levelWithName(name)) :])


set_level("info")


def filtered(observer: ILogObserver) -> ILogObserver:
    """An observer that gets only what `set_level` lets pass, now and later."""

    @provider(ILogObserver)
    def pass_on(event: LogEvent) -> None:
        if event.get("log_level") in _logged:
            observer(event)

    return cast(ILogObserver, pass_on)


def text_observer(out: IO[str]) -> ILogObserver:
    """An observer that writes each event as Twisted's `textFileLogObserver` does.

    A line for each delivery cost a tenth of the delivery with that one, which reads the
    format letter by letter in Python.
    """
    return FileLogObserver(out, _line)


def _line(event: LogEvent) -> str | None:
    if "log_failure" not in event and "log_system" not in event:
        try:
            text = event["log_format"].format_map(event).replace("\n", "\n\t")
            namespace, level = event["log_namespace"], event["log_level"].name
            return f"{_time(int(event['log_time']))} [{namespace}#{level}] {text}\n"
        except (LookupError, AttributeError, TypeError, ValueError):
            pass  # Twisted says what is wrong with the event
    return formatEventAsClassicLogText(event)


@lru_cache(maxsize=1)
def _time(seconds: int) -> str:
    return formatTime(seconds)


def log_to_file(file: Path) -> Path:
    """Begin to log to a file, 0600, rotated at 10 MB; returns its path."""
    out: Any = LogFile(  # type: ignore[no-untyped-call]
        file.name,
        str(file.parent),
        rotateLength=_ROTATE_AT,
        maxRotatedFiles=_KEEP,
        defaultMode=0o600,
    )
    globalLogBeginner.beginLoggingTo([filtered(text_observer(out))], redirectStandardIO=False)
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
        return filtered(text_observer(sys.stdout))
    name = TwistdLog.file or "twistd.log"
    out: Any = LogFile.fromFullPath(name, defaultMode=0o600)  # type: ignore[no-untyped-call]
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: out.rotate())
    return filtered(text_observer(out))
