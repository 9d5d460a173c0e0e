"""`IAuthenticator`: throttle, chain of backends, account's state, acting for others.

Order of what a login passes, each step with the same text to the client for every
failure (T40, S7):

1. the throttle gives a turn, or refuses;
2. backends are asked in order;
3. only who knew the password hears that the account is disabled or may not use the
   service, and only then a wish to act as somebody else is looked at (S6, SUN-14).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth.checkers import IChecker, Login
from mailserver.auth.filters.access import Access
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAuthenticator, IDirectory, IThrottle
from mailserver.model.account import Account, AccountStatus
from mailserver.model.ids import Principal
from mailserver.model.networks import counted_as

FAILED_TEXT = "the name or the password is wrong"


@implementer(IAuthenticator)
class Authenticator:
    """The one place that turns a name and a password into a `Principal`.

    Args:
        directory: who there is.
        checkers: backends in the order in which they are asked, at least one.
        throttle: for all protocols.
        clock: waits.
        store_admins: gives the present canonical names with the store-admin right
            (`store.admins`); called at each login, so a reload acts at once.
        access: who may use what from where (SUN-20).
    """

    _log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        checkers: Sequence[IChecker],
        throttle: IThrottle,
        clock: IReactorTime,
        store_admins: Callable[[], Collection[str]] = tuple,
        access: Access | None = None,
    ) -> None:
        self._directory = directory
        self._checkers = tuple(checkers)
        self._throttle = throttle
        self._clock = clock
        self._store_admins = store_admins
        self._access = access or Access()

    def password_mechanisms(self) -> Sequence[str]:
        """PLAIN (RFC 4616) and LOGIN."""
        return ("PLAIN", "LOGIN")

    async def check_password(
        self, name: str, password: str, *, authzid: str, service: str, address: str
    ) -> Principal:
        """Verify a password; see `IAuthenticator`."""
        login_name = await self._directory.login_name(name)
        wait = self._throttle.delay(address, login_name)
        if wait == math.inf:
            self._refused(login_name, service, address, "too many tries")
            raise MailError(
                ErrorKind.UNAVAILABLE, "too many failed logins from here; try again later"
            )
        if wait:
            await deferLater(self._clock, wait)
        account = await self._ask(Login(login_name, password, counted_as(address)))
        if account is None:
            self._throttle.failed(address, login_name)
            self._refused(login_name, service, address, "wrong name or password")
            raise MailError(ErrorKind.AUTHENTICATION_FAILED, FAILED_TEXT)
        self._throttle.succeeded(address, login_name)
        await self._must_be_usable(account, service, address)
        if authzid:
            return await self._acting_as(account, authzid, service, address)
        self._log.debug(  # the session logs it with its number
            "{service} login of {name} from {address}",
            service=service,
            name=account.name,
            address=address,
        )
        return Principal(
            account.id, account.name, account.name, account.name in self._store_admins()
        )

    async def _ask(self, login: Login) -> Account | None:
        try:
            for checker in self._checkers:
                account = await checker.check(login)
                if account is not None:
                    return account
        except MailError as error:
            if error.kind is ErrorKind.TOO_MANY:
                raise MailError(ErrorKind.UNAVAILABLE, error.text) from error
            raise
        return None

    async def _acting_as(
        self, account: Account, authzid: str, service: str, address: str
    ) -> Principal:
        """Let a store administrator act as somebody else, with that one's rights only."""
        target = await self._directory.account(await self._directory.login_name(authzid))
        is_admin = account.name in self._store_admins()
        if target is not None and target.id == account.id:
            return Principal(account.id, account.name, account.name, is_admin)
        if not is_admin or target is None:
            self._refused(account.name, service, address, f"may not act as {authzid[:100]!r}")
            raise MailError(
                ErrorKind.AUTHORIZATION_FAILED, "you may not act as that user", subject=authzid
            )
        await self._must_be_usable(target, service, address)
        self._log.info(
            "{service} login of {admin} as {name} from {address}",
            service=service,
            admin=account.name,
            name=target.name,
            address=address,
        )
        return Principal(target.id, target.name, account.name)

    async def _must_be_usable(self, account: Account, service: str, address: str) -> None:
        if account.status is not AccountStatus.ACTIVE:
            self._refused(account.name, service, address, f"account is {account.status.value}")
            raise MailError(ErrorKind.DISABLED, "this account is disabled", subject=account.name)
        access = await self._access.at_login(service, address, account)
        if not access.granted:
            self._refused(account.name, service, address, access.reason)
            raise MailError(
                ErrorKind.DISABLED,
                f"this account may not use {service}",
                subject=account.name,
            )

    def _refused(self, name: str, service: str, address: str, reason: str) -> None:
        self._log.warn(
            "{service} login of {name!r} from {address} refused: {reason}",
            service=service,
            name=name[:100],
            address=address,
            reason=reason,
        )
