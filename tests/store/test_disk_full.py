"""A full disk: mail is refused, reading and expunging go on, and it works again (R3)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.store.limits import StoreLimits
from tests.contract.rig import MAIL, Rig, open_sqlite

HEADER = b"Subject: filler\r\n\r\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB."""
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(tmp_path)
    if libc.mount(b"none", target, b"tmpfs", 0, b"size=20m"):
        pytest.skip(f"mounting is not allowed here: {os.strerror(ctypes.get_errno())}")
    yield tmp_path
    libc.umount2(target, 2)


@pytest.mark.parametrize("size", [30_000, 300_000], ids=["rows", "files"])
def test_a_full_disk_refuses_mail_and_nothing_else(small_disk: Path, size: int) -> None:
    rig = Rig(small_disk / "data", open_sqlite, StoreLimits())
    accepted = 0

    def fill(limit: int) -> int:
        """Deliver messages, each different, until the disk is full; how many went in."""
        for number in range(limit):
            try:
                rig.deliver(HEADER + (b"%09d" % (accepted + number)) * (size // 9))
            except MailError as error:
                assert error.kind is ErrorKind.DISK_FULL
                return number
        return limit

    accepted += fill(1000)
    assert 10 < accepted < 1000
    for _ in range(2):  # again, and nothing that was accepted is lost
        accepted += fill(50)
    image = rig.image()
    assert list(image.uids) == list(range(1, accepted + 1))
    assert rig.octets(image, accepted) is not None

    # reading and expunging go on; then there is room again, without a restart
    rig.expunge(image, *range(1, accepted, 2))
    left = accepted // 2 + accepted % 2
    assert len(image.uids) == left
    again = fill(1000)
    assert again > 5
    rig.recount()
    rig.restart()
    rig.recount()
    assert rig.used()[1] == left + again
    rig.close()


def test_on_a_full_disk_an_account_that_nobody_had_open_is_read(small_disk: Path) -> None:  # R3
    """The first handle on a database makes an index of its log, which needs room."""
    rig = Rig(small_disk / "data", open_sqlite, StoreLimits())
    rig.append()
    rig.restart()
    rest = os.open(small_disk / "rest", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(rest, b"x" * 4096)
    os.close(rest)
    image = rig.image()
    assert rig.octets(image, 1) == MAIL
    rig.expunge(image, 1)
    assert list(image.uids) == []
    rig.close()
