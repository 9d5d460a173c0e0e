"""Imports of real size, interrupted and repeated; nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.server import MAILCTL, Server
from tests.live.test_imaplib import tls
from tests.mailgen import message as generated

SIZES = [pytest.param(3000, id="3000"), pytest.param(20_000, id="20000", marks=pytest.mark.long)]


def make_mbox(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for number in range(count):
            octets = numbered(number).replace(b"\r\n", b"\n")
            quoted = re.sub(rb"(?m)^(>*From )", rb">\1", octets)
            file.write(b"From a@example.org Tue Mar  5 10:11:12 2024\n" + quoted + b"\n")


def make_maildir(path: Path, count: int) -> None:
    folders = (path, path / ".Work", path / ".Work.2024", path / ".Lists")
    for folder in folders:
        for part in ("cur", "new", "tmp"):
            (folder / part).mkdir(parents=True)
    for number in range(count):
        name = f"cur/1709633472.M{number}.host:2,{'S' if number % 3 else ''}"
        (folders[number % 4] / name).write_bytes(numbered(number).replace(b"\r\n", b"\n"))


def numbered(number: int) -> bytes:
    return b"X-Number: %d\r\n" % number + generated(number)


def numbers_on_server(server: Server, account: tuple[str, str], folders: list[str]) -> list[int]:
    client = tls(server, account)
    found: list[int] = []
    for folder in folders:
        assert client.select(folder, readonly=True)[0] == "OK"
        if client.untagged_responses["EXISTS"] == [b"0"]:
            continue
        rows = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (X-NUMBER)])")[1]
        found += [int(row[1].split(b":")[1]) for row in rows if isinstance(row, tuple)]
    client.logout()
    return sorted(found)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize(
    ("format_", "folders"),
    [("mbox", ["INBOX"]), ("maildir", ["INBOX", "Work", "Work/2024", "Lists"])],
)
def test_an_interrupted_import_is_resumed(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    format_: str,
    folders: list[str],
    count: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = new_account()
    source = tmp_path / "source"
    (make_mbox if format_ == "mbox" else make_maildir)(source, count)
    command = [MAILCTL, "import", account[0], str(source), "--json"]
    running = subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        done = len(numbers_on_server(server, account, ["INBOX"]))
        if done > 50 or running.poll() is not None:
            break
    running.send_signal(signal.SIGKILL)
    running.communicate()
    interrupted = numbers_on_server(server, account, ["INBOX"])
    assert 0 < len(interrupted) < count, "it was interrupted in the middle"

    started = time.monotonic()
    result = json.loads(server.mailctl(*command[1:]))
    seconds = time.monotonic() - started
    assert numbers_on_server(server, account, folders) == list(range(count)), "all, none twice"
    assert result["imported"] + result["already_there"] == count
    assert result["already_there"] >= len(interrupted)
    with capsys.disabled():
        rate = result["imported"] / seconds
        print(f"\nimport by {format_}: {result['imported']} messages, {rate:.0f}/s")

    again = json.loads(server.mailctl(*command[1:]))
    assert (again["imported"], again["already_there"]) == (0, count)


@pytest.mark.parametrize("format_", ["mbox", "maildir", "eml"])
def test_what_is_exported_can_be_imported(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    format_: str,
) -> None:
    account, other = new_account(), new_account()
    make_maildir(tmp_path / "source", 40)
    server.mailctl("import", account[0], str(tmp_path / "source"))
    target = tmp_path / "target"
    for _ in range(2):
        server.mailctl("export", account[0], str(target), "--format", format_)
    server.mailctl("import", other[0], str(target), "--format", format_)
    folders = ["INBOX", "Work", "Work/2024", "Lists"]
    assert numbers_on_server(server, other, folders) == list(range(40))
    for folder in folders:
        assert digest(server, account, folder, format_) == digest(server, other, folder, format_)


def digest(server: Server, account: tuple[str, str], folder: str, format_: str) -> list[object]:
    """What a mailbox holds, without UIDs; the eml format knows neither flags nor arrival."""
    client = tls(server, account)
    client.select(folder, readonly=True)
    items = "BODY.PEEK[]" if format_ == "eml" else "FLAGS INTERNALDATE BODY.PEEK[]"
    rows = client.fetch("1:*", f"({items})")[1]
    client.logout()
    return sorted(
        (re.sub(rb"^\d+ | BODY\[\].*| UID \d+", b"", row[0]), row[1].rstrip(b"\r\n"))
        for row in rows
        if isinstance(row, tuple)
    )


@pytest.mark.parametrize(
    "count",
    [pytest.param(5000, id="5000"), pytest.param(100_000, id="100000", marks=pytest.mark.long)],
)
def test_a_large_mailbox_is_selected_listed_by_pages_and_searched(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    count: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = new_account()
    with (tmp_path / "large").open("wb") as file:
        for number in range(count):
            file.write(
                b"From a@example.org Tue Mar  5 10:11:12 2024\nFrom: a@example.org\n"
                b"Message-ID: <%d@example.org>\nSubject: number %d\n\nword%d in the text\n\n"
                % (number, number, number % 1000)
            )
    server.mailctl("import", account[0], str(tmp_path / "large"))
    client = tls(server, account)
    took: dict[str, float] = {}

    def timed(name: str, call: Callable[[], tuple[str, list[bytes]]]) -> list[bytes]:
        started = time.monotonic()
        status, answer = call()
        took[name] = (time.monotonic() - started) * 1000
        assert status == "OK"
        return answer

    assert timed("select", lambda: client.select("INBOX")) == [b"%d" % count]
    for name, start in (("first page", 1), ("middle page", count // 2), ("last page", count - 49)):
        page = timed(
            name,
            lambda start=start: client.fetch(  # type: ignore[misc]
                f"{start}:{start + 49}", "(UID FLAGS ENVELOPE RFC822.SIZE)"
            ),
        )
        assert len(page) == 50
        assert b'"number %d"' % (start - 1) in page[0]
    assert len(timed("all flags", lambda: client.fetch("1:*", "(FLAGS)"))) == count
    assert len(timed("search unseen", lambda: client.search(None, "UNSEEN"))[0].split()) == count
    found = timed("search subject", lambda: client.search(None, "SUBJECT", '"number 4321"'))
    assert b"4322" in found[0].split()
    found = timed("search body", lambda: client.search(None, "BODY", '"word321 "'))
    assert len(found[0].split()) == count // 1000
    client.logout()
    with capsys.disabled():
        print(f"\n{count} messages, ms: " + ", ".join(f"{k} {v:.0f}" for k, v in took.items()))
