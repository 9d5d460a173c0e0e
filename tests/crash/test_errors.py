"""R4: a disk that fails to write or to sync: nothing that failed is acknowledged.

The real server, in which system calls are made to fail by strace while eight clients work:
at random ones on all of the data, and every one on one account's database, of which the
others must not notice anything.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash.journal import Journal
from tests.crash.load import load
from tests.crash.record import Figures, Tell, quiet, seed
from tests.crash.site import ACCOUNTS, Site
from tests.requires import require_program

CALLS = "fsync,fdatasync,pwrite64,write,ftruncate,fallocate"
VICTIM = ACCOUNTS[0]


@contextmanager
def failing(site: Site, inject: str, *paths: Path) -> Iterator[Path]:
    """Make system calls of the running server fail for a while.

    Args:
        inject: as for `strace -e inject=`.
        paths: only calls on these files.

    Yields:
        Where strace writes the calls that it saw.
    """
    strace = require_program("strace")
    assert site.process is not None
    calls = site.directory / "calls"
    command = [strace, "-f", "-o", str(calls), "-p", str(site.process.pid)]
    command += ["-e", f"trace={inject.partition(':')[0]}", "-e", f"inject={inject}"]
    for path in paths:
        command += ["-P", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "Operation not permitted" in line:
            pytest.skip(f"tracing is not allowed here: {line.strip()}")
        while "attached" not in line:
            assert line, "strace has ended"
            line = tracer.stderr.readline()
        try:
            yield calls
        finally:
            tracer.terminate()
            tracer.stderr.read()


def _injected(calls: Path, least: int = 0) -> int:
    """How many calls were made to fail; waits a while for so many."""
    deadline = time.monotonic() + 20
    while (count := calls.read_text().count("INJECTED")) < least and time.monotonic() < deadline:
        time.sleep(0.05)
    return count


def one_bad_disk(directory: Path, rounds: int, dice: random.Random, tell: Tell = quiet) -> Figures:
    """Fail every write and sync on one account's database, for a while, amid the work."""
    site, journal = Site(directory), Journal(directory / "journal")
    failed = 0
    try:
        site.prepare()
        site.start()
        for round_ in range(rounds):
            load(site, journal, dice, 0.3, lambda: None)  # also makes the databases
            journal.check(site, ACCOUNTS)
            home = site.directory_of(VICTIM)
            files = [home / f"mail.sqlite{suffix}" for suffix in ("", "-wal")]
            call = ("fdatasync", "pwrite64", "fsync,fdatasync,pwrite64")[round_ % 3]
            before = journal.by_account[VICTIM]
            with failing(site, f"{call}:error=EIO", *files) as calls:
                load(site, journal, dice, 0.5, lambda: _injected(calls, 3))
            assert journal.by_account[VICTIM] == before, "acknowledged without a sync"
            failed += _injected(calls)
            doubted = {doubt.account for doubt in journal.doubts}
            assert doubted == {VICTIM}, "no other account noticed"
            site.verify()
            journal.check(site, ACCOUNTS)  # and it works again
            tell(round_ + 1, rounds)
        before = journal.by_account[VICTIM]
        load(site, journal, dice, 0.3, lambda: None)
        assert not journal.doubts and journal.by_account[VICTIM] > before
        site.end()
        site.verify()
        site.start()
        journal.check(site, ACCOUNTS)
        site.end()
    finally:
        site.abandon()
        journal.close()
    assert failed >= 3 * rounds
    return {
        "rounds": rounds,
        "calls failed": failed,
        "acknowledged": dict(journal.acknowledged),
    }


def random_faults(directory: Path, rounds: int, dice: random.Random, tell: Tell = quiet) -> Figures:
    """Fail now and then any write or sync of the server's data, and kill it at the end."""
    site, journal = Site(directory), Journal(directory / "journal")
    failed = refused = 0
    try:
        site.prepare()
        for round_ in range(rounds):
            site.start()
            journal.check(site, ACCOUNTS)
            load(site, journal, dice, 0.1, lambda: None)
            files = [path for path in site.data.rglob("*") if path.is_file()]
            when = f"{dice.randint(3, 30)}+{dice.randint(3, 30)}"
            error = dice.choice(["EIO", "ENOSPC", "EDQUOT"])
            with failing(site, f"{CALLS}:error={error}:when={when}", *files) as calls:
                load(site, journal, dice, 0.5, lambda: _injected(calls, 3))
            failed += _injected(calls)
            refused += len(journal.doubts)
            journal.check(site, ACCOUNTS)
            load(site, journal, dice, 0.1, lambda: None)
            assert not journal.doubts, "works again without a restart"
            site.end()
            site.verify()
            tell(round_ + 1, rounds)
        site.start()
        journal.check(site, ACCOUNTS)
        site.end()
    finally:
        site.abandon()
        journal.close()
    assert failed >= 3 * rounds
    return {
        "rounds": rounds,
        "calls failed": failed,
        "refused": refused,
        "acknowledged": dict(journal.acknowledged),
    }


def test_one_accounts_disk_fails_and_no_other_notices(tmp_path: Path) -> None:  # R4
    print(one_bad_disk(tmp_path, 1, random.Random(seed())))


def test_what_could_not_be_written_is_not_acknowledged(tmp_path: Path) -> None:  # R4
    print(random_faults(tmp_path, 1, random.Random(seed())))
