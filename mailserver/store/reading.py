"""FETCH: columns and octets of messages, by slices of one statement each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IContent
from mailserver.model.ids import Uid
from mailserver.model.message import Column, InternalDate
from mailserver.store.blobs import Blobs
from mailserver.store.content import FileContent, MemoryContent, checksum
from mailserver.store.engine import Connection, Row
from mailserver.store.limits import MAX_SLICE
from mailserver.store.sql import messages as sql

FILES = 4
"""Files that one command has open: as many clients as there are may read slowly."""

OpenFile = Callable[[str], int]
"""Opens the file of a digest; see `Blobs.open`."""

_EXPRESSIONS: dict[Column, str] = {
    # Two columns for one value: folded into one by `fetch`; so is HEADER.
    Column.INTERNAL_DATE: "p.internal_seconds, p.internal_zone",
    Column.SIZE: "p.size",
    Column.ENVELOPE: "m.envelope",
    Column.BODY: "m.body",
    Column.BODY_STRUCTURE: "m.body_structure",
    Column.SECTIONS: "m.sections",
    Column.HEADER: "m.header, m.header_size",
    Column.HEADER_SIZE: "m.header_size",
    # NULL for a message in a file, whose end `fetch` reads there.
    Column.ENDING: """
        CASE WHEN m.digest IS NOT NULL THEN NULL
        WHEN length(o.rest) >= 4 THEN substr(o.rest, -4)
        ELSE substr(CAST(coalesce(m.header, '') || coalesce(o.rest, '') AS BLOB), -4) END
    """,
    Column.HEADER_INDEX: "m.header_index",
    Column.PREVIEW: "m.preview",
    Column.SAVE_DATE: "p.saved",
    Column.EMAIL_ID: "p.message",
    Column.THREAD_ID: "m.thread",
    Column.HAS_ATTACHMENT: "m.has_attachment",
}


_FOLDED = frozenset({Column.INTERNAL_DATE, Column.HEADER})


def _select(expressions: Sequence[str], uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
    """A statement for messages of a mailbox by UID, and its arguments after the mailbox.

    Raises:
        MailError: INVALID for more UIDs than one slice.
    """
    if len(uids) > MAX_SLICE:
        raise MailError(ErrorKind.INVALID, f"at most {MAX_SLICE} messages are read at once")
    if uids and uids[-1] - uids[0] == len(uids) - 1:
        return _statement(tuple(expressions), _RANGE), (uids[0], uids[-1])
    return _statement(tuple(expressions), _LISTED), (json.dumps(list(uids)),)


_RANGE = "p.uid BETWEEN ? AND ?"
_LISTED = "p.uid IN (SELECT value FROM json_each(?))"


@lru_cache(maxsize=200)
def _statement(expressions: tuple[str, ...], chosen: str) -> str:
    tables = "place p"
    if any("m." in expression for expression in expressions):
        tables += " JOIN message m ON m.id = p.message"
    if any("o.rest" in expression for expression in expressions):
        tables += " LEFT JOIN octets o ON o.message = m.id"
    columns = ", ".join(("p.uid", *expressions))
    return f"SELECT {columns} FROM {tables} WHERE p.mailbox = ? AND {chosen} ORDER BY p.uid"


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
    # From the last to the first, because folding moves what stands behind it.
    for at in range(len(columns), 0, -1):
        column = columns[at - 1]
        here = at + sum(before in _FOLDED for before in columns[: at - 1])
        if column is Column.INTERNAL_DATE:
            rows = [
                (*row[:here], InternalDate(row[here], row[here + 1]), *row[here + 2 :])
                for row in rows
            ]
        elif column is Column.HAS_ATTACHMENT:
            rows = [(*row[:here], bool(row[here]), *row[here + 1 :]) for row in rows]
        elif column is Column.HEADER:
            rows = [
                (
                    *row[:here],
                    row[here]
                    if row[here] is not None and len(row[here]) == row[here + 1]
                    else _long_header(connection, blobs, mailbox, row[0], row[here + 1]),
                    *row[here + 2 :],
                )
                for row in rows
            ]
            rows = [row for row in rows if row[here] is not None]
        elif column is Column.ENDING:
            rows = [
                row
                if row[here] is not None
                else (*row[:here], _ending(connection, blobs, mailbox, row[0]), *row[here + 1 :])
                for row in rows
            ]
            rows = [row for row in rows if row[here] is not None]
    return rows


def _long_header(
    connection: Connection, blobs: Blobs, mailbox: int, uid: int, size: int
) -> bytes | None:
    """A header that is too long to be kept beside the description; None if it is gone."""
    for _, content in contents(connection, blobs.open, mailbox, [uid], 0):
        try:
            return content.read(0, size)
        finally:
            content.close()
    return None


def _ending(connection: Connection, blobs: Blobs, mailbox: int, uid: int) -> bytes | None:
    """The last four octets of a message that is kept in a file; None if it is gone."""
    for _, content in contents(connection, blobs.open, mailbox, [uid], 0):
        try:
            return content.read(max(0, content.size - 4), content.size)
        finally:
            content.close()
    return None


def unique_ids(connection: Connection, mailbox: int, uids: Sequence[int]) -> dict[int, str]:
    """Read what messages were called elsewhere; see `IMailStore.unique_ids`."""
    if not connection.row(sql.ANY_UNIQUE_ID, (mailbox,)):  # as in nearly all accounts
        return {}
    return dict(connection.rows(sql.UNIQUE_IDS, (mailbox, json.dumps(list(uids)))))


def contents(
    connection: Connection, open_file: OpenFile, mailbox: int, uids: Sequence[int], limit: int
) -> list[tuple[Uid, IContent]]:
    """Open octets; see `IMailStore.contents`.

    Raises:
        MailError: CORRUPT if octets are not what was stored (R6).
    """
    try:
        return _opened(connection, open_file, mailbox, uids, limit)
    except _Missing as missing:
        lost = missing
    # A file goes after the commit that took its last row; what was read may be older.
    if connection.row(sql.IS_THERE, (mailbox, lost.uid)):
        raise lost.error
    left = [uid for uid in uids if uid != lost.uid]
    return contents(connection, open_file, mailbox, left, limit) if left else []


class _Missing(Exception):
    """The file of this message is not there."""

    def __init__(self, uid: int, error: MailError) -> None:
        super().__init__(uid)
        self.uid = uid
        self.error = error


_WHOLE = (
    "p.size",
    "m.digest",
    "m.crc",
    # of a message in a file only what stands nowhere else
    "CASE WHEN m.digest IS NULL THEN m.header"
    " WHEN m.prefix_size > 0 THEN substr(m.header, 1, m.prefix_size) END",
    "o.rest",
    "CASE WHEN m.digest IS NOT NULL"
    " THEN EXISTS (SELECT 1 FROM without_nul WHERE message = m.id) END",
)


def _opened(
    connection: Connection, open_file: OpenFile, mailbox: int, uids: Sequence[int], limit: int
) -> list[tuple[Uid, IContent]]:
    """Open the first of these messages, up to `limit` octets and at most `FILES` files.

    Raises:
        MailError: CORRUPT.
        _Missing: the file is not there.
    """
    statement, arguments = _select(_WHOLE, uids)
    opened: list[tuple[Uid, IContent]] = []
    total = files = 0

    def take(row: Row) -> bool:
        nonlocal total, files
        uid, size, digest, crc, header, rest, without_nul = row
        if files == FILES or (total and total + size > limit):
            return False
        total += size
        if digest is not None:
            files += 1
            try:
                descriptor = open_file(digest)
            except MailError as error:
                raise _Missing(uid, error) from error
            content = FileContent(descriptor, header or b"", size, without_nul=bool(without_nul))
            opened.append((uid, content))
            return True
        octets = (header or b"") + (rest or b"")
        if len(octets) != size or checksum(octets) != crc:
            raise MailError(
                ErrorKind.CORRUPT, "this message's octets are damaged; see mailctl verify"
            )
        opened.append((uid, MemoryContent(octets)))
        return True

    connection.while_taken(statement, (mailbox, *arguments), take)
    return opened
