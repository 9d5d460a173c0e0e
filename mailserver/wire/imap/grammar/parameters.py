"""Optional parameters in parentheses, one table for each place (RFC 4466 §2.1).

An extension is one row in the table of its place: name → reader of its value, or None for
a parameter without one. Whatever has no row is a fault (T54).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserver.wire.imap.commands import Parameter
from mailserver.wire.imap.scanner import Scanner

Table = Mapping[bytes, Callable[[Scanner], object] | None]
"""Name in upper case → reader of the value after its space."""


def parse_parameters(scanner: Scanner, table: Table, what: str) -> tuple[Parameter, ...]:
    """Read `(name [SP value] ...)` at the offset.

    Args:
        what: the kind of parameter, named in faults, for instance `a SELECT parameter`.
    """

    def parameter(scanner: Scanner) -> Parameter:
        start = scanner.at
        name = scanner.keyword(what)
        if name not in table:
            scanner.fail(f"expected {what} that is known here", start)
        if any(name == other for other in seen):
            scanner.fail(f"{what} was given twice", start)
        seen.append(name)
        read = table[name]
        if read is None:
            return Parameter(name)
        scanner.space()
        return Parameter(name, read(scanner))

    seen: list[bytes] = []
    return tuple(scanner.list_of(parameter, what))


def parse_optional_parameters(scanner: Scanner, table: Table, what: str) -> tuple[Parameter, ...]:
    """Read a space and parameters to the end of the command; nothing left is none."""
    if scanner.at_end():
        return ()
    scanner.space()
    out = parse_parameters(scanner, table, what)
    scanner.end()
    return out
