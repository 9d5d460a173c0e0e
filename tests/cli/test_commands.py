"""`mailctl` as an administrator types it: a process of its own, on a real data directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MAILCTL = str(Path(sys.executable).with_name("mailctl"))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mailctl")
    (directory / "mailserver.toml").write_text(
        '[local]\ndatadirectory = "data"\n[auth.argon2]\ntime = 1\nmemory = "64KiB"\n'
        "[auth.scram]\niterations = 4096\n"
    )
    return directory


@pytest.fixture(scope="module")
def mailctl(data: Path) -> Run:
    def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MAILCTL, "--config", str(data / "mailserver.toml"), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "COLUMNS": "150"},
            check=False,
        )

    return run


def plain(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ann(mailctl: Run) -> str:
    done = mailctl(
        "account", "add", "Ann@Example.ORG", "--password-file", "-", "--quota", "10MiB",
        "--alias", "post@example.org", text="correct horse\n",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ann@example.org added\n"), done.stderr
    return "ann@example.org"


def test_an_account_is_shown_and_changed(mailctl: Run, ann: str) -> None:
    shown = plain(mailctl("account", "show", "post@example.org", "--json"))
    assert shown["name"] == ann
    assert (shown["storage_limit"], shown["storage_used"]) == (10 * 2**20, 0)
    assert shown["aliases"] == ["post@example.org"]
    changed = plain(
        mailctl("account", "set", ann, "--quota", "none", "--message-quota", "1000",
                "--add-alias", "a@example.org", "--remove-alias", "post@example.org",
                "--display-name", "Ann 山田", "--json")
    )  # fmt: skip
    assert changed["aliases"] == ["a@example.org"]
    assert changed["display_name"] == "Ann 山田"
    shown = plain(mailctl("account", "show", ann, "--json"))
    assert (shown["storage_limit"], shown["message_limit"]) == (None, 1000)
    assert "Ann 山田" in mailctl("account", "list").stdout


def test_no_secret_is_kept_or_shown(mailctl: Run, data: Path, ann: str) -> None:
    assert "$argon2" not in mailctl("account", "show", ann, "--json").stdout
    for file in data.rglob("*"):
        assert not file.is_file() or b"correct horse" not in file.read_bytes(), file


def test_a_generated_password_is_printed_once(mailctl: Run, ann: str) -> None:
    done = mailctl("account", "passwd", ann, "--generate")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()[-1]) == 20


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["account", "show", "nobody@example.org"], 67, "there is no account nobody@example.org"),
        (["account", "add", "ann@example.org", "--generate"], 73, "is already an account"),
        (["account", "add", "no spaces please@example.org", "--generate"], 65, "not a usable"),
        (["account", "add", "x@example.org"], 64, "give --password-file"),
        (["account", "add", "x@example.org", "--quota", "much", "--generate"], 2, "much"),
        (["account", "set", "ann@example.org"], 64, "nothing to set"),
        (["account", "delete", "nobody@example.org", "--yes"], 67, "there is no account"),
        (["mailbox", "create", "ann@example.org", "a//b"], 65, "no empty part"),
        (["mailbox", "delete", "ann@example.org", "INBOX", "--yes"], 65, "INBOX"),
        (["mailbox", "delete", "ann@example.org", "nope", "--yes"], 67, "nope"),
        (["import", "ann@example.org", "/dev/null"], 65, "neither mbox nor Maildir"),
        (["configutil", "-o", "service.imap.prot"], 78, "did you mean service.imap.port?"),
        (["configutil", "-o", "service.imap.port", "-v", "imap"], 78, "takes a whole number"),
        (["configutil", "-o", "local.datadirectory", "-v", "x"], 78, "configuration file"),
        (["configutil", "-v", "x"], 64, "Name it with -o"),
        (["--config", "/nowhere.toml", "account", "list"], 78, "No such file or directory"),
        (["frobnicate"], 2, "frobnicate"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_in_one_sentence(
    mailctl: Run, ann: str, arguments: list[str], code: int, says: str
) -> None:
    done = mailctl(*arguments, text="")
    assert says in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_thousands_of_accounts_from_csv_all_or_none(mailctl: Run, tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    rows = "".join(f"user{n}@school.example,secret{n},5GiB\n" for n in range(60))
    file.write_text("name,password,quota\n" + rows + "user7@school.example,x,1\n")
    done = mailctl("account", "import", str(file))
    assert done.returncode == 73
    assert "user7@school.example" in done.stderr
    names = [one["name"] for one in plain(mailctl("account", "list", "--json"))]
    assert not [name for name in names if "school" in name], "none of them"
    file.write_text("name,password,quota\n" + rows)
    assert plain(mailctl("account", "import", str(file), "--json")) == {"added": 60}
    accounts = {one["name"]: one for one in plain(mailctl("account", "list", "--json"))}
    assert accounts["user59@school.example"]["storage_limit"] == 5 * 2**30


def test_accounts_from_json_lines(mailctl: Run) -> None:
    lines = (
        '{"name": "eva@lines.example", "display_name": "Eva", "aliases": ["e@lines.example"]}\n\n'
        '{"name": "max@lines.example", "message_quota": 5}\n'
    )
    assert plain(mailctl("account", "import", "-", "--json", text=lines)) == {"added": 2}
    assert plain(mailctl("account", "show", "e@lines.example", "--json"))["display_name"] == "Eva"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name;password\na@b.example;x\n", "-:1: the first line names no column called name"),
        ("name,colour\na@b.example,red\n", "-:2: there is no column 'colour'"),
        ("name,quota\na@b.example,many\n", "-:2: quota: 'many'"),
        ("name,quota\na@b.example\n", "-:2: has more or fewer values"),
        ('{"name": "a@b.example"}\n{"name": ', "-:2: not JSON"),
        ('{"name": "a@b.example", "message_quota": "x"}', "-:1: message_quota: 'x'"),
        ('{"password": "x"}', "-:1: an account needs a name"),
    ],
)
def test_a_bad_list_of_accounts_names_file_line_and_reason(
    mailctl: Run, text: str, says: str
) -> None:
    done = mailctl("account", "import", "-", text=text)
    assert done.returncode == 65
    assert says in done.stderr


def test_mailboxes(mailctl: Run, ann: str) -> None:
    assert (
        mailctl("mailbox", "create", ann, "Werk/日本", "--special-use", "flagged").returncode == 0
    )
    boxes = {box["name"]: box for box in plain(mailctl("mailbox", "list", ann, "--json"))}
    assert set(boxes) == {
        "INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash", "Werk", "Werk/日本",
    }  # fmt: skip
    assert boxes["Werk/日本"]["special_use"] == "\\Flagged"
    assert boxes["Werk/日本"]["subscribed"]
    assert mailctl("mailbox", "rename", ann, "Werk", "Alt").returncode == 0
    assert mailctl("mailbox", "unsubscribe", ann, "INBOX").returncode == 0
    assert mailctl("mailbox", "delete", ann, "Alt/日本", "--yes").returncode == 0
    boxes = {box["name"]: box for box in plain(mailctl("mailbox", "list", ann, "--json"))}
    assert "Alt" in boxes
    assert "Alt/日本" not in boxes
    assert not boxes["INBOX"]["subscribed"]


def test_options_are_set_shown_and_unset(mailctl: Run, data: Path) -> None:
    """SUN-6: names in any case; only overrides are stored; defaults are kept apart."""
    done = mailctl("configutil", "-o", "SERVICE.imap.BANNER", "-v", "mail of the school")
    assert "service.imap.banner is set; a reload makes it act" in done.stdout
    assert mailctl("configutil", "-o", "service.imap.banner").stdout == "mail of the school\n"
    listed = plain(mailctl("configutil", "-H", "--json"))
    assert listed["service.imap.banner"]["source"] == "overrides"
    assert listed["service.imap.port"]["default"] == "143"
    assert "service.imap.maxsessions" in mailctl("configutil", "-H").stdout
    overrides = (data / "data" / "overrides.toml").read_text()
    assert overrides.count("=") == 1, "only what was set"
    assert mailctl("configutil", "-o", "service.imap.banner", "--unset").returncode == 0
    assert mailctl("configutil", "-o", "service.imap.banner").stdout == "\n"


def test_deleted_accounts_are_gone_with_their_mail(mailctl: Run, data: Path) -> None:
    mailctl("account", "add", "gone@example.org", "--no-password")
    identifier = plain(mailctl("account", "show", "gone@example.org", "--json"))["id"]
    assert list(data.rglob(identifier))
    assert (
        "gone@example.org deleted"
        in mailctl("account", "delete", "gone@example.org", text="y\n").stdout
    )
    assert not list(data.rglob(identifier))


def test_an_import_says_what_it_refused_and_takes_the_rest(mailctl: Run, tmp_path: Path) -> None:
    mailctl("account", "add", "imp@example.org", "--no-password")
    (tmp_path / "ok.eml").write_bytes(b"Subject: ok\n\nx\n")
    (tmp_path / "huge.eml").write_bytes(b"Subject: huge\n\n" + b"x" * (65 * 2**20))
    done = mailctl("import", "imp@example.org", str(tmp_path), "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert result["imported"] == 1
    assert len(result["refused"]) == 1
    assert "huge.eml" in result["refused"][0]


def test_an_interrupted_import_ends_cleanly_and_goes_on(
    mailctl: Run, data: Path, tmp_path: Path
) -> None:
    mailctl("account", "add", "stop@example.org", "--no-password")
    identifier = plain(mailctl("account", "show", "stop@example.org", "--json"))["id"]
    [database] = data.rglob(f"{identifier}/mail.sqlite")
    wal = database.with_name("mail.sqlite-wal")
    with (tmp_path / "box").open("wb") as file:
        for number in range(6_000):
            file.write(b"From a@b Tue Mar  5 10:11:12 2024\nSubject: %d\n\nx\n\n" % number)
    running = subprocess.Popen(
        [MAILCTL, "--config", str(data / "mailserver.toml"), "import", "stop@example.org",
         str(tmp_path / "box")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not (wal.exists() and wal.stat().st_size > 100_000) and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=20)
    assert running.returncode == 130, said
    assert "run the command again to go on" in said
    result = plain(mailctl("import", "stop@example.org", str(tmp_path / "box"), "--json"))
    assert result["already_there"] > 0
    assert result["imported"] + result["already_there"] == 6_000
