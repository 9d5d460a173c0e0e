"""What other POP3 servers called the messages of a Maildir.

A client that leaves its mail on the server goes by these names. Dovecot makes them of a
format (`pop3_uidl_format`) and what stands in its file `dovecot-uidlist`, where a field P
gives one outright; Courier keeps them in `courierpop3dsizelist`. A line that cannot be read
names nothing: then the message gets a new name, as all do without these files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

DOVECOT_DEFAULT: Final = "%08Xu%08Xv"
"""Dovecot's `pop3_uidl_format` where none is set."""

_DOVECOT_FILE: Final = "dovecot-uidlist"
_COURIER_FILE: Final = "courierpop3dsizelist"
_UNIQUE_ID: Final = re.compile("[!-~]{1,70}")  # RFC 1939 §7

_HEADER_FIELD: Final = re.compile(rb"(?mi)^x-uidl:[ \t]*([!-~]{1,70})[ \t]*\r?$")

# A variable of Dovecot's formats: %, modifiers (zero-padded width, case, hexadecimal), name.
_VARIABLE: Final = re.compile(r"%(?:%|(0?)([0-9]{0,2})([LUX]*)([uvfg]))")


class FormatError(Exception):
    """A format names what cannot be known of a message in a Maildir."""


def check_format(format_: str) -> str:
    """Return a format of Dovecot's that can be used here.

    Raises:
        FormatError: it holds something else than %u, %v, %f and %g.
    """
    if "%" in _VARIABLE.sub("", format_) or not _VARIABLE.search(format_):
        raise FormatError(f"{format_}: expected a format of %u, %v, %f, %g, as in %08Xu%08Xv")
    return format_


def of_maildir(folder: Path, format_: str = DOVECOT_DEFAULT) -> dict[str, str]:
    """Find what the messages of a Maildir were called.

    Args:
        format_: by which Dovecot made the names, as `check_format` returned it.

    Returns:
        Name of the file, without flags → unique id, 1 to 70 characters 0x21 to 0x7E.
    """
    for name, read in (
        (_DOVECOT_FILE, lambda lines: _dovecot(lines, format_)),
        (_COURIER_FILE, _courier),
    ):
        try:
            text = (folder / name).read_text("utf-8", "surrogateescape")
        except OSError:
            continue
        found = read(iter(text.splitlines()))
        return {file: name for file, name in found if _UNIQUE_ID.fullmatch(name)}
    return {}


def of_header(octets: bytes) -> str | None:
    """Find what a message says of itself in a field X-UIDL, as UW IMAP and qpopper wrote it.

    Args:
        octets: of the message, with any line ends.
    """
    found = _HEADER_FIELD.search(re.split(rb"\r?\n\r?\n", octets, maxsplit=1)[0])
    return found[1].decode("ascii") if found else None


@attrs.frozen
class _Known:
    """What a format is filled with."""

    uid: int
    uid_validity: int
    file: str
    guid: str


_VALUES: Final[dict[str, Callable[[_Known], str]]] = {
    "u": lambda known: str(known.uid),
    "v": lambda known: str(known.uid_validity),
    "f": lambda known: known.file,
    "g": lambda known: known.guid,
}


def _filled(format_: str, known: _Known) -> str:
    def value(found: re.Match[str]) -> str:
        zero, width, modifiers, name = found.groups()
        if name is None:
            return "%"
        text = _VALUES[name](known)
        for modifier in modifiers:
            if modifier == "X":
                text = f"{int(text):x}" if text.isdigit() else text
            else:
                text = text.lower() if modifier == "L" else text.upper()
        width = int(width or 0)
        return text.rjust(width, "0") if zero else text[:width] if width else text

    return _VARIABLE.sub(value, format_)


def _dovecot(lines: Iterator[str], format_: str) -> Iterator[tuple[str, str]]:
    """Read `3 V1275660208 N25022 G3d…`, then lines `25006 P… G… :1276528487.M3P9.host:2,S`."""
    version, *fields = next(lines, "").split(" ")
    validity = {"1": r"([0-9]{1,10})", "3": r"V([0-9]{1,10})"}.get(version)
    found = [match[1] for field in fields if validity and (match := re.fullmatch(validity, field))]
    if not found:
        return
    for line in lines:
        head, _, file = line.partition(" :" if version == "3" else " ")
        uid, *extra = head.split(" ")
        if not (uid.isascii() and uid.isdigit() and len(uid) <= 10 and file):
            continue
        base = file.partition(":2,")[0]
        given = {field[:1]: field[1:] for field in extra}
        known = _Known(int(uid), int(found[0]), base, given.get("G", base))
        yield base, given.get("P") or _filled(format_, known)


def _courier(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Read `/3 26 1275660208`, then lines `1276528487.M3P9.host:2,S 1394 25:1275660208:0`.

    Version 2 lacks the last number, version 1 the last two; the UID 0 stands for names that
    are older than this file, and are those of the files.
    """
    if not re.fullmatch("/[123]( [0-9]{1,20}){1,2}", next(lines, "")):
        return
    for line in lines:
        found = re.fullmatch("(.+) [0-9]+ ([0-9]{1,20})(?::([0-9]{1,20}))?(?::[01])?", line)
        if found is None:
            continue
        base = found[1].partition(":2,")[0]
        number, validity = int(found[2]), int(found[3] or 0)
        if number:
            yield base, f"UID{number}-{validity}" if validity else f"UID{number}"
        else:
            yield base, re.sub("[^!-~]|['\"+]", lambda odd: f"+{ord(odd[0]):02X}", base)
