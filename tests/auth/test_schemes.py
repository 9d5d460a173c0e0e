"""Stored passwords of other servers: what Dovecot writes is what is read here."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailserver.auth import schemes, system_crypt
from mailserver.auth.schemes import SCHEMES, matches, parse_stored
from tests.requires import require_program

PASSWORD = "pässword 1"
OURS_ALONE = {"ARGON2", "BCRYPT"}  # other servers' names for what Dovecot calls otherwise


def made_by_dovecot(scheme: str, password: str = PASSWORD) -> str:
    doveadm = require_program("doveadm")
    done = subprocess.run(
        [doveadm, "pw", "-s", scheme, "-p", password], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def of_dovecot() -> dict[str, str]:
    """What Dovecot makes of the password, by scheme; made at the same time."""
    names = [*(set(SCHEMES) - OURS_ALONE), "MD5"]
    names += [f"{name}.{suffix}" for name in WITH_SUFFIXES for suffix in ("b64", "hex")]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(made_by_dovecot, names), strict=True))


WITH_SUFFIXES = ("PLAIN", "SHA512-CRYPT", "SSHA256", "PLAIN-MD5", "SCRAM-SHA-256")


def test_what_dovecot_makes_is_verified(of_dovecot: dict[str, str]) -> None:
    assert len(of_dovecot) == len(SCHEMES) - len(OURS_ALONE) + 1 + 2 * len(WITH_SUFFIXES)
    for scheme, text in of_dovecot.items():
        stored = parse_stored(text, "PLAIN")
        assert matches(stored, PASSWORD.encode()), scheme
        for wrong in (b"password 1", b""):
            assert not matches(stored, wrong), (scheme, wrong)


def test_a_text_without_a_scheme_is_of_the_default_one() -> None:
    text = made_by_dovecot("SHA512-CRYPT").removeprefix("{SHA512-CRYPT}")
    assert matches(parse_stored(text, "CRYPT"), PASSWORD.encode())
    assert matches(parse_stored("se{x}cret", "PLAIN"), b"se{x}cret")


def test_what_the_systems_own_crypt_knows_is_understood() -> None:
    shadow = "$y$j9T$AvSdhnO9R3RjQK2g8fxgc1$L3TEBZz1DO/R5MGIyHVPyTGnBa5jIz7i9oL9ruiMTB2"
    if not system_crypt.is_usable(shadow.encode()):
        pytest.skip("needs a crypt(3) with yescrypt")
    stored = parse_stored("{crypt}" + shadow, "PLAIN")
    assert matches(stored, PASSWORD.encode())
    assert not matches(stored, b"another")


def test_names_of_other_servers_are_understood() -> None:
    argon2 = made_by_dovecot("ARGON2ID").replace("{ARGON2ID}", "{ARGON2}")
    bcrypt = made_by_dovecot("BLF-CRYPT").replace("{BLF-CRYPT}$2y$", "{bcrypt}$2b$")
    for text in (argon2, bcrypt):
        assert matches(parse_stored(text, "PLAIN"), PASSWORD.encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{NTLM}0123456789ABCDEF0123456789ABCDEF", "scheme NTLM is not known"),
        ("{SSHA.rot13}abcd", ".rot13 is none of"),
        ("{SSHA}not base64!", "not base64"),
        ("{SSHA}YWJj", "not one of SSHA"),
        ("{SHA256}YWJj", "not one of SHA256"),
        ("{PLAIN-MD5}xyz", "not hex"),
        ("{PLAIN}", "not one of PLAIN"),
        ("{SHA512-CRYPT}$5$salt$hash", "not one of SHA512-CRYPT"),
        ("{BLF-CRYPT}$2y$05$short", "not one of BLF-CRYPT"),
        ("{ARGON2ID}$argon2id$v=19$nonsense", "not one of ARGON2ID"),
        ("{PBKDF2}$1$salt$many$00", "not one of PBKDF2"),
        ("{SCRAM-SHA-256}4096,c2FsdA==,YQ==,Yg==", "not one of SCRAM-SHA-256"),
        ("{SCRAM-SHA-256}no,such", "not one of SCRAM-SHA-256"),
    ],
)
def test_what_cannot_be_a_password_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        parse_stored(text, "PLAIN")
    value = text.partition("}")[2]
    assert not value or value not in str(refusal.value), "the value is a secret (S13)"


def test_a_password_that_no_scheme_could_tell_apart_never_matches() -> None:
    for scheme in ("SHA512-CRYPT", "BLF-CRYPT", "PLAIN"):
        stored = parse_stored(made_by_dovecot(scheme, "abc"), "PLAIN")
        assert matches(stored, b"abc")
        assert not matches(stored, b"abc\0def"), "crypt(3) ends at NUL"
    assert not matches(parse_stored("{PLAIN}" + "x" * 2000, "PLAIN"), b"x" * 2000)


def test_bcrypt_looks_at_72_octets_as_crypt_does() -> None:
    stored = parse_stored(made_by_dovecot("BLF-CRYPT", "x" * 80), "PLAIN")
    assert matches(stored, b"x" * 72)


def test_values_do_not_show() -> None:  # S13
    assert "canary" not in repr(parse_stored("{PLAIN}canary", "PLAIN"))


def test_a_system_without_crypt_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_crypt, "_library", lambda: None)
    assert not system_crypt.matches(b"$6$salt$hash", b"x")
    with pytest.raises(ValueError, match="the system does not know it"):
        schemes.parse_stored("{SHA512-CRYPT}$6$salt$hash", "PLAIN")
