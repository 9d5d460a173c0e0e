"""POP3 beyond its basis: UTF-8, languages, APOP, LAST, one session at a time, not too often."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import attrs
import pytest
from zope.interface import implementer

from mailserver.auth.authenticator import Authenticator
from mailserver.auth.checkers import IChecker, Kept
from mailserver.auth.checkers.directory import DirectoryChecker
from mailserver.auth.decoys import Decoys
from mailserver.auth.throttle import Throttle
from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import IMaildropVisits
from mailserver.model.ids import AccountId
from mailserver.model.secrets import PlainSecret, PlainSecrets, SecretKind
from mailserver.server.pop3 import languages, session
from mailserver.store.visits import MaildropVisits
from mailserver.wire.pop3 import grammar
from mailserver.wire.pop3.apop import apop_digest
from tests.server.pop3.harness import Client, services
from tests.server.pop3.test_session import Connect, connect, flags, rig
from tests.server.rig import MAIL, Rig

__all__ = ["connect", "rig"]  # fixtures

GLOBAL = "From: Jörg <jörg@x.org>\r\nSubject: Grüße\r\n\r\n.Text in 8 bit: ü\r\n".encode()
IN_ASCII = (
    b"From: =?utf-8?b?SsO2cmc=?= Internationalized Address =?utf-8?b?asO2cmdAeC5vcmc=?= Removed:;"
    b"\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\n.Text in 8 bit: \xc3\xbc\r\n"
)


# -- UTF8 (RFC 6856 §2) -----------------------------------------------------------


def test_a_header_in_utf_8_comes_as_it_is_only_after_utf8(rig: Rig, connect: Connect) -> None:
    """T57, T43: sizes are what is sent, in either mode."""
    rig.append(GLOBAL)
    rig.append(MAIL)
    for asked, expected in ((False, IN_ASCII), (True, GLOBAL)):
        client = connect()
        if asked:
            assert client.line().startswith("+OK ")
            assert client.ok("UTF8") == "UTF-8 from now on"
            client.ok("USER ann@example.org")
            client.ok("PASS secret")
        else:
            client.login()
        assert client.octets("RETR 1") == expected
        assert client.lines("LIST") == [f"1 {len(expected)}", f"2 {len(MAIL)}"]
        assert client.ok("STAT") == f"2 {len(expected) + len(MAIL)}"
        header, _, text = expected.partition(b"\r\n\r\n")
        assert client.octets("TOP 1 0") == header + b"\r\n\r\n"
        assert client.octets("TOP 1 1") == header + b"\r\n\r\n" + text
        assert client.octets("RETR 2") == MAIL
        client.ok("QUIT")


def test_utf8_stands_before_login_and_after_tls(connect: Connect) -> None:
    client = connect(tls=object())
    client.line()
    client.ok("UTF8")
    assert client.say("STLS") == "-ERR STLS has to come before UTF8"  # RFC 6856 §2.1
    client.ok("USER ann@example.org")
    client.ok("PASS secret")
    assert client.say("UTF8") == "-ERR this is allowed only before login"


# -- LANG (RFC 6856 §3) --------------------------------------------------------------


def test_languages_are_listed_and_chosen(connect: Connect) -> None:
    client = connect(login_timeout=600.0)
    client.line()
    assert client.lines("LANG") == ["i-default English", "en English", "de Deutsch"]
    assert client.ok("LANG en") == "en the language is English"
    assert client.say("LANG mul") == "-ERR there is no such language here"
    assert client.ok("LANG DE-AT") == "de die Sprache ist Deutsch"
    assert client.say("LANG mul") == "-ERR diese Sprache gibt es hier nicht"
    assert client.say("RETR x") == "-ERR syntax: RETR message"
    assert client.ok("CAPA") == "es folgen die Fähigkeiten"
    client.read_to(b"\r\n.\r\n")
    client.ok("USER ann@example.org")
    client.send(b"PASS wrong\r\n")
    client.rig.loop.advance(20)
    assert client.line() == "-ERR [AUTH] Name oder Kennwort ist falsch"
    client.ok("USER ann@example.org")
    client.send(b"PASS secret\r\n")
    client.rig.loop.advance(20)
    assert client.line() == "+OK 0 Nachrichten (0 Oktette)"
    assert client.say("DELE 1") == "-ERR diese Nachricht gibt es nicht, es sind nur 0"
    assert client.ok("LANG *") == "i-default the language is English"
    assert client.ok("QUIT") == "bye, 0 messages removed"


def test_the_administrator_prefers_a_language(connect: Connect) -> None:
    client = connect(language="de").login()
    assert client.ok("NOOP") == "nothing done", "not before the client asks: RFC 1939 is ASCII"
    assert client.ok("LANG *") == "de die Sprache ist Deutsch"
    [one] = client.rig.monitor.sessions()
    one.disconnect("server is shutting down")
    assert client.line() == "-ERR [SYS/TEMP] der Server wird beendet"


def texts_of(module: object) -> set[str]:
    """Every text that a module's code may tell a client."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):  # type: ignore[arg-type]
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("_ok", "_err", "_No", "_Refused", "_refuse", "_begin", "_listing", "say"):
                found |= {
                    part.value
                    for argument in node.args[:1]
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


def test_every_text_is_there_in_every_language() -> None:
    told = texts_of(session) | texts_of(grammar)
    told = {text for text in told if not text.startswith("syntax: ") and text != " [message]"}
    told -= {f" {word}" for word in ("message", "lines")}
    assert len(told) > 30
    for language in languages.LANGUAGES:
        if language.tag == "de":
            missing = {text for text in told if text not in language.texts}
            assert not missing
            for english, text in language.texts.items():
                names = [part for part in english.split() if part.startswith("{")]
                assert all(name.strip("();,") in text for name in names), english


# -- APOP (RFC 1939 §7) ----------------------------------------------------------------


@implementer(IChecker)
@attrs.define
class InClear:
    """The directory's accounts, all with the password `secret`, kept in clear."""

    of: DirectoryChecker
    label: str = "clear"

    def secret_kinds(self) -> Collection[SecretKind]:
        return [SecretKind.PLAIN]

    async def secrets(self, name: str, kind: SecretKind, service: str) -> Kept | None:
        account = await self.of.account(name)
        return account and Kept(account, PlainSecrets((PlainSecret("secret"),)))

    def __getattr__(self, name: str) -> object:
        return getattr(self.of, name)


def connect_in_clear(rig: Rig, **settings: object) -> Client:
    checker = DirectoryChecker(rig.directory, rig.directory, rig.passwords)
    authenticator = Authenticator(
        rig.directory,
        (InClear(checker),),
        Throttle(rig.loop),
        rig.loop,
        decoys=Decoys(b"x" * 32, 9),
    )
    shared = attrs.evolve(services(rig, **settings), authenticator=authenticator)
    return Client(rig, shared)


def test_apop(rig: Rig) -> None:
    client = connect_in_clear(rig, apop=True, hostname="mail.example.org")
    greeting = client.line()
    timestamp = greeting[greeting.index("<") :]
    assert timestamp.endswith("@mail.example.org>")
    wrong = apop_digest(timestamp, "wrong").decode()
    for name in ("ann@example.org", "nobody@example.org"):  # T40: told alike
        client.send(f"APOP {name} {wrong}\r\n".encode())
        rig.loop.advance(20)
        assert client.line() == "-ERR [AUTH] the name or the password is wrong"
    right = apop_digest(timestamp, "secret").decode()
    client.send(f"APOP ann@example.org {right}\r\n".encode())
    rig.loop.advance(20)
    assert client.line() == "+OK 0 messages (0 octets)"
    other = connect_in_clear(rig, apop=True).line()
    assert other != greeting, "no timestamp is used twice"


@pytest.mark.parametrize("settings", [{}, {"apop": True, "plaintext_min_cipher": 1}])
def test_there_is_no_apop_unless_asked_for_and_allowed(
    rig: Rig, settings: dict[str, object]
) -> None:
    """SUN-11."""
    client = connect_in_clear(rig, **settings)
    assert "<" not in client.line()
    assert client.say("APOP ann@example.org " + "0" * 32) == "-ERR APOP is not offered here"


def test_there_is_no_apop_where_passwords_are_not_kept(connect: Connect) -> None:
    client = connect(apop=True)
    assert "<" not in client.line()
    assert client.say("APOP ann@example.org " + "0" * 32) == "-ERR APOP is not offered here"


# -- LAST (RFC 1460) --------------------------------------------------------------------


def test_last(rig: Rig, connect: Connect) -> None:
    for _ in range(4):
        rig.append(MAIL)
    client = connect().login()
    assert client.ok("LAST") == "0"
    client.octets("RETR 3")
    client.octets("RETR 2")
    client.octets("TOP 4 1")
    assert client.ok("LAST") == "3"
    client.ok("RSET")
    assert client.ok("LAST") == "0"
    client.ok("QUIT")
    client = connect(set_seen=True).login()
    client.octets("RETR 2")
    client.ok("QUIT")
    assert flags(rig, 2) == ["\\Seen"]
    client = connect(set_seen=True).login()
    assert client.ok("LAST") == "2", "where the last session was"


# -- one session at a time, and not too often (RFC 2449 §8.1) -----------------------------


def test_a_maildrop_can_be_for_one_session_alone(rig: Rig, connect: Connect) -> None:
    """T45: `[IN-USE]`; IMAP and LMTP go on (CGP-3)."""
    first = connect(exclusive=True).login()
    second = connect(exclusive=True)
    second.line()
    second.ok("USER ann@example.org")
    refused = "-ERR [IN-USE] the mailbox is in use by another session"
    assert second.say("PASS secret") == refused
    rig.append(MAIL)
    second.ok("USER ann@example.org")
    assert second.say("PASS secret") == refused
    first.ok("QUIT")
    second.ok("USER ann@example.org")
    assert second.ok("PASS secret").startswith("1 messages")
    second.transport.lose()
    rig.settle()
    connect(exclusive=True).login().ok("QUIT")
    third = connect().login()
    connect().login()
    assert third.ok("NOOP"), "without the option nobody is locked out"


def test_who_could_not_open_the_maildrop_keeps_nobody_out(
    rig: Rig, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(exclusive=True)
    client.line()

    async def down(*_: object, **__: object) -> None:
        raise MailError(ErrorKind.UNAVAILABLE, "the store is down")

    with monkeypatch.context() as patch:
        patch.setattr(session, "open_maildrop", down)
        client.ok("USER ann@example.org")
        assert client.say("PASS secret") == "-ERR [SYS/TEMP] the store is down"
    connect(exclusive=True).login()


def test_logins_come_not_too_soon_after_each_other(rig: Rig, connect: Connect) -> None:
    settings = {"login_delay": 60.0, "exclusive": True}
    client = connect(**settings).login()
    assert "LOGIN-DELAY 60" in client.lines("CAPA")
    client.ok("QUIT")
    client = connect(**settings)
    client.line()
    rig.loop.advance(18.5)
    for _ in range(2):
        client.ok("USER ann@example.org")
        answer = client.say("PASS secret")
        assert answer == "-ERR [LOGIN-DELAY] too soon after the last login; wait 42 s"
    rig.loop.advance(41.5)
    connect(**settings).login()


ANN = AccountId("a" * 26)


def test_visits_are_known_to_all_processes(tmp_path: Path) -> None:
    now = [1000.0]
    visits = MaildropVisits(tmp_path / "visits", lambda: now[0])
    leave = visits.enter(ANN)
    assert leave is not None and visits.enter(ANN) is None
    assert visits.enter(AccountId("b" * 26)) is not None
    program = (
        "import sys; from pathlib import Path; from mailserver.store.visits import MaildropVisits;"
        f" visits = MaildropVisits(Path({str(tmp_path / 'visits')!r}), lambda: 1010.0);"
        f" print(visits.enter({ANN!r}) is None, visits.again_in({ANN!r}, 60))"
    )

    def elsewhere() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout

    assert visits.again_in(ANN, 60) == 0
    assert elsewhere() == "True 50.0\n"
    leave()
    assert elsewhere() == "False 50.0\n"
    taken = visits.enter(ANN)
    assert taken is not None, "given back when the process has ended"
    now[0] = 500.0
    assert visits.again_in(ANN, 60) == 0, "a clock that was set back keeps nobody out"
    now[0] = 530.0
    assert visits.again_in(ANN, 60) == 30


def test_nobody_is_kept_out_by_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "visits").touch()
    visits = MaildropVisits(tmp_path / "visits")
    assert IMaildropVisits.providedBy(visits)
    leave = visits.enter(ANN)
    assert leave is not None
    leave()
    assert visits.again_in(ANN, 60) == 0
