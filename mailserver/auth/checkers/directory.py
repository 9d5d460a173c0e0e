"""Checks passwords against the verifiers of our own directory."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth.app_passwords import app_digest
from mailserver.auth.checkers import IChecker, Kept, Login
from mailserver.auth.passwords import Passwords, scram_secrets
from mailserver.errors import MailError
from mailserver.interfaces import IAppPasswords, IDirectory, IVerifiers
from mailserver.model.account import Account, AppPassword, Verifiers
from mailserver.model.ids import AccountId
from mailserver.model.secrets import ScramSecrets, SecretKind

_NOBODY = AccountId("")


@implementer(IChecker)
class DirectoryChecker:
    """Asks the directory for the account, its password and its app passwords.

    Its accounts have keys for SCRAM-SHA-256 since their passwords were set, and for
    SCRAM-SHA-1 where that is switched on.

    Args:
        app_passwords: None where there are none.
    """

    label = "directory"
    _log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        verifiers: IVerifiers,
        passwords: Passwords,
        app_passwords: IAppPasswords | None = None,
    ) -> None:
        self._directory = directory
        self._verifiers = verifiers
        self._passwords = passwords
        self._app_passwords = app_passwords

    async def check(self, login: Login) -> Account | None:
        """Find, read, hash: the same three steps whether or not the account is there.

        Only who has an app password is let in without the slow hash.
        """
        account = await self._directory.account(login.name)
        identifier = _NOBODY if account is None else account.id
        stored = await self._verifiers.verifiers(identifier)
        digest = app_digest(login.password)
        for one in await self._of_devices(identifier, login.service):
            if hmac.compare_digest(one.digest, digest):
                assert self._app_passwords is not None
                self._app_passwords.app_password_used(one)
                return account
        if not await self._passwords.matches(stored, login.password, login.client):
            return None
        await self._renew(identifier, stored, login)
        return account

    async def _renew(self, account: AccountId, stored: Verifiers, login: Login) -> None:
        """Make verifiers anew whose parameters are not those of today; only now the password
        is at hand. Whether that works is nothing to who logs in."""
        try:
            renewed = await self._passwords.renewed(stored, login.password, login.client)
            if renewed is not None:
                await self._verifiers.renew_verifiers(account, stored, renewed)
        except MailError as error:
            self._log.warn(
                "password of {name} not hashed anew: {reason}", name=login.name, reason=error.text
            )

    def secret_kinds(self) -> Collection[SecretKind]:
        """See `IChecker`."""
        return self._passwords.scram_kinds

    async def secrets(self, name: str, kind: SecretKind, service: str) -> Kept | None:
        """Find and read; see `IChecker`."""
        account = await self._directory.account(name)
        identifier = _NOBODY if account is None else account.id
        own = scram_secrets(await self._verifiers.verifiers(identifier), kind)
        if own is None and account is not None and account.source:
            return None  # only its source can tell the salt of its own password
        found = [own] if own is not None else []
        for one in await self._of_devices(identifier, service):
            texts = Verifiers("", one.scram_sha256, one.scram_sha1)
            of_device = scram_secrets(texts, kind)
            if of_device is not None:
                [keys] = of_device.keys
                found.append(attrs.evolve(of_device, keys=(attrs.evolve(keys, label=one.id),)))
        return None if account is None or not found else Kept(account, _joined(found))

    async def used(self, kept: Kept, label: str) -> None:
        """Note the use of an app password."""
        for one in await self._of_devices(kept.account.id, ""):
            if one.id == label and self._app_passwords is not None:
                self._app_passwords.app_password_used(one)

    async def account(self, name: str) -> Account | None:
        """See `IChecker`."""
        return await self._directory.account(name)

    async def _of_devices(self, account: AccountId, service: str) -> Sequence[AppPassword]:
        """The app passwords that are good for the service; empty for all."""
        if self._app_passwords is None:
            return ()
        found = await self._app_passwords.app_passwords(account)
        return [one for one in found if not service or one.is_good_for(service)]


def _joined(found: Sequence[ScramSecrets]) -> ScramSecrets:
    """The keys of several passwords; those with another salt than the first are left out,
    because only one salt can be told."""
    first = found[0]
    told = (first.salt, first.iterations)
    keys = tuple(keys for one in found if (one.salt, one.iterations) == told for keys in one.keys)
    return attrs.evolve(first, keys=keys)
