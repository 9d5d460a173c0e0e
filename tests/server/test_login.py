"""What is announced is what works, and nothing else: every way to log in, on every kind of
connection, with every setting, over real sockets (SUN-10, SUN-11, S2, T2, T45)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import Event
from typing import Any, ClassVar, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from imapclient import IMAPClient
from imapclient.exceptions import LoginError
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site as WebSite

from mailserver.model.account import AccountStatus
from mailserver.model.secrets import SecretKind
from mailserver.service.config import load
from mailserver.service.monitor import SessionLimits
from mailserver.service.sessions import session_commands
from mailserver.service.tokens import load_tokens
from mailserver.wire import sasl
from mailserver.wire.sasl.scram import ScramClient
from tests.server.doors import (
    ANN,
    PASSWORD,
    PATIENCE,
    PUBLIC,
    RULES,
    SIGNER,
    Line,
    Site,
    client_of,
    scram_client,
    token,
)

T = TypeVar("T")

CLEAR = "PASSWORD PLAIN LOGIN CRAM-MD5"
SCRAM = "SCRAM-SHA-256 SCRAM-SHA-1"
PLUS = "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS"
TOKENS = "OAUTHBEARER XOAUTH2"

CELLS = {
    # transport, plaintextmincipher → what there is
    ("plain", -1): "",
    ("plain", 0): f"{CLEAR} {SCRAM} {TOKENS}",
    ("plain", 1): SCRAM,
    ("starttls", -1): TOKENS,
    ("starttls", 0): f"{CLEAR} {SCRAM} {PLUS} {TOKENS}",
    ("starttls", 1): f"{CLEAR} {SCRAM} {PLUS} {TOKENS}",
    ("tls", -1): TOKENS,
    ("tls", 0): f"{CLEAR} {SCRAM} {PLUS} {TOKENS}",
    ("tls", 1): f"{CLEAR} {SCRAM} {PLUS} {TOKENS}",
}

ALL = ["PASSWORD", *(name.decode() for name in sasl.MECHANISMS)]


class SiteCase(TestCase):
    """A server of this process."""

    timeout = 60
    more: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:
        self.folder = Path(mkdtemp())
        self.addCleanup(rmtree, self.folder)
        self.site = await Site.open(self.folder, **self.more)

    async def tearDown(self) -> None:
        await self.site.stop()

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await deferToThread(function, *args)


class EveryCell(SiteCase):
    async def check(self, service: str, transport: str) -> None:
        for (of_transport, min_cipher), names in CELLS.items():
            if of_transport != transport:
                continue
            self.site.set(plaintext_min_cipher=min_cipher)
            for certificate in (False, True) if transport != "plain" else (False,):
                expected = set(names.split()) | ({"EXTERNAL"} if certificate else set())
                found = await self.in_thread(self.works, service, transport, certificate)
                cell = f"{service} {transport} {min_cipher} certificate={certificate}"
                announced, working = found
                self.assertEqual(announced, expected, f"announced: {cell}")
                self.assertEqual(working, expected, f"works: {cell}")

    def works(self, service: str, transport: str, certificate: bool) -> tuple[set[str], set[str]]:
        """What is announced, and what lets ann in, each on a connection of its own."""
        context = self.site.context(certificate=certificate)
        working = set()
        for name in ALL:
            with Line(self.site, service, transport, context) as line:
                announced = line.announced()
                if name == "PASSWORD":
                    answer = line.login()
                else:
                    answer = line.authenticate(name, client_of(name, line))
                if answer.startswith("OK"):
                    working.add(name)
                else:
                    assert answer.startswith("NO"), (name, answer)  # a refusal, no mistake
        return announced, working

    async def test_imap_in_clear(self) -> None:
        await self.check("imap", "plain")

    async def test_imap_after_starttls(self) -> None:
        await self.check("imap", "starttls")

    async def test_imap_on_the_tls_port(self) -> None:
        await self.check("imap", "tls")

    async def test_pop3_in_clear(self) -> None:
        await self.check("pop3", "plain")

    async def test_pop3_after_stls(self) -> None:
        await self.check("pop3", "starttls")

    async def test_pop3_on_the_tls_port(self) -> None:
        await self.check("pop3", "tls")

    async def test_a_wrong_password_opens_nothing(self) -> None:
        self.site.set()
        context = self.site.context()

        def answers() -> dict[str, str]:
            found = {}
            for name in ALL:
                if name in ("PASSWORD", "EXTERNAL", "OAUTHBEARER", "XOAUTH2"):
                    continue
                with Line(self.site, "imap", "tls", context) as line:
                    client = client_of(name, line, PASSWORD + "x")
                    found[name] = line.authenticate(name, client)
            return found

        found = await self.in_thread(answers)
        self.assertEqual(
            set(found.values()),
            {"NO [AUTHENTICATIONFAILED] the name or the password is wrong"},  # T40
        )


SERVER_FIRST = re.compile(r"r=[^,]+,s=([^,]+),i=4096")


class WhileChecked(SiteCase):
    """What happens meanwhile; nothing is remembered, so that every check takes its time."""

    more: ClassVar[dict[str, Any]] = {"remembered": 0}

    def block_checks(self) -> Event:
        """Let no password be checked before the event is set."""
        go_on = Event()
        self.addCleanup(go_on.set)
        for _ in range(self.site.installation.settings.hash_threads):
            maybeDeferred(self.site.installation._pool.run, "blocked", go_on.wait)
        return go_on

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():  # trial ends a test that takes too long
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    async def test_whose_login_is_checked_keeps_the_place(self) -> None:
        """R11: whoever comes meanwhile is refused, however long it takes; after a wrong
        password the place is free for others."""
        self.site.set()
        self.site.monitor.limits = SessionLimits({"imap": 1, "pop3": 1})
        for service in ("imap", "pop3"):
            go_on = self.block_checks()
            line = await self.in_thread(Line, self.site, service, "plain", None)
            for session in self.site.monitor.sessions():
                session.connected_at -= 600
            mechanism = client_of("PLAIN", line, "wrong")
            checking = deferToThread(line.authenticate, "PLAIN", mechanism)
            await self.until(lambda: bool(self.site.installation._pool._waiting))
            refused = await self.in_thread(Line, self.site, service, "plain", None)
            self.assertIn("too many connections", refused.greeting)
            go_on.set()
            self.assertEqual((await checking)[:2], "NO")
            other = await self.in_thread(Line, self.site, service, "plain", None)
            self.assertIn("OK", other.greeting)
            self.assertIn("too many connections", await self.in_thread(line.read))
            for one in (line, refused, other):
                one.socket.close()

    async def test_who_logged_in_during_the_check_is_in_time(self) -> None:
        """S3: the deadline is the client's, not that of a slow check; who fails is late."""
        self.site.set(login_timeout=0.2)
        for service in ("imap", "pop3"):
            for password in (PASSWORD, "wrong"):
                go_on = self.block_checks()
                line = await self.in_thread(Line, self.site, service, "plain", None)
                client = client_of("PLAIN", line, password)
                checking = deferToThread(line.authenticate, "PLAIN", client)
                await self.until(lambda: bool(self.site.installation._pool._waiting))
                await deferLater(reactor, 0.3)  # type: ignore[arg-type]
                go_on.set()
                is_right = password == PASSWORD
                self.assertEqual((await checking)[:2], "OK" if is_right else "NO")
                if is_right:
                    self.assertEqual((await self.in_thread(line.ask, "NOOP"))[:2], "OK")
                else:
                    self.assertIn("did not log in in time", await self.in_thread(line.read))
                line.socket.close()

    async def test_who_is_kicked_while_his_password_is_checked_stays_out(self) -> None:
        """SUN-8: an account is deactivated, or gets a new password, while the old one is being
        checked; so nothing of it is open afterwards. Others come in."""
        site = self.site
        site.set()
        kick = session_commands(site.monitor, reactor.seconds, reactor.seconds)["kick"]  # type: ignore[attr-defined]
        cases = [("imap", "PLAIN"), ("pop3", "LOGIN"), ("imap", "PASSWORD"), ("pop3", "PASSWORD")]
        for service, mechanism in cases:
            for kicked, refused in (("bob@example.org", False), (ANN, True)):
                go_on = self.block_checks()
                line = await self.in_thread(Line, site, service, "plain", None)
                if mechanism == "PASSWORD":
                    answering = deferToThread(line.login)
                else:
                    client = client_of(mechanism, line)
                    answering = deferToThread(line.authenticate, mechanism, client)
                await self.until(lambda: bool(site.installation._pool._waiting))
                kick({"account": kicked, "reason": "this account has been disabled"})
                go_on.set()
                answer = await answering
                names = {session.account for session in site.monitor.sessions()}
                case = f"{service} {mechanism} {kicked}: {answer}"
                self.assertEqual(answer[:2], "NO" if refused else "OK", case)
                self.assertEqual(names, {""} if refused else {ANN}, case)
                if refused:
                    self.assertIn("this account has been disabled", answer)
                    again = await self.in_thread(line.login)
                    self.assertEqual(again[:2], "OK", f"{case}; then {again}")
                line.socket.close()
                await self.until(lambda: not list(site.monitor.sessions()))

    async def test_who_is_kicked_between_two_steps_of_scram_stays_out(self) -> None:
        """The keys that a proof is checked against are read at the first of them."""
        site = self.site
        site.set()
        kick = session_commands(site.monitor, reactor.seconds, reactor.seconds)["kick"]  # type: ignore[attr-defined]
        line = await self.in_thread(Line, site, "imap", "plain", None)
        client = client_of("SCRAM-SHA-256", line)
        steps = 0

        def slow(challenge: bytes) -> bytes:
            nonlocal steps
            steps += 1
            if steps == 2:
                blockingCallFromThread(reactor, kick, {"account": ANN})
            return client(challenge)

        answer = await self.in_thread(line.authenticate, "SCRAM-SHA-256", slow)
        self.assertEqual(answer, "NO [UNAVAILABLE] disconnected by the administrator")
        line.socket.close()


class Scram(SiteCase):
    """-PLUS by `tls-exporter`; what is told of names that are not there (S7)."""

    more: ClassVar[dict[str, Any]] = {"store_admins": frozenset({"root@example.org"})}

    async def test_the_connection_itself_is_bound(self) -> None:
        """RFC 9266: also after STARTTLS; another connection's binding opens nothing."""
        self.site.set()

        def answers(service: str, transport: str) -> list[str]:
            found = []
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            with Line(self.site, service, transport, context) as line:
                other = scram_client("SCRAM-SHA-256-PLUS", line.socket)
            for _ in range(2):
                with Line(self.site, service, transport, context) as line:
                    client = other if not found else scram_client("SCRAM-SHA-256-PLUS", line.socket)
                    found.append(line.authenticate("SCRAM-SHA-256-PLUS", client)[:2])
            return found

        for service in ("imap", "pop3"):
            for transport in ("starttls", "tls"):
                found = await self.in_thread(answers, service, transport)
                self.assertEqual(found, ["NO", "OK"], f"{service} {transport}")

    async def test_tls_1_2_is_bound_by_the_servers_certificate_alone(self) -> None:
        self.site.set()
        old = self.site.context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2

        def answers() -> list[str]:
            found = []
            for context in (old, SSL.Context(SSL.TLS_CLIENT_METHOD)):
                if isinstance(context, SSL.Context):
                    context.set_max_proto_version(SSL.TLS1_2_VERSION)
                with Line(self.site, "imap", "tls", context) as line:
                    client = scram_client("SCRAM-SHA-256-PLUS", line.socket)
                    found.append(line.authenticate("SCRAM-SHA-256-PLUS", client))
            return found

        by_certificate, by_exporter = await self.in_thread(answers)
        self.assertTrue(by_certificate.startswith("OK"))
        self.assertIn("not supported", by_exporter)

    async def test_taking_plus_out_of_the_announcement_is_seen(self) -> None:
        """RFC 5802 §6: a client that could bind says so, and the server knows better."""
        self.site.set()
        client = ScramClient(
            SecretKind.SCRAM_SHA_256, ANN, PASSWORD, secrets.token_bytes, could_bind=True
        )

        def talk(transport: str) -> str:
            steps = iter([lambda _: client.initial() or b"", client.answer, client.answer])
            with Line(self.site, "imap", transport, self.site.context()) as line:
                return line.authenticate("SCRAM-SHA-256", lambda one: next(steps)(one))

        self.assertIn("does support channel binding", await self.in_thread(talk, "tls"))

    async def test_names_that_are_not_there_look_as_if_they_were(self) -> None:
        """S7: the same salt from try to try and from start to start, the same refusal."""

        def asked(name: str) -> tuple[str, str]:
            self.site.set()
            with Line(self.site, "imap", "plain", self.site.context()) as line:
                challenge = ""

                def client(octets: bytes) -> bytes:
                    nonlocal challenge
                    challenge = octets.decode() or challenge
                    return answer(octets)

                answer = scram_client("SCRAM-SHA-256", line.socket, "wrong", name)
                refusal = line.authenticate("SCRAM-SHA-256", client)
            match = SERVER_FIRST.fullmatch(challenge)
            assert match is not None, challenge
            return match[1], refusal

        names = (ANN, "nobody@example.org", "no.one@example.org")
        first = [await self.in_thread(asked, name) for name in names]
        salts = [salt for salt, _ in first]
        self.assertEqual(len(set(salts)), 3)
        self.assertEqual({len(salt) for salt in salts}, {24})
        self.assertEqual({refusal for _, refusal in first}, {first[0][1]})
        await self.site.stop()
        self.site = await Site.open(self.folder, **self.more)
        again = [(await self.in_thread(asked, name))[0] for name in names]
        self.assertEqual(again, salts)

    async def test_a_login_without_domain_and_with_separators(self) -> None:
        """SUN-12, SUN-13: names mean the same in every mechanism."""
        self.site.set()
        self.site.installation.directory.default_domain = "example.org"

        def answers() -> list[str]:
            found = []
            for name in ("ann", "ANN+example.org", "ann@EXAMPLE.ORG"):
                with Line(self.site, "pop3", "plain", self.site.context()) as line:
                    client = scram_client("SCRAM-SHA-256", line.socket, PASSWORD, name)
                    found.append(line.authenticate("SCRAM-SHA-256", client)[:2])
            return found

        self.assertEqual(await self.in_thread(answers), ["OK"] * 3)

    async def test_acting_for_another(self) -> None:
        """SUN-14, T41: by the authzid of SCRAM, and by PROXYAUTH."""
        self.site.set()

        def scram(authzid: str, name: str) -> str:
            client = ScramClient(
                SecretKind.SCRAM_SHA_256, name, PASSWORD, secrets.token_bytes, authzid=authzid
            )
            steps = iter([lambda _: client.initial() or b"", client.answer, client.answer])
            with Line(self.site, "imap", "plain", self.site.context()) as line:
                return line.authenticate("SCRAM-SHA-256", lambda one: next(steps)(one))

        self.assertTrue((await self.in_thread(scram, ANN, "root@example.org")).startswith("OK"))
        refused = await self.in_thread(scram, "root@example.org", ANN)
        self.assertTrue(refused.startswith("NO [AUTHORIZATIONFAILED]"), refused)

        def proxyauth(name: str) -> list[str]:
            with Line(self.site, "imap", "plain", self.site.context()) as line:
                return [
                    line.ask(f"PROXYAUTH {ANN}"),
                    line.ask(f"LOGIN {name} {PASSWORD}"),
                    line.ask("CREATE of-root"),
                    line.ask("SELECT INBOX"),
                    line.ask("PROXYAUTH nobody@example.org"),
                    line.ask("FETCH 1:* FLAGS"),  # still selected
                    line.ask(f"PROXYAUTH {ANN}"),
                    line.ask("FETCH 1:* FLAGS"),  # not any more
                    line.ask("SELECT of-root"),  # ann has none
                    line.ask("PROXYAUTH bob@example.org"),  # root is who logged in
                ]

        answers = [one.split()[0] for one in await self.in_thread(proxyauth, "root@example.org")]
        self.assertEqual(answers, ["BAD", "OK", "OK", "OK", "NO", "OK", "OK", "BAD", "NO", "OK"])
        answers = [one.split()[0] for one in await self.in_thread(proxyauth, "bob@example.org")]
        self.assertEqual(answers[6:], ["NO", "OK", "OK", "OK"])  # but as oneself

    async def test_limits_and_status_hold_for_every_mechanism(self) -> None:
        """SUN-30, SUN-8: one place decides, however one has proved who one is."""
        self.site.set()
        context = self.site.context(certificate=True)

        def answers() -> set[str]:
            found = set()
            for name in ALL[1:]:
                with Line(self.site, "imap", "tls", context) as line:
                    found.add(line.authenticate(name, client_of(name, line)))
            return found

        with_room = await self.in_thread(answers)
        self.assertEqual({one[:2] for one in with_room}, {"OK"})
        first = await self.in_thread(Line, self.site, "imap", "tls", context)
        self.assertTrue((await self.in_thread(first.login)).startswith("OK"))
        self.site.monitor.limits = SessionLimits(per_user=1)
        self.assertEqual(
            await self.in_thread(answers),
            {"NO [LIMIT] too many sessions of this account are open"},
        )
        first.socket.close()
        self.site.monitor.limits = SessionLimits()
        ann = await self.site.installation.directory.account(ANN)
        assert ann is not None
        await self.site.installation.directory.update_account(
            ann.id, {"status": AccountStatus.INACTIVE}
        )
        self.assertEqual(
            await self.in_thread(answers), {"NO [CONTACTADMIN] this account is disabled"}
        )

    async def test_a_client_that_gives_up_is_not_in(self) -> None:
        """T41: also after the server has proved itself."""
        self.site.set()

        def answers() -> list[str]:
            found = []
            for rounds in range(3):
                with Line(self.site, "imap", "plain", self.site.context()) as line:
                    client = scram_client("SCRAM-SHA-256", line.socket)
                    answer = line.ask("AUTHENTICATE SCRAM-SHA-256")
                    for _ in range(rounds):
                        line.write(base64.b64encode(client(base64.b64decode(answer[2:]))).decode())
                        answer = line.answer()
                    line.write("*")
                    found += [line.answer(), line.ask("SELECT INBOX")]
            return found

        found = await self.in_thread(answers)
        self.assertEqual(set(found[::2]), {"BAD authentication was cancelled"})
        self.assertEqual({one[:3] for one in found[1::2]}, {"BAD"})

    async def test_what_is_no_mechanism_or_no_base64(self) -> None:
        """T41: every mechanism answers, and the connection goes on."""
        self.site.set(bad_before_login=100)

        def answers(service: str) -> list[str]:
            found = []
            with Line(self.site, service, "plain", self.site.context()) as line:
                verb = "AUTHENTICATE" if service == "imap" else "AUTH"
                for name in line.announced() - {"PASSWORD"}:
                    for response in ("A", "A===", "AAAA", "!", "/w==", "AAAA AAAA", "A" * 70_000):
                        answer = line.ask(f"{verb} {name}")
                        while answer.startswith("+ "):
                            line.write(response)
                            answer = line.answer()
                        found.append(answer)
                found.append(line.login())
            return found

        for service in ("imap", "pop3"):
            *refused, last = await self.in_thread(answers, service)
            self.assertEqual(
                {one.split()[0] for one in refused}, {"BAD"} if service == "imap" else {"NO"}
            )
            self.assertTrue(last.startswith("OK"), last)


class IdentityProvider(Resource):
    """An OAuth server: keys, and what it knows of opaque tokens."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.keys = [PUBLIC]
        self.known: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def render(self, request: Any) -> bytes:
        path = request.path.decode()
        self.asked.append(path)
        if path == "/keys":
            return json.dumps({"keys": self.keys}).encode()
        assert path == "/introspect" and request.method == b"POST"
        if (request.getUser(), request.getPassword()) != (b"mail%3A1", b"hush%20hush"):
            request.setResponseCode(401)
            return b"{}"
        said = self.known.get(request.args[b"token"][0].decode())
        return json.dumps({"active": False} if said is None else {"active": True, **said}).encode()


class Tokens(SiteCase):
    """OAUTHBEARER and XOAUTH2 as IMAPClient says them, with an OAuth server on this host."""

    async def setUp(self) -> None:
        await super().setUp()
        self.provider = IdentityProvider()
        made: Any = reactor
        self.port = made.listenTCP(0, WebSite(self.provider), interface="127.0.0.1")
        url = f"http://127.0.0.1:{self.port.getHost().port}"
        options = {
            "issuer": RULES.issuer,
            "audience": "mail",
            "jwksurl": f"{url}/keys",
            "introspectionurl": f"{url}/introspect",
            "clientid": "mail:1",
            "clientsecret": "hush hush",
            "configurationurl": "https://id.example.org/.well-known/openid-configuration",
            "timeout": "2s",
        }
        self.options = {f"auth.oauth.{name}": value for name, value in options.items()}
        self.use({})
        self.site.set(plaintext_min_cipher=-1)

    def use(self, more: dict[str, str]) -> None:
        settings = load(None, {**self.options, **more})
        self.site.installation.authenticator.tokens = load_tokens(settings, reactor)

    async def tearDown(self) -> None:
        await maybeDeferred(self.port.stopListening)
        await super().tearDown()

    def login(self, method: str, said: str, user: str = ANN) -> str:
        """What IMAPClient makes of it: OK, or the refusal."""
        port = self.site.ports["imaps"]
        client = IMAPClient("localhost", port, ssl_context=self.site.context(), timeout=PATIENCE)
        try:
            getattr(client, method)(user, said)
            return "OK" if client.select_folder("INBOX") else ""
        except LoginError as error:
            return str(error)
        finally:
            client.shutdown()

    async def both(self, said: str, user: str = ANN) -> set[str]:
        methods = ("oauthbearer_login", "oauth2_login")
        return {await self.in_thread(self.login, method, said, user) for method in methods}

    async def test_a_signed_token(self) -> None:
        self.assertEqual(await self.both(token()), {"OK"})
        self.assertEqual(self.provider.asked, ["/keys"])

    async def test_an_opaque_token(self) -> None:
        self.provider.known["opaque"] = {"email": ANN, "aud": ["x", "mail"], "exp": 2**33}
        self.assertEqual(await self.both("opaque"), {"OK"})
        self.assertEqual(self.provider.asked, ["/introspect"], "a good answer is remembered")
        [refusal] = await self.both("unknown")
        self.assertIn("the name or the password is wrong", refusal)
        self.provider.known["for others"] = {"email": ANN, "aud": "shop"}
        self.assertNotEqual(await self.both("for.others"), {"OK"})

    async def test_tokens_that_are_not_good(self) -> None:
        other = ec.generate_private_key(ec.SECP256R1())
        said = {"iss": RULES.issuer, "aud": "mail", "exp": 2**33, "email": ANN}
        pem = SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        unsigned = jwt.encode(said, None, algorithm="none")
        bad = {
            "expired": token(exp=1_000_000),
            "not yet": token(nbf=2**33),
            "for another": token(aud="shop"),
            "of another": token(iss="https://evil.example"),
            "nobody's": token(email="nobody@example.org"),
            "not said whose": token(email=None),
            "not verified": token(email_verified=False),
            "without an end": token(exp=None),
            "forged": jwt.encode(said, other, algorithm="ES256", headers={"kid": "1"}),
            "not signed": unsigned,
            "signed with the public key": jwt.encode(
                said, hashlib.sha256(pem).digest(), algorithm="HS256", headers={"kid": "1"}
            ),
            "cut": token()[:-5],
            "deep": base64.urlsafe_b64encode(b"[" * 20_000).decode().rstrip("=") + ".e30.x",
            "garbage": "a.b.c",
        }
        for name, one in bad.items():
            answers = await self.both(one)
            self.assertNotIn("OK", answers, name)
            for answer in answers:
                self.assertNotIn("internal error", answer, name)
        self.assertEqual(await self.both(token()), {"OK"})

    async def test_only_for_whom_the_token_is(self) -> None:
        """T41: `user` is a wish, the token says who one is."""
        self.assertEqual(await self.both(token(), "ANN+example.org"), {"OK"})
        [refusal] = await self.both(token(), "bob@example.org")
        self.assertIn("you may not act as that user", refusal)

    async def test_the_refusal_says_what_is_wanted(self) -> None:
        """RFC 7628 §3.2.2, §4.3; T40."""
        self.use({"auth.oauth.scope": "mail.read", "auth.oauth.introspectionurl": "",
                  "auth.oauth.clientid": "", "auth.oauth.clientsecret": ""})  # fmt: skip
        configuration = self.options["auth.oauth.configurationurl"]

        def talk(mechanism: str, message: str) -> tuple[Any, str]:
            with Line(self.site, "pop3", "tls", self.site.context()) as line:
                assert line.ask(f"AUTH {mechanism}") == "+ "
                line.write(base64.b64encode(message.encode()).decode())
                error = json.loads(base64.b64decode(line.answer()[2:]))
                line.write("AQ==")
                return error, line.answer()

        for said, status in ((token(), "insufficient_scope"), ("", "invalid_token")):
            bearer = f"Bearer {said}" if said else ""
            error, answer = await self.in_thread(
                talk, "OAUTHBEARER", f"n,,\x01auth={bearer}\x01\x01"
            )
            self.assertEqual(
                error,
                {"status": status, "scope": "mail.read", "openid-configuration": configuration},
            )
            self.assertTrue(answer.startswith("NO [AUTH] "), answer)
        error, _ = await self.in_thread(
            talk, "XOAUTH2", f"user={ANN}\x01auth=Bearer {token(exp=1000)}\x01\x01"
        )
        self.assertEqual(error, {"status": "401", "schemes": "bearer", "scope": "mail.read"})
        self.assertEqual(await self.both(token(scope="openid mail.read")), {"OK"})
        self.assertEqual(await self.both(token(scp=["mail.read"])), {"OK"})

    async def test_a_server_that_is_away_locks_nobody_else_out(self) -> None:
        """`[UNAVAILABLE]` and `[SYS/TEMP]`, a line in the log, and keys that are known go on
        being good."""
        self.assertEqual(await self.both(token()), {"OK"})
        await self.port.stopListening()
        self.assertEqual(await self.both(token()), {"OK"})
        self.use({})  # as after a restart
        self.site.set(plaintext_min_cipher=1)

        def answers() -> list[str]:
            found = []
            for service in ("imap", "pop3"):
                for said in (token(), "opaque"):
                    with Line(self.site, service, "tls", self.site.context()) as line:
                        message = f"n,,\x01auth=Bearer {said}\x01\x01".encode()
                        found.append(line.authenticate("OAUTHBEARER", lambda _, m=message: m))
                with Line(self.site, service, "tls", self.site.context()) as line:
                    found.append(line.login()[:2])
            return found

        signed, opaque, ann, signed_pop, opaque_pop, ann_pop = await self.in_thread(answers)
        for answer in (signed, opaque):
            self.assertTrue(answer.startswith("NO [UNAVAILABLE] "), answer)
            self.assertNotIn("127.0.0.1", answer)
        for answer in (signed_pop, opaque_pop):
            self.assertTrue(answer.startswith("NO [SYS/TEMP] "), answer)
        self.assertEqual((ann, ann_pop), ("OK", "OK"))

    async def test_a_new_key_is_fetched_when_a_token_names_it(self) -> None:
        new = ec.generate_private_key(ec.SECP256R1())
        self.assertEqual(await self.both(token()), {"OK"})
        said = {"iss": RULES.issuer, "aud": "mail", "exp": 2**33, "email": ANN}
        signed = jwt.encode(said, new, algorithm="ES256", headers={"kid": "2"})
        tokens: Any = self.site.installation.authenticator.tokens
        tokens._keys._pause = 0.0
        self.assertNotIn("OK", await self.both(signed))
        public = jwt.algorithms.ECAlgorithm.to_jwk(new.public_key(), as_dict=True)
        self.provider.keys = [PUBLIC, {**public, "kid": "2"}]
        self.assertEqual(await self.both(signed), {"OK"})
        asked = len(self.provider.asked)
        tokens._keys._pause = 30.0
        for _ in range(3):
            await self.both(jwt.encode(said, new, algorithm="ES256", headers={"kid": "3"}))
        self.assertEqual(len(self.provider.asked), asked, "strangers do not make us ask")
