"""Fuzzing at any size, one parser after the other, each in a process of its own (R7, R8).

python -m tests.fuzz [-n INPUTS] [--seed N] [--json FILE] [--cases DIR] [NAME ...]
python -m tests.fuzz --guided [-n INPUTS] [NAME ...]     steered by coverage; needs atheris
python -m tests.fuzz --hostile [--json FILE]             time and memory of each hostile mail

Parsers that are done come as lines of JSON into the file, so that a run that was broken off
tells what it did. An input that breaks a promise is kept and ends the run of its parser; the
others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import attrs

from tests.fuzz.parsers import TARGETS
from tests.fuzz.target import CASES, MEMORY, Broken, Outcome, peak_memory, run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description="Fuzz every parser.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="parsers; all by default")
    parser.add_argument("-n", "--inputs", type=int, default=1_000_000, help="for each parser")
    parser.add_argument("--seed", type=int, default=0, help="another row of inputs")
    parser.add_argument("--json", type=Path, help="results, a line for each parser")
    parser.add_argument("--cases", type=Path, default=CASES, help="where breaking inputs go")
    parser.add_argument("--guided", action="store_true", help="with atheris")
    parser.add_argument("--hostile", action="store_true", help="mail that is made to hurt")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(TARGETS))
    if unknown:
        parser.error(f"no parser {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return given


def main() -> int:
    given = arguments()
    if given.hostile:
        return hostile(given.json)
    if given.here:
        return one(given)
    status = 0
    for name in given.names or TARGETS:
        command = ["tests.fuzz", "--here", "-n", str(given.inputs), "--seed", str(given.seed)]
        command += ["--cases", str(given.cases), name]
        command += ["--json", str(given.json)] if given.json else []
        if given.guided:
            command = ["tests.fuzz.guided", str(given.inputs), str(given.cases), name]
        done = subprocess.run([sys.executable, "-m", *command], check=False)
        status |= done.returncode != 0
    return status


def one(given: argparse.Namespace) -> int:
    """Fuzz one parser in this process."""
    target = TARGETS[given.names[0]]
    began = time.monotonic()

    def progress(done: int) -> None:
        rate = done / max(time.monotonic() - began, 0.001)
        if sys.stderr.isatty() and done % 4096 == 0:
            line = f"{target.name:20} {done:>10,} of {given.inputs:,}   {rate:,.0f}/s"
            print(f"\r{line:60}", end="", file=sys.stderr, flush=True)

    try:
        outcome = run(target, given.inputs, given.seed, progress)
    except Broken as broken:
        file = target.keep(broken.octets, given.cases)
        print(f"\r{target.name:20} BROKEN, kept as {file}\n{broken}", flush=True)
        return 1
    print(f"\r{line_of(outcome)}", flush=True)
    record(given.json, attrs.asdict(outcome))
    return int(outcome.peak > MEMORY)


def line_of(outcome: Outcome) -> str:
    return (
        f"{outcome.target:20}{outcome.inputs:>10,} inputs {outcome.seconds:>8.1f} s"
        f"   worst {outcome.worst * 1e3:>6.1f} ms ({outcome.worst_size:,} octets)"
        f"   peak {outcome.peak >> 20} MiB"
    )


def record(file: Path | None, values: dict[str, object]) -> None:
    if file is not None:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")


def hostile(file: Path | None) -> int:
    """R8: what each hostile mail costs; below 1 s and, beside itself, 64 MiB."""
    from mailserver.mime.describe import describe
    from mailserver.mime.text import search_text
    from tests.mime.test_hostile import HOSTILE

    print(f"{'mail':44}{'octets':>12}{'describe':>12}{'text':>12}{'memory':>12}")
    status = 0
    for name, make in HOSTILE.items():
        mail = make()
        costs = []
        for function in (describe, search_text):
            began = time.process_time()
            function(mail)
            seconds = time.process_time() - began
            tracemalloc.start()
            function(mail)
            memory = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            costs.append((seconds, memory))
        (described, first), (searched, second) = costs
        memory = max(first, second)
        is_over = max(described, searched) > 1 or memory > 64 << 20
        status |= is_over
        print(
            f"{name:44}{len(mail):>12,}{described * 1e3:>9.1f} ms{searched * 1e3:>9.1f} ms"
            f"{memory / (1 << 20):>8.1f} MiB{'  OVER' if is_over else ''}",
            flush=True,
        )
        values = {"octets": len(mail), "describe": described, "text": searched, "memory": memory}
        record(file, {"mail": name, **values})
    print(f"peak of the process: {peak_memory() >> 20} MiB, the mails included")
    return status


if __name__ == "__main__":
    sys.exit(main())
