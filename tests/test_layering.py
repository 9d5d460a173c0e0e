"""Who may import whom (docs/architecture.md), read from the syntax tree of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mailserver"

EVERYTHING = None
MAY_IMPORT: dict[str, frozenset[str] | None] = {
    "__init__": frozenset(),
    "errors": frozenset(),
    "model": frozenset(),
    "interfaces": frozenset({"model"}),
    "mime": frozenset({"model"}),
    "wire": frozenset({"model"}),
    "store": frozenset({"interfaces", "mime", "model"}),
    "events": frozenset({"interfaces", "mime", "model"}),
    "auth": frozenset({"interfaces", "mime", "model"}),
    "client": frozenset({"wire", "model"}),
    "server": frozenset({"wire", "mime", "interfaces", "model"}),
    "web": frozenset({"client", "mime", "interfaces", "model"}),
    "service": EVERYTHING,
    "cli": EVERYTHING,
}
"""Part of `mailserver` -> parts it may import, beside itself, `errors` and `__version__`."""

PURE = frozenset({"model", "mime", "wire"})
"""Parts without input, output, clock or chance: those come in as arguments."""

IMPURE_MODULES = frozenset(
    "asyncio os random secrets select socket sqlite3 subprocess tempfile threading time"
    " twisted uuid".split()
)
CLOCK_CALLS = frozenset({"now", "today", "utcnow"})  # of datetime.datetime and datetime.date


def imports(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Every (line, absolute dotted name) that a module imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def violations(source: str, module: str) -> list[tuple[int, str]]:
    """The (line, rule) pairs that a module breaks.

    Args:
        source: text of the module.
        module: its dotted name; a package ends in `.__init__`.
    """
    part = module.split(".")[1]
    if part not in MAY_IMPORT:
        return [(1, f"{part} has no row in MAY_IMPORT")]
    allowed = MAY_IMPORT[part]
    tree = ast.parse(source)
    found = []
    for line, name in imports(tree, module):
        top, _, rest = name.partition(".")
        if top == "mailserver":
            target = rest.partition(".")[0]
            if allowed is not EVERYTHING and target not in allowed | {
                part,
                "errors",
                "__version__",
            }:
                may = ", ".join(sorted(allowed | {"errors"}))
                found.append((line, f"{part} may import {may}, not {target}"))
        elif part in PURE and top in IMPURE_MODULES:
            found.append((line, f"{part} is pure: no {top}"))
    if part in PURE:
        found += [
            (node.lineno, f"{part} is pure: no clock, so no .{node.func.attr}()")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CLOCK_CALLS
        ]
    return found


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_module_imports_only_what_its_part_may() -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line}: {rule}"
        for path, module in modules()
        for line, rule in violations(path.read_text("utf-8"), module)
    ]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("server.imap.session", "from mailserver.store import engine", "not store"),
        ("server.imap.session", "import mailserver.store.sqlite", "not store"),
        ("server.imap.session", "from mailserver import store", "not store"),
        ("server.imap.session", "from ...store import engine", "not store"),
        ("server.imap.__init__", "from ..lmtp import protocol\nfrom ... import auth", "not auth"),
        ("web.pages.inbox", "def f():\n    from mailserver.wire import imap", "not wire"),
        ("model.flags", "from mailserver import wire", "not wire"),
        ("mime.parser", "import sqlite3", "no sqlite3"),
        ("wire.imap.reader", "from twisted.internet import defer", "no twisted"),
        ("mime.dates", "import datetime\ndatetime.datetime.now()", "no clock"),
        ("model.ids", "from uuid import uuid4", "no uuid"),
        ("newpart.x", "", "no row"),
    ],
)
def test_a_forbidden_import_is_caught(module: str, source: str, rule: str) -> None:
    [(line, text)] = violations(source, f"mailserver.{module}")
    assert rule in text
    assert line == max(1, len(source.splitlines()))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server.imap.session", "from mailserver.interfaces import IMailStore"),
        ("server.imap.session", "from mailserver.errors import MailError"),
        ("server.imap.session", "from .view import View\nimport time"),
        ("server.connection", "from mailserver import __version__"),
        ("mime.dates", "from datetime import datetime\ndatetime.fromtimestamp(0)"),
        (
            "service.wiring",
            "from mailserver.store import sqlite\nfrom mailserver.server import imap",
        ),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert violations(source, f"mailserver.{module}") == []
