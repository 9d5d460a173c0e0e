"""Sessions beside each other on shared mailboxes, in one process and in two (R13, R14)."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from tests.concurrency.client import Violation
from tests.concurrency.reference import Command
from tests.concurrency.walk import Part, Step, Walk, replay, run, step_from


@pytest.mark.parametrize(("seed", "two"), [(1, False), (2, True), (3, False)])
def test_no_rule_is_broken(tmp_path: Path, seed: int, two: bool) -> None:
    """T3 to T16, T24 to T27, T31, T51: every response, and what is there when all is quiet."""
    walk = run(tmp_path, seed, 5.0, two=two, restarts=0.04)
    print(f"{len(walk.steps)} steps, {walk.commands} commands, {walk.site.starts} starts")
    assert walk.commands > 10


def test_no_rule_is_broken_in_a_server_of_two_processes(tmp_path: Path) -> None:
    """SUN-31: the server spreads the sessions itself."""
    walk = run(tmp_path, 4, 5.0, worker=True, restarts=0.04)
    assert walk.commands > 10


@pytest.mark.long
@pytest.mark.parametrize(
    ("seed", "two"), [(11, False), (12, True), (13, False), (14, True), (15, False)]
)
def test_no_rule_is_broken_in_a_minute(tmp_path: Path, seed: int, two: bool) -> None:
    walk = run(tmp_path, seed, 60.0, two=two)
    assert walk.commands > 500


def test_what_fails_is_written_down_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(walk: Walk) -> None:
        if len(walk.steps) == 4:
            raise Violation("so it is")

    monkeypatch.setattr(Walk, "_check_quota", refuse)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with pytest.raises(Violation, match="seed 5, step 4: so it is") as raised:
        run(first, 5, 60.0, restarts=0.0)
    file = first / "walk-5.json"
    assert str(file) in str(raised.value)
    content = json.loads(file.read_text("utf-8"))
    assert len(content["steps"]) == 4
    assert any("Exists(" in line for line in content["said"])
    with pytest.raises(Violation, match="step 4: so it is"):
        replay(second, file)
    again = json.loads((second / "walk-5.json").read_text("utf-8"))
    assert again["steps"] == content["steps"]


def test_a_step_comes_back_from_json_as_it_was() -> None:
    store = Command(
        "UID STORE",
        "1:* +FLAGS.SILENT (k1)",
        numbers=((1, 0), (3, 3)),
        uids=(1, 3),
        operation="+",
        flags=("k1",),
        silent=True,
    )
    append = Command("APPEND", "a", "a", texts=(5, 6))
    rename = Command("RENAME", "a b", "a", "b")
    step = Step((Part(0, (store, append), 7), Part(3, (rename,))), 99, ((1, "SIGKILL"),), 0.01)
    assert step_from(json.loads(json.dumps(attrs.asdict(step)))) == step
