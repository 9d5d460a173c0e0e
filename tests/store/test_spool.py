"""Messages on their way in."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserver.errors import ErrorKind, MailError
from tests.contract.rig import START, Rig, account, open_sqlite
from tests.contract.test_messages import LARGE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


def spooled(rig: Rig) -> list[Path]:
    return list((rig.data / "spool").iterdir())


def test_a_small_message_touches_no_file(rig: Rig) -> None:
    message = rig.spool(b"x" * 65536)
    assert spooled(rig) == []
    assert message.octets == b"x" * 65536


def test_a_large_one_lies_in_a_file_until_it_is_discarded(rig: Rig) -> None:
    spool = rig.store.spool()
    spool.write(b"x" * 65536)
    spool.write(b"\n")
    [path] = spooled(rig)
    assert path.stat().st_mode & 0o777 == 0o600
    message = rig.run(spool.finish())
    assert message.size == 65538
    message.discard()
    assert spooled(rig) == []


def test_a_spool_that_is_given_up_leaves_nothing(rig: Rig) -> None:
    spool = rig.store.spool()
    spool.write(LARGE)
    assert len(spooled(rig)) == 1
    spool.discard()
    assert spooled(rig) == []


def test_a_disk_that_removes_nothing_is_no_reason_to_fail(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:  # R4
    message = rig.spool(LARGE)
    [path] = spooled(rig)

    def fails(path: object, **more: object) -> None:
        raise OSError(errno.EIO, "a bad disk")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fails)
        message.discard()
    assert spooled(rig) == [path], "for remove_leftovers"


def test_what_could_not_be_synced_is_refused_to_every_recipient_for_the_time_being(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:  # R4, T46
    message = rig.spool(LARGE)

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "a bad disk")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(MailError) as first:
            message.synced_path()
    for _ in range(2):  # nor is it tried again: the kernel may have dropped the octets
        with pytest.raises(MailError) as later:
            message.synced_path()
        assert later.value.kind is first.value.kind is ErrorKind.UNAVAILABLE
    assert spooled(rig) == []


def test_a_full_disk_is_told_while_octets_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "no room")

    spool = rig.store.spool()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MailError) as raised:
        spool.write(LARGE)
    assert raised.value.kind is ErrorKind.DISK_FULL
    with pytest.raises(MailError) as again:
        rig.run(spool.finish())
    assert again.value.kind is ErrorKind.DISK_FULL
    assert spooled(rig) == []


def test_short_writes_are_gone_on_with(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, octets: write(fd, octets[:1000]))
    rig.append(LARGE)
    assert rig.octets(rig.image(), 1) == LARGE


def test_what_a_crash_left_goes_after_a_day(rig: Rig) -> None:
    old, young = rig.data / "spool" / "old", rig.data / "spool" / "young"
    for path, age in ((old, 90_000), (young, 1000)):
        path.write_bytes(b"half a message")
        os.utime(path, (START - age, START - age))
    rig.restart()
    assert spooled(rig) == [young]


def test_accounts_and_their_sizes(rig: Rig) -> None:
    bob = rig.other("bob@example.org")
    before = rig.run(rig.store.account_size(rig.ann.id))
    rig.append(LARGE)
    assert rig.run(rig.store.account_size(rig.ann.id)) >= before + len(LARGE)
    assert rig.run(rig.store.accounts_on_disk()) == [rig.ann.id, bob.id]
    with pytest.raises(MailError) as raised:
        rig.run(rig.store.account_size(account("x@y").id))
    assert raised.value.kind is ErrorKind.NONEXISTENT
