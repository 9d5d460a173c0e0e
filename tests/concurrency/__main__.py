"""Walks from the command line: `python -m tests.concurrency --seconds 1800`.

Long runs are walks of a minute each, with one process and with two in turn, each with fresh
data and a seed of its own.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.concurrency.client import Violation
from tests.concurrency.walk import Walk, replay, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.concurrency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--each", type=float, default=60.0, help="seconds of each walk")
    parser.add_argument("--seed", type=int, help="of the first walk")
    parser.add_argument("--processes", type=int, choices=(1, 2), help="instead of both in turn")
    parser.add_argument("--restarts", type=float, default=0.01, help="share of steps, 0 to 1")
    parser.add_argument("--replay", type=Path, help="a transcript")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="walk-"))
    if options.replay:
        replay(folder, options.replay)
        print("no violation this time")
        return
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    end = time.monotonic() + options.seconds
    broken = walks = steps = commands = starts = 0
    while (left := end - time.monotonic()) > 1:
        two = options.processes == 2 or (not options.processes and walks % 2 == 1)
        place = folder / str(seed)
        place.mkdir()
        try:
            walk: Walk = run(
                place, seed, min(left, options.each), two=two, restarts=options.restarts
            )
        except Violation as violation:
            broken += 1
            print(violation, flush=True)
        else:
            shutil.rmtree(place)
            steps += len(walk.steps)
            commands += walk.commands
            starts += walk.site.starts
            print(
                f"seed {seed}, {1 + two} processes: {len(walk.steps)} steps,"
                f" {walk.commands} commands, {walk.site.starts} starts,"
                f" the longest {walk.site.longest_start:.1f} s",
                flush=True,
            )
        walks += 1
        seed += 1
    print(f"{walks} walks, {steps} steps, {commands} commands, {starts} starts: {broken} failed")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
