"""Checks passwords against the verifiers of our own directory."""

from __future__ import annotations

from collections.abc import Collection

from zope.interface import implementer

from mailserver.auth.checkers import IChecker, Kept, Login
from mailserver.auth.passwords import Passwords, scram_secrets
from mailserver.interfaces import IDirectory, IVerifiers
from mailserver.model.account import Account
from mailserver.model.ids import AccountId
from mailserver.model.secrets import SecretKind

_NOBODY = AccountId("")


@implementer(IChecker)
class DirectoryChecker:
    """Asks the directory for the account and its verifiers.

    Its accounts have keys for SCRAM-SHA-256 since their passwords were set, and for
    SCRAM-SHA-1 where that is switched on.
    """

    label = "directory"

    def __init__(self, directory: IDirectory, verifiers: IVerifiers, passwords: Passwords) -> None:
        self._directory = directory
        self._verifiers = verifiers
        self._passwords = passwords

    async def check(self, login: Login) -> Account | None:
        """Find, read, hash: the same three steps whether or not the account is there."""
        account = await self._directory.account(login.name)
        stored = await self._verifiers.verifiers(_NOBODY if account is None else account.id)
        if await self._passwords.matches(stored, login.password, login.client):
            return account
        return None

    def secret_kinds(self) -> Collection[SecretKind]:
        """See `IChecker`."""
        return self._passwords.scram_kinds

    async def secrets(self, name: str, kind: SecretKind, service: str) -> Kept | None:
        """Find and read; see `IChecker`."""
        account = await self._directory.account(name)
        stored = await self._verifiers.verifiers(_NOBODY if account is None else account.id)
        secrets = scram_secrets(stored, kind)
        return None if account is None or secrets is None else Kept(account, secrets)

    async def used(self, kept: Kept, label: str) -> None:
        """Nothing is kept of that."""

    async def account(self, name: str) -> Account | None:
        """See `IChecker`."""
        return await self._directory.account(name)
