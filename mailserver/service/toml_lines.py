"""On which line of a TOML text a key stands: `tomllib` does not tell.

Good enough for messages: it reads table headers and `key =` at the start of a line, skips
strings of several lines, and does not look into inline tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PART = r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'"""
_PATH = rf"(?:{_PART})(?:[ \t]*\.[ \t]*(?:{_PART}))*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_PATH})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_PATH})[ \t]*=")
_PARTS = re.compile(_PART)
_LONG_QUOTES = ('"""', "'''")


def key_lines(text: str) -> dict[str, list[int]]:
    """Find the lines of every key and table header.

    Returns:
        Full dotted names in lower case, without quotes, to 1-based lines, ascending.
    """
    found: dict[str, list[int]] = {}
    table = ""
    for number, line in _lines_outside_strings(text):
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header is not None:
            table = name = _dotted(header[1])
        elif key is not None:
            name = f"{table}.{_dotted(key[1])}" if table else _dotted(key[1])
        else:
            continue
        found.setdefault(name, []).append(number)
    return found


def line_of(lines: dict[str, list[int]], name: str, occurrence: int = 0) -> int | None:
    """Find the line of a key, or that of the nearest table around it.

    Args:
        lines: from `key_lines`.
        name: dotted, in any case.
        occurrence: which one, where the name stands in the text several times.
    """
    name = name.lower()
    while name:
        if name in lines:
            return lines[name][min(occurrence, len(lines[name]) - 1)]
        name = name.rpartition(".")[0]
    return None


def _dotted(path: str) -> str:
    return ".".join(part.strip("\"'") for part in _PARTS.findall(path)).lower()


def _lines_outside_strings(text: str) -> Iterator[tuple[int, str]]:
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            if inside in line:
                inside = ""
            continue
        yield number, line
        for quotes in _LONG_QUOTES:
            if line.count(quotes) % 2:
                inside = quotes
