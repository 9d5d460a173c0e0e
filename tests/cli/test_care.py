"""`mailctl verify`, `repair`, `backup` and `restore` beside a real server (R6, R16)."""

from __future__ import annotations

import imaplib
import json
import re
import signal
import smtplib
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests import mailgen
from tests.service.process import MAILCTL, PASSWORD, Process, run, write_config

TWISTD = str(Path(sys.executable).with_name("twistd"))
ANN, BOB = "ann@example.org", "bob@example.org"
BIG = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 8000


@attrs.define
class Site:
    """A configuration with its data, and a server on it now and then."""

    config: Path
    data: Path

    @classmethod
    def make(cls, folder: Path) -> Site:
        folder.mkdir()
        cheap = {"auth__argon2__time": "1", "auth__argon2__memory": '"64KiB"'}
        return cls(write_config(folder, **cheap), folder / "data")

    def mailctl(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        done = run(MAILCTL, "-c", str(self.config), *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def plain(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.mailctl(*arguments, "--json", code=code)[0])

    @contextmanager
    def server(self) -> Iterator[Process]:
        running = Process.start(TWISTD, "-n", "--pidfile=", "mailserver", "-c", str(self.config))
        try:
            yield running
        finally:
            if running.popen.poll() is None:
                assert running.stop() in (0, -signal.SIGTERM)
            assert not [line for line in running.log if "Traceback" in line], running.log

    def database(self, name: str) -> Path:
        account = self.plain("account", "show", name)["id"]
        return self.data / "accounts" / account[:2] / account / "mail.sqlite"


def deliver(server: Process, name: str, *messages: bytes) -> None:
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=30) as lmtp:
        for message in messages:
            assert lmtp.sendmail("sender@example.net", [name], message) == {}


@contextmanager
def imap(server: Process, name: str) -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30)
    try:
        client.login(name, PASSWORD)
        yield client
    finally:
        client.logout()


def mail(server: Process, name: str) -> tuple[int, dict[int, bytes]]:
    """UIDVALIDITY and UID → octets of INBOX."""
    with imap(server, name) as client:
        assert client.select("INBOX", readonly=True)[0] == "OK"
        validity = int(client.untagged_responses["UIDVALIDITY"][0])
        _, found = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    parts = [part for part in found if isinstance(part, tuple)]
    return validity, {int(re.search(rb"UID (\d+)", head)[1]): body for head, body in parts}  # type: ignore[index]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return with_accounts(tmp_path / "site")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One for tests that change nothing."""
    return with_accounts(tmp_path_factory.mktemp("quiet") / "site")


def with_accounts(folder: Path) -> Site:
    made = Site.make(folder)
    (folder / "accounts.csv").write_text(f"name,password\n{ANN},{PASSWORD}\n{BOB},{PASSWORD}\n")
    made.mailctl("account", "import", str(folder / "accounts.csv"))
    return made


def test_backup_under_load_and_restore_elsewhere(site: Site, tmp_path: Path) -> None:  # R16
    """What was acknowledged before the backup began is in it, and each account is whole."""
    acknowledged: dict[str, list[bytes]] = {ANN: [], BOB: []}
    stop = threading.Event()
    failed: list[BaseException] = []

    def load(server: Process, name: str) -> None:
        try:
            with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=30) as lmtp:
                for number in range(100_000):
                    if stop.is_set():
                        return
                    mark = b"<load-%s-%d@example.org>" % (name.encode(), number)
                    body = BIG if number % 20 == 0 else mailgen.message(number)
                    lmtp.sendmail("x@example.net", [name], b"X-Mark: %s\r\n%s" % (mark, body))
                    acknowledged[name].append(mark)
        except BaseException as error:
            failed.append(error)

    def marks(octets: Iterator[bytes]) -> set[bytes]:
        return {found for message in octets for found in re.findall(rb"X-Mark: (\S+)", message)}

    first, second = tmp_path / "first", tmp_path / "second"
    other = Site.make(tmp_path / "other")
    with site.server() as server:
        threads = [threading.Thread(target=load, args=(server, name)) for name in (ANN, BOB)]
        for thread in threads:
            thread.start()
        threading.Event().wait(0.5)
        before = {name: set(done) for name, done in acknowledged.items()}
        done = site.plain("backup", str(first))
        assert (done["copied"], done["failed"]) == (2, [])
        assert site.plain("verify")["clean"], "beside the server, under load"
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert site.plain("backup", str(second))["copied"] == 2
        live = {name: mail(server, name) for name in (ANN, BOB)}
    assert all(before.values())
    assert site.plain("verify", "--at", str(first)) == {
        "accounts": 2,
        "clean": True,
        "findings": [],
    }
    assert other.plain("restore", str(first))["failed"] == []
    assert other.plain("verify")["clean"]
    with other.server() as server:
        for name in (ANN, BOB):
            validity, there = mail(server, name)
            assert validity == live[name][0]
            assert before[name] <= marks(iter(there.values()))
            assert there == {uid: live[name][1][uid] for uid in there}, "UIDs as they were"
            assert set(there) == set(range(1, len(there) + 1)), "of one moment"
        deliver(server, ANN, b"Subject: later\r\n\r\nx\r\n")
    # Over what is there: it has handed out other UIDs since.
    back = other.plain("restore", str(second))
    renumbered = {one["name"]: one["renumbered"] for one in back["restored"]}
    assert renumbered[ANN] == ["INBOX"]
    assert other.plain("verify")["clean"]
    with other.server() as server:
        validity, there = mail(server, ANN)
        assert validity > live[ANN][0]
        assert there == live[ANN][1]


def test_a_second_backup_copies_what_changed(site: Site, tmp_path: Path) -> None:
    target = str(tmp_path / "copies")
    site.plain("backup", target)
    threading.Event().wait(2.1)  # until what was written is told from what will be
    assert site.plain("backup", target)["failed"] == []
    with site.server() as server:
        deliver(server, ANN, b"Subject: x\r\n\r\nx\r\n")
        done = site.plain("backup", target)
        assert (done["copied"], done["unchanged"]) == (1, 1)
    said, _ = site.mailctl("backup", target, BOB)
    assert said == "0 accounts copied (0), 1 have not changed\n"


def test_damage_is_refused_found_and_repaired(site: Site) -> None:  # R6
    """The log of one account and an octet of another are lost in a crash; the server runs."""
    with site.server() as server:
        ann, bob = site.database(ANN), site.database(BOB)
        for name in (ANN, BOB):
            deliver(server, name, *(mailgen.message(n) for n in range(10)), BIG)
        live = {name: mail(server, name) for name in (ANN, BOB)}
        server.signal(signal.SIGKILL)
        server.wait()
    bob.with_name("mail.sqlite-wal").unlink()
    with closing(sqlite3.connect(ann)) as raw:
        raw.execute("UPDATE octets SET rest = zeroblob(length(rest)) WHERE message = 4")
        raw.commit()
    with site.server() as server:
        with imap(server, ANN) as client:
            client.select("INBOX")
            assert client.uid("FETCH", "3", "(BODY.PEEK[])")[0] == "OK"
            code, text = client.uid("FETCH", "4", "(BODY.PEEK[])")
            assert code == "NO" and b"damaged" in text[0]
        with imap(server, BOB) as client:
            code, [text] = client.select("INBOX")
            assert code == "NO" and b"verify" in text
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            deliver(server, BOB, b"Subject: x\r\n\r\nx\r\n")
        found = site.plain("verify", code=1)
        assert {one["account"] for one in found["findings"]} == {ANN, BOB}
        said, _ = site.mailctl("verify", code=1)
        assert f"error   {ANN}: INBOX: message 4: its octets are not those" in said
        assert f"error   {BOB}: the log of the mail database is lost" in said
        _, wrong = site.mailctl("repair", ANN, code=1)
        assert "open in another process" in wrong, "the server has it open"
        site.mailctl("repair", BOB, code=0)
        assert site.plain("verify", BOB)["clean"]
        deliver(server, BOB, b"Subject: x\r\n\r\nworks again\r\n")
        validity, there = mail(server, BOB)
        assert validity > live[BOB][0]
        assert any(b"works again" in octets for octets in there.values())
        assert any(octets.endswith(BIG) or BIG in octets for octets in _recovered(server)), (
            "by its file"
        )
    said, _ = site.mailctl("repair", code=1)
    assert f"{ANN}: 10 messages kept" in said
    assert "lost: INBOX UID 4" in said
    assert site.mailctl("repair")[0] == "nothing needs to be repaired\n"
    with site.server() as server:
        validity, there = mail(server, ANN)
        assert validity == live[ANN][0]
        assert there == {uid: octets for uid, octets in live[ANN][1].items() if uid != 4}


def _recovered(server: Process) -> list[bytes]:
    with imap(server, BOB) as client:
        client.select("Recovered", readonly=True)
        _, found = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    return [part[1] for part in found if isinstance(part, tuple)]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["verify", "nobody@example.org"], 67, "there is no account nobody@example.org"),
        (["repair", "nobody@example.org"], 67, "there is no account nobody@example.org"),
        (["backup", "copies", "nobody@example.org"], 67, "there is no account"),
        (["restore", "nowhere"], 2, "does not exist"),
        (["verify", "--at", "nowhere"], 2, "does not exist"),
    ],
)
def test_what_is_wrong_is_said(
    quiet: Site, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    arguments = [str(tmp_path / a) if a in ("copies", "nowhere") else a for a in arguments]
    _, said = quiet.mailctl(*arguments, code=code)
    assert says in said


def test_without_a_directory_accounts_are_known_by_their_ids(site: Site, tmp_path: Path) -> None:
    (site.data / "directory.sqlite").rename(tmp_path / "aside")
    found = site.plain("verify", code=1)
    assert found["accounts"] == 2
    assert "the directory of accounts is missing" in [one["what"] for one in found["findings"]]
    _, said = site.mailctl("backup", str(tmp_path / "copies"), code=75)
    assert said
