"""A message on its way in: newlines made CRLF, kept in memory while small, then in a file.

The file lies in the store's own file system, so that accounts take it in by hard links:
one message to fifty recipients is written once.
"""

from __future__ import annotations

import mmap
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISpool, ISpooled
from mailserver.mime.describe import describe
from mailserver.mime.newlines import Newlines
from mailserver.model.message import Description
from mailserver.store.blobs import disk_error, open_new
from mailserver.store.content import checksum
from mailserver.store.limits import KEPT_INLINE

T = TypeVar("T")


LEFT_SECONDS = 86400
"""Age at which a spool file cannot belong to a live connection any more."""


def remove_leftovers(directory: Path, now: float) -> None:
    """Remove what a crash left in the spool; younger files may be another process's.

    Args:
        now: seconds since 1970 UTC.
    """
    for path in directory.iterdir():
        try:
            if path.stat().st_mtime < now - LEFT_SECONDS:
                path.unlink()
        except FileNotFoundError:
            pass  # its owner was faster


@implementer(ISpooled)
class Spooled:
    """A complete message, in memory or in a file; see `ISpooled`.

    Attributes:
        octets: all of them when kept in memory, else None.
        digest: SHA-256 in hexadecimal when kept in a file, else None.
        crc: CRC-32 of the octets.
        without_nul: they are in a file and no NUL is among them.
    """

    def __init__(
        self,
        description: Description,
        octets: bytes | None,
        path: str | None = None,
        descriptor: int | None = None,
        digest: str | None = None,
        crc: int = 0,
        without_nul: bool = False,
    ) -> None:
        self.size = description.size
        self.description = description
        self.octets = octets
        self.digest = digest
        self.crc = crc
        self.without_nul = without_nul
        self._path = path
        self._descriptor = descriptor
        self._synced = False
        self._failure: MailError | None = None
        self._lock = threading.Lock()

    def synced_path(self) -> str:
        """Path of the file, its octets durable; called by any writer thread.

        Raises:
            MailError: INVALID if it was discarded; DISK_FULL, UNAVAILABLE.
        """
        with self._lock:
            if self._failure is not None:  # for the other recipients it is a bad disk as well
                raise MailError(self._failure.kind, self._failure.text)
            if self._path is None or self._descriptor is None:
                raise MailError(ErrorKind.INVALID, "this message was discarded already")
            if not self._synced:
                try:
                    os.fsync(self._descriptor)
                except OSError as error:
                    # The kernel may have dropped the octets: no second try (R4).
                    self._forget()
                    self._failure = disk_error(error)
                    raise self._failure from error
                self._synced = True
            return self._path

    def discard(self) -> None:
        """Remove the spool file, if any."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        path, self._path = self._path, None
        descriptor, self._descriptor = self._descriptor, None
        with suppress(OSError):  # of a bad disk; what is left goes at a later start (R4)
            if descriptor is not None:
                os.close(descriptor)
            if path is not None:
                os.unlink(path)


@implementer(ISpool)
class Spool:
    """Octets of one message while they come in; see `ISpool`.

    Args:
        directory: for files.
        max_size: octets that a message may have.
        work: runs a long computation off the reactor.
    """

    def __init__(
        self,
        directory: Path,
        max_size: int,
        work: Callable[[Callable[[], Description]], Awaitable[Description]],
    ) -> None:
        self._directory = directory
        self._max_size = max_size
        self._work = work
        self._newlines = Newlines()
        self._chunks: list[bytes] = []
        self._size = 0
        self._crc = 0
        self._digest = sha256()
        self._without_nul = True
        self._path: str | None = None
        self._descriptor: int | None = None
        self._error: MailError | None = None
        self._being_described = False  # another thread reads the file

    def write(self, octets: bytes) -> None:
        """Add octets; see `ISpool.write`."""
        if self._error is None:
            self._add(self._newlines.feed(octets))

    def _add(self, octets: bytes) -> None:
        self._size += len(octets)
        if self._size > self._max_size:
            self._fail(
                MailError(ErrorKind.TOO_BIG, f"a message may have at most {self._max_size} octets")
            )
        self._crc = checksum(octets, self._crc)
        self._chunks.append(octets)
        if self._size > KEPT_INLINE:
            try:
                self._spill()
            except OSError as error:
                self._fail(disk_error(error))

    def _spill(self) -> None:
        """Move what is in memory to the file."""
        if self._descriptor is None:
            path = str(self._directory / secrets.token_hex(16))
            self._descriptor = open_new(path)
            self._path = path
        octets = b"".join(self._chunks)
        self._chunks.clear()
        self._without_nul = self._without_nul and b"\0" not in octets
        left = memoryview(octets)
        self._digest.update(left)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _fail(self, error: MailError) -> None:
        self._error = error
        self.discard()
        raise error

    async def finish(self) -> Spooled:
        """Complete and describe the message; see `ISpool.finish`."""
        if self._error is not None:
            raise self._error
        self._add(self._newlines.close())
        if not self._size:
            self._fail(MailError(ErrorKind.BAD_MESSAGE, "a message of no octets is refused"))
        if self._descriptor is None:
            octets = b"".join(self._chunks)
            return Spooled(describe(octets), octets, crc=self._crc)
        descriptor, path = self._descriptor, self._path
        self._being_described = True
        try:
            description = await self._work(lambda: _describe_file(descriptor))
            if self._error is not None:
                raise self._error
        except BaseException:
            self._being_described = False
            self.discard()
            raise
        self._descriptor = self._path = None
        return Spooled(
            description,
            None,
            path,
            descriptor,
            self._digest.hexdigest(),
            self._crc,
            self._without_nul,
        )

    def discard(self) -> None:
        """Forget everything."""
        if self._error is None:
            self._error = MailError(ErrorKind.INVALID, "this message was discarded")
        self._chunks.clear()
        if self._being_described:
            return  # `finish` does the rest: the descriptor's number must stay this file's
        path, self._path = self._path, None
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if path is not None:
            Path(path).unlink(missing_ok=True)


def _describe_file(descriptor: int) -> Description:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as octets:
        return describe(octets)
