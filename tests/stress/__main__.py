"""Stress at full size: `python -m tests.stress [--only NAME] [--json FILE]`; `make stress`.

Takes about fifteen minutes; wants a machine of its own, 12,000 descriptors and, for half-open
connections, the right to CAP_NET_ADMIN.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from tests.stress import scenarios as s
from tests.stress.scenarios import Figures
from tests.stress.site import Site, serving


@attrs.frozen
class Scenario:
    """One run over a server of its own.

    Attributes:
        requirement: that it shows.
        run: the scenario with its sizes.
        options: of the server, beside the defaults.
        descriptors: files that the server may open; 0 for as many as there are.
    """

    requirement: str
    run: Callable[[Site], Awaitable[Figures]]
    options: dict[str, str] = attrs.Factory(dict)
    descriptors: int = 0


FULL = {
    "one account": Scenario("SUN-30", lambda at: s.one_account(at, 50)),
    "wrong logins": Scenario("S7", lambda at: s.wrong_logins(at, 10_000, 100, 1000)),
    "flood": Scenario("R11", lambda at: s.flood(at, 500, 20.0)),
    "few descriptors": Scenario("R11", lambda at: s.few_descriptors(at, 1000, 10), {}, 600),
    "silent": Scenario("R11", lambda at: s.silent(at, 5000, 100, 60.0)),
    "trickle": Scenario("R11", lambda at: s.trickle(at, 5000, 50, 60.0)),
    "reconnect": Scenario(
        "R18",
        lambda at: s.reconnect(at, 1000, 250),
        {"auth__remembered": "0", "service__imap__maxsessions": "700"},
    ),
    "half-open": Scenario("R11", lambda at: s.half_open(at, 1000, 60.0)),
    "restart": Scenario("R18", lambda at: s.restart(at, 100)),
    "slow readers": Scenario(
        "R10", lambda at: s.slow_readers(at, 200, 50_000_000, 60.0, 300.0, 200)
    ),
}
"""Name -> what is run by `make stress`."""


def run(name: str, scenario: Scenario) -> Figures:
    """Run one; its figures with `result` and `seconds`."""
    print(f"{name:<16} {scenario.requirement:<7} ", end="", flush=True)
    began = time.monotonic()
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        try:
            with serving(Path(folder), scenario.descriptors, **scenario.options) as site:
                figures = asyncio.run(_whole(scenario.run(site)))
                assert not site.tracebacks, "a traceback is in the log"
            result = "skipped" if "skipped" in figures else "passed"
        except Exception as error:
            result = "failed"
            figures["why"] = f"{type(error).__name__}: {error}"[:1000]
            traceback.print_exc()
    seconds = round(time.monotonic() - began, 1)
    shown = ", ".join(f"{name} {value}" for name, value in figures.items())
    print(f"{result:<8} {seconds:6.1f} s  {shown}", flush=True)
    return {"requirement": scenario.requirement, "result": result, "seconds": seconds, **figures}


async def _whole(figures: Awaitable[Figures]) -> Figures:
    return await figures


def main() -> int:
    """Run all, or those whose names begin with `--only`; 0 if none failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="begin of the scenarios' names")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    results = {
        name: run(name, scenario) for name, scenario in FULL.items() if name.startswith(given.only)
    }
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    return int(any(figures["result"] == "failed" for figures in results.values()))


if __name__ == "__main__":
    sys.exit(main())
