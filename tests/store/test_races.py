"""What comes between two steps of the store: nothing is lost, doubled or mixed up by it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.flags import Flags
from mailserver.model.ids import Uid
from mailserver.model.message import Column
from mailserver.store import image as images
from mailserver.store import mailstore
from mailserver.store import spool as spools
from mailserver.store.blobs import Blobs
from mailserver.store.engine import Connection
from mailserver.store.image import Image
from mailserver.store.mailstore import MailStore
from mailserver.store.reserve import Reserve
from mailserver.store.sqlite.connection import SqliteConnection
from mailserver.store.sqlite.engine import SqliteEngine
from mailserver.store.transactions import rows
from mailserver.store.transactions.messages import append, incoming
from mailserver.store.transactions.rows import by_name
from tests.contract.rig import ARRIVED, Rig, flags_of, open_sqlite
from tests.contract.test_messages import LARGE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


@pytest.fixture
def second(rig: Rig) -> Iterator[MailStore]:
    """The same data as another process has it, as far as the store can tell."""
    made = open_sqlite(rig.data, rig.loop, rig.bus, rig.limits, lambda: rig.time)
    yield made
    rig.run(made.stop())


def engine(rig: Rig) -> SqliteEngine:
    assert isinstance(rig.store._engine, SqliteEngine)
    return rig.store._engine


def append_at_once(rig: Rig) -> None:
    """Add a message in this very moment, as a writer in another thread may."""
    handle = SqliteConnection(engine(rig).database(rig.ann.id), rig.ann.id, writes=True)
    inbox = by_name(handle, "INBOX")
    assert inbox is not None
    message = incoming(rig.spool(), Flags(), ARRIVED)
    handle.run("BEGIN IMMEDIATE")
    append(engine(rig).transaction(rig.ann.id, handle), inbox, [message])
    handle.run("COMMIT")
    handle.close()


# -- images -----------------------------------------------------------------------


def test_mail_that_comes_while_an_image_loads_is_in_it_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are read by slices, and messages arrive after the mailbox's row was read."""
    monkeypatch.setattr(images, "MAX_SLICE", 3)
    for _ in range(8):
        rig.append()
    read_slice = Image._read_slice
    arrivals = iter(range(2))

    def after_an_arrival(image: Image, connection: Connection, after: int) -> Any:
        if next(arrivals, None) is not None:
            append_at_once(rig)
        return read_slice(image, connection, after)

    monkeypatch.setattr(Image, "_read_slice", after_an_arrival)
    image = rig.image()
    assert list(image.uids) == list(range(1, 11))
    assert len(image.flag_ids) == len(image.mod_sequences) == 10


def test_a_refresh_that_failed_half_way_is_made_good_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of its reads fails: that of the keywords, when it knows the arrivals."""
    image = rig.image()
    read = SqliteEngine.read
    reads = iter(range(10))

    async def fails_at_the_second(engine: Any, account: Any, function: Any) -> Any:
        if next(reads) == 1:
            raise MailError(ErrorKind.UNAVAILABLE, "busy")
        return await read(engine, account, function)

    message = [(rig.spool(), Flags.of("word"), ARRIVED)]
    appending = rig.store.append(rig.who, image.ref, message)
    monkeypatch.setattr(SqliteEngine, "read", fails_at_the_second)
    with pytest.raises(MailError):
        rig.run(appending)
    rig.run(rig.store.refresh(image))
    assert flags_of(image) == {1: ["word"]}
    assert list(image.uids) == [1]
    assert image.keywords == ("word",)


def test_a_message_is_recent_once_also_when_the_mailbox_is_opened_again_at_once(
    rig: Rig,
) -> None:  # T9
    """What `close` keeps is not written yet when the mailbox is opened again."""
    rig.append()
    ref = rig.ref()

    async def twice() -> list[bool]:
        answers = []
        for _ in range(2):
            image = await rig.store.open(rig.who, ref)
            answers.append(bool(image.claim_recent(image.uid_next)))
            rig.store.close(image)
        answers.append(bool((await rig.store.status(rig.who, ref)).recent))
        return answers

    assert rig.run(twice()) == [True, False, False]
    rig.restart()
    assert rig.run(rig.store.status(rig.who, ref)).recent == 0


def test_closed_images_are_kept_up_to_a_number_of_messages(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailstore, "KEPT_MESSAGES", 250)
    for name in ("a", "b", "c"):
        rig.create(name)
        rig.append(*[b"A: b\r\n\r\n"] * 2, to=name)
    first = {name: rig.image(name) for name in ("a", "b", "c")}
    for image in first.values():
        rig.store.close(image)
    rig.append(to="c")
    again = {name: rig.image(name) for name in ("c", "b", "a")}
    assert [again[name] is first[name] for name in ("a", "b", "c")] == [False, True, True]
    assert list(again["c"].uids) == [1, 2, 3]


# -- files ------------------------------------------------------------------------


def test_a_message_that_goes_while_it_is_looked_at_is_left_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is read, and its file is removed before it is opened."""
    rig.append(LARGE)
    rig.append(b"A: small\r\n\r\n")
    image = rig.image()
    open_file = Blobs.open

    def after_an_expunge(blobs: Blobs, digest: str) -> int:
        handle = SqliteConnection(engine(rig).database(rig.ann.id), rig.ann.id, writes=True)
        handle.run("DELETE FROM place WHERE uid = 1")
        handle.close()
        blobs.unlink(digest)
        return open_file(blobs, digest)

    monkeypatch.setattr(Blobs, "open", after_an_expunge)
    found = rig.run(rig.store.contents(rig.who, image, [Uid(1), Uid(2)], 1000))
    assert [(uid, content.read(0, 100)) for uid, content in found] == [(2, b"A: small\r\n\r\n")]
    assert rig.run(rig.store.content(rig.who, image, Uid(1))) is None


def test_a_file_that_is_missing_is_told(rig: Rig) -> None:  # R6
    rig.append(LARGE)
    image = rig.image()
    for path in (engine(rig).directory(rig.ann.id) / "files").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(MailError) as raised:
        rig.octets(image, 1)
    assert raised.value.kind is ErrorKind.CORRUPT


def test_giving_up_a_message_while_it_is_described_harms_no_other_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor's number may have been given to another file meanwhile."""
    spool = rig.store.spool()
    spool.write(LARGE)
    describe_file = spools._describe_file
    others: list[int] = []

    def slowly(descriptor: int) -> Any:
        spool.discard()
        others.append(os.open(os.devnull, os.O_RDONLY))
        return describe_file(descriptor)

    monkeypatch.setattr(spools, "_describe_file", slowly)
    with pytest.raises(MailError) as raised:
        rig.run(spool.finish()).discard()
    assert raised.value.kind is ErrorKind.INVALID
    os.fstat(others[0])
    os.close(others[0])
    assert list((rig.data / "spool").iterdir()) == []


# -- other processes ----------------------------------------------------------------


@pytest.mark.parametrize("use", ["read", "write"])
def test_an_account_that_another_process_removed_is_gone_at_once(
    rig: Rig, second: MailStore, use: str
) -> None:
    """A handle on the removed file would take mail that nobody ever sees."""
    rig.append()
    image = rig.image()
    rig.run(second.delete_account(rig.ann.id))
    uses: dict[str, Callable[[], Any]] = {
        "read": lambda: rig.store.fetch(rig.who, image, [Uid(1)], [Column.SIZE]),
        "write": lambda: rig.store.append(rig.who, image.ref, [(rig.spool(), Flags(), ARRIVED)]),
    }
    with pytest.raises(MailError) as raised:
        rig.run(uses[use]())
    assert raised.value.kind is ErrorKind.NONEXISTENT


def test_a_database_put_in_place_of_an_open_one_is_used(rig: Rig) -> None:  # R16
    """As when an account is restored: what is acknowledged then is in the new file."""
    rig.append()
    path = engine(rig).database(rig.ann.id)
    rig.restart()  # writes the log back, so that the file alone is the account
    shutil.copy(path, path.with_name("backup"))
    rig.append()
    assert len(rig.image().uids) == 2
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    os.rename(path.with_name("backup"), path)
    rig.append()
    rig.restart()
    assert list(rig.image().uids) == [1, 2]


def test_a_reserve_that_cannot_be_lent_stops_no_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # R3
    reserve = Reserve(tmp_path / "reserve", 1 << 20)

    def fails(*args: Any, **keys: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "unlink", fails)
    with reserve.lent():
        pass


def test_a_commit_amid_a_look_is_seen_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1, T12: what was acknowledged shows at once, not only after one commit more."""
    ref, asked = rig.ref(), rows._one

    def one(connection: Connection, statement: str, argument: str) -> Any:
        found = asked(connection, statement, argument)
        monkeypatch.setattr(rows, "_one", asked)
        rig.append()  # another thread commits just now
        return found

    reader = engine(rig)._reader(engine(rig)._handles(rig.ann.id))
    for find in (lambda: by_name(reader, "INBOX"), lambda: rows.by_id(reader, ref.mailbox)):
        reader._kept.clear()
        before = rig.run(rig.store.status(rig.who, ref)).uid_next
        reader._kept.clear()
        monkeypatch.setattr(rows, "_one", one)
        find()
        for look in (rows.by_id(reader, ref.mailbox), by_name(reader, "INBOX")):
            assert look is not None and look.uid_next == before + 1
        assert rig.run(rig.store.status(rig.who, ref)).uid_next == before + 1


def test_a_reserve_that_cannot_be_made_again_stops_no_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # R4
    reserve = Reserve(tmp_path / "reserve", 1 << 20)

    def fails(*args: Any) -> None:
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fails)
        patch.setattr(os, "ftruncate", fails)
        with reserve.lent():
            pass
    with reserve.lent():
        pass
    assert (tmp_path / "reserve").stat().st_size == 1 << 20


def test_what_nobody_foresaw_stops_no_writer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """R4: a thread that ended would leave its accounts without an answer for ever."""

    def fails(*args: Any, **more: Any) -> None:
        raise OSError(5, "a bad disk")

    with monkeypatch.context() as patch:
        patch.setattr("mailserver.store.sqlite.writers.Writer._remove_files", fails)
        with pytest.raises(MailError) as refused:
            rig.append()
    assert refused.value.kind is ErrorKind.UNAVAILABLE
    rig.append()
    assert len(rig.image().uids) == 2, "what was refused may be there (R1)"


def test_listeners_that_fail_lose_no_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(event: Any) -> None:
        raise RuntimeError("a listener's fault")

    monkeypatch.setattr(rig.bus, "publish", fails)
    assert rig.append().target == (1,)
