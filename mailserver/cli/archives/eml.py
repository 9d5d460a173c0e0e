"""Directories of `.eml` files, one message each; subdirectories are mailboxes.

The format knows no flags. The time of arrival is the message's Date field, because
files that were downloaded or unpacked carry the time of that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mailserver.cli.archives.message import (
    ArchivedMessage,
    ArchiveError,
    component_name,
    digest,
    path_of,
    printable,
)
from mailserver.mime.headers import parse_date, split_fields
from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.model.names import DELIMITER, INBOX, canonical

MAX_FIELDS = 1000
"""Header fields that are looked through for a date."""

_HEADER_END = re.compile(rb"\n\r?\n")


def read(path: Path, into: str) -> Iterator[ArchivedMessage]:
    """Read one `.eml` file, or all below a directory.

    Args:
        into: mailbox for the files directly in `path`, INBOX if empty; subdirectories
            become mailboxes below it.

    Raises:
        ArchiveError: nothing to read, or a file that cannot be read.
    """
    position = 0
    files = _files(path)
    if not files:
        raise ArchiveError(f"{path}: no .eml file there")
    for file in files:
        steps = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        parts = [component_name(step) for step in steps]
        mailbox = canonical(DELIMITER.join([into] * bool(into) + parts) or INBOX)
        try:
            octets = file.read_bytes()
        except OSError as error:
            raise ArchiveError(f"{file}: {error.strerror}") from error
        position += len(octets)
        if octets.strip():
            key = f"eml:{mailbox}:{printable(file.name)}:{digest(octets)}"
            yield ArchivedMessage(mailbox, octets, Flags(), _date(octets), key, position)


def size(path: Path) -> int:
    """Return the octets that `read` will go through."""
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*.eml") if file.is_file())


def _date(octets: bytes) -> InternalDate | None:
    end = _HEADER_END.search(octets)
    header = octets[: end.start() + 1 if end else len(octets)]
    for name, value, _start in split_fields(header, MAX_FIELDS):
        if name == b"date":
            sent = parse_date(value)
            return None if sent is None else InternalDate(sent.seconds)
    return None


class Writer:
    """Writes `<uid>.eml` files into a directory per mailbox; what is there is left alone."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._folder = directory

    def begin(self, mailbox: str) -> bool:
        """Start a mailbox; always True."""
        self._folder = path_of(self._root, mailbox)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return True

    def write(self, uid: int, octets: bytes, flags: Flags, date: InternalDate) -> None:
        """Add a message as it is, with CRLF; flags have no place here."""
        target = self._folder / f"{uid:010d}.eml"
        if target.exists():
            return
        temporary = target.with_suffix(".part")
        with temporary.open("wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.utime(temporary, (date.seconds, date.seconds))
        os.replace(temporary, target)

    def end(self) -> None:
        """Complete the mailbox."""
