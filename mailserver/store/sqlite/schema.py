"""The steps that make the schema of an account's database, and bring an older one up (R17)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailserver.store.sqlite.connection import SqliteConnection

_STEP = re.compile(r"\d{4}_\w+\.sql")


@cache
def steps() -> tuple[str, ...]:
    """The scripts `NNNN_name.sql` that make the schema, in order."""
    directory = resources.files("mailserver.store.sql").joinpath("schema")
    names = sorted(step.name for step in directory.iterdir() if _STEP.fullmatch(step.name))
    return tuple(directory.joinpath(name).read_text("utf-8") for name in names)


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: sqlite3's own `executescript` commits."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def apply_step(connection: SqliteConnection, number: int, script: str) -> None:
    """Make one schema step, unless another process has made it meanwhile (R17)."""
    connection.run("BEGIN IMMEDIATE")
    try:
        done = number > 1 and connection.row("SELECT 1 FROM schema WHERE version = ?", (number,))
        if not done:
            for statement in statements(script):
                connection.run(statement)
            connection.run("INSERT INTO schema VALUES (?, unixepoch())", (number,))
        connection.run("COMMIT")
    finally:
        if connection.in_transaction:
            connection.run("ROLLBACK")
