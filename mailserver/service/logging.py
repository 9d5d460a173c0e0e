"""Where the log goes, in which form, and from which level on (CGP-1, S13).

Every module of the server has a level of its own (`log.modules`), `trace` being debug with
every command of the protocol. What is logged while a session runs carries the session's
label, whoever wrote it. A line of text never holds a control character of somebody else's:
values cannot end it or begin another. Passwords, AUTH data and message text are never given
to a logger, at no level.
"""

from __future__ import annotations

import json
import signal
import sys
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, cast

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    formatTime,
    globalLogBeginner,
)
from twisted.python.logfile import LogFile
from zope.interface import provider

from mailserver.server.connection import SESSION, escaped

_ROTATE_AT: Final = 10_000_000  # octets
_KEEP: Final = 5  # rotated files
_MAX_LINE: Final = 4000  # characters of an event without its traceback

MODULES: Final = {
    "imap": "mailserver.server.imap",
    "pop": "mailserver.server.pop3",
    "lmtp": "mailserver.server.lmtp",
    "auth": "mailserver.auth",
    "store": "mailserver.store",
    "events": "mailserver.events",
    "tls": "mailserver.service.tls",
    "service": "mailserver.service",
}
"""Module of the server, as options and the log call it, -> name of its loggers."""

TRACE: Final = "trace"
"""The level below debug: every command is logged."""

LEVELS: Final = (TRACE, "debug", "info", "warn", "error")
"""Levels, the least important first. In CommuniGate's words: low-level, all, …, problems,
major (CGP-1)."""

TRACED: Final = frozenset({"imap", "pop", "lmtp"})
"""Modules that have commands."""

_RANKS: Final = {level: rank for rank, level in enumerate(LogLevel.iterconstants())}
_least: dict[str, int] = {}  # name of a logger or of one above it -> rank
_as_json = False
_process = 0  # number of this one among those of the server
_out: IO[str] | None = None  # where lines go, if they are ours


def set_levels(level: str, modules: tuple[str, ...] = ()) -> None:
    """Set the least important level that is logged.

    Args:
        level: one of `LEVELS`.
        modules: exceptions, as `imap=debug`.
    """
    _least.clear()
    _least[""] = _rank(level)
    for text in modules:
        module, _, name = text.partition("=")
        _least[MODULES[module]] = _rank(name)
    _least_of.cache_clear()


def _rank(name: str) -> int:
    return _RANKS[LogLevel.levelWithName("debug" if name == TRACE else name)]


@lru_cache(maxsize=1000)
def _least_of(namespace: str) -> int:
    while namespace not in _least:
        namespace = namespace.rpartition(".")[0]
    return _least[namespace]


set_levels("info")


def set_format(name: str) -> None:
    """Set the form of what is logged from now on: `text`, or `json`, an object a line."""
    global _as_json
    _as_json = name == "json"


def set_process(number: int) -> None:
    """Have every line of a worker tell its number; those of the first process, 0, do not."""
    global _process
    _process = number


def is_traced(module: str, level: str, modules: tuple[str, ...]) -> bool:
    """Say whether a module's commands are logged; arguments as `set_levels`."""
    own = [text for text in modules if text.startswith(f"{module}=")]
    return own[-1].endswith(f"={TRACE}") if own else level == TRACE


def filtered(observer: ILogObserver) -> ILogObserver:
    """An observer that gets only what `set_levels` lets pass, now and later."""

    @provider(ILogObserver)
    def pass_on(event: LogEvent) -> None:
        rank = _RANKS.get(event.get("log_level"), -1)
        if rank >= _least_of(event.get("log_namespace", "")):
            observer(event)

    return cast(ILogObserver, pass_on)


def line_observer(out: IO[str]) -> ILogObserver:
    """An observer that writes each event as a line, as `set_format` says."""
    return FileLogObserver(out, _line)


# -- lines -----------------------------------------------------------------------


def _line(event: LogEvent) -> str | None:
    line = json_line(event) if _as_json else text_line(event)
    return f"{line}\n" if line else None


def text_line(event: LogEvent) -> str:
    """Write an event as text: time, logger and level, session, what happened. Lines of a
    traceback begin with a tab; no other line of the log does."""
    text = escaped(_text(event), _MAX_LINE)
    session = SESSION.get()
    if session and "label" not in event:
        text = f"{session} {text}"
    if "log_failure" in event:
        text += "".join(f"\n\t{line}" for line in _traceback(event))
    if not text:
        return ""
    time = event.get("log_time")
    shown = "-" if time is None else _time(int(time))
    system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{_level_name(event)}"
    if _process:
        system = f"worker {_process}, {system}"
    return f"{shown} [{system}] {text}"


def _text(event: LogEvent) -> str:
    """An event's text. Twisted reads a format letter by letter in Python, which cost a
    tenth of a delivery; Python's own does the same for nearly all of them."""
    try:
        text: str = event["log_format"].format_map(event)
    except (LookupError, AttributeError, TypeError, ValueError):
        return formatEvent(event)
    return text


@lru_cache(maxsize=1)
def _time(seconds: int) -> str:
    return formatTime(seconds)


def json_line(event: LogEvent) -> str:
    """Write an event as an object. Its members: `time` (ISO 8601, UTC), `level`, `module`
    (empty for other libraries), `logger`, `session` (empty outside of one), `text`,
    `values` (an object), `process` (the number) in lines of workers, and `traceback` (a
    list of lines) where there is one."""
    is_note = "label" in event and "text" in event
    text = str(event["text"]) if is_note else _text(event)
    if not text and "log_failure" not in event:
        return ""
    namespace = str(event.get("log_namespace", ""))
    time = datetime.fromtimestamp(event.get("log_time") or 0.0, UTC)
    line: dict[str, object] = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _level_name(event),
        "module": _module(namespace),
        "logger": namespace,
        "session": str(event.get("label") or SESSION.get()),
        "text": text[:_MAX_LINE],
        "values": _values(event),
    }
    if _process:
        line["process"] = _process
    if "log_failure" in event:
        line["traceback"] = _traceback(event)
    return json.dumps(line)


# What Twisted itself puts into events, and what is written elsewhere.
_NOT_VALUES: Final = frozenset(
    "label text shown values isError failure why message time system format".split()
)


def _values(event: LogEvent) -> dict[str, object]:
    given = event.get("values")
    if not isinstance(given, dict):
        given = {
            name: value
            for name, value in event.items()
            if name not in _NOT_VALUES and not name.startswith("log_")
        }
    return {str(name): _plain(value) for name, value in given.items()}


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | None) else escaped(value, 1000)


def _module(namespace: str) -> str:
    """The most exact module that a logger belongs to, empty if to none."""
    found = [name for name, prefix in MODULES.items() if f"{namespace}.".startswith(f"{prefix}.")]
    return max(found, key=lambda name: len(MODULES[name]), default="")


def _level_name(event: LogEvent) -> str:
    level = event.get("log_level")
    return "-" if level is None else str(level.name)


def _traceback(event: LogEvent) -> list[str]:
    lines = event["log_failure"].getTraceback().splitlines()
    return [escaped(line, _MAX_LINE) for line in lines]


# -- where it goes ------------------------------------------------------------------


class LineWriter:
    """Puts lines that another process has made for the log where ours go, each in one piece."""

    _log = Logger()

    def __init__(self) -> None:
        self._rest = b""

    def write(self, octets: bytes) -> None:
        """Take some octets of its output."""
        lines, newline, self._rest = (self._rest + octets).rpartition(b"\n")
        text = (lines + newline).decode("utf-8", "replace")
        if _out is not None:
            _out.write(text)
            _out.flush()
        else:  # somebody else's log, as that of `twist`
            for line in text.splitlines():
                self._log.info("{line}", line=line)


def _log_of_ours(out: IO[str]) -> ILogObserver:
    """The observer of a process that has a log of its own."""
    global _out
    _out = out
    return filtered(line_observer(out))


def log_to_file(file: Path) -> Path:
    """Begin to log to a file, 0600, rotated at 10 MB; returns its path."""
    out: Any = LogFile(  # type: ignore[no-untyped-call]
        file.name,
        str(file.parent),
        rotateLength=_ROTATE_AT,
        maxRotatedFiles=_KEEP,
        defaultMode=0o600,
    )
    globalLogBeginner.beginLoggingTo([_log_of_ours(out)], redirectStandardIO=False)
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
        return _log_of_ours(sys.stdout)
    name = TwistdLog.file or "twistd.log"
    out: Any = LogFile.fromFullPath(name, defaultMode=0o600)  # type: ignore[no-untyped-call]
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: out.rotate())
    return _log_of_ours(out)
