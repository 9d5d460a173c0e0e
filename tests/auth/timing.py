"""Whether several checks cost the same."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

BOUND = 1.05


async def assert_same_cost(
    cases: Mapping[str, Callable[[], Awaitable[object]]],
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Try all cases in turn, 250 times each; their medians agree within 5 % (S7).

    Args:
        clock: processor time, which neighbours on a busy machine do not disturb; or
            `time.perf_counter`.
    """
    times: dict[str, list[float]] = {label: [] for label in cases}
    for _ in range(250):
        for label, check in cases.items():
            start = clock()
            await check()
            times[label].append(clock() - start)
    medians = {label: statistics.median(values) for label, values in times.items()}
    assert max(medians.values()) / min(medians.values()) < BOUND, medians
