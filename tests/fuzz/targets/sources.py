"""Accounts as other systems write them: passwd-files, stored passwords, attributes."""

from __future__ import annotations

from mailserver.auth.checkers.passwd_file import parse
from mailserver.auth.checkers.source import ATTRIBUTE_NAMES, MAX_TEXT, read_attributes
from mailserver.auth.schemes import SCHEMES, matches, parse_stored
from mailserver.model.account import Attributes
from mailserver.model.addresses import account_name
from tests.fuzz.target import Target, choices, is_clean

_SLOW = ("ARGON2", "CRYPT", "PBKDF2", "SCRAM")  # as slow as their values want it


def check_attributes(attributes: Attributes) -> None:
    for limit in (attributes.storage_limit, attributes.message_limit):
        assert limit is None or -1 <= limit < 2**63
    for text in (attributes.display_name, attributes.allowed_services, attributes.mail_host):
        assert text is None or (text.isprintable() and len(text) <= MAX_TEXT)


def check_passwd_file(octets: bytes) -> None:
    """Lines do not depend on each other: a good one is the same among any others."""
    contents = parse(octets, "CRYPT", choices(octets).choice(("", "example.org")))
    for name, line in contents.lines.items():
        assert line.entry.name == name == account_name(name)
        check_attributes(line.entry.attributes)
        assert line.password is None or line.password.scheme in SCHEMES
    last = octets.count(b"\n") + 1
    for warning in contents.warnings:
        number, _, reason = warning.partition(": ")
        assert 1 <= int(number) <= last and reason and is_clean(reason)
    more = parse(b"zoe@zoe.example:{PLAIN}canary\n" + octets, "CRYPT", "")
    assert more.lines["zoe@zoe.example"].password is not None


def check_stored(octets: bytes) -> None:
    text = octets.decode("utf-8", "surrogateescape")
    try:
        stored = parse_stored(text, choices(octets).choice(sorted(SCHEMES)))
    except ValueError as error:
        assert len(str(error)) < 200
        return
    if not any(word in stored.scheme for word in _SLOW):
        assert not matches(stored, b"\0") and not matches(stored, b"")
        matches(stored, octets[:2000])


def check_texts(octets: bytes) -> None:
    texts = [text.decode("utf-8", "replace") for text in octets.split(b"|")]
    name = choices(octets).choice(ATTRIBUTE_NAMES)
    attributes, problems = read_attributes({name: texts})
    check_attributes(attributes)
    assert all(problem.startswith(f"{name}: ") for problem in problems)


TARGETS = (
    Target(
        "passwd-file",
        check_passwd_file,
        lambda: [
            b"joe@example.org:{SSHA}nRUd+JOLWPU7KLPfBry8em4fAar3Cf3p:1:2:g:/h:/s:"
            b"userdb_quota_rule=*:storage=5G:messages=10 allow_nets=192.0.2.0/24,::1 nologin=n\n",
            b"ann:{PLAIN}x\r\n# c\n\n\nann:{PLAIN.b64}eA==\neve@x.example:*:::::: proxy=y host=h\n",
            b"a@b:{PBKDF2}$1$salt$5000$00ff\nc@d:$1$x$y\ne@f:{NTLM}0\n:::\n\xff:x\n",
        ],
        (
            b":", b"\n", b"{", b"}", b"=", b"*:", b"quota_rule", b"storage=", b"bytes=1", b"@",
            b"{PLAIN}", b"{ARGON2ID}", b".hex", b".b64", b"nologin", b"allow_nets=", b"user=", b"%",
        ),
    ),
    Target(
        "stored-password",
        check_stored,
        lambda: [
            b"{SSHA256}/Bzx3AY5NotXvrtrzleT18TW7WDR48E3XxwejynOzvlzYWx0",
            b"{SCRAM-SHA-256}4096,c2FsdA==,AAAA,AAAA", b"{PBKDF2}$1$salt$5000$00ff",
            b"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaA", b"{PLAIN}x",
            b"{BLF-CRYPT}$2y$05$Q.SVxJAWN6dHzFoT0ikEb.S0QFfqmipfS0QFfqmipfS0QFfqmipfa",
            b"{SHA512-CRYPT.hex}24362478", b"{MD5}$1$a$b", b"{PLAIN-MD5}00",
        ],
        (*(b"{%s}" % name.encode() for name in SCHEMES), b"$", b",", b".b64}", b".hex}", b"="),
    ),
    Target(
        "attributes",
        check_texts,
        lambda: [b"20M", b"-1|5G", b"active|hold", b"+imap:ALL$-pop:*", b"a b|c", b"\xff\0"],
        (b"|", b"-2", b"T", b"9" * 20, b"$", b"ALL", "٣".encode()),
    ),
)  # fmt: skip
