"""A whole server on real sockets in this process, and blocking clients for it in threads:
who wants to see how one may log in needs real TLS.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
import jwt
import scramp.core
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailserver.auth.passwords import HashParameters
from mailserver.auth.throttle import ThrottleLimits
from mailserver.auth.tokens.keys import FixedKeys, read_keys
from mailserver.auth.tokens.verifier import TokenRules, TokenVerifier
from mailserver.server.imap.commands import MODULES
from mailserver.server.imap.protocol import ImapFactory
from mailserver.server.imap.registry import Registry
from mailserver.server.imap.session import Services as ImapServices
from mailserver.server.imap.settings import ImapSettings
from mailserver.server.pop3.protocol import Pop3Factory
from mailserver.server.pop3.session import Services as Pop3Services
from mailserver.server.pop3.settings import Pop3Settings
from mailserver.service.installation import Installation, InstallationSettings
from mailserver.service.monitor import SessionMonitor
from mailserver.service.sources import SourceSettings
from mailserver.service.tls import ServerTls, TlsSettings
from mailserver.service.tls.server import OPTIONAL
from mailserver.wire import sasl
from tests.service.handshake import Authority, pem, private_pem, write

KNOWN_BINDINGS = frozenset({"tls-unique", "tls-server-end-point", "tls-exporter"})
ANN, PASSWORD = "ann@example.org", "secret"
PATIENCE = 20.0

SERVERS = Authority.make("Servers' CA")
CLIENTS = Authority.make("Clients' CA")
SIGNER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = {**jwt.algorithms.ECAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True), "kid": "1"}
RULES = TokenRules(issuer="https://id.example.org", audience=("mail",))
CHEAP = HashParameters(time_cost=1, memory_cost=8, scram_iterations=4096, scram_sha1=True)


def token(**claims: object) -> str:
    """A token of the issuer that is trusted, for ann."""
    said = {"iss": RULES.issuer, "aud": "mail", "exp": 2**33, "email": ANN, **claims}
    return jwt.encode(said, SIGNER, algorithm="ES256", headers={"kid": "1"})


class Site:
    """The server: IMAP and POP3, each plain with STARTTLS and on a TLS port.

    Its accounts come from a passwd-file with passwords in clear, the one source that can
    serve every mechanism.

    Attributes:
        ports: service → TCP port.
        installation: what it works on.
    """

    def __init__(self, folder: Path, installation: Installation) -> None:
        self.installation = installation
        self.folder = folder
        SERVERS.write_pair(folder / "server", "server", ["localhost"])
        self._tls = ServerTls(
            TlsSettings(
                (folder / "server",),
                client_authorities=write(folder / "clients.pem", pem(CLIENTS.certificate)),
                client_certificates={"imap": OPTIONAL, "pop3": OPTIONAL},
            )
        )
        self.monitor = SessionMonitor()
        installation.authenticator.tokens = TokenVerifier(
            RULES, FixedKeys(read_keys({"keys": [PUBLIC]})), None
        )
        self._factories = {
            "imap": ImapFactory(self._imap(), "imap"),
            "imaps": ImapFactory(self._imap(), "imaps"),
            "pop3": Pop3Factory(self._pop3(), "pop3"),
            "pop3s": Pop3Factory(self._pop3(), "pop3s"),
        }
        self._listening = {}
        made: Any = reactor
        for service, factory in self._factories.items():
            served: Any = factory
            if service.endswith("s"):
                tls = self._tls.for_service(service.removesuffix("s"))
                served = TLSMemoryBIOFactory(tls, False, factory)
            self._listening[service] = made.listenTCP(0, served, interface="127.0.0.1")
        self.ports = {name: port.getHost().port for name, port in self._listening.items()}

    @classmethod
    async def open(cls, folder: Path, **more: Any) -> Site:
        """Start it in a directory; what is there from before is kept.

        Args:
            more: of `InstallationSettings`.
        """
        lines = [f"{name}@example.org:{{PLAIN}}{PASSWORD}\n" for name in ("ann", "bob", "root")]
        users = write(folder / "users", "".join(lines).encode())
        settings: dict[str, Any] = {
            "data": folder / "data",
            "hashes": CHEAP,
            "throttle": ThrottleLimits(first_delay=0),
            "sources": SourceSettings(order=("passwd-file",), passwd_file=users),
            **more,
        }
        installation = await Installation.open(InstallationSettings(**settings), reactor)
        installation._load_passwd_file()
        await installation.directory.add_domain("example.org")
        return cls(folder, installation)

    async def stop(self) -> None:
        for port in self._listening.values():
            await port.stopListening()
        for session in self.monitor.sessions():
            session.transport.abortConnection()  # type: ignore[attr-defined]
        await self.monitor.all_closed()
        await self.installation.stop()

    def set(self, **settings: Any) -> None:
        """Change settings for new connections; all mechanisms are on unless said."""
        settings.setdefault("mechanisms", tuple(sasl.MECHANISMS))
        for factory in self._factories.values():
            made: type[Any] = ImapSettings if isinstance(factory, ImapFactory) else Pop3Settings
            factory.services = attrs.evolve(factory.services, settings=made(**settings))

    def _imap(self) -> ImapServices:
        installation = self.installation
        return ImapServices(
            store=installation.store,
            directory=installation.accounts,
            authenticator=installation.authenticator,
            bus=installation.bus,
            monitor=self.monitor,
            settings=ImapSettings(),
            registry=Registry.collect(MODULES),
            clock=reactor,  # type: ignore[arg-type]
            tls=self._tls.for_service("imap"),
        )

    def _pop3(self) -> Pop3Services:
        installation = self.installation
        return Pop3Services(
            store=installation.store,
            authenticator=installation.authenticator,
            monitor=self.monitor,
            settings=Pop3Settings(),
            clock=reactor,  # type: ignore[arg-type]
            tls=self._tls.for_service("pop3"),
        )

    def context(self, *, certificate: bool = False) -> ssl.SSLContext:
        """A client's TLS, with ann's certificate or with none."""
        context = SERVERS.trusting()
        if certificate:
            shown, key = CLIENTS.issue("Ann", emails=[ANN], for_clients=True)
            context.load_cert_chain(write(self.folder / "ann.pem", pem(shown) + private_pem(key)))
        return context


# -- clients, for threads -----------------------------------------------------------------


class Line:
    """One connection, line by line, before login.

    Args:
        service: `imap` or `pop3`.
        transport: `plain`, `starttls`, or `tls` for the TLS port.
        context: of the client.
    """

    def __init__(
        self, site: Site, service: str, transport: str, context: ssl.SSLContext | SSL.Context
    ) -> None:
        self.is_imap = service == "imap"
        port = site.ports[service + ("s" if transport == "tls" else "")]
        self.socket: Any = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._buffer = b""
        if transport == "tls":
            self._secure(context)
        self.greeting = self.read()
        if transport == "starttls":
            assert self.ask("STARTTLS" if self.is_imap else "STLS").startswith("OK")
            self._secure(context)

    def _secure(self, context: ssl.SSLContext | SSL.Context) -> None:
        if isinstance(context, SSL.Context):
            self.socket.settimeout(None)  # pyOpenSSL knows sockets that block, and others
            self.socket = SSL.Connection(context, self.socket)
            self.socket.set_connect_state()
            self.socket.do_handshake()
        else:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self) -> str:
        while b"\r\n" not in self._buffer:
            octets = self.socket.recv(65536)
            assert octets, "the server has closed the connection"
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    def write(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\r\n")

    def ask(self, command: str) -> str:
        """Send a command; its answer begins with OK, NO, BAD, or is a challenge: `+ …`."""
        self.write(f"a {command}" if self.is_imap else command)
        return self.answer()

    def answer(self) -> str:
        while True:
            line = self.read()
            if self.is_imap and line.startswith("a "):
                return line[2:]
            if not self.is_imap and line.startswith("-ERR"):
                return "NO" + line.removeprefix("-ERR")
            if line.startswith("+OK"):
                return line[1:]
            if line.startswith("+ "):
                return line

    def announced(self) -> set[str]:
        """Mechanisms, and `PASSWORD` where LOGIN or USER may be used."""
        if self.is_imap:
            self.write("a CAPABILITY")
            tokens = self.read().split()
            assert self.answer().startswith("OK")
            found = {one.removeprefix("AUTH=") for one in tokens if one.startswith("AUTH=")}
            return found | (set() if "LOGINDISABLED" in tokens else {"PASSWORD"})
        self.write("CAPA")
        assert self.read().startswith("+OK")
        lines = list(iter(self.read, "."))
        found = {name for one in lines if one.startswith("SASL ") for name in one.split()[1:]}
        self.write("AUTH")
        assert self.read().startswith("+OK")
        assert set(iter(self.read, ".")) == found, "CAPA and AUTH say the same"
        return found | ({"PASSWORD"} if "USER" in lines else set())

    def login(self) -> str:
        """The answer to LOGIN, or to USER and PASS."""
        if self.is_imap:
            return self.ask(f"LOGIN {ANN} {PASSWORD}")
        answer = self.ask(f"USER {ANN}")
        return self.ask(f"PASS {PASSWORD}") if answer.startswith("OK") else answer

    def authenticate(self, name: str, client: Callable[[bytes], bytes]) -> str:
        """Go through an exchange; the last answer."""
        answer = self.ask(f"AUTHENTICATE {name}" if self.is_imap else f"AUTH {name}")
        while answer.startswith("+ "):
            response = client(base64.b64decode(answer[2:]))
            self.write(base64.b64encode(response).decode())
            answer = self.answer()
        return answer


def client_of(name: str, line: Line, password: str = PASSWORD) -> Callable[[bytes], bytes]:
    """A client's side of a mechanism that shares nothing with the server's code."""
    if name.startswith("SCRAM"):
        return scram_client(name, line.socket, password)
    said: Mapping[str, Iterator[Callable[[bytes], bytes]]] = {
        "PLAIN": iter([lambda _: f"\0{ANN}\0{password}".encode()]),
        "LOGIN": iter([lambda _: ANN.encode(), lambda _: password.encode()]),
        "EXTERNAL": iter([lambda _: b""]),
        "CRAM-MD5": iter(
            [
                lambda challenge: (
                    ANN.encode()
                    + b" "
                    + hmac.new(password.encode(), challenge, hashlib.md5).hexdigest().encode()
                )
            ]
        ),
        "OAUTHBEARER": iter([lambda _: f"n,,\x01auth=Bearer {token()}\x01\x01".encode()]),
        "XOAUTH2": iter([lambda _: f"user={ANN}\x01auth=Bearer {token()}\x01\x01".encode()]),
    }
    steps = said[name]
    return lambda challenge: next(steps)(challenge)


def scram_client(
    name: str, connection: object, password: str = PASSWORD, user: str = ANN
) -> Callable[[bytes], bytes]:
    """SCRAM by scramp; -PLUS is bound by `tls-server-end-point` on one of Python's sockets,
    by `tls-exporter` on one of pyOpenSSL's."""
    binding: Any = None
    if name.endswith("-PLUS"):
        if isinstance(connection, SSL.Connection):
            label = b"EXPORTER-Channel-Binding"
            binding = ("tls-exporter", connection.export_keying_material(label, 32, b""))
        elif isinstance(connection, ssl.SSLSocket):
            binding = ("tls-server-end-point", connection)
        else:
            binding = ("tls-unique", bytes(12))
    # It would not take `tls-exporter`, because it cannot compute its data; we give it those.
    with patch.multiple(
        scramp.core.CbName, SUPPORTED_TYPES=KNOWN_BINDINGS, UNSUPPORTED_TYPES=frozenset()
    ):
        client = scramp.ScramClient([name], user, password, channel_binding=binding)

    def answers() -> Iterator[bytes]:
        challenge = yield client.get_client_first().encode()
        client.set_server_first(challenge.decode())  # type: ignore[attr-defined]
        challenge = yield client.get_client_final().encode()
        client.set_server_final(challenge.decode())  # type: ignore[attr-defined]
        yield b""

    steps: Any = answers()
    began: list[bool] = []

    def answer(challenge: bytes) -> bytes:
        made: bytes = steps.send(challenge if began else None)
        began.append(True)
        return made

    return answer
