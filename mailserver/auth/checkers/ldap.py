"""Accounts of an LDAP directory (RFC 4511), through OpenLDAP's library on threads.

A search under the service's own name finds the entry; the password is then checked by a bind
under the entry's name, or read and compared here by its scheme. Attributes have the names of
the Sun server's schema where the configuration does not say otherwise.

Invariants:

- What a person typed stands in a filter only escaped (RFC 4515 §3), and in a name of an entry
  never. An empty password is never sent: a bind without one succeeds (RFC 4513 §5.1.2).
- At most as many connections pairs as `connections` are open. One on which anything failed is
  closed; one that idled is tried once, then made anew.
- After a failure to connect nothing is tried for `retry` seconds, so a server that does not
  answer costs one wait and not one for every login.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs
import ldap
import ldap.dn
from ldap.filter import escape_filter_chars
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth import schemes
from mailserver.auth.checkers import Login
from mailserver.auth.checkers.source import (
    ATTRIBUTE_NAMES,
    Entry,
    ISource,
    read_attributes,
)
from mailserver.auth.pool import FairPool
from mailserver.auth.remembered import Remembered
from mailserver.auth.schemes import Stored, parse_stored
from mailserver.errors import ErrorKind, MailError
from mailserver.model.addresses import account_name
from mailserver.model.secrets import SecretKind, Secrets

T = TypeVar("T")

NAMES: Final = ("mail", "mailAlternateAddress", *ATTRIBUTE_NAMES)
"""Attributes that are looked at; the configuration may give each another name."""

MAX_PASSWORDS: Final = 8
"""Values of the password's attribute that are compared."""

_IDLE: Final = 60.0  # seconds after which a connection is made anew: firewalls forget them
_VARIABLE = re.compile(r"%(.?)", re.DOTALL)
_SCOPES = {
    "subtree": ldap.SCOPE_SUBTREE,
    "onelevel": ldap.SCOPE_ONELEVEL,
    "base": ldap.SCOPE_BASE,
}
# What changes whenever the entry does: of OpenLDAP, Active Directory, and all others.
_CHANGE_NUMBERS = ("entryCSN", "uSNChanged", "modifyTimestamp")
_WRONG_PASSWORD = (
    ldap.INVALID_CREDENTIALS,
    ldap.INAPPROPRIATE_AUTH,
    ldap.NO_SUCH_OBJECT,
    ldap.INVALID_DN_SYNTAX,
    ldap.CONSTRAINT_VIOLATION,
    ldap.INSUFFICIENT_ACCESS,
    ldap.UNWILLING_TO_PERFORM,
)


@attrs.frozen
class LdapSettings:
    """Where the directory is and how it is asked.

    Attributes:
        uris: `ldap://host`, `ldaps://host:636` or `ldapi://%2frun%2fslapd`, tried in order.
        base: where searches begin.
        scope: `subtree`, `onelevel` or `base`.
        filter: with `%u` for the whole name, `%n` and `%d` for its parts.
        bind_dn, bind_password: of the service; empty to search without a name.
        compares: read `password_attribute` and compare it here; else bind.
        password_attribute: whose values are as `schemes` has them.
        starttls: TLS on an `ldap:` connection; nothing is sent without it.
        ca_file: PEM; None for the system's.
        timeout: seconds for connecting and for each answer.
        connections: that many searches, and as many binds, at once.
        retry: seconds.
        attributes: names of the directory for some of `NAMES`; empty to leave one out.
        default_domain: of names without one; empty for none.
    """

    uris: tuple[str, ...]
    base: str
    scope: str = "subtree"
    filter: str = "(|(mail=%u)(mailAlternateAddress=%u)(uid=%u))"
    bind_dn: str = ""
    bind_password: str = attrs.field(default="", repr=False)
    compares: bool = False
    password_attribute: str = "userPassword"
    starttls: bool = False
    ca_file: Path | None = None
    timeout: float = 5.0
    connections: int = 4
    retry: float = 5.0
    attributes: Mapping[str, str] = attrs.Factory(dict)
    default_domain: str = ""


@attrs.frozen
class Found:
    """An entry as a search gave it.

    Attributes:
        dn: its name.
        entry: as the server has it; None if it can be no account.
        change_number: changes whenever the entry does; empty if the server has none.
        passwords: values of the password's attribute; none if it is not read.
        problems: sentences about values that are not understood.
    """

    dn: str
    entry: Entry | None
    change_number: bytes
    passwords: tuple[Stored, ...] = attrs.field(default=(), repr=False)
    problems: tuple[str, ...] = ()


def check_uri(uri: str) -> None:
    """Raise ValueError, with the reason, for what is no address of an LDAP server."""
    parts = urlsplit(uri)
    if parts.scheme not in ("ldap", "ldaps", "ldapi"):
        raise ValueError("does not begin with ldap://, ldaps:// or ldapi://")
    port = parts.port if parts.scheme != "ldapi" else None  # raises ValueError for a bad one
    if not parts.netloc or parts.path not in ("", "/") or parts.query or port == 0:
        raise ValueError("takes ldap://host or ldap://host:port")


def check_base(base: str) -> None:
    """Raise ValueError, with the reason, for what is no distinguished name."""
    if not ldap.dn.is_dn(base):
        raise ValueError("takes a distinguished name such as dc=example,dc=org")


def check_filter(template: str) -> None:
    """Raise ValueError, with the reason, for a filter that the library would not send."""
    used = set(_VARIABLE.findall(template))
    for letter in sorted(used - set("und%")):
        raise ValueError(f"%{letter} is none of %u, %n, %d, %%")
    if not used & {"u", "n"}:
        raise ValueError("names neither %u nor %n, so that everybody would be one and the same")
    # The library reads a filter before it connects, and this socket is not there.
    connection = ldap.initialize("ldapi://%2fnonexistent%2fsocket")
    try:
        connection.search_ext("", ldap.SCOPE_BASE, fill_in(template, "joe@example.org"))
    except ldap.FILTER_ERROR:
        raise ValueError("takes a search filter (RFC 4515)") from None
    except ldap.LDAPError:
        pass
    finally:
        connection.unbind_ext()


def fill_in(template: str, name: str) -> str:
    """Put a name into a filter, escaped (RFC 4515 §3).

    Args:
        template: as in `LdapSettings.filter`.
        name: what a person typed, canonical or not.
    """
    local, _, domain = name.rpartition("@") if "@" in name else (name, "", "")
    values = {"u": name, "n": local, "d": domain}

    def value(match: re.Match[str]) -> str:
        letter = match[1]
        return "%" if letter == "%" else escape_filter_chars(values[letter])

    return _VARIABLE.sub(value, template)


class _Down(Exception):
    """The server cannot be asked; the text says why."""


class _Slot:
    """Two connections of one thread at a time: one searches, one tries passwords."""

    def __init__(self, settings: LdapSettings) -> None:
        self._settings = settings
        self._searching: Any = None
        self._binding: Any = None
        self._used = 0.0

    def search(self, name: str) -> list[tuple[str, dict[str, list[bytes]]]]:
        """Find at most two entries for a name."""
        settings = self._settings
        theirs = [settings.attributes.get(ours, ours) for ours in NAMES]
        wanted = [*filter(None, theirs), *_CHANGE_NUMBERS]
        if settings.compares:
            wanted.append(settings.password_attribute)
        try:
            rows = self._searcher().search_ext_s(
                settings.base,
                _SCOPES[settings.scope],
                fill_in(settings.filter, name),
                wanted,
                timeout=settings.timeout,
                sizelimit=2,
            )
        except ldap.SIZELIMIT_EXCEEDED:
            return [("", {}), ("", {})]
        except ldap.NO_SUCH_OBJECT as error:
            raise _Down(f"the base {settings.base!r} is not there") from error
        return [(dn, values) for dn, values in rows if dn is not None]  # without referrals

    def is_password(self, dn: str, password: str) -> bool:
        """Bind as somebody."""
        if self._binding is None:
            self._binding = self._connect()
        try:
            self._binding.simple_bind_s(dn, password)
        except _WRONG_PASSWORD:
            return False
        return True

    def is_idle(self) -> bool:
        """Say whether there is a connection that may have been cut unseen."""
        return self._searching is not None or self._binding is not None

    def touch(self) -> None:
        """Note the use; what was not used for long is closed first."""
        now = time.monotonic()
        if now - self._used > _IDLE:
            self.close()
        self._used = now

    def close(self) -> None:
        """Close both connections; may be called twice."""
        for connection in (self._searching, self._binding):
            if connection is not None:
                try:
                    connection.unbind_ext()
                except ldap.LDAPError:
                    pass
        self._searching = self._binding = None

    def _searcher(self) -> Any:
        if self._searching is None:
            connection = self._connect()
            self._searching = connection
            try:
                connection.simple_bind_s(self._settings.bind_dn, self._settings.bind_password)
            except ldap.INVALID_CREDENTIALS as error:
                raise _Down(f"it does not let {self._settings.bind_dn!r} in") from error
        return self._searching

    def _connect(self) -> Any:
        settings = self._settings
        connection = ldap.initialize(" ".join(settings.uris))
        connection.timeout = settings.timeout
        options = [
            (ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3),
            (ldap.OPT_REFERRALS, 0),
            (ldap.OPT_NETWORK_TIMEOUT, settings.timeout),
            (ldap.OPT_TIMEOUT, settings.timeout),
            (ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND),
        ]
        if settings.ca_file is not None:
            options.append((ldap.OPT_X_TLS_CACERTFILE, str(settings.ca_file)))
        for option, value in [*options, (ldap.OPT_X_TLS_NEWCTX, 0)]:
            connection.set_option(option, value)
        if settings.starttls:
            try:
                connection.start_tls_s()
            except BaseException:
                connection.unbind_ext()
                raise
        return connection


@implementer(ISource)
class LdapSource:
    """An LDAP directory as a source.

    Args:
        settings: checked.
        reactor: for results of threads, and its clock.
        remembered: verified passwords. An entry's change number is part of what is
            remembered, so a change of the entry forgets it.
        hashes: where passwords are compared, if they are; its owner's.
    """

    label = "ldap"
    knows_names = True
    _log = Logger()

    def __init__(
        self, settings: LdapSettings, reactor: Any, remembered: Remembered, hashes: FairPool
    ) -> None:
        self._settings = settings
        self._clock: IReactorTime = reactor
        self._remembered = remembered
        self._hashes = hashes
        self._pool = FairPool(reactor, settings.connections)
        self._pool.start()
        self._slots: list[_Slot] = []
        self._lock = threading.Lock()
        self._down_until = 0.0
        self._is_down = False
        self._last_seen = parse_stored("{SSHA}" + "A" * 32, "SSHA")

    async def find(self, name: str) -> Entry | None:
        """See `ISource`."""
        found = await self._search(name, "")
        return None if found is None else found.entry

    async def check(self, login: Login) -> Entry | None:
        """See `ISource`: a search and a bind, whether or not there is somebody."""
        found = await self._search(login.name, login.client)
        password = login.password
        octets = password.encode("utf-8", "surrogatepass")
        usable = 0 < len(octets) <= schemes.MAX_OCTETS and "\0" not in password
        if self._settings.compares:
            is_right = await self._compare(found, octets, login.client)
        elif not usable:
            is_right = False
        else:
            is_right = await self._bind(found, password, login.client)
        return found.entry if found is not None and usable and is_right else None

    def secret_kinds(self) -> Collection[SecretKind]:
        """None: the directory says only whether a password is right."""
        return ()

    async def secrets(self, name: str, kind: SecretKind) -> tuple[Entry, Secrets] | None:
        """See `secret_kinds`."""
        return None

    def stop(self) -> None:
        """Let running searches end, at most for the timeout, and close all connections."""
        self._pool.stop()
        with self._lock:
            slots, self._slots = self._slots, []
        for slot in slots:
            slot.close()

    async def _bind(self, found: Found | None, password: str, client: str) -> bool:
        # Somebody who is not there is tried under a name that no entry can have, so that it
        # takes another exchange with the server too (S7).
        dn = f"cn=-,{self._settings.base}" if found is None else found.dn
        number = b"" if found is None else found.change_number
        digest = self._remembered.digest(
            dn.encode("utf-8"), number, password.encode("utf-8", "surrogatepass")
        )
        if number and digest in self._remembered:
            return True
        is_right = await self._ask(client, lambda slot: slot.is_password(dn, password))
        if is_right and number:
            self._remembered.add(digest)
        return is_right

    async def _compare(self, found: Found | None, octets: bytes, client: str) -> bool:
        passwords = found.passwords if found is not None else ()
        self._last_seen = passwords[0] if passwords else self._last_seen
        for stored in passwords or (self._last_seen,):
            digest = self._remembered.digest(stored.scheme.encode("ascii"), stored.value, octets)
            is_right = digest in self._remembered or await self._hashes.run(
                client, partial(schemes.matches, stored, octets)
            )
            if is_right and passwords:
                self._remembered.add(digest)
                return True
        return False

    async def _search(self, name: str, client: str) -> Found | None:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            return None
        rows = await self._ask(client, lambda slot: slot.search(name))
        if len(rows) > 1:
            self._log.error(
                "{label}: several entries for {name!r}; nobody is let in by it",
                label=self.label,
                name=name[:100],
            )
        if len(rows) != 1:
            return None
        found = self._read(name, *rows[0])
        for problem in found.problems:
            self._log.warn(
                "{label}: {dn}: {problem}", label=self.label, dn=found.dn, problem=problem
            )
        return found

    def _read(self, asked: str, dn: str, values: Mapping[str, list[bytes]]) -> Found:
        """Make something of an entry."""
        by_name = {name.lower(): value for name, value in values.items()}

        def texts(ours: str) -> list[str]:
            theirs = self._settings.attributes.get(ours, ours).lower()
            return [value.decode("utf-8", "replace") for value in by_name.get(theirs, ())]

        problems: list[str] = []
        addresses: list[str] = []
        for text in (*texts("mail"), *texts("mailAlternateAddress")):
            try:
                addresses.append(account_name(text))
            except MailError as error:
                problems.append(error.text)
        entry = None
        try:
            name = (
                addresses[0]
                if texts("mail") and addresses
                else account_name(asked, self._settings.default_domain)
            )
            attributes, faults = read_attributes({ours: texts(ours) for ours in ATTRIBUTE_NAMES})
            problems += faults
            aliases = tuple(sorted(set(addresses) - {name}))
            entry = Entry(name, attrs.evolve(attributes, aliases=aliases))
        except MailError as error:
            problems.append(f"it has no mail that could name an account: {error.text}")
        number = next(
            (by_name[key.lower()][0] for key in _CHANGE_NUMBERS if by_name.get(key.lower())), b""
        )
        passwords = []
        for value in by_name.get(self._settings.password_attribute.lower(), ())[:MAX_PASSWORDS]:
            try:
                passwords.append(parse_stored(value.decode("utf-8"), "PLAIN"))
            except ValueError as error:
                problems.append(f"{self._settings.password_attribute}: {error}")
        return Found(dn, entry, number, tuple(passwords), tuple(problems))

    # -- connections ------------------------------------------------------------

    async def _ask(self, client: str, work: Callable[[_Slot], T]) -> T:
        """Run `work` with connections on a thread.

        Raises:
            MailError: UNAVAILABLE, TOO_MANY.
        """
        try:
            self._must_be_worth_trying()
            result = await self._pool.run(client, partial(self._work, work))
        except _Down as down:
            if not self._is_down:
                self._is_down = True
                self._log.error(
                    "{label} {uris} cannot be asked: {reason}",
                    label=self.label,
                    uris=" ".join(self._settings.uris),
                    reason=str(down),
                )
            raise MailError(
                ErrorKind.UNAVAILABLE, "a source of accounts cannot be asked now; try again later"
            ) from down
        if self._is_down:
            self._is_down = False
            self._log.info("{label} answers again", label=self.label)
        return result

    def _must_be_worth_trying(self) -> None:
        if self._clock.seconds() < self._down_until:
            raise _Down("it could not be asked a moment ago")

    def _work(self, work: Callable[[_Slot], T]) -> T:
        """On a thread: do it, with connections that idled once more than with new ones."""
        self._must_be_worth_trying()  # again: it may have waited behind one that failed
        with self._slot() as slot:
            idled = slot.is_idle()
            try:
                try:
                    return work(slot)
                except ldap.SERVER_DOWN:
                    if not idled:
                        raise
                    slot.close()
                    return work(slot)
            except ldap.LDAPError as error:
                slot.close()
                self._down_until = self._clock.seconds() + self._settings.retry
                raise _Down(_reason(error)) from error
            except _Down:
                slot.close()
                self._down_until = self._clock.seconds() + self._settings.retry
                raise

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        with self._lock:
            slot = self._slots.pop() if self._slots else _Slot(self._settings)
        slot.touch()
        try:
            yield slot
        finally:
            with self._lock:
                self._slots.append(slot)


def _reason(error: Exception) -> str:
    """What the library says, without a name or a password of anybody."""
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    texts = [str(details[key]) for key in ("desc", "info") if details.get(key)]
    return ": ".join(texts) or type(error).__name__
