"""Files of large messages: what goes wrong is told in the store's words and leaves nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.store.blobs import Blobs, disk_error, make_directory, open_new

DIGEST = "ab" * 32


def source(tmp_path: Path) -> str:
    path = tmp_path / "source"
    path.write_bytes(b"octets")
    return str(path)


def failing(code: int) -> Any:
    def fails(*args: Any, **keys: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fails


def test_octets_are_kept_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for _ in range(2):
        blobs.keep(DIGEST, source(tmp_path))
    descriptor = blobs.open(DIGEST)
    assert os.read(descriptor, 100) == b"octets"
    os.close(descriptor)
    blobs.unlink(DIGEST)
    blobs.unlink(DIGEST)
    with pytest.raises(MailError) as raised:
        blobs.open(DIGEST)
    assert raised.value.kind is ErrorKind.CORRUPT


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, ErrorKind.DISK_FULL),
        (errno.EDQUOT, ErrorKind.DISK_FULL),
        (errno.EFBIG, ErrorKind.DISK_FULL),
        (errno.EIO, ErrorKind.UNAVAILABLE),
        (errno.EMFILE, ErrorKind.UNAVAILABLE),
    ],
)
def test_errors_of_the_disk_have_their_kind(code: int, kind: ErrorKind) -> None:
    assert disk_error(OSError(code, "x")).kind is kind


@pytest.mark.parametrize("call", ["mkdir", "link", "fsync"])
def test_each_step_of_keeping_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    with pytest.raises(MailError) as raised:
        Blobs(tmp_path).keep(DIGEST, source(tmp_path))
    assert raised.value.kind is ErrorKind.DISK_FULL


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path)
    monkeypatch.setattr(os, "link", failing(errno.EXDEV))
    monkeypatch.setattr(os, "rename", failing(errno.ENOSPC))
    with pytest.raises(MailError):
        blobs.keep(DIGEST, source(tmp_path))
    assert list(blobs.path(DIGEST).parent.iterdir()) == []


def test_a_file_that_cannot_be_opened_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))
    with pytest.raises(MailError) as raised:
        Blobs(tmp_path).open(DIGEST)
    assert raised.value.kind is ErrorKind.UNAVAILABLE


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:  # S14
    blobs = Blobs(tmp_path)
    blobs.path(DIGEST).parent.mkdir(parents=True)
    blobs.path(DIGEST).symlink_to(source(tmp_path))
    with pytest.raises(MailError):
        blobs.open(DIGEST)
    with pytest.raises(OSError):
        os.close(open_new(blobs.path(DIGEST)))


def test_two_who_make_a_directory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir

    def beaten(path: Any, mode: int) -> None:
        mkdir(path, mode)
        mkdir(path, mode)  # the other was faster

    monkeypatch.setattr(os, "mkdir", beaten)
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
