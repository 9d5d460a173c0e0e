"""Mailbox names, their special uses, and the patterns of LIST.

Names are text: modified UTF-7 exists on the wire only. One function, `canonical`,
decides what a name is before anything uses it (S8): NFC, INBOX in capitals wherever
it is the first component (T21), no empty components, no control characters.
"""

from __future__ import annotations

import unicodedata
from enum import Enum

import attrs

from mailserver.errors import ErrorKind, MailError

DELIMITER = "/"
"""The hierarchy delimiter of every namespace."""

MAX_NAME_LENGTH = 1000
"""Characters of a full mailbox name."""

MAX_DEPTH = 50
"""Components of a mailbox name."""

INBOX = "INBOX"


class SpecialUse(Enum):
    """Special uses of mailboxes (RFC 6154 §2, RFC 8457 §3); the value is the attribute."""

    ALL = "\\All"
    ARCHIVE = "\\Archive"
    DRAFTS = "\\Drafts"
    FLAGGED = "\\Flagged"
    IMPORTANT = "\\Important"
    JUNK = "\\Junk"
    SENT = "\\Sent"
    TRASH = "\\Trash"


NEW_ACCOUNT_MAILBOXES: tuple[tuple[str, SpecialUse | None], ...] = (
    (INBOX, None),
    ("Drafts", SpecialUse.DRAFTS),
    ("Sent", SpecialUse.SENT),
    ("Archive", SpecialUse.ARCHIVE),
    ("Junk", SpecialUse.JUNK),
    ("Trash", SpecialUse.TRASH),
)
"""What a new account holds, all subscribed."""


def canonical(name: str) -> str:
    """Return the one spelling of a mailbox name.

    A single delimiter at the end is dropped: RFC 9051 §6.3.4 lets a client
    announce children that way.

    Raises:
        MailError: CANNOT with the reason, for an empty or overlong name, an empty
            component, a control character or a lone surrogate.
    """
    name = unicodedata.normalize("NFC", name)
    name = name.removesuffix(DELIMITER)
    if not name:
        raise MailError(ErrorKind.CANNOT, "a mailbox name must not be empty")
    if len(name) > MAX_NAME_LENGTH:
        raise MailError(
            ErrorKind.CANNOT, f"a mailbox name has at most {MAX_NAME_LENGTH} characters"
        )
    components = name.split(DELIMITER)
    if len(components) > MAX_DEPTH:
        raise MailError(ErrorKind.CANNOT, f"mailboxes nest at most {MAX_DEPTH} levels deep")
    if "" in components:
        raise MailError(
            ErrorKind.CANNOT, f"a mailbox name has no empty part before or after {DELIMITER!r}"
        )
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise MailError(
                ErrorKind.CANNOT, f"a mailbox name must not hold U+{ord(character):04X}"
            )
    if components[0].upper() == INBOX:
        components[0] = INBOX
    return DELIMITER.join(components)


def parents(name: str) -> list[str]:
    """List the superiors of a name, outermost first, without the name itself."""
    parts = name.split(DELIMITER)
    return [DELIMITER.join(parts[:n]) for n in range(1, len(parts))]


@attrs.frozen
class ListPattern:
    """A mailbox name with the wildcards of LIST (RFC 9051 §6.3.9): `*`, and `%` which
    stops at the delimiter (T22).

    Matching takes time O(pattern × name) whatever the pattern (S4).
    """

    pattern: str

    @classmethod
    def joined(cls, reference: str, pattern: str) -> ListPattern:
        """Join reference and pattern; both as text, already decoded from mUTF-7."""
        text = unicodedata.normalize("NFC", reference + pattern)
        head, slash, rest = text.partition(DELIMITER)
        if head.upper() == INBOX:
            text = INBOX + slash + rest
        return cls(text)

    def matches(self, name: str) -> bool:
        """Say whether the canonical name matches the whole pattern.

        INBOX, the name, matches without regard to case.
        """
        if name == INBOX and _matches(self.pattern.upper(), INBOX):
            return True
        return _matches(self.pattern, name)


def _matches(pattern: str, name: str) -> bool:
    """Run the pattern as a set of states over the name: `live[i]` is a position in it.

    The two patterns that every client asks first need no run.
    """
    if pattern == "*":
        return True
    if pattern == "%":
        return DELIMITER not in name
    live = _skip_wildcards(pattern, {0})
    for character in name:
        following: set[int] = set()
        for at in live:
            if at == len(pattern):
                continue
            wanted = pattern[at]
            if wanted == "*" or (wanted == "%" and character != DELIMITER):
                following.add(at)
            elif wanted == character and wanted != "%":
                following.add(at + 1)
        if not following:
            return False
        live = _skip_wildcards(pattern, following)
    return len(pattern) in live


def _skip_wildcards(pattern: str, live: set[int]) -> set[int]:
    """Add the positions that are reached without reading: past wildcards."""
    out = set(live)
    for at in live:
        while at < len(pattern) and pattern[at] in "*%":
            at += 1
            if at in out:
                break  # what lies beyond is reached from there: a run is walked once (S4)
            out.add(at)
    return out
