"""FETCH: columns and octets of messages, by slices of one statement each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent
from mailserver.model.ids import Uid
from mailserver.model.message import Column, InternalDate
from mailserver.store.blobs import Blobs
from mailserver.store.content import FileContent, MemoryContent
from mailserver.store.engine import Connection, Row
from mailserver.store.limits import MAX_SLICE
from mailserver.store.sql import messages as sql

_EXPRESSIONS: dict[Column, str] = {
    # Two columns for one value: folded into one by `fetch`.
    Column.INTERNAL_DATE: "p.internal_seconds, p.internal_zone",
    Column.SIZE: "p.size",
    Column.ENVELOPE: "m.envelope",
    Column.BODY: "m.body",
    Column.BODY_STRUCTURE: "m.body_structure",
    Column.SECTIONS: "m.sections",
    Column.HEADER: "m.header",
    Column.HEADER_INDEX: "m.header_index",
    Column.PREVIEW: "m.preview",
    Column.SAVE_DATE: "p.saved",
    Column.EMAIL_ID: "p.message",
    Column.THREAD_ID: "m.thread",
    Column.HAS_ATTACHMENT: "m.has_attachment",
}


def _select(expressions: Sequence[str], uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
    """A statement for messages of a mailbox by UID, and its arguments after the mailbox.

    Raises:
        MailError: INVALID for more UIDs than one slice.
    """
    if len(uids) > MAX_SLICE:
        raise MailError(ErrorKind.INVALID, f"at most {MAX_SLICE} messages are read at once")
    arguments: tuple[Any, ...]
    joined = any(expression.startswith("m.") for expression in expressions)
    tables = "place p JOIN message m ON m.id = p.message" if joined else "place p"
    if uids and uids[-1] - uids[0] == len(uids) - 1:
        chosen, arguments = "p.uid BETWEEN ? AND ?", (uids[0], uids[-1])
    else:
        chosen = "p.uid IN (SELECT value FROM json_each(?))"
        arguments = (json.dumps(list(uids)),)
    columns = ", ".join(("p.uid", *expressions))
    return (
        f"SELECT {columns} FROM {tables} WHERE p.mailbox = ? AND {chosen} ORDER BY p.uid",
        arguments,
    )


def fetch(
    connection: Connection,
    blobs: Blobs,
    mailbox: int,
    uids: Sequence[int],
    columns: Sequence[Column],
) -> list[Row]:
    """Read columns; see `IMailStore.fetch`.

    Args:
        mailbox: number of its row.
        uids: ascending.
    """
    statement, arguments = _select([_EXPRESSIONS[column] for column in columns], uids)
    rows = connection.rows(statement, (mailbox, *arguments))
    # From the last to the first, because folding a date moves what stands behind it.
    for at in range(len(columns), 0, -1):
        column = columns[at - 1]
        here = at + columns[: at - 1].count(Column.INTERNAL_DATE)
        if column is Column.INTERNAL_DATE:
            rows = [
                (*row[:here], InternalDate(row[here], row[here + 1]), *row[here + 2 :])
                for row in rows
            ]
        elif column is Column.HAS_ATTACHMENT:
            rows = [(*row[:here], bool(row[here]), *row[here + 1 :]) for row in rows]
        elif column is Column.HEADER:
            rows = _with_long_headers(connection, blobs, mailbox, rows, here)
    return rows


def _with_long_headers(
    connection: Connection, blobs: Blobs, mailbox: int, rows: list[Row], at: int
) -> list[Row]:
    """Put in the headers that are too long to be kept beside the description."""
    statement, arguments = _select(["m.header_size", "length(m.header)"], [row[0] for row in rows])
    cut = {
        uid: size
        for uid, size, kept in connection.rows(statement, (mailbox, *arguments))
        if size != kept
    }
    if not cut:
        return rows
    out = []
    for row in rows:
        if row[0] in cut:
            [(_, content)] = contents(connection, blobs, mailbox, [row[0]], 0)
            row = (*row[:at], content.read(0, cut[row[0]]), *row[at + 1 :])
            content.close()
        out.append(row)
    return out


def contents(
    connection: Connection, blobs: Blobs, mailbox: int, uids: Sequence[int], limit: int
) -> list[tuple[Uid, IContent]]:
    """Open octets; see `IMailStore.contents`.

    Raises:
        MailError: CORRUPT if octets are not what was stored (R6).
    """
    statement, arguments = _select(
        ["p.message", "p.size", "m.digest", "m.crc", "m.prefix_size"], uids
    )
    chosen: list[Row] = []
    total = 0
    for row in connection.rows(statement, (mailbox, *arguments)):
        total += row[2]
        if chosen and total > limit:
            break
        chosen.append(row)
        if row[3] is not None:
            break  # an open file: one at a time
    return [(Uid(row[0]), _content(connection, blobs, row)) for row in chosen]


def _content(connection: Connection, blobs: Blobs, row: Row) -> IContent:
    _uid, message, size, digest, crc, prefix_size = row
    if digest is not None:
        found = connection.row(sql.PREFIX, (prefix_size, message)) if prefix_size else None
        return FileContent(blobs.open(digest), found[0] if found else b"", size)
    found = connection.row(sql.OCTETS, (message,))
    octets = found[0] + found[1] if found else b""
    if len(octets) != size or crc32(octets) != crc:
        raise MailError(ErrorKind.CORRUPT, "this message's octets are damaged; see mailctl verify")
    return MemoryContent(octets)
