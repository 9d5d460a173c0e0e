"""What the options mean to each part of the server, and what is worth a warning."""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import attrs

from mailserver.model.networks import Networks
from mailserver.model.secrets import Evidence, SecretKind
from mailserver.server.imap.settings import ImapSettings
from mailserver.server.lmtp.session import LmtpSettings
from mailserver.server.pop3.settings import Pop3Settings
from mailserver.server.proxy import ProxySettings
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Problem, Settings
from mailserver.service.installation import installation_settings
from mailserver.service.listeners import Listener, TcpListener, UnixListener, everywhere
from mailserver.service.logging import is_traced
from mailserver.service.monitor import SessionLimits
from mailserver.service.options.option import Option
from mailserver.service.options.service import MOST_PROCESSES
from mailserver.service.tls import CertificateFault, ServerTls, TlsSettings
from mailserver.service.tls.files import KEY, NO_KEY
from mailserver.service.workers.handing import MOST_WAITING
from mailserver.wire.imap.reader import Limits
from mailserver.wire.lmtp.grammar import Leniency
from mailserver.wire.sasl import MECHANISMS


def imap_settings(settings: Settings) -> ImapSettings:
    """The part that concerns IMAP."""
    return ImapSettings(
        banner=settings[o.imap.BANNER] or ImapSettings().banner,
        plaintext_min_cipher=settings[o.imap.PLAINTEXT_MIN_CIPHER],
        mechanisms=_mechanisms(settings),
        hostname=_hostname(settings),
        before_login=Limits(
            line=settings[o.imap.MAX_LINE_BEFORE_LOGIN],
            literal=settings[o.imap.MAX_LITERAL_BEFORE_LOGIN],
            command=settings[o.imap.MAX_COMMAND_BEFORE_LOGIN],
            literals=settings[o.imap.MAX_LITERALS_BEFORE_LOGIN],
        ),
        after_login=Limits(
            line=settings[o.imap.MAX_LINE],
            literal=settings[o.imap.MAX_LITERAL],
            command=settings[o.imap.MAX_COMMAND],
            literals=settings[o.imap.MAX_LITERALS],
        ),
        nesting_before_login=settings[o.imap.MAX_NESTING_BEFORE_LOGIN],
        nesting_after_login=settings[o.imap.MAX_NESTING],
        bad_before_login=settings[o.imap.MAX_BAD_BEFORE_LOGIN],
        bad_after_login=settings[o.imap.MAX_BAD],
        login_timeout=settings[o.imap.LOGIN_TIMEOUT],
        idle_timeout=settings[o.imap.IDLE_TIMEOUT],
        write_timeout=settings[o.imap.WRITE_TIMEOUT],
        idle_notify_interval=settings[o.imap.IDLE_NOTIFY_INTERVAL],
        working_interval=settings[o.imap.WORKING_INTERVAL],
        auth_response=settings[o.imap.MAX_AUTH_RESPONSE],
        input_buffer=settings[o.imap.INPUT_BUFFER],
        disabled_capabilities=frozenset(
            name.encode("ascii") for name in settings[o.imap.DISABLED_CAPABILITIES]
        ),
        workarounds=settings[o.imap.WORKAROUNDS],
        trace=settings[o.imap.TRACE] or _is_traced(settings, "imap"),
    )


def pop3_settings(settings: Settings) -> Pop3Settings:
    """The part that concerns POP3."""
    return Pop3Settings(
        banner=settings[o.pop3.BANNER] or Pop3Settings().banner,
        plaintext_min_cipher=settings[o.pop3.PLAINTEXT_MIN_CIPHER],
        mechanisms=_pop3_mechanisms(settings),
        hostname=_hostname(settings),
        max_line=settings[o.pop3.MAX_LINE],
        auth_response=settings[o.pop3.MAX_AUTH_RESPONSE],
        bad_before_login=settings[o.pop3.MAX_BAD_BEFORE_LOGIN],
        bad_after_login=settings[o.pop3.MAX_BAD],
        login_timeout=settings[o.pop3.LOGIN_TIMEOUT],
        idle_timeout=settings[o.pop3.IDLE_TIMEOUT],
        write_timeout=settings[o.pop3.WRITE_TIMEOUT],
        input_buffer=settings[o.pop3.INPUT_BUFFER],
        apop=settings[o.pop3.APOP],
        exclusive=settings[o.pop3.EXCLUSIVE],
        login_delay=settings[o.pop3.LOGIN_DELAY],
        language=settings[o.pop3.LANGUAGE],
        set_seen=settings[o.pop3.SET_SEEN],
        workarounds=settings[o.pop3.WORKAROUNDS],
        trace=_is_traced(settings, "pop"),
    )


def _mechanisms(settings: Settings) -> tuple[bytes, ...]:
    return tuple(name.encode("ascii") for name in settings[o.login.MECHANISMS])


def _pop3_mechanisms(settings: Settings) -> tuple[bytes, ...]:
    """mutt 2.2 with GNU SASL chooses -PLUS, gives the library no binding of any type, and then
    does not read the answer to its giving up, so that it is out of step for every other way
    in. By IMAP it goes on to the next one."""
    binding = settings[o.pop3.CHANNEL_BINDING]
    return tuple(name for name in _mechanisms(settings) if binding or not MECHANISMS[name].binds)


def _hostname(settings: Settings) -> str:
    return settings[o.local.HOSTNAME] or socket.gethostname()


def lmtp_settings(settings: Settings) -> LmtpSettings:
    """The part that concerns LMTP."""
    return LmtpSettings(
        hostname=_hostname(settings),
        banner=settings[o.lmtp.BANNER] or LmtpSettings("").banner,
        max_recipients=settings[o.lmtp.MAX_RECIPIENTS],
        max_line=settings[o.lmtp.MAX_LINE],
        max_bad_commands=settings[o.lmtp.MAX_BAD],
        lhlo_timeout=settings[o.lmtp.LHLO_TIMEOUT],
        idle_timeout=settings[o.lmtp.IDLE_TIMEOUT],
        message_timeout=settings[o.lmtp.MESSAGE_TIMEOUT],
        write_timeout=settings[o.lmtp.WRITE_TIMEOUT],
        over_quota_is_temporary=settings[o.lmtp.OVER_QUOTA] == "temporary",
        leniency=Leniency(
            whitespace_before_path="whitespace-before-path" in settings[o.lmtp.WORKAROUNDS],
            mailbox_for_path="mailbox-for-path" in settings[o.lmtp.WORKAROUNDS],
        ),
        trace=_is_traced(settings, "lmtp"),
    )


def _is_traced(settings: Settings, module: str) -> bool:
    return is_traced(module, settings[o.local.LOG_LEVEL], settings[o.local.LOG_MODULES])


def session_limits(settings: Settings) -> SessionLimits:
    """How many sessions there may be."""
    trusted = settings[o.login.TRUSTED_HOSTS]
    return SessionLimits(
        per_service={
            "imap": settings[o.imap.MAX_SESSIONS],
            "pop3": settings[o.pop3.MAX_SESSIONS],
            "lmtp": settings[o.lmtp.MAX_SESSIONS],
        },
        per_user=settings[o.login.MAX_SESSIONS_PER_USER],
        per_address=settings[o.login.MAX_SESSIONS_PER_ADDRESS],
        trusted=Networks.of(trusted),
        total=connections(processes(settings)),
        per_account=settings[o.login.MAX_SESSIONS_PER_ACCOUNT],
    )


_DATABASE_DESCRIPTORS: Final = 2048
"""What the store opens at most (256 readers and as many of the writers, three files each,
and large messages); where there are few descriptors, half of them."""
_OTHER_DESCRIPTORS: Final = 64
"""Files, sockets and pipes that are neither connections nor databases."""

_LEAST_CONNECTIONS: Final = 64
"""With fewer connections no server begins to have workers."""
_WORKER_DESCRIPTORS: Final = MOST_WAITING + 6
"""Connections on their way to a worker, and what leads to it."""


_PROCESSES: Final = (
    (o.imap.ENABLE, o.imap.NUM_PROCESSES, ("imap", "imaps")),
    (o.pop3.ENABLE, o.pop3.NUM_PROCESSES, ("pop3", "pop3s")),
    (o.lmtp.ENABLE, o.lmtp.NUM_PROCESSES, ("lmtp", "lmtps")),
)


def connections(processes: Mapping[str, int]) -> int:
    """How many connections this process has descriptors for, beside those of the store and
    those for workers (R11).

    Args:
        processes: see there.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = _OTHER_DESCRIPTORS + _WORKER_DESCRIPTORS * (max(processes.values(), default=1) - 1)
    return max(descriptors // 2, descriptors - _DATABASE_DESCRIPTORS) - others


def processes(settings: Settings) -> dict[str, int]:
    """How many processes serve each listener that is enabled (SUN-31), by `Listener.service`."""
    return {
        name: settings[number] or min(_cores(), MOST_PROCESSES)
        for enable, number, names in _PROCESSES
        if settings[enable]
        for name in names
    }


def _cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def check_processes(settings: Settings) -> None:
    """See that this process may open the files that its workers cost it.

    Raises:
        ConfigurationError: naming the option.
    """
    wanted = processes(settings)
    most = max(wanted.values(), default=1)
    if most > 1 and connections(wanted) < _LEAST_CONNECTIONS:
        option = next(
            number
            for enable, number, names in _PROCESSES
            if settings[enable] and wanted[names[0]] == most
        )
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reason = (
            f"{most} processes leave too few of the {descriptors} files that the first of them"
            f" may open (ulimit -n), which needs {_WORKER_DESCRIPTORS} for each of the others"
        )
        raise ConfigurationError([settings.problem(option, reason)])


@attrs.frozen
class _WithLogin:
    """The options of a service in which people log in."""

    name: str
    title: str
    enable: Option[bool]
    address: Option[tuple[str, ...]]
    port: Option[int]
    enable_ssl_port: Option[bool]
    ssl_port: Option[int]
    plaintext_min_cipher: Option[int]


_WITH_LOGIN: Final = (
    _WithLogin(
        "imap",
        "IMAP",
        o.imap.ENABLE,
        o.imap.ADDRESS,
        o.imap.PORT,
        o.imap.ENABLE_SSL_PORT,
        o.imap.SSL_PORT,
        o.imap.PLAINTEXT_MIN_CIPHER,
    ),
    _WithLogin(
        "pop3",
        "POP3",
        o.pop3.ENABLE,
        o.pop3.ADDRESS,
        o.pop3.PORT,
        o.pop3.ENABLE_SSL_PORT,
        o.pop3.SSL_PORT,
        o.pop3.PLAINTEXT_MIN_CIPHER,
    ),
)


def proxy_settings(settings: Settings) -> ProxySettings:
    """The part that concerns proxies in front of us."""
    trusted = settings[o.proxy.HOSTS]
    return ProxySettings(Networks.of(trusted), settings[o.proxy.TIMEOUT])


def _tcp(
    settings: Settings, service: str, addresses: Option[tuple[str, ...]], port: Option[int]
) -> Iterator[TcpListener]:
    proxied = settings[o.proxy.LISTENERS]
    bound = settings[addresses]
    for address in bound or everywhere():
        behind_proxy = service in proxied or f"{service}@{address}" in proxied
        yield TcpListener(service, address, settings[port], port.name, behind_proxy)


def listeners(settings: Settings, has_tls: bool) -> Iterator[Listener]:
    """The sockets to listen on; the TLS ports only with a certificate (SUN-3, SUN-4)."""
    for service in _WITH_LOGIN:
        if settings[service.enable]:
            yield from _tcp(settings, service.name, service.address, service.port)
            if settings[service.enable_ssl_port] and has_tls:
                yield from _tcp(settings, f"{service.name}s", service.address, service.ssl_port)
    if settings[o.lmtp.ENABLE]:
        if settings[o.lmtp.ENABLE_TCP]:
            yield from _tcp(settings, "lmtp", o.lmtp.ADDRESS, o.lmtp.PORT)
        if settings[o.lmtp.ENABLE_SSL_PORT] and has_tls:
            yield from _tcp(settings, "lmtps", o.lmtp.ADDRESS, o.lmtp.SSL_PORT)
        path = settings[o.lmtp.UNIX_SOCKET]
        if path is not None:
            mode = int(settings[o.lmtp.UNIX_MODE], 8)
            yield UnixListener("lmtp", path, mode, o.lmtp.UNIX_SOCKET.name)


def tls_settings(settings: Settings) -> TlsSettings:
    """The part that concerns TLS."""
    return TlsSettings(
        certificates=settings[o.tls.CERTIFICATE],
        keys=settings[o.tls.KEY],
        minimum=settings[o.tls.MINIMUM_VERSION],
        ciphers=settings[o.tls.CIPHER_LIST],
        client_authorities=settings[o.tls.CLIENT_AUTHORITIES],
        client_revoked=settings[o.tls.CLIENT_REVOKED],
        client_map=settings[o.tls.CLIENT_MAP],
        client_rules=settings[o.tls.CLIENT_RULES],
        client_certificates={
            service: settings[option] for service, option in o.tls.CLIENT_CERTIFICATE.items()
        },
    )


def load_tls(settings: Settings) -> ServerTls | None:
    """Read certificates and keys, None where none is configured.

    Raises:
        ConfigurationError: naming option, file and reason.
    """
    if not settings[o.tls.CERTIFICATE]:
        return None
    try:
        return ServerTls(tls_settings(settings))
    except CertificateFault as fault:
        raise tls_error(settings, fault) from fault


def tls_error(settings: Settings, fault: CertificateFault) -> ConfigurationError:
    """Say which option named the file that cannot be used."""
    has_own_option = fault.role != KEY or fault.file in settings[o.tls.KEY]
    name = f"tls.{fault.role}" if has_own_option else o.tls.CERTIFICATE.name
    reason = fault.reason
    if reason == NO_KEY and not settings[o.tls.KEY]:
        reason += f", and {o.tls.KEY.name} is not set"
    return ConfigurationError([Problem(str(fault.file), None, name, reason)])


def warnings(settings: Settings, has_tls: bool) -> Iterator[str]:
    """What an administrator should know about a configuration that works."""
    known = {
        f"{one.service}@{one.address}"
        for one in listeners(settings, has_tls)
        if isinstance(one, TcpListener)
    }
    for word in settings[o.proxy.LISTENERS]:
        if not any(word in (name, name.partition("@")[0]) for name in known):
            yield f"{o.proxy.LISTENERS.name}: nothing listens on {word}"
    events = installation_settings(settings).coverage
    if not events.all_mailboxes:
        yield f"IDLE is not offered: {events.reason}"  # SUN-51
    limits = session_limits(settings)
    most = max(processes(settings).values(), default=1)
    if most > (cores := _cores()):
        yield f"service.X.numprocesses asks for {most} processes on {cores} processor cores"
    wanted = sum(limits.per_service.values())
    if wanted > limits.total:
        yield (
            f"service.X.maxsessions add up to {wanted}, but for want of open files (ulimit -n)"
            f" there can be only {limits.total} connections"
        )
    for service in _WITH_LOGIN:
        if not settings[service.enable]:
            continue
        addresses = settings[service.address]
        is_local = all(ipaddress.ip_address(address).is_loopback for address in addresses)
        option = service.plaintext_min_cipher
        if settings[option] == 0 and not (addresses and is_local):
            yield (  # SUN-11
                f"passwords may cross the network in clear: {option.name} is 0 and"
                f" {service.title} listens beyond this host; 1 asks for TLS first"
            )
        if not has_tls and settings[option] > 0:
            yield (
                f"no password can be sent: {option.name} asks for TLS and there is no"
                f" {o.tls.CERTIFICATE.name}"
            )


def not_offered(settings: Settings, accepted: Collection[Evidence | SecretKind]) -> Iterator[str]:
    """What was asked for by name and cannot be offered: mechanisms that somebody needs.

    Args:
        accepted: what the sources of accounts can check (`IAuthenticator.accepts`).
    """
    option = o.login.MECHANISMS
    if settings[option] == option.default:
        return
    for name in settings[option]:
        row = MECHANISMS[name.encode("ascii")]
        needed = row.needs
        if needed in accepted and row.binds and not settings[o.pop3.CHANNEL_BINDING]:
            off = o.pop3.CHANNEL_BINDING.name
            yield f"{option.name}: {name} is not offered by POP3: {off} is off"
        if needed in accepted:
            continue
        if needed is Evidence.TOKEN:
            reason = "no auth.oauth option says how tokens are checked"
        else:
            reason = f"not every source of {o.sources.SOURCES.name} keeps what it needs"
        yield f"{option.name}: {name} is not offered: {reason}"
