"""Who opens maildrops by POP3: empty files for each account, over all processes.

A lock on one file is a session that has the maildrop for itself; the system gives it back
when the process ends, however it does. The time of another is when the maildrop was opened.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger
from zope.interface import implementer

from mailserver.interfaces import IMaildropVisits
from mailserver.model.ids import AccountId

_log = Logger()


@implementer(IMaildropVisits)
class MaildropVisits:
    """The files; see `IMaildropVisits`.

    Args:
        directory: for them alone; made when it is first needed, 0700.
        now: seconds since 1970 UTC.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now

    def enter(self, account: AccountId) -> Callable[[], None] | None:
        """Take a maildrop; see `IMaildropVisits.enter`."""
        try:
            lock = self._open(f"{account}.lock")
        except OSError as error:
            return _unnoted(error)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lambda: os.close(lock)

    def again_in(self, account: AccountId, interval: float) -> float:
        """Note a visit; see `IMaildropVisits.again_in`. A time to come, as is left when the
        clock is set back, keeps nobody out."""
        name, now = f"{account}.visited", self._now()
        try:
            wait = os.stat(self._directory / name).st_mtime + interval - now
            if 0 < wait <= interval:
                return wait
        except OSError:
            pass  # the first visit; or told below
        try:
            file = self._open(name)
        except OSError as error:
            _unnoted(error)
            return 0.0
        os.utime(file, (now, now))
        os.close(file)
        return 0.0

    def _open(self, name: str) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._directory / name, flags, 0o600)


def _unnoted(error: OSError) -> Callable[[], None]:
    """Let somebody in without a note: on a full disk mail has to be removed first of all."""
    _log.warn("POP3 sessions are not kept apart: {reason}", reason=error.strerror)
    return lambda: None
