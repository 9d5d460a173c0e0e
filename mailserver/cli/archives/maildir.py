"""Maildir, with folders as Maildir++ (`.Work.2024`) or as nested directories.

Flags are the letters after `:2,` (P passed, R replied, S seen, T trashed, D draft,
F flagged); keywords are small letters that Dovecot's `dovecot-keywords` file explains.
Folder names are in modified UTF-7. The time of arrival is the file's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mailserver.cli.archives import unique_ids
from mailserver.cli.archives.message import ArchivedMessage, ArchiveError, printable, storable
from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate
from mailserver.model.names import DELIMITER, INBOX, canonical
from mailserver.wire.imap import mutf7

_LETTERS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_LETTER_OF = {name: letter for letter, name in _LETTERS.items()}
_KEYWORDS_FILE = "dovecot-keywords"


def read(
    path: Path, into: str, uidl_format: str | None = unique_ids.DOVECOT_DEFAULT
) -> Iterator[ArchivedMessage]:
    """Read all messages of a Maildir and of the folders in it.

    Args:
        into: mailbox for the Maildir itself, INBOX if empty; folders become mailboxes
            below it, or top-level ones if it is empty.
        uidl_format: see `unique_ids.of_maildir`; None not to look for unique ids.

    Raises:
        ArchiveError: no Maildir there, or a file that cannot be read.
    """
    position = 0
    for folder, mailbox in _folders(path, into):
        words = _LETTERS | _keyword_letters(folder)
        looks = mailbox == INBOX and uidl_format is not None  # POP3 shows no other mailbox
        names = unique_ids.of_maildir(folder, uidl_format or "") if looks else {}
        for part in ("cur", "new"):
            for name, entry in _files(folder / part):
                base, _, info = name.partition(":2,")
                flags = storable(words[letter] for letter in info if letter in words)
                try:
                    octets = Path(entry).read_bytes()
                    arrived = int(os.stat(entry).st_mtime)
                except OSError as error:
                    raise ArchiveError(f"{entry}: {error.strerror}") from error
                position += len(octets)
                if octets:
                    key = f"maildir:{mailbox}:{printable(base)}"
                    yield ArchivedMessage(
                        mailbox,
                        octets,
                        flags,
                        InternalDate(arrived),
                        key,
                        position,
                        names.get(base),
                    )


def size(path: Path) -> int:
    """Return the octets that `read` will go through."""
    return sum(
        os.stat(entry).st_size
        for folder, _ in _folders(path, "")
        for part in ("cur", "new")
        for _, entry in _files(folder / part)
    )


def _folders(path: Path, into: str) -> list[tuple[Path, str]]:
    """List (directory, mailbox), the Maildir itself first, folders ascending."""
    if not (path / "cur").is_dir():
        raise ArchiveError(f"{path}: not a Maildir, it has no directory named cur")
    found = [(path, canonical(into or INBOX))]
    for directory, below, _ in sorted(os.walk(path)):
        below[:] = sorted(name for name in below if name not in ("cur", "new", "tmp"))
        folder = Path(directory)
        if folder == path or not (folder / "cur").is_dir():
            continue
        parts = [
            piece
            for step in folder.relative_to(path).parts
            for piece in (step[1:].split(".") if step.startswith(".") else [step])
        ]
        name = DELIMITER.join(([into] if into else []) + [_decoded(piece) for piece in parts])
        found.append((folder, canonical(name)))
    return found


def _decoded(piece: str) -> str:
    """Decode a folder's name; one that is no modified UTF-7 is taken as it stands."""
    try:
        return mutf7.decode(piece.encode("ascii"))
    except ValueError:
        return piece


def _files(directory: Path) -> list[tuple[str, str]]:
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return sorted(
            (entry.name, entry.path)
            for entry in entries
            if entry.is_file() and not entry.name.startswith(".")
        )


def _keyword_letters(folder: Path) -> dict[str, str]:
    """Read `dovecot-keywords`: lines of number and word, 0 is the letter a."""
    letters: dict[str, str] = {}
    try:
        lines = (folder / _KEYWORDS_FILE).read_text("ascii", "replace").splitlines()
    except OSError:
        return letters
    for line in lines:
        number, _, word = line.partition(" ")
        if re.fullmatch("[0-9]{1,2}", number) and int(number) < 26 and word:
            letters[chr(ord("a") + int(number))] = word
    return letters


class Writer:
    """Writes a Maildir++ tree. File names follow from the UID, so that a repeated
    export leaves what is there alone."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._folder = directory
        self._keywords: list[str] = []
        self._present: set[str] = set()

    def begin(self, mailbox: str) -> bool:
        """Start a mailbox; always True: messages that are there are passed over."""
        if mailbox == INBOX:
            self._folder = self._root
        else:
            pieces = [mutf7.encode(piece).decode("ascii") for piece in mailbox.split(DELIMITER)]
            for piece in pieces:
                if "." in piece:
                    raise ArchiveError(
                        f"{mailbox}: a Maildir folder's name cannot hold a dot; export it as mbox"
                    )
            self._folder = self._root / ("." + ".".join(pieces))
        for part in ("cur", "new", "tmp"):
            (self._folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._folder != self._root:
            (self._folder / "maildirfolder").touch(mode=0o600)
        self._keywords = [word for _, word in sorted(_keyword_letters(self._folder).items())]
        self._present = {name.partition(":2,")[0] for name, _ in _files(self._folder / "cur")}
        return True

    def write(self, uid: int, octets: bytes, flags: Flags, date: InternalDate) -> None:
        """Add a message; written with LF, as Maildir readers expect."""
        base = f"{date.seconds}.U{uid}.export"
        if base in self._present:
            return
        letters = {_LETTER_OF[name] for name in flags.names() if name in _LETTER_OF}
        letters |= {
            letter
            for word in flags.keywords
            if word not in _LETTER_OF and (letter := self._letter(word))
        }
        temporary = self._folder / "tmp" / base
        with temporary.open("wb") as file:
            file.write(octets.replace(b"\r\n", b"\n"))
            file.flush()
            os.fsync(file.fileno())
        os.utime(temporary, (date.seconds, date.seconds))
        os.replace(temporary, self._folder / "cur" / f"{base}:2,{''.join(sorted(letters))}")

    def end(self) -> None:
        """Complete the mailbox: write down what the keyword letters mean."""
        if self._keywords:
            lines = "".join(f"{n} {word}\n" for n, word in enumerate(self._keywords))
            (self._folder / _KEYWORDS_FILE).write_text(lines, "ascii", "replace")

    def _letter(self, word: str) -> str:
        """Give the letter of a keyword; empty for the 27th, which the format cannot hold."""
        if word not in self._keywords:
            if len(self._keywords) == 26:
                return ""
            self._keywords.append(word)
        return chr(ord("a") + self._keywords.index(word))
