"""One server for all live tests of a run; each test makes its own account."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.live.server import Server, start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tmp_path_factory.mktemp("live") / "data")
    yield running
    assert running.stop() == 0, "SIGTERM ends the server cleanly"


_numbers = itertools.count(1)


@pytest.fixture
def new_account(server: Server) -> Callable[[], tuple[str, str]]:
    """A function that makes one more account: (name, password)."""
    domain = server.demo_account()[0].partition("@")[2]
    return lambda: server.new_account(f"live{next(_numbers)}@{domain}")
