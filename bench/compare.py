"""This server and Dovecot side by side, in turn: A B A B.

python -m bench.compare [--rounds N] [--only WORKLOAD] [--out DIRECTORY]

Each round runs every workload of `bench.beside.workloads` on the one server, then on the
other; those of a single client with the client on one core and the server on the others.
Medians, ratios and spreads go to the screen; with `--out` also as JSON, Markdown and SVG.
Without Dovecot, or without the root that it needs, this server is measured alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

from bench.beside import report
from bench.beside.servers import apart, can_compare, dovecot, ours
from bench.beside.workloads import ALONE, WORKLOADS, Figures, prepare


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def compare(rounds: int, only: list[str]) -> Iterator[report.Rounds]:
    """Start what there is, run the workloads in turn, stop it again.

    After each round it gives all that was found so far.
    """
    workloads = [work for work in WORKLOADS if not only or work.__name__ in only]
    starts = [ours]
    if missing := can_compare():
        say(f"this server alone: {missing}")
    else:
        starts.append(dovecot)
    with ExitStack() as stack:
        peers = []
        for start in starts:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            peers.append(stack.enter_context(start(Path(directory))))
            say(f"{peers[-1].label} started")
            prepare(peers[-1], lambda text: say(f"{peers[-1].label}: {text}"))
        found: report.Rounds = {peer.label: [] for peer in peers}
        for number in range(rounds):
            for peer in peers:
                figures: Figures = {}
                for work in workloads:
                    say(f"round {number + 1}, {peer.label}: {work.__name__}")
                    with apart(peer) if work in ALONE else nullcontext():
                        figures |= work(peer)
                found[peer.label].append(figures)
            yield found


def main() -> None:
    """Run the comparison."""
    names = [work.__name__ for work in WORKLOADS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=names, default=[])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: report.Rounds = {}
    for found in compare(arguments.rounds, arguments.only):
        if arguments.out is not None:
            report.write(found, arguments.out)
    print(report.table(found))


if __name__ == "__main__":
    main()
