"""Damaged accounts are refused or right, never another's, and repaired (R6)."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import Account
from mailserver.store.maintenance.pages import tables
from mailserver.store.maintenance.repair import (
    _KEPT_AS_READ,
    RECOVERED,
    Repaired,
    repair_account,
)
from mailserver.store.maintenance.verify import Severity, is_sound, verify_account
from mailserver.store.sqlite import schema
from tests.contract.rig import flags_of
from tests.store import damage
from tests.store.damage import ANN, BOB, Stored, database, directory, flip

LATER = 1 << 34


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.closed(tmp_path_factory.mktemp("repair") / "data")


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.crashed(tmp_path_factory.mktemp("crashed") / "data")


@pytest.fixture
def data(closed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(closed, tmp_path / "data"))


def seen_through_the_store(data: Path, of: Account = ANN) -> dict[tuple[str, int], bytes]:
    """(mailbox, UID) → octets of what the store shows; what it refuses is left out.

    Refusals must be CORRUPT or UNAVAILABLE, in words without a path.
    """
    shown: dict[tuple[str, int], bytes] = {}
    rig = damage.rig_on(data)
    who = rig.principal(of)

    @contextmanager
    def refusable() -> Iterator[None]:
        try:
            yield
        except MailError as error:
            assert error.kind in (ErrorKind.CORRUPT, ErrorKind.UNAVAILABLE, ErrorKind.NONEXISTENT)
            assert str(data) not in error.text

    with refusable():
        for info in rig.run(rig.store.mailboxes(who)):
            with refusable():
                image = rig.run(rig.store.open(who, info.ref))
                for uid in list(image.uids):
                    with refusable():
                        octets = rig.octets(image, uid)
                        if octets is not None:
                            shown[info.name, uid] = octets
    rig.close()
    return shown


def whole(data: Path, stored: Stored) -> dict[tuple[str, int], bytes]:
    """(mailbox, UID) → octets, from what is kept; large ones from their files."""
    out = {}
    for key, (header, rest, digest) in stored.places.items():
        if digest is None:
            out[key] = (header or b"") + (rest or b"")
        else:
            file = directory(data) / "files" / digest[:2] / digest
            own = file.read_bytes()
            prefix = damage.PREFIX if (header or b"").startswith(damage.PREFIX) else b""
            out[key] = prefix + own
    return out


def repaired(data: Path, of: Account = ANN) -> Repaired:
    """Repair, and see that nothing is wrong afterwards."""
    done = repair_account(data, of)
    found = verify_account(data, of.id, now=LATER)
    assert is_sound(found), found
    return done


@cache
def judged(base: Path) -> tuple[Stored, dict[damage.Message, set[int]]]:
    """What is stored, and on which pages its messages lie."""
    return damage.stored(base), damage.pages_of_messages(base)


def check_variant(base: Path, data: Path, file: Path, at: int, bit: int) -> str:
    """One flipped bit: the store shows only what was stored; what verify finds, repair puts
    right, and every message that the page does not hold is kept. Returns what happened."""
    original, pages = judged(base)
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(base, data)
    flip(file, at, bit)
    before = file.read_bytes()
    findings = verify_account(data, ANN.id, now=LATER)
    if is_sound(findings):
        # Room that nothing is kept in, or a bit of a flag or date that no sum is kept of.
        assert damage.stored(data).places == original.places
        shown = seen_through_the_store(data)
        assert shown == whole(base, original)
        return "harmless"
    all_octets = set(whole(base, original).values())
    page = at // 4096 + 1 if file == database(data) else 0
    done = repaired(data)
    assert done.kept.exists()
    if page:
        assert done.kept.read_bytes() == before, "the original is kept as it was"
    now = damage.stored(data)
    kept = set(now.places.values())
    for message, where in pages.items():
        digest = message[2]
        untouched = page not in where and (digest is None or digest != file.name)
        assert not untouched or message in kept or digest in {m[2] for m in kept}, (at, bit)
    for name, validity in now.validity.items():
        if name in done.renumbered or name not in original.validity:
            assert validity > original.validity.get(name, 0)
            continue
        assert validity == original.validity[name]
        assert now.uid_next[name] >= original.uid_next[name]
        same = {key for key in now.places if key[0] == name}
        assert same <= original.places.keys(), "no UID is given to another message"
        assert all(now.places[key] == original.places[key] for key in same)
    shown = seen_through_the_store(data)
    assert shown.keys() == now.places.keys(), "all that is kept is shown"
    assert set(shown.values()) <= all_octets
    return "repaired"


def variants(base: Path, data: Path, number: int, start: int) -> list[str]:
    outcomes = []
    for seed in range(start, start + number):
        rng = random.Random(seed)
        candidates = [database(data)]
        if seed % 6 == 0:
            digest = rng.choice(sorted((directory(base) / "files").glob("*/*")))
            candidates = [data / digest.relative_to(base)]
        [file] = candidates
        size = (base / file.relative_to(data)).stat().st_size
        at = rng.randrange(size)
        if seed % 3 == 1:  # where pages say what they are
            at = at // 4096 * 4096 + rng.randrange(40)
        try:
            outcomes.append(check_variant(base, data, file, at, rng.randrange(8)))
        except AssertionError:
            print(f"seed {seed}: {file.name} at {at}")
            raise
    return outcomes


def test_flipped_bits(closed: Path, tmp_path: Path) -> None:
    outcomes = variants(closed, tmp_path / "data", 30, 0)
    assert outcomes.count("repaired") >= 10


@pytest.mark.long
def test_flipped_bits_300(closed: Path, tmp_path: Path) -> None:
    outcomes = variants(closed, tmp_path / "data", 300, 1000)
    assert outcomes.count("repaired") >= 100


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_of_the_log(crashed: Path, tmp_path: Path, seed: int) -> None:
    """SQLite takes a log that ends early for one that is whole; we do not."""
    data = Path(shutil.copytree(crashed, tmp_path / "data"))
    original = damage.stored(crashed)
    log = database(data).with_name("mail.sqlite-wal")
    at = 0
    if seed:
        at = random.Random(seed).randrange(log.stat().st_size)
    flip(log, at)
    [finding] = verify_account(data, ANN.id)
    assert (finding.severity, "log" in finding.what) == (Severity.ERROR, True)
    done = repaired(data)
    kept = set(damage.stored(data).places.values())
    lost = set(original.places.values()) - kept
    assert len(lost) <= 2, "of what is in the log all but the damaged page"
    assert "INBOX" in done.renumbered, "what that page said of UIDs is not known"
    assert done.kept.with_name(done.kept.name + "-wal").exists()
    assert seen_through_the_store(data).keys() == damage.stored(data).places.keys()


def test_a_log_of_noise_may_have_held_anything(crashed: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(crashed, tmp_path / "data"))
    database(data).with_name("mail.sqlite-wal").write_bytes(os.urandom(50_000))
    database(data).with_name("mail.sqlite-shm").write_bytes(b"")
    done = repaired(data)
    assert "INBOX" in done.renumbered
    assert {m[2] for m in damage.stored(data).places.values() if m[2]} == {
        m[2] for m in damage.stored(crashed).places.values() if m[2]
    }, "large messages are found by their files"


def test_a_lost_log_is_refused_and_repaired(crashed: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(crashed, tmp_path / "data"))
    database(data).with_name("mail.sqlite-wal").unlink()
    rig = damage.rig_on(data)
    for call in (rig.store.mailboxes(rig.who), rig.store.create(rig.who, "x")):
        with pytest.raises(MailError) as refused:
            rig.run(call)
        assert refused.value.kind is ErrorKind.CORRUPT and "verify" in refused.value.text
    rig.close()
    [finding] = verify_account(data, ANN.id)
    assert "the log of the mail database is lost" in finding.what
    before = damage.stored(crashed).validity
    done = repaired(data)
    after = damage.stored(data)
    assert after.validity["INBOX"] > before["INBOX"], "later UIDs may have been handed out"
    assert "INBOX" in done.renumbered
    names = {name for name, _ in after.places}
    assert names <= {"INBOX", "Lists/work", RECOVERED}
    big = {digest for _, _, digest in after.places.values() if digest}
    assert len(big) == 3, "large messages are found again by their files"


@pytest.mark.parametrize("part", [0, 20, 4096, 0.3, 0.9])
def test_a_truncated_database(closed: Path, tmp_path: Path, part: float) -> None:
    data = Path(shutil.copytree(closed, tmp_path / "data"))
    size = database(data).stat().st_size
    length = int(part * size) if isinstance(part, float) else part
    pages = damage.pages_of_messages(closed)
    os.truncate(database(data), length)
    original = damage.stored(closed)
    assert set(seen_through_the_store(data).values()) <= set(whole(closed, original).values())
    assert not is_sound(verify_account(data, ANN.id))
    repaired(data)
    kept = set(damage.stored(data).places.values())
    for message, where in pages.items():
        if max(where) * 4096 <= length:
            assert message in kept
    rig = damage.rig_on(data)
    rig.deliver()
    assert rig.octets(rig.image(), max(rig.image().uids)) is not None
    rig.close()


@pytest.mark.parametrize("left", [b"", b"noise" * 9999, None], ids=["empty", "noise", "none"])
def test_without_a_database_large_messages_are_found_by_their_files(
    data: Path, left: bytes | None
) -> None:
    if left is None:
        database(data).unlink()
    else:
        database(data).write_bytes(left)
    done = repaired(data)
    assert (done.messages, done.recovered, done.lost) == (3, 3, ())
    rig = damage.rig_on(data)
    assert rig.names() == ["INBOX", RECOVERED]
    image = rig.image(RECOVERED)
    octets = {rig.octets(image, uid) for uid in image.uids}
    assert octets == {damage.BIG % number for number in (1, 2, 3)}
    rig.deliver()
    rig.close()


@pytest.mark.parametrize("what", ["databases", "directories", "files"])
def test_two_accounts_in_each_others_place(data: Path, what: str) -> None:
    """Nobody sees the other's mail, before and after; both come home."""
    mine, theirs = damage.stored(data), damage.stored(data, BOB)
    expected = whole(data, mine)
    pair = {
        "databases": (database(data), database(data, BOB)),
        "directories": (directory(data), directory(data, BOB)),
        "files": (directory(data) / "files", directory(data, BOB) / "files"),
    }[what]
    aside = pair[0].with_name("aside")
    pair[0].rename(aside)
    pair[1].rename(pair[0])
    aside.rename(pair[1])
    foreign = set(theirs.places.values())
    for octets in seen_through_the_store(data).values():
        assert octets in expected.values()
    for of in (ANN, BOB):
        assert not is_sound(verify_account(data, of.id)), of
    for of in (ANN, BOB):
        repair_account(data, of)
    assert is_sound(verify_account(data, ANN.id)) and is_sound(verify_account(data, BOB.id))
    assert damage.stored(data).places == mine.places
    assert damage.stored(data, BOB).places == theirs.places
    assert not foreign & set(damage.stored(data).places.values())
    assert seen_through_the_store(data) == expected


def test_without_the_other_half_another_accounts_database_is_only_refused(data: Path) -> None:
    shutil.copy(database(data, BOB), database(data))
    before = database(data).read_bytes()
    with pytest.raises(MailError) as refused:
        repair_account(data, ANN)
    assert refused.value.kind is ErrorKind.CORRUPT and BOB.id in refused.value.text
    assert database(data).read_bytes() == before
    assert seen_through_the_store(data) == {}


def test_no_table_is_forgotten() -> None:
    """Each is copied as it was read, or made anew from what was."""
    steps = (statement for script in schema.steps() for statement in schema.statements(script))
    made = {name for name, table in tables(list(steps)).items() if table.columns}
    anew = {
        "schema", "account", "quota_root", "mailbox", "name_history", "keyword", "message",
        "octets", "place", "without_nul",
    }  # fmt: skip
    forgotten = {"tombstone", "snapshot"}  # clients look at everything; only for speed
    assert made == {*_KEPT_AS_READ, *anew, *forgotten}


def test_an_account_in_use_is_refused(data: Path) -> None:
    """By another process: the store itself would be this one."""
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('SELECT * FROM account').fetchall()\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(database(data))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None and other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with pytest.raises(MailError) as refused:
        repair_account(data, ANN)
    assert refused.value.kind is ErrorKind.IN_USE
    other.stdin.close()
    other.wait(10)
    other.stdout.close()
    assert repaired(data).lost == ()


def test_what_is_left_of_a_damaged_message_is_kept(data: Path) -> None:
    damage.change(data, "UPDATE octets SET rest = x'4142' WHERE message = 8")
    done = repaired(data)
    [lost] = done.lost
    assert (lost.mailbox, lost.uid) == ("INBOX", 8)
    assert done.aside is not None
    [left] = done.aside.iterdir()
    assert left.read_bytes().endswith(b"AB")
    assert ("INBOX", 8) not in damage.stored(data).places
    assert done.renumbered == ()


def test_a_message_without_a_place_is_recovered(data: Path) -> None:
    before = damage.stored(data)
    damage.change(
        data, "DELETE FROM place WHERE message = 8", f"DELETE FROM message WHERE id = {62}"
    )
    done = repaired(data)
    after = damage.stored(data)
    assert done.recovered == 2, "one from its row, one from its file"
    recovered = {after.places[key] for key in after.places if key[0] == RECOVERED}
    assert before.places["INBOX", 8] in recovered
    assert before.places["INBOX", 62][2] in {message[2] for message in recovered}


def test_clients_are_told_of_everything_again(data: Path) -> None:
    """A client that resumes learns which UIDs are gone, and all flags (RFC 7162 §3.2.5.2)."""
    rig = damage.rig_on(data)
    known = rig.image().mod_sequence
    flags = flags_of(rig.image())
    rig.close()
    damage.change(data, "UPDATE octets SET rest = x'' WHERE message = 8")
    repaired(data)
    rig = damage.rig_on(data)
    image = rig.image()
    assert min(image.mod_sequences) > known
    changes = image.changes_since(known)
    assert changes.flagged == list(image.uids) or not changes.complete
    flags.pop(8)
    assert flags_of(image) == flags
    rig.recount()
    rig.close()


def test_unique_ids_of_other_servers_are_kept(data: Path) -> None:  # T44
    rig = damage.rig_on(data)
    [uid] = rig.append(unique_ids=["from-before"]).target
    rig.close()
    repaired(data)
    rig = damage.rig_on(data)
    assert rig.run(rig.store.unique_ids(rig.who, rig.image(), [uid])) == {uid: "from-before"}
    rig.close()
