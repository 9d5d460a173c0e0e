"""Thousands of broken commands and responses: a clear fault or a value, never anything else."""

from __future__ import annotations

import random
import time

import pytest

from mailserver.wire.imap.command_writer import write_command
from mailserver.wire.imap.faults import SyntaxFault, UnknownCharset
from mailserver.wire.imap.grammar import PARSERS
from mailserver.wire.imap.reader import (
    BEFORE_LOGIN,
    NEED_DATA,
    CommandReader,
    Limits,
    Line,
    LiteralWanted,
)
from mailserver.wire.imap.response_parser import ResponseReader
from mailserver.wire.imap.scanner import Dialect, Scanner
from tests.wire.imap.command_cases import COMMANDS, FAULTS
from tests.wire.imap.response_cases import RESPONSES, TOLERATED

INPUTS = 2_000
SEEDS = range(4)
SPICE = [
    b"(", b")", b"[", b"]", b"{", b"}", b"{3}\r\n", b"{0+}\r\n", b"~{2+}\r\n\0\0", b'"', b'\\"',
    b"\\", b"\r", b"\n", b"\r\n", b"\0", b" ", b"  ", b"*", b"%", b"&", b"&AOk-", b"<0.1>", b",",
    b":", b".", b"+", b"-", b"\xc3\xa9", b"\xff", b"NIL", b"0", b"4294967295", b"9" * 20,
    b"(((((", b" NOT" * 40, b"UID ", b"1:*", b"A" * 300,
]  # fmt: skip
DIALECTS = [Dialect(), Dialect(utf8=True), Dialect(max_nesting=4)]
LIMITS = [BEFORE_LOGIN, Limits(line=100, literal=10, command=150, literals=3)]


def mutated(source: random.Random, corpus: list[bytes]) -> bytes:
    octets = bytearray(source.choice(corpus))
    for _ in range(source.choice([1, 1, 2, 3, 8])):
        at = source.randint(0, len(octets))
        length = source.choice([0, 0, 1, 2, 10])
        match source.randrange(5):
            case 0:
                octets[at : at + length] = source.choice(SPICE)
            case 1:
                octets[at : at + length] = source.randbytes(length)
            case 2:
                other = source.choice(corpus)
                cut = source.randint(0, len(other))
                octets[at:] = other[cut:]
            case 3:
                octets[at:at] = octets[at : at + length] * source.randint(1, 9)
            case 4 if octets:
                octets[min(at, len(octets) - 1)] ^= 1 << source.randrange(8)
    return bytes(octets)


def cut(source: random.Random, octets: bytes) -> list[bytes]:
    cuts = sorted(source.randint(0, len(octets)) for _ in range(source.randrange(4)))
    return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


def converse(source: random.Random, octets: bytes) -> int:
    """Read the octets as a session would; return the number of commands understood."""
    reader = CommandReader(source.choice(LIMITS))
    dialect = source.choice(DIALECTS)
    understood = 0
    for chunk in cut(source, octets):
        reader.feed(chunk)
        while (event := reader.next_event()) is not NEED_DATA:
            if isinstance(event, LiteralWanted):
                match source.randrange(4):
                    case 0:
                        reader.refuse()
                    case 1:
                        reader.stream()
                    case _:
                        reader.keep()
            elif isinstance(event, Line):
                scanner = Scanner(event.octets, dialect)
                try:
                    tag, name = scanner.head()
                    parser = PARSERS.get(name)
                    if parser is None:
                        continue
                    command = parser(scanner)
                except SyntaxFault as fault:
                    assert fault.text.isascii()
                    assert fault.text.isprintable()
                    assert 0 <= fault.position <= len(event.octets)
                except UnknownCharset:
                    pass
                else:
                    understood += 1
                    write_command(b"a", command, utf8=dialect.utf8)
                    assert tag
    return understood


@pytest.mark.parametrize("seed", SEEDS)
def test_commands(seed: int) -> None:
    source = random.Random(seed)
    corpus = [b"a " + octets + b"\r\n" for octets, _ in [*COMMANDS, *FAULTS]]
    understood = 0
    for _ in range(INPUTS // len(SEEDS)):
        octets = mutated(source, corpus)
        began = time.monotonic()
        understood += converse(source, octets + b"\r\nz NOOP\r\n")
        assert time.monotonic() - began < 1, octets
    assert understood > INPUTS // len(SEEDS) // 2  # it does get behind the first word


@pytest.mark.parametrize("seed", SEEDS)
def test_responses(seed: int) -> None:
    source = random.Random(seed)
    corpus = [octets + b"\r\n" for octets, _ in [*RESPONSES, *TOLERATED]]
    understood = 0
    for _ in range(INPUTS // len(SEEDS)):
        octets = mutated(source, corpus)
        reader = ResponseReader()
        began = time.monotonic()
        try:
            for chunk in cut(source, octets):
                reader.feed(chunk)
                while reader.next_response() is not None:
                    understood += 1
        except SyntaxFault as fault:
            assert fault.text.isascii()
        assert time.monotonic() - began < 1, octets
    assert understood > INPUTS // len(SEEDS) // 5
