"""An account with something of everything, and ways to look at it without the store."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from mailserver.model.account import Account
from mailserver.model.numset import NumSet
from mailserver.store.maintenance.pages import Pages
from tests import mailgen
from tests.contract.rig import Rig, account, open_sqlite

ANN = account("ann@example.org")
BOB = account("bob@example.org")
BIG = b"Subject: big %d\r\n\r\n" + b"0123456789abcdef" * 6000
PREFIX = b"Return-Path: <sender@example.net>\r\n"

Message = tuple[bytes | None, bytes | None, str | None]
"""Header, rest and digest, as kept."""


def fill(rig: Rig, messages: int = 60) -> None:
    """Mail of all sorts in ann's mailboxes, and one private message in bob's."""
    for at in range(0, messages, 20):
        rig.append(*(mailgen.message(n) for n in range(at, at + 20)))
    rig.append(BIG % 1, BIG % 2)
    rig.deliver(BIG % 3, prefix=PREFIX)
    rig.deliver(mailgen.message(1000), prefix=PREFIX)
    rig.create("Lists/work")
    image = rig.image()
    rig.flag(image, [3, 4, 9], "\\Seen", "$Forwarded", "work")
    rig.flag(image, [12], "\\Deleted")
    rig.run(rig.store.copy(rig.who, image, NumSet.of([10, 11, 61]), rig.ref("Lists/work")))
    rig.expunge(image, 5, 6, 30)
    rig.store.close(image)
    rig.run(rig.store.create_account(BOB))
    rig.deliver(b"Subject: private\r\n\r\nonly for bob\r\n", to=BOB)
    rig.deliver(BIG % 99, to=BOB)


def closed(data: Path) -> Path:
    """Such accounts, closed properly."""
    rig = Rig(data, open_sqlite)
    fill(rig)
    rig.close()
    return data


def crashed(data: Path) -> Path:
    """Such accounts as a crash leaves them, with all of the newest in the log."""
    rig = Rig(data.with_name("running"), open_sqlite)
    fill(rig)
    shutil.copytree(rig.data, data)
    rig.close()
    return data


def directory(data: Path, of: Account = ANN) -> Path:
    return data / "accounts" / of.id[:2] / of.id


def database(data: Path, of: Account = ANN) -> Path:
    return directory(data, of) / "mail.sqlite"


@attrs.frozen
class Stored:
    """What SQLite reads of an account.

    Attributes:
        places: (mailbox, UID) → its message.
        flags: (mailbox, UID) → system flags and keywords.
        validity: mailbox → UIDVALIDITY.
        uid_next: mailbox → next UID.
    """

    places: dict[tuple[str, int], Message]
    flags: dict[tuple[str, int], tuple[int, str]]
    validity: dict[str, int]
    uid_next: dict[str, int]


def stored(data: Path, of: Account = ANN) -> Stored:
    """Read an account; of a copy, so that a log stays as it is."""
    copy = data.with_name(f"{data.name}-looked-at")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory(data, of), copy)
    with closing(sqlite3.connect(copy / "mail.sqlite")) as raw:
        rows = raw.execute(
            "SELECT b.name, p.uid, p.system, p.keywords, m.header, o.rest, m.digest"
            " FROM place p JOIN mailbox b ON b.number = p.mailbox JOIN message m"
            " ON m.id = p.message LEFT JOIN octets o ON o.message = m.id"
        ).fetchall()
        boxes = raw.execute("SELECT name, uid_validity, uid_next FROM mailbox").fetchall()
    shutil.rmtree(copy)
    return Stored(
        {(row[0], row[1]): row[4:] for row in rows},
        {(row[0], row[1]): row[2:4] for row in rows},
        {row[0]: row[1] for row in boxes},
        {row[0]: row[2] for row in boxes},
    )


def pages_of_messages(data: Path, of: Account = ANN) -> dict[Message, set[int]]:
    """Message → the pages of the database file on which any of it lies; no log."""
    path = database(data, of)
    reader = _Watched(path)
    headers: dict[int, tuple[bytes, str | None, set[int]]] = {}
    rests: dict[int, tuple[bytes, set[int]]] = {}
    for number in range(2, reader.count + 1):
        cells = reader.cells(number)
        while True:
            reader.read = set()
            cell = next(cells, None)
            if cell is None:
                break
            rowid, values, _ = cell
            touched = {number} | reader.read
            if rowid is None or values is None:
                continue
            if len(values) == 29:
                headers[rowid] = (values[-1], values[7], touched)
            elif len(values) == 2 and isinstance(values[1], bytes):
                rests[rowid] = (values[1], touched)
    out: dict[Message, set[int]] = {}
    for message, (header, digest, touched) in headers.items():
        rest, more = rests.get(message, (None, set()))
        out[header, rest, digest] = touched | more
    return out


class _Watched(Pages):
    """Notes which pages were read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: set[int] = set()

    def page(self, number: int) -> bytes:
        self.read.add(number)
        return super().page(number)


def change(data: Path, *statements_: str, of: Account = ANN) -> None:
    """Change the database as no program of ours does."""
    with closing(sqlite3.connect(database(data, of))) as raw:
        for statement in statements_:
            raw.execute(statement)
        raw.commit()


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(at)
        [octet] = file.read(1)
        file.seek(at)
        file.write(bytes([octet ^ (1 << bit)]))


def rig_on(data: Path) -> Rig:
    """A store on data that are there already."""

    class Opened(Rig):
        def __attrs_post_init__(self) -> None:
            self.open()

    made: Any = Opened(data, open_sqlite)
    return made  # type: ignore[no-any-return]
