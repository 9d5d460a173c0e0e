"""Is everything that is stored as it should be? (R6)

Reads only, in one state of each account's database, so it works beside a running server.
What a server does meanwhile is told from damage by looking again.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from zlib import crc32

import attrs

from mailserver.errors import MailError
from mailserver.mime.describe import FORMAT, describe, prefixed
from mailserver.model.ids import MAX_UID, AccountId, MailboxRef
from mailserver.model.message import Description, InternalDate
from mailserver.model.names import INBOX, canonical, parents
from mailserver.store import texts
from mailserver.store.blobs import Blobs
from mailserver.store.directory import database as directory_database
from mailserver.store.image import Image
from mailserver.store.maintenance.layout import (
    DIRECTORY_DATABASE,
    account_directory,
    accounts_on_disk,
)
from mailserver.store.maintenance.pages import read_log
from mailserver.store.spool import LEFT_SECONDS
from mailserver.store.sql import mailboxes as mailbox_sql
from mailserver.store.sqlite import schema
from mailserver.store.sqlite.connection import DATABASE, log_is_lost
from mailserver.store.transactions.rows import Mailbox

GRACE: Final = 60.0
"""Seconds for which a file may lie there without a row: it comes before its row."""

MAX_ALIKE: Final = 20
"""Findings of one sort that are listed one by one."""

_SLICE: Final = 200
_REPAIR: Final = "mailctl repair"
_NOTHING: Final = "nothing needs to be done"


class Severity(Enum):
    """How bad a finding is; the value is the word used in output."""

    ERROR = "error"  # mail, or what clients rely on, is damaged
    WARNING = "warning"  # wrong, but nothing is lost; repair puts it right
    NOTE = "note"  # harmless: left by a crash, or of an older format


@attrs.frozen
class Finding:
    """One thing that is not as it should be.

    Attributes:
        account: whose, or None for what belongs to the whole installation.
        mailbox: its name, or None.
        what: is wrong, in a sentence without a full stop.
        mend: what to do about it.
    """

    severity: Severity
    account: AccountId | None
    mailbox: str | None
    what: str
    mend: str = _REPAIR


def is_sound(findings: list[Finding]) -> bool:
    """Say whether nothing has to be repaired."""
    return all(finding.severity is Severity.NOTE for finding in findings)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database so that nothing is written into it, not even its log at the end.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    # Without a log there is none to be written back, and a handle that may write takes the
    # empty one away again that SQLite makes.
    mode = "ro" if path.with_name(path.name + "-wal").exists() else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, timeout=10
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def verify_account(
    data: Path,
    account: AccountId,
    advance: Callable[[int], None] = lambda octets: None,
    *,
    quick: bool = False,
    now: float | None = None,
) -> list[Finding]:
    """Look at everything of one account.

    Args:
        data: directory of the installation, or of a backup.
        advance: called with octets of messages that were looked at.
        quick: leave out reading the octets of messages.
        now: seconds since 1970 UTC.
    """
    check = _Check(data, account, advance, quick, time.time() if now is None else now)
    check.run()
    return check.findings


@attrs.define
class _Check:
    """The work on one account."""

    data: Path
    account: AccountId
    advance: Callable[[int], None]
    quick: bool
    now: float
    findings: list[Finding] = attrs.Factory(list)
    _alike: dict[str, int] = attrs.Factory(dict)
    _names: dict[int, str] = attrs.Factory(dict)
    _sql: Any = None

    @property
    def directory(self) -> Path:
        return account_directory(self.data, self.account)

    def error(self, what: str, mailbox: int | str | None = None, sort: str = "") -> None:
        self.add(Severity.ERROR, what, mailbox, sort)

    def warning(self, what: str, mailbox: int | str | None = None, sort: str = "") -> None:
        self.add(Severity.WARNING, what, mailbox, sort)

    def add(
        self,
        severity: Severity,
        what: str,
        mailbox: int | str | None = None,
        sort: str = "",
        mend: str = _REPAIR,
    ) -> None:
        """Add a finding; of a sort with very many the rest is left out."""
        if sort:
            count = self._alike[sort] = self._alike.get(sort, 0) + 1
            if count > MAX_ALIKE:
                return
        name = self._names.get(mailbox) if isinstance(mailbox, int) else mailbox
        self.findings.append(Finding(severity, self.account, name, what, mend))

    def rows(self, statement: str, *arguments: Any) -> list[Any]:
        """Run a query and read it to its end."""
        rows: list[Any] = self._sql.execute(statement, arguments).fetchall()
        return rows

    def run(self) -> None:
        path = self.directory / DATABASE
        if not path.exists():
            self.error("the mail database is missing")
            return
        if not self._log(path):
            return
        text_ids = self._text()
        try:
            self._sql = open_read_only(path)
        except sqlite3.Error as error:
            self.error(f"the mail database cannot be opened: {error}")
            return
        try:
            self._sql.execute("BEGIN")
            if self._owner() and self._database():
                self._mailboxes()
                self._places()
                self._belongings()
                self._messages()
                self._files()
                self._snapshots()
                self._text_is_older(text_ids)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.error(f"the mail database cannot be read: {error}")
        finally:
            self._sql.close()
        for sort, count in self._alike.items():
            if count > MAX_ALIKE:
                self.add(Severity.NOTE, f"{count - MAX_ALIKE} more: {sort}")

    # -- the files -----------------------------------------------------------

    def _log(self, path: Path) -> bool:
        """Before SQLite opens it, which takes a log that ends early for one that is whole.
        False if it must not be opened: afterwards nobody could tell any more."""
        if log_is_lost(path):
            self.error("the log of the mail database is lost, and the newest changes with it")
            return False
        if lost := read_log(path).lost:
            self.error(f"the log of the mail database is damaged; {lost} pages of changes are lost")
            return False
        return True

    def _owner(self) -> bool:
        rows = self.rows("SELECT id FROM account")
        if rows != [(self.account,)]:
            self.error("the mail database belongs to another account", None)
            return False
        [(version,)] = self.rows("SELECT max(version) FROM schema")
        latest = len(schema.steps())
        if version is None or version > latest:
            self.add(
                Severity.ERROR,
                f"the mail database has schema {version}, this program knows {latest}",
                mend="install the newer version of the program",
            )
            return False
        if version < latest:
            self.add(
                Severity.NOTE,
                f"the mail database has schema {version}; the newest is {latest}",
                mend="it is brought up to date when the account is used",
            )
            return False
        return True

    def _database(self) -> bool:
        """The pages; False if looking further would say the same again."""
        found = [row[0] for row in self.rows(f"PRAGMA integrity_check({MAX_ALIKE})")]
        if found == ["ok"]:
            return True
        for text in found:
            self.error("mail database: " + " ".join(text.split()), sort="damage of pages")
        return False

    def _text(self) -> int:
        """The file for SEARCH; returns the highest message that it ever knew."""
        path = self.directory / texts.DATABASE
        if not path.exists():
            return 0
        try:
            text = open_read_only(path)
            try:
                if text.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                    raise sqlite3.DatabaseError("its pages are damaged")
                if not text.execute("SELECT 1 FROM sqlite_master").fetchall():
                    return 0  # begun when the power was cut; the server goes on with it
                [(account, layout, done)] = text.execute("SELECT * FROM state").fetchall()
                if account != self.account:
                    raise sqlite3.DatabaseError("it belongs to another account")
                return int(done) if layout == texts.FORMAT else 0
            finally:
                text.close()
        except (sqlite3.Error, ValueError) as error:
            self.warning(f"the text kept for SEARCH cannot be used: {error}")
            return 0

    def _text_is_older(self, highest: int) -> None:
        sequence = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'message'")
        if highest > (sequence[0][0] if sequence else 0):
            self.error("the mail database is older than the text that was made from it")

    # -- mailboxes -----------------------------------------------------------

    def _mailboxes(self) -> None:
        boxes = [Mailbox(*row) for row in self.rows(mailbox_sql.ALL)]
        self._names = {box.number: box.name for box in boxes}
        history = dict(self.rows("SELECT name, uid_validity FROM name_history"))
        counted = {
            row[0]: row[1:]
            for row in self.rows(
                "SELECT mailbox, count(*), sum(system & 8 = 0), sum(system & 4 <> 0), sum(size),"
                " sum(iif(system & 4 <> 0, size, 0)), min(uid), max(uid), max(modseq)"
                " FROM place GROUP BY mailbox"
            )
        }
        for number in counted.keys() - self._names.keys():
            self.error(f"{counted[number][0]} messages are in a mailbox that is not there")
        if not any(box.name == INBOX and box.selectable for box in boxes):
            self.error("there is no INBOX")
        names = set(self._names.values())
        for box in boxes:
            self._mailbox(box, counted.get(box.number, (0, 0, 0, 0, 0, 1, 0, 0)), history)
            for superior in parents(box.name):
                if superior not in names:
                    self.warning(f"its superior {superior} is missing", box.name)
        self._quota(boxes, counted)

    def _mailbox(self, box: Mailbox, counted: tuple[int, ...], history: dict[str, int]) -> None:
        kept = (box.messages, box.unseen, box.deleted, box.size, box.deleted_size)
        words = ("messages", "unseen", "deleted", "size", "deleted size")
        for word, has, should in zip(words, kept, counted, strict=False):
            if has != should:
                self.warning(f"the counter of {word} is {has}, counted are {should}", box.name)
        lowest, highest, modseq = counted[5:]
        try:
            if canonical(box.name) != box.name:
                self.error(f"the name {box.name!r} is not canonical", box.name)
        except MailError as error:
            self.error(f"the name {box.name!r} cannot be: {error.text}", box.name)
        if not box.selectable:
            if box.messages or counted[0]:
                self.error("a level of hierarchy has messages", box.name)
            return
        if not 0 < box.uid_validity < 2**32:
            self.error(f"its UIDVALIDITY is {box.uid_validity}", box.name)
        if history.get(box.name, 0) != box.uid_validity:
            self.error(
                f"its UIDVALIDITY is {box.uid_validity}, and the highest that the name ever had"
                f" is kept as {history.get(box.name, 0)}",
                box.name,
            )
        if not highest < box.uid_next <= MAX_UID or lowest < 1:
            self.error(
                f"its next UID is {box.uid_next}, but it has UIDs {lowest} to {highest}", box.name
            )
        if modseq > box.highest_modseq:
            self.error(
                f"its highest mod-sequence is {box.highest_modseq}, but a message has {modseq}",
                box.name,
            )
        if box.pruned_modseq > box.highest_modseq or box.first_recent > box.uid_next:
            self.warning("it remembers what has not happened yet", box.name)

    def _quota(self, boxes: list[Mailbox], counted: dict[int, tuple[int, ...]]) -> None:
        used: dict[int, list[int]] = {}
        for box in boxes:
            messages, _, _, size = counted.get(box.number, (0, 0, 0, 0))[:4]
            sums = used.setdefault(box.quota_root, [0, 0])
            sums[0] += size
            sums[1] += messages
        roots = {
            row[0]: row[1:]
            for row in self.rows("SELECT number, name, storage_used, message_used FROM quota_root")
        }
        for number in used.keys() - roots.keys():
            self.error(f"quota root {number} is missing")
        for number, (name, storage, messages) in roots.items():
            should = used.get(number, [0, 0])
            if [storage, messages] != should:
                self.warning(
                    f"quota root {name} counts {storage} octets in {messages} messages,"
                    f" there are {should[0]} in {should[1]}"
                )

    # -- what points to what ---------------------------------------------------

    def _places(self) -> None:
        for mailbox, uid in self.rows(
            "SELECT mailbox, uid FROM place LEFT JOIN message ON id = message WHERE id IS NULL"
        ):
            self.error(f"UID {uid} shows a message that is not there", mailbox, "lost messages")
        for mailbox, uid in self.rows(
            "SELECT mailbox, uid FROM place p JOIN message m ON m.id = p.message"
            " WHERE m.size <> p.size"
        ):
            self.error(f"UID {uid} has another size than its message", mailbox, "sizes")
        for mailbox, uid, seconds, zone, day in self.rows(
            "SELECT mailbox, uid, internal_seconds, internal_zone, internal_day FROM place"
        ):
            if InternalDate(seconds, zone).day != day or abs(zone) >= 1440:
                self.warning(f"the date of UID {uid} does not fit its day", mailbox, "dates")
        for message, kept, counted in self.rows(
            "SELECT id, places, coalesce(n, 0) FROM message LEFT JOIN"
            " (SELECT message, count(*) AS n FROM place GROUP BY message) ON message = id"
            " WHERE places <> coalesce(n, 0)"
        ):
            if counted:
                self.warning(
                    f"message {message} counts {kept} places, it has {counted}", sort="places"
                )
            else:
                self.error(f"message {message} is in no mailbox", sort="messages without a place")
        for (message,) in self.rows(
            "SELECT message FROM octets LEFT JOIN message ON id = message WHERE id IS NULL"
        ):
            self.warning(f"octets of message {message}, which is not there", sort="octets")
        for (message,) in self.rows(
            "SELECT message FROM without_nul LEFT JOIN message ON id = message WHERE digest IS NULL"
        ):
            self.warning(f"message {message} is in no file to be sent from", sort="octets")
        for name, kept in self.rows("SELECT name, seq FROM sqlite_sequence"):
            column = {"message": "id", "mailbox": "number"}.get(name)
            if column is not None:
                [(highest,)] = self.rows(f"SELECT max({column}) FROM {name}")
                if (highest or 0) > kept:
                    self.error(f"the next number of {name} was given already")

    def _belongings(self) -> None:
        for table in (
            "acl", "keyword", "tombstone", "seen", "snapshot", "annotation", "unique_id",
        ):  # fmt: skip
            for number, count in self.rows(
                f"SELECT mailbox, count(*) FROM {table} WHERE mailbox NOT IN"
                " (SELECT number FROM mailbox) AND mailbox <> 0 GROUP BY mailbox"
            ):
                self.warning(f"{count} rows of {table} belong to mailbox {number}, which is gone")
        for mailbox, low, high, modseq in self.rows(
            "SELECT t.mailbox, t.low, t.high, t.modseq FROM tombstone t JOIN mailbox m"
            " ON m.number = t.mailbox WHERE t.low > t.high OR t.high >= m.uid_next"
            " OR t.modseq > m.highest_modseq OR EXISTS (SELECT 1 FROM place p"
            " WHERE p.mailbox = t.mailbox AND p.uid BETWEEN t.low AND t.high)"
        ):
            self.error(
                f"UIDs {low} to {high} are remembered as gone at {modseq}, which cannot be",
                mailbox,
                "tombstones",
            )
        words: dict[int, list[str]] = {}
        for mailbox, number, word, folded in self.rows(
            "SELECT mailbox, number, word, folded FROM keyword ORDER BY mailbox, number"
        ):
            known = words.setdefault(mailbox, [])
            if number != len(known) or word.lower() != folded or not word or " " in word:
                self.warning(f"keyword {number} is kept as {word!r}, {folded!r}", mailbox)
            known.append(word)
        for number, kept in self.rows("SELECT number, keywords FROM mailbox"):
            if kept != len(words.get(number, ())):
                self.warning(f"the counter of keywords is {kept}", number)
        for mailbox, packed in self.rows("SELECT DISTINCT mailbox, keywords FROM place"):
            own = packed.split()
            if packed != " ".join(sorted(own, key=str.lower)) or not set(own) <= set(
                words.get(mailbox, ())
            ):
                self.warning(f"messages have keywords {packed!r} that it does not know", mailbox)
        for mailbox, system in self.rows("SELECT DISTINCT mailbox, system FROM place"):
            if not 0 <= system < 32:
                self.warning(f"messages have flags {system}, which are none", mailbox)

    def _snapshots(self) -> None:
        for number, octets, identifier in self.rows(
            "SELECT s.mailbox, s.octets, m.id FROM snapshot s JOIN mailbox m ON number = s.mailbox"
        ):
            [row] = self.rows(mailbox_sql.BY_ID, identifier)
            image = Image(MailboxRef(self.account, identifier), Mailbox(*row))
            if not image.unpack(octets):
                self.add(Severity.NOTE, "its packed image cannot be used", number, mend="made anew")

    # -- messages --------------------------------------------------------------

    def _messages(self) -> None:
        before = 0
        while True:
            rows = self.rows(
                f"SELECT {', '.join(STORED)}, rest, n.message IS NOT NULL FROM message"
                " LEFT JOIN octets o ON o.message = id LEFT JOIN without_nul n ON n.message = id"
                " WHERE id > ? ORDER BY id LIMIT ?",
                before,
                _SLICE,
            )
            for row in rows:
                self._message(StoredMessage(*row[:-2]), row[-2], bool(row[-1]))
            if len(rows) < _SLICE:
                return
            before = rows[-1][0]

    def _message(self, message: StoredMessage, rest: bytes | None, without_nul: bool) -> None:
        self.advance(message.size)
        if self.quick:
            return
        problem = None
        try:
            with octets_of(message, rest, Blobs(self.directory)) as octets:
                anew = described(octets, message.prefix_size)
                has_nul = octets[1].find(b"\0") >= 0
        except Damaged as error:
            problem = str(error)
        if problem is not None:
            if message.digest is None or not self._gone_meanwhile(message.id):
                self.error(f"message {message.id}: {problem}", self._shown(message.id), "octets")
        elif message.format != FORMAT:
            self.add(
                Severity.NOTE,
                f"message {message.id} is described in format {message.format}, not {FORMAT}",
                self._shown(message.id),
                "old descriptions",
            )
        elif wrong := differences(message, anew):
            self.warning(
                f"message {message.id}: what is kept of it is not what its octets say:"
                f" {', '.join(wrong)}",
                self._shown(message.id),
                "descriptions",
            )
        elif without_nul and has_nul:
            self.error(
                f"message {message.id} has a NUL and would be sent with it",
                self._shown(message.id),
                "octets",
            )

    def _shown(self, message: int) -> int | None:
        rows = self.rows("SELECT mailbox FROM place WHERE message = ? LIMIT 1", message)
        return rows[0][0] if rows else None

    def _gone_meanwhile(self, message: int) -> bool:
        """Say whether a message was expunged since we began, and its file with it."""
        again = open_read_only(self.directory / DATABASE)
        try:
            return not again.execute("SELECT 1 FROM message WHERE id = ?", (message,)).fetchall()
        finally:
            again.close()

    def _files(self) -> None:
        named = {row[0] for row in self.rows("SELECT digest FROM message WHERE digest IS NOT NULL")}
        for path in sorted((self.directory / "files").rglob("*")):
            try:
                if path.is_dir() or path.name in named or self.now - path.stat().st_ctime < GRACE:
                    continue
            except FileNotFoundError:
                continue
            self.add(
                Severity.NOTE,
                f"file {path.name[:12]}… belongs to no message; left by a crash",
                sort="files without a message",
            )


# -- one message ---------------------------------------------------------------------

STORED: Final = (
    "id", "size", "header_size", "prefix_size", "crc", "digest", "format", "sent_seconds",
    "sent_day", "has_attachment", "has_media", "base_subject", "from_mailbox", "to_mailbox",
    "cc_mailbox", "from_display", "to_display", "envelope", "body", "body_structure", "sections",
    "header_index", "preview", "message_id", "ancestors", "header",
)  # fmt: skip
"""Columns of `message` that its octets decide, and its id."""


class Damaged(Exception):
    """The octets of a message are not what was stored."""


@attrs.frozen
class StoredMessage:
    """A row of `message` without what its octets do not decide; see the schema."""

    id: int
    size: int
    header_size: int
    prefix_size: int
    crc: int
    digest: str | None
    format: int
    sent_seconds: int | None
    sent_day: int | None
    has_attachment: int
    has_media: int
    base_subject: str
    from_mailbox: str
    to_mailbox: str
    cc_mailbox: str
    from_display: str
    to_display: str
    envelope: bytes
    body: bytes
    body_structure: bytes
    sections: bytes
    header_index: bytes
    preview: str
    message_id: str
    ancestors: str
    header: bytes | None


class octets_of:
    """Context manager: the octets of a message, its prefix first, checked.

    Raises:
        Damaged: they are not those that were stored.
    """

    def __init__(self, message: StoredMessage, rest: bytes | None, blobs: Blobs) -> None:
        self._message, self._rest, self._blobs = message, rest, blobs
        self._mapped: mmap.mmap | None = None

    def __enter__(self) -> tuple[bytes, bytes | mmap.mmap]:
        message = self._message
        if not 0 <= message.prefix_size <= message.header_size <= message.size:
            raise Damaged("its sizes cannot be")
        if message.digest is None:
            return self._inline()
        header = message.header or b""
        if len(header) not in (message.header_size, message.prefix_size):
            raise Damaged("its header has another size")
        mapped = self._mapped = self._open(message.digest)
        prefix = header[: message.prefix_size]
        if len(mapped) + len(prefix) != message.size:
            raise Damaged("its file has another size")
        if hashlib.sha256(mapped).hexdigest() != message.digest:
            raise Damaged("its file has other octets than were stored")
        behind = len(header) - len(prefix)
        if header[len(prefix) :] != mapped[:behind]:
            raise Damaged("its header is not that of its file")
        return prefix, mapped

    def _inline(self) -> tuple[bytes, bytes]:
        message, rest, header = self._message, self._rest, self._message.header
        if rest is None or header is None:
            raise Damaged("its octets are missing")
        octets = header + rest
        if len(header) != message.header_size or len(octets) != message.size:
            raise Damaged("its octets have another size")
        if crc32(octets) != message.crc:
            raise Damaged("its octets are not those that were stored")
        return octets[: message.prefix_size], octets[message.prefix_size :]

    def _open(self, digest: str) -> mmap.mmap:
        try:
            descriptor = self._blobs.open(digest)
        except (MailError, ValueError):
            raise Damaged("its file is missing") from None
        try:
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise Damaged("its file is empty") from None
        finally:
            os.close(descriptor)

    def __exit__(self, *_: object) -> None:
        if self._mapped is not None:
            self._mapped.close()


def described(octets: tuple[bytes, bytes | mmap.mmap], prefix_size: int) -> Description:
    """Describe a message as its delivery did.

    Raises:
        Damaged: what stands before it can be no prefix.
    """
    prefix, message = octets
    assert len(prefix) == prefix_size
    try:
        return prefixed(describe(message), prefix)
    except MailError as error:
        raise Damaged(f"its prefix is damaged: {error.text}") from None


def description_row(description: Description) -> dict[str, Any]:
    """The columns of `message` that a description gives."""
    row = {name: getattr(description, name) for name in STORED if hasattr(description, name)}
    row["has_attachment"] = int(description.has_attachment)
    row["has_media"] = int(description.has_media)
    row["ancestors"] = " ".join(description.references)
    return row


def differences(message: StoredMessage, description: Description) -> list[str]:
    """Names of the columns in which a row is not what its octets say."""
    row = description_row(description)
    return [name for name, value in row.items() if getattr(message, name) != value]


# -- what belongs to no account ----------------------------------------------------------


def verify_installation(data: Path, now: float | None = None) -> list[Finding]:
    """Look at the directory database, and at what lies around the accounts."""
    now = time.time() if now is None else now
    findings = list(_directory(data))
    for path in sorted((data / "spool").glob("*")) if (data / "spool").is_dir() else []:
        try:
            old = path.stat().st_mtime < now - LEFT_SECONDS
        except FileNotFoundError:
            continue
        if old:
            what = f"{path.name[:12]}… lies in the spool since a crash"
            mend = "the next start of the server removes it"
            findings.append(Finding(Severity.NOTE, None, None, what, mend))
    for path in sorted((data / "accounts").glob("??/.*")):
        what = f"{path.name} was left by a crash"
        findings.append(Finding(Severity.NOTE, None, None, what, "it may be removed"))
    return findings


def _directory(data: Path) -> Iterator[Finding]:
    restore = "mailctl restore"

    def error(what: str, account: AccountId | None = None, mend: str = restore) -> Finding:
        return Finding(Severity.ERROR, account, None, what, mend)

    path = data / DIRECTORY_DATABASE
    if not path.exists():
        yield error("the directory of accounts is missing")
        return
    if log_is_lost(path):
        yield error("the log of the directory of accounts is lost, and its newest changes with it")
        return
    if lost := read_log(path).lost:
        yield error(f"the log of the directory of accounts is damaged; {lost} pages are lost")
    try:
        directory = open_read_only(path)
        try:
            found = [row[0] for row in directory.execute("PRAGMA integrity_check(20)")]
            if found != ["ok"]:
                for text in found:
                    yield error("directory of accounts: " + " ".join(text.split()))
                return
            try:
                directory_database.version_of(directory, path)
            except MailError as refusal:
                yield error(refusal.text, mend="install the right version of the program")
                return
            for table, *_ in directory.execute("PRAGMA foreign_key_check"):
                yield error(f"directory of accounts: a row of {table} belongs to nobody")
            rows = directory.execute(
                "SELECT a.id, a.name, b.account FROM account a LEFT JOIN address b"
                " ON b.address = a.name"
            ).fetchall()
        finally:
            directory.close()
    except sqlite3.Error as failure:
        yield error(f"the directory of accounts cannot be read: {failure}")
        return
    for account, name, owner in rows:
        if owner != account:
            yield error(f"the address {name} does not lead to its account", AccountId(account))
    known = {account for account, _, _ in rows}
    there = set(accounts_on_disk(data))
    for account in sorted(known - there):
        yield error("there is no mail of this account", AccountId(account))
    for account in sorted(there - known):
        what = f"accounts/{account[:2]}/{account} belongs to no account of the directory"
        yield Finding(Severity.NOTE, account, None, what, "it may be removed, or mailctl restore")
