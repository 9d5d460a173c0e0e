"""Every option reaches the one place that it is for: no switch without a wire behind it."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest

from mailserver.model.networks import Networks
from mailserver.service import options as o
from mailserver.service.config import Settings, load
from mailserver.service.installation import installation_settings
from mailserver.service.listeners import TcpListener, UnixListener
from mailserver.service.options.option import Option
from mailserver.service.parts import (
    imap_settings,
    listeners,
    lmtp_settings,
    pop3_settings,
    proxy_settings,
    session_limits,
    tls_settings,
    warnings,
)
from mailserver.wire.sasl import DEFAULT

Reader = Callable[[Settings], object]


def listening(settings: Settings) -> list[str]:
    return [str(listener) for listener in listeners(settings, has_tls=True)]


REACHED: list[tuple[Option[Any], str, Reader, str, object]] = [
    # option, as written, who reads it, what it sets there, to what
    (o.local.HOSTNAME, "mx.example.org", lmtp_settings, "hostname", "mx.example.org"),
    (o.login.DEFAULT_DOMAIN, "example.org", installation_settings, "default_domain", "example.org"),
    (o.login.LOGIN_SEPARATOR, "@%", installation_settings, "login_separators", "@%"),
    (o.login.STORE_ADMINS, "a@b.c", installation_settings, "store_admins", frozenset({"a@b.c"})),
    (o.login.MAX_SESSIONS_PER_USER, "7", session_limits, "per_user", 7),
    (o.login.MAX_SESSIONS_PER_ACCOUNT, "9", session_limits, "per_account", 9),
    (o.login.MAX_SESSIONS_PER_ADDRESS, "8", session_limits, "per_address", 8),
    (o.login.AUTH_THREADS, "9", installation_settings, "hash_threads", 9),
    (o.login.AUTH_QUEUE, "10", installation_settings, "hashes_waiting", 10),
    (o.login.AUTH_QUEUE_PER_ADDRESS, "11", installation_settings, "hashes_waiting_per_client", 11),
    (o.login.AUTH_REMEMBERED, "12", installation_settings, "remembered", 12),
    (o.login.AUTH_REMEMBERED_FOR, "13s", installation_settings, "remembered_for", 13.0),
    (o.login.ARGON2_TIME, "14", installation_settings, "hashes.time_cost", 14),
    (o.login.ARGON2_MEMORY, "15MiB", installation_settings, "hashes.memory_cost", 15 * 1024),
    (o.login.ARGON2_PARALLELISM, "16", installation_settings, "hashes.parallelism", 16),
    (o.login.SCRAM_ITERATIONS, "17000", installation_settings, "hashes.scram_iterations", 17000),
    (o.login.SCRAM_SHA1, "yes", installation_settings, "hashes.scram_sha1", True),
    (o.login.THROTTLE_FIRST_DELAY, "1s", installation_settings, "throttle.first_delay", 1.0),
    (o.login.THROTTLE_MAX_DELAY, "19s", installation_settings, "throttle.max_delay", 19.0),
    (o.login.THROTTLE_WINDOW, "20s", installation_settings, "throttle.window", 20.0),
    (o.login.THROTTLE_MAX_WAIT, "21s", installation_settings, "throttle.max_wait", 21.0),
    (o.login.THROTTLE_ENTRIES, "22", installation_settings, "throttle.max_entries", 22),
    (o.access.NAME_TIMEOUT, "23s", installation_settings, "name_timeout", 23.0),
    (o.login.MECHANISMS, "plain", imap_settings, "mechanisms", (b"PLAIN",)),
    (o.login.MECHANISMS, "plain", pop3_settings, "mechanisms", (b"PLAIN",)),
    (o.pop3.CHANNEL_BINDING, "yes", pop3_settings, "mechanisms", DEFAULT),
    (o.local.HOSTNAME, "mx.example.org", imap_settings, "hostname", "mx.example.org"),
    (o.imap.BANNER, "hello", imap_settings, "banner", "hello"),
    (o.imap.PLAINTEXT_MIN_CIPHER, "128", imap_settings, "plaintext_min_cipher", 128),
    (o.imap.IDLE_TIMEOUT, "40min", imap_settings, "idle_timeout", 2400.0),
    (o.imap.IDLE_NOTIFY_INTERVAL, "23s", imap_settings, "idle_notify_interval", 23.0),
    (o.imap.LOGIN_TIMEOUT, "24s", imap_settings, "login_timeout", 24.0),
    (o.imap.WRITE_TIMEOUT, "25s", imap_settings, "write_timeout", 25.0),
    (o.imap.WORKING_INTERVAL, "26s", imap_settings, "working_interval", 26.0),
    (o.imap.MAX_LINE_BEFORE_LOGIN, "1001", imap_settings, "before_login.line", 1001),
    (o.imap.MAX_LITERAL_BEFORE_LOGIN, "1002", imap_settings, "before_login.literal", 1002),
    (o.imap.MAX_COMMAND_BEFORE_LOGIN, "1003", imap_settings, "before_login.command", 1003),
    (o.imap.MAX_LITERALS_BEFORE_LOGIN, "27", imap_settings, "before_login.literals", 27),
    (o.imap.MAX_NESTING_BEFORE_LOGIN, "28", imap_settings, "nesting_before_login", 28),
    (o.imap.MAX_BAD_BEFORE_LOGIN, "29", imap_settings, "bad_before_login", 29),
    (o.imap.MAX_LINE, "9001", imap_settings, "after_login.line", 9001),
    (o.imap.MAX_LITERAL, "9002", imap_settings, "after_login.literal", 9002),
    (o.imap.MAX_COMMAND, "9003", imap_settings, "after_login.command", 9003),
    (o.imap.MAX_LITERALS, "30", imap_settings, "after_login.literals", 30),
    (o.imap.MAX_NESTING, "31", imap_settings, "nesting_after_login", 31),
    (o.imap.MAX_BAD, "33", imap_settings, "bad_after_login", 33),
    (o.imap.MAX_AUTH_RESPONSE, "2000", imap_settings, "auth_response", 2000),
    (o.imap.INPUT_BUFFER, "5000", imap_settings, "input_buffer", 5000),
    (o.imap.DISABLED_CAPABILITIES, "move", imap_settings, "disabled_capabilities", {b"MOVE"}),
    (o.imap.WORKAROUNDS, "tb-lsub-flags", imap_settings, "workarounds", ("tb-lsub-flags",)),
    (o.imap.TRACE, "yes", imap_settings, "trace", True),
    (o.pop3.BANNER, "hello", pop3_settings, "banner", "hello"),
    (o.pop3.PLAINTEXT_MIN_CIPHER, "128", pop3_settings, "plaintext_min_cipher", 128),
    (o.pop3.IDLE_TIMEOUT, "11min", pop3_settings, "idle_timeout", 660.0),
    (o.pop3.LOGIN_TIMEOUT, "24s", pop3_settings, "login_timeout", 24.0),
    (o.pop3.WRITE_TIMEOUT, "25s", pop3_settings, "write_timeout", 25.0),
    (o.pop3.MAX_LINE, "1001", pop3_settings, "max_line", 1001),
    (o.pop3.MAX_AUTH_RESPONSE, "2000", pop3_settings, "auth_response", 2000),
    (o.pop3.MAX_BAD_BEFORE_LOGIN, "29", pop3_settings, "bad_before_login", 29),
    (o.pop3.MAX_BAD, "33", pop3_settings, "bad_after_login", 33),
    (o.pop3.INPUT_BUFFER, "5000", pop3_settings, "input_buffer", 5000),
    (o.pop3.APOP, "yes", pop3_settings, "apop", True),
    (o.pop3.EXCLUSIVE, "yes", pop3_settings, "exclusive", True),
    (o.pop3.LOGIN_DELAY, "90s", pop3_settings, "login_delay", 90.0),
    (o.pop3.LANGUAGE, "de", pop3_settings, "language", "de"),
    (o.pop3.SET_SEEN, "yes", pop3_settings, "set_seen", True),
    (o.pop3.WORKAROUNDS, "oe-ns-eoh", pop3_settings, "workarounds", ("oe-ns-eoh",)),
    (o.lmtp.BANNER, "hello", lmtp_settings, "banner", "hello"),
    (o.lmtp.MAX_RECIPIENTS, "134", lmtp_settings, "max_recipients", 134),
    (o.lmtp.MAX_LINE, "1035", lmtp_settings, "max_line", 1035),
    (o.lmtp.MAX_BAD, "36", lmtp_settings, "max_bad_commands", 36),
    (o.lmtp.LHLO_TIMEOUT, "37s", lmtp_settings, "lhlo_timeout", 37.0),
    (o.lmtp.IDLE_TIMEOUT, "338s", lmtp_settings, "idle_timeout", 338.0),
    (o.lmtp.MESSAGE_TIMEOUT, "139s", lmtp_settings, "message_timeout", 139.0),
    (o.lmtp.WRITE_TIMEOUT, "40s", lmtp_settings, "write_timeout", 40.0),
    (o.lmtp.OVER_QUOTA, "permanent", lmtp_settings, "over_quota_is_temporary", False),
    (o.lmtp.WORKAROUNDS, "mailbox-for-path", lmtp_settings, "leniency.mailbox_for_path", True),
    (
        o.lmtp.WORKAROUNDS,
        "whitespace-before-path",
        lmtp_settings,
        "leniency.whitespace_before_path",
        True,
    ),
    (o.tls.MINIMUM_VERSION, "1.3", tls_settings, "minimum", "1.3"),
    (o.tls.CIPHER_LIST, "ECDHE", tls_settings, "ciphers", "ECDHE"),
    (o.tls.CLIENT_RULES, "commonname", tls_settings, "client_rules", ("commonname",)),
    (o.proxy.HOSTS, "192.0.2.7", proxy_settings, "trusted", Networks.of(["192.0.2.7"])),
    (o.proxy.TIMEOUT, "46s", proxy_settings, "timeout", 46.0),
    (o.store.MAX_MESSAGE_SIZE, "1MiB", installation_settings, "limits.max_message_size", 2**20),
    (o.store.WRITER_THREADS, "6", installation_settings, "writers", 6),
    (o.store.FLAGS_DURABILITY, "relaxed", installation_settings, "synced_flags", False),
    (o.store.MAX_MAILBOXES, "41", installation_settings, "limits.mailboxes", 41),
    (o.store.MAX_SUBSCRIPTIONS, "42", installation_settings, "limits.subscriptions", 42),
    (o.store.MAX_KEYWORDS, "43", installation_settings, "limits.keywords", 43),
    (o.store.MAX_TOMBSTONES, "44", installation_settings, "limits.tombstones", 44),
    (o.store.MAX_APPENDED, "45", installation_settings, "limits.messages_per_append", 45),
    (o.events.NOTIFY_PLUGIN, "", installation_settings, "coverage.all_mailboxes", False),
    (o.events.NOTIFY_NONE_INBOX, "no", installation_settings, "coverage.all_mailboxes", False),
    (o.events.NOTIFY_ENS_EVENT_KEY, "enp://h", installation_settings, "coverage.all_mailboxes",
        False),
]  # fmt: skip

LISTENERS: list[tuple[Option[Any], str]] = [
    (o.imap.ENABLE, "no"),
    (o.imap.ADDRESS, "192.0.2.1"),
    (o.imap.PORT, "1143"),
    (o.imap.ENABLE_SSL_PORT, "no"),
    (o.imap.SSL_PORT, "1993"),
    (o.pop3.ENABLE, "no"),
    (o.pop3.ADDRESS, "192.0.2.1"),
    (o.pop3.PORT, "1110"),
    (o.pop3.ENABLE_SSL_PORT, "no"),
    (o.pop3.SSL_PORT, "1995"),
    (o.lmtp.ENABLE, "no"),
    (o.lmtp.ADDRESS, "192.0.2.1"),
    (o.lmtp.PORT, "1024"),
    (o.lmtp.ENABLE_TCP, "no"),
    (o.lmtp.ENABLE_SSL_PORT, "yes"),
    (o.lmtp.UNIX_SOCKET, "/run/lmtp"),
]
"""Options that change what is listened on."""

ELSEWHERE = {
    o.local.CONFIG_VERSION: "read by the loader itself",
    o.local.DATA_DIRECTORY: "test_config",
    o.local.SHUTDOWN_TIMEOUT: "test_start",
    o.local.LOG_LEVEL: "test_wiring",
    o.local.LOG_MODULES: "test_logging",
    o.local.LOG_FORMAT: "test_logging",
    o.tls.CERTIFICATE: "test_tls",
    o.tls.KEY: "test_tls",
    o.tls.CHECK_INTERVAL: "live/test_tls: changes are seen at once",
    o.tls.CLIENT_AUTHORITIES: "test_tls_clients",
    o.tls.CLIENT_REVOKED: "test_tls_clients",
    o.tls.CLIENT_MAP: "test_tls_clients",
    **dict.fromkeys(o.tls.CLIENT_CERTIFICATE.values(), "test_tls_clients"),
    o.proxy.LISTENERS: "below",
    o.lmtp.SSL_PORT: "below",
    o.login.TRUSTED_HOSTS: "below",
    o.imap.MAX_SESSIONS: "below",
    o.pop3.MAX_SESSIONS: "below",
    o.lmtp.MAX_SESSIONS: "below",
    o.lmtp.UNIX_MODE: "below",
    **dict.fromkeys(sum(o.access.FILTERS.values(), ()), "test_access"),
    **dict.fromkeys(o.oauth.OPTIONS, "test_tokens"),
    **dict.fromkeys(o.sources.OPTIONS, "test_sources"),
    o.imap.MAX_THREADS: "test_config: bounds other options",
    o.imap.NUM_PROCESSES: "test_workers",
    o.pop3.NUM_PROCESSES: "test_workers",
    o.lmtp.NUM_PROCESSES: "test_workers",
    o.events.NOTIFY_ENS_HOST: "taken for compatibility only",
    o.events.NOTIFY_ENS_PORT: "taken for compatibility only",
}


def given(option: Option[Any], text: str) -> Settings:
    return load(None, {option.name: text})


@pytest.mark.parametrize(
    ("option", "text", "reader", "path", "value"),
    REACHED,
    ids=[f"{row[0].name}={row[1]}" for row in REACHED],
)
def test_it_sets_what_it_is_for(
    option: Option[Any], text: str, reader: Reader, path: str, value: object
) -> None:
    """SUN-6."""
    read = attrgetter(path)
    assert read(reader(load(None, {}))) != value, "the default would hide that it is not read"
    assert read(reader(given(option, text))) == value


@pytest.mark.parametrize(("option", "text"), LISTENERS, ids=[row[0].name for row in LISTENERS])
def test_it_changes_what_is_listened_on(option: Option[Any], text: str) -> None:
    """SUN-1, SUN-2, SUN-3."""
    assert listening(given(option, text)) != listening(load(None, {}))


def test_limits_of_sessions_are_each_services_own() -> None:
    """SUN-30."""
    limits = session_limits(
        load(
            None,
            {
                o.imap.MAX_SESSIONS.name: "5",
                o.lmtp.MAX_SESSIONS.name: "6",
                o.pop3.MAX_SESSIONS.name: "7",
            },
        )
    )
    assert limits.per_service == {"imap": 5, "lmtp": 6, "pop3": 7}


def test_trusted_hosts_are_trusted_with_sessions_and_with_logins() -> None:
    settings = given(o.login.TRUSTED_HOSTS, "192.0.2.0/24")
    for trusted in (
        session_limits(settings).trusted,
        installation_settings(settings).throttle.trusted,
    ):
        assert "192.0.2.9" in trusted and trusted != Networks()


def test_the_tls_port_of_lmtp() -> None:
    """SUN-3: there is one only where it is asked for."""
    settings = load(None, {o.lmtp.ENABLE_SSL_PORT.name: "yes", o.lmtp.SSL_PORT.name: "1124"})
    found = [one for one in listeners(settings, True) if one.service == "lmtps"]
    assert [(one.address, one.number) for one in found if isinstance(one, TcpListener)] == [
        ("127.0.0.1", 1124)
    ]
    assert not [one for one in listeners(settings, False) if one.service == "lmtps"]


def test_listeners_behind_proxies_are_named_with_or_without_address() -> None:
    settings = load(
        None,
        {
            o.imap.ADDRESS.name: "127.0.0.1, 127.0.0.2",
            o.pop3.ADDRESS.name: "127.0.0.1",
            o.proxy.HOSTS.name: "192.0.2.7",
            o.proxy.LISTENERS.name: "imaps@127.0.0.2, pop3, pop3s@192.0.2.1",
        },
    )
    found = {
        (one.service, one.address)
        for one in listeners(settings, True)
        if isinstance(one, TcpListener) and one.behind_proxy
    }
    assert found == {("imaps", "127.0.0.2"), ("pop3", "127.0.0.1")}
    said = [text for text in warnings(settings, True) if "proxylisteners" in text]
    assert said == ["service.proxylisteners: nothing listens on pop3s@192.0.2.1"]


def test_the_mode_of_the_unix_socket() -> None:
    settings = load(None, {o.lmtp.UNIX_SOCKET.name: "/run/lmtp", o.lmtp.UNIX_MODE.name: "0600"})
    [listener] = [one for one in listeners(settings, True) if isinstance(one, UnixListener)]
    assert listener.mode == 0o600


def test_no_option_is_forgotten() -> None:
    reached = {row[0] for row in REACHED} | {row[0] for row in LISTENERS} | ELSEWHERE.keys()
    assert {option.name for option in set(o.TABLE.options) - reached} == set()
