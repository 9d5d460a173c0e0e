"""The scenarios of `make stress`, made small: the same promises within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import idle
from tests.stress import scenarios
from tests.stress.site import Site, serving

LOGIN_TIMEOUT = 1.5
WRITE_TIMEOUT = 1.0
PER_ADDRESS = 30
BUSY = 3000.0
"""Milliseconds that others may wait at most: where tests run, other tests do too."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options = {
        "service__imap__logintimeout": f'"{LOGIN_TIMEOUT}"',
        "service__imap__writetimeout": f'"{WRITE_TIMEOUT}"',
        "service__maxsessionsperaddress": str(PER_ADDRESS),
        "service__maxsessionsperuser": "12",
        "auth__throttle__firstdelay": '"100ms"',
        "auth__throttle__maxdelay": '"500ms"',
        "auth__throttle__maxwait": '"1s"',
    }
    with serving(tmp_path_factory.mktemp("stress"), **options) as made:
        yield made
        assert not made.tracebacks


def test_one_account(site: Site) -> None:
    """SUN-30."""
    asyncio.run(scenarios.one_account(site, 12))


def test_silence(site: Site) -> None:
    """R11, S3."""
    figures = asyncio.run(scenarios.silent(site, 100, PER_ADDRESS, LOGIN_TIMEOUT))
    assert figures["visits"]


def test_trickle(site: Site) -> None:
    """R11: octets that come do not put the deadline off."""
    figures = asyncio.run(scenarios.trickle(site, 100, 10, LOGIN_TIMEOUT))
    assert figures["admitted"] == 100


def test_half_open(site: Site) -> None:
    """R11."""
    figures = asyncio.run(scenarios.half_open(site, 20, LOGIN_TIMEOUT))
    if "skipped" in figures:
        pytest.skip(str(figures["skipped"]))


def test_wrong_logins(site: Site) -> None:
    """S7."""
    figures = asyncio.run(scenarios.wrong_logins(site, 300, 20, BUSY))
    assert figures["UNAVAILABLE"]


def test_slow_readers(site: Site) -> None:
    """R10."""
    asyncio.run(scenarios.slow_readers(site, 10, 10_000_000, 1.0, WRITE_TIMEOUT, BUSY))


def test_restart(site: Site) -> None:
    """R18; the last one, since the server is gone then."""
    asyncio.run(scenarios.restart(site, 5))


@pytest.mark.long
@pytest.mark.parametrize(("with_tls", "most"), [(False, 12), (True, 70)])
def test_idle_connections_are_cheap(with_tls: bool, most: int) -> None:
    """R9, with some hundred; ten thousand are those of `python -m bench.idle`."""
    figures = idle.measure(300, 10, with_tls=with_tls, still=3.0)
    assert figures.weight < most * 1024
    assert figures.descriptors <= 0
    assert figures.share < 0.02
    assert figures.waits[-1] < 1.0


@pytest.mark.long
def test_few_descriptors(tmp_path: Path) -> None:
    """R11: others are served though there are more connections than descriptors."""
    with serving(tmp_path, 300) as made:
        asyncio.run(scenarios.few_descriptors(made, 300, 10))
        assert not made.tracebacks
