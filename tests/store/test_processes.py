"""Several processes work on one account's data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mailserver.model.account import Recipient
from tests.contract.rig import MAIL, Rig, flags_of, open_sqlite
from tests.contract.test_messages import LARGE

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from pathlib import Path
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.numset import NumSet
from tests.contract.rig import Rig, open_sqlite
class Second(Rig):
    def __attrs_post_init__(self):
        self.open()
rig = Second(Path(sys.argv[1]), open_sqlite)
image = rig.image()
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    [uid] = rig.append((sys.argv[2].encode() + b": %d\\r\\n\\r\\n" % n) * 3).target
    rig.flag(image, [uid], sys.argv[2])
    if n % 4 == 0:
        rig.expunge(image, uid)
rig.close()
print("done", flush=True)
"""


def start(rig: Rig, name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(rig.data), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_processes_write_one_account_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "data", open_sqlite)
    image = rig.image()
    processes = [start(rig, "one"), start(rig, "two")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    own = []
    for _ in range(40):
        own += rig.append(MAIL).target
        rig.run(rig.store.refresh(image))
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "done\n")
    rig.run(rig.store.refresh(image))
    assert len(set(own)) == 40
    assert len(image.uids) == 40 + 2 * 30
    assert list(image.uids) == sorted(set(image.uids))
    assert image.uid_next == 121
    words = [" ".join(names) for names in flags_of(image).values()]
    assert (words.count("one"), words.count("two"), words.count("")) == (30, 30, 40)
    rig.recount()
    rig.close()


def test_a_file_that_another_process_needs_again_is_not_removed(tmp_path: Path) -> None:
    """The last row of a large message goes while another store brings the same octets."""
    rig = Rig(tmp_path / "data", open_sqlite)
    second = open_sqlite(rig.data, rig.loop, rig.bus, rig.limits, lambda: rig.time)
    image = rig.image()
    for _ in range(15):
        [uid] = rig.append(LARGE).target
        rig.flag(image, [uid], "\\Deleted")
        message = rig.spool(LARGE)
        results = rig.loop.run_all(
            rig.store.expunge(rig.who, image, None),
            second.deliver(Recipient("a", rig.ann), message, b""),
        )
        assert not [result for result in results if isinstance(result, Exception)]
        message.discard()
        rig.run(rig.store.refresh(image))
        assert rig.octets(image, image.uids[-1]) == LARGE
        rig.expunge(image, *image.uids)
        assert not list(rig.data.rglob("files/*/*"))
    rig.run(second.stop())
    rig.close()
