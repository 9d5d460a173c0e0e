"""Mailbox names, their special uses, and the patterns of LIST.

Names are text: modified UTF-7 exists on the wire only. One function, `canonical`,
decides what a name is before anything uses it (S8): NFC, INBOX in capitals wherever
it is the first component (T21), no empty components, no control characters.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from functools import lru_cache

import attrs

from mailserver.errors import ErrorKind, MailError

DELIMITER = "/"
"""The hierarchy delimiter of every namespace."""

MAX_NAME_LENGTH = 1000
"""Characters of a full mailbox name."""

_MAX_DECOMPOSED = 4 * MAX_NAME_LENGTH
# No character is more than four decomposed. To compose a long text of combining marks
# takes quadratic time (S5), so that what must be too long is not looked at.

MAX_DEPTH = 50
"""Components of a mailbox name."""

_RUN_OF_WILDCARDS = re.compile(r"[*%]{2,}+")

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


@lru_cache(maxsize=500)  # clients name the same few mailboxes all day
def canonical(name: str) -> str:
    """Return the one spelling of a mailbox name.

    A single delimiter at the end is dropped: RFC 9051 §6.3.4 lets a client
    announce children that way.

    Raises:
        MailError: CANNOT with the reason, for an empty or overlong name, an empty
            component, a control character or a lone surrogate.
    """
    if len(name) > _MAX_DECOMPOSED:
        raise _too_long()
    name = unicodedata.normalize("NFC", name)
    name = name.removesuffix(DELIMITER)
    if not name:
        raise MailError(ErrorKind.CANNOT, "a mailbox name must not be empty")
    if len(name) > MAX_NAME_LENGTH:
        raise _too_long()
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


def _too_long() -> MailError:
    return MailError(ErrorKind.CANNOT, f"a mailbox name has at most {MAX_NAME_LENGTH} characters")


def parents(name: str) -> list[str]:
    """List the superiors of a name, outermost first, without the name itself."""
    parts = name.split(DELIMITER)
    return [DELIMITER.join(parts[:n]) for n in range(1, len(parts))]


@attrs.frozen
class ListPattern:
    """A mailbox name with the wildcards of LIST (RFC 9051 §6.3.9): `*`, and `%` which
    stops at the delimiter (T22).

    Matching takes time O(pattern × name) at worst, a 64th of that in practice, whatever
    the pattern (S4). A run of wildcards is written as the one that it means.
    """

    pattern: str

    @classmethod
    def joined(cls, reference: str, pattern: str) -> ListPattern:
        """Join reference and pattern; both as text, already decoded from mUTF-7."""
        text = _RUN_OF_WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", reference + pattern)
        if len(text) > 2 * _MAX_DECOMPOSED:
            return cls("")  # every other character is a letter: no name has so many
        text = unicodedata.normalize("NFC", text)
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
    """Run the pattern over the name as a set of states, the bits of a number: bit n says
    that the name so far is what stands before the pattern's (n + 1)st letter.

    The two patterns that every client asks first need no run.
    """
    if pattern == "*":
        return True
    if pattern == "%":
        return DELIMITER not in name
    if len(pattern) - pattern.count("*") - pattern.count("%") > len(name):
        return False
    letters, anything, part, end = _states(pattern)
    live = 1
    for letter in name:
        stays = live & (anything if letter == DELIMITER else part)
        live = (live & letters.get(letter, 0)) << 1 | stays
        if not live:
            return False
    return bool(live & end)


@lru_cache(maxsize=32)
def _states(pattern: str) -> tuple[dict[str, int], int, int, int]:
    """Read a pattern.

    Returns:
        For each letter the states that it leads on from; the states in which any letter
        may follow (`*`), and any but the delimiter (`*` or `%`); the last state.
    """
    letters: dict[str, int] = {}
    anything = part = 0
    state = 1
    for letter in pattern:
        if letter == "*":
            anything |= state
        elif letter == "%":
            part |= state
        else:
            letters[letter] = letters.get(letter, 0) | state
            state <<= 1
    return letters, anything, anything | part, state
