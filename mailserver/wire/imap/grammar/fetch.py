"""FETCH: data items, sections and partial ranges (RFC 3501 §6.4.5, RFC 3516 §4.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from mailserver.model.ids import MAX_MODSEQ, MAX_UID
from mailserver.wire.imap.commands import (
    MACROS,
    BinarySection,
    BinarySize,
    BodySection,
    Fetch,
    FetchAtt,
    FetchItem,
    Parameter,
    SectionText,
)
from mailserver.wire.imap.faults import SyntaxFault
from mailserver.wire.imap.grammar.parameters import Table, parse_optional_parameters
from mailserver.wire.imap.scanner import Scanner

FETCH_MODIFIERS: Table = {}
"""RFC 4466 §2.5: modifiers of FETCH."""

MOST_REMEMBERED = 200
"""Octets of a list of items that is not read anew each time."""

_PLAIN: dict[bytes, FetchItem] = {
    **{att.value: att for att in FetchAtt},
    b"RFC822": BodySection(old_name=b"RFC822"),
    b"RFC822.HEADER": BodySection(text=SectionText.HEADER, peek=True, old_name=b"RFC822.HEADER"),
    b"RFC822.TEXT": BodySection(text=SectionText.TEXT, old_name=b"RFC822.TEXT"),
}
"""Items without brackets."""

_ITEM = re.compile(rb"[A-Za-z0-9.]++")
_ITEMS_WITHOUT_BRACKETS = re.compile(rb"(?:[A-Za-z0-9.]++(?: ++|(?=\))))*+")
# section = "[" [section-part] ["." section-text] "]", cut between numbers and words
_SECTION = re.compile(rb"\[([0-9.]*+)([A-Za-z.]*+)")
_PARTIAL = re.compile(rb"<([0-9]{1,19})\.([1-9][0-9]{0,18})>")
_FIELD_NAMES = re.compile(rb" ++\( *+((?:[!#$&'+-9;-Z\[^-z|}~]++(?: ++|(?=\))))++)\)")
_FIELD_NAME = re.compile(rb"[!-9;-~]++")
_TEXTS = {text.value: text for text in SectionText}
_WITH_FIELDS = frozenset({SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT})
_BRACKET = 0x5B
_ANGLE = 0x3C
_PARENTHESIS = 0x28


def parse_fetch(scanner: Scanner) -> Fetch:
    """Read FETCH (RFC 3501 §6.4.5)."""
    # fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att /
    #         "(" fetch-att *(SP fetch-att) ")") [fetch-modifiers]
    scanner.space()
    numbers = scanner.sequence_set()
    scanner.space()
    items, modifiers = _asked(scanner)
    return Fetch(numbers, items, scanner.by_uid, modifiers)


_Asked: TypeAlias = tuple[tuple[FetchItem, ...], tuple[Parameter, ...]]


def _asked(scanner: Scanner) -> _Asked:
    """Read the rest of the command: clients ask for a few lists of items again and again."""
    rest = scanner.octets[scanner.at :]
    if len(rest) <= MOST_REMEMBERED and b'"' not in rest and b"{" not in rest:
        try:
            return _remembered(rest)
        except SyntaxFault:
            pass  # read again, for its place in the command
    return _read(scanner)


@lru_cache(maxsize=256)
def _remembered(rest: bytes) -> _Asked:
    return _read(Scanner(rest))


def _read(scanner: Scanner) -> _Asked:
    items: tuple[FetchItem, ...]
    if scanner.peek() == _PARENTHESIS:
        items = _items(scanner)
    else:
        items = _macro(scanner) or (_fetch_item(scanner),)
    return items, parse_optional_parameters(scanner, FETCH_MODIFIERS, "a FETCH modifier")


def _items(scanner: Scanner) -> tuple[FetchItem, ...]:
    """Read the list of items; those without brackets at its front, often all, at once."""
    scanner.open()
    start = scanner.at
    items: list[FetchItem] = []
    match = _ITEMS_WITHOUT_BRACKETS.match(scanner.octets, start)
    if match is not None:
        try:
            items = [_PLAIN[name] for name in match[0].upper().split()]
            scanner.at = match.end()
        except KeyError:
            pass  # item by item, to find which
    others = scanner.items(_fetch_item)
    items += others
    if not items:
        scanner.fail("expected an item of FETCH", start)
    if len(others) > 1 or len(set(map(id, items))) < len(items):
        return tuple(dict.fromkeys(items))
    return tuple(items)


def _macro(scanner: Scanner) -> tuple[FetchAtt, ...] | None:
    match = _ITEM.match(scanner.octets, scanner.at)
    macro = MACROS.get(match[0].upper()) if match is not None else None
    if match is not None and macro is not None:
        scanner.at = match.end()
    return macro


def _fetch_item(scanner: Scanner) -> FetchItem:
    start = scanner.at
    match = _ITEM.match(scanner.octets, start)
    if match is None:
        scanner.fail("expected an item of FETCH")
    scanner.at = match.end()
    name = match[0].upper()
    if scanner.peek() != _BRACKET:
        item = _PLAIN.get(name)
        if item is None:
            scanner.fail("expected an item of FETCH that is known here", start)
        return item
    if name == b"BODY" or name == b"BODY.PEEK":
        path, text, fields = read_section(scanner)
        return BodySection(path, text, fields, _partial(scanner), name != b"BODY")
    if name == b"BINARY" or name == b"BINARY.PEEK":
        path = _section_binary(scanner)
        return BinarySection(path, _partial(scanner), name != b"BINARY")
    if name == b"BINARY.SIZE":
        return BinarySize(_section_binary(scanner))
    scanner.fail("expected an item of FETCH that is known here", start)


def read_section(
    scanner: Scanner,
) -> tuple[tuple[int, ...], SectionText, tuple[str, ...]]:
    """Read a section with its brackets: path, text and field names of a `BodySection`.

    Also used for responses, which write sections alike.
    """
    start = scanner.at
    match = _SECTION.match(scanner.octets, start)
    if match is None:
        scanner.fail("expected [")
    numbers, word = match[1], match[2]
    text = _TEXTS.get(word.upper())
    if text is None:
        scanner.fail("expected a section such as 1.2 or HEADER", start + 1)
    scanner.at = match.end()
    path: tuple[int, ...] = ()
    if numbers:
        if word:
            if not numbers.endswith(b"."):
                scanner.fail("expected . between part number and text of a section", start + 1)
            numbers = numbers[:-1]
        path = _path(scanner, numbers, start + 1)
    elif text is SectionText.MIME:
        scanner.fail("MIME needs a part number before it", start + 1)  # section-text
    fields: tuple[str, ...] = ()
    if text in _WITH_FIELDS:
        fields = _field_names(scanner)
    _close_bracket(scanner)
    return path, text, fields


def _section_binary(scanner: Scanner) -> tuple[int, ...]:
    # section-binary = "[" [section-part] "]"
    start = scanner.at
    path, text, _ = read_section(scanner)
    if text is not SectionText.ALL:
        scanner.fail("expected a part number only", start + 1)
    return path


def _path(scanner: Scanner, numbers: bytes, start: int) -> tuple[int, ...]:
    path: list[int] = []
    for number in numbers.split(b"."):
        if not number or number[0] == 0x30 or len(number) > 10 or int(number) > MAX_UID:
            scanner.fail("expected part numbers above 0 with a dot between them", start)
        path.append(int(number))
    return tuple(path)


def _field_names(scanner: Scanner) -> tuple[str, ...]:
    # header-list = "(" header-fld-name *(SP header-fld-name) ")"; mostly all are atoms
    match = _FIELD_NAMES.match(scanner.octets, scanner.at)
    if match is not None:
        scanner.at = match.end()
        return tuple(match[1].decode("ascii").split())
    scanner.space()
    return tuple(scanner.list_of(_field_name, "a header field name"))


def _field_name(scanner: Scanner) -> str:
    start = scanner.at
    name = scanner.astring("a header field name")
    if _FIELD_NAME.fullmatch(name) is None:
        scanner.fail("expected a header field name", start)
    return name.decode("ascii")


def _close_bracket(scanner: Scanner) -> None:
    if scanner.peek() != 0x5D:
        scanner.fail("expected ]")
    scanner.at += 1


def _partial(scanner: Scanner) -> tuple[int, int] | None:
    # partial = "<" number "." nz-number ">"
    if scanner.peek() != _ANGLE:
        return None
    match = _PARTIAL.match(scanner.octets, scanner.at)
    if match is None or int(match[1]) > MAX_MODSEQ or int(match[2]) > MAX_MODSEQ:
        scanner.fail("expected a range of octets such as <0.2048>")
    scanner.at = match.end()
    return int(match[1]), int(match[2])
