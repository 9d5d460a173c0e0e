"""The octets of an SQLite file to rows, also where SQLite itself gives up.

Follows the documents "Database File Format" and "WAL-mode File Format" of SQLite. Knows
nothing of mail. Theory of operation: the log is laid over the file as SQLite would do it;
the trees of all tables are walked from their roots; pages that no walk came to and that are
not on the free list are looked at one by one, and their rows given to the one table whose
columns they fit. A damaged page or cell costs the rows in it, never others.

Invariants: nothing here writes, and nothing here raises for what octets it finds.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

Row = tuple[Any, ...]

DEFAULT_PAGE_SIZE = 4096
_HEADER = 100  # octets of page 1 before its tree
_LOG_HEADER = 32
_FRAME_HEADER = 24
_LOG_MAGIC = 0x377F0682
_MAX_PAYLOAD = 1 << 30
_TABLE_INTERIOR, _TABLE_LEAF = 0x05, 0x0D
_INDEX_INTERIOR, _INDEX_LEAF = 0x02, 0x0A
_BROKEN = (IndexError, ValueError, OverflowError, struct.error)
"""What reading damaged octets may raise; UnicodeDecodeError is a ValueError."""


# -- the log ---------------------------------------------------------------------


@attrs.frozen
class LogIndex:
    """What the shared memory file says of the log.

    SQLite writes it only after the log was synced, so what it counts was durable.

    Attributes:
        salts: of the frames, as octets.
        frames: committed ones.
        copied: of them in the database already.
    """

    salts: bytes
    frames: int
    copied: int


@attrs.frozen
class Log:
    """The committed pages of a log.

    Attributes:
        pages: number → octets, newest.
        lost: committed frames that are damaged or missing and were not yet copied.
        is_known: False if it begins with noise, and no index tells what it held. A power cut
            can do that before anything is committed.
    """

    pages: dict[int, bytes]
    lost: int = 0
    is_known: bool = True


def read_index(database: Path) -> LogIndex | None:
    """Read the shared memory file of a database; None if there is none or it says nothing.

    Must not be called while the same process has the database open: closing a file drops
    the locks on it.
    """
    try:
        octets = database.with_name(database.name + "-shm").read_bytes()[:136]
    except OSError:
        return None
    if len(octets) < 100 or octets[:48] != octets[48:96] or not octets[12]:
        return None
    frames, copied = struct.unpack_from("=I", octets, 16)[0], struct.unpack_from("=I", octets, 96)
    return LogIndex(octets[32:40], frames, copied[0])


def read_log(database: Path, page_size: int = DEFAULT_PAGE_SIZE) -> Log:
    """Read the log of a database, over damaged frames too where the index counts them."""
    index = read_index(database)
    try:
        octets = database.with_name(database.name + "-wal").read_bytes()
    except OSError:
        octets = b""
    lost_all = max(0, index.frames - index.copied) if index else 0
    if len(octets) < _LOG_HEADER:
        return Log({}, lost_all)
    magic, _version, size, _sequence = struct.unpack_from(">IIII", octets)
    salts = octets[16:24]
    order = ">" if magic & 1 else "<"
    chain = _checksum(octets[:24], (0, 0), order)
    sound = magic & ~1 == _LOG_MAGIC and chain == struct.unpack_from(">II", octets, 24)
    if not sound:
        if index is None:
            return Log({}, is_known=False)
        order, size, salts = "<" if sys.byteorder == "little" else ">", page_size, index.salts
    counted = index.frames if index is not None and index.salts == salts else 0
    copied = index.copied if index is not None else 0
    return _frames(octets, size, salts, order, chain if sound else None, counted, copied)


def _frames(
    octets: bytes,
    size: int,
    salts: bytes,
    order: str,
    chain: tuple[int, int] | None,
    counted: int,
    copied: int,
) -> Log:
    pages: dict[int, bytes] = {}
    open_: dict[int, bytes] = {}
    lost = number = 0
    for number, at in enumerate(range(_LOG_HEADER, len(octets), _FRAME_HEADER + size), 1):
        data = octets[at + _FRAME_HEADER : at + _FRAME_HEADER + size]
        head = octets[at : at + _FRAME_HEADER]
        if len(data) < size:
            number -= 1
            break
        page, committed = struct.unpack_from(">II", head)
        stored: tuple[int, int] = struct.unpack_from(">II", head, 16)
        if chain is not None:
            chain = _checksum(data, _checksum(head[:8], chain, order), order)
        if chain != stored or head[8:16] != salts:
            if number > counted:
                number -= 1
                break
            lost += number > copied
        chain = stored
        open_[page] = data
        if committed or number == counted:
            pages.update(open_)
            open_.clear()
    missing = max(0, counted - max(number, copied))
    return Log(pages, lost + missing)


def _checksum(octets: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = before
    for one, other in struct.iter_unpack(order + "II", octets):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


# -- pages and records -------------------------------------------------------------


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 octets and where it ends."""
    value = 0
    for _ in range(8):
        octet = octets[at]
        at += 1
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at
    return value << 8 | octets[at], at + 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def record(payload: bytes) -> Row:
    """The values of one record.

    Raises:
        ValueError, IndexError: it is none.
    """
    end, at = _varint(payload, 0)
    types: list[int] = []
    while at < end:
        code, at = _varint(payload, at)
        types.append(code)
    if at != end or end > len(payload):
        raise ValueError("the header of the record does not end where it says")
    values: list[Any] = []
    for code in types:
        if code == 0:
            values.append(None)
        elif code in _INTEGER_SIZES:
            size = _INTEGER_SIZES[code]
            values.append(int.from_bytes(payload[at : at + size], "big", signed=True))
            at += size
        elif code in (8, 9):
            values.append(code - 8)
        elif code >= 12:
            size = (code - 12) // 2
            octets = payload[at : at + size]
            values.append(octets.decode("utf-8") if code % 2 else octets)
            at += size
        else:
            raise ValueError("a kind of value that is not kept here")
    if at != len(payload):
        raise ValueError("the values do not fill the record")
    return tuple(values)


class Pages:
    """The pages of a database file with its log laid over.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.read_bytes()
        except FileNotFoundError:
            self._file = b""
        size = int.from_bytes(self._file[16:18], "big")
        size = 65536 if size == 1 else size
        self.size = size if size >= 512 and size & (size - 1) == 0 else DEFAULT_PAGE_SIZE
        self.log = read_log(path, self.size)
        sizes = {len(page) for page in self.log.pages.values()}
        if len(sizes) == 1:
            [self.size] = sizes
        on_disk = -(-len(self._file) // self.size)
        # A frame with a damaged number must not make the file endless.
        limit = on_disk + len(self.log.pages)
        self.count = max([on_disk, *(n for n in self.log.pages if n <= limit)])

    def page(self, number: int) -> bytes:
        """The octets of a page, 1-based.

        Raises:
            IndexError: there is none.
        """
        found = self.log.pages.get(number)
        if found is None:
            if not 1 <= number <= self.count:
                raise IndexError("no such page")
            found = self._file[(number - 1) * self.size : number * self.size]
            found = found.ljust(self.size, b"\0")
        return found

    def free(self) -> set[int]:
        """The pages on the free list, as far as it can be followed."""
        found: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36], "big") if self.count else 0
        while trunk and trunk <= self.count and trunk not in found:
            found.add(trunk)
            page = self.page(trunk)
            after, leaves = struct.unpack_from(">II", page)
            for leaf in struct.unpack_from(f">{min(leaves, self.size // 4 - 2)}I", page, 8):
                found.add(leaf)
            trunk = after
        return found

    def cells(self, number: int) -> Iterator[tuple[int | None, Row | None, int | None]]:
        """The cells of a tree's page: (rowid or None, values or None, child page or None).

        The right-most child comes as a cell of its own. Cells that cannot be read are left
        out.
        """
        try:
            page = self.page(number)
        except IndexError:
            return
        start = _HEADER if number == 1 else 0
        kind = page[start]
        interior = kind in (_TABLE_INTERIOR, _INDEX_INTERIOR)
        if not interior and kind not in (_TABLE_LEAF, _INDEX_LEAF):
            return
        pointers = start + (12 if interior else 8)
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        for at in range(pointers, min(pointers + 2 * count, self.size - 1), 2):
            try:
                yield self._cell(page, kind, int.from_bytes(page[at : at + 2], "big"))
            except _BROKEN:
                continue
        if interior:
            yield None, None, int.from_bytes(page[start + 8 : start + 12], "big")

    def _cell(self, page: bytes, kind: int, at: int) -> tuple[int | None, Row | None, int | None]:
        child = rowid = None
        if kind in (_TABLE_INTERIOR, _INDEX_INTERIOR):
            child = int.from_bytes(page[at : at + 4], "big")
            at += 4
            if kind == _TABLE_INTERIOR:
                return None, None, child
        length, at = _varint(page, at)
        if kind == _TABLE_LEAF:
            unsigned, at = _varint(page, at)
            rowid = _signed(unsigned)
        try:
            return rowid, record(self._payload(page, at, length, kind == _TABLE_LEAF)), child
        except _BROKEN:
            if child is None:
                raise
            return None, None, child

    def _payload(self, page: bytes, at: int, length: int, of_table: bool) -> bytes:
        """The octets of a cell, those on overflow pages too."""
        if length > _MAX_PAYLOAD:
            raise ValueError("too long")
        usable = self.size
        most = usable - 35 if of_table else (usable - 12) * 64 // 255 - 23
        if length <= most:
            octets = page[at : at + length]
            if len(octets) < length:
                raise ValueError("cut off")
            return octets
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
        chunks = [page[at : at + local]]
        overflow = int.from_bytes(page[at + local : at + local + 4], "big")
        left = length - local
        while left > 0:
            page = self.page(overflow)
            chunks.append(page[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            overflow = int.from_bytes(page[:4], "big")
        return b"".join(chunks)


# -- tables --------------------------------------------------------------------------


@attrs.frozen
class Table:
    """What is known of a table or an index without the file.

    Attributes:
        name: of it.
        root: page where its tree begins.
        columns: (type, may be null) in the order of declaration; empty for anything.
        order: place of each stored value among the columns.
        key: column that is the rowid, or None.
        is_index: its tree is that of an index: indexes, tables without rowid.
        added: what rows that are older than the last columns have in these.
    """

    name: str
    root: int
    columns: tuple[tuple[str, bool], ...]
    order: tuple[int, ...]
    key: int | None
    is_index: bool
    added: Row = ()

    def row(self, rowid: int | None, values: Row) -> Row | None:
        """The values in the order of declaration, or None if they do not fit."""
        if not self.columns:
            return values if rowid is None else (*values, rowid)
        short = len(self.columns) - len(values)
        if not 0 <= short <= len(self.added):
            return None
        values = (*values, *self.added[len(self.added) - short :])
        out = list(values)
        for value, at in zip(values, self.order, strict=True):
            out[at] = value
        if self.key is not None:
            out[self.key] = rowid
        for value, (kind, nullable) in zip(out, self.columns, strict=True):
            if not (isinstance(value, _PYTHON_TYPES[kind]) or (value is None and nullable)):
                return None
        return tuple(out)


_PYTHON_TYPES: dict[str, type] = {"INTEGER": int, "TEXT": str, "BLOB": bytes}


_COLUMNS = (
    "SELECT one.name, count(*) FROM sqlite_schema one, pragma_table_info(one.name)"
    " WHERE one.type = 'table' GROUP BY one.name"
)


def tables(script: Sequence[str]) -> dict[str, Table]:
    """The tables and indexes that these statements make in an empty database."""
    with sqlite3.connect(":memory:") as model:
        first: dict[str, int] = {}  # table -> columns that it was made with
        for statement in script:
            model.execute(statement)
            for name, columns in model.execute(_COLUMNS).fetchall():
                first.setdefault(name, columns)
        found = model.execute(
            "SELECT type, name, rootpage, sql FROM sqlite_schema WHERE rootpage > 0"
        ).fetchall()
        made = {}
        for kind, name, root, sql in found:
            columns = model.execute(f"PRAGMA table_info({name})").fetchall()
            typed = all(column[2] in _PYTHON_TYPES for column in columns)
            if kind != "table" or not typed:
                made[name] = Table(name, root, (), (), None, kind != "table")
                continue
            without_rowid = "WITHOUT ROWID" in sql
            keys = sorted((column[5], column[0]) for column in columns if column[5])
            order = [at for _, at in keys] if without_rowid else []
            order += [column[0] for column in columns if column[0] not in order]
            rowid = len(keys) == 1 and not without_rowid and columns[keys[0][1]][2] == "INTEGER"
            made[name] = Table(
                name,
                root,
                tuple((column[2], not column[3] and not column[5]) for column in columns),
                tuple(order),
                keys[0][1] if rowid else None,
                without_rowid,
                tuple(
                    model.execute(f"SELECT {column[4]}").fetchone()[0]
                    for column in columns[first[name] :]
                ),
            )
    model.close()
    return made


@attrs.frozen
class Salvaged:
    """What could be read.

    Attributes:
        rows: by table or index: values in the order of declaration; of an index its own.
        whole_log: nothing that was committed is missing in the log.
        strays: pages with rows that belong to a table but that its tree does not reach.
    """

    rows: dict[str, list[Row]]
    whole_log: bool
    strays: int


def salvage(path: Path, known: dict[str, Table], shapes: Sequence[str]) -> Salvaged:
    """Read all rows that can be read of a database file and its log.

    Args:
        path: of the file; nobody may be writing it.
        known: what `tables` says of its schema; roots are taken from the file if it has them.
        shapes: names of tables whose rows can be told from those of all others by their
            columns; of pages without an owner only such rows are taken.
    """
    pages = Pages(path)
    roots = {name: table.root for name, table in known.items()}
    for _, values, _ in pages.cells(1):
        match values:
            case (_, str(name), _, int(root), _) if name in roots and 1 < root <= pages.count:
                roots[name] = root
    rows: dict[str, list[Row]] = {name: [] for name in known}
    seen = {1}
    for name, table in known.items():
        waiting = [roots[name]]
        while waiting:
            number = waiting.pop()
            if number in seen or not 1 < number <= pages.count:
                continue
            seen.add(number)
            for rowid, values, child in pages.cells(number):
                if child is not None:
                    waiting.append(child)
                if values is not None and (row := table.row(rowid, values)) is not None:
                    rows[name].append(row)
    strays = 0
    for number in sorted(set(range(2, pages.count + 1)) - seen - pages.free()):
        taken = _stray_rows(pages, number, [known[name] for name in shapes])
        strays += bool(taken)
        for name, row in taken:
            rows[name].append(row)
    return Salvaged(rows, pages.log.is_known and not pages.log.lost, strays)


def _stray_rows(pages: Pages, number: int, candidates: Sequence[Table]) -> list[tuple[str, Row]]:
    taken = []
    for rowid, values, _ in pages.cells(number):
        if values is None:
            continue
        for table in candidates:
            if table.is_index == (rowid is None):
                row = table.row(rowid, values)
                if row is not None:
                    taken.append((table.name, row))
                    break
    return taken
