"""Checks passwords against the verifiers of our own directory."""

from __future__ import annotations

from zope.interface import implementer

from mailserver.auth.checkers import IChecker, Login
from mailserver.auth.passwords import Passwords
from mailserver.interfaces import IDirectory, IVerifiers
from mailserver.model.account import Account
from mailserver.model.ids import AccountId

_NOBODY = AccountId("")


@implementer(IChecker)
class DirectoryChecker:
    """Asks the directory for the account and its verifiers."""

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
