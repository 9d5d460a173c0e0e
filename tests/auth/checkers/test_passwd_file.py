"""A passwd-file as Dovecot has it: its lines, and its life as a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.auth.checkers import Login
from mailserver.auth.checkers.passwd_file import Contents, PasswdFile, parse
from mailserver.auth.checkers.source import NOTHING_ALLOWED, ISource
from mailserver.auth.decoys import Decoys
from mailserver.auth.pool import FairPool
from mailserver.auth.remembered import Remembered
from mailserver.errors import ErrorKind, MailError
from mailserver.model.account import NO_LIMIT, Attributes
from mailserver.model.secrets import (
    PlainSecret,
    PlainSecrets,
    ScramSecrets,
    SecretKind,
    scram_keys,
)
from tests.auth.timing import assert_same_cost

CANARY = "canary-Passw0rd"
JOE = "joe@example.org"
SSHA = "{SSHA256}/Bzx3AY5NotXvrtrzleT18TW7WDR48E3XxwejynOzvlzYWx0"  # of "another"
SCRAM = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
SCRAM += "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
# RFC 7677 §3's salt, keys of "pencil"


def parsed(*lines: str, domain: str = "example.org", scheme: str = "PLAIN") -> Contents:
    return parse("\n".join(lines).encode(), scheme, domain)


@pytest.mark.parametrize(
    ("line", "name", "scheme"),
    [
        (f"{JOE}:{{PLAIN}}x", JOE, "PLAIN"),
        ("Joe:x", JOE, "PLAIN"),
        (f"{JOE}:{SSHA}:1000:1000::/home/joe:/bin/sh:", JOE, "SSHA256"),
        (f"{JOE}:{SSHA}:1000:1000:Joe,,,:/home/joe:/bin/sh:quota=1 a=b:c", JOE, "SSHA256"),
        (f"{JOE}:x\r", JOE, "PLAIN"),
        (f"{JOE}:", JOE, None),
        (f"{JOE}", JOE, None),
        (f"{JOE}:*", JOE, None),
        (f"{JOE}:!$6$x", JOE, None),
    ],
)
def test_lines(line: str, name: str, scheme: str | None) -> None:
    contents = parsed("", "# a comment", line, "")
    assert contents.warnings == ()
    [found] = contents.lines.values()
    assert found.entry.name == name
    assert (found.password and found.password.scheme) == scheme


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (":x", "names no user"),
        ("joe smith@example.org:x", "needs quoting"),
        ("joe@-:x", "domain"),
        (f"{JOE}:second", "a second time"),
        ("ann@example.org:{NTLM}00", "nobody can log in as ann@example.org: the scheme NTLM"),
        ("x" * 20_000, "longer than"),
        ("ann@example.org:::::::quota_rule=*:storage=x", "quota_rule 'x' is not a size"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_takes_nothing_down(line: str, reason: str) -> None:
    contents = parsed(f"{JOE}:x", line, "eve:y")
    [warning] = contents.warnings
    assert warning.startswith("2: ") and reason in warning, warning
    assert {JOE, "eve@example.org"} <= set(contents.lines)
    assert contents.lines[JOE].password is not None


def test_octets_that_are_no_text_are_told() -> None:
    contents = parse(b"joe@example.org:x\nan\xff:y\n", "PLAIN", "")
    assert contents.warnings == ("2: is not UTF-8",)


def test_a_user_without_a_domain_needs_the_default_one() -> None:  # SUN-13
    assert "service.defaultdomain" in parsed("joe:x", domain="").warnings[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("userdb_quota_rule=*:storage=5G", {"storage_limit": 5 * 2**30}),
        ("quota_rule=*:storage=100", {"storage_limit": 100 * 2**10}),
        ("userdb_quota_rule=*:bytes=100", {"storage_limit": 100}),
        (
            "userdb_quota_rule=*:storage=1M:messages=10",
            {"storage_limit": 2**20, "message_limit": 10},
        ),
        (
            "userdb_quota_rule=*:storage=1M userdb_quota_rule2=*:messages=10",
            {"storage_limit": 2**20, "message_limit": 10},
        ),
        ("userdb_quota_rule=*:storage=0", {"storage_limit": NO_LIMIT}),
        (
            "userdb_quota_rule=*:ignore",
            {"storage_limit": NO_LIMIT, "message_limit": NO_LIMIT},
        ),
        ("userdb_quota_storage_size=2G", {"storage_limit": 2 * 2**30}),
        ("nologin", {"allowed_services": NOTHING_ALLOWED}),
        ("nologin=no", {}),
        (
            "allow_nets=192.0.2.0/24,2001:db8::/32",
            {"allowed_services": "+ALL:192.0.2.0/24,2001:db8::/32"},
        ),
        ("nologin allow_nets=192.0.2.0/24", {"allowed_services": NOTHING_ALLOWED}),
        ("proxy=y host=store1.example.org", {"mail_host": "store1.example.org"}),
        ("userdb_mail=maildir:~/Maildir userdb_uid=5", {}),
    ],
)
def test_extra_fields(fields: str, expected: dict[str, Any]) -> None:
    contents = parsed(f"{JOE}:x:::::: {fields}")
    assert contents.warnings == ()
    assert contents.lines[JOE].entry.attributes == Attributes(**expected)


@pytest.mark.parametrize("field", ["allow_nets=local", "user=ann", "deny=y", "allow_nets="])
def test_a_field_that_closes_and_cannot_act_closes_everything(field: str) -> None:
    contents = parsed(f"{JOE}:x::::::{field}")
    assert contents.lines[JOE].entry.attributes.allowed_services == NOTHING_ALLOWED
    assert len(contents.warnings) == 1


@given(st.binary(max_size=200))
def test_no_octets_do_harm(octets: bytes) -> None:  # R7
    parse(b"joe@example.org:x\n" + octets, "CRYPT", "example.org")


class SourceCase(TestCase):
    """A file with joe, whose password is CANARY."""

    content = f"{JOE}:{{PLAIN}}{CANARY}\nann@example.org:{{PLAIN}}another\n"

    def setUp(self) -> None:
        folder = Path(mkdtemp())
        self.addCleanup(rmtree, folder)
        self.path = folder / "passwd"
        self.clock = Clock()
        self.pool = FairPool(reactor, 1)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.write(self.content)
        self.decoys = Decoys(b"k" * 32, 4096)
        self.source = self.made()
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def made(self) -> PasswdFile:
        remembered = Remembered(self.clock)
        return PasswdFile(self.path, self.pool, remembered, self.decoys, 4096, "PLAIN", str)

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(0o600)

    async def logs_in(self, name: str, password: str) -> bool:
        found = await self.source.check(Login(name, password, "192.0.2.1"))
        assert found is None or found.name == name
        return found is not None

    def log(self) -> str:
        return "\n".join(str(formatEvent(event)) for event in self.logged)


class AsASource(SourceCase):
    async def test_the_right_password_finds_the_entry(self) -> None:
        verifyObject(ISource, self.source)
        self.assertTrue(await self.logs_in(JOE, CANARY))
        for name, password in ((JOE, "another"), (JOE, ""), ("eve@example.org", CANARY)):
            self.assertFalse(await self.logs_in(name, password))
        found = await self.source.find(JOE)
        assert found is not None
        self.assertEqual(found.name, JOE)
        self.assertIsNone(await self.source.find("eve@example.org"))

    async def test_a_change_of_the_file_acts_at_the_next_login(self) -> None:
        self.assertTrue(await self.logs_in(JOE, CANARY))
        self.write(f"{JOE}:{{PLAIN}}changed-since\n")
        self.assertFalse(await self.logs_in(JOE, CANARY), "also what was remembered is forgotten")
        self.assertTrue(await self.logs_in(JOE, "changed-since"))
        self.assertIsNone(await self.source.find("ann@example.org"))

    async def test_another_default_domain_acts_at_once(self) -> None:  # SUN-13
        domain = ["example.org"]
        self.write(f"joe:{{PLAIN}}{CANARY}\n")
        remembered = Remembered(self.clock)
        self.source = PasswdFile(
            self.path, self.pool, remembered, self.decoys, 4096, "PLAIN", lambda: domain[0]
        )
        self.assertTrue(await self.logs_in(JOE, CANARY))
        domain[0] = "example.net"
        self.assertFalse(await self.logs_in(JOE, CANARY))
        self.assertTrue(await self.logs_in("joe@example.net", CANARY))

    async def test_a_bad_line_is_in_the_log_with_file_and_number(self) -> None:
        self.write(self.content + f"eve@example.org:{{NTLM}}{CANARY}\n")
        self.assertTrue(await self.logs_in(JOE, CANARY))
        self.assertIn(f"{self.path}:3: nobody can log in as eve@example.org", self.log())
        self.assertNotIn(CANARY, self.log())  # S13

    async def test_while_the_file_is_gone_what_was_read_last_holds(self) -> None:
        self.assertTrue(await self.logs_in(JOE, CANARY))
        self.path.rename(self.path.with_name("aside"))
        for _ in range(3):
            self.assertTrue(await self.logs_in(JOE, CANARY))
        self.assertEqual(self.log().count("what was read last holds"), 1)
        self.path.with_name("aside").rename(self.path)
        self.assertTrue(await self.logs_in(JOE, CANARY))

    async def test_without_a_file_nobody_can_say_anything(self) -> None:
        self.path.unlink()
        with pytest.raises(MailError) as refusal:
            await self.source.find(JOE)
        self.assertIs(refusal.value.kind, ErrorKind.UNAVAILABLE)
        self.assertNotIn(str(self.path), refusal.value.text, "clients see it")
        with pytest.raises(MailError, match="No such file"):
            self.source.load()
        self.write(self.content)
        self.assertTrue(await self.logs_in(JOE, CANARY))

    async def test_what_others_can_read_is_told(self) -> None:  # S14
        self.path.chmod(0o644)
        self.source.load()
        self.assertIn("chmod o-r", self.log())

    async def test_a_success_is_remembered(self) -> None:
        asked: list[Callable[[], Any]] = []
        real = self.pool.run

        async def counted(client: str, work: Callable[[], Any]) -> Any:
            asked.append(work)
            return await real(client, work)

        self.pool.run = counted  # type: ignore[method-assign]
        for _ in range(3):
            self.assertTrue(await self.logs_in(JOE, CANARY))
        self.assertEqual(len(asked), 1)
        self.clock.advance(3601)
        self.assertTrue(await self.logs_in(JOE, CANARY))
        self.assertEqual(len(asked), 2)


class Costs(SourceCase):
    content = f"{JOE}:{SCRAM}\nann@example.org:{SCRAM}\neve@example.org:\n"

    async def test_both_kinds_of_no_cost_the_same(self) -> None:  # S7
        await assert_same_cost(
            {
                "wrong": lambda: self.logs_in(JOE, "wrong"),
                "unknown": lambda: self.logs_in("nobody@example.org", "wrong"),
                "without password": lambda: self.logs_in("eve@example.org", "wrong"),
            }
        )


class Proofs(SourceCase):
    async def test_passwords_in_clear_serve_every_mechanism(self) -> None:
        self.source.load()
        self.assertEqual(set(self.source.secret_kinds()), set(SecretKind))
        found = await self.source.secrets(JOE, SecretKind.PLAIN)
        assert found is not None
        self.assertEqual(found[1], PlainSecrets((PlainSecret(CANARY),)))
        for kind in (SecretKind.SCRAM_SHA_256, SecretKind.SCRAM_SHA_1):
            found = await self.source.secrets(JOE, kind)
            assert found is not None
            salt = self.decoys.salt(JOE, kind)
            keys = scram_keys(kind, CANARY.encode(), salt, 4096)
            self.assertEqual(found[1], ScramSecrets(salt, 4096, (keys,)))
            self.assertIsNone(await self.source.secrets("eve@example.org", kind))

    async def test_scram_keys_serve_their_own_mechanism(self) -> None:
        self.write(f"{JOE}:{SCRAM}\nann@example.org:{{PLAIN}}x\nnobody:\n")
        self.source.load()
        self.assertEqual(set(self.source.secret_kinds()), {SecretKind.SCRAM_SHA_256})
        found = await self.source.secrets(JOE, SecretKind.SCRAM_SHA_256)
        assert found is not None and isinstance(found[1], ScramSecrets)
        salt, keys = found[1].salt, found[1].keys
        self.assertEqual(keys, (scram_keys(SecretKind.SCRAM_SHA_256, b"pencil", salt, 4096),))

    async def test_one_hash_of_another_kind_and_none_is_offered(self) -> None:
        self.write(f"{JOE}:{SCRAM}\nann@example.org:{SSHA}\n")
        self.source.load()
        self.assertEqual(set(self.source.secret_kinds()), set())
