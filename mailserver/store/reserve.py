"""Some room on the disk kept back, so that mail can be removed when the disk is full (R3).

To remove a message is to write: flags, tombstone, log. On a disk without a free block that
would fail, and nobody could make room. So a file of some megabytes lies in the data
directory; for an operation that makes room it is taken away, and put back afterwards.
So it is when a database is opened: SQLite makes an index of the log, even to read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mailserver.store.blobs import open_new

SMALLEST = 64 << 10


class Reserve:
    """The file and its lending; used by all writer threads.

    Args:
        path: of the file; other processes on the same data share it.
        size: octets to keep back; 0 for none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._lock = threading.RLock()  # who has borrowed may open an account, and borrow again
        if size and not (path.exists() and path.stat().st_size >= size):
            with self.lent():  # make it, or make one whole that a full disk had cut
                pass

    def _fill(self) -> None:
        """Take as much as the disk has; nothing if the file is there."""
        try:
            descriptor = open_new(self._path)
        except OSError:  # there already, or no room for even that
            return
        try:
            size = self._size
            while size >= SMALLEST:
                try:
                    os.posix_fallocate(descriptor, 0, size)
                    return
                except OSError:
                    with suppress(OSError):  # of a bad disk; smaller is what is wanted (R4)
                        os.ftruncate(descriptor, 0)
                    size //= 2
        finally:
            os.close(descriptor)
        self._remove()

    def _remove(self) -> None:
        """Where that fails there is no room to lend; whoever needs it is told so by the disk."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Have the room free for a while; one thread at a time."""
        with self._lock:
            try:
                self._remove()
                yield
            finally:
                self._fill()
