"""Accounts of the system's PAM, asked on threads.

PAM knows whether a password is right and nothing else: who there is, is asked of the system's
table of users (NSS) where `PamSettings.system_users` says that they are the same. PAM's own
delay after a failure is switched off, because it would hold a thread, and failures are slowed
down for all sources alike (S7).
"""

from __future__ import annotations

import ctypes
import pwd
from collections.abc import Collection
from functools import partial
from typing import Any, Final

import attrs
import pamela
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.auth import schemes
from mailserver.auth.checkers import Login
from mailserver.auth.checkers.source import MAX_TEXT, Entry, ISource
from mailserver.auth.pool import FairPool
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Attributes
from mailserver.model.addresses import account_name
from mailserver.model.secrets import SecretKind, Secrets

# Codes of _pam_types.h with which PAM says that somebody is not to be let in. Every other one
# says that it could not find out.
_NO: Final = frozenset(
    {
        6,  # PAM_PERM_DENIED
        7,  # PAM_AUTH_ERR
        8,  # PAM_CRED_INSUFFICIENT
        10,  # PAM_USER_UNKNOWN
        11,  # PAM_MAXTRIES
        12,  # PAM_NEW_AUTHTOK_REQD
        13,  # PAM_ACCT_EXPIRED
        16,  # PAM_CRED_EXPIRED
        17,  # PAM_CRED_ERR
        19,  # PAM_CONV_ERR: it asks for more than a password
        27,  # PAM_AUTHTOK_EXPIRED
    }
)
_FAIL_DELAY_ITEM: Final = 10

_NO_DELAY = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)(
    lambda code, microseconds, data: None
)


@attrs.frozen
class PamSettings:
    """How PAM is asked.

    Attributes:
        service: name of a file in /etc/pam.d.
        full_names: PAM knows `local@domain`; else the local parts of the default domain.
        system_users: its users are those of the system, from `first_uid` on; else anybody
            may be one, who is found out by a right password only.
        first_uid: below are daemons.
        threads: checks at once.
        default_domain: of local parts; empty for none.
    """

    service: str = "mailserver"
    full_names: bool = False
    system_users: bool = True
    first_uid: int = 1000
    threads: int = 4
    default_domain: str = ""


@implementer(ISource)
class PamSource:
    """PAM as a source.

    What is verified is not remembered: PAM does not tell when a password or an account's
    right to log in has changed.

    Args:
        settings: with a default domain unless names are full ones.
        reactor: for results of threads.
    """

    label = "pam"
    _log = Logger()

    def __init__(self, settings: PamSettings, reactor: Any) -> None:
        self.knows_names = settings.system_users
        self._settings = settings
        self._pool = FairPool(reactor, settings.threads)
        self._pool.start()

    async def find(self, name: str) -> Entry | None:
        """See `ISource`; asks NSS."""
        user = self._user(name)
        if user is None or not self._settings.system_users:
            return None
        return await self._pool.run("", partial(self._entry, name, user))

    async def check(self, login: Login) -> Entry | None:
        """See `ISource`. PAM is asked about everybody, because its modules see to it that
        names that are not there take as long."""
        octets = login.password.encode("utf-8", "surrogatepass")
        if not 0 < len(octets) <= schemes.MAX_OCTETS or b"\0" in octets:
            return None
        return await self._pool.run(login.client, partial(self._check, login, octets))

    def secret_kinds(self) -> Collection[SecretKind]:
        """None: PAM says only whether a password is right."""
        return ()

    async def secrets(self, name: str, kind: SecretKind) -> tuple[Entry, Secrets] | None:
        """See `secret_kinds`."""
        return None

    def stop(self) -> None:
        """Wait for checks that run."""
        self._pool.stop()

    def _user(self, name: str) -> str | None:
        """What PAM calls somebody; None if it cannot know that name."""
        if "\0" in name or not name.isprintable():
            return None
        if self._settings.full_names:
            return name
        local, _, domain = name.rpartition("@")
        return local if local and domain == self._settings.default_domain else None

    def _check(self, login: Login, password: bytes) -> Entry | None:
        user = self._user(login.name)
        is_right = self._is_password(user or "-", password, login.client)
        entry = None if user is None else self._entry(login.name, user)
        return entry if is_right and user is not None else None

    def _entry(self, name: str, user: str) -> Entry | None:
        try:
            name = account_name(name)
        except MailError:
            return None
        if not self._settings.system_users:
            return Entry(name, Attributes())
        try:
            found = pwd.getpwnam(user)
        except (KeyError, UnicodeEncodeError):
            return None
        if found.pw_uid < self._settings.first_uid or found.pw_name != user:
            return None
        shown = found.pw_gecos.partition(",")[0]
        usable = shown.isprintable() and 0 < len(shown) <= MAX_TEXT
        return Entry(name, Attributes(display_name=shown if usable else None))

    def _is_password(self, user: str, password: bytes, client: str) -> bool:
        """Ask PAM for authentication and whether the account may be used.

        Raises:
            MailError: UNAVAILABLE, with the reason in the log.
        """
        conversation = pamela.new_simple_password_conv((password,), "utf-8")
        try:
            handle = pamela.pam_start(self._settings.service, user, conv_func=conversation)
        except pamela.PAMError as error:
            code, reason = error.errno, error.message
        else:
            code = self._outcome(handle, client)
            reason = pamela.pam_strerror(handle, code)
            pamela.PAM_END(handle, code)
        if code == pamela.PAM_SUCCESS or code in _NO:
            return bool(code == pamela.PAM_SUCCESS)
        self._log.error(
            "pam service {service}: {reason} ({code})",
            service=self._settings.service,
            reason=reason,
            code=code,
        )
        raise MailError(
            ErrorKind.UNAVAILABLE, "a source of accounts cannot be asked now; try again later"
        )

    def _outcome(self, handle: Any, client: str) -> int:
        """The code of the first step that fails, or PAM_SUCCESS."""
        _set_no_delay(handle)
        pamela.PAM_SET_ITEM(handle, pamela.PAM_RHOST, client.encode("utf-8"))
        code = pamela.PAM_AUTHENTICATE(handle, 0)
        if code == pamela.PAM_SUCCESS:
            code = pamela.PAM_ACCT_MGMT(handle, 0)
        return int(code)


def _set_no_delay(handle: Any) -> None:
    """Have PAM not sleep after a failure (PAM_FAIL_DELAY, pam_fail_delay(3))."""
    set_item = pamela.LIBPAM["pam_set_item"]
    set_item.argtypes = (pamela.PamHandle, ctypes.c_int, ctypes.c_void_p)
    set_item(handle, _FAIL_DELAY_ITEM, ctypes.cast(_NO_DELAY, ctypes.c_void_p))
