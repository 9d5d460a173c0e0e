"""The lines of the log."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import (
    ILogObserver,
    Logger,
    LogLevel,
    LogPublisher,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailserver.server.connection import SESSION
from mailserver.server.imap.settings import ImapSettings
from mailserver.service import logging
from mailserver.service import options as o
from mailserver.service.config import load
from mailserver.service.logging import filtered, line_observer, set_format, set_levels
from mailserver.service.parts import imap_settings, lmtp_settings, pop3_settings
from tests.server.pop3.harness import Client, services
from tests.server.rig import rig

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
    line_observer(ours)(BASE | EVENTS[name])
    textFileLogObserver(theirs)(BASE | EVENTS[name])
    assert ours.getvalue() == theirs.getvalue().replace("\n\t\n", "\n")
    assert ours.getvalue() or name == "no format"


@pytest.fixture
def level() -> Iterator[None]:
    yield
    set_levels("info")
    set_format("text")


@pytest.mark.usefixtures("level")
def test_what_is_below_the_level_is_not_logged() -> None:
    out = io.StringIO()
    observer = filtered(line_observer(out))
    assert verifyObject(ILogObserver, observer)
    log = Logger("test", observer=LogPublisher(observer))
    for least, lines in (("info", 3), ("error", 1), ("debug", 4), ("warn", 2)):
        out.truncate(out.seek(0))
        set_levels(least)
        log.debug("text")
        log.info("text")
        log.warn("text")  # noqa: G010 - Twisted's name
        log.error("text")
        assert len(out.getvalue().splitlines()) == lines


def lines_of(*events: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    observer = line_observer(out)
    for event in events:
        observer(BASE | event)
    return out.getvalue().splitlines()


FORGED = "x\r\n2026-01-01T00:00:00+0000 [auth#info] forged\x1b[31m\u2028\u202e"


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("form", ["text", "json"])
def test_nobody_forges_a_line(form: str) -> None:
    """S13: what clients send cannot end a line, nor move a terminal's cursor."""
    set_format(form)
    broken = Failure(ValueError(FORGED))  # type: ignore[no-untyped-call]
    lines = lines_of(
        {"log_format": "name {name}", "name": FORGED},
        {"log_format": "broken", "log_failure": broken},
    )
    assert all(line.isprintable() for line in (line.lstrip("\t") for line in lines))
    for line in lines:
        assert not line.startswith("2026-01-01")
    if form == "json":
        [first, second] = [json.loads(line) for line in lines]
        assert "forged" in first["text"] and first["values"]["name"]
        assert any("forged" in line for line in second["traceback"])


@pytest.mark.usefixtures("level")
def test_an_object_a_line() -> None:
    """The names of members stay as they are: programs read them."""
    set_format("json")
    note = {
        "log_format": "{label} {text}{shown}",
        "log_namespace": "mailserver.server.imap.protocol.ImapConnection",
        "label": "IMAP-00007",
        "text": "closed",
        "shown": " seconds=3",
        "values": {"seconds": 3, "address": "192.0.2.7"},
    }
    token = SESSION.set("POP3-00008")
    other = {"log_format": "{count} of {what}", "count": 1, "what": ["x"]}
    [first, second] = [json.loads(line) for line in lines_of(note, other)]
    SESSION.reset(token)
    assert first == {
        "time": "2026-09-21T14:13:20.700Z",
        "level": "info",
        "module": "imap",
        "logger": "mailserver.server.imap.protocol.ImapConnection",
        "session": "IMAP-00007",
        "text": "closed",
        "values": {"seconds": 3, "address": "192.0.2.7"},
    }
    assert second["session"] == "POP3-00008"
    assert second["text"] == "1 of ['x']"
    assert second["values"] == {"count": 1, "what": "['x']"}
    assert second["module"] == ""


def test_lines_that_others_write_carry_the_session() -> None:
    """CGP-1."""
    token = SESSION.set("IMAP-00007")
    [line] = lines_of({"log_format": "login refused"})
    SESSION.reset(token)
    assert line.endswith("[mailserver.test#info] IMAP-00007 login refused")


@pytest.mark.usefixtures("level")
def test_levels_per_module() -> None:
    """CGP-1: the most exact name counts."""
    out = io.StringIO()
    observer = filtered(line_observer(out))
    set_levels("error", ("imap=debug", "service=warn", "tls=trace"))
    for namespace in (
        "mailserver.server.imap.protocol.ImapConnection",
        "mailserver.server.imaginary",
        "mailserver.service.monitor",
        "mailserver.service.tls.files",
        "twisted.internet",
        "-",
    ):
        for level in (LogLevel.debug, LogLevel.warn, LogLevel.error):
            observer(
                {"log_level": level, "log_namespace": namespace, "log_format": namespace}
                | {"log_time": 0.0}
            )
    seen = [line.rpartition(" ")[2].rpartition(".")[2] for line in out.getvalue().splitlines()]
    assert seen == [
        *["ImapConnection"] * 3, "imaginary", *["monitor"] * 2, *["files"] * 3, "internet", "-",
    ]  # fmt: skip


def test_trace_is_a_level() -> None:
    def traced(**values: str) -> list[bool]:
        settings = load(None, {name.replace("_", "."): text for name, text in values.items()})
        readers = (imap_settings, pop3_settings, lmtp_settings)
        return [reader(settings).trace for reader in readers]

    assert traced() == [False, False, False]
    assert traced(log_level="trace") == [True, True, True]
    assert traced(log_level="trace", log_modules="pop=info") == [True, False, True]
    assert traced(log_modules="imap=trace,lmtp=debug") == [True, False, False]
    assert load(None, {"log.modules": "IMAP=Debug tls=warn"})[o.local.LOG_MODULES] == (
        "imap=debug",
        "tls=warn",
    )


SECRETS = ("s3cret-of-Ann", "wr0ng-Guess", "s4sl-Token")


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_a_log_of_everything(tmp_path: Path, form: str) -> None:
    """S13: passwords, SASL responses and message text, as they are and in base64."""
    out = io.StringIO()
    observer = filtered(line_observer(out))
    set_levels("trace")
    set_format(form)
    globalLogPublisher.addObserver(observer)
    right, wrong, token = SECRETS
    plain = [base64.b64encode(f"\0ann@example.org\0{one}".encode()) for one in SECRETS]
    try:
        with rig(tmp_path, ImapSettings(trace=True), accounts=()) as server:
            server.add_account("ann@example.org", right)
            server.deliver(b"Subject: c4nary\r\n\r\nc4nary text\r\n", "ann@example.org")
            imap = server.connect().greeted()
            imap.command(b"AUTHENTICATE PLAIN =")
            imap.send(b"a AUTHENTICATE PLAIN\r\n" + plain[0] + b"\r\n")
            imap.read_response()
            assert b"a OK" in imap.read_response()
            imap.select()
            imap.command(b"UID FETCH 1:* (BODY[])")
            imap.command(b"XSECRET " + token.encode())
            imap = server.connect().greeted()
            imap.command(f"LOGIN ann@example.org {{{len(right)}+}}\r\n{right}".encode())
            imap = server.connect().greeted()
            imap.send(f"a LOGIN ann@example.org {wrong}\r\n".encode())
            server.loop.advance(20)
            imap.read_response()
            shared = services(server, trace=True)
            for commands in (
                f"USER ann@example.org\r\nPASS {right}\r\nRETR 1\r\nQUIT\r\n".encode(),
                b"AUTH PLAIN " + plain[0] + b"\r\n",
                b"AUTH PLAIN " + plain[1] + b"\r\nPASS " + token.encode() + b"\r\n",
                b"AUTH PLAIN\r\n" + plain[2] + b"\r\n",
            ):
                pop = Client(server, shared)
                pop.line()
                pop.send(commands)
                server.loop.advance(30)
                assert pop.line().startswith(("+OK ", "-ERR ", "+ "))
                pop.transport.lose()
    finally:
        globalLogPublisher.removeObserver(observer)
    log = out.getvalue()
    assert "Login(" in log and "Pass(" in log and "Authenticate(" in log and "Auth(" in log
    for secret in (*SECRETS, *(one.decode() for one in plain), "c4nary"):
        assert secret not in log


def test_lines_of_workers_tell_their_process_and_go_where_ours_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SUN-31: in one piece each, however they come over."""
    out = io.StringIO()
    ours = line_observer(out)
    monkeypatch.setattr(logging, "_out", out)
    written = io.StringIO()
    monkeypatch.setattr(logging, "_process", 3)
    event = {**BASE, "log_format": "ünder way", "log_level": LogLevel.warn}
    line_observer(written)(event)
    monkeypatch.setattr(logging, "_process", 0)
    theirs = written.getvalue()
    assert "[worker 3, mailserver.test#warn] ünder way" in theirs
    writer = logging.LineWriter()
    octets = theirs.encode()
    for at in range(len(octets)):
        if at == 30:
            ours({**BASE, "log_format": "amid it"})
        writer.write(octets[at : at + 1])
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("amid it") and "worker" not in lines[0]
    assert lines[1] == theirs.removesuffix("\n")


def test_objects_of_workers_have_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    event = {**BASE, "log_format": "x"}
    assert "process" not in json.loads(logging.json_line(event))
    monkeypatch.setattr(logging, "_process", 3)
    assert json.loads(logging.json_line(event))["process"] == 3
