"""R1: what was acknowledged survives a SIGKILL of the server, again and again."""

from __future__ import annotations

import os
import random
import signal
import statistics
from pathlib import Path

from tests.crash.journal import Journal
from tests.crash.load import load
from tests.crash.record import Figures, Tell, quiet, seed
from tests.crash.site import ACCOUNTS, Site

GREETING_SECONDS = 2.0
MANY = 20
"""Starts of which the middle one tells about the server."""


def greetings(site: Site) -> dict[str, float]:
    """How long the starts of the server took."""
    return {
        "median": round(statistics.median(site.started_in), 2),
        "longest": round(max(site.started_in), 2),
    }


def kills(directory: Path, rounds: int, dice: random.Random, tell: Tell = quiet) -> Figures:
    """Kill the server amid the work of eight clients, again and again.

    Returns:
        What was acknowledged, and how fast the server was back.
    """
    site, journal = Site(directory), Journal(directory / "journal")
    try:
        site.prepare()
        for round_ in range(rounds):
            site.start()
            journal.check(site, ACCOUNTS)
            if round_ % 20 == 10:
                site.verify()
            load(
                site,
                journal,
                dice,
                dice.uniform(0.05, 1.0),
                lambda: site.end(signal.SIGKILL),
            )
            tell(round_ + 1, rounds)
        site.verify()  # of what the last kill left
        site.start()
        journal.check(site, ACCOUNTS)
        site.end()
        assert not list(site.data.glob("accounts/*/*/mail.sqlite-wal")), "not a clean end"
        site.verify()
        assert "Traceback" not in site.log, site.log[-3000:]
    finally:
        site.abandon()
        journal.close()
    if rounds >= MANY:
        busy = max(1.0, os.getloadavg()[2] / (os.cpu_count() or 1))
        assert statistics.median(site.started_in) < GREETING_SECONDS * busy
    return {
        "kills": rounds,
        "acknowledged": dict(journal.acknowledged),
        "UIDs": len(journal.used),
        "seconds to greeting": greetings(site),
    }


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:  # R1
    figures = kills(tmp_path, 4, random.Random(seed()))
    assert set(figures["acknowledged"]) == {"LMTP", "APPEND", "STORE", "COPY", "MOVE", "EXPUNGE"}
    assert sum(figures["acknowledged"].values()) > 100
    print(figures)
