"""What an option is, and the table that finds one by its name.

Names compare without regard to case (SUN-6).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from typing import Any, Generic, TypeVar

import attrs

from mailserver.service.kinds import Kind, integer

T = TypeVar("T")

MASK = "********"
"""Shown in place of a secret that is set."""


class Applies(Enum):
    """What makes a changed option act."""

    RELOAD = "reload"  # SIGHUP
    RESTART = "restart"


@attrs.frozen(eq=False)
class Option(Generic[T]):
    """One option.

    Attributes:
        name: as written in documentation; compare `key`.
        kind: how values are read and shown.
        default: where nobody says otherwise.
        help: one line.
        applies: what makes a change act.
        per_host: may be given a host name as suffix, `name.host`, for that host only.
        is_secret: never shown.
        overridable: `configutil` may set it.
    """

    name: str
    kind: Kind[T]
    default: T
    help: str
    applies: Applies = Applies.RESTART
    per_host: bool = False
    is_secret: bool = False
    overridable: bool = True

    @property
    def key(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    def shown(self, value: T) -> str:
        """The value for people; a secret is masked."""
        text = self.kind.show(value)
        return MASK if self.is_secret and text else text


class OptionTable:
    """Options by name."""

    def __init__(self, options: Iterable[Option[Any]]) -> None:
        self.options = tuple(options)
        self._by_key = {option.key: option for option in self.options}
        if len(self._by_key) != len(self.options):
            raise ValueError("two options have one name")

    def find(self, name: str) -> tuple[Option[Any], str] | None:
        """Find an option and the host in its suffix, which is empty for none.

        Args:
            name: in any case.
        """
        key = name.lower()
        option = self._by_key.get(key)
        if option is not None:
            return option, ""
        head, dot, tail = key.rpartition(".")
        host = tail
        while dot:
            option = self._by_key.get(head)
            if option is not None:
                return (option, host) if option.per_host and host else None
            head, dot, tail = head.rpartition(".")
            host = f"{tail}.{host}"
        return None

    def has_below(self, prefix: str) -> bool:
        """Say whether any option's name goes on after this prefix and a dot."""
        return any(key.startswith(f"{prefix.lower()}.") for key in self._by_key)

    def nearest(self, name: str) -> str:
        """The option whose name looks most like this one; empty if none does."""
        found = difflib.get_close_matches(name.lower(), self._by_key, 1, 0.7)
        return self._by_key[found[0]].name if found else ""


RELOAD = Applies.RELOAD
COUNT = integer(1, 10**9)
COUNT_OR_NONE = integer(0, 10**9)


class Rows(list[Option[Any]]):
    """The options of one topic, in the order in which they are documented."""

    def row(
        self,
        name: str,
        kind: Kind[T],
        default: T,
        help: str,
        applies: Applies = Applies.RESTART,
        *,
        is_secret: bool = False,
        overridable: bool = True,
    ) -> Option[T]:
        """Make an option and put it at the end; arguments as the attributes of `Option`."""
        option = Option(
            name, kind, default, help, applies, is_secret=is_secret, overridable=overridable
        )
        self.append(option)
        return option
