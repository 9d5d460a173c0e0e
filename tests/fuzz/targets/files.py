"""Archives of mail, lists of accounts, and the lines between processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from mailserver.cli.account import _read_accounts
from mailserver.cli.archives import eml, maildir, mbox, unique_ids
from mailserver.cli.archives.message import ArchivedMessage, ArchiveError
from mailserver.errors import MailError
from mailserver.events.hub import _Client, _Server, decode, encode
from mailserver.interfaces import Event
from mailserver.wire.imap.writer import flag_list
from tests.fuzz.target import Target, choices, cut, is_clean
from tests.mailgen import message


@cache
def scratch() -> Path:
    """A directory of this process, which goes with it."""
    return Path(_directory().name)


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz")


# -- archives ----------------------------------------------------------------------------


def check_message(one: ArchivedMessage) -> None:
    assert one.octets
    assert is_clean(one.mailbox) and is_clean(one.key)
    flag_list(one.flags)  # it can be told to a client
    if one.date is not None:
        assert abs(one.date.seconds) < 1 << 40 and abs(one.date.zone) <= 1439


def check_unique_ids(octets: bytes) -> None:
    """Names of POP3, whichever file of another server holds the octets."""
    for file in ("dovecot-uidlist", "courierpop3dsizelist"):
        folder = scratch() / file
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(octets)
        for format_ in (unique_ids.DOVECOT_DEFAULT, "%u.%Uf%%%4g"):
            for name in unique_ids.of_maildir(folder, format_).values():
                assert 0 < len(name) <= 70 and all("!" <= c <= "~" for c in name)
    named = unique_ids.of_header(octets)
    assert named is None or 0 < len(named) <= 70
    with contextlib.suppress(unique_ids.FormatError):
        unique_ids.check_format(octets.decode("utf-8", "replace"))


def check_mbox(octets: bytes) -> None:
    file = scratch() / "some.mbox"
    file.write_bytes(octets)
    try:
        found = list(mbox.read(file, "INBOX"))
    except ArchiveError:
        assert not octets.startswith(b"From ") or b"\n" not in octets or not is_separator(octets)
        return
    for one in found:
        check_message(one)
    assert len({one.key for one in found}) == len(found)
    assert sum(len(one.octets) for one in found) <= len(octets)
    assert all(one.position <= len(octets) for one in found)


def is_separator(octets: bytes) -> bool:
    return mbox._SEPARATOR.match(octets) is not None


def check_maildir(octets: bytes) -> None:
    """A file's name, its folder's, the list of keywords, and the message, between NULs."""
    name, folder, keywords, content, *_ = [*octets.split(b"\0", 3), b"", b"", b""]
    root = scratch() / "maildir"
    top = os.fsencode(root)
    inside = top + b"/." + folder.replace(b"/", b"")[:80] if folder.strip(b"./") else top
    made = [inside + b"/cur/" + (name.replace(b"/", b"") or b"x")[:200]]
    try:
        for one in (top + b"/cur", inside + b"/cur"):
            os.makedirs(one, exist_ok=True)
        Path(os.fsdecode(inside + b"/dovecot-keywords")).write_bytes(keywords)
        Path(os.fsdecode(made[0])).write_bytes(content)
    except OSError:
        return  # a name that the file system does not take
    try:
        for found in maildir.read(root, ""):
            check_message(found)
    except (ArchiveError, MailError) as error:
        assert str(error)
    finally:
        os.unlink(made[0])
        os.unlink(inside + b"/dovecot-keywords")
        if inside != top:
            os.rmdir(inside + b"/cur")
            os.rmdir(inside)


def check_eml(octets: bytes) -> None:
    file = scratch() / "some.eml"
    file.write_bytes(octets)
    for found in eml.read(file, "INBOX"):
        check_message(found)
        assert found.octets == octets


def mboxes() -> list[bytes]:
    line = b"From a@b Mon Jan  1 00:00:00 2024\n"
    mails = [message(seed)[:1500].replace(b"\r\n", b"\n") for seed in range(4)]
    flags = b"Status: RO\nX-Status: AF\nX-Keywords: $Junk work\n"
    return [
        b"".join(line + mail + b"\n" for mail in mails),
        line + flags + b"Subject: x\n\n>From y\n>>From z\n\n" + line + b"\n\n",
        line.replace(b"2024", b"+0100 2024").replace(b"\n", b"\r\n") + b"Subject: x\r\n\r\n",
        line
        + b"X-IMAP: 1 2\nSubject: DON'T DELETE\n\nmailbox internal data\n\n"
        + line
        + b"x: y\n",
    ]


# -- accounts ----------------------------------------------------------------------------


@cache
def _said() -> io.StringIO:
    """Where refusals go; a single one, since click keeps whatever it once wrote to."""
    return io.StringIO()


def check_accounts(octets: bytes) -> None:
    file = scratch() / "accounts"
    file.write_bytes(octets)
    said = _said()
    said.seek(0)
    said.truncate()
    try:
        with contextlib.redirect_stderr(said):
            rows = list(_read_accounts(str(file)))
    except SystemExit as end:
        assert end.code == 65
        assert str(file) in said.getvalue()
        return
    for account, password in rows:
        assert account.name and isinstance(password, str)
        assert all(isinstance(alias, str) for alias in account.aliases)
        assert account.storage_limit is None or account.storage_limit >= 0


# -- lines between processes -------------------------------------------------------------


class Wire:
    """A transport that only listens."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, octets: bytes) -> None:
        self.written += octets

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.written += b"".join(pieces)

    def abortConnection(self) -> None:
        self.aborted = True


def taken(packets: list[bytes], at_server: bool) -> tuple[list[Event], bytes, bool]:
    """What one end of the hub makes of packets: events, answers, whether it hung up."""
    events: list[Event] = []
    bus: Any = SimpleNamespace(deliver=events.append)
    end: Any = SimpleNamespace(relay=lambda event, source: None, listens=True)
    peer: Any = (_Client if at_server else _Server)(end, bus, Clock())
    peer.transport = wire = Wire()
    for packet in packets:
        if not wire.aborted:
            peer.dataReceived(packet)
    return events, wire.written, wire.aborted


def check_hub(octets: bytes) -> None:
    at_server = choices(octets).random() < 0.5
    events, answers, ended = taken([octets], at_server)
    assert taken(cut(octets), at_server) == (events, answers, ended)
    for event in events:
        assert decode(json.loads(encode(event))) == event


def hub_lines() -> list[bytes]:
    event = {"account": "a" * 26, "mailbox": "m1", "modseq": 7, "kind": "messages"}
    lines = [event, {"hello": 1, "listen": True}, {"ping": 3}, {"pong": 3}, {**event, "kind": []}]
    return [b"".join(json.dumps(line).encode() + b"\n" for line in lines[at:]) for at in range(5)]


JSON_WORDS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b'"',
    b"null",
    b"true",
    b"1e999",
    b"\\ud800",
    b"\n",
)
TARGETS = (
    Target(
        "mbox",
        check_mbox,
        mboxes,
        (
            b"From ", b"\n\nFrom a Mon Jan  1 00:00:00 2024\n", b"00:00", b"2024", b"Status: ",
            b"X-Keywords: ", b"X-Status: ", b"X-IMAP: ", b">From ", b"\n", b"\n\n", b"Jan",
            b"+9999",
        ),
    ),
    Target(
        "maildir",
        check_maildir,
        lambda: [
            b"1700000000.x.host:2,FSab\0Work.2024\0000 $Junk\n1 work\n\0Subject: x\n\nhi\n",
            b"1:2,RTDP\0&AOk-.x\0\0" + message(1)[:500], b"x\0\0000 (\n1 \\Seen\n25 a b\n\0y",
        ],
        (b"\0", b":2,", b".", b"&", b"0 ", b"\n25 ", b"abcz", "é".encode()),
    ),
    Target(
        "unique_ids",
        check_unique_ids,
        lambda: [
            b"3 V1275660208 N25 G3085\n25006 :1276528487.M3P9.host,S=1355:2,S\n25021 P4e S1 :b\n",
            b"1 1275660208 4\n1 1276528487.host:2,S\n3 1276528489.host\n",
            b"/3 12 1275660208\na 40 9:1275660208:0\nb:2,S 40 0:0:1\n", b"/1 12\na 40 9\n",
        ],
        (b"3 V1", b"1 1", b"/3 12 1", b" :", b" P", b" G", b" S1 ", b":2,", b"\n", b"9", b":"),
    ),
    Target("eml", check_eml, lambda: [message(seed)[:1500] for seed in range(4)], (b"Date: ",)),
    Target(
        "accounts",
        check_accounts,
        lambda: [
            b"name,password,quota,message_quota,aliases\na@b,x,5MiB,10,c@d e@f\n\"g@h\",,none,,\n",
            b'{"name": "a@b", "quota": "1GiB", "message_quota": 5, "aliases": ["c@d"]}\n'
            b'{"name": "e@f", "password": null, "aliases": "x y", "display_name": "E"}\n',
            b"\xef\xbb\xbfname,display_name\r\na@b,\"x,\r\ny\"\r\n",
        ],
        (*JSON_WORDS, b"name", b"quota", b"aliases", b"message_quota", b"password", b"5"),
    ),
    Target("hub", check_hub, hub_lines, (*JSON_WORDS, b'"kind"', b'"modseq"', b'"pong"')),
)  # fmt: skip
