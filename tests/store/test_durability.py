"""What is on disk before an answer, and what happens when the disk says no (R4)."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.trial import unittest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Recipient
from mailserver.store.sqlite.connection import SqliteConnection
from tests.contract.rig import MAIL, Rig, account, open_sqlite
from tests.contract.test_messages import LARGE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    made = Rig(tmp_path / "data", open_sqlite)
    yield made
    made.close()


def test_a_file_is_durable_before_its_row(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Octets synced, linked, directory and new parents synced, then the commit."""
    calls: list[tuple[str, str]] = []
    data = str(rig.data.resolve())

    def short(path: str) -> str:
        path = path.removeprefix(data)
        path = re.sub(r"/accounts/../[a-z0-9]{26}", "ACCOUNT", path)
        return re.sub(r"[0-9a-f]{32}", "NAME", re.sub(r"[0-9a-f]{64}", "DIGEST", path))

    def record(name: str, path_of: Callable[..., str]) -> None:
        real = getattr(os, name)

        def recorded(*args: Any, **keys: Any) -> Any:
            result = real(*args, **keys)
            calls.append((name, short(path_of(*args))))
            return result

        monkeypatch.setattr(os, name, recorded)

    record("fsync", lambda fd: os.readlink(f"/proc/self/fd/{fd}"))
    record("link", lambda source, target: str(target))
    record("mkdir", lambda path, mode=0: str(path))
    begin, commit = SqliteConnection.begin_writing, SqliteConnection.commit

    def traced_begin(self: SqliteConnection) -> None:
        begin(self)
        calls.append(("BEGIN IMMEDIATE", ""))

    def traced_commit(self: SqliteConnection) -> None:
        commit(self)
        calls.append(("COMMIT", ""))

    monkeypatch.setattr(SqliteConnection, "begin_writing", traced_begin)
    monkeypatch.setattr(SqliteConnection, "commit", traced_commit)
    rig.deliver(LARGE)
    rig.deliver(LARGE + b"another")
    digests = [path.parent.name for path in rig.data.rglob("files/*/*")]
    first, second = (
        f"ACCOUNT/files/{d}"
        for d in sorted(digests, key=lambda d: calls.index(("mkdir", f"ACCOUNT/files/{d}")))
    )
    start = calls.index(("BEGIN IMMEDIATE", ""))
    assert calls[start:] == [
        ("BEGIN IMMEDIATE", ""),
        ("fsync", "/spool/NAME"),
        ("mkdir", "ACCOUNT/files"),
        ("fsync", "ACCOUNT"),
        ("mkdir", first),
        ("fsync", "ACCOUNT/files"),
        ("link", f"{first}/DIGEST"),
        ("fsync", first),
        ("COMMIT", ""),
        ("BEGIN IMMEDIATE", ""),
        ("fsync", "/spool/NAME"),
        ("mkdir", second),
        ("fsync", "ACCOUNT/files"),
        ("link", f"{second}/DIGEST"),
        ("fsync", second),
        ("COMMIT", ""),
    ]


def test_one_file_serves_many_recipients(rig: Rig) -> None:
    others = [rig.other(f"user{n}@example.org") for n in range(3)]
    message = rig.spool(LARGE)
    for to in (rig.ann, *others):
        rig.run(rig.store.deliver(Recipient(to.name, to), message, b""))
    message.discard()
    files = list(rig.data.rglob("files/*/*"))
    assert len(files) == 4
    assert {file.stat().st_nlink for file in files} == {4}
    assert len({file.stat().st_ino for file in files}) == 1
    assert not list((rig.data / "spool").iterdir())


def test_where_links_are_not_possible_files_are_copied(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*args: Any, **keys: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    rig.deliver(LARGE)
    assert rig.octets(rig.image(), 1) == LARGE
    [file] = rig.data.rglob("files/*/*")
    assert file.stat().st_nlink == 1
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_synced_is_not_acknowledged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same octets are not tried again: the kernel may have dropped them (R4)."""
    message = rig.spool(LARGE)

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        for _ in range(2):
            with pytest.raises(MailError) as raised:
                rig.run(rig.store.deliver(Recipient("a", rig.ann), message, b""))
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    assert rig.used() == (0, 0)
    rig.deliver(LARGE)


class CommitFailure(unittest.TestCase):
    """Trial's TestCase: it swallows the log entries that are expected here."""

    def test_a_failed_commit_refuses_the_whole_batch(self) -> None:  # R4
        rig = Rig(Path(self.mktemp()), open_sqlite)
        others = [account(f"user{n}@example.org") for n in range(8)]
        for other in others:
            rig.run(rig.store.create_account(other))
        commit, failed = SqliteConnection.commit, []

        def failing(self: Any) -> None:
            [(owner,)] = self._sqlite.execute("SELECT id FROM account").fetchall()
            if owner == rig.ann.id and not failed:
                failed.append(self)
                raise MailError(ErrorKind.UNAVAILABLE, "the sync failed")
            commit(self)

        self.patch(SqliteConnection, "commit", failing)
        message = rig.spool(MAIL)
        recipients = [Recipient(to.name, to) for to in (*[rig.ann] * 5, *others)]
        # the thread is held up, so that the five share a commit
        results = rig.loop.run_all(
            *(rig.store.deliver(recipient, message, b"") for recipient in recipients)
        )
        refused = [result for result in results[:5] if isinstance(result, MailError)]
        assert refused and len(failed) == 1
        assert rig.used() == ((5 - len(refused)) * len(MAIL), 5 - len(refused))
        assert not any(isinstance(result, Exception) for result in results[5:])
        assert rig.used(others[0]) == (len(MAIL), 1)
        rig.deliver()  # with a new handle it works again
        rig.recount()
        with self.assertRaises(MailError):
            failed[0].rows("SELECT 1")  # the old one is closed
        rig.close()
        self.flushLoggedErrors()


SCRIPT = """
import sys
from pathlib import Path
from mailserver.errors import MailError
from tests.contract.rig import Rig, open_sqlite, account
class Two(Rig):
    def open(self):
        from mailserver.store.mailstore import open_store
        self.store = open_store(self.data, self.loop, limits=self.limits, writers=1)
rig = Two(Path(sys.argv[1]), open_sqlite)
print("ready", flush=True)
taken = 0
for n in range(30):
    try:
        rig.deliver(b"Subject: %d\\r\\n\\r\\n" % n)
        taken += 1
    except MailError as error:
        print("refused", error.kind.name, flush=True)
print("taken", taken, rig.used()[1], flush=True)
rig.recount()
rig.restart()
rig.recount()
print("after", rig.used()[1], flush=True)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_real_sync_errors(tmp_path: Path) -> None:  # R4
    """Every seventh fdatasync fails with EIO; nothing that was taken is lost."""
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:error=EIO:when=20+7",  # counted per thread
        "-o",
        str(tmp_path / "calls"),
        sys.executable,
        "-c",
        textwrap.dedent(SCRIPT),
        str(tmp_path / "data"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )
    if "ready" not in done.stdout and "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    words = done.stdout.split()
    print(done.stdout, (tmp_path / "calls").read_text())
    assert done.returncode == 0, done.stderr[-2000:]
    taken, counted = map(int, words[words.index("taken") + 1 :][:2])
    assert words.count("refused") == 30 - taken > 0
    assert taken == counted == int(words[words.index("after") + 1])


SYNCS = """
import os, sys
from pathlib import Path
from mailserver.model.account import Recipient
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.numset import NumSet
from mailserver.store.mailstore import open_store
from tests.contract.rig import MAIL, Rig
def opened(data, loop, bus, limits, now):
    return open_store(
        data, loop, bus, limits=limits, writers=1, eager_texts=False,
        synced_flags=sys.argv[2] == "durable",
    )
rig = Rig(Path(sys.argv[1]), opened)
for n in range(3):
    rig.append()
image = rig.image()
def toggle(n):
    op = FlagOp.REMOVE if n % 2 else FlagOp.ADD
    return rig.store.store_flags(rig.who, image, NumSet(((1, 3),)), op, Flags.of("\\\\Flagged"))
def mark(name):
    os.write(2, name.encode())
mark("STORE")
for n in range(10):
    rig.run(toggle(n))
mark("DELIVER")
rig.deliver()
mark("BOTH")
message = rig.spool(MAIL)
rig.loop.run_all(toggle(0), rig.store.deliver(Recipient("a", rig.ann), message, b""), toggle(1))
mark("END")
rig.recount()
rig.close()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(("durability", "synced"), [("durable", 10), ("relaxed", 0)])
def test_what_waits_for_the_disk(tmp_path: Path, durability: str, synced: int) -> None:  # R2
    """Each STORE, or with `relaxed` none; mail always does, also in one commit with flags."""
    calls = tmp_path / "calls"
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-e", "trace=fdatasync,fsync,write", "-o", str(calls)),
            *(sys.executable, "-c", SYNCS, str(tmp_path / "data"), durability),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )
    if "STORE" not in done.stderr and "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert done.returncode == 0, done.stderr[-2000:]
    text = calls.read_text()
    syncs = [
        len(re.findall(r"f(?:data)?sync\(", text[text.index(f'"{one}"') : text.index(f'"{two}"')]))
        for one, two in (("STORE", "DELIVER"), ("DELIVER", "BOTH"), ("BOTH", "END"))
    ]
    assert syncs[0] == synced
    assert syncs[1] == 1
    assert syncs[2] >= 1


KILLED = """
import os, sys
from pathlib import Path
from tests.contract.rig import Rig, open_sqlite
class Again(Rig):
    def __attrs_post_init__(self):
        self.open()
rig = Again(Path(sys.argv[1]), open_sqlite)
journal = os.open(sys.argv[1] + "/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for n in range(100000):
    octets = b"Subject: %d\\r\\n\\r\\n" % n + b"x" * (200000 if n % 5 == 0 else 10)
    done = rig.append(octets)
    os.write(journal, b"%d %d %d\\n" % (done.uid_validity, done.target[0], len(octets)))
"""


def test_what_was_acknowledged_survives_a_kill(rig: Rig) -> None:  # R1, at the store
    journal = rig.data / "journal"
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(rig.data)], cwd=ROOT)
        try:
            lines = 0
            while lines < 20 * (round_ + 1):
                assert process.poll() is None
                lines = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        finally:
            process.kill()
            process.wait()
    image = rig.image()
    rows = [tuple(map(int, line.split())) for line in journal.read_text().splitlines()]
    uids = [uid for _, uid, _ in rows]
    assert uids == sorted(set(uids))
    assert {validity for validity, _, _ in rows} == {image.uid_validity}
    assert set(uids) <= set(image.uids)
    for _, uid, size in rows:
        octets = rig.octets(image, uid)
        assert octets is not None and len(octets) == size
    rig.recount()
