"""Holding that work grows no faster than its input (S5)."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

FACTOR = 2.5
"""How much longer twice the input may take."""


def cpu_seconds(run: Callable[[], object]) -> float:
    """Processor time of one run, so that other processes count less.

    Coverage is not measured meanwhile, because that makes Python several times slower, and
    garbage is not collected, because that takes as long as all that earlier tests have left.
    """
    tracer = sys.gettrace()
    collects = gc.isenabled()
    sys.settrace(None)
    gc.disable()
    try:
        began = time.process_time()
        run()
        return time.process_time() - began
    finally:
        sys.settrace(tracer)
        if collects:
            gc.enable()


def quickest(run: Callable[[], object]) -> float:
    """Processor time of the best of five runs, for limits in seconds."""
    return min(cpu_seconds(run) for _ in range(5))


def assert_linear(run: Callable[[int], object], size: int) -> None:
    """Fail unless `run(2 * size)` takes less than `FACTOR` times as long as `run(size)`.

    The best of three is taken, up to eight times: noise makes a good run look bad now and
    then, but nothing makes a quadratic one look good.
    """
    ratios = []
    for _ in range(8):
        small = min(cpu_seconds(lambda: run(size)) for _ in range(3))
        large = min(cpu_seconds(lambda: run(2 * size)) for _ in range(3))
        if large < FACTOR * small + 0.0005:
            return
        ratios.append(round(large / small, 2))
    raise AssertionError(f"twice the input took {ratios} times as long")
