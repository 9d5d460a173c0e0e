"""What every test run needs: switches, the floor of branch coverage, directories for trial."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

FLOORED = ("wire", "mime", "store", "server")
"""Parts of `mailserver` whose branch coverage may not fall below `--branch-floor`."""

_coverage_lines = pytest.StashKey[list[str]]()


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Run in the background of a shell. Programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run tests that take minutes")
    parser.addoption(
        "--branch-floor",
        type=float,
        metavar="PERCENT",
        help=f"with --cov: fail when {', '.join(FLOORED)} has a lower branch coverage",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes minutes; run with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


def branch_coverage() -> dict[str, tuple[int, int, float]]:
    """Part of `mailserver` -> (branches covered, branches, percent), from the data file."""
    from coverage import Coverage

    measured = Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as directory:
        report = os.path.join(directory, "coverage.json")
        measured.json_report(outfile=report)
        files = json.loads(Path(report).read_text("utf-8"))["files"]
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, figures in files.items():
        part = Path(path).parts[1].removesuffix(".py")
        sums[part][0] += figures["summary"].get("covered_branches", 0)
        sums[part][1] += figures["summary"].get("num_branches", 0)
    return {
        part: (covered, all_, 100 * covered / all_ if all_ else 100.0)
        for part, (covered, all_) in sorted(sums.items())
    }


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    result = yield
    floor = session.config.getoption("--branch-floor")
    if floor is None or hasattr(session.config, "workerinput"):
        return result
    lines = session.config.stash[_coverage_lines] = []
    for part, (covered, all_, percent) in branch_coverage().items():
        low = part in FLOORED and percent < floor
        mark = f"  BELOW {floor:g} %" if low else ""
        if all_:
            lines.append(f"{part:<12}{covered:>6} of {all_:>6}{percent:>8.1f} %{mark}")
        session.testsfailed += low
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = terminalreporter.config.stash.get(_coverage_lines, None)
    if lines:
        terminalreporter.section("branch coverage")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(autouse=True, scope="session")
def trial_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What trial's `mktemp` makes lies among pytest's directories and not in the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SynchronousTestCase,
            "mktemp",
            lambda _test: str(tmp_path_factory.mktemp("trial") / "temp"),
        )
        yield
