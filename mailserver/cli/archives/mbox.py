"""mbox files, one per mailbox: read leniently, written as mboxrd.

A message starts at a line `From ` that stands at the start of the file or after an
empty line and holds a time and a year; anything else that starts so is text. Flags are
kept in the fields that mail programs agreed on: `Status` (R seen, O old), `X-Status`
(A answered, F flagged, T draft, D deleted) and `X-Keywords`; on reading they become
flags and leave the message.
"""

from __future__ import annotations

import calendar
import mmap
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mailserver.cli.archives.message import (
    ArchivedMessage,
    ArchiveError,
    component_name,
    digest,
    path_of,
    storable,
)
from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.model.names import DELIMITER, canonical

_FROM = re.compile(rb"\nFrom ")
# The first time, then the first year behind it, and no second look: another choice could
# not do better, and a line of many times would cost the fourth power of its length.
_SEPARATOR = re.compile(rb"From (?>[^\r\n]*?\d\d:\d\d)(?>[^\r\n]*?\d{4})[^\r\n]*+\r?\n")
_QUOTED_FROM = re.compile(rb"(?m)^>(>*From )")
_TO_QUOTE = re.compile(rb"(?m)^(>*From )")
_ASCTIME = re.compile(
    rb"([A-Z][a-z]{2}) +(\d{1,2}) +(\d\d):(\d\d)(?::(\d\d))? +"
    rb"(?:([A-Z]{1,5}|[+-](?:[01]\d|2[0-3])[0-5]\d) +)?(\d{4})"
)
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_OWN_FIELDS = re.compile(
    rb"(?mi)^(status|x-status|x-keywords|x-uid|x-imap|x-imapbase):((?:[^\n]*\n)(?:[ \t][^\n]*\n)*)"
)
_STATUS_FLAGS = {
    b"R": "\\Seen",
    b"A": "\\Answered",
    b"F": "\\Flagged",
    b"T": "\\Draft",
    b"D": "\\Deleted",
}


def read(path: Path, into: str) -> Iterator[ArchivedMessage]:
    """Read the messages of an mbox file, or of every file below a directory.

    Args:
        into: mailbox for the messages of a single file; for a directory each file is a
            mailbox of its own name below `into`.

    Raises:
        ArchiveError: a file that cannot be read, or is no mbox.
    """
    if not path.is_dir():
        yield from _read_file(path, canonical(into or "INBOX"), 0)
        return
    position = 0
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        relative = file.relative_to(path)
        if file.suffix == ".mbox":
            relative = relative.with_suffix("")
        parts = [component_name(part) for part in relative.parts]
        name = DELIMITER.join(([into] if into else []) + parts)
        yield from _read_file(file, canonical(name), position)
        position += file.stat().st_size


def size(path: Path) -> int:
    """Return the octets that `read` will go through."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def _read_file(path: Path, mailbox: str, position: int) -> Iterator[ArchivedMessage]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = _SEPARATOR.match(content)
            if start is None:
                raise ArchiveError(f"{path}: not an mbox file, it does not start with a From line")
            while start is not None:
                following = _next_separator(content, start.end())
                end = following.start() if following else len(content)
                octets = content[start.end() : end]
                message = _message(mailbox, start.group(), octets, start.start(), position + end)
                if message is not None:
                    yield message
                start = following


def _next_separator(content: mmap.mmap, at: int) -> re.Match[bytes] | None:
    """Find the next From line that stands after an empty line."""
    while found := _FROM.search(content, at):
        at = found.start() + 1
        before = content[at - 3 : at]
        if before.endswith(b"\n\n") or before == b"\n\r\n":
            separator = _SEPARATOR.match(content, at)
            if separator is not None:
                return separator
    return None


def _message(
    mailbox: str, separator: bytes, octets: bytes, offset: int, position: int
) -> ArchivedMessage | None:
    """Make a message of what stands between two separators; None for a placeholder."""
    octets = _without_last_line_end(octets)
    octets = _QUOTED_FROM.sub(rb"\1", octets)
    at = _header_end(octets)
    header, rest = octets[:at], octets[at:]
    names: list[str] = []
    placeholder = False

    def take(field: re.Match[bytes]) -> bytes:
        nonlocal placeholder
        name, value = field.group(1).lower(), field.group(2)
        if name in (b"status", b"x-status"):
            names.extend(flag for letter, flag in _STATUS_FLAGS.items() if letter in value)
        elif name == b"x-keywords":
            names.extend(value.decode("ascii", "replace").split())
        elif name == b"x-imap":
            placeholder = True
        return b""

    header = _OWN_FIELDS.sub(take, header)
    if placeholder and b"mailbox internal data" in octets.lower():
        return None  # the first message of UW IMAP's and Pine's files is no mail
    octets = header + rest
    if not octets.strip():
        return None
    return ArchivedMessage(
        mailbox,
        octets,
        storable(names),
        _separator_date(separator),
        f"mbox:{mailbox}:{offset}:{digest(octets)}",
        position,
    )


def _header_end(octets: bytes) -> int:
    """Return where the header ends: before the empty line."""
    ends = [at for at in (octets.find(b"\n\n"), octets.find(b"\n\r\n")) if at >= 0]
    return min(ends) + 1 if ends else len(octets)


def _without_last_line_end(octets: bytes) -> bytes:
    """Drop the empty line that stands between a message and the next From line."""
    if octets.endswith(b"\r\n\r\n"):
        return octets[:-2]
    if octets.endswith(b"\n\n"):
        return octets[:-1]
    return octets


def _separator_date(separator: bytes) -> InternalDate | None:
    """Read the time of a From line; without a zone it is UTC."""
    found = _ASCTIME.search(separator)
    if found is None or found.group(1) not in _MONTHS:
        return None
    month, day, hour, minute, second, zone, year = found.groups()
    offset = 0
    if zone and zone[:1] in b"+-":
        offset = (int(zone[1:3]) * 60 + int(zone[3:5])) * (-1 if zone[:1] == b"-" else 1)
    try:
        seconds = calendar.timegm(
            (
                int(year),
                _MONTHS.index(month) + 1,
                int(day),
                int(hour),
                int(minute),
                int(second or 0),
            )
        )
    except (ValueError, OverflowError):
        return None
    return InternalDate(seconds - offset * 60, offset)


class Writer:
    """Writes one mbox file per mailbox below a directory.

    A mailbox is written beside its file and put in place when it is complete, so after
    an interruption a repeated export has whole files only.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: BinaryIO | None = None
        self._target: Path | None = None

    def begin(self, mailbox: str) -> bool:
        """Start a mailbox; False if it is already there, complete."""
        target = path_of(self._directory, mailbox)
        target = target.with_name(target.name + ".mbox")
        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._target = target
        self._file = target.with_name(target.name + ".part").open("wb")
        return True

    def write(self, uid: int, octets: bytes, flags: Flags, date: InternalDate) -> None:
        """Add a message; octets with CRLF or LF, written with LF."""
        assert self._file is not None
        octets = octets.replace(b"\r\n", b"\n")
        at = _header_end(octets)
        stamp = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(date.seconds))
        self._file.write(b"From MAILER-DAEMON " + stamp.encode() + b"\n")
        self._file.write(_TO_QUOTE.sub(rb">\1", octets[:at] + _status_fields(flags) + octets[at:]))
        self._file.write(b"\n" if octets.endswith(b"\n") else b"\n\n")

    def end(self) -> None:
        """Complete the mailbox."""
        assert self._file is not None and self._target is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._file.name, self._target)
        self._file = self._target = None


def _status_fields(flags: Flags) -> bytes:
    names = set(flags.names())
    status = b"RO" if "\\Seen" in names else b"O"
    more = b"".join(
        letter for letter, flag in _STATUS_FLAGS.items() if letter != b"R" and flag in names
    )
    fields = b"Status: " + status + b"\n"
    if more:
        fields += b"X-Status: " + more + b"\n"
    if flags.keywords:
        fields += b"X-Keywords: " + " ".join(flags.keywords).encode("ascii", "replace") + b"\n"
    return fields
