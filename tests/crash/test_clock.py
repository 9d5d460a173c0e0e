"""R5: a clock that jumps by ten years either way, or stands still, changes no promise.

The server runs on the clock of libfaketime, which is set while it works. Its monotonic
clock is left alone, as no administrator and no NTP daemon can set that either.
"""

from __future__ import annotations

import imaplib
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from tests.crash.journal import message
from tests.crash.record import Figures, Tell, quiet
from tests.crash.site import ACCOUNTS, Site
from tests.requires import require_program

ACCOUNT = ACCOUNTS[0]
CLOCKS = ("+0", "+10y", "-10y", "2031-02-03 04:05:06", "+0", "-10y")
"""What the clock is set to in turn: before or after the true time, or standing still."""

KEEPALIVE_SECONDS = 5.0
"""Within which a sign of life must come that is due every second."""


@attrs.define
class Clock:
    """The wall clock of a server."""

    path: Path

    def set(self, to: str) -> None:
        """Set it, at once, for the processes that run on it."""
        new = self.path.with_suffix(".new")
        new.write_text(to + "\n")
        new.replace(self.path)

    def environment(self) -> dict[str, str]:
        """What a process needs to run on it."""
        program = Path(require_program("faketime"))
        libraries = program.parents[1].glob("lib/**/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(next(iter(libraries))),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@attrs.define
class Ids:
    """The ids that the server has given, which may only rise."""

    site: Site
    uid: int = 0
    mod_sequence: int = 0
    validity: int = 0  # of a mailbox that is deleted and made again

    def rise(self, client: imaplib.IMAP4) -> None:
        """Append a message, and make a mailbox again; every id is a new one."""
        assert client.noop()[0] == "OK"
        answer, data = client.append("INBOX", "", "", message(self.uid + 1))
        assert answer == "OK", data
        assert re.search(rb"APPENDUID \d+ %d\b" % (self.uid + 1), data[0]), data
        self.uid += 1
        database = self.site.directory_of(ACCOUNT) / "mail.sqlite"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = "SELECT highest_modseq FROM mailbox WHERE name = 'INBOX'"
            [(mod_sequence,)] = connection.execute(query).fetchall()
        assert self.mod_sequence < mod_sequence < self.mod_sequence + 10
        self.mod_sequence = mod_sequence
        if self.validity:
            assert client.delete("Box")[0] == "OK"
        assert client.create("Box")[0] == "OK"
        data = client.status("Box", "(UIDVALIDITY)")[1]
        found = re.search(rb"UIDVALIDITY (\d+)", data[0])
        assert found
        assert self.validity < int(found[1]) < 2**32  # T58
        self.validity = int(found[1])


def signs_of_life(client: imaplib.IMAP4) -> Iterator[float]:
    """Send IDLE; yield the seconds until each sign of life; news of mail are none."""
    client.send(b"i IDLE\r\n")
    assert client.readline().startswith(b"+")
    client.sock.settimeout(KEEPALIVE_SECONDS)
    while True:
        began = time.monotonic()
        while not (line := client.readline()).startswith(b"* OK"):
            assert line.endswith((b" EXISTS\r\n", b" RECENT\r\n")), line
        yield time.monotonic() - began


def clocks(directory: Path, settings: tuple[str, ...], tell: Tell = quiet) -> Figures:
    """Set the clock of a running server, and of one that starts.

    Returns:
        How long signs of life in IDLE took, that were due every second.
    """
    clock = Clock(directory / "clock")
    clock.set(settings[0])
    site = Site(directory, environment=clock.environment())
    ids = Ids(site)
    waits: list[float] = []
    try:
        site.prepare()
        site.start()
        for number, setting in enumerate(settings):
            with site.session(ACCOUNT) as client, site.session(ACCOUNT) as idler:
                idler.select()
                signs = signs_of_life(idler)
                clock.set(setting)
                ids.rise(client)
                waits += [next(signs), next(signs)]
                wrong = imaplib.IMAP4("127.0.0.1", site.imap, timeout=20)
                with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                    wrong.login(f"nobody{number}@crash.example", "wrong")  # after a delay
                wrong.shutdown()
            if number % 2:
                site.end()
                site.start()
                with site.session(ACCOUNT) as client:
                    ids.rise(client)
                    assert client.select()[1] == [b"%d" % ids.uid]
            tell(number + 1, len(settings))
        site.end()
        clock.set("+0")
        site.verify()
        assert "Traceback" not in site.log, site.log[-3000:]
    finally:
        site.abandon()
    return {
        "clocks": list(settings),
        "UIDs": ids.uid,
        "seconds between signs of life": [round(min(waits), 2), round(max(waits), 2)],
    }


def test_ids_and_timers_do_not_depend_on_the_clock(tmp_path: Path) -> None:  # R5, T58
    print(clocks(tmp_path, ("+10y", "-10y")))
