"""Backends that know passwords; the authenticator asks one after the other.

A new backend is a module here with a class that implements `IChecker`.
"""

from __future__ import annotations

import attrs
from zope.interface import Attribute, Interface

from mailserver.model.account import Account


@attrs.frozen
class Login:
    """A name and a password to be checked.

    Attributes:
        name: canonical login name (`IDirectory.login_name`).
        password: as it came from the client; not in the value's `repr`.
        client: the client's address, whose turn the check takes.
    """

    name: str
    password: str = attrs.field(repr=False)
    client: str


class IChecker(Interface):
    """One backend of the chain."""

    label: str = Attribute("short name for the log, such as `directory`")

    async def check(login: Login) -> Account | None:
        """Return the account if the password is right, None if it is wrong or the name
        is not known here; then the next backend is asked.

        Both kinds of None must cost the same (S7). The account is one of the directory,
        whatever its status: the authenticator looks at that.

        Raises:
            MailError: UNAVAILABLE if the backend cannot be asked; no further one is asked
                then, because a wrong answer would tell a right password from a wrong one.
                TOO_MANY.
        """
