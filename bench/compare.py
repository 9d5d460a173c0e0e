"""This server and Dovecot side by side, in turn: A B A B.

python -m bench.compare [--rounds N] [--only WORKLOAD] [--out DIRECTORY]

Each round runs every workload of `bench.beside.workloads` on the one server, then on the other;
those of a single client with the client on one core and the server on the others. What a server
puts off while it is used, it has done before the other is measured, and before a single client
follows many.
Medians, ratios and spreads go to the screen; with `--out` also as JSON, Markdown and SVG.
Without Dovecot, or without the root that it needs, this server is measured alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path

from bench.beside import report
from bench.beside.servers import Peer, apart, can_compare, dovecot, ours, settle
from bench.beside.workloads import ALONE, MANY, WORKLOADS, Figures, Workload, prepare


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


ONE = ", 1 process"
"""What rows of this server with a single process end with, beside the same figures of Dovecot: it
has a process for each core else, as Dovecot has one for each connection."""


def compare(rounds: int, only: list[str]) -> Iterator[report.Rounds]:
    """Start what there is, run the workloads in turn, stop it again.

    After each round it gives all that was found so far.
    """
    workloads = [work for work in WORKLOADS if not only or work.__name__ in only]
    many = [work for work in workloads if work in MANY]
    with ExitStack() as stack:

        def start(server: Callable[[Path], AbstractContextManager[Peer]]) -> Peer:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            peer = stack.enter_context(server(Path(directory)))
            say(f"{peer.label} started")
            return peer

        peers = [start(ours)]
        if missing := can_compare():
            say(f"this server alone: {missing}")
        else:
            peers.append(start(dovecot))
        for peer in peers:
            prepare(peer, lambda text, label=peer.label: say(f"{label}: {text}"))  # type: ignore[misc]
        single = start(partial(ours, processes=1)) if many else None
        found: report.Rounds = {peer.label: [] for peer in peers}

        def run(peer: Peer, works: Sequence[Workload], note: str = "") -> Figures:
            figures: Figures = {}
            for before, work in itertools.pairwise((None, *works)):
                if work in ALONE and before in MANY:
                    settle(peer)
                say(f"{peer.label}{note}: {work.__name__}")
                with apart(peer) if work in ALONE else nullcontext():
                    figures |= {row + note: figure for row, figure in work(peer).items()}
            if not settle(peer):
                say(f"{peer.label}{note} still works")
            return figures

        for number in range(rounds):
            say(f"round {number + 1}")
            of_one = run(single, many, ONE) if single is not None else {}
            for peer in peers:
                figures = run(peer, workloads)
                figures |= {
                    row: of_one[row] if peer is peers[0] else figures[row.removesuffix(ONE)]
                    for row in of_one
                }
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
    say(f"this server's Python: {Path(sys.executable).resolve()}, {sys.version}")
    found: report.Rounds = {}
    for found in compare(arguments.rounds, arguments.only):
        if arguments.out is not None:
            report.write(found, arguments.out)
    print(report.table(found))


if __name__ == "__main__":
    main()
