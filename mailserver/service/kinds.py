"""Kinds of option values: how each is read, checked, shown and written.

A kind reads what TOML gives as well as the text of a command line, and says in a
`ValueError` what it would take instead.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Generic, TypeVar

import attrs

from mailserver.auth.filters.grammar import parse_filters
from mailserver.errors import MailError
from mailserver.model.addresses import account_name, canonical_domain
from mailserver.model.networks import parse_network

T = TypeVar("T")

_MAX_INTEGER = 2**63 - 1
_MAX_SECONDS = 36_500 * 86_400.0
_SIZE_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "": Decimal(1),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


@attrs.frozen
class Kind(Generic[T]):
    """One kind of value.

    Attributes:
        label: what it takes, for people.
        unit: of a number, empty for none.
        parse: reads a TOML value or a text. Relative paths start at the second argument.
            Raises ValueError with the reason.
        show: writes the value so that `parse` reads the same.
    """

    label: str
    unit: str
    parse: Callable[[object, Path], T]
    show: Callable[[T], str]

    def toml(self, value: T) -> str:
        """Write the value as TOML: `true`, `42`, or a string."""
        text = self.show(value)
        if isinstance(value, bool) or (isinstance(value, int) and text.isdecimal()):
            return {"yes": "true", "no": "false"}.get(text, text)
        if isinstance(value, tuple):
            return "[" + ", ".join(json.dumps(str(one), ensure_ascii=False) for one in value) + "]"
        return json.dumps(text, ensure_ascii=False)


def _boolean(value: object, _: Path) -> bool:
    if isinstance(value, bool):
        return value
    found = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}.get(
        str(value).strip().lower()
    )
    if found is None:
        raise ValueError("takes yes or no (also true, false, 1, 0)")
    return found


BOOLEAN: Kind[bool] = Kind("yes or no", "", _boolean, lambda value: "yes" if value else "no")


def integer(
    low: int, high: int, *, unit: str = "", refusals: dict[int, str] | None = None
) -> Kind[int]:
    """Whole numbers from `low` to `high`, but for some with the reason why not."""

    def parse(value: object, _: Path) -> int:
        text = str(value).strip()
        if isinstance(value, bool | float) or not re.fullmatch(r"-?\d{1,19}", text):
            raise ValueError(f"takes a whole number from {low} to {high}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"is {number}, must be {low} to {high}")
        if refusals and number in refusals:
            raise ValueError(f"must not be {number}: {refusals[number]}")
        return number

    return Kind(f"whole number, {low} to {high}", unit, parse, str)


def port(refusals: dict[int, str] | None = None) -> Kind[int]:
    """TCP ports; 0 lets the system choose a free one."""
    return attrs.evolve(integer(0, 65535, refusals=refusals), label="port, 0 for any free one")


def size(low: int, high: int = _MAX_INTEGER) -> Kind[int]:
    """Octets, with or without a unit: `64MiB`, `5MB`, `4096`."""

    def parse(value: object, _: Path) -> int:
        match = _QUANTITY.fullmatch(str(value).strip())
        factor = _SIZE_UNITS.get(match[2].upper()) if match else None
        if isinstance(value, bool) or match is None or factor is None:
            raise ValueError("takes octets, or a size such as 64MiB, 512KiB or 5MB")
        octets = Decimal(match[1]) * factor
        if octets != int(octets):
            raise ValueError("is not a whole number of octets")
        if not low <= octets <= high:
            at_most = "" if high == _MAX_INTEGER else f" and at most {show_size(high)}"
            raise ValueError(f"must be at least {show_size(low)}{at_most}")
        return int(octets)

    return Kind("size such as 64MiB", "octets", parse, show_size)


def show_size(octets: int) -> str:
    """Write octets in the largest binary unit that divides them: `64MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _SIZE_UNITS[unit.upper()]
        if octets and octets % factor == 0:
            return f"{octets // factor}{unit}"
    return str(octets)


def duration(low: float, high: float = _MAX_SECONDS, *, why: str = "") -> Kind[float]:
    """Seconds, with or without a unit: `30min`, `2h`, `500ms`, `90`.

    Args:
        low, high: seconds, inclusive; at most a hundred years.
        why: said when a value is refused.
    """
    because = f" ({why})" if why else ""

    def parse(value: object, _: Path) -> float:
        match = _QUANTITY.fullmatch(str(value).strip())
        factor = _DURATION_UNITS.get(match[2].lower()) if match else None
        if isinstance(value, bool) or match is None or factor is None:
            raise ValueError("takes seconds, or a duration such as 30min, 2h or 500ms")
        seconds = float(Decimal(match[1]) * factor)
        if not low <= seconds <= high:
            is_usual = high == _MAX_SECONDS and seconds < low
            at_most = "" if is_usual else f" and at most {show_duration(high)}"
            raise ValueError(f"must be at least {show_duration(low)}{at_most}{because}")
        return seconds

    return Kind("duration such as 30min", "seconds", parse, show_duration)


def show_duration(seconds: float) -> str:
    """Write seconds in the largest unit that divides them: `30min`."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "min", "s"):
        count = exact / _DURATION_UNITS[unit]
        if exact and count == int(count):
            return f"{int(count)}{unit}"
    return f"{exact:f}s" if exact else "0s"


def _text(value: object, _: Path) -> str:
    if not isinstance(value, str):
        raise ValueError("takes a text")
    if not value.isprintable() or len(value) > 1000:
        raise ValueError("takes one line of at most 1000 printable characters")
    return value


TEXT: Kind[str] = Kind("text", "", _text, str)


def choice(*words: str) -> Kind[str]:
    """One of some words, in any case."""

    def parse(value: object, base: Path) -> str:
        text = str(value).strip().lower()
        if text not in words:
            raise ValueError(f"takes one of: {', '.join(words)}")
        return text

    return Kind(" or ".join(words), "", parse, str)


def _path(value: object, base: Path) -> Path | None:
    text = _text(value, base)
    try:
        return base / Path(text).expanduser() if text else None
    except RuntimeError:
        raise ValueError("names the home of a user who is not there") from None


PATH: Kind[Path | None] = Kind(
    "path, empty for none", "", _path, lambda value: str(value) if value else ""
)


def _paths(value: object, base: Path) -> tuple[Path, ...]:
    parts = value if isinstance(value, list) else str(value).split(os.pathsep)
    if any(os.pathsep in str(part) for part in parts):
        raise ValueError(f"takes no path with {os.pathsep} in it, which stands between paths")
    return tuple(path for path in (_path(part, base) for part in parts) if path is not None)


PATHS: Kind[tuple[Path, ...]] = Kind(
    "list of paths", "", _paths, lambda value: os.pathsep.join(map(str, value))
)


def _directory(value: object, base: Path) -> Path:
    path = _path(value, base)
    if path is None:
        raise ValueError("takes the path of a directory")
    return path


DIRECTORY: Kind[Path] = Kind("path of a directory", "", _directory, str)


def _domain(value: object, base: Path) -> str:
    text = _text(value, base).strip()
    try:
        return canonical_domain(text) if text else ""
    except MailError as error:
        raise ValueError(f"takes a domain: {error.text}") from None


DOMAIN: Kind[str] = Kind("domain, empty for none", "", _domain, str)


def words(label: str, check: Callable[[str], str]) -> Kind[tuple[str, ...]]:
    """A list of words: a TOML array, or a text with commas or spaces between them.

    Args:
        check: returns the spelling that is kept, or raises ValueError.
    """

    def parse(value: object, base: Path) -> tuple[str, ...]:
        if isinstance(value, str):
            parts: Sequence[object] = value.replace(",", " ").split()
        elif isinstance(value, list):
            parts = value
        else:
            raise ValueError(f"takes a list of {label}")
        return tuple(check(_text(part, base).strip()) for part in parts)

    return Kind(f"list of {label}", "", parse, ", ".join)


def choices(*known: str) -> Kind[tuple[str, ...]]:
    """A list of words out of some, in any case."""

    def check(word: str) -> str:
        if word.lower() not in known:
            raise ValueError(f"{word!r} is none of: {', '.join(known)}")
        return word.lower()

    return words(" or ".join(known), check)


def _ip_address(word: str) -> str:
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise ValueError(f"{word!r} is not an IP address") from None


def _network(word: str) -> str:
    try:
        return str(parse_network(word))
    except ValueError as error:
        raise ValueError(str(error)) from None


ADDRESSES: Kind[tuple[str, ...]] = words("IP addresses", _ip_address)
NETWORKS: Kind[tuple[str, ...]] = words("networks such as 192.0.2.0/24", _network)


def _account(word: str) -> str:
    try:
        return account_name(word)
    except MailError as error:
        raise ValueError(error.text) from None


def _capability(word: str) -> str:
    if not re.fullmatch(r"[!#$&'+,./0-9:;<=>?@A-Z^_`|~-]{1,100}", word.upper()):
        raise ValueError(f"{word!r} is not the name of a capability")
    return word.upper()


ACCOUNTS: Kind[tuple[str, ...]] = words("accounts with their domains", _account)
CAPABILITIES: Kind[tuple[str, ...]] = words("capabilities", _capability)

_MAX_FILTERS = 20_000  # characters


def _filters(value: object, _: Path) -> str:
    parts: list[object] = value if isinstance(value, list) else [value]
    texts = [part.strip() for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise ValueError("takes filters, each a text")
    text = "$".join(texts)
    if not text.isprintable() or len(text) > _MAX_FILTERS:
        raise ValueError(f"takes at most {_MAX_FILTERS} printable characters")
    try:
        # Whether a user needs the default domain is seen with all options together.
        parse_filters(text, "", allows=True, default_domain="invalid")
    except MailError as error:
        raise ValueError(error.text) from None
    return text


FILTERS: Kind[str] = Kind("filters such as imap: 192.0.2.0/24, $ between them", "", _filters, str)
