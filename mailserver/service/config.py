"""Configuration: from files and the command line to frozen settings.

What counts, in this order (SUN-6): the command line, `overrides.toml` in the data directory
(written by `set_override` only), the configuration file, the default. In the file an
option may be written in full, `service.imap.port = 143`, or in tables, `[service.imap]`.

Everything wrong is found before anything starts, all of it at once, each with file, line,
reason and, for an unknown name, the nearest right one.
"""

from __future__ import annotations

import fcntl
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import attrs

from mailserver.auth.filters.grammar import parse_filters
from mailserver.errors import MailError
from mailserver.service import options
from mailserver.service.options import TABLE
from mailserver.service.options.option import Applies, Option, OptionTable
from mailserver.service.tls.server import REQUIRED
from mailserver.service.toml_lines import key_lines, line_of

T = TypeVar("T")

OVERRIDES = "overrides.toml"
"""Name of the file in the data directory."""

CONFIG_FILE = "mailserver.toml"
"""Name of the configuration file where none is given."""

SYSTEM_CONFIG = Path("/etc/mailserver") / CONFIG_FILE

_MAX_FILE = 1024 * 1024
_HEADER = "# Written by `mailctl configutil`; changes by hand are kept only until its next use.\n"
# A key of a hundred parts: tomllib takes time and memory that grow with the parts' square.
_DEEP_KEY = re.compile(r"""(?:[ \t]*+\.[ \t]*+["']?+[A-Za-z0-9_-]++["']?+){100}""")
_TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_TOML_END = re.compile(r" \(at end of document\)$")

_QUOTES_HINT = (
    "; an option whose name begins with another one's is written in quotes:"
    ' "local.store.notifyplugin.enshost" = …'
)
_TOML_HINTS = {
    "Cannot overwrite a value": _QUOTES_HINT,
    "Cannot mutate": _QUOTES_HINT,
    "twice": "; options of one [table] are not also written in full, but in quotes",
}


class Source(Enum):
    """Where a value comes from, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    OVERRIDES = "overrides"
    COMMAND_LINE = "command line"


@attrs.frozen
class Problem:
    """One thing that is wrong.

    Attributes:
        place: file, or `command line`.
        line: 1-based; None if there is none.
        option: name as written; empty if it is about the whole place.
        reason: for people, without the other members.
    """

    place: str
    line: int | None
    option: str
    reason: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line is not None else ""
        option = f" {self.option}:" if self.option else ""
        return f"{self.place}{line}:{option} {self.reason}"


class ConfigurationError(Exception):
    """The configuration cannot be used.

    Args:
        problems: all that were found, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@attrs.frozen
class Setting:
    """The value that counts for one option.

    Attributes:
        option: which one.
        host: from the name's suffix, empty for none.
        value: read and checked.
        source: where it comes from.
        place, line: as of `Problem`, for what is found to be wrong later.
    """

    option: Option[Any]
    host: str
    value: Any
    source: Source
    place: str = ""
    line: int | None = None

    @property
    def name(self) -> str:
        """Full name, with the host."""
        return f"{self.option.name}.{self.host}" if self.host else self.option.name


@attrs.frozen
class Settings:
    """Every option's value; `settings[option]` has the option's type.

    Attributes:
        given: what was set anywhere, by (option's key, host).
        table: the options there are.
        place: the configuration file, or where else what is missing would have to be set.
    """

    given: Mapping[tuple[str, str], Setting]
    table: OptionTable = TABLE
    place: str = "configuration"

    def __getitem__(self, option: Option[T]) -> T:
        """The value of an option."""
        return self.for_host(option, "")

    def for_host(self, option: Option[T], host: str) -> T:
        """The value of an option for a host: its own, else that of the bare name."""
        for suffix in (host.lower(), ""):
            setting = self.given.get((option.key, suffix))
            if setting is not None:
                value: T = setting.value
                return value
        return option.default

    @property
    def data(self) -> Path:
        """The data directory."""
        return self[options.local.DATA_DIRECTORY]

    def source(self, option: Option[Any]) -> Source:
        """Where the value of an option comes from."""
        setting = self.given.get((option.key, ""))
        return Source.DEFAULT if setting is None else setting.source

    def problem(self, option: Option[Any], reason: str) -> Problem:
        """What is wrong with the value of an option, or with its having none; it names where
        that was written."""
        setting = self.given.get((option.key, ""))
        if setting is None or not setting.place:
            return Problem(self.place, None, option.name, reason)
        return Problem(setting.place, setting.line, option.name, reason)

    def changed(self, other: Settings) -> list[Option[Any]]:
        """The options whose values differ: what a reload brings, or cannot bring."""
        return [
            option for option in self.table.options if self._values(option) != other._values(option)
        ]

    def keeping(self, options: Iterable[Option[Any]], other: Settings) -> Settings:
        """These settings, but some options as in others."""
        keys = {option.key for option in options}
        given = {key: one for key, one in self.given.items() if key[0] not in keys}
        given |= {key: one for key, one in other.given.items() if key[0] in keys}
        return attrs.evolve(self, given=given)

    def _values(self, option: Option[Any]) -> dict[str, Any]:
        own = {host: one.value for (key, host), one in self.given.items() if key == option.key}
        return {"": option.default, **own}


@attrs.frozen
class Shown:
    """One option as `configutil -H` lists it; every text is ready to be shown.

    Attributes:
        name: with the host, if it has one.
        value: that counts; a secret is masked.
        default: the same for the default.
        source: where the value comes from.
        kind: what values it takes.
        unit: of a number; may be empty.
        help: one line.
        applies: what makes a change act.
    """

    name: str
    value: str
    default: str
    source: Source
    kind: str
    unit: str
    help: str
    applies: Applies


def find_config(environment: Mapping[str, str]) -> Path:
    """Find the configuration file where none is given on the command line: the one that
    MAILSERVER_CONFIG names, that of the data directory (MAILSERVER_DATA, by default ./var),
    or the system's.

    Raises:
        ConfigurationError: there is none; it says where it was looked for.
    """
    named = environment.get("MAILSERVER_CONFIG")
    if named:
        return Path(named)
    data = Path(environment.get("MAILSERVER_DATA") or "var")
    for file in (data / CONFIG_FILE, SYSTEM_CONFIG):
        if file.exists():
            return file
    reason = (
        f"neither {data / CONFIG_FILE} nor {SYSTEM_CONFIG} exists; give one with --config, or"
        " make a server to try things on with: mailctl demo"
    )
    raise ConfigurationError([Problem("no configuration", None, "", reason)])


def load(
    file: Path | None, command_line: Mapping[str, str] | None = None, table: OptionTable = TABLE
) -> Settings:
    """Read the configuration.

    Args:
        file: the configuration file; None for defaults only, relative to the current
            directory.
        command_line: option names, in any case, with their texts; paths relative to the
            current directory.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    given: dict[tuple[str, str], Setting] = {}
    problems: list[Problem] = []
    here = Path.cwd()
    if file is not None:
        _take(given, _read_file(file, Source.FILE, table, problems))
    words = [
        _Written(name, text, "command line", None, here, Source.COMMAND_LINE)
        for name, text in (command_line or {}).items()
    ]
    on_command_line: dict[tuple[str, str], Setting] = {}
    _take(on_command_line, _read(words, table, problems))
    data = Settings({**given, **on_command_line}, table)[options.local.DATA_DIRECTORY]
    overrides = here / data / OVERRIDES
    if os.path.exists(overrides):  # False too for a name that no file system takes
        _take(given, _read_file(overrides, Source.OVERRIDES, table, problems))
    given.update(on_command_line)
    given.setdefault(
        (options.local.DATA_DIRECTORY.key, ""),
        Setting(
            options.local.DATA_DIRECTORY,
            "",
            (here / file).parent / data if file is not None else here / data,
            Source.DEFAULT,
        ),
    )
    settings = Settings(given, table, str(file) if file is not None else "command line")
    if not problems:
        problems += _contradictions(settings)
    if problems:
        raise ConfigurationError(problems)
    return settings


def packed(settings: Settings) -> dict[str, str]:
    """Settings as texts, for another process; secrets are among them."""
    return {one.name: one.option.kind.show(one.value) for one in settings.given.values()}


def unpacked(texts: Mapping[str, str], table: OptionTable = TABLE) -> Settings:
    """What `packed` gave, as settings again. Nothing else is looked at: no file, no default
    directory.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    given: dict[tuple[str, str], Setting] = {}
    problems: list[Problem] = []
    words = [
        _Written(name, text, "another process", None, Path("/"), Source.COMMAND_LINE)
        for name, text in texts.items()
    ]
    _take(given, _read(words, table, problems))
    if problems:
        raise ConfigurationError(problems)
    return Settings(given, table)


def show(settings: Settings, name: str) -> str:
    """The value of one option, as text; a secret is masked.

    Raises:
        ConfigurationError: there is no such option.
    """
    option, host = _known(settings.table, name, "configutil")
    return option.shown(settings.for_host(option, host))


def listing(settings: Settings) -> Iterator[Shown]:
    """Every option with its value, in the order of the table, then those for one host."""
    for option in settings.table.options:
        hosts = sorted(host for key, host in settings.given if key == option.key and host)
        for host in ("", *hosts):
            setting = settings.given.get((option.key, host))
            value = option.default if setting is None else setting.value
            yield Shown(
                name=f"{option.name}.{host}" if host else option.name,
                value=option.shown(value),
                default=option.shown(option.default),
                source=Source.DEFAULT if setting is None else setting.source,
                kind=option.kind.label,
                unit=option.kind.unit,
                help=option.help,
                applies=option.applies,
            )


def set_override(
    data: Path, name: str, text: str | None, table: OptionTable = TABLE
) -> Option[Any]:
    """Set one option in the data directory's overrides, or take the override away.

    Durable when it returns. Two processes that do it at once take turns.

    Args:
        data: the data directory, which exists.
        name: in any case, with a host where the option allows one.
        text: the value; None to fall back to file or default.

    Returns:
        The option; `applies` says what makes the change act.

    Raises:
        ConfigurationError: unknown name, wrong value, an option that cannot be overridden,
            or overrides that cannot be read; nothing is changed then.
    """
    option, host = _known(table, name, "configutil")
    if not option.overridable:
        raise _single("configutil", option.name, "can only be set in the configuration file")
    with _locked(data / "overrides.lock"):
        problems: list[Problem] = []
        kept: dict[tuple[str, str], Setting] = {}
        file = data / OVERRIDES
        if file.exists():
            _take(kept, _read_file(file, Source.OVERRIDES, table, problems))
        if problems:
            raise ConfigurationError(problems)
        kept.pop((option.key, host), None)
        if text is not None:
            written = _Written(name, text, "configutil", None, Path.cwd(), Source.OVERRIDES)
            _take(kept, _read([written], table, problems))
        if problems:
            raise ConfigurationError(problems)
        lines = sorted(
            f'"{setting.name}" = {setting.option.kind.toml(setting.value)}\n'
            for setting in kept.values()
        )
        _replace(file, _HEADER + "".join(lines))
    return option


# -- reading ------------------------------------------------------------------


@attrs.frozen
class _Written:
    """A value as it was written somewhere."""

    name: str
    value: object
    place: str
    line: int | None
    base: Path  # of relative paths
    source: Source


def _read_file(
    file: Path, source: Source, table: OptionTable, problems: list[Problem]
) -> Iterable[Setting]:
    try:
        octets = file.read_bytes()
        if len(octets) > _MAX_FILE:
            problems.append(Problem(str(file), None, "", "is larger than 1 MiB"))
            return ()
        text = octets.decode("utf-8")
        if _DEEP_KEY.search(text):
            raise RecursionError
        values = list(_flat(tomllib.loads(text.removeprefix("\ufeff"))))
    except OSError as error:
        problems.append(Problem(str(file), None, "", error.strerror or "cannot be read"))
        return ()
    except UnicodeDecodeError as error:
        bad_line = octets.count(b"\n", 0, error.start) + 1
        problems.append(Problem(str(file), bad_line, "", "is not UTF-8"))
        return ()
    except tomllib.TOMLDecodeError as error:
        problems.append(_toml_problem(str(file), text, str(error)))
        return ()
    except (ValueError, RecursionError):  # a number of 5,000 digits, 1,000 lists in one another
        reason = "has a number too long, or keys or brackets nested too deep, to be read"
        problems.append(Problem(str(file), None, "", reason))
        return ()
    lines = key_lines(text)
    base = file.absolute().parent
    seen: dict[str, int] = {}
    written = []
    for name, value in values:
        occurrence = seen.get(name.lower(), 0)
        seen[name.lower()] = occurrence + 1
        line = line_of(lines, name, occurrence)
        written.append(_Written(name, value, str(file), line, base, source))
    return _read(written, table, problems)


def _toml_problem(place: str, text: str, message: str) -> Problem:
    match = _TOML_LINE.search(message)
    line: int | None = None
    if match is not None:
        line = int(match[1])
    elif _TOML_END.search(message):
        line = text.count("\n") + 1
    reason = _TOML_END.sub("", _TOML_LINE.sub("", message))
    reason += next((hint for words, hint in _TOML_HINTS.items() if words in reason), "")
    return Problem(place, line, "", f"is not valid TOML: {reason}")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value with its dotted name; an empty table counts as a value."""
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and value:
            yield from _flat(value, name)
        else:
            yield name, value


def _read(
    written: Iterable[_Written], table: OptionTable, problems: list[Problem]
) -> list[Setting]:
    out: list[Setting] = []
    first: dict[tuple[str, str], _Written] = {}
    for one in sorted(written, key=lambda one: one.line or 0):
        if one.value == {} and table.has_below(one.name):
            continue
        try:
            setting = _setting(one, table)
        except ValueError as error:
            problems.append(Problem(one.place, one.line, one.name, str(error)))
            continue
        key = (setting.option.key, setting.host)
        if key in first:
            where = f" on line {first[key].line}" if first[key].line is not None else ""
            problems.append(Problem(one.place, one.line, one.name, f"is given already{where}"))
            continue
        first[key] = one
        out.append(setting)
    return out


def _setting(one: _Written, table: OptionTable) -> Setting:
    found = table.find(one.name)
    if found is None:
        nearest = table.nearest(one.name)
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise ValueError(f"there is no such option{hint}")
    option, host = found
    if one.source is Source.OVERRIDES and not option.overridable:
        raise ValueError("can only be set in the configuration file")
    try:
        value = option.kind.parse(one.value, one.base)
    except ValueError as error:
        shown = "" if option.is_secret else f"{_quoted(one.value)} is not possible: "
        raise ValueError(f"{shown}{error}") from None
    return Setting(option, host, value, one.source, one.place, one.line)


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _take(given: dict[tuple[str, str], Setting], settings: Iterable[Setting]) -> None:
    given.update({(one.option.key, one.host): one for one in settings})


def _known(table: OptionTable, name: str, place: str) -> tuple[Option[Any], str]:
    found = table.find(name)
    if found is None:
        nearest = table.nearest(name)
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise _single(place, name, f"there is no such option{hint}")
    return found


def _single(place: str, option: str, reason: str) -> ConfigurationError:
    return ConfigurationError([Problem(place, None, option, reason)])


# -- what does not go together --------------------------------------------------

_PORTS: tuple[tuple[tuple[Option[bool], ...], Option[tuple[str, ...]], Option[int]], ...] = (
    ((options.imap.ENABLE,), options.imap.ADDRESS, options.imap.PORT),
    (
        (options.imap.ENABLE, options.imap.ENABLE_SSL_PORT),
        options.imap.ADDRESS,
        options.imap.SSL_PORT,
    ),
    ((options.pop3.ENABLE,), options.pop3.ADDRESS, options.pop3.PORT),
    (
        (options.pop3.ENABLE, options.pop3.ENABLE_SSL_PORT),
        options.pop3.ADDRESS,
        options.pop3.SSL_PORT,
    ),
    (
        (options.lmtp.ENABLE, options.lmtp.ENABLE_TCP),
        options.lmtp.ADDRESS,
        options.lmtp.PORT,
    ),
    (
        (options.lmtp.ENABLE, options.lmtp.ENABLE_SSL_PORT),
        options.lmtp.ADDRESS,
        options.lmtp.SSL_PORT,
    ),
)


def _contradictions(settings: Settings) -> Iterator[Problem]:
    if settings.table is not TABLE:
        return
    problem = settings.problem
    used: dict[int, list[tuple[Option[int], frozenset[str]]]] = {}
    for switches, addresses, port in _PORTS:
        number = settings[port]
        if not number or not all(settings[switch] for switch in switches):
            continue
        bound = settings[addresses]
        here = frozenset(bound)
        for other, there in used.get(number, []):
            if not here or not there or here & there:
                reason = f"port {number} is taken by {other.name} on the same address"
                yield problem(port, reason)
        used.setdefault(number, []).append((port, here))
    pairs: tuple[tuple[Option[Any], Option[Any]], ...] = (
        (options.oauth.CLIENT_ID, options.oauth.INTROSPECTION_URL),
        (options.oauth.CLIENT_SECRET, options.oauth.CLIENT_ID),
        (options.tls.KEY, options.tls.CERTIFICATE),
        (options.tls.CLIENT_AUTHORITIES, options.tls.CERTIFICATE),
        (options.tls.CLIENT_REVOKED, options.tls.CLIENT_AUTHORITIES),
        (options.tls.CLIENT_MAP, options.tls.CLIENT_AUTHORITIES),
        (options.proxy.LISTENERS, options.proxy.HOSTS),
    )
    for given, needed in pairs:
        if settings[given] and not settings[needed]:
            yield problem(given, f"is of no use without {needed.name}")
    for asked in options.tls.CLIENT_CERTIFICATE.values():
        if settings[asked] == REQUIRED and settings[options.tls.CLIENT_AUTHORITIES] is None:
            reason = f"cannot be {REQUIRED} without {options.tls.CLIENT_AUTHORITIES.name}"
            yield problem(asked, reason)
    threads = settings[options.store.WRITER_THREADS] + settings[options.login.AUTH_THREADS]
    if threads > settings[options.imap.MAX_THREADS]:
        names = f"{options.store.WRITER_THREADS.name} and {options.login.AUTH_THREADS.name}"
        yield problem(options.imap.MAX_THREADS, f"{names} are {threads} together")
    if settings[options.oauth.KEYS_FILE] or settings[options.oauth.KEYS_URL]:
        named: tuple[Option[Any], ...] = (options.oauth.ISSUER, options.oauth.AUDIENCE)
        for needed in named:
            if not settings[needed]:
                reason = "must be set: a token that was made for others would be good here"
                yield problem(needed, reason)
    before, after = options.login.THROTTLE_FIRST_DELAY, options.login.THROTTLE_MAX_DELAY
    if settings[before] > settings[after]:
        yield problem(before, f"must not be above {after.name}")
    domain = settings[options.login.DEFAULT_DOMAIN]
    for pair in options.access.FILTERS.values():
        for option in pair:
            try:
                parse_filters(settings[option], "", allows=True, default_domain=domain)
            except MailError as error:
                yield problem(option, error.text)


# -- writing ------------------------------------------------------------------


class _locked:
    """Holds a lock file; others wait."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _replace(file: Path, text: str, fsync: Callable[[int], None] = os.fsync) -> None:
    """Write a file so that after a crash it is the old or the new one, on disk (S14)."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)  # left by a crash; we hold the lock
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as out:
        out.write(text.encode("utf-8"))
        out.flush()
        fsync(out.fileno())
    os.replace(temporary, file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(directory)
    finally:
        os.close(directory)
