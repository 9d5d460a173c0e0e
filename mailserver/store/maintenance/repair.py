"""A damaged account is made anew from all that can still be read of it (R6).

Every message whose octets have the right hash is kept: where its place can be read, there,
else in a mailbox `Recovered`. Everything that can be computed is computed anew. UIDs and
UIDVALIDITY stay where the mailbox's row, its places and its log leave no doubt; otherwise
the mailbox gets a new UIDVALIDITY and, since nothing that anybody knows of it holds any
more, a new id (T58). Mod-sequences rise, so that every client looks at everything again.
The database as it was is kept aside with its log.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import attrs

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.describe import FORMAT
from mailserver.model.account import Account
from mailserver.model.ids import MAX_UID, AccountId
from mailserver.model.message import Description, InternalDate
from mailserver.model.names import INBOX, NEW_ACCOUNT_MAILBOXES, SpecialUse, canonical, parents
from mailserver.store import texts
from mailserver.store.blobs import Blobs, open_new, sync_directory
from mailserver.store.limits import KEPT_INLINE
from mailserver.store.maintenance.layout import (
    account_directory,
    accounts_on_disk,
    exclusive,
    replace,
)
from mailserver.store.maintenance.pages import Row, Salvaged, salvage, tables
from mailserver.store.maintenance.verify import (
    STORED,
    Damaged,
    StoredMessage,
    described,
    description_row,
    octets_of,
    open_read_only,
)
from mailserver.store.sql import messages as message_sql
from mailserver.store.sql import quota as quota_sql
from mailserver.store.sqlite import schema
from mailserver.store.sqlite.connection import DATABASE, SqliteConnection
from mailserver.store.transactions.mailboxes import HIGHEST_FROM_CLOCK, new_id
from mailserver.store.transactions.quota import ACCOUNT_ROOT

RECOVERED: Final = "Recovered"
"""Name of the mailbox for messages whose own mailbox is not known any more."""

_SHAPES: Final = ("message", "mailbox", "place", "octets", "tombstone", "keyword")
"""Tables whose rows no other table's rows look like."""

_USES: Final = frozenset(use.value for use in SpecialUse)
_KEPT_AS_READ: Final = (
    "subscription", "alias", "acl", "annotation", "seen", "thread", "import", "unique_id",
)  # fmt: skip


@attrs.frozen
class Lost:
    """A message that is not what was stored.

    Attributes:
        mailbox: its name; None if it is not known.
        uid: in that mailbox, or None.
        subject: its base subject, if that can be read.
        why: in a few words.
    """

    mailbox: str | None
    uid: int | None
    subject: str
    why: str


@attrs.frozen
class Repaired:
    """What a repair did.

    Attributes:
        messages: kept, in all mailboxes.
        recovered: of them, in the mailbox `Recovered`.
        lost: messages that are not what was stored; what is left of them is in `aside`.
        renumbered: mailboxes with a new UIDVALIDITY.
        kept: the database as it was.
        aside: directory with the octets of lost messages; None if there are none.
    """

    account: AccountId
    messages: int
    recovered: int
    lost: tuple[Lost, ...]
    renumbered: tuple[str, ...]
    kept: Path
    aside: Path | None


def repair_account(data: Path, account: Account, now: float | None = None) -> Repaired:
    """Make an account's database anew from what can be read; durable, whole or not at all.

    Args:
        data: directory of the installation.
        account: as the directory has it; its limits count where its own are lost.
        now: seconds since 1970 UTC.

    Raises:
        MailError: IN_USE (another process has the account open), CORRUPT (the database is
            another account's, and that account's own is not to be found), UNAVAILABLE.
    """
    seconds = int(time.time() if now is None else now)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
    directory = account_directory(data, account.id)
    database = directory / DATABASE
    if not directory.is_dir():
        raise MailError(ErrorKind.NONEXISTENT, "there are no data of this account; restore them")
    known = tables([s for script in schema.steps() for s in schema.statements(script)])
    with exclusive(database) as uncertain:
        found = salvage(database, known, _SHAPES)
    stranger = _stranger(data, account.id, found)
    if stranger is not None:
        _bring_home(data, account.id, stranger)
    with exclusive(database):
        if stranger is not None:
            uncertain = False
            found = salvage(database, known, _SHAPES)
        work = _Repair(account, directory, found, uncertain, seconds, stamp)
        work.takes_orphans = stranger is None
        new = directory / f".{DATABASE}.repaired"
        texts.remove(new)
        work.build(new)
        kept = replace(database, new, f"damaged-{stamp}")
    aside = work.aside if work.aside.exists() else None
    return Repaired(
        account.id,
        work.count,
        work.recovered,
        tuple(work.lost),
        tuple(sorted(work.renumbered)),
        kept,
        aside,
    )


def _text_knows(directory: Path) -> int:
    """The highest message that the text for SEARCH was made from; 0 if it cannot be read."""
    try:
        text = open_read_only(directory / texts.DATABASE)
        try:
            return int(text.execute("SELECT max(done) FROM state").fetchall()[0][0] or 0)
        finally:
            text.close()
    except (sqlite3.Error, ValueError, TypeError):
        return 0


def owner_of(database: Path) -> str | None:
    """The account that a database says it is of, as far as that can be read."""
    try:
        connection = open_read_only(database)
        try:
            return str(connection.execute("SELECT id FROM account").fetchall()[0][0])
        finally:
            connection.close()
    except (sqlite3.Error, IndexError):
        return None


def _stranger(data: Path, account: AccountId, found: Salvaged) -> AccountId | None:
    """The other account of this installation whose database this is, or None. What was an
    account's own id before octets were flipped is nobody's."""
    owners = {row[0] for row in found.rows["account"]}
    if account in owners:
        return None
    return next((other for other in accounts_on_disk(data) if other in owners), None)


def _bring_home(data: Path, account: AccountId, stranger: AccountId) -> None:
    """Exchange two databases that stand in each other's place.

    Raises:
        MailError: CORRUPT if another account's stands here and its own is not found.
    """
    here = account_directory(data, account) / DATABASE
    for other in accounts_on_disk(data):
        there = account_directory(data, other) / DATABASE
        if other != account and there.exists() and owner_of(there) == account:
            with exclusive(here), exclusive(there):
                _exchange(here, there)
            return
    raise MailError(
        ErrorKind.CORRUPT,
        f"the mail database of account {stranger} stands here; put it back, then restore this"
        " account",
        subject=account,
    )


def _exchange(one: Path, other: Path) -> None:
    for suffix in ("", "-wal"):
        first = one.with_name(one.name + suffix)
        second = other.with_name(other.name + suffix)
        between = one.with_name(f".{one.name}{suffix}.exchanged")
        for old, new in ((first, between), (second, first), (between, second)):
            if old.exists():
                os.rename(old, new)
    for database in (one, other):
        texts.remove(database.with_name(texts.DATABASE))
        sync_directory(database.parent)


@attrs.define
class _Box:
    """A mailbox of the new database."""

    number: int
    id: str
    name: str
    selectable: int
    special_use: str | None
    quota_root: int
    uid_validity: int
    uid_next: int
    highest_modseq: int
    first_recent: int


_BOX: Final = (
    "number", "id", "name", "selectable", "special_use", "quota_root", "uid_validity", "uid_next",
    "highest_modseq", "pruned_modseq", "first_recent",
)  # fmt: skip
_MESSAGE: Final = ("id", *message_sql.MESSAGE_COLUMNS)


@attrs.define
class _Message:
    """An intact message.

    Attributes:
        without_nul: it is in a file, where no NUL is among its octets.
    """

    id: int
    thread: int
    description: Description
    prefix_size: int
    crc: int
    digest: str | None
    header: bytes
    rest: bytes | None
    without_nul: bool = False


class _Repair:
    """The work on one account, between what was read and the new database.

    Attributes:
        takes_orphans: files without a row may be this account's messages.
    """

    def __init__(
        self,
        account: Account,
        directory: Path,
        found: Salvaged,
        uncertain: bool,
        now: int,
        stamp: str,
    ) -> None:
        self.account = account
        self.aside = directory / f"damaged-{stamp}"
        self.lost: list[Lost] = []
        self.renumbered: list[str] = []
        self.count = self.recovered = 0
        self.takes_orphans = True
        self._rows = found.rows
        self._blobs = Blobs(directory)
        self._accounts = directory.parents[1]
        self._now = now
        self._sequences = {row[0]: row[1] for row in found.rows["sqlite_sequence"] if _pair(row)}
        older = _text_knows(directory) > self._sequences.get("message", 1 << 62)
        nothing = not self._rows["mailbox"]
        self._uncertain = uncertain or older or nothing or not found.whole_log
        self._history = {row[0]: row[1] for row in self._rows["name_history"]}
        self._places = {
            key: row for key, row in _first(self._rows["place"], 2).items() if 0 < key[1] < MAX_UID
        }
        self._messages: dict[int, _Message] = {}
        self._orphans = self._files_without_a_message()

    # -- messages ------------------------------------------------------------

    def _files_without_a_message(self) -> dict[str, int]:
        """Digest → octets of files that no row names."""
        at = _MESSAGE.index("digest")
        named = {row[at] for row in self._rows["message"]}
        directory = self._blobs.path("0" * 64).parents[1]
        return {
            path.name: path.stat().st_size
            for path in sorted(directory.rglob("*"))
            if path.is_file() and _is_digest(path.name) and path.name not in named
        }

    def _read_messages(self) -> None:
        rests: dict[int, list[bytes]] = {}
        for message, rest in self._rows["octets"]:
            rests.setdefault(message, []).append(rest)
        for row in self._rows["message"]:
            values = dict(zip(_MESSAGE, row, strict=True))
            if values["id"] in self._messages or values["id"] < 1:
                continue
            stored = StoredMessage(**{name: values[name] for name in STORED})
            for rest in rests.get(stored.id, [None]):
                if (message := self._intact(stored, values["thread"], rest)) is not None:
                    self._messages[stored.id] = message
                    break
            else:
                self._put_aside(stored, rests.get(stored.id, []))

    def _intact(self, stored: StoredMessage, thread: int, rest: bytes | None) -> _Message | None:
        """The message if its octets have the right hash; sizes are computed anew."""
        if stored.digest is not None:
            return self._intact_file(stored, thread)
        if stored.header is None or rest is None:
            return None
        octets = stored.header + rest
        if crc32(octets) != stored.crc or not octets:
            return None
        prefix_size = stored.prefix_size if 0 <= stored.prefix_size < len(octets) else 0
        try:
            made = described((octets[:prefix_size], octets[prefix_size:]), prefix_size)
        except Damaged:
            prefix_size = 0
            made = described((b"", octets), 0)
        header, rest = octets[: made.header_size], octets[made.header_size :]
        return _Message(stored.id, thread, made, prefix_size, stored.crc, None, header, rest)

    def _intact_file(self, stored: StoredMessage, thread: int) -> _Message | None:
        assert stored.digest is not None
        path = self._blobs.path(stored.digest)
        if _is_digest(stored.digest) and not path.exists():  # perhaps where it does not belong
            for found in self._accounts.glob(f"??/*/files/{stored.digest[:2]}/{stored.digest}"):
                self._blobs.keep(stored.digest, str(found))
                break
        size = stored.size - stored.prefix_size
        for digest in (
            stored.digest,
            *(d for d, octets in self._orphans.items() if octets == size),
        ):
            prefix = (stored.header or b"")[: stored.prefix_size]
            message = self._from_file(stored.id, thread, digest, prefix)
            if message is None:
                continue
            if digest == stored.digest or message.header[:4096] == (stored.header or b"")[:4096]:
                self._orphans.pop(digest, None)
                return message
        return None

    def _from_file(self, number: int, thread: int, digest: str, prefix: bytes) -> _Message | None:
        """A message of a file whose octets are those of its name."""
        size = self._size_of(digest)
        if size is None:
            return None
        probe = attrs.evolve(
            _NO_MESSAGE,
            id=number,
            digest=digest,
            size=size + len(prefix),
            header_size=len(prefix),
            prefix_size=len(prefix),
            header=prefix,
        )
        try:
            with octets_of(probe, None, self._blobs) as octets:
                made = described(octets, len(prefix))
                header = prefix
                if made.header_size - len(prefix) <= KEPT_INLINE:
                    header += octets[1][: made.header_size - len(prefix)]
                without_nul = octets[1].find(b"\0") < 0
        except Damaged:
            return None
        return _Message(number, thread, made, len(prefix), 0, digest, header, None, without_nul)

    def _size_of(self, digest: str) -> int | None:
        try:
            return self._blobs.path(digest).stat().st_size
        except (OSError, ValueError):
            return None

    def _put_aside(self, stored: StoredMessage, rests: list[bytes]) -> None:
        """Keep what is left of a damaged message where people can look at it."""
        self.aside.mkdir(mode=0o700, exist_ok=True)
        target = self.aside / f"message-{stored.id}.eml"
        octets = (stored.header or b"") + b"".join(rests[:1])
        if stored.digest is not None and self._size_of(stored.digest) is not None:
            octets = (stored.header or b"")[: stored.prefix_size]
            octets += self._blobs.path(stored.digest).read_bytes()
        target.unlink(missing_ok=True)
        with open(open_new(target), "wb") as file:
            file.write(octets)
        places = [key for key, row in self._places.items() if row[2] == stored.id]
        for mailbox, uid in places or [(None, None)]:
            name = self._name(mailbox) if mailbox is not None else None
            self.lost.append(Lost(name, uid, stored.base_subject[:80], "its octets are damaged"))

    # -- mailboxes -----------------------------------------------------------

    def _name(self, number: int) -> str | None:
        """The name of a mailbox: of its row, or of the index of names."""
        rows = [row[2] for row in self._rows["mailbox"] if row[0] == number]
        index = [row[0] for row in self._rows["sqlite_autoindex_mailbox_2"] if row[1] == number]
        names = [name for name in (*rows, *index) if _is_name(name)]
        known = [name for name in names if name in self._history]
        return next(iter(known or names), None)

    def _boxes(self) -> dict[int, _Box]:
        rows = {row[0]: row for row in reversed(self._rows["mailbox"])}
        numbers = {row[1] for row in self._rows["sqlite_autoindex_mailbox_2"] if _pair(row)}
        numbers |= rows.keys() | {mailbox for mailbox, _ in self._places}
        boxes: dict[int, _Box] = {}
        taken: set[str] = set()
        for number in sorted(number for number in numbers if 0 < number < 1 << 31):
            name = self._name(number)
            if name is None or name in taken:
                name = f"{RECOVERED} {number}"
            taken.add(name)
            boxes[number] = self._box(number, name, rows.get(number))
        self._complete(boxes)
        return boxes

    def _box(self, number: int, name: str, row: Row | None) -> _Box:
        """A mailbox as it was; renumbered if anything of what its UIDs hang on is in doubt."""
        uids = [uid for mailbox, uid in self._places if mailbox == number]
        gone = [one for one in self._rows["tombstone"] if one[0] == number]
        modseqs = [one[3] for (mailbox, _), one in self._places.items() if mailbox == number]
        highest = max([0, *uids, *(one[3] for one in gone)])
        modseq = max([1, *modseqs, *(one[1] for one in gone)])
        identifier = self._indexed("sqlite_autoindex_mailbox_1", number)
        if row is None:
            use = self._indexed("sqlite_autoindex_mailbox_3", number)
            box = _Box(number, identifier or new_id(), name, 1, use, 1, 0, 0, modseq, 1)
            sure = False
        else:
            values = (*row[:2], name, int(bool(row[3])), *row[4:9], row[10])
            box = _Box(*values)
            sure = (
                row[2] == name
                and row[1] == identifier
                and highest < box.uid_next <= MAX_UID
                and 0 < box.uid_validity < 2**32
                and self._history.get(name, 0) == box.uid_validity
                and not self._uncertain
            )
        if box.special_use is not None and box.special_use not in _USES:
            box.special_use = None
        if uids:
            box.selectable = 1
        box.highest_modseq = max(modseq, min(box.highest_modseq, 1 << 62)) + 1
        box.quota_root = 1
        if box.selectable and not sure:
            self._renumber(box, highest)
        if not box.selectable:
            box.uid_validity = 0
        box.first_recent = max(1, min(box.first_recent, box.uid_next))
        return box

    def _indexed(self, index: str, number: int) -> str | None:
        rows = [row[0] for row in self._rows[index] if _pair(row) and row[1] == number]
        return rows[0] if rows else None

    def _renumber(self, box: _Box, highest: int) -> None:
        """Give a mailbox a UIDVALIDITY above all that it may have had, and a new id."""
        had = [box.uid_validity, self._history.get(box.name, 0)]
        last = max(value if 0 <= value < 2**32 - 1 else 0 for value in had)
        box.uid_validity = max(last + 1, min(self._now, HIGHEST_FROM_CLOCK))
        box.uid_next = highest + 1
        box.id = new_id()
        self.renumbered.append(box.name)

    def _complete(self, boxes: dict[int, _Box]) -> None:
        """Add INBOX and missing levels; what has no place gets a mailbox too."""
        names = {box.name for box in boxes.values()}
        wanted = [INBOX] + [above for name in sorted(names) for above in parents(name)]
        for name in wanted:
            if name not in names:
                names.add(name)
                self._add_box(boxes, name)
        placed = {row[2] for row in self._places.values()}
        homeless = self._messages.keys() - placed
        if homeless:
            found = [box for box in boxes.values() if box.name == RECOVERED and box.selectable]
            box = found[0] if found else self._add_box(boxes, RECOVERED)
            for message in sorted(homeless):
                self._recover(box, self._messages[message])

    def _add_box(self, boxes: dict[int, _Box], name: str) -> _Box:
        number = max([0, self._sequences.get("mailbox", 0), *boxes]) + 1
        use = dict(NEW_ACCOUNT_MAILBOXES).get(name)
        taken = {box.special_use for box in boxes.values()}
        value = use.value if use is not None and use.value not in taken else None
        box = boxes[number] = _Box(number, "", name, 1, value, 1, 0, 1, 1, 1)
        self._renumber(box, 0)
        return box

    def _recover(self, box: _Box, message: _Message) -> None:
        uid = box.uid_next
        box.uid_next += 1
        self.recovered += 1
        date = InternalDate(message.description.sent_seconds or self._now)
        row = (box.number, uid, message.id, 0, 0, "", 0, date.seconds, 0, date.day, self._now)
        self._places[box.number, uid] = row

    # -- writing -------------------------------------------------------------

    def build(self, path: Path) -> None:
        """Write the new database; synced, without a log."""
        self._read_messages()
        self._missing_rows()
        boxes = self._boxes()
        descriptor = open_new(path)
        try:
            connection = SqliteConnection.unsafe(path)
            try:
                connection.run("BEGIN")
                self._fill(connection, boxes)
                connection.run("COMMIT")
                connection.run("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if self.aside.exists():
            sync_directory(self.aside)

    def _missing_rows(self) -> None:
        """Messages of which only the place, or only the file, can be read."""
        rows = {row[0] for row in self._rows["message"]}
        bare = [key for key, row in self._places.items() if row[2] not in rows]
        for mailbox, uid in sorted(bare):
            self.lost.append(Lost(self._name(mailbox), uid, "", "its row is damaged"))
        if not (self.takes_orphans and (bare or self._uncertain)):
            return
        number = max([0, self._sequences.get("message", 0), *rows])
        for digest in list(self._orphans):
            number += 1
            message = self._from_file(number, number, digest, b"")
            if message is not None:
                self._messages[number] = message

    def _fill(self, connection: SqliteConnection, boxes: dict[int, _Box]) -> None:
        for version, script in enumerate(schema.steps(), 1):
            for statement in schema.statements(script):
                connection.run(statement)
            connection.run("INSERT INTO schema VALUES (?, ?)", (version, self._now))
        account = self.account
        connection.run(
            "INSERT INTO account VALUES (?, ?, ?)", (account.id, account.name, self._now)
        )
        limits = {row[1]: (row[2], row[4]) for row in self._rows["quota_root"]}
        own = limits.get(ACCOUNT_ROOT, (account.storage_limit, account.message_limit))
        connection.insert(quota_sql.ADD, (ACCOUNT_ROOT, *own))
        for box in boxes.values():
            _insert(connection, "mailbox", _BOX, (*_box_row(box),))
            if box.selectable:
                last = self._history.get(box.name, 0)
                sane = last if 0 <= last < 2**32 else 0
                self._history[box.name] = max(
                    box.uid_validity, 0 if box.name in self.renumbered else sane
                )
        for name, validity in self._history.items():
            if 0 < validity < 2**32:
                _insert(connection, "name_history", ("name", "uid_validity"), (name, validity))
        self._fill_messages(connection, boxes)
        self._fill_keywords(connection, boxes)
        for table in _KEPT_AS_READ:
            for row in self._rows[table]:
                marks = ", ".join("?" * len(row))
                connection.run(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
        for table in ("acl", "seen", "annotation", "unique_id"):
            connection.run(
                f"DELETE FROM {table} WHERE mailbox <> 0"
                " AND mailbox NOT IN (SELECT number FROM mailbox)"
            )
        for name, value in self._sequences.items():
            if 0 <= value < 1 << 62:
                connection.run(
                    "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (value, name)
                )
        for statement in _RECOUNT:
            connection.run(statement)

    def _fill_messages(self, connection: SqliteConnection, boxes: dict[int, _Box]) -> None:
        used: dict[int, int] = {}
        for (mailbox, uid), row in sorted(self._places.items()):
            message = self._messages.get(row[2])
            if message is None or mailbox not in boxes or not 0 < uid < MAX_UID:
                continue
            used[message.id] = used.get(message.id, 0) + 1
            self.count += 1
            zone = row[8] if abs(row[8]) < 1440 else 0
            date = InternalDate(row[7], zone)
            connection.run(
                message_sql.INSERT_PLACE,
                (
                    mailbox,
                    uid,
                    message.id,
                    boxes[mailbox].highest_modseq,
                    row[4] & 31,
                    " ".join(sorted(row[5].split(), key=str.lower)),
                    message.description.size,
                    date.seconds,
                    date.zone,
                    date.day,
                    row[10],
                ),
            )
        for number, message in sorted(self._messages.items()):
            if number not in used:
                continue
            values = description_row(message.description) | {
                "thread": message.thread,
                "places": used[number],
                "prefix_size": message.prefix_size,
                "crc": message.crc,
                "digest": message.digest,
                "format": FORMAT,
                "header": message.header,
            }
            _insert(
                connection,
                "message",
                _MESSAGE,
                (number, *(values[name] for name in message_sql.MESSAGE_COLUMNS)),
            )
            if message.rest is not None:
                connection.run(message_sql.INSERT_OCTETS, (number, message.rest))
            elif message.without_nul:
                connection.run(message_sql.SAY_WITHOUT_NUL, (number,))

    def _fill_keywords(self, connection: SqliteConnection, boxes: dict[int, _Box]) -> None:
        """The keywords as they were spelled, and those that messages have besides."""
        spelled: dict[int, dict[str, str]] = {number: {} for number in boxes}
        for mailbox, _, word, _ in sorted(self._rows["keyword"]):
            if mailbox in spelled and word and " " not in word:
                spelled[mailbox].setdefault(word.lower(), word)
        for mailbox, packed in connection.rows("SELECT DISTINCT mailbox, keywords FROM place"):
            words = [spelled[mailbox].setdefault(word.lower(), word) for word in packed.split()]
            again = " ".join(sorted(dict.fromkeys(words), key=str.lower))
            if again != packed:
                connection.run(
                    "UPDATE place SET keywords = ? WHERE mailbox = ? AND keywords = ?",
                    (again, mailbox, packed),
                )
        for mailbox, words_ in spelled.items():
            for number, (folded, word) in enumerate(words_.items()):
                connection.run(
                    "INSERT INTO keyword VALUES (?, ?, ?, ?)", (mailbox, number, word, folded)
                )


_NO_MESSAGE: Final = StoredMessage(
    **{name: None if name in ("digest", "header") else 0 for name in STORED}  # type: ignore[arg-type]
)

_RECOUNT: Final = (
    "UPDATE mailbox SET (messages, unseen, deleted, size, deleted_size) ="
    " (SELECT count(*), coalesce(sum(system & 8 = 0), 0), coalesce(sum(system & 4 <> 0), 0),"
    " coalesce(sum(size), 0), coalesce(sum(iif(system & 4 <> 0, size, 0)), 0)"
    " FROM place WHERE mailbox = number)",
    "UPDATE mailbox SET keywords = (SELECT count(*) FROM keyword WHERE mailbox = mailbox.number)",
    "UPDATE quota_root SET (storage_used, message_used) = (SELECT coalesce(sum(size), 0),"
    " coalesce(sum(messages), 0) FROM mailbox WHERE quota_root = quota_root.number)",
)


def _first(rows: Iterable[Row], key: int) -> dict[tuple[Any, ...], Row]:
    """The first row of each key, which is its first `key` values."""
    out: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        out.setdefault(row[:key], row)
    return out


def _is_digest(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", name) is not None


def _pair(row: Row) -> bool:
    """Say whether a row without declared types is a text and a number."""
    return len(row) >= 2 and isinstance(row[0], str) and isinstance(row[1], int)


def _is_name(value: object) -> bool:
    try:
        return isinstance(value, str) and canonical(value) == value
    except MailError:
        return False


def _insert(connection: SqliteConnection, table: str, columns: Iterable[str], values: Row) -> None:
    names = ", ".join(columns)
    marks = ", ".join("?" * len(values))
    connection.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)


def _box_row(box: _Box) -> Iterator[Any]:
    """The values of `_BOX`; what expunges left no trace of is everything before now."""
    values = attrs.astuple(box)
    yield from values[:9]
    yield box.highest_modseq
    yield box.first_recent
