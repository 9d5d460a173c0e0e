"""The pipe for MTAs: what goes in, and the exit codes of sysexits.h that come out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.process import MAILCTL, add_account, run, write_config

NAME = "pat@example.org"
MESSAGE = "Subject: x\n\nhi\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_config(tmp_path_factory.mktemp("deliver"), store__maxmessagesize='"64KiB"')
    add_account(file, NAME)
    return file


def deliver(config: Path, *arguments: str, text: str = MESSAGE) -> tuple[int, str]:
    done = run(MAILCTL, "-c", str(config), "deliver", *arguments, text=text)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_delivered(config: Path, tmp_path: Path) -> None:
    """The envelope in front, line ends as mail has them; an mbox line gives the sender."""
    assert deliver(config, "-f", "s@example.org", "-d", NAME) == (0, "")
    assert deliver(config, "-f", "<>", "-d", f"<{NAME}>") == (0, "")
    text = f"From root@example.org Sat Nov 21 10:00:00 2026\n{MESSAGE}"
    assert deliver(config, "-d", NAME, text=text) == (0, "")
    assert deliver(config, "-d", "pat+Archive@example.org") == (0, "")
    done = run(MAILCTL, "-c", str(config), "export", NAME, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    found = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    for sender in (b"s@example.org", b"", b"root@example.org"):
        assert b"Return-Path: <%s>\nDelivered-To: pat@example.org\nSubject: x\n" % sender in (
            found.replace(b"\r\n", b"\n")
        )
    assert b"Delivered-To: pat+Archive@example.org" in found


@pytest.mark.parametrize(
    ("arguments", "text", "code", "said"),
    [
        (("-d", "nobody@example.org"), MESSAGE, 67, "nobody@example.org: "),
        (("-d", "x@elsewhere.example"), MESSAGE, 67, "x@elsewhere.example: "),
        (("-d", "a\nb@example.org"), MESSAGE, 67, "control characters"),
        (("-f", "a\rb", "-d", NAME), MESSAGE, 67, "control characters"),
        (("-d", NAME), "", 65, "no octets"),
        (("-d", NAME), MESSAGE + "x" * 70_000, 69, "65536 octets"),
        ((), MESSAGE, 64, "Missing option"),
        (("--unknown",), MESSAGE, 64, "--unknown"),
    ],
    ids=["no-user", "no-domain", "bad-to", "bad-from", "empty", "too-big", "usage", "option"],
)
def test_refused_with_the_code_that_mtas_know(
    config: Path, arguments: tuple[str, ...], text: str, code: int, said: str
) -> None:
    got, error = deliver(config, *arguments, text=text)
    assert got == code
    assert said in error


def test_a_recipient_who_may_be_there_later_counts_more(config: Path) -> None:
    """75 over 67: the MTA must try again for the one, and will bounce the other then."""
    code, _ = deliver(config, "-d", "nobody@example.org", "-d", NAME)
    assert code == 67
    done = run(MAILCTL, "-c", str(config), "account", "set", NAME, "--quota", "1")
    assert done.returncode == 0, done.stderr
    try:
        code, error = deliver(config, "-d", "nobody@example.org", "-d", NAME)
    finally:
        run(MAILCTL, "-c", str(config), "account", "set", NAME, "--quota", "none")
    assert code == 75
    assert NAME in error


def test_a_wrong_configuration_bounces_nothing(config: Path, tmp_path: Path) -> None:
    """75, not 78: an MTA would take that for the message's fault."""
    broken = write_config(tmp_path, service__imap__prot="1")
    code, error = deliver(broken, "-d", NAME)
    assert code == 75
    assert "service.imap.prot" in error
    assert deliver(tmp_path / "missing.toml", "-d", NAME)[0] == 75
