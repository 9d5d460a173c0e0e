"""What a procedure is given and gives back."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Figures = dict[str, Any]
"""What a procedure found, by name; can be written as JSON."""

Tell = Callable[[int, int], None]
"""Is told how many rounds of how many are done."""


def quiet(done: int, of: int) -> None:
    """Tells nobody."""


def seed() -> str:
    """The seed of this run, printed so that a failure can be repeated with `CRASH_SEED`."""
    chosen = os.environ.get("CRASH_SEED") or os.urandom(4).hex()
    print(f"CRASH_SEED={chosen}")
    return chosen
