"""One message of an archive, whatever its format."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import attrs

from mailserver.model.flags import MAX_KEYWORD_LENGTH, SYSTEM_BY_NAME, Flags
from mailserver.model.message import InternalDate
from mailserver.model.names import DELIMITER
from mailserver.wire.imap.writer import is_atom


@attrs.frozen
class ArchivedMessage:
    """A message in a file, with what the format says beside its octets.

    Attributes:
        mailbox: canonical name of the mailbox that it belongs to.
        octets: with whatever line ends the file has.
        flags: flags and keywords.
        date: when it arrived there; None if the format does not tell.
        key: the same on every reading of the same message from the same archive, and
            no other message's; an import that is repeated goes by it.
        position: octets of the archive read when this message ends, for progress.
        unique_id: what POP3 called it on the server that it comes from, if that is known.
    """

    mailbox: str
    octets: bytes
    flags: Flags
    date: InternalDate | None
    key: str
    position: int
    unique_id: str | None = None


class ArchiveError(Exception):
    """An archive cannot be read or written; the text names the file and the reason."""


def storable(names: Iterable[str]) -> Flags:
    """Make flags of names that a file gives, without those that no client could be told:
    of other programs, or damaged."""
    return Flags.of(*filter(_is_storable, names))


def _is_storable(name: str) -> bool:
    if name.startswith("\\"):
        return name.lower() in SYSTEM_BY_NAME
    return len(name) <= MAX_KEYWORD_LENGTH and is_atom(name.encode("utf-8", "replace"))


def printable(name: str) -> str:
    """The name of a file as text that can be kept: octets that are not UTF-8 as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def digest(octets: bytes) -> str:
    """Return a short fingerprint of the octets for keys."""
    return hashlib.sha256(octets).hexdigest()[:24]


def path_of(directory: Path, mailbox: str) -> Path:
    """Return where a mailbox goes below a directory, one component a level.

    A dot at the start of a component is written `%2E`, so that no name leads out of the
    directory (`..`) or makes a hidden file; `%` itself is then written `%25`.
    """
    parts = [part.replace("%", "%25") for part in mailbox.split(DELIMITER)]
    return directory.joinpath(*("%2E" + p[1:] if p.startswith(".") else p for p in parts))


def component_name(component: str) -> str:
    """Undo `path_of` for one component."""
    return component.replace("%2E", ".").replace("%25", "%")
