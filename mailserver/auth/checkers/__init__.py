"""Sources of accounts and of what their passwords can be checked against.

The authenticator asks one after the other. A new source is a module here with a class that
implements `IChecker`. Throttling, the account's status, its services, acting for others are
the authenticator's business and the same for all sources and mechanisms.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs
from zope.interface import Attribute, Interface

from mailserver.model.account import Account
from mailserver.model.secrets import SecretKind, Secrets


@attrs.frozen
class Login:
    """A name and a password to be checked.

    Attributes:
        name: canonical login name (`IDirectory.login_name`).
        password: as it came from the client; not in the value's `repr`.
        client: the client's address, whose turn the check takes.
        service: as access rules know it: `imap`, `imaps`, `pop`, … (SUN-20).
    """

    name: str
    password: str = attrs.field(repr=False)
    client: str
    service: str = ""


@attrs.frozen
class Kept:
    """What a source keeps of an account's passwords.

    Attributes:
        account: as `IChecker.check` returns it.
        secrets: of the kind that was asked for.
    """

    account: Account
    secrets: Secrets


class IChecker(Interface):
    """One source of the chain.

    Accounts that it returns are of the directory, whatever their status: the authenticator
    looks at that. Each method may raise `MailError` UNAVAILABLE if the source cannot be
    asked; the others are asked all the same, and if none of them knows, that is the answer.
    """

    label: str = Attribute("short name for the log, such as `directory`")

    async def check(login: Login) -> Account | None:
        """Return the account if the password is right, None if it is wrong or the name
        is not known here; then the next source is asked.

        Both kinds of None must cost the same (S7).

        Raises:
            MailError: TOO_MANY.
        """

    def secret_kinds() -> Collection[SecretKind]:
        """Say what this source has of the password of each of its accounts, now.

        A mechanism is offered while every source has what it needs, so a source that can
        only be asked whether a password is right says: nothing.
        """

    async def secrets(name: str, kind: SecretKind, service: str) -> Kept | None:
        """Return what is kept of an account's passwords; None if the name is not known
        here or has none of that kind. Both must cost the same, apart from reading (S7).

        The first source that knows the name decides: passwords that others keep for it are
        good for `check` alone.

        Args:
            name, service: as of `Login`; a password that is not good for the service is
                left out.
            kind: one of `secret_kinds`.
        """

    async def used(kept: Kept, label: str) -> None:
        """Hear that somebody proved to have the password of `kept` that has this label."""

    async def account(name: str) -> Account | None:
        """Find an account of somebody who proved in another way who it is (a token, a
        certificate, an administrator who acts for it); None if the name is not known here.

        Args:
            name: canonical login name.
        """
