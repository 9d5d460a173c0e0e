"""The lines of the log."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, textFileLogObserver
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailserver.service.logging import filtered, set_level, text_observer

BASE: dict[str, Any] = {
    "log_level": LogLevel.info,
    "log_namespace": "mailserver.test",
    "log_time": 1_790_000_000.7,
}
FAILURE = Failure(ValueError("why"))  # type: ignore[no-untyped-call]
EVENTS: dict[str, dict[str, Any]] = {
    "plain": {"log_format": "{label} delivered octets={size}", "label": "LMTP-1", "size": 3},
    "repr": {"log_format": "{what!r}", "what": "x"},
    "attribute": {"log_format": "{level.name}", "level": LogLevel.warn},
    "call": {"log_format": "{what()}", "what": lambda: "called"},
    "of two lines": {"log_format": "one\ntwo {what}", "what": "a\nb"},
    "value missing": {"log_format": "{nothing}"},
    "format broken": {"log_format": "{"},
    "format of octets": {"log_format": b"octets {what}", "what": 1},
    "no format": {},
    "failure": {"log_format": "broken", "log_failure": FAILURE},
    "legacy": {"log_system": "old", "log_format": "{what}", "what": 1},
    "no time": {"log_format": "x", "log_time": None},
}


@pytest.mark.parametrize("name", EVENTS)
def test_lines_are_those_of_twisted(name: str) -> None:
    ours, theirs = io.StringIO(), io.StringIO()
    text_observer(ours)(BASE | EVENTS[name])
    textFileLogObserver(theirs)(BASE | EVENTS[name])
    assert ours.getvalue() == theirs.getvalue()
    assert ours.getvalue() or name == "no format"


@pytest.fixture
def level() -> Iterator[None]:
    yield
    set_level("info")


@pytest.mark.usefixtures("level")
def test_what_is_below_the_level_is_not_logged() -> None:
    out = io.StringIO()
    observer = filtered(text_observer(out))
    assert verifyObject(ILogObserver, observer)
    log = Logger("test", observer=LogPublisher(observer))
    for least, lines in (("info", 3), ("error", 1), ("debug", 4), ("warn", 2)):
        out.truncate(out.seek(0))
        set_level(least)
        log.debug("text")
        log.info("text")
        log.warn("text")  # noqa: G010 - Twisted's name
        log.error("text")
        assert len(out.getvalue().splitlines()) == lines
