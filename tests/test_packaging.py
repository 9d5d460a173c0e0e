"""What is installed: the plug-in, the command, and the container's pinned requirements."""

from __future__ import annotations

import configparser
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from mailserver.service import options
from mailserver.service.config import load

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


@pytest.mark.parametrize("name", ["mailserver.toml", "container.toml"])
def test_shipped_configurations_are_right_and_want_tls_before_passwords(name: str) -> None:
    """SUN-11: what is shipped refuses passwords in clear."""
    settings = load(ROOT / "deploy" / name)
    assert settings[options.imap.PLAINTEXT_MIN_CIPHER] == 1
    assert settings[options.pop3.PLAINTEXT_MIN_CIPHER] == 1
    assert settings[options.tls.CERTIFICATE] is not None


def test_the_container_listens_where_its_image_says() -> None:
    """S15: high ports, an unprivileged user."""
    settings = load(ROOT / "deploy" / "container.toml")
    ports = {
        settings[option]
        for option in (
            options.imap.PORT,
            options.imap.SSL_PORT,
            options.pop3.PORT,
            options.pop3.SSL_PORT,
            options.lmtp.PORT,
        )
    }
    image = (ROOT / "Dockerfile").read_text("utf-8")
    [exposed] = re.findall(r"^EXPOSE (.+)$", image, re.MULTILINE)
    assert {int(port) for port in exposed.split()} == ports
    assert min(ports) > 1023
    assert re.search(r"^USER (?!root)\w+$", image, re.MULTILINE)
