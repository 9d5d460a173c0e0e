"""The options of sources: what cannot work stops the start with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Settings, load
from mailserver.service.sources import SourceSettings, source_settings
from tests.requires import require_module
from tests.service.process import BIN, MAILCTL, run, write_config

LDAP = {
    "auth__sources": "directory,ldap",
    "auth__ldap__uri": "ldap://ldap.example.org",
    "auth__ldap__base": "dc=example,dc=org",
}
PAM = {"auth__sources": "pam", "service__defaultdomain": "example.org"}


def settings(**options: str) -> Settings:
    return load(None, {name.replace("__", "."): value for name, value in options.items()})


def test_by_default_the_directory_is_alone() -> None:
    assert source_settings(settings()) == SourceSettings()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auth__sources": ""}, "auth.sources: names no source"),
        ({"auth__sources": "directory,directory"}, "auth.sources: names directory twice"),
        ({"auth__sources": "passwd-file"}, "auth.passwdfile.path: is not set"),
        (
            {"auth__sources": "passwd-file", "auth__passwdfile__path": "/nonexistent/passwd"},
            "/nonexistent/passwd: auth.passwdfile.path: No such file",
        ),
    ],
)
def test_what_the_chain_lacks(options: dict[str, str], expected: str) -> None:
    assert_refused(options, expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auth__ldap__uri": ""}, "auth.ldap.uri: is not set"),
        ({"auth__ldap__uri": "ldap://host/path"}, "auth.ldap.uri: 'ldap://host/path' is not"),
        ({"auth__ldap__base": ""}, "auth.ldap.base: is not set"),
        (
            {"auth__ldap__base": "example.org"},
            "auth.ldap.base: 'example.org' is not possible: takes a distin",
        ),
        (
            {"auth__ldap__binddn": "mail"},
            "auth.ldap.binddn: 'mail' is not possible: takes a distin",
        ),
        ({"auth__ldap__filter": "(uid=%n"}, "'(uid=%n' is not possible: takes a search filter"),
        (
            {"auth__ldap__filter": "(uid=joe)"},
            "'(uid=joe)' is not possible: names neither %u nor %n",
        ),
        (
            {"auth__ldap__filter": "(uid=%x%u)"},
            "auth.ldap.filter: '(uid=%x%u)' is not possible: %x",
        ),
        ({"auth__ldap__cafile": "/nonexistent"}, "/nonexistent: auth.ldap.cafile: No such file"),
        (
            {"auth__ldap__bindpasswordfile": "/nonexistent"},
            "/nonexistent: auth.ldap.bindpasswordfile: No such file",
        ),
        (
            {"auth__ldap__bindpassword": "x", "auth__ldap__bindpasswordfile": "/dev/null"},
            "auth.ldap.bindpasswordfile: and auth.ldap.bindpassword are both set",
        ),
        (
            {"auth__ldap__starttls": "yes", "auth__ldap__uri": "ldaps://host"},
            "auth.ldap.starttls: needs ldap://",
        ),
        ({"auth__ldap__attributes": "quota=mailQuota"}, "auth.ldap.attributes: 'quota' is none"),
    ],
)
def test_what_is_wrong_with_ldap(options: dict[str, str], expected: str) -> None:
    require_module("mailserver.auth.checkers.ldap")
    assert_refused({**LDAP, **options}, expected)


def test_it_says_where_a_wrong_address_stands(tmp_path: Path) -> None:
    require_module("mailserver.auth.checkers.ldap")
    file = tmp_path / "mailserver.toml"
    file.write_text('auth.sources = ["ldap"]\nauth.ldap.uri = "ldap://host:99999"\n')
    with pytest.raises(ConfigurationError) as refusal:
        source_settings(load(file))
    assert str(refusal.value).splitlines() == [
        f"{file}:2: auth.ldap.uri: 'ldap://host:99999' is not possible: Port out of range 0-65535",
        f"{file}: auth.ldap.base: is not set; it says where searches begin",
    ]


def test_a_password_that_everybody_can_read_is_refused(tmp_path: Path) -> None:  # S14
    require_module("mailserver.auth.checkers.ldap")
    secret = tmp_path / "secret"
    secret.write_text("canary\n")
    secret.chmod(0o644)
    options = {**LDAP, "auth__ldap__bindpasswordfile": str(secret)}
    assert_refused(options, f"{secret}: auth.ldap.bindpasswordfile: everybody on this machine")
    secret.chmod(0o640)
    source_settings(settings(**options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auth__pam__service": "not-there"}, "/etc/pam.d/not-there: auth.pam.service"),
        ({"auth__pam__service": "../passwd"}, "auth.pam.service: takes the name of a file"),
        ({"service__defaultdomain": "", "auth__pam__service": "login"}, "auth.pam.names: is local"),
    ],
)
def test_what_is_wrong_with_pam(options: dict[str, str], expected: str) -> None:
    require_module("mailserver.auth.checkers.pam")
    assert_refused({**PAM, **options}, expected)


def assert_refused(options: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        source_settings(settings(**options))
    assert any(expected in str(problem) for problem in refusal.value.problems), str(refusal.value)


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mailserver.auth.checkers.ldap", None)
    assert_refused(LDAP, "auth.sources: ldap needs python-ldap: pip install 'mailserver[ldap]'")


def test_ldap_gets_what_its_options_say(tmp_path: Path) -> None:
    ldap = require_module("mailserver.auth.checkers.ldap")
    secret = tmp_path / "secret"
    secret.write_text("canary\r\nsecond line\n")
    secret.chmod(0o600)
    given = settings(
        **LDAP
        | {
            "auth__ldap__uri": "ldap://a.example.org ldap://b.example.org",
            "auth__ldap__scope": "onelevel",
            "auth__ldap__filter": "(uid=%n)",
            "auth__ldap__method": "compare",
            "auth__ldap__binddn": "cn=mail,dc=example,dc=org",
            "auth__ldap__bindpasswordfile": str(secret),
            "auth__ldap__starttls": "yes",
            "auth__ldap__cafile": str(secret),
            "auth__ldap__timeout": "2s",
            "auth__ldap__connections": "7",
            "auth__ldap__retry": "1s",
            "auth__ldap__attributes": "mailQuota=quota mailHost=",
            "auth__ldap__passwordattribute": "pw",
            "service__defaultdomain": "example.org",
        }
    )
    assert source_settings(given).ldap == ldap.LdapSettings(
        uris=("ldap://a.example.org", "ldap://b.example.org"),
        base="dc=example,dc=org",
        scope="onelevel",
        filter="(uid=%n)",
        bind_dn="cn=mail,dc=example,dc=org",
        bind_password="canary",
        compares=True,
        password_attribute="pw",
        starttls=True,
        ca_file=secret,
        timeout=2.0,
        connections=7,
        retry=1.0,
        attributes={"mailQuota": "quota", "mailHost": ""},
        default_domain="example.org",
    )


def test_pam_gets_what_its_options_say() -> None:
    pam = require_module("mailserver.auth.checkers.pam")
    if not Path("/etc/pam.d/login").exists():
        pytest.skip("needs /etc/pam.d/login")
    given = settings(
        **PAM
        | {
            "auth__pam__service": "login",
            "auth__pam__names": "full",
            "auth__pam__systemusers": "no",
            "auth__pam__firstuid": "500",
            "auth__pam__threads": "2",
        }
    )
    assert source_settings(given).pam == pam.PamSettings(
        "login", True, False, 500, 2, "example.org"
    )


def test_the_passwd_file_gets_what_its_options_say(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.touch()
    given = settings(
        auth__sources="passwd-file directory",
        auth__passwdfile__path=str(path),
        auth__passwdfile__defaultscheme="sha512-crypt",
        auth__sourcefreshfor="5min",
    )
    expected = SourceSettings(("passwd-file", "directory"), 300.0, path, "SHA512-CRYPT")
    assert source_settings(given) == expected


def test_the_secret_is_not_shown() -> None:  # S13
    given = settings(auth__ldap__bindpassword="canary")
    option = o.sources.LDAP_BIND_PASSWORD
    assert option.shown(given[option]) == "********"


def test_the_start_and_mailctl_end_with_the_sentence(tmp_path: Path) -> None:
    config = write_config(tmp_path, auth__sources='"directory,passwd-file"')
    server = run(str(BIN / "twistd"), "-n", "--pidfile=", "mailserver", "-c", str(config))
    assert server.returncode == 78
    sentence = "auth.passwdfile.path: is not set, and auth.sources names passwd-file"
    assert sentence in server.stderr and "Traceback" not in server.stderr
    command = run(MAILCTL, "-c", str(config), "account", "list")
    assert command.returncode == 78
    assert sentence in command.stderr and "Traceback" not in command.stderr
    shown = run(MAILCTL, "-c", str(config), "configutil", "-o", "auth.sources")
    assert shown.returncode == 0, "how else would it be mended"
