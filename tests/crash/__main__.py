"""`make crash`: the procedures that try to lose mail, at full size.

    python -m tests.crash [--only NAME] [--rounds N] [--seed TEXT] [--json FILE]

Each works on a server and a data directory of its own. What the kernel does not allow here
is skipped with its error; everything else that goes wrong is a failure and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.record import Figures, Tell, seed
from tests.crash.test_clock import CLOCKS, clocks
from tests.crash.test_disk_full import full_disks
from tests.crash.test_errors import one_bad_disk, random_faults
from tests.crash.test_kill import kills
from tests.crash.test_power import power_cuts
from tests.crash.test_quota_race import quota_races

PROCEDURES: dict[str, tuple[int, Callable[[Path, int, random.Random, Tell], Figures]]] = {
    "R1 kill": (200, kills),
    "R2 power cut": (20, power_cuts),
    "R3 disk full": (6, lambda at, rounds, _, tell: full_disks(at, rounds, tell)),
    "R4 one bad disk": (12, one_bad_disk),
    "R4 random faults": (30, random_faults),
    "R5 clock": (len(CLOCKS), lambda at, rounds, _, tell: clocks(at, CLOCKS[:rounds], tell)),
    "R12 messages": (10, lambda at, rounds, _, tell: quota_races(at, "messages", rounds, tell)),
    "R12 storage": (10, lambda at, rounds, _, tell: quota_races(at, "storage", rounds, tell)),
}
"""Name -> how many rounds, and the procedure."""

MOST_SECONDS = 1800.0
"""What one procedure may take in all."""


def run(name: str, rounds: int, text: str) -> Figures:
    """Run one procedure and show how far it is.

    Returns:
        Its figures, with `result` (passed, failed or skipped), `seconds`, and `why`.
    """
    began = time.monotonic()

    def tell(done: int, of: int) -> None:
        took = time.monotonic() - began
        print(f"\r{name:<18}{done:>5} of {of}  {took:6.0f} s ", end="", flush=True)
        if took > MOST_SECONDS:
            raise TimeoutError(f"{done} of {of} rounds took {took:.0f} s")

    tell(0, rounds)
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="crash-") as directory:
        try:
            figures = PROCEDURES[name][1](Path(directory), rounds, random.Random(text), tell)
            result, why = "passed", ""
        except pytest.skip.Exception as skip:
            result, why = "skipped", str(skip)
        except Exception as error:
            result, why = "failed", f"{type(error).__name__}: {error}"
            traceback.print_exc()
    figures |= {"result": result, "why": why, "seconds": round(time.monotonic() - began, 1)}
    print(f" {result} {why[:1000]}")
    return figures


def main() -> int:
    """Run all procedures, or those whose names begin with `--only`; 0 if none failed."""
    parser = argparse.ArgumentParser(description="Procedures that try to lose mail")
    parser.add_argument("--only", default="", help="begin of the procedures' names")
    parser.add_argument("--rounds", type=int, help="instead of the full number")
    parser.add_argument("--seed", help="of the run that is to be repeated")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    text = given.seed or seed()
    results = {
        name: run(name, given.rounds or full, text)
        for name, (full, _) in PROCEDURES.items()
        if name.startswith(given.only)
    }
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"seed": text} | results, indent=2) + "\n")
    return int(any(figures["result"] == "failed" for figures in results.values()))


if __name__ == "__main__":
    sys.exit(main())
