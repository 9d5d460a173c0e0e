"""The server's side of TLS, for every listener and every STARTTLS.

Theory of operation. Each service has one context, the front, with which every connection
begins. When the client has said whom it wants to reach, the connection goes over to a
context that has certificates: there is one for each set of them, RSA and EC keys of one name
together. A reload makes those anew and leaves the fronts: they have the keys of the session
tickets, so that clients resume across it. Fronts are made anew when what is asked of clients
has changed, since a resumed session is not asked again, and once a day (`rotate_tickets`).

TLS 1.2 and later only (S12); forward secrecy and authenticated encryption only
(RFC 9325 §4.2); no compression, no renegotiation (RFC 9325 §3.3, §3.5). A client that says
what it speaks must mean us (RFC 7301 §3.2): a browser led here by an attacker does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import attrs
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mailserver.model.certificate import ClientCertificate
from mailserver.service.tls.clients import ClientTrust, read_trust
from mailserver.service.tls.files import (
    CertificateFault,
    KeyPair,
    Signature,
    read_pairs,
    signature,
)

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all good."""

OFF: Final = "off"
OPTIONAL: Final = "optional"
REQUIRED: Final = "required"

TICKET_LIFETIME: Final = 7200
"""Seconds for which a session can be resumed."""

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_VERIFY: Final = {
    OFF: SSL.VERIFY_NONE,
    OPTIONAL: SSL.VERIFY_PEER,
    REQUIRED: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
# As registered with IANA; for LMTP nothing is.
_ALPN: Final = {"imap": b"imap", "pop3": b"pop3", "lmtp": b"lmtp"}

_EXPIRES_SOON: Final = timedelta(days=14)


@attrs.frozen
class TlsSettings:
    """What the options say about TLS.

    Attributes:
        certificates, keys: as `files.read_pairs` takes them.
        minimum: oldest version that is spoken, `1.2` or `1.3`.
        ciphers: for TLS 1.2, as OpenSSL writes them.
        client_authorities, client_revoked, client_map, client_rules: as
            `clients.read_trust` takes them; without authorities no client is asked for a
            certificate.
        client_certificates: service -> OFF, OPTIONAL or REQUIRED.
    """

    certificates: tuple[Path, ...]
    keys: tuple[Path, ...] = ()
    minimum: str = "1.2"
    ciphers: str = CIPHERS
    client_authorities: Path | None = None
    client_revoked: Path | None = None
    client_map: Path | None = None
    client_rules: tuple[str, ...] = ("map", "email")
    client_certificates: Mapping[str, str] = attrs.Factory(dict)

    def paths(self) -> Iterator[Path]:
        """Every file and directory that is read."""
        yield from self.certificates
        yield from self.keys
        for path in (self.client_authorities, self.client_revoked, self.client_map):
            if path is not None:
                yield path


@attrs.frozen(eq=False)
class _Loaded:
    """What the settings led to.

    Attributes:
        signature: of the files, before they were read.
        by_name: server name -> its certificates, one for each kind of key; `*.` + a domain
            for the names of one label below it.
        default: for clients that name no server, or one that we are not.
    """

    settings: TlsSettings
    signature: Signature
    pairs: tuple[KeyPair, ...]
    by_name: Mapping[str, tuple[KeyPair, ...]]
    default: tuple[KeyPair, ...]
    trust: ClientTrust | None

    @classmethod
    def read(cls, settings: TlsSettings) -> _Loaded:
        state = signature(settings.paths())
        pairs = read_pairs(settings.certificates, settings.keys)
        trust = None
        if settings.client_authorities is not None:
            trust = read_trust(
                settings.client_authorities,
                settings.client_revoked,
                settings.client_map,
                settings.client_rules,
            )
        by_name: dict[str, dict[type, KeyPair]] = {}
        for pair in pairs:
            for name in pair.names:
                by_name.setdefault(name, {}).setdefault(type(pair.key), pair)
        groups = {name: tuple(group.values()) for name, group in by_name.items()}
        first = pairs[0]
        default = groups[first.names[0]] if first.names else (first,)
        return cls(settings, state, pairs, groups, default, trust)

    def choose(self, name: str) -> tuple[KeyPair, ...]:
        """Certificates for a server name in any case; empty for none."""
        name = name.lower().rstrip(".")
        exact = self.by_name.get(name)
        if exact is not None:
            return exact
        _, dot, domain = name.partition(".")
        return self.by_name.get(f"*.{domain}" if dot else "", self.default)

    def asks(self, service: str) -> str:
        """OFF, OPTIONAL or REQUIRED."""
        if self.trust is None:
            return OFF
        return self.settings.client_certificates.get(service, OFF)

    def policy(self, service: str) -> tuple[object, ...]:
        """What a session was made under; a change of it voids the tickets."""
        asks = self.asks(service)
        digest = b"" if self.trust is None or asks == OFF else self.trust.digest
        return (self.settings.minimum, self.settings.ciphers, asks, digest)

    def context(self, service: str, pairs: tuple[KeyPair, ...]) -> SSL.Context:
        """Make a context; with the other of its service it shares the session id context,
        or no session would be resumed."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_VERSIONS[self.settings.minimum])
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        # An idle connection keeps no buffers: 8 KiB less.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Tickets only: a cache of sessions would be memory that clients can fill.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_timeout(TICKET_LIFETIME)
        policy = repr((service, self.policy(service))).encode()
        context.set_session_id(hashlib.sha256(policy).digest())
        context.set_cipher_list(self.settings.ciphers.encode("ascii"))
        context.set_verify(_VERIFY[self.asks(service)], _accept_verdict)
        context.set_info_callback(_see_certificate)
        if self.trust is not None and self.asks(service) != OFF:
            self.trust.believe_in(context)
        if service in _ALPN:
            context.set_alpn_select_callback(_alpn_for(_ALPN[service]))
        for pair in pairs:
            _show(context, pair)
        return context


def _accept_verdict(*arguments: Any) -> bool:
    """OpenSSL's verdict on a certificate of the chain, which is the last argument."""
    return bool(arguments[-1])


def _see_certificate(connection: SSL.Connection, where: int, _code: int) -> None:
    """Notice that a connection shows its certificate, as it does not when a session is
    resumed; nothing else tells."""
    if (
        where & SSL.SSL_CB_LOOP
        and isinstance(connection, ServerConnection)
        and connection.get_state_string() == b"SSLv3/TLS write certificate"
    ):
        connection.has_shown_certificate = True


class _WrongProtocol(SSL.Error):
    """The client wants another protocol than ours."""


def _alpn_for(protocol: bytes) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def select(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
        if protocol in offered:
            return protocol
        # pyOpenSSL has no other way to the alert no_application_protocol.
        raise _WrongProtocol([("SSL routines", "", "the client offers no protocol of ours")])

    return select


def _show(context: SSL.Context, pair: KeyPair) -> None:
    """Add a certificate with its own chain, which OpenSSL takes from files only."""
    try:
        with NamedTemporaryFile(suffix=".pem") as file:
            for certificate in pair.chain:
                file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.use_certificate_chain_file(file.name)
        context.use_privatekey(pair.key)  # type: ignore[arg-type]  # takes both kinds
    except (SSL.Error, TypeError) as error:
        reason = error.args[0][-1][-1] if isinstance(error, SSL.Error) else str(error)
        raise CertificateFault(pair.certificate_file, f"OpenSSL refuses it: {reason}") from None


class ServerTls:
    """Certificates and what is asked of clients; may be replaced while connections live.

    Args:
        settings: where everything lies.

    Raises:
        CertificateFault: a file cannot be used.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._loaded = _checked(settings)
        self._refused: Signature | None = None
        self._services: dict[str, ServiceTls] = {}

    def for_service(self, service: str) -> ServiceTls:
        """What `startTLS` and `TLSMemoryBIOFactory` want; always the same for a service.

        Args:
            service: `imap`, `pop3` or `lmtp`.
        """
        if service not in self._services:
            self._services[service] = ServiceTls(service, self._loaded)
        return self._services[service]

    def reload(self, settings: TlsSettings) -> None:
        """Read the files, which may be others; live connections keep what they have (R18).

        Raises:
            CertificateFault: as `prepare`; then everything stays as it was.
        """
        self.take(self.prepare(settings))

    def prepare(self, settings: TlsSettings) -> Prepared:
        """Read the files for `take`. An RSA key takes 40 ms, so this may be called in a
        thread, by one at a time.

        Raises:
            CertificateFault: a file cannot be used, or brings a certificate that has
                expired.
        """
        if settings == self._loaded.settings:
            self._refused = signature(settings.paths())
        loaded = _checked(settings)
        now = datetime.now(UTC)
        known = {pair.fingerprint for pair in self._loaded.pairs}
        for pair in loaded.pairs:
            if pair.certificate.not_valid_after_utc <= now and pair.fingerprint not in known:
                ended = f"{pair.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
                raise CertificateFault(pair.certificate_file, f"it has expired at {ended}")
        return loaded

    def take(self, loaded: Prepared) -> None:
        """Serve whoever connects from now on with what was prepared."""
        self._loaded = loaded
        self._refused = None
        for service in self._services.values():
            service.take(loaded)

    def has_changed(self) -> bool:
        """A file is another than when it was last read, or tried to."""
        found = signature(self._loaded.settings.paths())
        return found != (self._refused or self._loaded.signature)

    @property
    def settings(self) -> TlsSettings:
        """Those that act."""
        return self._loaded.settings

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """Every certificate."""
        return self._loaded.pairs

    def shown_for(self, name: str) -> tuple[KeyPair, ...]:
        """Certificates, one for each kind of key, that a client sees that asks for a name;
        empty for none."""
        return self._loaded.choose(name)

    def rotate_tickets(self) -> None:
        """Throw away the keys of session tickets; clients begin with a full handshake once
        (RFC 9325 §3.4)."""
        for service in self._services.values():
            service.renew()

    def warnings(self, now: datetime) -> Iterator[str]:
        """What an administrator should know of the certificates; `now` is aware."""
        for pair in self._loaded.pairs:
            end = pair.certificate.not_valid_after_utc
            if end <= now:
                yield f"{pair.certificate_file}: the certificate has expired at {end:%Y-%m-%d}"
            elif end - now < _EXPIRES_SOON:
                yield f"{pair.certificate_file}: the certificate expires at {end:%Y-%m-%d}"
            elif pair.certificate.not_valid_before_utc > now:
                start = pair.certificate.not_valid_before_utc
                yield f"{pair.certificate_file}: the certificate is not valid before {start}"


Prepared = _Loaded
"""What `ServerTls.prepare` has read."""


def _checked(settings: TlsSettings) -> _Loaded:
    """Read everything, and see that OpenSSL takes every certificate."""
    loaded = _Loaded.read(settings)
    for group in {loaded.default, *loaded.by_name.values()}:
        loaded.context("", group)
    return loaded


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLContextFactory)
class ServiceTls:
    """TLS of one service; made by `ServerTls.for_service`."""

    def __init__(self, service: str, loaded: _Loaded) -> None:
        self._service = service
        self._loaded = loaded
        self._contexts: dict[tuple[KeyPair, ...], SSL.Context] = {}
        self._front = self._new_front()

    def _new_front(self) -> SSL.Context:
        front = self._loaded.context(self._service, ())
        front.set_tlsext_servername_callback(self._choose)
        return front

    def _choose(self, connection: SSL.Connection) -> None:
        """Called in every handshake, also when the client names no server."""
        name = (connection.get_servername() or b"").decode("ascii", "replace")
        pairs = self._loaded.choose(name)
        context = self._contexts.get(pairs)
        if context is None:
            context = self._contexts[pairs] = self._loaded.context(self._service, pairs)
        connection.set_context(context)

    def take(self, loaded: _Loaded) -> None:
        """Serve with other files from now on."""
        before, self._loaded = self._loaded, loaded
        self._contexts.clear()
        if before.policy(self._service) != loaded.policy(self._service):
            self.renew()

    def renew(self) -> None:
        """Void the tickets that were given."""
        self._front = self._new_front()

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted's way of asking for one connection's TLS state."""
        return self.connection()

    def connection(self) -> ServerConnection:
        """The server's end of a new connection; octets go in and out by its BIOs."""
        connection = ServerConnection(self._front, self._loaded)
        connection.set_accept_state()
        return connection

    def getContext(self) -> SSL.Context:
        """The way in which `ITLSTransport.startTLS` is declared to ask."""
        return self._front


class ServerConnection(SSL.Connection):
    """TLS of one connection, which knows what the client's certificate says.

    Attributes:
        has_shown_certificate: in this connection's handshake; not where a session was
            resumed.
    """

    def __init__(self, context: SSL.Context, loaded: _Loaded) -> None:
        super().__init__(context, None)
        # OpenSSL goes on calling some callbacks of the first context after another was chosen;
        # they are memory of this object, which new ticket keys would free amid a handshake.
        self._first = context
        self.has_shown_certificate = False
        self._trust = loaded.trust

    def client_certificate(self) -> ClientCertificate | None:
        """The certificate that the client has shown and that was accepted; None for none.
        To be asked when the handshake is over."""
        if self._trust is None or self.get_verify_mode() == SSL.VERIFY_NONE:
            return None
        shown = self.get_peer_certificate(as_cryptography=True)
        return None if shown is None else self._trust.read(shown)
