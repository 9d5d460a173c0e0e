"""Files with the octets of large messages: content-addressed, one set per account.

Order of a delivery (reliability rules): octets written, file synced, linked into the
account, the directory and each new parent synced; only then is the row committed. What a
crash leaves between is a file without a row, which nothing shows. A file is unlinked by
the account's writer after the commit that took its last row.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from mailserver.errors import ErrorKind, MailError

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})


def open_new(path: str | Path) -> int:
    """Create a file for reading and writing, 0600; it must not exist (S14)."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def sync_directory(path: str | Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory, 0700, and its missing parents, each durable in its parent."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    sync_directory(path.parent)


def disk_error(error: OSError) -> MailError:
    """The refusal for a failed system call."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MailError(ErrorKind.DISK_FULL, "the disk of the mail store is full")
    return MailError(
        ErrorKind.UNAVAILABLE,
        f"the mail store cannot use its disk: {os.strerror(error.errno or errno.EIO)}",
    )


class Blobs:
    """The files of one account.

    Args:
        directory: of the account; files go to `files/` in it.
    """

    def __init__(self, directory: str | Path) -> None:
        self._root = f"{directory}/files"

    def path(self, digest: str) -> Path:
        """Where the file of a digest (64 hexadecimal digits) lies, if it is there."""
        return Path(self._root, digest[:2], digest)

    def keep(self, digest: str, source: str) -> None:
        """Take in a synced file; durable afterwards. The source stays where it is.

        Raises:
            MailError: DISK_FULL, UNAVAILABLE.
        """
        target = self.path(digest)
        try:
            make_directory(target.parent)
            try:
                os.link(source, target, follow_symlinks=False)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._copy(source, target)
            # Also when the file was there: who put it there may not have got this far.
            sync_directory(target.parent)
        except OSError as error:
            raise disk_error(error) from error

    def _copy(self, source: str, target: Path) -> None:
        """Take in by copying, where the file system has no hard links."""
        temporary = target.with_name(f".{secrets.token_hex(8)}")
        out = open_new(temporary)
        try:
            with open(source, "rb") as octets, open(out, "wb") as copy:
                while chunk := octets.read(1 << 20):
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            os.rename(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def open(self, digest: str) -> int:
        """Open a file for reading.

        Raises:
            MailError: CORRUPT if it is gone.
        """
        try:
            path = f"{self._root}/{digest[:2]}/{digest}"  # a tenth of a Path's time
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MailError(
                ErrorKind.CORRUPT, "the file with this message's octets is missing"
            ) from None
        except OSError as error:
            raise disk_error(error) from error

    def unlink(self, digest: str) -> None:
        """Remove a file; a missing one is fine. Needs no sync: an orphan is harmless."""
        self.path(digest).unlink(missing_ok=True)
