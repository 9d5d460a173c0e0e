r"""Flags and keywords (RFC 9051 §2.3.2).

System flags are bits, keywords are words; both compare without regard to case (T11).
`\Recent` is no flag here: it belongs to a session, not to a message (T9).
"""

from __future__ import annotations

from enum import Enum, IntFlag

import attrs


class System(IntFlag):
    """The system flags as bits; the values are what the store keeps, never change them."""

    ANSWERED = 1
    FLAGGED = 2
    DELETED = 4
    SEEN = 8
    DRAFT = 16


SYSTEM_NAMES: dict[System, str] = {
    System.ANSWERED: "\\Answered",
    System.FLAGGED: "\\Flagged",
    System.DELETED: "\\Deleted",
    System.SEEN: "\\Seen",
    System.DRAFT: "\\Draft",
}
"""Bit → name as written on the wire, in the order in which servers list them."""

SYSTEM_BY_NAME: dict[str, System] = {name.lower(): bit for bit, name in SYSTEM_NAMES.items()}
"""Lower-case name with its backslash → bit."""

# Operators of IntFlag cost half a microsecond each; flags are made and named by the thousand.
_COMBINATIONS = tuple(System(bits) for bits in range(32))
_NAMES_OF_COMBINATION = tuple(
    tuple(name for bit, name in SYSTEM_NAMES.items() if bits & bit) for bits in range(32)
)
_BITS_BY_NAME = {name: int(bit) for name, bit in SYSTEM_BY_NAME.items()}

MAX_KEYWORD_LENGTH = 255
"""Characters of one keyword; longer ones are refused."""


@attrs.frozen
class Flags:
    """The flags of one message.

    Attributes:
        system: the system flags.
        keywords: the keywords, spelled as the mailbox spells them, sorted without regard
            to case, no doubles.
    """

    system: System = System(0)
    keywords: tuple[str, ...] = ()

    @classmethod
    def of(cls, *names: str) -> Flags:
        r"""Make flags of names such as `\Seen` and `$Forwarded`.

        Raises:
            ValueError: a name that starts with a backslash and is no system flag
                (`\Recent` among them).
        """
        bits = 0
        keywords: dict[str, str] = {}
        for name in names:
            if name.startswith("\\"):
                bit = _BITS_BY_NAME.get(name.lower())
                if bit is None:
                    raise ValueError(f"{name} is not a flag that can be stored")
                bits |= bit
            else:
                keywords.setdefault(name.lower(), name)
        return cls(_COMBINATIONS[bits], tuple([keywords[key] for key in sorted(keywords)]))

    def names(self) -> list[str]:
        """List the names as written on the wire, system flags first."""
        return [*_NAMES_OF_COMBINATION[self.system], *self.keywords]

    def has_keyword(self, keyword: str) -> bool:
        """Say whether the keyword is set, in any case."""
        wanted = keyword.lower()
        return any(wanted == own.lower() for own in self.keywords)


class FlagOp(Enum):
    """What STORE does with the given flags (RFC 9051 §6.4.6)."""

    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


def apply_flags(old: Flags, op: FlagOp, given: Flags) -> Flags:
    """Return the flags that a message with `old` has after the operation (T7).

    Where a keyword is already set its old spelling stays.
    """
    if op is FlagOp.REPLACE:
        spelled = {word.lower(): word for word in old.keywords}
        words = {w.lower(): spelled.get(w.lower(), w) for w in given.keywords}
        return Flags(given.system, tuple(words[key] for key in sorted(words)))
    words = {word.lower(): word for word in old.keywords}
    if op is FlagOp.ADD:
        for word in given.keywords:
            words.setdefault(word.lower(), word)
        system = old.system | given.system
    else:
        for word in given.keywords:
            words.pop(word.lower(), None)
        system = old.system & ~given.system
    return Flags(system, tuple(words[key] for key in sorted(words)))
