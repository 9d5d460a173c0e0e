"""Reads the values that `describe` writes, as strictly as the grammar of RFC 3501 §9."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(rb'\(|\)|NIL(?=[ )]|\Z)|(\d+)|"((?:[^"\\\r\n\0\x80-\xff]|\\["\\])*)"| ')


def read(octets: bytes) -> Any:
    """Nested lists of bytes, int and None; fails on anything but one well-formed value.

    Between the members of a list stands one space, except between two lists.
    """
    stack: list[list[Any]] = [[]]
    at = 0
    before = b"("
    while at < len(octets):
        token = _TOKEN.match(octets, at)
        assert token is not None, octets[at : at + 40]
        at = token.end()
        text = token[0]
        if text == b" ":
            assert before not in (b"(", b" "), octets[at - 20 : at + 20]
        elif text == b"(":
            assert before in (b"(", b" ", b")"), octets[at - 20 : at + 20]
            stack.append([])
        elif text == b")":
            assert before not in (b" ", b"("), octets[at - 20 : at + 20]
            done = stack.pop()
            stack[-1].append(done)
        else:
            assert before in (b"(", b" "), octets[at - 20 : at + 20]
            if token[1] is not None:
                stack[-1].append(int(token[1]))
            elif text == b"NIL":
                stack[-1].append(None)
            else:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", token[2]))
        before = text
    ((value,),) = stack
    return value


def walk(structure: Any, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Any]]:
    """(path, body) of every numbered part of a BODYSTRUCTURE, as RFC 9051 §6.4.5.1 numbers."""
    found = []
    todo = [(structure, path, True)]
    while todo:
        body, path, is_message = todo.pop()
        if isinstance(body[0], list):
            if path and not is_message:
                found.append((path, body))
            inner = [each for each in body if isinstance(each, list)]
            count = next(n for n, each in enumerate(body) if not isinstance(each, list))
            inner = body[:count]
            todo += [(each, (*path, n), False) for n, each in reversed([*enumerate(inner, 1)])]
            continue
        if is_message:
            path = (*path, 1)
        found.append((path, body))
        if (body[0].lower(), body[1].lower()) == (b"message", b"rfc822"):
            todo.append((body[8], path, True))
    return found


def crlf(text: str | bytes) -> bytes:
    """A message written with plain line ends, as it is stored."""
    octets = text.encode() if isinstance(text, str) else text
    return octets.replace(b"\n", b"\r\n")
