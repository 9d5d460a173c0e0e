"""A server to try things on: certificate, two accounts, some mail, loopback ports.

Everything lies in one directory, which is made at the first start and kept afterwards. Its
`mailserver.toml` is an ordinary configuration file: the same data can be served by twistd
and worked on by `mailctl`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.python.failure import Failure

from mailserver.model.ids import MailboxRef, Principal
from mailserver.service import options as o
from mailserver.service.accounts import create_accounts
from mailserver.service.config import CONFIG_FILE, load
from mailserver.service.demo_mail import ACCOUNTS, DOMAIN, DemoMessage, messages
from mailserver.service.installation import Installation, make_data_directory
from mailserver.service.tls import SelfSigned, ensure_self_signed
from mailserver.service.wiring import Server
from mailserver.store.directory.edit import NewAccount

HOST: Final = "127.0.0.1"
STATE_FILE: Final = "demo.json"
PASSWORDS_FILE: Final = "demo-passwords.json"

PORTS: Final = {
    "imap": (o.imap.PORT, 143),
    "imaps": (o.imap.SSL_PORT, 993),
    "pop3": (o.pop3.PORT, 110),
    "pop3s": (o.pop3.SSL_PORT, 995),
    "lmtp": (o.lmtp.PORT, 24),
}
"""Service -> option of its port, and its distance from the port base."""

_GREETING_TIMEOUT: Final = 10.0

_CONFIGURATION: Final = """\
# Made by `mailctl demo` and kept: change what you like. Ports follow MAILSERVER_PORT_BASE
# when it is started again that way; `twistd -n mailserver --config` takes those below.

local.datadirectory = "."
tls.certificate = "tls/cert.pem"
tls.key = "tls/key.pem"

service.defaultdomain = "{domain}"
service.imap.address = "{host}"
service.imap.port = {imap}
service.imap.sslport = {imaps}
service.imap.plaintextmincipher = 0  # passwords also without TLS: it is loopback only
service.pop.address = "{host}"
service.pop.port = {pop3}
service.pop.sslport = {pop3s}
service.pop.plaintextmincipher = 0
service.lmtp.address = "{host}"
service.lmtp.port = {lmtp}
"""


@attrs.frozen
class Running:
    """A demo that answers on every port; `state` is what programs read.

    Attributes:
        services: port of each service.
        accounts: (name, password) of each account.
        certificate: files of the certificate.
        data: the data directory.
    """

    services: dict[str, int]
    accounts: list[tuple[str, str]]
    certificate: SelfSigned
    data: Path

    @property
    def state(self) -> dict[str, object]:
        """The content of `demo.json`."""
        return {
            "host": HOST,
            "pid": os.getpid(),
            "services": self.services,
            "accounts": [{"name": n, "password": p} for n, p in self.accounts],
            "ca_file": str(self.certificate.authority),
        }


class Demo:
    """One demo; `start` and `stop` it while the reactor runs.

    Args:
        data: its directory, made if missing.
        port_base: ports are this and a service's usual number.
        reactor: the real one.

    Raises:
        MailError: the directory cannot be used.
        ConfigurationError: somebody changed `mailserver.toml` for the worse.
        StartFault: a port is in use.
    """

    def __init__(self, data: Path, port_base: int, reactor: Any) -> None:
        self._data = data.absolute()
        self._reactor = reactor
        self._holds_data = False
        make_data_directory(self._data)
        self._certificate = ensure_self_signed(self._data / "tls", _host_names())
        ports = {name: port_base + offset for name, (_, offset) in PORTS.items()}
        config_file = self._data / CONFIG_FILE
        if not config_file.exists():
            text = _CONFIGURATION.format(domain=DOMAIN, host=HOST, **ports)
            _write_private(config_file, text)
        overrides = {option.name: str(ports[name]) for name, (option, _) in PORTS.items()}
        self._server = Server(
            load(config_file, overrides), reactor, lambda: load(config_file, overrides)
        )
        self._server.bind()

    @property
    def _state_file(self) -> Path:
        return self._data / STATE_FILE

    async def start(self) -> Running:
        """Serve, put accounts and mail in place, and see that every listener answers.

        Raises:
            MailError: the data cannot be used.
        """
        self._server.open()
        # From here on the directory is ours: what is left is of one that was killed.
        self._holds_data = True
        self._state_file.unlink(missing_ok=True)
        installation = self._server.installation
        assert installation is not None
        accounts = await _ensure_accounts(installation, self._data / PASSWORDS_FILE)
        for name, _ in accounts:
            await _ensure_mail(installation, name)
        running = Running(self._server.ports(), accounts, self._certificate, self._data)
        for service, port in running.services.items():
            await self._answer(service, port)
        _write_private(self._state_file, json.dumps(running.state, indent=2) + "\n")
        return running

    async def stop(self) -> None:
        """Stop serving; the data stay."""
        if self._holds_data:
            self._state_file.unlink(missing_ok=True)
        await self._server.stopService()

    async def _answer(self, service: str, port: int) -> None:
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, HOST, port)
        if service.endswith("s"):
            authority = Certificate.loadPEM(self._certificate.authority.read_bytes())
            endpoint = wrapClientTLS(optionsForClientTLS("localhost", authority), endpoint)
        listener = _Listener()
        factory = Factory.forProtocol(lambda: listener)
        factory.noisy = False
        await endpoint.connect(factory)
        await listener.greeted.addTimeout(_GREETING_TIMEOUT, self._reactor)


class _Listener(Protocol):
    """Connects, waits for the greeting, and leaves."""

    def __init__(self) -> None:
        self.greeted: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
        self._done(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._done(reason)

    def _done(self, result: Failure | None) -> None:
        if not self.greeted.called:
            self.greeted.callback(result)


async def _ensure_accounts(installation: Installation, file: Path) -> list[tuple[str, str]]:
    """Make the accounts that are missing; passwords are made once and kept in `file`."""
    passwords: dict[str, str] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for name, _ in ACCOUNTS:
        passwords.setdefault(name, _password())
    _write_private(file, json.dumps(passwords, indent=2) + "\n")
    for name, display_name in ACCOUNTS:
        if await installation.directory.account(name) is None:
            verifiers = await installation.passwords.verifiers(passwords[name])
            new = NewAccount(name, verifiers=verifiers, display_name=display_name)
            await create_accounts(
                installation.directory, installation.store, [new], add_domains=True
            )
    return [(name, passwords[name]) for name, _ in ACCOUNTS]


async def _ensure_mail(installation: Installation, name: str) -> None:
    """Add the demo's messages that this account does not have; what a person deleted of
    them stays deleted, because their keys are known."""
    account = await installation.directory.account(name)
    assert account is not None
    who = Principal(account.id, account.name, account.name)
    mailboxes: dict[str, MailboxRef] = {
        info.name: info.ref for info in await installation.store.mailboxes(who)
    }
    wanted: dict[str, list[DemoMessage]] = {}
    for message in messages():
        if message.account == name:
            wanted.setdefault(message.mailbox, []).append(message)
    for mailbox, placed in wanted.items():
        if mailbox not in mailboxes:
            info = await installation.store.create(who, mailbox)
            await installation.store.subscribe(who, mailbox, True)
            mailboxes[mailbox] = info.ref
        await _append(installation, who, mailboxes[mailbox], placed)


async def _append(
    installation: Installation, who: Principal, target: MailboxRef, placed: list[DemoMessage]
) -> None:
    spooled = []
    try:
        for message in placed:
            spool = installation.store.spool()
            spool.write(message.octets)
            spooled.append(await spool.finish())
        await installation.store.append(
            who,
            target,
            [(one, m.flags, m.date) for one, m in zip(spooled, placed, strict=True)],
            [message.key for message in placed],
        )
    finally:
        for one in spooled:
            one.discard()


def _host_names() -> list[str]:
    names = ["localhost", HOST, "::1"]
    host = socket.gethostname()
    # Names that certificates cannot carry do exist on people's machines.
    if host not in names and all(
        label and label.isascii() and label.replace("-", "").isalnum() for label in host.split(".")
    ):
        names.append(host)
    return names


def _password() -> str:
    """Four groups of letters and digits that are not mistaken for each other: 77 bits."""
    letters = "".join(c for c in string.ascii_lowercase + string.digits if c not in "l1o0")
    groups = ("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))
    return "-".join(groups)


def _write_private(file: Path, text: str) -> None:
    """Replace a file as a whole; 0600 (S14)."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    fresh.replace(file)


def run(demo: Demo, reactor: Any, ready: Callable[[Running], None]) -> None:
    """Run the demo until SIGINT or SIGTERM.

    Args:
        ready: called when every listener answers.

    Raises:
        Exception: what `Demo.start` raised.
    """
    failures: list[Failure] = []

    def failed(failure: Failure) -> None:
        failures.append(failure)
        reactor.stop()

    def start() -> None:
        Deferred.fromCoroutine(demo.start()).addCallback(ready).addErrback(failed)

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(demo.stop()))
    reactor.callWhenRunning(start)
    reactor.run()
    if failures:
        failures[0].raiseException()
