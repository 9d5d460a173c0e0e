"""The chain of sources of accounts: from options to objects.

What cannot work stops the start with a sentence that names option and reason. A server that
does not answer is no such thing: it may be back in a minute.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

from mailserver.auth.checkers.passwd_file import PasswdFile
from mailserver.auth.checkers.source import ISource
from mailserver.auth.decoys import Decoys
from mailserver.auth.pool import FairPool
from mailserver.auth.remembered import Remembered
from mailserver.errors import ErrorKind, MailError
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Problem, Settings
from mailserver.service.options.option import Option
from mailserver.store.directory import Directory

DIRECTORY: Final = "directory"
"""Our own directory's place in the chain."""

_EXTRAS: Final = {"ldap": "python-ldap", "pam": "pamela"}  # source -> package of that extra


@attrs.frozen
class SourceSettings:
    """The chain and what each source needs.

    Attributes:
        order: labels, at least one; `directory` is ours.
        fresh_for: see `Adoption`.
        passwd_file, passwd_scheme: of the passwd-file.
        ldap: `LdapSettings`, None without it.
        pam: `PamSettings`, None without it.
    """

    order: tuple[str, ...] = (DIRECTORY,)
    fresh_for: float = 60.0
    passwd_file: Path | None = None
    passwd_scheme: str = "CRYPT"
    ldap: Any = None
    pam: Any = None


def source_settings(settings: Settings) -> SourceSettings:
    """Read and check the options.

    Raises:
        ConfigurationError: naming option, file and reason.
    """
    order = settings[o.sources.SOURCES]
    problems = list(_problems_of_order(settings))
    for label, check in (
        ("passwd-file", _passwd_file_problems),
        ("ldap", _ldap_problems),
        ("pam", _pam_problems),
    ):
        if label in order:
            problems += check(settings)
    if problems:
        raise ConfigurationError(problems)
    return SourceSettings(
        order,
        settings[o.sources.FRESH_FOR],
        settings[o.sources.PASSWD_FILE],
        settings[o.sources.PASSWD_FILE_SCHEME].upper(),
        _ldap_settings(settings) if "ldap" in order else None,
        _pam_settings(settings) if "pam" in order else None,
    )


def must_be_readable(settings: SourceSettings) -> None:
    """See that the files can be read by who the server is now: it may have been root when the
    options were checked.

    Raises:
        MailError: UNAVAILABLE, naming option, file and reason.
    """
    path = settings.passwd_file
    if "passwd-file" in settings.order and path is not None:
        reason = _unreadable(path)
        if reason is not None:
            raise MailError(
                ErrorKind.UNAVAILABLE, f"{o.sources.PASSWD_FILE.name}: {path}: {reason}"
            )


def open_sources(
    settings: SourceSettings,
    reactor: Any,
    directory: Directory,
    hashes: FairPool,
    remembered: Remembered,
    decoys: Decoys,
    iterations: int,
) -> dict[str, ISource]:
    """Make the sources other than the directory, by label, in their order. Nothing is asked
    yet.

    Args:
        hashes, remembered: of password checks.
        decoys, iterations: for SCRAM.
    """
    made: dict[str, ISource] = {}
    for label in settings.order:
        if label == "passwd-file":
            assert settings.passwd_file is not None
            made[label] = PasswdFile(
                settings.passwd_file,
                hashes,
                remembered,
                decoys,
                iterations,
                settings.passwd_scheme,
                lambda: directory.default_domain,
            )
        elif label == "ldap":
            made[label] = _module("ldap").LdapSource(settings.ldap, reactor, remembered, hashes)
        elif label == "pam":
            made[label] = _module("pam").PamSource(settings.pam, reactor)
    return made


def _module(label: str) -> ModuleType:
    """The module of a source whose library is not there everywhere.

    Raises:
        ImportError, OSError, AttributeError: it is not here.
    """
    return import_module(f"mailserver.auth.checkers.{label}")


# -- what is wrong with the options ---------------------------------------------------


def _problem_of(file: object, option: Option[Any], reason: str) -> Problem:
    return Problem(str(file), None, option.name, reason)


def _problems_of_order(settings: Settings) -> Iterator[Problem]:
    option = o.sources.SOURCES
    order = settings[option]
    if not order:
        yield settings.problem(option, "names no source, so nobody could log in")
    for label in sorted({label for label in order if order.count(label) > 1}):
        yield settings.problem(option, f"names {label} twice")


def _passwd_file_problems(settings: Settings) -> Iterator[Problem]:
    option = o.sources.PASSWD_FILE
    path = settings[option]
    if path is None:
        yield settings.problem(
            option, f"is not set, and {o.sources.SOURCES.name} names passwd-file"
        )
    elif (reason := _unreadable(path)) is not None:
        yield _problem_of(path, option, reason)


def _ldap_problems(settings: Settings) -> Iterator[Problem]:
    problem = _library_problem(settings, "ldap")
    if problem is not None:
        yield problem
        return
    ldap = _module("ldap")
    if not settings[o.sources.LDAP_URIS]:
        yield settings.problem(
            o.sources.LDAP_URIS, f"is not set, and {o.sources.SOURCES.name} names ldap"
        )
    checks: list[tuple[Option[Any], Any, str]]
    checks = [(o.sources.LDAP_URIS, ldap.check_uri, uri) for uri in settings[o.sources.LDAP_URIS]]
    checks.append((o.sources.LDAP_BASE, ldap.check_base, settings[o.sources.LDAP_BASE]))
    checks.append((o.sources.LDAP_FILTER, ldap.check_filter, settings[o.sources.LDAP_FILTER]))
    if settings[o.sources.LDAP_BIND_DN]:
        checks.append((o.sources.LDAP_BIND_DN, ldap.check_base, settings[o.sources.LDAP_BIND_DN]))
    for option, check, value in checks:
        try:
            check(value)
        except ValueError as error:
            yield settings.problem(option, f"{value!r} is not possible: {error}")
    if not settings[o.sources.LDAP_BASE]:
        yield settings.problem(o.sources.LDAP_BASE, "is not set; it says where searches begin")
    for file in (o.sources.LDAP_CA_FILE, o.sources.LDAP_BIND_PASSWORD_FILE):
        path = settings[file]
        if path is not None and (reason := _unreadable(path)) is not None:
            yield _problem_of(path, file, reason)
    secret = settings[o.sources.LDAP_BIND_PASSWORD_FILE]
    if secret is not None and secret.exists() and secret.stat().st_mode & stat.S_IROTH:  # S14
        reason = "everybody on this machine can read it; chmod o-r it"
        yield _problem_of(secret, o.sources.LDAP_BIND_PASSWORD_FILE, reason)
    if settings[o.sources.LDAP_BIND_PASSWORD] and settings[o.sources.LDAP_BIND_PASSWORD_FILE]:
        yield settings.problem(
            o.sources.LDAP_BIND_PASSWORD_FILE,
            f"and {o.sources.LDAP_BIND_PASSWORD.name} are both set; leave one out",
        )
    if settings[o.sources.LDAP_STARTTLS] and any(
        not uri.startswith("ldap://") for uri in settings[o.sources.LDAP_URIS]
    ):
        yield settings.problem(
            o.sources.LDAP_STARTTLS, f"needs ldap:// in {o.sources.LDAP_URIS.name}"
        )
    for ours in sorted(set(_ldap_names(settings)) - set(ldap.NAMES)):
        yield settings.problem(
            o.sources.LDAP_ATTRIBUTES,
            f"{ours!r} is none of {', '.join(ldap.NAMES)}",
        )


def _pam_problems(settings: Settings) -> Iterator[Problem]:
    problem = _library_problem(settings, "pam")
    if problem is not None:
        yield problem
        return
    service = settings[o.sources.PAM_SERVICE]
    if not service or "/" in service:
        yield settings.problem(o.sources.PAM_SERVICE, "takes the name of a file in /etc/pam.d")
    elif not any(Path(place, service).exists() for place in ("/etc/pam.d", "/usr/lib/pam.d")):
        file = f"/etc/pam.d/{service}"
        yield _problem_of(file, o.sources.PAM_SERVICE, "there is no such file")
    if settings[o.sources.PAM_NAMES] == "local" and not settings[o.login.DEFAULT_DOMAIN]:
        yield settings.problem(
            o.sources.PAM_NAMES,
            f"is local, so {o.login.DEFAULT_DOMAIN.name} must say in which domain",
        )


def _library_problem(settings: Settings, label: str) -> Problem | None:
    try:
        _module(label)
    except (ImportError, OSError, AttributeError) as error:
        return settings.problem(
            o.sources.SOURCES,
            f"{label} needs {_EXTRAS[label]}: pip install 'mailserver[{label}]' ({error})",
        )
    return None


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _ldap_settings(settings: Settings) -> Any:
    password = settings[o.sources.LDAP_BIND_PASSWORD]
    path = settings[o.sources.LDAP_BIND_PASSWORD_FILE]
    if path is not None:
        password = path.read_text("utf-8").partition("\n")[0].rstrip("\r")
    return _module("ldap").LdapSettings(
        uris=settings[o.sources.LDAP_URIS],
        base=settings[o.sources.LDAP_BASE],
        scope=settings[o.sources.LDAP_SCOPE],
        filter=settings[o.sources.LDAP_FILTER],
        bind_dn=settings[o.sources.LDAP_BIND_DN],
        bind_password=password,
        compares=settings[o.sources.LDAP_METHOD] == "compare",
        password_attribute=settings[o.sources.LDAP_PASSWORD_ATTRIBUTE],
        starttls=settings[o.sources.LDAP_STARTTLS],
        ca_file=settings[o.sources.LDAP_CA_FILE],
        timeout=settings[o.sources.LDAP_TIMEOUT],
        connections=settings[o.sources.LDAP_CONNECTIONS],
        retry=settings[o.sources.LDAP_RETRY],
        attributes=_ldap_names(settings),
        default_domain=settings[o.login.DEFAULT_DOMAIN],
    )


def _ldap_names(settings: Settings) -> Mapping[str, str]:
    pairs = (word.partition("=") for word in settings[o.sources.LDAP_ATTRIBUTES])
    return {ours: theirs for ours, _, theirs in pairs}


def _pam_settings(settings: Settings) -> Any:
    return _module("pam").PamSettings(
        service=settings[o.sources.PAM_SERVICE],
        full_names=settings[o.sources.PAM_NAMES] == "full",
        system_users=settings[o.sources.PAM_SYSTEM_USERS],
        first_uid=settings[o.sources.PAM_FIRST_UID],
        threads=settings[o.sources.PAM_THREADS],
        default_domain=settings[o.login.DEFAULT_DOMAIN],
    )
