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
from mailserver.service.listeners import UnixListener
from mailserver.service.wiring import (
    imap_settings,
    listeners,
    lmtp_settings,
    pop3_settings,
    session_limits,
)

Reader = Callable[[Settings], object]


def listening(settings: Settings) -> list[str]:
    return [str(listener) for listener in listeners(settings, has_tls=True)]


REACHED: list[tuple[o.Option[Any], str, Reader, str, object]] = [
    # option, as written, who reads it, what it sets there, to what
    (o.HOSTNAME, "mx.example.org", lmtp_settings, "hostname", "mx.example.org"),
    (o.DEFAULT_DOMAIN, "example.org", installation_settings, "default_domain", "example.org"),
    (o.LOGIN_SEPARATOR, "@%", installation_settings, "login_separators", "@%"),
    (o.STORE_ADMINS, "a@b.c", installation_settings, "store_admins", frozenset({"a@b.c"})),
    (o.MAX_SESSIONS_PER_USER, "7", session_limits, "per_user", 7),
    (o.MAX_SESSIONS_PER_ADDRESS, "8", session_limits, "per_address", 8),
    (o.AUTH_THREADS, "9", installation_settings, "hash_threads", 9),
    (o.AUTH_QUEUE, "10", installation_settings, "hashes_waiting", 10),
    (o.AUTH_QUEUE_PER_ADDRESS, "11", installation_settings, "hashes_waiting_per_client", 11),
    (o.AUTH_REMEMBERED, "12", installation_settings, "remembered", 12),
    (o.AUTH_REMEMBERED_FOR, "13s", installation_settings, "remembered_for", 13.0),
    (o.ARGON2_TIME, "14", installation_settings, "hashes.time_cost", 14),
    (o.ARGON2_MEMORY, "15MiB", installation_settings, "hashes.memory_cost", 15 * 1024),
    (o.ARGON2_PARALLELISM, "16", installation_settings, "hashes.parallelism", 16),
    (o.SCRAM_ITERATIONS, "17000", installation_settings, "hashes.scram_iterations", 17000),
    (o.SCRAM_SHA1, "yes", installation_settings, "hashes.scram_sha1", True),
    (o.THROTTLE_FIRST_DELAY, "1s", installation_settings, "throttle.first_delay", 1.0),
    (o.THROTTLE_MAX_DELAY, "19s", installation_settings, "throttle.max_delay", 19.0),
    (o.THROTTLE_WINDOW, "20s", installation_settings, "throttle.window", 20.0),
    (o.THROTTLE_MAX_WAIT, "21s", installation_settings, "throttle.max_wait", 21.0),
    (o.THROTTLE_ENTRIES, "22", installation_settings, "throttle.max_entries", 22),
    (o.IMAP_BANNER, "hello", imap_settings, "banner", "hello"),
    (o.IMAP_PLAINTEXT_MIN_CIPHER, "128", imap_settings, "plaintext_min_cipher", 128),
    (o.IMAP_IDLE_TIMEOUT, "40min", imap_settings, "idle_timeout", 2400.0),
    (o.IMAP_IDLE_NOTIFY_INTERVAL, "23s", imap_settings, "idle_notify_interval", 23.0),
    (o.IMAP_LOGIN_TIMEOUT, "24s", imap_settings, "login_timeout", 24.0),
    (o.IMAP_WRITE_TIMEOUT, "25s", imap_settings, "write_timeout", 25.0),
    (o.IMAP_WORKING_INTERVAL, "26s", imap_settings, "working_interval", 26.0),
    (o.IMAP_MAX_LINE_BEFORE_LOGIN, "1001", imap_settings, "before_login.line", 1001),
    (o.IMAP_MAX_LITERAL_BEFORE_LOGIN, "1002", imap_settings, "before_login.literal", 1002),
    (o.IMAP_MAX_COMMAND_BEFORE_LOGIN, "1003", imap_settings, "before_login.command", 1003),
    (o.IMAP_MAX_LITERALS_BEFORE_LOGIN, "27", imap_settings, "before_login.literals", 27),
    (o.IMAP_MAX_NESTING_BEFORE_LOGIN, "28", imap_settings, "nesting_before_login", 28),
    (o.IMAP_MAX_BAD_BEFORE_LOGIN, "29", imap_settings, "bad_before_login", 29),
    (o.IMAP_MAX_LINE, "9001", imap_settings, "after_login.line", 9001),
    (o.IMAP_MAX_LITERAL, "9002", imap_settings, "after_login.literal", 9002),
    (o.IMAP_MAX_COMMAND, "9003", imap_settings, "after_login.command", 9003),
    (o.IMAP_MAX_LITERALS, "30", imap_settings, "after_login.literals", 30),
    (o.IMAP_MAX_NESTING, "31", imap_settings, "nesting_after_login", 31),
    (o.IMAP_MAX_BAD, "33", imap_settings, "bad_after_login", 33),
    (o.IMAP_MAX_AUTH_RESPONSE, "2000", imap_settings, "auth_response", 2000),
    (o.IMAP_INPUT_BUFFER, "5000", imap_settings, "input_buffer", 5000),
    (o.IMAP_DISABLED_CAPABILITIES, "move", imap_settings, "disabled_capabilities", {b"MOVE"}),
    (o.IMAP_WORKAROUNDS, "tb-lsub-flags", imap_settings, "workarounds", ("tb-lsub-flags",)),
    (o.IMAP_TRACE, "yes", imap_settings, "trace", True),
    (o.POP_BANNER, "hello", pop3_settings, "banner", "hello"),
    (o.POP_PLAINTEXT_MIN_CIPHER, "128", pop3_settings, "plaintext_min_cipher", 128),
    (o.POP_IDLE_TIMEOUT, "11min", pop3_settings, "idle_timeout", 660.0),
    (o.POP_LOGIN_TIMEOUT, "24s", pop3_settings, "login_timeout", 24.0),
    (o.POP_WRITE_TIMEOUT, "25s", pop3_settings, "write_timeout", 25.0),
    (o.POP_MAX_LINE, "1001", pop3_settings, "max_line", 1001),
    (o.POP_MAX_AUTH_RESPONSE, "2000", pop3_settings, "auth_response", 2000),
    (o.POP_MAX_BAD_BEFORE_LOGIN, "29", pop3_settings, "bad_before_login", 29),
    (o.POP_MAX_BAD, "33", pop3_settings, "bad_after_login", 33),
    (o.POP_INPUT_BUFFER, "5000", pop3_settings, "input_buffer", 5000),
    (o.POP_SET_SEEN, "yes", pop3_settings, "set_seen", True),
    (o.POP_WORKAROUNDS, "oe-ns-eoh", pop3_settings, "workarounds", ("oe-ns-eoh",)),
    (o.LMTP_BANNER, "hello", lmtp_settings, "banner", "hello"),
    (o.LMTP_MAX_RECIPIENTS, "134", lmtp_settings, "max_recipients", 134),
    (o.LMTP_MAX_LINE, "1035", lmtp_settings, "max_line", 1035),
    (o.LMTP_MAX_BAD, "36", lmtp_settings, "max_bad_commands", 36),
    (o.LMTP_LHLO_TIMEOUT, "37s", lmtp_settings, "lhlo_timeout", 37.0),
    (o.LMTP_IDLE_TIMEOUT, "338s", lmtp_settings, "idle_timeout", 338.0),
    (o.LMTP_MESSAGE_TIMEOUT, "139s", lmtp_settings, "message_timeout", 139.0),
    (o.LMTP_WRITE_TIMEOUT, "40s", lmtp_settings, "write_timeout", 40.0),
    (o.LMTP_OVER_QUOTA, "permanent", lmtp_settings, "over_quota_is_temporary", False),
    (o.LMTP_WORKAROUNDS, "mailbox-for-path", lmtp_settings, "leniency.mailbox_for_path", True),
    (
        o.LMTP_WORKAROUNDS,
        "whitespace-before-path",
        lmtp_settings,
        "leniency.whitespace_before_path",
        True,
    ),
    (o.MAX_MESSAGE_SIZE, "1MiB", installation_settings, "limits.max_message_size", 2**20),
    (o.WRITER_THREADS, "6", installation_settings, "writers", 6),
    (o.MAX_MAILBOXES, "41", installation_settings, "limits.mailboxes", 41),
    (o.MAX_SUBSCRIPTIONS, "42", installation_settings, "limits.subscriptions", 42),
    (o.MAX_KEYWORDS, "43", installation_settings, "limits.keywords", 43),
    (o.MAX_TOMBSTONES, "44", installation_settings, "limits.tombstones", 44),
    (o.MAX_APPENDED, "45", installation_settings, "limits.messages_per_append", 45),
    (o.NOTIFY_PLUGIN, "", installation_settings, "coverage.all_mailboxes", False),
    (o.NOTIFY_NONE_INBOX, "no", installation_settings, "coverage.all_mailboxes", False),
    (o.NOTIFY_ENS_EVENT_KEY, "enp://h", installation_settings, "coverage.all_mailboxes", False),
]  # fmt: skip

LISTENERS: list[tuple[o.Option[Any], str]] = [
    (o.IMAP_ENABLE, "no"),
    (o.IMAP_ADDRESS, "192.0.2.1"),
    (o.IMAP_PORT, "1143"),
    (o.IMAP_ENABLE_SSL_PORT, "no"),
    (o.IMAP_SSL_PORT, "1993"),
    (o.POP_ENABLE, "no"),
    (o.POP_ADDRESS, "192.0.2.1"),
    (o.POP_PORT, "1110"),
    (o.POP_ENABLE_SSL_PORT, "no"),
    (o.POP_SSL_PORT, "1995"),
    (o.LMTP_ENABLE, "no"),
    (o.LMTP_ADDRESS, "192.0.2.1"),
    (o.LMTP_PORT, "1024"),
    (o.LMTP_ENABLE_TCP, "no"),
    (o.LMTP_UNIX_SOCKET, "/run/lmtp"),
]
"""Options that change what is listened on."""

ELSEWHERE = {
    o.CONFIG_VERSION: "read by the loader itself",
    o.DATA_DIRECTORY: "test_config",
    o.SHUTDOWN_TIMEOUT: "test_start",
    o.LOG_LEVEL: "test_wiring",
    o.TLS_CERTIFICATE: "test_tls",
    o.TLS_KEY: "test_tls",
    o.TLS_MINIMUM_VERSION: "test_tls",
    o.TRUSTED_HOSTS: "below",
    o.IMAP_MAX_SESSIONS: "below",
    o.POP_MAX_SESSIONS: "below",
    o.LMTP_MAX_SESSIONS: "below",
    o.LMTP_UNIX_MODE: "below",
    o.IMAP_MAX_THREADS: "test_config: bounds other options",
    o.IMAP_NUM_PROCESSES: "test_config: refused above 1",
    o.NOTIFY_ENS_HOST: "taken for compatibility only",
    o.NOTIFY_ENS_PORT: "taken for compatibility only",
}


def given(option: o.Option[Any], text: str) -> Settings:
    return load(None, {option.name: text})


@pytest.mark.parametrize(
    ("option", "text", "reader", "path", "value"),
    REACHED,
    ids=[f"{row[0].name}={row[1]}" for row in REACHED],
)
def test_it_sets_what_it_is_for(
    option: o.Option[Any], text: str, reader: Reader, path: str, value: object
) -> None:
    """SUN-6."""
    read = attrgetter(path)
    assert read(reader(load(None, {}))) != value, "the default would hide that it is not read"
    assert read(reader(given(option, text))) == value


@pytest.mark.parametrize(("option", "text"), LISTENERS, ids=[row[0].name for row in LISTENERS])
def test_it_changes_what_is_listened_on(option: o.Option[Any], text: str) -> None:
    """SUN-1, SUN-2, SUN-3."""
    assert listening(given(option, text)) != listening(load(None, {}))


def test_limits_of_sessions_are_each_services_own() -> None:
    """SUN-30."""
    limits = session_limits(
        load(
            None,
            {
                o.IMAP_MAX_SESSIONS.name: "5",
                o.LMTP_MAX_SESSIONS.name: "6",
                o.POP_MAX_SESSIONS.name: "7",
            },
        )
    )
    assert limits.per_service == {"imap": 5, "lmtp": 6, "pop3": 7}


def test_trusted_hosts_are_trusted_with_sessions_and_with_logins() -> None:
    settings = given(o.TRUSTED_HOSTS, "192.0.2.0/24")
    for trusted in (
        session_limits(settings).trusted,
        installation_settings(settings).throttle.trusted,
    ):
        assert "192.0.2.9" in trusted and trusted != Networks()


def test_the_mode_of_the_unix_socket() -> None:
    settings = load(None, {o.LMTP_UNIX_SOCKET.name: "/run/lmtp", o.LMTP_UNIX_MODE.name: "0600"})
    [listener] = [one for one in listeners(settings, True) if isinstance(one, UnixListener)]
    assert listener.mode == 0o600


def test_no_option_is_forgotten() -> None:
    reached = {row[0] for row in REACHED} | {row[0] for row in LISTENERS} | ELSEWHERE.keys()
    assert {option.name for option in set(o.TABLE.options) - reached} == set()
