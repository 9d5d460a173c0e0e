"""`mailctl` itself: every command is there, and nothing is imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from mailserver import __version__
from mailserver.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: main {name}" in result.output


def test_the_list_of_commands_says_what_each_is_for() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    for name in COMMANDS:
        [line] = [line for line in lines if line.strip().startswith(f"{name} ")]
        assert len(line.split()) > 2


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"mailctl, version {__version__}\n"


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["acount"])
    assert result.exit_code == 2
    assert "acount" in result.output


def test_a_command_imports_only_what_it_needs() -> None:
    """A pipe is started once per message: `mailctl` alone must cost little."""
    code = (
        "import sys; import mailserver.cli.main;"
        " print([m for m in sys.modules if m.startswith(('twisted', 'rich', 'cryptography'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
