"""R19 in a short form: what an hour shows fully (`python -m tests.soak.soak`) begins here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.server import start
from tests.soak.soak import soak


@pytest.mark.parametrize(
    "seconds", [pytest.param(12, id="12s"), pytest.param(300, id="5min", marks=pytest.mark.long)]
)
def test_mixed_load_leaves_no_traceback_and_no_descriptor(tmp_path: Path, seconds: int) -> None:
    server = start(tmp_path / "data")
    try:
        run = soak(server, seconds)
    finally:
        code = server.stop()
    assert not run.faults
    assert not run.tracebacks
    assert sum(run.commands.values()) > 5 * seconds
    assert run.descriptors[1] < 150
    assert code == 0
    if seconds >= 300:
        assert run.slope < 10, "MiB in ten minutes; an hour is needed for R19's 1"
