"""Accounts of other sources as accounts of ours.

Who is only known to a passwd-file, LDAP or PAM gets an account in our directory at the first
login or the first delivery; what the source says of it is kept there. So mail flows on while
a source is down, and everything above this module knows accounts of one kind alone.

Invariants:

- What a source says is looked at anew after a minute at the latest where the account is used.
- A source that cannot be asked changes nothing; one that does not know an account any more
  closes it if it came from there (`Directory.fall_silent`).
- Of several sources that know a name, the first of the chain says the attributes.
- What a source said last that is no longer in the chain is the account's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth.checkers.source import Entry, ISource
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IDirectory, IMailStore
from mailserver.model.account import Account, AccountStatus, Recipient
from mailserver.model.addresses import (
    SUBADDRESS_SEPARATOR,
    Address,
    account_name,
    parse_address,
)
from mailserver.model.ids import AccountId
from mailserver.service.accounts import create_accounts, effective
from mailserver.store.directory.directory import Directory, recipient_of
from mailserver.store.directory.edit import NewAccount

MAX_FRESH: Final = 10_000
"""Accounts of which it is remembered when they were looked at; when full, all are forgotten."""


class Adoption:
    """Joins sources with the directory and the store.

    Args:
        directory, store: of this installation.
        sources: the chain without the directory.
        clock: measures freshness.
        fresh_for: seconds for which what a source said is not asked again.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Directory,
        store: IMailStore,
        sources: Sequence[ISource],
        clock: IReactorTime,
        fresh_for: float = 60.0,
    ) -> None:
        self._directory = directory
        self._store = store
        self._sources = tuple(source for source in sources if source.knows_names)
        self._order = {source.label: place for place, source in enumerate(sources)}
        self._by_label = {source.label: source for source in self._sources}
        self._clock = clock
        self._fresh_for = fresh_for
        self._looked: dict[AccountId, float] = {}

    async def adopt(self, label: str, entry: Entry) -> Account | None:
        """Give the account of an entry, made if there is none yet; durable.

        Args:
            label: of the source.

        Returns:
            None if it cannot have one, because its name is an alias of another's account or
            cannot be a name here; the log says so.

        Raises:
            MailError: UNAVAILABLE, DISK_FULL, CORRUPT.
        """
        account = await self._directory.account(entry.name)
        if account is None:
            account = await self._make(label, entry)
        if account is None:
            return None
        if not _is_same(account, label, entry):
            self._log.warn(
                "{label} knows {name}, which is an alias of {account} here: nobody is let in by it",
                label=label,
                name=entry.name,
                account=account.name,
            )
            return None
        if self._order.get(account.source, len(self._order)) < self._order[label]:
            return account  # an earlier source has the word
        return await self._keep(account, label, entry)

    async def current(self, account: Account) -> Account:
        """Look at the source of an account again if that was long ago.

        Raises:
            MailError: as `adopt`.
        """
        if account.source and account.source not in self._order:
            await self._directory.settle(account.id)
            return await self._read(account)
        looked = self._looked.get(account.id)
        source = self._by_label.get(account.source)
        if source is None or (
            looked is not None and self._clock.seconds() - looked < self._fresh_for
        ):
            return account
        try:
            entry = await source.find(account.name)
        except MailError as error:
            if error.kind not in (ErrorKind.UNAVAILABLE, ErrorKind.TOO_MANY):
                raise
            return account  # what it said last holds
        if entry is not None and _is_same(account, source.label, entry):
            return await self._keep(account, source.label, entry)
        self._note_look(account)
        said = await self._directory.said(account.id)
        if said is None or (said.made and account.status is not AccountStatus.ACTIVE):
            return account
        self._log.warn(
            "{label} does not know {name} any more", label=source.label, name=account.name
        )
        if not said.made:
            own = await self._directory.own_limits(account.id)
            await self._store.set_quota(account.id, *own)
        await self._directory.fall_silent(account.id)
        return await self._read(account)

    async def find(self, name: str) -> Account | None:
        """Find an account that the directory has not yet, by a canonical address; the first
        source that knows it gives it.

        Raises:
            MailError: UNAVAILABLE if none knows it and one could not be asked.
        """
        refusal: MailError | None = None
        for source in self._sources:
            try:
                entry = await source.find(name)
            except MailError as error:
                refusal = error
                continue
            if entry is not None:
                return await self.adopt(source.label, entry)
        if refusal is not None:
            raise refusal
        return None

    async def _make(self, label: str, entry: Entry) -> Account | None:
        new = NewAccount(entry.name, source=label, said=entry.attributes)
        try:
            await create_accounts(self._directory, self._store, [new], add_domains=True)
            self._log.info("account {name} of {label} is made", name=entry.name, label=label)
        except MailError as error:
            if error.kind is ErrorKind.INVALID:
                self._log.warn(
                    "{label}: {name} cannot have an account: {text}",
                    label=label,
                    name=entry.name,
                    text=error.text,
                )
                return None
            if error.kind is not ErrorKind.ALREADY_EXISTS:  # somebody was quicker
                raise
        return await self._directory.account(entry.name)

    async def _keep(self, account: Account, label: str, entry: Entry) -> Account:
        """Note what a source says if it is something new."""
        self._note_look(account)
        attributes = attrs.evolve(entry.attributes, aliases=await self._own_aliases(account, entry))
        said = await self._directory.said(account.id)
        if said is not None and (said.source, said.attributes) == (label, attributes):
            return account
        own = await self._directory.own_limits(account.id)
        limits = (
            effective(attributes.storage_limit, own[0]),
            effective(attributes.message_limit, own[1]),
        )
        if limits != (account.storage_limit, account.message_limit):
            # First, so that after a crash in between the difference is seen again.
            await self._store.set_quota(account.id, *limits)
        await self._directory.say(account.id, label, attributes)
        return await self._read(account)

    async def _own_aliases(self, account: Account, entry: Entry) -> tuple[str, ...]:
        """The entry's aliases that are not another account's."""
        out: set[str] = set()
        for alias in (entry.name, *entry.attributes.aliases):
            owner = await self._directory.account(alias)
            if owner is not None and owner.id != account.id:
                self._log.warn(
                    "{alias} of {name} leads to {owner} already",
                    alias=alias,
                    name=account.name,
                    owner=owner.name,
                )
            elif alias != account.name and (owner is None or await self._is_said(owner, alias)):
                out.add(alias)
        return tuple(sorted(out))

    async def _is_said(self, owner: Account, alias: str) -> bool:
        said = await self._directory.said(owner.id)
        return said is not None and alias in said.attributes.aliases

    async def _read(self, account: Account) -> Account:
        found = await self._directory.account_by_id(account.id)
        if found is None:
            raise MailError(ErrorKind.NONEXISTENT, "there is no such account", subject=account.name)
        return found

    def _note_look(self, account: Account) -> None:
        if len(self._looked) >= MAX_FRESH:
            self._looked.clear()
        self._looked[account.id] = self._clock.seconds()


def _is_same(account: Account, label: str, entry: Entry) -> bool:
    """Say whether an account that has the entry's name is the entry's.

    Which of several addresses a source tells first may change; an alias that somebody here
    has given to another account must not let anybody into that.
    """
    if account.name == entry.name:
        return True
    return account.source == label and account.name in entry.attributes.aliases


@implementer(IDirectory)
class SourcedDirectory:
    """The directory, with accounts of other sources.

    Args:
        directory: of this installation.
        adoption: brings the accounts.
    """

    def __init__(self, directory: Directory, adoption: Adoption) -> None:
        self._directory = directory
        self._adoption = adoption

    async def account(self, name: str) -> Account | None:
        """Find an account that is here, as its source has it now; see `IDirectory`.

        One that only another source has is not found: it is made for who logs in or gets
        mail, not for who is asked about.
        """
        found = await self._directory.account(name)
        return None if found is None else await self._adoption.current(found)

    async def account_by_id(self, account: AccountId) -> Account | None:
        """See `IDirectory`."""
        return await self._directory.account_by_id(account)

    async def login_name(self, name: str) -> str:
        """See `IDirectory`."""
        return await self._directory.login_name(name)

    async def recipient(self, address: str) -> Recipient:
        """Resolve an envelope address, also to accounts that are not here yet.

        Raises:
            MailError: as `IDirectory`; UNAVAILABLE if the directory does not know it and
                a source cannot be asked.
        """
        account, detail = self._directory.resolve(address)
        if account is not None:
            account = await self._adoption.current(account)
        else:
            account, detail = await self._elsewhere(address)
        return recipient_of(address, account, detail)

    async def accounts(self) -> Sequence[Account]:
        """See `IDirectory`."""
        return await self._directory.accounts()

    def is_local_domain(self, domain: str) -> bool:
        """See `IDirectory`."""
        return self._directory.is_local_domain(domain)

    async def _elsewhere(self, address: str) -> tuple[Account | None, str]:
        """Ask for the address itself, then for what stands before its last and its first `+`:
        an address of separators alone must not cost a search for each."""
        wanted = parse_address(address)
        domain = wanted.domain or self._directory.default_domain
        ends = {len(wanted.local)}
        ends |= {
            wanted.local.rfind(SUBADDRESS_SEPARATOR),
            wanted.local.find(SUBADDRESS_SEPARATOR),
        }
        for end in sorted(ends - {-1, 0}, reverse=True):
            try:
                name = account_name(Address(wanted.local[:end], domain).name)
            except MailError:
                continue
            account = await self._adoption.find(name)
            if account is not None:
                return account, wanted.local[end + 1 :]
        return None, ""
