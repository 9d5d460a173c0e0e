"""File systems made for a test: a small one that fills up, and one that loses its power."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.requires import require_program

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)` of linux/fs/ext4/ext4.h."""

_NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: what the journal has in memory is lost as well."""


def _mount(target: Path, *arguments: str) -> None:
    """Mount, or skip the test with what the kernel said.

    That is allowed in CI too: containers may seldom mount.
    """
    done = subprocess.run(
        ["mount", *arguments, target], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def _unmount(target: Path) -> None:
    subprocess.run(["umount", target], capture_output=True, check=True)


@contextmanager
def memory_disk(target: Path, size: str) -> Iterator[Path]:
    """A file system of this size, such as `20m`, for as long as the block runs."""
    target.mkdir()
    _mount(target, "-t", "tmpfs", "-o", f"size={size}", "none")
    try:
        yield target
    finally:
        _unmount(target)


@attrs.define
class PowerDisk:
    """An ext4 file system whose power can be cut.

    Attributes:
        image: the file that is its disk.
        path: where it is mounted.
    """

    image: Path
    path: Path

    def cut(self) -> None:
        """From now on nothing reaches the disk, and what was not synced is lost."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("=I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Mount it again after a cut: the kernel replays its journal."""
        _unmount(self.path)
        _mount(self.path, "-o", "loop", str(self.image))


@contextmanager
def power_disk(directory: Path, mebibytes: int = 1024) -> Iterator[PowerDisk]:
    """An ext4 file system in a sparse file, for as long as the block runs."""
    make = require_program("mkfs.ext4", "/usr/sbin/mkfs.ext4")
    disk = PowerDisk(directory / "disk.image", directory / "disk")
    with open(disk.image, "wb") as image:
        image.truncate(mebibytes << 20)
    subprocess.run([make, "-q", disk.image], check=True, capture_output=True)
    disk.path.mkdir()
    _mount(disk.path, "-o", "loop", str(disk.image))
    try:
        yield disk
    finally:
        _unmount(disk.path)
        disk.image.unlink()
