"""Accounts, domains, and where an address leads."""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from mailserver.model.ids import AccountId


class AccountStatus(Enum):
    """Whether an account may be used; SUN's `mailUserStatus` words."""

    ACTIVE = "active"
    INACTIVE = "inactive"  # no login, mail is refused for the time being
    DELETED = "deleted"  # no login, mail is refused for good


@attrs.frozen
class Account:
    """An account as the directory knows it; no secret in it.

    Attributes:
        id: opaque id, also the name of its directory on disk.
        name: canonical name, `local@domain`, NFC, lower case.
        status: may it be used.
        display_name: for people; may be empty.
        storage_limit: mailQuota, octets, None for no limit.
        message_limit: mailMsgQuota, messages, None for no limit.
        allowed_services: mailAllowedServiceAccess as written (SUN-8), empty for all.
        mail_host: host of the account's backend, empty for this one (SUN-40).
        language: preferred language tag, empty for the default.
        disabled_capabilities: IMAP capabilities not shown to this account, upper case.
        aliases: further addresses that lead here, canonical, ascending.
        source: label of the source that the account comes from, whose attributes win over
            the directory's own; empty for the directory alone.
    """

    id: AccountId
    name: str
    status: AccountStatus = AccountStatus.ACTIVE
    display_name: str = ""
    storage_limit: int | None = None
    message_limit: int | None = None
    allowed_services: str = ""
    mail_host: str = ""
    language: str = ""
    disabled_capabilities: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    source: str = ""


NO_LIMIT: Final = -1
"""In `Attributes`: the source says that there is no limit."""


@attrs.frozen
class Attributes:
    """What a source other than the directory says of an account; None where it says nothing
    and the directory's own attribute holds.

    Attributes:
        status, display_name, allowed_services, mail_host: as of `Account`.
        storage_limit, message_limit: as of `Account`, `NO_LIMIT` for none.
        aliases: canonical, ascending; beside those of the directory.
    """

    status: AccountStatus | None = None
    display_name: str | None = None
    storage_limit: int | None = None
    message_limit: int | None = None
    allowed_services: str | None = None
    mail_host: str | None = None
    aliases: tuple[str, ...] = ()


@attrs.frozen
class AppPassword:
    """A password for one device or program, made by the server; never the password itself.

    It is long and random, so there is nothing to guess: one digest verifies it, where a
    password that a person chose needs a hash that is slow on purpose.

    Attributes:
        id: opaque.
        name: for people, such as `phone`; one of its kind within the account.
        services: for which it is good, without the `s` of TLS ports; empty for all.
        digest: SHA-256 of the password.
        scram_sha256, scram_sha1: as of `Verifiers`, with the salt and iterations of the
            account's other passwords, because SCRAM tells them first; may be empty.
        created: seconds since 1970 UTC.
        last_used: the same, to some minutes; None if it never was.
    """

    id: str
    name: str
    services: frozenset[str]
    digest: bytes = attrs.field(repr=False)
    scram_sha256: str = attrs.field(default="", repr=False)
    scram_sha1: str = attrs.field(default="", repr=False)
    created: int = 0
    last_used: int | None = None

    def is_good_for(self, service: str) -> bool:
        """Say whether it may be used for a service such as `imap` or `imaps`."""
        return not self.services or service.removesuffix("s") in self.services


@attrs.frozen
class Verifiers:
    """What is kept of a password; never the password.

    Attributes:
        argon2id: PHC string, empty for an account that cannot log in by password.
        scram_sha256: `iterations:salt:stored_key:server_key` (base64 parts), RFC 5802 §3,
            made when the password is set so that SCRAM needs no new passwords.
        scram_sha1: the same for SCRAM-SHA-1, empty where it is not wanted.
    """

    argon2id: str = ""
    scram_sha256: str = ""
    scram_sha1: str = ""


class AdminRight(Enum):
    """What a domain administrator may do within a domain; each is a right of its own
    (CGP-11)."""

    READ_ACCOUNTS = "read-accounts"  # list accounts, read their quota
    SET_QUOTA = "set-quota"
    MODIFY_ACCOUNTS = "modify-accounts"  # create, change and delete accounts and aliases


@attrs.frozen
class Recipient:
    """Where an envelope address leads on this server.

    Attributes:
        address: as given by the client, for `Delivered-To` and replies.
        account: who gets it.
        detail: the subaddress after `+` (RFC 5233), empty if none; names a mailbox.
    """

    address: str
    account: Account
    detail: str = ""
