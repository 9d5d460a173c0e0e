"""R12: 64 clients put mail into room for a few at the same moment; it never holds more."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.crash.lmtp import Lmtp
from tests.crash.record import Figures, Tell, quiet
from tests.crash.site import ACCOUNTS, PASSWORD, Site

ACCOUNT = ACCOUNTS[0]
CLIENTS = 64
ROOM = 10
MAIL = b"Subject: one of many\r\n\r\n" + b"x" * 976 + b"\r\n"
STORAGE = (ROOM + 1) * len(MAIL) + len(MAIL) // 2
LIMITS = {"messages": f",{ROOM + 1}", "storage": f"{STORAGE},"}
"""What is limited -> columns quota and message_quota of the account: one message is there."""

Put = Callable[[], str]


def _ready(site: Site, number: int, stack: ExitStack) -> tuple[str, Put]:
    """A client that has but to send what puts a message: what it does, and the act.

    The act returns what the server answers, "OK" if it took the message.
    """
    kind = ("APPEND", "LMTP", "COPY")[number % 3]
    if kind == "LMTP":
        lmtp = stack.enter_context(Lmtp(site.lmtp))
        assert lmtp.offer([ACCOUNT])[0][:3] == "250"

        def deliver() -> str:
            [answer] = lmtp.send(MAIL, 1)
            return "OK" if answer[:3] == "250" else answer

        return kind, deliver
    client = stack.enter_context(site.session(ACCOUNT))
    client.select("Archive")
    rest = b"x COPY 1 INBOX\r\n"
    if kind == "APPEND":
        client.send(b"x APPEND INBOX {%d}\r\n" % len(MAIL))
        assert client.readline()[:1] == b"+"
        rest = MAIL + b"\r\n"

    def put() -> str:
        client.send(rest)
        while not (line := client.readline()).startswith(b"x "):
            assert line, "the server is gone"
        answer = line[2:].decode()
        return "OK" if answer[:3] == "OK " else answer

    return kind, put


def _account(site: Site) -> dict[str, Any]:
    """What the account uses and may use, in octets and messages."""
    shown: dict[str, Any] = json.loads(site.mailctl("account", "show", ACCOUNT, "--json"))
    return shown


def _race(site: Site) -> Counter[str]:
    """Let all clients go at once; returns what was taken, by kind."""
    barrier = threading.Barrier(CLIENTS)
    taken: Counter[str] = Counter()
    answers: list[tuple[str, str]] = []
    with ExitStack() as stack:
        acts = [_ready(site, number, stack) for number in range(CLIENTS)]

        def act(kind: str, put: Put) -> None:
            barrier.wait(20)
            answers.append((kind, put()))

        threads = [threading.Thread(target=act, args=one) for one in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == CLIENTS
    for kind, answer in answers:
        if answer == "OK":
            taken[kind] += 1
        elif kind == "LMTP":
            assert answer[:9] == "452 4.2.2", answer
        else:
            assert answer.startswith("NO [OVERQUOTA]"), answer
    return taken


def quota_races(directory: Path, limited: str, rounds: int, tell: Tell = quiet) -> Figures:
    """Race for the room that is left, empty it, and race again.

    Args:
        limited: a key of `LIMITS`.

    Returns:
        Who got how much of it.
    """
    site = Site(directory)
    taken: Counter[str] = Counter()
    try:
        columns = "name,password,quota,message_quota\n"
        site.prepare(f"{columns}{ACCOUNT},{PASSWORD},{LIMITS[limited]}\n")
        site.start()
        with site.session(ACCOUNT) as client:
            assert client.append("Archive", "", "", MAIL)[0] == "OK"
            for round_ in range(rounds):
                got = _race(site)
                taken += got
                [count] = client.select("INBOX")[1]
                sizes = client.fetch("1:*", "(RFC822.SIZE)")[1]
                storage = len(MAIL) + sum(int(row.split()[-1].rstrip(b")")) for row in sizes)
                account = _account(site)
                assert int(count) == got.total() == account["message_used"] - 1
                assert storage == account["storage_used"]
                if limited == "messages":
                    assert got.total() == ROOM
                else:  # what LMTP adds to a message makes it larger
                    assert STORAGE - 1.5 * len(MAIL) < storage <= STORAGE
                site.verify()  # counters equal a recount
                client.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
                assert client.expunge()[0] == "OK"
                tell(round_ + 1, rounds)
        site.end()
        site.verify()
        assert "Traceback" not in site.log, site.log[-3000:]
    finally:
        site.abandon()
    return {"rounds": rounds, "clients": CLIENTS, "room": ROOM, "taken": dict(taken)}


@pytest.mark.parametrize("limited", list(LIMITS))
def test_room_for_a_few_is_not_overfilled(tmp_path: Path, limited: str) -> None:  # R12
    print(quota_races(tmp_path, limited, 1))
