"""Every measurement of this directory, one after the other, each in a process of its own.

python -m bench [NAME ...]

A measurement is a module with a `main`. Machines wander: run A B A B, compare medians, and
believe factors of two.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run the named measurements, or all; the exit status of the last that failed."""
    here = Path(__file__).parent
    known = sorted(path.stem for path in here.glob("*.py") if not path.stem.startswith("_"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no measurement {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    status = 0
    for name in names or known:
        print(f"== {name}", flush=True)
        status = (
            subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
            or status
        )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
