"""The octets of stored messages, read in pieces (`IContent`)."""

from __future__ import annotations

import os

from zlib_ng.zlib_ng import crc32
from zope.interface import implementer

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent
from mailserver.model.message import FileSpan

_STEP = 5120
"""Octets; from one more on `crc32` lets other threads run."""


def checksum(octets: bytes, before: int = 0) -> int:
    """CRC-32 of octets that follow those whose checksum is `before`.

    In small steps: beside a busy writer thread, 22 KB in steps of one octet more took
    400 µs on average and not 3, the time to get the interpreter back.
    """
    if len(octets) <= _STEP:
        return crc32(octets, before)
    view = memoryview(octets)
    for at in range(0, len(view), _STEP):
        before = crc32(view[at : at + _STEP], before)
    return before


@implementer(IContent)
class MemoryContent:
    """Octets that came from the database."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)

    def read(self, start: int, end: int) -> bytes:
        """Return octets start..end, cut to the size."""
        return self._octets[start:end]

    def in_file(self, start: int, end: int) -> None:
        """They are in no file."""

    def close(self) -> None:
        """Nothing to give back."""


@implementer(IContent)
class FileContent:
    """Octets in a file, behind what this recipient alone has before them.

    Args:
        descriptor: of the open file, closed with this.
        prefix: octets before those of the file.
        size: of both.
        without_nul: no NUL is among the octets of the file.
    """

    def __init__(
        self, descriptor: int, prefix: bytes, size: int, *, without_nul: bool = False
    ) -> None:
        self._descriptor: int | None = descriptor
        self._prefix = prefix
        self._without_nul = without_nul
        self.size = size

    def read(self, start: int, end: int) -> bytes:
        """Return octets start..end, cut to the size."""
        end = min(end, self.size)
        before = len(self._prefix)
        at, left = max(start - before, 0), end - max(start, before)
        chunks = [self._prefix[start:end]] if start < before else []
        while left > 0:
            chunk = os.pread(self._file(), left, at)
            if not chunk:
                raise MailError(ErrorKind.CORRUPT, "this message's octets are cut off")
            chunks.append(chunk)
            at += len(chunk)
            left -= len(chunk)
        return b"".join(chunks)

    def in_file(self, start: int, end: int) -> FileSpan | None:
        """Where octets start..end lie, if they can be sent from there; see `IContent`."""
        before = len(self._prefix)
        if not self._without_nul or start < before:
            return None
        return FileSpan(self._file(), start - before, min(end, self.size) - before)

    def _file(self) -> int:
        if self._descriptor is None:
            raise MailError(ErrorKind.INVALID, "this message was closed already")
        return self._descriptor

    def close(self) -> None:
        """Give the file back."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()
