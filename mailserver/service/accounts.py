"""Accounts as a whole: the directory's row and the store's data, made and removed together.

Order decides what a crash can leave. An account is made data first, row last: what is left
then is a directory on disk that nobody can reach. It is removed row first, data last: again
nobody can reach what is left. So an account that can be found always has its mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs
from twisted.internet.defer import DeferredSemaphore, gatherResults

from mailserver.auth.app_passwords import beside, make_app_password
from mailserver.auth.passwords import HashParameters, Passwords
from mailserver.errors import MailError
from mailserver.interfaces import IMailStore
from mailserver.model.account import NO_LIMIT, Account
from mailserver.model.addresses import account_name
from mailserver.model.ids import AccountId
from mailserver.store.directory.directory import Directory, random_account_id
from mailserver.store.directory.edit import AccountChanges, NewAccount

AT_ONCE = 16
"""Accounts whose data are made at the same time."""


def effective(said: int | None, own: int | None) -> int | None:
    """The limit that holds, of what a source says (see `Attributes`) and our own."""
    if said is None:
        return own
    return None if said == NO_LIMIT else said


async def create_accounts(
    directory: Directory,
    store: IMailStore,
    new: Sequence[NewAccount],
    *,
    add_domains: bool = False,
    made: Callable[[], None] = lambda: None,
) -> Sequence[Account]:
    """Make accounts with their first mailboxes, all or none; durable.

    Args:
        new: their `id` is made up here.
        add_domains: make domains ours that are not yet.
        made: called for each account whose data are made, for progress.

    Raises:
        MailError: what `Directory.create_accounts` raises.
    """
    chosen = [attrs.evolve(one, id=random_account_id()) for one in new]
    await directory.check_new_accounts(chosen, add_domains=add_domains)
    gate = DeferredSemaphore(AT_ONCE)
    started: list[AccountId] = []

    async def make(one: NewAccount) -> None:
        assert one.id is not None
        started.append(one.id)
        await store.create_account(
            Account(
                one.id,
                account_name(one.name),
                storage_limit=effective(one.said.storage_limit, one.storage_limit),
                message_limit=effective(one.said.message_limit, one.message_limit),
            )
        )
        made()

    try:
        await gatherResults(
            [gate.run(make, one) for one in chosen],
            consumeErrors=True,
        )
        return await directory.create_accounts(chosen, add_domains=add_domains)
    except BaseException:
        for account in started:
            try:
                await store.delete_account(account)
            except MailError:
                pass  # out of everybody's reach all the same
        raise


async def set_password(
    directory: Directory, passwords: Passwords, account: AccountId, password: str
) -> None:
    """Give an account another password; its app passwords stay good, also for SCRAM; durable.

    Raises:
        MailError: INVALID (the password cannot be used), NONEXISTENT.
    """
    verifiers = await passwords.verifiers(password)
    others = await directory.app_passwords(account)
    await directory.set_verifiers(account, beside(password, verifiers, others))


async def add_app_password(
    directory: Directory,
    hashes: HashParameters,
    account: AccountId,
    name: str,
    services: Iterable[str],
) -> str:
    """Make a password for one device of an account; durable.

    Args:
        name: for people, such as `phone`.
        services: for which it is good, none for all.

    Returns:
        The password, which nobody can tell again.

    Raises:
        MailError: NONEXISTENT, INVALID, ALREADY_EXISTS (name), LIMIT.
    """
    verifiers = await directory.verifiers(account)
    others = await directory.app_passwords(account)
    password, kept = make_app_password(name, services, hashes, verifiers, others)
    await directory.add_app_password(account, kept)
    return password


async def delete_account(directory: Directory, store: IMailStore, account: AccountId) -> None:
    """Remove an account and all of its mail; durable.

    Raises:
        MailError: NONEXISTENT.
    """
    await directory.delete_account(account)
    await store.delete_account(account)


async def update_account(
    directory: Directory, store: IMailStore, account: AccountId, changes: AccountChanges
) -> Account:
    """Give attributes new values, limits in the store's quota root as well; durable.

    Raises:
        MailError: what `Directory.update_account` raises.
    """
    changed = await directory.update_account(account, changes)
    if "storage_limit" in changes or "message_limit" in changes:
        await store.set_quota(account, changed.storage_limit, changed.message_limit)
    return changed
