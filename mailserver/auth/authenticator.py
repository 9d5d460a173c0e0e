"""`IAuthenticator`: throttle, chain of sources, account's state, acting for others.

What a login passes is the same for every mechanism, and every failure has the same text
for the client (T40, S7):

1. the throttle gives a turn, or refuses;
2. sources are asked in order: whether a password is right, what a proof of one has to be
   checked against, or who has the name that a token or certificate says;
3. only who proved who he is hears that the account is disabled or may not use the
   service, and only then a wish to act as somebody else is looked at (S6, SUN-14).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth.checkers import IChecker, Kept, Login
from mailserver.auth.decoys import Decoys
from mailserver.auth.filters.access import Access
from mailserver.auth.tokens import ITokenVerifier, TokenExpired
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IAttempt, IAuthenticator, IDirectory, IThrottle
from mailserver.model.account import Account, AccountStatus
from mailserver.model.ids import Principal
from mailserver.model.networks import counted_as
from mailserver.model.secrets import Evidence, SecretKind, Secrets

FAILED_TEXT = "the name or the password is wrong"


def _unheard() -> None:
    """Nobody wants to know when a check begins."""


@attrs.frozen
class _Client:
    """Who wants in: canonical login name, service, address."""

    name: str
    service: str
    address: str


@implementer(IAuthenticator)
class Authenticator:
    """The one place that turns what somebody shows into a `Principal`.

    Args:
        directory: who there is.
        checkers: sources in the order in which they are asked, at least one.
        throttle: for all protocols.
        clock: waits.
        store_admins: gives the present canonical names with the store-admin right
            (`store.admins`); called at each login, so a reload acts at once.
        access: who may use what from where (SUN-20).
        decoys: what is told of names that are not there.
        tokens: verifies bearer tokens; None if none are taken; may be replaced at any time.
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
        *,
        decoys: Decoys,
        tokens: ITokenVerifier | None = None,
    ) -> None:
        self._directory = directory
        self._checkers = tuple(checkers)
        self._throttle = throttle
        self._clock = clock
        self._store_admins = store_admins
        self._access = access or Access()
        self._decoys = decoys
        self.tokens = tokens

    def accepts(self) -> Collection[Evidence | SecretKind]:
        """Passwords and certificates always, tokens if a verifier is there, and of the
        secrets those that every source has."""
        kinds = [frozenset(checker.secret_kinds()) for checker in self._checkers]
        evidence = {Evidence.PASSWORD, Evidence.CERTIFICATE}
        if self.tokens is not None:
            evidence.add(Evidence.TOKEN)
        return frozenset[Evidence | SecretKind](evidence) | frozenset.intersection(*kinds)

    # -- ways to prove who one is ----------------------------------------------

    async def check_password(
        self,
        name: str,
        password: str,
        *,
        authzid: str,
        service: str,
        address: str,
        began: Callable[[], None] = _unheard,
    ) -> Principal:
        """Verify a password; see `IAuthenticator`."""
        client = await self._client(name, service, address)
        await self._turn(client)
        began()
        account = await self._ask(client, password)
        if account is None:
            raise self._failed(client, "wrong name or password")
        return await self._admit(client, account, authzid)

    async def attempt(self, name: str, kind: SecretKind, *, service: str, address: str) -> IAttempt:
        """Begin to check the proof of a password; see `IAuthenticator`."""
        client = await self._client(name, service, address)
        await self._turn(client)
        # All sources are asked, and a decoy is made, whoever knows the name: what this
        # costs tells nothing (S7).
        decoy = self._decoys.secrets(client.name, kind)
        found: list[tuple[IChecker, Kept]] = []
        refusal: MailError | None = None
        for checker in self._checkers:
            try:
                kept = await checker.secrets(client.name, kind, service)
            except MailError as error:
                refusal = error
                continue
            if kept is not None:
                found.append((checker, kept))
        if found:
            checker, kept = found[0]
            return _Attempt(self, client, kept.secrets, checker, kept)
        if refusal is not None:
            raise self._unavailable(client, refusal)
        return _Attempt(self, client, decoy)

    async def check_token(
        self,
        token: str,
        *,
        user: str,
        service: str,
        address: str,
        began: Callable[[], None] = _unheard,
    ) -> Principal:
        """Verify a bearer token; see `IAuthenticator`."""
        client = await self._client(user, service, address)
        await self._turn(client)
        began()
        tokens = self.tokens
        if tokens is None:  # switched off a moment ago
            raise MailError(ErrorKind.UNAVAILABLE, "tokens are not taken here")
        try:
            name = await tokens.login_name(token)
        except TokenExpired as expired:  # not guessed: it was good once
            self._refused(client, expired.text)
            raise MailError(ErrorKind.AUTHENTICATION_FAILED, expired.text) from expired
        except MailError as error:
            if error.kind is ErrorKind.UNAVAILABLE:
                self._refused(client, error.text)
                text = "tokens cannot be checked now; try again later"
                raise MailError(ErrorKind.UNAVAILABLE, text) from error
            refusal = self._failed(client, error.text)
            raise MailError(error.kind, refusal.text) from error
        account = await self._find(await self._directory.login_name(name))
        if account is None:
            raise self._failed(client, f"the token is of {name[:100]!r}, who has no account")
        client = attrs.evolve(client, name=account.name)
        return await self._admit(client, account, user)

    def token_advice(self) -> Mapping[str, str]:
        """See `IAuthenticator`."""
        return {} if self.tokens is None else self.tokens.advice()

    async def check_certificate(
        self, name: str, *, authzid: str, service: str, address: str
    ) -> Principal:
        """Let somebody in whose certificate was verified; see `IAuthenticator`."""
        client = await self._client(name, service, address)
        account = await self._find(client.name)
        if account is None:
            self._refused(client, "the certificate's account is not there")
            raise MailError(ErrorKind.AUTHENTICATION_FAILED, FAILED_TEXT)
        return await self._admit(client, account, authzid)

    async def act_as(self, who: Principal, name: str, *, service: str, address: str) -> Principal:
        """Let a store administrator who is in act as another; see `IAuthenticator`."""
        client = _Client(who.authenticated, service, address)
        account = await self._find(who.authenticated)
        if account is None:
            raise MailError(ErrorKind.UNAVAILABLE, "the account is being removed")
        return await self._acting_as(client, account, name)

    # -- what all of them pass ---------------------------------------------------

    async def _client(self, name: str, service: str, address: str) -> _Client:
        return _Client(await self._directory.login_name(name), service, address)

    async def _turn(self, client: _Client) -> None:
        """Wait for the turn that the throttle gives.

        Raises:
            MailError: UNAVAILABLE if it gives none.
        """
        wait = await self._throttle.turn(client.address, client.name)
        if wait == math.inf:
            self._refused(client, "too many tries")
            raise MailError(
                ErrorKind.UNAVAILABLE, "too many failed logins from here; try again later"
            )
        if wait:
            await deferLater(self._clock, wait)

    async def _ask(self, client: _Client, password: str) -> Account | None:
        login = Login(client.name, password, counted_as(client.address), client.service)
        try:
            return await self._first(lambda checker: checker.check(login))
        except MailError as error:
            # Whose password only the silent source could check has not failed. At all others
            # nobody may guess the faster for it.
            account = await self._directory.account(client.name)
            if error.subject is not None and (account is None or account.source != error.subject):
                self._throttle.failed(client.address, client.name)
            raise self._unavailable(client, error) from error

    async def _find(self, name: str) -> Account | None:
        """The account of a canonical login name, of the first source that knows it."""
        return await self._first(lambda checker: checker.account(name))

    async def _first(self, ask: Callable[[IChecker], Awaitable[Account | None]]) -> Account | None:
        """Ask one source after the other. One that cannot be asked locks nobody out whom
        another knows; but where none says yes, nobody can say no.

        Raises:
            MailError: UNAVAILABLE, its subject the label of the source that gave no answer;
                TOO_MANY.
        """
        refusal: MailError | None = None
        for checker in self._checkers:
            try:
                account = await ask(checker)
            except MailError as error:
                if error.kind is not ErrorKind.UNAVAILABLE:
                    raise
                refusal = MailError(error.kind, error.text, subject=checker.label)
                continue
            if account is not None:
                return account
        if refusal is not None:
            raise refusal
        return None

    def _unavailable(self, client: _Client, error: MailError) -> MailError:
        """Log that a source gave no answer; the refusal for it."""
        self._refused(client, error.text)
        if error.kind is ErrorKind.TOO_MANY:
            return MailError(ErrorKind.UNAVAILABLE, error.text)
        return error

    def _failed(self, client: _Client, reason: str) -> MailError:
        """Count a failure; the refusal is the same whatever was wrong (T40)."""
        self._throttle.failed(client.address, client.name)
        self._refused(client, reason)
        return MailError(ErrorKind.AUTHENTICATION_FAILED, FAILED_TEXT)

    async def _admit(self, client: _Client, account: Account, authzid: str) -> Principal:
        """Let somebody in who has proved to be this account."""
        self._throttle.succeeded(client.address, client.name)
        await self._must_be_usable(client, account)
        if authzid:
            return await self._acting_as(client, account, authzid)
        self._log.debug(  # the session logs it with its number
            "{service} login of {name} from {address}",
            service=client.service,
            name=account.name,
            address=client.address,
        )
        return self._principal(account)

    def _principal(self, account: Account) -> Principal:
        return Principal(
            account.id, account.name, account.name, account.name in self._store_admins()
        )

    async def _acting_as(self, client: _Client, account: Account, authzid: str) -> Principal:
        """Let a store administrator act as somebody else, with that one's rights only."""
        target = await self._find(await self._directory.login_name(authzid))
        if target is not None and target.id == account.id:
            return self._principal(account)
        if account.name not in self._store_admins() or target is None:
            self._refused(client, f"may not act as {authzid[:100]!r}")
            raise MailError(
                ErrorKind.AUTHORIZATION_FAILED, "you may not act as that user", subject=authzid
            )
        await self._must_be_usable(client, target)
        self._log.info(
            "{service} login of {admin} as {name} from {address}",
            service=client.service,
            admin=account.name,
            name=target.name,
            address=client.address,
        )
        return Principal(target.id, target.name, account.name)

    async def _must_be_usable(self, client: _Client, account: Account) -> None:
        client = attrs.evolve(client, name=account.name)
        if account.status is not AccountStatus.ACTIVE:
            self._refused(client, f"account is {account.status.value}")
            raise MailError(ErrorKind.DISABLED, "this account is disabled", subject=account.name)
        access = await self._access.at_login(client.service, client.address, account)
        if not access.granted:
            self._refused(client, access.reason)
            raise MailError(
                ErrorKind.DISABLED,
                f"this account may not use {client.service}",
                subject=account.name,
            )

    def _refused(self, client: _Client, reason: str) -> None:
        self._log.warn(
            "{service} login of {name!r} from {address} refused: {reason}",
            service=client.service,
            name=client.name[:100],
            address=client.address,
            reason=reason,
        )


@implementer(IAttempt)
class _Attempt:
    """A login in which the password stays with the client.

    Args:
        checker, kept: whose secrets they are; None for a decoy's.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        client: _Client,
        secrets: Secrets,
        checker: IChecker | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.secrets = secrets
        self._authenticator = authenticator
        self._client = client
        self._checker = checker
        self._kept = kept

    async def proved(self, label: str, authzid: str) -> Principal:
        """Let the client in; see `IAttempt`."""
        if self._checker is None or self._kept is None:  # nobody can have proved a decoy
            raise self.failed("proof of a password that is none")
        principal = await self._authenticator._admit(self._client, self._kept.account, authzid)
        await self._checker.used(self._kept, label)
        return principal

    def failed(self, reason: str) -> MailError:
        """Count a failure; see `IAttempt`."""
        return self._authenticator._failed(self._client, reason)
