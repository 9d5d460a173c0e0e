"""A progress bar with rate and time left, on standard error so that output stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Steps in a second."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed:,.0f}/s")


@contextmanager
def progress(
    what: str, total: int, *, unit: int = 1, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs.

    Args:
        what: one word or two.
        total: of what `step` counts.
        unit: what `step` counts is shown divided by this.
        hidden: show nothing.

    Yields:
        `step(n)`: n more are done.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total / unit)
        yield lambda count: bar.advance(task, count / unit)
