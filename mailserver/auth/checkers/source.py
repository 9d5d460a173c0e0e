"""What sources other than our own directory have in common.

Such a source (`ISource`) knows names, attributes and passwords, and nothing of our accounts.
`SourceChecker` makes a source of the chain of it: who proves to be somebody there gets the
account of that name in our directory, made when it is needed first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import attrs
from zope.interface import Attribute, Interface, implementer

from mailserver.auth.checkers import IChecker, Kept, Login
from mailserver.model.account import NO_LIMIT, Account, AccountStatus, Attributes
from mailserver.model.secrets import SecretKind, Secrets

MAX_TEXT: Final = 1000
"""Characters of an attribute's value."""

NOTHING_ALLOWED: Final = "-ALL:ALL"
"""`mailAllowedServiceAccess` of who may use no service."""


@attrs.frozen
class Entry:
    """An account as a source has it.

    Attributes:
        name: canonical `local@domain`.
        attributes: what it says of it.
    """

    name: str
    attributes: Attributes


class ISource(Interface):
    """A source of accounts and passwords that is not ours.

    Any method may raise `MailError` UNAVAILABLE if it cannot be asked now.
    """

    label: str = Attribute("as in `auth.sources`; also kept with accounts that come from it")
    knows_names: bool = Attribute("`find` can tell; if not, only a right password does")

    async def find(name: str) -> Entry | None:
        """Find an account by its name or one of its aliases; None if it is not known.

        Args:
            name: canonical login name or address.
        """

    async def check(login: Login) -> Entry | None:
        """Return the entry if the password is right; None if it is wrong or the name is not
        known, at the same cost as far as that is in our hands (S7).

        Raises:
            MailError: TOO_MANY.
        """

    def secret_kinds() -> Collection[SecretKind]:
        """As `IChecker.secret_kinds`."""

    async def secrets(name: str, kind: SecretKind) -> tuple[Entry, Secrets] | None:
        """As `IChecker.secrets`."""

    def stop() -> None:
        """Let go of everything; may wait for a check that runs."""


Adopt = Callable[[str, Entry], Awaitable[Account | None]]
"""Give the account of our directory for an entry of the source with that label; None if it
cannot have one."""


@implementer(IChecker)
class SourceChecker:
    """A source in the chain.

    Args:
        source: who knows passwords.
        adopt: gives accounts for its entries.
    """

    def __init__(self, source: ISource, adopt: Adopt) -> None:
        self.label = source.label
        self._source = source
        self._adopt = adopt

    async def check(self, login: Login) -> Account | None:
        """See `IChecker`."""
        return await self._adopted(await self._source.check(login))

    def secret_kinds(self) -> Collection[SecretKind]:
        """See `IChecker`."""
        return self._source.secret_kinds()

    async def secrets(self, name: str, kind: SecretKind, service: str) -> Kept | None:
        """See `IChecker`."""
        found = await self._source.secrets(name, kind)
        if found is None:
            return None
        entry, secrets = found
        account = await self._adopted(entry)
        return None if account is None else Kept(account, secrets)

    async def used(self, kept: Kept, label: str) -> None:
        """Nothing is kept of that."""

    async def account(self, name: str) -> Account | None:
        """See `IChecker`."""
        return await self._adopted(await self._source.find(name))

    async def _adopted(self, entry: Entry | None) -> Account | None:
        return None if entry is None else await self._adopt(self.label, entry)


# -- attributes as texts ------------------------------------------------------------

_STATUS = {
    "active": AccountStatus.ACTIVE,
    "overquota": AccountStatus.ACTIVE,  # an MTA's mark; our own counting decides
    "inactive": AccountStatus.INACTIVE,
    "disabled": AccountStatus.INACTIVE,
    "hold": AccountStatus.INACTIVE,
    "deleted": AccountStatus.DELETED,
    "removed": AccountStatus.DELETED,
}
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def read_attributes(
    values: Mapping[str, Sequence[str]],
) -> tuple[Attributes, list[str]]:
    """Make attributes of texts under the names that the Sun server has for them.

    `mailUserStatus`, `cn`, `mailQuota` (octets, also with K, M, G, T; -1 for no limit, -2
    for saying nothing), `mailMsgQuota` (messages), `mailAllowedServiceAccess`, `mailHost`.

    Returns:
        The attributes, and a sentence for each value that is not understood. Where such a
        value would close something, everything is closed.
    """
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, (field, read, otherwise) in _READERS.items():
        texts = [text for text in values.get(name, ()) if text]
        if not texts:
            continue
        try:
            found[field] = read(texts)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            found[field] = otherwise
    return Attributes(**found), problems


def size_limit(text: str) -> int | None:
    """Read a size as in `mailQuota`; None if it says that it says nothing.

    Raises:
        ValueError: with the reason.
    """
    if text in ("-1", "-2"):
        return NO_LIMIT if text == "-1" else None
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    if not (number.isascii() and number.isdigit() and len(number) < 19) or unit not in _FACTORS:
        raise ValueError(f"{text[:100]!r} is not a size such as 500M, nor -1 for no limit")
    return min(int(number) * _FACTORS[unit], 2**63 - 1)


def _status(texts: Sequence[str]) -> AccountStatus:
    """The strictest of several."""
    order = list(AccountStatus)
    try:
        return max((_STATUS[text.strip().lower()] for text in texts), key=order.index)
    except KeyError:
        raise ValueError(f"{texts[0][:100]!r} is none of {', '.join(_STATUS)}") from None


def _one_line(texts: Sequence[str]) -> str:
    text = texts[0].strip()
    if not text.isprintable() or len(text) > MAX_TEXT:
        raise ValueError(f"takes one line of at most {MAX_TEXT} printable characters")
    return text


def _size(texts: Sequence[str]) -> int | None:
    return size_limit(texts[0].strip())


def _count(texts: Sequence[str]) -> int | None:
    text = texts[0].strip()
    if text not in ("-1", "-2") and text[-1:].isalpha():
        raise ValueError(f"{text[:100]!r} is not a number of messages")
    return size_limit(text)


def _rules(texts: Sequence[str]) -> str:
    return _one_line(["$".join(text.strip() for text in texts)])


_READERS: Final[dict[str, tuple[str, Callable[[Sequence[str]], Any], Any]]] = {
    "mailUserStatus": ("status", _status, AccountStatus.INACTIVE),
    "cn": ("display_name", _one_line, None),
    "mailQuota": ("storage_limit", _size, None),
    "mailMsgQuota": ("message_limit", _count, None),
    "mailAllowedServiceAccess": ("allowed_services", _rules, NOTHING_ALLOWED),
    "mailHost": ("mail_host", _one_line, None),
}
"""Name -> (attribute, what reads its values, what holds if they are not understood)."""

ATTRIBUTE_NAMES: Final = tuple(_READERS)
"""Names that `read_attributes` knows."""
