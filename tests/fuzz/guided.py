"""Fuzzing one parser steered by coverage: libFuzzer over our byte code, by atheris.

python -m tests.fuzz.guided INPUTS CASES NAME

It finds what mutations do not reach, but is slow to begin: so the tests and `make fuzz` do
without it. `pip install -e '.[fuzz]'` brings what it needs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mailserver"]):
    from tests.fuzz.parsers import TARGETS

from tests.fuzz.target import Broken, Target, try_one


def fuzz(target: Target, inputs: int, cases: Path) -> None:
    """Fuzz in this process, which ends with it; an input that breaks a promise is kept."""

    def check(octets: bytes) -> None:
        try:
            try_one(target, octets)
        except Broken as broken:
            print(f"{target.name} BROKEN, kept as {target.keep(octets, cases)}\n{broken}")
            raise

    directory = Path(tempfile.mkdtemp(prefix="fuzz"))  # the end of this process leaves it
    corpus, words = directory / "corpus", directory / "words"
    corpus.mkdir()
    for number, octets in enumerate([*target.corpus(), *target.cases()]):
        (corpus / str(number)).write_bytes(octets)
    rows = ["".join(f"\\x{octet:02x}" for octet in word) for word in target.words if word]
    words.write_text("".join(f'"{row}"\n' for row in rows))
    options = [f"-runs={inputs}", f"-dict={words}", "-max_len=8192", "-rss_limit_mb=512"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz(TARGETS[sys.argv[3]], int(sys.argv[1]), Path(sys.argv[2]))
