"""R2: what was acknowledged survives a power cut, again and again.

The data lies on an ext4 file system of its own, which is shut down without the flush of its
journal: all that was not synced is lost, as it is not when only the server dies. That the
cut is a real one is shown with a server whose syncs do nothing.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.crash.disks import PowerDisk, power_disk
from tests.crash.journal import Journal
from tests.crash.load import load
from tests.crash.record import Figures, Tell, quiet, seed
from tests.crash.site import ACCOUNTS, Site
from tests.crash.test_kill import greetings
from tests.requires import require_program


def _cut(site: Site, journal: Journal, disk: PowerDisk, dice: random.Random) -> None:
    """Cut the power; the server is dead a moment later.

    What it says in that moment is no promise, because nobody would have heard it: a sync
    that has begun may come back without an error, though ext4 has given up its journal.
    """
    journal.end()
    disk.cut()
    time.sleep(dice.uniform(0, 0.2))
    site.end(signal.SIGKILL)


def power_cuts(directory: Path, rounds: int, dice: random.Random, tell: Tell = quiet) -> Figures:
    """Cut the power amid the work of eight clients, again and again.

    Returns:
        What was acknowledged, and how fast the server was back.
    """
    journal = Journal(directory / "journal")
    with power_disk(directory) as disk:
        site = Site(directory, data=disk.path / "data")
        try:
            site.prepare()
            for round_ in range(rounds):
                site.start()
                journal.check(site, ACCOUNTS)
                load(
                    site,
                    journal,
                    dice,
                    dice.uniform(0.05, 1.0),
                    lambda: _cut(site, journal, disk, dice),
                )
                disk.restore()
                site.verify()
                tell(round_ + 1, rounds)
            site.start()
            journal.check(site, ACCOUNTS)
            site.end()
            site.verify()
        finally:
            site.abandon()
            journal.close()
    return {
        "cuts": rounds,
        "acknowledged": dict(journal.acknowledged),
        "UIDs": len(journal.used),
        "seconds to greeting": greetings(site),
    }


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:  # R2
    figures = power_cuts(tmp_path, 1, random.Random(seed()))
    assert sum(figures["acknowledged"].values()) > 10
    print(figures)


@pytest.mark.long
def test_without_syncs_it_is_lost(tmp_path: Path) -> None:  # R2
    """The instrument sees what it is for."""
    strace = require_program("strace")
    journal = Journal(tmp_path / "journal")
    with power_disk(tmp_path) as disk:
        site = Site(tmp_path, data=disk.path / "data")
        try:
            site.prepare()
            subprocess.run(["sync", "-f", disk.path], check=True)
            site.start()
            assert site.process is not None
            tracer = subprocess.Popen(
                [
                    strace,
                    *("-f", "-qq", "-o", "/dev/null", "-p", str(site.process.pid)),
                    *("-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0"),
                ]
            )
            time.sleep(1)
            dice = random.Random(1)
            load(site, journal, dice, 1.0, lambda: _cut(site, journal, disk, dice))
            tracer.wait(20)
            disk.restore()
            site.start()
            with pytest.raises(AssertionError, match=r"lost|promised|fell back"):
                journal.check(site, ACCOUNTS)
        finally:
            site.abandon()
            journal.close()
