"""What is installed: the plug-in, the command, and the container's pinned requirements."""

from __future__ import annotations

import configparser
import re
from importlib.metadata import entry_points
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

ROOT = Path(__file__).resolve().parent.parent


def pins() -> dict[str, str]:
    """Canonical name -> version of every line of requirements.txt."""
    text = (ROOT / "requirements.txt").read_text("utf-8")
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    }


def test_twistd_finds_the_plug_in() -> None:
    makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "mailserver"]
    assert [maker.module for maker in makers] == ["mailserver.service.tap"]


def test_the_command_is_installed() -> None:
    [command] = entry_points(group="console_scripts", name="mailctl")
    assert command.value == "mailserver.cli.main:main"


def test_templates_are_a_package_of_the_project() -> None:
    link = ROOT / "mailserver" / "templates"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "templates"


def test_the_container_pins_every_requirement_of_the_project() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    wanted = [Requirement(r) for r in config["options"]["install_requires"].split("\n") if r]
    pinned = pins()
    unmet = [
        str(requirement)
        for requirement in wanted
        if pinned.get(canonicalize_name(requirement.name), "0") not in requirement.specifier
    ]
    assert wanted
    assert unmet == []


def test_the_container_pins_by_hash() -> None:
    """S16: nothing is installed that is not the file that was looked at."""
    text = (ROOT / "requirements.txt").read_text("utf-8")
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
