"""Accounts of a passwd-file in Dovecot's form, so that an installation can move over.

    line         = user ":" password ":" uid ":" gid ":" gecos ":" home ":" shell
                   ":" extra-field *( " " extra-field )
    extra-field  = [ "userdb_" ] name [ "=" value ]

Fields may be missing at the end. uid, gid, home and shell mean nothing here. Lines that are
empty or begin with `#` are skipped; a line that cannot be used is told with its number and
takes nothing else down. The file is read again when it changes; while it cannot be read, what
was read last holds.

Of the extra fields these act: `quota_rule` (also quota_rule2, …), `quota_storage_size` and
`quota_message_count`, `nologin`, `allow_nets`, and `host` of `proxy`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth import schemes
from mailserver.auth.checkers import Login
from mailserver.auth.checkers.source import MAX_TEXT, NOTHING_ALLOWED, Entry, ISource
from mailserver.auth.decoys import Decoys
from mailserver.auth.pool import FairPool
from mailserver.auth.remembered import Remembered
from mailserver.auth.saslprep import saslprep
from mailserver.auth.schemes import Stored, parse_stored, scram_parts
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import NO_LIMIT, Attributes
from mailserver.model.addresses import account_name
from mailserver.model.networks import parse_network
from mailserver.model.secrets import (
    PlainSecret,
    PlainSecrets,
    ScramKeys,
    ScramSecrets,
    SecretKind,
    Secrets,
    scram_keys,
)

MAX_LINE: Final = 16 * 1024
"""Octets of a line."""

MAX_WARNINGS: Final = 50
"""Lines that are told of one reading of the file."""

_PLAIN = frozenset({"PLAIN", "CLEAR", "CLEARTEXT"})
_SCRAM = {SecretKind.SCRAM_SHA_256: "SCRAM-SHA-256", SecretKind.SCRAM_SHA_1: "SCRAM-SHA-1"}
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_CANNOT_ACT = frozenset({"user", "deny", "pass", "allow_real_nets"})


@attrs.frozen
class Line:
    """What a line says.

    Attributes:
        entry: the account.
        password: None if nobody can log in with one.
    """

    entry: Entry
    password: Stored | None


@attrs.frozen
class Contents:
    """A file that was read.

    Attributes:
        lines: by canonical name.
        warnings: `number: reason` for each line that says something that cannot be.
    """

    lines: dict[str, Line]
    warnings: tuple[str, ...]

    def having_password(self) -> list[Line]:
        """Those who can log in, in the order of the file."""
        return [line for line in self.lines.values() if line.password is not None]


def parse(octets: bytes, default_scheme: str, default_domain: str) -> Contents:
    """Read a whole file.

    Args:
        default_scheme: of passwords without `{SCHEME}`.
        default_domain: of users without one; empty if there is none.
    """
    lines: dict[str, Line] = {}
    warnings: list[str] = []
    for number, octets_of_line in enumerate(octets.split(b"\n"), 1):
        said: list[str] = []
        try:
            if len(octets_of_line) > MAX_LINE:
                raise ValueError(f"is longer than {MAX_LINE} octets")
            text = octets_of_line.decode("utf-8").rstrip("\r")
            if not text.strip() or text.lstrip().startswith("#"):
                continue
            line = _line(text, default_scheme, default_domain, said)
            if line.entry.name in lines:
                raise ValueError(f"{line.entry.name} is named a second time; the first holds")
            lines[line.entry.name] = line
        except UnicodeDecodeError:
            said.append("is not UTF-8")
        except (ValueError, MailError) as error:
            said.append(str(error))
        warnings.extend(f"{number}: {reason}" for reason in said)
    return Contents(lines, tuple(warnings))


def _line(text: str, default_scheme: str, default_domain: str, said: list[str]) -> Line:
    """Read one line; `said` gets what cannot be used of it while the rest can.

    Raises:
        ValueError, MailError: nothing of it can be used.
    """
    user, _, rest = text.partition(":")
    fields = rest.split(":", 6)
    if not user.strip():
        raise ValueError("names no user")
    if "@" not in user and not default_domain:
        raise ValueError(
            f"{user.strip()[:100]!r} has no domain, and service.defaultdomain is not set"
        )
    name = account_name(user.strip(), default_domain)
    password: Stored | None = None
    if fields[0] and fields[0][:1] not in "*!":  # marks of shadow(5) for nobody
        try:
            password = parse_stored(fields[0], default_scheme)
        except ValueError as error:
            said.append(f"nobody can log in as {name}: {error}")
    extra = fields[6].split() if len(fields) > 6 else []
    return Line(Entry(name, _attributes(extra, name, said)), password)


def _attributes(extra: list[str], name: str, said: list[str]) -> Attributes:
    found = Attributes()
    for field in extra:
        key, _, value = field.partition("=")
        key = key.lower().removeprefix("userdb_")
        reader = _EXTRA_FIELDS.get(key.rstrip("0123456789") if "quota" in key else key)
        try:
            if reader is not None:
                found = reader(found, value)
            elif key in _CANNOT_ACT:
                raise ValueError("is not supported, so nobody can log in")
        except ValueError as error:
            said.append(f"{name}: {key} {error}")
            if key in _CLOSING:
                found = attrs.evolve(found, allowed_services=NOTHING_ALLOWED)
    return found


def _quota_rule(found: Attributes, value: str) -> Attributes:
    """`*:storage=5G:messages=1000`; storage without a unit is kilobytes, as Dovecot has it."""
    mailbox, *limits = value.split(":")
    if mailbox != "*":
        raise ValueError(f"of one mailbox ({mailbox[:100]}) is not supported")
    for limit in limits:
        what, _, amount = limit.partition("=")
        if what == "storage":
            found = _storage(found, amount, "k")
        elif what == "bytes":
            found = _storage(found, amount, "b")
        elif what == "messages":
            found = _messages(found, amount)
        elif what == "ignore":
            found = attrs.evolve(found, storage_limit=NO_LIMIT, message_limit=NO_LIMIT)
        else:
            raise ValueError(f"has no {what[:100]!r}, only storage, bytes, messages, ignore")
    return found


def _storage(found: Attributes, amount: str, unit: str = "b") -> Attributes:
    number, suffix = (amount[:-1], amount[-1:].lower()) if amount[-1:].isalpha() else (amount, unit)
    if suffix not in _UNITS or not number:
        raise ValueError(f"{amount[:100]!r} is not a size such as 5G")
    octets = _number(number) * _UNITS[suffix]
    return attrs.evolve(found, storage_limit=min(octets, 2**63 - 1) or NO_LIMIT)


def _messages(found: Attributes, amount: str) -> Attributes:
    return attrs.evolve(found, message_limit=_number(amount) or NO_LIMIT)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"{text[:100]!r} is not a number")
    return int(text)


def _nologin(found: Attributes, value: str) -> Attributes:
    if value.lower() in ("n", "no", "false"):
        return found
    return attrs.evolve(found, allowed_services=NOTHING_ALLOWED)


def _allow_nets(found: Attributes, value: str) -> Attributes:
    networks = ",".join(str(parse_network(network)) for network in value.split(",") if network)
    rule = f"+ALL:{networks}"
    if not networks or len(rule) > MAX_TEXT:
        raise ValueError("names no networks, or too many")
    if found.allowed_services == NOTHING_ALLOWED:
        return found
    return attrs.evolve(found, allowed_services=rule)


def _host(found: Attributes, value: str) -> Attributes:
    if not value.isprintable() or not 0 < len(value) <= MAX_TEXT:
        raise ValueError("names no host")
    return attrs.evolve(found, mail_host=value)


_EXTRA_FIELDS: Final[dict[str, Callable[[Attributes, str], Attributes]]] = {
    "quota_rule": _quota_rule,
    "quota_storage_size": _storage,
    "quota_message_count": _messages,
    "nologin": _nologin,
    "allow_nets": _allow_nets,
    "host": _host,
}

_CLOSING = _CANNOT_ACT | {"nologin", "allow_nets"}
"""Fields that close something: not understood, they close everything."""


@implementer(ISource)
class PasswdFile:
    """A passwd-file as a source.

    Args:
        path: of the file.
        pool: computes hashes and reads the file; its owner's.
        remembered: verified passwords.
        decoys: salts for SCRAM where the file has passwords in clear.
        iterations: of SCRAM there.
        default_scheme: of passwords without one; of `schemes.SCHEMES`.
        default_domain: gives the present domain of users without one; empty for none.
    """

    label = "passwd-file"
    knows_names = True
    _log = Logger()

    def __init__(
        self,
        path: Path,
        pool: FairPool,
        remembered: Remembered,
        decoys: Decoys,
        iterations: int,
        default_scheme: str = "CRYPT",
        default_domain: Callable[[], str] = str,
    ) -> None:
        self._path = path
        self._pool = pool
        self._remembered = remembered
        self._decoys = decoys
        self._iterations = iterations
        self._default_scheme = default_scheme
        self._default_domain = default_domain
        self._contents: Contents | None = None
        self._having_password: list[Line] = []
        self._signature: object = None
        self._key = os.urandom(16)

    def load(self) -> None:
        """Read the file now.

        Raises:
            MailError: UNAVAILABLE, naming file and reason.
        """
        try:
            signature = self._look()
            self._take(self._read(), signature)
        except OSError as error:
            raise MailError(
                ErrorKind.UNAVAILABLE, f"{self._path}: {error.strerror or error}"
            ) from error

    async def find(self, name: str) -> Entry | None:
        """See `ISource`."""
        line = (await self._fresh()).lines.get(name)
        return None if line is None else line.entry

    async def check(self, login: Login) -> Entry | None:
        """See `ISource`. A name that is not known costs what one that is would."""
        line = (await self._fresh()).lines.get(login.name)
        model = self._model(line, login.name)
        if model is None or model.password is None:
            return None
        stored = model.password
        octets = login.password.encode("utf-8", "surrogatepass")
        digest = self._remembered.digest(stored.scheme.encode("ascii"), stored.value, octets)
        if line is model and digest in self._remembered:
            return line.entry
        is_right = await self._pool.run(login.client, partial(schemes.matches, stored, octets))
        if not is_right or line is not model:
            return None
        self._remembered.add(digest)
        return line.entry

    def secret_kinds(self) -> Collection[SecretKind]:
        """Those that every line's password is good for."""
        if self._contents is None:
            return ()
        used = {line.password.scheme for line in self._having_password if line.password}
        kinds = {kind for kind, scheme in _SCRAM.items() if used <= _PLAIN | {scheme}}
        return kinds | ({SecretKind.PLAIN} if used <= _PLAIN else set())

    async def secrets(self, name: str, kind: SecretKind) -> tuple[Entry, Secrets] | None:
        """See `ISource`."""
        line = (await self._fresh()).lines.get(name)
        model = self._model(line, name)
        if model is None or model.password is None:
            return None
        found = await self._pool.run("", partial(self._secrets, model.password, name, kind))
        return None if found is None or line is not model else (line.entry, found)

    def stop(self) -> None:
        """Nothing is held."""

    def _secrets(self, stored: Stored, name: str, kind: SecretKind) -> Secrets | None:
        if stored.scheme in _PLAIN:
            password = _prepared(stored.value)
            if kind is SecretKind.PLAIN:
                return PlainSecrets((PlainSecret(password),))
            salt = self._decoys.salt(name, kind)
            keys = scram_keys(kind, password.encode("utf-8"), salt, self._iterations)
            return ScramSecrets(salt, self._iterations, (keys,))
        if stored.scheme != _SCRAM.get(kind):
            return None
        iterations, salt, stored_key, server_key = scram_parts(stored.value)
        return ScramSecrets(salt, iterations, (ScramKeys(stored_key, server_key),))

    def _model(self, line: Line | None, name: str) -> Line | None:
        """The line itself if it has a password; else one whose check costs as much as another
        name's, always the same for one name; None if the file has no passwords at all."""
        if line is not None and line.password is not None:
            return line
        if not self._having_password:
            return None
        octets = name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(octets, key=self._key, digest_size=8).digest()
        return self._having_password[int.from_bytes(digest, "big") % len(self._having_password)]

    # -- the file ---------------------------------------------------------------

    async def _fresh(self) -> Contents:
        """What the file says now."""
        if self._contents is None:
            try:
                self.load()
            except MailError as error:
                self._log.error("{label} {text}", label=self.label, text=error.text)
                raise MailError(
                    ErrorKind.UNAVAILABLE, "a source of accounts cannot be used now"
                ) from error
        else:
            try:
                signature = self._look()
                if signature != self._signature:
                    # Noted before it is read: what changes meanwhile is read again.
                    self._signature = signature
                    self._take(await self._pool.run("", self._read), signature)
            except OSError as error:
                if self._signature is not None:
                    self._signature = None
                    self._log.error(
                        "{label} {path}: {reason}; what was read last holds",
                        label=self.label,
                        path=str(self._path),
                        reason=error.strerror or str(error),
                    )
        assert self._contents is not None
        return self._contents

    def _look(self) -> object:
        """What differs when the file has to be read again."""
        found = self._path.stat()
        return (found.st_mtime_ns, found.st_size, found.st_ino, self._default_domain())

    def _read(self) -> Contents:
        """Read the whole file; 10,000 lines take a quarter of a second."""
        contents = parse(self._path.read_bytes(), self._default_scheme, self._default_domain())
        if self._path.stat().st_mode & stat.S_IROTH:  # S14
            warning = " everybody on this machine can read the passwords; chmod o-r it"
            contents = attrs.evolve(contents, warnings=(warning, *contents.warnings))
        return contents

    def _take(self, contents: Contents, signature: object) -> None:
        self._signature = signature
        self._contents = contents
        self._having_password = contents.having_password()
        for reason in contents.warnings[:MAX_WARNINGS]:
            self._log.warn("{path}:{reason}", path=str(self._path), reason=reason)
        more = len(contents.warnings) - MAX_WARNINGS
        if more > 0:
            self._log.warn("{path}: {more} more faults", path=str(self._path), more=more)


def _prepared(password: bytes) -> str:
    """A password in clear as clients prepare it for SCRAM; as it is if that cannot be done."""
    text = password.decode("utf-8", "surrogateescape")
    try:
        return saslprep(text)
    except ValueError:
        return text
