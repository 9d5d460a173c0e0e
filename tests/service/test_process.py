"""Servers of tests leave no processes behind, whatever they do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.service import process
from tests.service.process import Process

PID = "import os; print(os.getpid(), flush=True)\n"


@pytest.mark.parametrize(
    "script",
    [
        PID + "import time; time.sleep(60)",
        PID + "import os, time; os.close(1); os.close(2); time.sleep(60)",
        PID + "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
        PID,
    ],
    ids=["never_serves", "closes_its_output", "ignores_sigterm", "exits"],
)
def test_a_server_that_never_serves_is_ended(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.5)
    with pytest.raises(AssertionError) as failure:
        Process.start(sys.executable, "-c", script)
    assert not _is_there(int(str(failure.value).split()[0]))


def test_one_that_cannot_be_stopped_is_ended() -> None:
    script = "print('mailserver 1.0 serves imap 143 in 0.1 s', flush=True)\n" + (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('.', flush=True)\n"
        "time.sleep(60)"
    )
    started = Process.start(sys.executable, "-c", script)
    started.wait_for(".\n")
    with pytest.raises(subprocess.TimeoutExpired):
        started.stop(0.2)
    assert not _is_there(started.popen.pid)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
