"""A parser under fire: what it is fed, what must hold, and the run that feeds it (R7).

A target's `check` takes octets and raises whatever should never be: an exception that the
parser does not promise, or an `AssertionError` where two of its answers do not fit. All
else that it does with chance follows from the octets (`choices`), so that an input alone
is a case that can be kept and replayed.
"""

from __future__ import annotations

import gc
import hashlib
import random
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.fuzz.mutation import Mutator

CASES = Path(__file__).parent / "cases"
"""Inputs that once broke a parser: `cases/<target>/<digest>`."""

SECOND = 1.0
"""Processor time that no input may take."""

MEMORY = 512 << 20
"""Octets that the process may hold at its peak."""

STALL = 20.0
"""Seconds after which an input is broken off."""


@attrs.frozen
class Target:
    """One parser.

    Attributes:
        name: in words that suit a directory.
        check: feeds it one input, any octets; raises on what must never be.
        corpus: makes inputs that it understands, to be spoiled.
        words: what its grammar is made of, put in and repeated by mutations.
    """

    name: str
    check: Callable[[bytes], object]
    corpus: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()

    def cases(self) -> list[bytes]:
        """Inputs that once broke it."""
        directory = CASES / self.name
        files = sorted(directory.iterdir()) if directory.is_dir() else []
        return [file.read_bytes() for file in files]

    def keep(self, octets: bytes, cases: Path = CASES) -> Path:
        """Write an input among the cases; gives the file."""
        file = cases / self.name / hashlib.sha256(octets).hexdigest()[:16]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(octets)
        return file


class Slow(Exception):
    """An input takes more time than any may."""


class Broken(Exception):
    """An input broke a promise.

    Args:
        octets: the input.
        reason: one line.
    """

    def __init__(self, octets: bytes, reason: str) -> None:
        super().__init__(octets, reason)
        self.octets = octets
        self.reason = reason

    def __str__(self) -> str:
        shown = repr(self.octets[:2000])
        return f"{self.reason}\n{len(self.octets)} octets: {shown}"


@attrs.frozen
class Outcome:
    """What a run measured; seconds are processor time, memory is octets.

    Attributes:
        peak: most memory that the process has held.
        worst: seconds of the slowest input.
    """

    target: str
    inputs: int
    seconds: float
    worst: float
    worst_size: int
    peak: int


def peak_memory() -> int:
    """Octets that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def untraced() -> Iterator[None]:
    """Without the measuring of coverage, which makes Python several times slower."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def try_one(target: Target, octets: bytes) -> float:
    """Feed one input.

    Returns:
        Seconds of processor time.

    Raises:
        Broken: it is over the time, or raised what it must not.
    """

    def stop(signal_number: int, frame: object) -> None:
        raise Slow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, STALL)
    try:
        return _timed(target, octets)
    except Slow:
        raise Broken(octets, f"takes more than {STALL:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _timed(target: Target, octets: bytes) -> float:
    began = time.process_time()
    try:
        target.check(octets)
    except Slow:
        raise
    except Exception as error:
        raise Broken(octets, f"{type(error).__name__}: {error}"[:500]) from error
    seconds = time.process_time() - began
    if seconds > SECOND:
        # What another thread or the collection of garbage took is not the input's fault.
        gc.collect()
        began = time.process_time()
        target.check(octets)
        seconds = min(seconds, time.process_time() - began)
        if seconds > SECOND:
            raise Broken(octets, f"takes {seconds:.2f} s")
    return seconds


def run(target: Target, inputs: int, seed: int, progress: Callable[[int], object] = int) -> Outcome:
    """Feed a target with mutations of its corpus, the same ones for the same seed.

    Args:
        progress: called now and then with the number of inputs done.

    Raises:
        Broken: the first input that breaks a promise.
    """
    mutator = Mutator(random.Random(f"{target.name} {seed}"), target.corpus(), target.words)
    worst = worst_size = 0
    began = time.process_time()
    with untraced():
        for done in range(inputs):
            octets = mutator.next()
            if done % 256 == 0:
                progress(done)
            seconds = try_one(target, octets)
            if seconds > worst:
                worst, worst_size = seconds, len(octets)
    peak = peak_memory()
    return Outcome(target.name, inputs, time.process_time() - began, worst, worst_size, peak)


def choices(octets: bytes) -> random.Random:
    """Chance that follows from the input."""
    return random.Random(zlib.crc32(octets))


def cut(octets: bytes) -> list[bytes]:
    """The octets in packets: single octets when they are few and chance wants it, else up
    to five pieces."""
    source = choices(octets)
    if len(octets) < 200 and source.random() < 0.3:
        return [octets[at : at + 1] for at in range(len(octets))]
    cuts = sorted(source.randint(0, len(octets)) for _ in range(source.randint(1, 4)))
    return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


def is_clean(text: str) -> bool:
    """Whether a text can be kept: databases and sockets take no lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
