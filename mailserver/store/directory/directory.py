"""The directory of one installation: `IDirectory`, `IVerifiers`, and what changes them.

Looking up runs inline on the reactor and is kept: RCPT and LOGIN cost a `PRAGMA
data_version` and a dictionary look-up (10 µs) as long as nobody, in any process, has
changed the file. Changes run on a thread and are durable when they return.

Every name and address passes `model.addresses` here, whatever the caller did (S8).
"""

from __future__ import annotations

import secrets
import sqlite3
import string
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAppPasswords, IDirectory, IVerifiers
from mailserver.model.account import (
    Account,
    AccountStatus,
    AdminRight,
    AppPassword,
    Attributes,
    Recipient,
    Verifiers,
)
from mailserver.model.addresses import (
    SUBADDRESS_SEPARATOR,
    Address,
    account_name,
    canonical_address,
    canonical_domain,
    fold,
    parse_address,
)
from mailserver.model.ids import AccountId, MailboxId, MailboxRef
from mailserver.store.directory import app_passwords, edit, sourced
from mailserver.store.directory.database import Database
from mailserver.store.directory.edit import AccountChanges, NewAccount
from mailserver.store.directory.sourced import Said

MAX_CACHED = 10_000
"""Names kept, known and unknown ones; when full, all are forgotten."""

LIST_SLICE = 1_000
"""Accounts read in one turn of the reactor."""

MAX_LOGIN_NAME = 400
"""Characters of a login name that are kept; no account's name is as long."""

_ID_LETTERS = string.digits + string.ascii_lowercase

_ACCOUNT = (  # what a source says wins; -1 is its word for no limit
    "SELECT a.id, a.name, coalesce(s.status, a.status),"
    " coalesce(s.display_name, a.display_name),"
    " nullif(coalesce(s.storage_limit, a.storage_limit), -1),"
    " nullif(coalesce(s.message_limit, a.message_limit), -1),"
    " coalesce(s.allowed_services, a.allowed_services), coalesce(s.mail_host, a.mail_host),"
    " a.language, a.disabled_capabilities,"
    " (SELECT group_concat(address, ' ') FROM address"
    "  WHERE account = a.id AND address <> a.name),"
    " coalesce(s.source, '')"
    " FROM account a LEFT JOIN sourced s ON s.account = a.id"
)

APP_PASSWORD_RESOLUTION = 600
"""Seconds to which the last use of an app password is kept."""

LAST_USED_DELAY = 60.0
"""Seconds for which last uses are collected before they are written."""


@attrs.frozen
class Route:
    """Where an account moved to (CGP-9).

    Attributes:
        name: canonical name of the account that was here.
        target: `user@host` as the referral gives it, not changed in any way.
    """

    name: str
    target: str


def recipient_of(address: str, account: Account | None, detail: str) -> Recipient:
    """Say that an address leads to an account, if that may be.

    Raises:
        MailError: NONEXISTENT (no account, or it is deleted), DISABLED.
    """
    if account is None or account.status is AccountStatus.DELETED:
        raise MailError(ErrorKind.NONEXISTENT, "there is no such mailbox here", subject=address)
    if account.status is not AccountStatus.ACTIVE:
        raise MailError(
            ErrorKind.DISABLED, "this account takes no mail at present", subject=address
        )
    return Recipient(address, account, detail)


class _Rehearsed(Exception):
    """Undoes a transaction that was only tried."""


def random_account_id() -> AccountId:
    """Make an id: 26 random characters of [0-9a-z] (134 bits)."""
    return AccountId("".join(secrets.choice(_ID_LETTERS) for _ in range(26)))


@implementer(IDirectory, IVerifiers, IAppPasswords)
class Directory:
    """Accounts, domains, aliases, routes, verifiers in one SQLite file; made by `open`.

    Attributes:
        default_domain: canonical domain of names without one, empty for none (SUN-13);
            may be set at any time.
        login_separators: characters that may stand for `@` in a login name (SUN-12); may
            be set at any time.
    """

    _log = Logger()

    def __init__(
        self,
        database: Database,
        clock: IReactorTime,
        new_id: Callable[[], AccountId],
        now: Callable[[], float],
    ) -> None:
        self.default_domain = ""
        self.login_separators = "@+"
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._now = now
        self._version = -1
        self._by_name: dict[str, Account | None] = {}
        self._domains: frozenset[str] = frozenset()
        self._last_used: dict[str, int] = {}
        self._last_used_call: IDelayedCall | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        reactor: Any,
        *,
        default_domain: str = "",
        login_separators: str = "@+",
        new_id: Callable[[], AccountId] = random_account_id,
        now: Callable[[], float] = time.time,
    ) -> Directory:
        """Open the file at `path`, made first (0600) where there is none.

        Args:
            path: in an existing directory of ours (0700).
            reactor: for the clock and for results of the writing thread.
            default_domain, login_separators: the attributes.
            new_id: makes ids of accounts.
            now: seconds since 1970 UTC.

        Raises:
            MailError: CORRUPT (not our file, or of a newer program), UNAVAILABLE.
        """
        self = cls(Database.open(path, reactor), reactor, new_id, now)
        self.default_domain = default_domain
        self.login_separators = login_separators
        return self

    async def stop(self) -> None:
        """Finish changes that were asked for and close the file; may be called twice."""
        await self._write_last_used()
        await self._database.close()

    # -- looking up -----------------------------------------------------------

    async def account(self, name: str) -> Account | None:
        """Find an account by its name or one of its aliases, in any spelling."""
        try:
            return self._find(canonical_address(name, self.default_domain))
        except MailError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            return None

    async def account_by_id(self, account: AccountId) -> Account | None:
        """Find an account by id."""
        rows = self._database.read(_ACCOUNT + " WHERE a.id = ?", (account,))
        return _account(rows[0]) if rows else None

    async def login_name(self, name: str) -> str:
        """Make the canonical name of what a person typed (SUN-12, SUN-13).

        The exact account name comes first, then the name split at its last separator if
        what follows is a domain of ours. What can be no name comes back folded and cut.
        """
        typed = name[:MAX_LOGIN_NAME].strip()
        exact = self._canonical(typed)
        if exact is not None and self._find(exact) is not None:
            return exact
        at = max((typed.rfind(separator) for separator in self.login_separators), default=-1)
        if at > 0 and self.is_local_domain(typed[at + 1 :]):
            split = self._canonical(f"{typed[:at]}@{typed[at + 1 :]}")
            if split is not None:
                return split
        return fold(typed) if exact is None else exact

    async def recipient(self, address: str) -> Recipient:
        """Resolve an envelope address (RFC 5233 §4).

        An account or alias of exactly that name comes first; then the longest one that is
        followed by `+`, what is behind it being the detail. Case of the detail is kept.

        Raises:
            MailError: NONEXISTENT (no such account, or it is deleted), DISABLED.
        """
        account, detail = self.resolve(address)
        return recipient_of(address, account, detail)

    def resolve(self, address: str) -> tuple[Account | None, str]:
        """Find the account that an envelope address leads to, whatever its status, and the
        detail behind it; no account if none does.

        Raises:
            MailError: NONEXISTENT if it is no address.
        """
        try:
            wanted = parse_address(address)
        except MailError as error:
            raise MailError(ErrorKind.NONEXISTENT, error.text, subject=address) from None
        return self._subaddressed(wanted.local, wanted.domain or self.default_domain)

    async def accounts(self) -> Sequence[Account]:
        """List all accounts, ascending by name; read in slices, with other work between."""
        out: list[Account] = []
        last = ""
        while True:
            rows = self._database.read(
                _ACCOUNT + f" WHERE a.name > ? ORDER BY a.name LIMIT {LIST_SLICE}", (last,)
            )
            out.extend(map(_account, rows))
            if len(rows) < LIST_SLICE:
                return out
            last = out[-1].name
            await deferLater(self._clock, 0)

    def is_local_domain(self, domain: str) -> bool:
        """Say whether mail for the domain, in any spelling, is ours."""
        self._look_again()
        if domain in self._domains:
            return True
        try:
            return canonical_domain(domain) in self._domains
        except MailError:
            return False

    def domains(self) -> Sequence[str]:
        """List our domains, ascending, in A-labels."""
        self._look_again()
        return sorted(self._domains)

    async def verifiers(self, account: AccountId) -> Verifiers:
        """Return an account's verifiers; all members empty if it has no password."""
        rows = self._database.read(
            "SELECT argon2id, scram_sha256, scram_sha1 FROM verifier WHERE account = ?",
            (account,),
        )
        return Verifiers(*rows[0]) if rows else Verifiers()

    async def app_passwords(self, account: AccountId) -> Sequence[AppPassword]:
        """List an account's app passwords; see `IAppPasswords`."""
        rows = self._database.read(app_passwords.READ, (account,))
        return [app_passwords.app_password(row) for row in rows]

    def app_password_used(self, used: AppPassword) -> None:
        """Note a use without haste; see `IAppPasswords`."""
        now = int(self._now())
        if used.last_used is not None and now - used.last_used < APP_PASSWORD_RESOLUTION:
            return
        self._last_used[used.id] = now
        if self._last_used_call is None:
            self._last_used_call = self._clock.callLater(
                LAST_USED_DELAY, lambda: Deferred.fromCoroutine(self._write_last_used())
            )

    async def said(self, account: AccountId) -> Said | None:
        """Return what a source said last of an account; None if none ever did."""
        rows = self._database.read(sourced.READ, (account,))
        if not rows:
            return None
        return sourced.said(rows[0], self._database.read(sourced.READ_ALIASES, (account,)))

    async def own_limits(self, account: AccountId) -> tuple[int | None, int | None]:
        """Return the account's own storage and message limit, whatever a source says."""
        rows = self._database.read(
            "SELECT storage_limit, message_limit FROM account WHERE id = ?", (account,)
        )
        return tuple(rows[0]) if rows else (None, None)

    async def rights(self, account: AccountId, domain: str) -> frozenset[AdminRight]:
        """Return what an account may administer in a domain (CGP-11)."""
        rows = self._database.read(
            "SELECT admin_right FROM administrator WHERE account = ? AND domain = ?",
            (account, canonical_domain(domain)),
        )
        return frozenset(AdminRight(value) for (value,) in rows)

    async def administrators(self, domain: str) -> Sequence[tuple[str, frozenset[AdminRight]]]:
        """List who administers a domain: (account's name, rights), ascending by name."""
        rows = self._database.read(
            "SELECT a.name, group_concat(admin_right, ' ') FROM administrator"
            " JOIN account a ON a.id = account WHERE domain = ? GROUP BY a.name ORDER BY a.name",
            (canonical_domain(domain),),
        )
        return [(name, frozenset(map(AdminRight, words.split()))) for name, words in rows]

    async def aliases(self) -> Sequence[tuple[str, str]]:
        """List all aliases: (address, account's name), ascending by address."""
        return self._database.read(
            "SELECT address, a.name FROM address JOIN account a ON a.id = account"
            " WHERE address <> a.name ORDER BY address"
        )

    async def route(self, name: str) -> Route | None:
        """Find where an account moved to (CGP-9)."""
        canonical = self._canonical(name)
        rows = self._database.read("SELECT target FROM route WHERE name = ?", (canonical,))
        return Route(canonical, rows[0][0]) if canonical is not None and rows else None

    async def routes(self) -> Sequence[Route]:
        """List all routes, ascending by name."""
        return [Route(*row) for row in self._database.read("SELECT * FROM route ORDER BY name")]

    async def shared_with(self, grantees: Iterable[str]) -> Sequence[MailboxRef]:
        """List mailboxes that ACLs grant something to any of these identifiers.

        A hint: the ACL in the owner's account decides.
        """
        names = sorted(set(grantees))
        rows = self._database.read(
            "SELECT DISTINCT account, mailbox FROM share"
            f" WHERE grantee IN ({', '.join('?' * len(names))}) ORDER BY account, mailbox",
            names,
        )
        return [MailboxRef(AccountId(account), MailboxId(mailbox)) for account, mailbox in rows]

    # -- changing; every one is durable when it returns ---------------------------

    async def create_account(self, new: NewAccount, *, add_domains: bool = False) -> Account:
        """Make one account; see `create_accounts`."""
        [account] = await self.create_accounts([new], add_domains=add_domains)
        return account

    async def create_accounts(
        self, new: Sequence[NewAccount], *, add_domains: bool = False
    ) -> Sequence[Account]:
        """Make accounts, all or none, in one transaction: thousands cost one sync.

        Their mail data are made by `IMailStore.create_account`. What a source says of them
        is kept, but does not show in what is returned.

        Args:
            add_domains: make domains ours that are not yet.

        Raises:
            MailError: INVALID, ALREADY_EXISTS, NONEXISTENT (domain not ours); `subject`
                is the address that it is about.
        """
        now = int(self._now())

        def make(db: sqlite3.Connection) -> list[Account]:
            made = edit.create_accounts(db, new, self._new_id, now, add_domains)
            for one, account in zip(new, made, strict=True):
                if one.source:
                    sourced.say(db, account.id, one.source, one.said, made=True)
            return made

        return await self._database.write(make)

    async def check_new_accounts(
        self, new: Sequence[NewAccount], *, add_domains: bool = False
    ) -> None:
        """Say whether `create_accounts` would make these accounts, and make nothing.

        Raises:
            MailError: as `create_accounts`.
        """
        now = int(self._now())

        def rehearse(db: sqlite3.Connection) -> None:
            edit.create_accounts(db, new, self._new_id, now, add_domains)
            raise _Rehearsed

        try:
            await self._database.write(rehearse)
        except _Rehearsed:
            pass

    async def update_account(self, account: AccountId, changes: AccountChanges) -> Account:
        """Give attributes new values; a new name keeps id, mail and aliases.

        Raises:
            MailError: NONEXISTENT, INVALID, ALREADY_EXISTS (name).
        """
        await self._database.write(lambda db: edit.update_account(db, account, changes))
        changed = await self.account_by_id(account)
        if changed is None:
            raise MailError(ErrorKind.NONEXISTENT, "there is no such account", subject=account)
        return changed

    async def delete_account(self, account: AccountId) -> None:
        """Remove an account; its mail data are removed by `IMailStore.delete_account`.

        Raises:
            MailError: NONEXISTENT.
        """
        await self._database.write(lambda db: edit.delete_account(db, account))

    async def set_verifiers(self, account: AccountId, verifiers: Verifiers) -> None:
        """Replace an account's verifiers, as a password change does.

        Raises:
            MailError: NONEXISTENT.
        """
        now = int(self._now())
        await self._database.write(lambda db: edit.set_verifiers(db, account, verifiers, now))

    async def renew_verifiers(self, account: AccountId, old: Verifiers, new: Verifiers) -> None:
        """Replace verifiers by others of the same password; see `IVerifiers`."""
        now = int(self._now())
        await self._database.write(lambda db: edit.renew_verifiers(db, account, old, new, now))

    async def add_app_password(self, account: AccountId, new: AppPassword) -> None:
        """Give an account a password for one device.

        Raises:
            MailError: NONEXISTENT (account), INVALID (name), ALREADY_EXISTS (its name),
                LIMIT.
        """
        now = int(self._now())
        made = attrs.evolve(new, created=now, last_used=None)
        await self._database.write(lambda db: app_passwords.add(db, account, made))

    async def remove_app_password(self, account: AccountId, name: str) -> None:
        """Take a password for one device away.

        Raises:
            MailError: NONEXISTENT.
        """
        await self._database.write(lambda db: app_passwords.remove(db, account, name))

    async def say(self, account: AccountId, source: str, attributes: Attributes) -> Sequence[str]:
        """Note what a source says of an account; it holds until it says otherwise.

        Args:
            source: its label.

        Returns:
            Aliases that are left out: no addresses, or they lead to another account.

        Raises:
            MailError: NONEXISTENT, INVALID (an attribute).
        """
        return await self._database.write(
            lambda db: sourced.say(db, account, source, attributes, made=False)
        )

    async def fall_silent(self, account: AccountId) -> None:
        """Note that the source of an account does not know it any more: one that came to be
        because of it gets INACTIVE, one that was here before is what it was."""
        await self._database.write(lambda db: sourced.fall_silent(db, account))

    async def settle(self, account: AccountId) -> None:
        """Make what a source said last of an account its own: that source is asked no more,
        and what it said can be changed here."""
        await self._database.write(lambda db: sourced.settle(db, account))

    async def add_domain(self, domain: str) -> str:
        """Take mail for a domain; nothing if it is already ours.

        Returns:
            Its canonical form.

        Raises:
            MailError: INVALID.
        """
        canonical = canonical_domain(domain)
        await self._database.write(lambda db: edit.add_domain(db, canonical))
        return canonical

    async def remove_domain(self, domain: str) -> None:
        """Stop taking mail for a domain.

        Raises:
            MailError: INVALID, NONEXISTENT, IN_USE (it still has accounts or aliases).
        """
        canonical = canonical_domain(domain)
        await self._database.write(lambda db: edit.remove_domain(db, canonical))

    async def add_alias(self, address: str, account: AccountId) -> str:
        """Let a further address lead to an account.

        Returns:
            Its canonical form.

        Raises:
            MailError: INVALID, NONEXISTENT (account, or domain not ours), ALREADY_EXISTS.
        """
        canonical = account_name(address, self.default_domain)
        await self._database.write(lambda db: edit.add_alias(db, canonical, account))
        return canonical

    async def remove_alias(self, address: str) -> None:
        """Remove an alias.

        Raises:
            MailError: INVALID, NONEXISTENT (also for an account's own name).
        """
        canonical = canonical_address(address, self.default_domain)
        await self._database.write(lambda db: edit.remove_alias(db, canonical))

    async def set_rights(
        self, account: AccountId, domain: str, rights: Collection[AdminRight]
    ) -> None:
        """Replace what an account may administer in a domain; none takes all away.

        Raises:
            MailError: INVALID, NONEXISTENT (account, domain).
        """
        canonical = canonical_domain(domain)
        await self._database.write(lambda db: edit.set_rights(db, account, canonical, rights))

    async def set_route(self, name: str, target: str) -> Route:
        """Say where an account moved to (CGP-9); replaces an earlier route.

        Args:
            name: the account's address, in any spelling.
            target: `user@host`; kept as written.

        Raises:
            MailError: INVALID.
        """
        canonical = canonical_address(name, self.default_domain)
        if not canonical.rpartition("@")[1] or not parse_address(target).domain:
            raise MailError(
                ErrorKind.INVALID,
                "a route leads from an address to an address, both with a domain",
                subject=name,
            )
        await self._database.write(lambda db: edit.set_route(db, canonical, target))
        return Route(canonical, target)

    async def remove_route(self, name: str) -> None:
        """Remove a route.

        Raises:
            MailError: INVALID, NONEXISTENT.
        """
        canonical = canonical_address(name, self.default_domain)
        await self._database.write(lambda db: edit.remove_route(db, canonical))

    async def share(
        self, account: AccountId, grantees: Mapping[MailboxId, Collection[str]]
    ) -> None:
        """Note whom the ACLs of some mailboxes of an account name now.

        Args:
            grantees: identifiers as the ACL has them, by mailbox; none takes it out.

        Raises:
            MailError: NONEXISTENT (account).
        """
        await self._database.write(lambda db: edit.share(db, account, grantees))

    async def reshare(
        self, account: AccountId, grantees: Mapping[MailboxId, Collection[str]]
    ) -> None:
        """Make all index rows of an account anew from its ACLs; arguments as `share`."""
        await self._database.write(lambda db: edit.reshare(db, account, grantees))

    async def _write_last_used(self) -> None:
        call, self._last_used_call = self._last_used_call, None
        if call is not None and call.active():
            call.cancel()
        times, self._last_used = self._last_used, {}
        if not times:
            return
        try:
            await self._database.write(lambda db: app_passwords.set_last_used(db, times))
        except MailError as error:  # nobody waits for it, and it is no more than a hint
            self._log.warn("last use of app passwords is not kept: {text}", text=error.text)

    # -- kept look-ups ----------------------------------------------------------

    def _look_again(self) -> None:
        """Forget what is kept if the file has changed since."""
        version = self._database.version()
        if version != self._version:
            rows = self._database.read("SELECT name FROM domain")
            self._domains = frozenset(name for (name,) in rows)
            self._by_name.clear()
            self._version = version

    def _find(self, canonical: str) -> Account | None:
        self._look_again()
        try:
            return self._by_name[canonical]
        except KeyError:
            pass
        rows = self._database.read(
            _ACCOUNT + " JOIN address ON address.account = a.id WHERE address.address = ?",
            (canonical,),
        )
        if len(self._by_name) >= MAX_CACHED:
            self._by_name.clear()
        account = self._by_name[canonical] = _account(rows[0]) if rows else None
        return account

    def _subaddressed(self, local: str, domain: str) -> tuple[Account | None, str]:
        """The account that a local part leads to, and the detail behind it."""
        if not self.is_local_domain(domain):
            return None, ""
        end = len(local)
        while end > 0:
            account = self._find(Address(local[:end], domain).name)
            if account is not None:
                return account, local[end + 1 :]
            end = local.rfind(SUBADDRESS_SEPARATOR, 0, end)
        return None, ""

    def _canonical(self, name: str) -> str | None:
        try:
            return canonical_address(name, self.default_domain)
        except MailError:
            return None


def _account(row: tuple[Any, ...]) -> Account:
    (identifier, name, status, shown, storage, messages, services, host, language) = row[:9]
    capabilities, aliases, source = row[9:]
    return Account(
        identifier,
        name,
        AccountStatus(status),
        shown,
        storage,
        messages,
        services,
        host,
        language,
        frozenset(capabilities.split()),
        tuple(sorted((aliases or "").split())),
        source,
    )
