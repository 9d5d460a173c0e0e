"""mbsync keeps a Maildir and the server alike, both ways, whatever happened on either side."""

from __future__ import annotations

import hashlib
import imaplib
import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.live.server import Server
from tests.live.test_imaplib import tls
from tests.requires import require_program

FOLDERS = ("INBOX", "Archive", "Work", "Work/2024", "Lists/日本")
MESSAGES = 2000
_FLAG_LETTERS = {
    "\\Draft": "D",
    "\\Flagged": "F",
    "\\Answered": "R",
    "\\Seen": "S",
    "\\Deleted": "T",
}

Contents = dict[str, Counter[tuple[str, str]]]
"""Folder -> (fingerprint of the message, flag letters) -> how often."""


def message(number: int) -> bytes:
    body = "".join(f"line {number}.{line}\r\n" for line in range(number % 40))
    return (
        f"From: sender{number % 7}@example.org\r\nTo: me@example.org\r\n"
        f"Message-ID: <{number}@example.org>\r\nSubject: message {number}\r\n\r\n{body}.\r\n"
    ).encode()


def fingerprint(octets: bytes) -> str:
    """Without X-TUID, a field by which mbsync finds again what it copied."""
    lines = octets.replace(b"\r\n", b"\n")
    return hashlib.sha256(re.sub(rb"(?m)^X-TUID: .*\n", b"", lines)).hexdigest()


def utf7(name: str) -> str:
    return name.replace("日本", "&ZeVnLA-")


def on_server(client: imaplib.IMAP4) -> Contents:
    found: Contents = {}
    for folder in FOLDERS:
        assert client.select(f'"{utf7(folder)}"', readonly=True)[0] == "OK"
        counts: Counter[tuple[str, str]] = Counter()
        for item in client.fetch("1:*", "(FLAGS BODY.PEEK[])")[1]:
            if isinstance(item, tuple):
                flags = imaplib.ParseFlags(item[0])
                letters = "".join(sorted(_FLAG_LETTERS.get(f.decode(), "") for f in flags))
                counts[fingerprint(item[1]), letters] += 1
        found[folder] = counts
    client.unselect()
    return found


def in_maildir(root: Path) -> Contents:
    found: Contents = {}
    for folder in FOLDERS:
        counts: Counter[tuple[str, str]] = Counter()
        for file in files(root, folder):
            letters = "".join(sorted(file.name.partition(":2,")[2]))
            counts[fingerprint(file.read_bytes()), letters] += 1
        found[folder] = counts
    return found


def files(root: Path, folder: str) -> list[Path]:
    directory = root / utf7(folder)
    return sorted(f for part in ("cur", "new") for f in (directory / part).iterdir())


def with_flags(file: Path, letters: str) -> Path:
    return file.parent.parent / "cur" / f"{file.name.partition(':2,')[0]}:2,{letters}"


def test_two_thousand_messages_in_five_folders(
    server: Server, new_account: Callable[[], tuple[str, str]], tmp_path: Path
) -> None:
    mbsync = require_program("mbsync")
    account = new_account()
    chance = random.Random(20240305)
    client = tls(server, account)
    for folder in FOLDERS:
        if folder not in ("INBOX", "Archive"):
            assert client.create(f'"{utf7(folder)}"')[0] == "OK"
    for number in range(MESSAGES // 2):  # half of them start on the server,
        folder = FOLDERS[number % len(FOLDERS)]
        flags = chance.choice([None, "(\\Seen)", "(\\Seen \\Flagged)", "(\\Answered)"])
        assert client.append(f'"{utf7(folder)}"', flags, None, message(number))[0] == "OK"
    root = tmp_path / "mail"
    for number in range(MESSAGES // 2, MESSAGES):  # half in the Maildir
        folder = root / utf7(FOLDERS[number % len(FOLDERS)])
        for part in ("cur", "new", "tmp"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        name = f"cur/{number}.host:2,{chance.choice(['', 'S', 'FS'])}"
        (folder / name).write_bytes(message(number).replace(b"\r\n", b"\n"))

    config = tmp_path / "mbsyncrc"
    config.write_text(
        f"""
IMAPAccount here
Host localhost
Port {server.port("imaps")}
User "{account[0]}"
Pass "{account[1]}"
SSLType IMAPS
CertificateFile {server.ca_file}

IMAPStore far
Account here

MaildirStore near
Path {root}/
Inbox {root}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX Archive Work* Lists/*
Create Both
Expunge Both
Sync All
SyncState *
"""
    )

    def sync() -> None:
        done = subprocess.run(
            [mbsync, "-c", str(config), "-a"], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert not re.search("(?i)warning|error", done.stderr), done.stderr

    sync()
    first = on_server(client)
    assert sum(sum(counts.values()) for counts in first.values()) == MESSAGES
    assert first == in_maildir(root)

    # On the server: new mail, flags, deletions and moves.
    for folder in FOLDERS:
        client.select(f'"{utf7(folder)}"')
        client.store("1:20", "+FLAGS", "(\\Flagged)")
        client.store("11:30", "-FLAGS.SILENT", "(\\Seen)")
        client.store("31:40", "+FLAGS.SILENT", "(\\Deleted)")
        client.expunge()
        other = FOLDERS[(FOLDERS.index(folder) + 1) % len(FOLDERS)]
        assert client._simple_command("MOVE", "41:50", f'"{utf7(other)}"')[0] == "OK"  # type: ignore[attr-defined]
        client.append(f'"{utf7(folder)}"', None, None, message(10_000 + FOLDERS.index(folder)))
    # In the Maildir, on other messages: the same.
    for folder in FOLDERS:
        here = files(root, folder)[-60:]
        for file in here[:10]:
            file.rename(with_flags(file, "FRS"))
        for file in here[10:20]:
            file.rename(with_flags(file, "ST"))
        for file in here[20:30]:
            file.unlink()
        other = FOLDERS[(FOLDERS.index(folder) + 2) % len(FOLDERS)]
        for file in here[30:40]:
            moved = re.sub(r",U=\d+", "", file.name)
            file.rename(root / utf7(other) / "cur" / f"{FOLDERS.index(folder)}m{moved}")
        (root / utf7(folder) / "new" / f"{folder.count('/')}.fresh.host").write_bytes(
            message(20_000 + FOLDERS.index(folder)).replace(b"\r\n", b"\n")
        )
    sync()
    sync()
    last = on_server(client)
    assert last == in_maildir(root), "both sides are identical"
    # 10 moves, 10 + 10 + 10 deletions a folder at most overlap; nothing else may be gone.
    assert sum(map(len, last.values())) >= MESSAGES + 10 - 30 * len(FOLDERS)
    assert sum(sum(counts.values()) for counts in last.values()) == sum(map(len, last.values())), (
        "nothing twice"
    )
    client.logout()
