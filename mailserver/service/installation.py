"""One data directory opened by one process: the store, the directory, events, passwords.

The server and every command of `mailctl` begin here, so that they agree on where things
lie and work beside each other: changes go through the same databases, and events reach
the other processes through the hub in the data directory.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailserver.auth.authenticator import Authenticator
from mailserver.auth.checkers.directory import DirectoryChecker
from mailserver.auth.checkers.passwd_file import PasswdFile
from mailserver.auth.checkers.source import SourceChecker
from mailserver.auth.decoys import Decoys
from mailserver.auth.filters.access import Access
from mailserver.auth.filters.grammar import parse_filters
from mailserver.auth.filters.names import ClientNames
from mailserver.auth.filters.rules import Rule
from mailserver.auth.passwords import HashParameters, Passwords
from mailserver.auth.pool import FairPool
from mailserver.auth.throttle import Throttle, ThrottleLimits
from mailserver.errors import ErrorKind, MailError
from mailserver.events.bus import FULL_COVERAGE, Coverage, EventBus, coverage
from mailserver.events.hub import HubClient, HubServer
from mailserver.interfaces import IDirectory, IThrottle
from mailserver.model.networks import Networks
from mailserver.service import options as o
from mailserver.service.adoption import Adoption, SourcedDirectory
from mailserver.service.config import Settings
from mailserver.service.secret import installation_secret
from mailserver.service.sources import (
    SourceSettings,
    must_be_readable,
    open_sources,
    source_settings,
)
from mailserver.store.directory import Directory
from mailserver.store.limits import StoreLimits
from mailserver.store.mailstore import MailStore, open_store
from mailserver.store.visits import MaildropVisits

DIRECTORY_FILE: Final = "directory.sqlite"
"""Accounts, domains and verifiers, in the data directory."""

HUB_SOCKET: Final = "events.socket"
"""Unix socket of the event hub, in the data directory."""

_FLUSH_TIMEOUT: Final = 2.0  # seconds that a command waits for a server to take its events


class Role(Enum):
    """What a process is to an installation."""

    COMMAND = "command"
    """It works beside the server, for a while."""
    SERVER = "server"
    """The others tell it what they changed. There is one at most."""
    WORKER = "worker"
    """It serves beside the server, and hears what others change."""


@attrs.frozen
class InstallationSettings:
    """Where the data lies and how it is to be treated.

    Attributes:
        data: the data directory.
        default_domain: domain of names that have none, may be empty (SUN-13).
        login_separators: `service.loginseparator` (SUN-12).
        store_admins: canonical names with the store-admin right (`store.admins`).
        limits: of the store.
        writers: threads that write mail, 1 .. 16.
        synced_flags: changes of flags wait for the disk.
        throttle: how failed logins are slowed down.
        hashes: how expensive a password's hash is.
        hash_threads: password checks at once.
        hashes_waiting, hashes_waiting_per_client: checks that may wait, in all and of one
            address.
        remembered, remembered_for: verified passwords that are kept as a digest, and for
            how many seconds.
        coverage: for which mailboxes there are events (SUN-51).
        sources: where accounts and passwords come from.
        filters: who may connect to a service (SUN-20); see `Access`.
        name_timeout: seconds that the search for a client's name may take.
    """

    data: Path
    default_domain: str = ""
    login_separators: str = "@+"
    store_admins: frozenset[str] = frozenset()
    limits: StoreLimits = StoreLimits()
    writers: int = 16
    synced_flags: bool = True
    throttle: ThrottleLimits = ThrottleLimits()
    hashes: HashParameters = HashParameters()
    hash_threads: int = 2
    hashes_waiting: int = 1000
    hashes_waiting_per_client: int = 50
    remembered: int = 10_000
    remembered_for: float = 3600.0
    coverage: Coverage = FULL_COVERAGE
    sources: SourceSettings = SourceSettings()
    filters: Mapping[str, Sequence[Rule]] = attrs.Factory(dict)
    name_timeout: float = 5.0


def installation_settings(settings: Settings) -> InstallationSettings:
    """The part of the configuration that concerns the data directory.

    Raises:
        ConfigurationError: a source of accounts cannot be used.
    """
    store_admins = settings[o.login.STORE_ADMINS]
    trusted = settings[o.login.TRUSTED_HOSTS]
    return InstallationSettings(
        data=settings.data,
        default_domain=settings[o.login.DEFAULT_DOMAIN],
        login_separators=settings[o.login.LOGIN_SEPARATOR],
        store_admins=frozenset(store_admins),
        limits=StoreLimits(
            max_message_size=settings[o.store.MAX_MESSAGE_SIZE],
            mailboxes=settings[o.store.MAX_MAILBOXES],
            subscriptions=settings[o.store.MAX_SUBSCRIPTIONS],
            keywords=settings[o.store.MAX_KEYWORDS],
            tombstones=settings[o.store.MAX_TOMBSTONES],
            messages_per_append=settings[o.store.MAX_APPENDED],
        ),
        writers=settings[o.store.WRITER_THREADS],
        synced_flags=settings[o.store.FLAGS_DURABILITY] == "durable",
        throttle=ThrottleLimits(
            first_delay=settings[o.login.THROTTLE_FIRST_DELAY],
            max_delay=settings[o.login.THROTTLE_MAX_DELAY],
            window=settings[o.login.THROTTLE_WINDOW],
            max_wait=settings[o.login.THROTTLE_MAX_WAIT],
            max_entries=settings[o.login.THROTTLE_ENTRIES],
            trusted=Networks.of(trusted),
        ),
        hashes=HashParameters(
            time_cost=settings[o.login.ARGON2_TIME],
            memory_cost=settings[o.login.ARGON2_MEMORY] // 1024,
            parallelism=settings[o.login.ARGON2_PARALLELISM],
            scram_iterations=settings[o.login.SCRAM_ITERATIONS],
            scram_sha1=settings[o.login.SCRAM_SHA1],
        ),
        hash_threads=settings[o.login.AUTH_THREADS],
        hashes_waiting=settings[o.login.AUTH_QUEUE],
        hashes_waiting_per_client=settings[o.login.AUTH_QUEUE_PER_ADDRESS],
        remembered=settings[o.login.AUTH_REMEMBERED],
        remembered_for=settings[o.login.AUTH_REMEMBERED_FOR],
        coverage=coverage(
            settings[o.events.NOTIFY_PLUGIN],
            settings[o.events.NOTIFY_NONE_INBOX],
            settings[o.events.NOTIFY_ENS_EVENT_KEY],
        ),
        sources=source_settings(settings),
        filters=_filters(settings),
        name_timeout=settings[o.access.NAME_TIMEOUT],
    )


def _filters(settings: Settings) -> dict[str, tuple[Rule, ...]]:
    domain = settings[o.login.DEFAULT_DOMAIN]
    return {
        service: tuple(
            rule
            for option, allows in ((allowed, True), (not_allowed, False))
            for rule in parse_filters(
                settings[option], option.name, allows=allows, default_domain=domain
            )
        )
        for service, (allowed, not_allowed) in o.access.FILTERS.items()
    }


class Installation:
    """Everything that works on one data directory; made by `open`, ended by `stop`.

    Attributes:
        settings: as given.
        store, bus, authenticator: the seams' implementations.
        accounts: the directory with the accounts of other sources, for protocols.
        directory: without them, for changes.
        passwords: makes verifiers for new passwords.
        access: who may connect and use what.
        throttle: slows down failed logins.
        maildrop_visits: who opens maildrops by POP3.
    """

    log = Logger()

    def __init__(
        self,
        settings: InstallationSettings,
        reactor: Any,
        role: Role,
        throttle: IThrottle | None = None,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self.bus = EventBus(reactor, covers_all_mailboxes=settings.coverage.all_mailboxes)
        self._hub = self._open_hub(reactor, role)
        # First, because it refuses a second server: then nothing else is open yet.
        self._hub.start()
        self._pool = FairPool(
            reactor,
            settings.hash_threads,
            max_waiting=settings.hashes_waiting,
            max_waiting_per_client=settings.hashes_waiting_per_client,
        )
        self.passwords = Passwords(
            self._pool,
            reactor,
            settings.hashes,
            remembered=settings.remembered,
            remembered_for=settings.remembered_for,
        )
        self.directory = Directory.open(
            settings.data / DIRECTORY_FILE,
            reactor,
            default_domain=settings.default_domain,
            login_separators=settings.login_separators,
        )
        self.store: MailStore = open_store(
            settings.data,
            reactor,
            self.bus,
            limits=settings.limits,
            writers=settings.writers,
            synced_flags=settings.synced_flags,
            eager_texts=role is not Role.COMMAND,
        )
        self.maildrop_visits = MaildropVisits(settings.data / "visits")
        self.access = Access(
            ClientNames(reactor, deadline=settings.name_timeout),
            settings.filters,
            settings.default_domain,
        )
        decoys = Decoys(installation_secret(settings.data), settings.hashes.scram_iterations)
        self._sources = open_sources(
            settings.sources,
            reactor,
            self.directory,
            self._pool,
            self.passwords.remembered,
            decoys,
            settings.hashes.scram_iterations,
        )
        adoption = Adoption(
            self.directory,
            self.store,
            tuple(self._sources.values()),
            reactor,
            settings.sources.fresh_for,
        )
        self.accounts: IDirectory = SourcedDirectory(self.directory, adoption)
        self.throttle: IThrottle = throttle or Throttle(reactor, settings.throttle)
        self.authenticator = Authenticator(
            self.accounts,
            [
                SourceChecker(self._sources[label], adoption.adopt)
                if label in self._sources
                else DirectoryChecker(self.accounts, self.directory, self.passwords, self.directory)
                for label in settings.sources.order
            ],
            self.throttle,
            reactor,
            self._store_admins,
            self.access,
            decoys=decoys,
        )
        self._pool.start()

    def _open_hub(self, reactor: Any, role: Role) -> HubServer | HubClient:
        path = self.settings.data / HUB_SOCKET
        if role is Role.SERVER:
            return HubServer(path, self.bus, reactor)
        return HubClient(path, self.bus, reactor, listens=role is Role.WORKER)

    def _store_admins(self) -> Collection[str]:
        return self.settings.store_admins

    @classmethod
    async def open(
        cls,
        settings: InstallationSettings,
        reactor: Any,
        role: Role = Role.COMMAND,
        throttle: IThrottle | None = None,
    ) -> Installation:
        """Open a data directory, made first where there is none.

        Call it after twistd has forked. Nothing in it waits.

        Args:
            role: of this process.
            throttle: that of all processes; one of its own if None.

        Raises:
            MailError: UNAVAILABLE or CORRUPT with a sentence for the administrator.
        """
        make_data_directory(settings.data)
        if role is not Role.COMMAND:
            must_be_readable(settings.sources)
        self = cls(settings, reactor, role, throttle)
        if role is not Role.COMMAND:
            self._load_passwd_file()
        return self

    def _load_passwd_file(self) -> None:
        """Read the passwd-file, if there is one, so that its faults are told at the start."""
        source: Any = self._sources.get(PasswdFile.label)
        if source is not None:
            source.load()

    def apply(self, settings: InstallationSettings) -> None:
        """Take over what a reload can change: names, administrators, and who may connect."""
        self.settings = settings
        self.directory.default_domain = settings.default_domain
        self.directory.login_separators = settings.login_separators
        self.access.filters = dict(settings.filters)
        self.access.default_domain = settings.default_domain

    async def stop(self) -> None:
        """Finish what is being written, tell the server of it, and close everything; to be
        called once."""
        try:
            await self.store.stop()
            await self.directory.stop()
            if isinstance(self._hub, HubClient):
                await self._hub.flush(_FLUSH_TIMEOUT)
                # A failure is told from amid the client's state machine; leave that first.
                await deferLater(self._reactor, 0)
            await self._hub.stop()
        finally:
            for source in self._sources.values():
                source.stop()
            self._pool.stop()


def make_data_directory(data: Path) -> None:
    """Make the data directory, 0700; one that others may look into is closed (S14).

    Raises:
        MailError: UNAVAILABLE if it cannot be made or used.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_mode & 0o077:
            data.chmod(0o700)
    except OSError as error:
        reason = "it is not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise MailError(ErrorKind.UNAVAILABLE, f"data directory {data}: {reason}") from error
    if not os.access(data, os.W_OK | os.X_OK):
        raise MailError(ErrorKind.UNAVAILABLE, f"data directory {data}: it cannot be written to")
