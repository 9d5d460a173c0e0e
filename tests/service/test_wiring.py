"""What the options mean, and the service's life without a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.usage import UsageError
from twisted.trial.unittest import TestCase

from mailserver.errors import MailError
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Settings, load
from mailserver.service.installation import (
    Installation,
    InstallationSettings,
    Role,
    installation_settings,
)
from mailserver.service.listeners import StartFault, TcpListener, UnixListener, everywhere
from mailserver.service.logging import filtered, set_levels
from mailserver.service.parts import (
    imap_settings,
    listeners,
    lmtp_settings,
    load_tls,
    pop3_settings,
    session_limits,
    warnings,
)
from mailserver.service.tap import Options
from mailserver.service.tls import ensure_self_signed
from mailserver.service.wiring import Server


def settings(**options: str) -> Settings:
    return load(None, {name.replace("__", "."): value for name, value in options.items()})


def listened(given: Settings, has_tls: bool = True) -> list[tuple[str, str, int]]:
    return [
        (one.service, one.address, one.number)
        for one in listeners(given, has_tls)
        if isinstance(one, TcpListener)
    ]


def test_the_defaults_listen_on_the_usual_ports() -> None:
    """SUN-2, SUN-3; LMTP stays on loopback, for whoever can connect can deliver."""
    given = settings(service__imap__address="192.0.2.1", service__pop__address="192.0.2.2")
    assert listened(given) == [
        ("imap", "192.0.2.1", 143),
        ("imaps", "192.0.2.1", 993),
        ("pop3", "192.0.2.2", 110),
        ("pop3s", "192.0.2.2", 995),
        ("lmtp", "127.0.0.1", 24),
    ]
    assert [one for one in listened(settings()) if one[0] == "imap"] == [
        ("imap", address, 143) for address in everywhere()
    ]


def test_no_tls_port_without_a_certificate() -> None:
    """SUN-3, SUN-4."""
    services = {service for service, _, _ in listened(settings(), has_tls=False)}
    assert services == {"imap", "pop3", "lmtp"}


@pytest.mark.parametrize(
    ("option", "gone"),
    [
        ("service__imap__enable", {"imap", "imaps"}),
        ("service__imap__enablesslport", {"imaps"}),
        ("service__pop__enable", {"pop3", "pop3s"}),
        ("service__pop__enablesslport", {"pop3s"}),
        ("service__lmtp__enable", {"lmtp"}),
        ("service__lmtp__enabletcp", {"lmtp"}),
    ],
)
def test_what_is_disabled_does_not_listen(option: str, gone: set[str]) -> None:
    """SUN-1."""
    services = {service for service, _, _ in listened(settings(**{option: "no"}))}
    assert services == {"imap", "imaps", "pop3", "pop3s", "lmtp"} - gone


def test_lmtp_on_the_smtp_port_is_refused() -> None:
    """T46, RFC 2033 §5."""
    with pytest.raises(ConfigurationError, match=r"service\.lmtp\.port.* must not be 25"):
        settings(service__lmtp__port="25")


def test_a_unix_socket_for_lmtp(tmp_path: Path) -> None:
    given = settings(service__lmtp__unixsocket=str(tmp_path / "s"), service__lmtp__unixmode="0600")
    [unix] = [one for one in listeners(given, False) if isinstance(one, UnixListener)]
    assert (unix.path, unix.mode) == (tmp_path / "s", 0o600)


def test_options_reach_the_services() -> None:
    given = settings(
        service__imap__banner="hello",
        service__imap__plaintextmincipher="128",
        service__imap__maxline="16KiB",
        service__imap__maxbadbeforelogin="7",
        service__lmtp__overquota="permanent",
        service__lmtp__workarounds="mailbox-for-path",
        service__lmtp__maxrecipients="123",
        local__hostname="mail.example.org",
        service__defaultdomain="example.org",
        store__admins="root@example.org",
        store__maxmessagesize="1MiB",
        auth__argon2__memory="8MiB",
        service__trustedhosts="192.0.2.0/24",
        service__imap__maxsessions="12",
        service__imap__disabledcapabilities="move, binary",
        service__imap__workarounds="delay-newmail",
    )
    imap = imap_settings(given)
    assert imap.banner == "hello"  # SUN-5
    assert imap.plaintext_min_cipher == 128  # SUN-11
    assert imap.after_login.line == 16384
    assert imap.bad_before_login == 7
    assert imap.disabled_capabilities == {b"MOVE", b"BINARY"}
    assert imap.workarounds == ("delay-newmail",)  # T55
    lmtp = lmtp_settings(given)
    assert lmtp.hostname == "mail.example.org"
    assert not lmtp.over_quota_is_temporary  # T47
    assert lmtp.leniency.mailbox_for_path  # T55
    assert not lmtp.leniency.whitespace_before_path
    assert lmtp.max_recipients == 123
    installation = installation_settings(given)
    assert installation.default_domain == "example.org"
    assert installation.store_admins == {"root@example.org"}
    assert installation.limits.max_message_size == 2**20
    assert installation.hashes.memory_cost == 8 * 1024  # KiB
    assert "192.0.2.9" in installation.throttle.trusted
    assert session_limits(given).per_service["imap"] == 12  # SUN-30


def test_banners_name_product_and_version_by_default() -> None:
    """SUN-5."""
    assert imap_settings(settings()).banner.startswith("mailserver ")
    assert pop3_settings(settings()).banner.startswith("mailserver ")
    assert lmtp_settings(settings()).banner.startswith("mailserver ")


WARNINGS = [
    ("silent", {"service__imap__address": "127.0.0.1"}, True, ""),
    ("in_clear", {}, True, "in clear: service.imap.plaintextmincipher is 0"),
    ("in_clear_but_off", {"service__imap__enable": "no"}, True, ""),
    ("tls_first", {"service__imap__plaintextmincipher": "1"}, True, ""),
    (
        "no_login",
        {"service__imap__plaintextmincipher": "1"},
        False,
        "no password can be sent: service.imap.plaintextmincipher asks for TLS and there is no"
        " tls.certificate",
    ),
    (
        "no_idle",
        {"service__imap__address": "::1", "local__store__notifyplugin__noneinbox__enable": "0"},
        True,
        "IDLE is not offered: local.store.notifyplugin.noneinbox.enable is 0",
    ),
]


@pytest.mark.parametrize(
    ("options", "has_tls", "said"), [w[1:] for w in WARNINGS], ids=[w[0] for w in WARNINGS]
)
def test_warnings(options: dict[str, str], has_tls: bool, said: str) -> None:
    """SUN-11, SUN-51: the administrator is told at the start."""
    found = list(warnings(settings(service__pop__enable="no", **options), has_tls))
    assert len(found) == bool(said)
    assert not said or said in found[0]


def test_each_service_is_warned_of_on_its_own() -> None:
    """SUN-11."""
    local = {"service__imap__address": "127.0.0.1", "service__pop__address": "127.0.0.1"}
    assert list(warnings(settings(**local), True)) == []
    [found] = warnings(settings(**local, service__pop__plaintextmincipher="1"), False)
    assert found.startswith("no password can be sent: service.pop.plaintextmincipher asks for TLS")
    [found] = warnings(settings(**{**local, "service__pop__address": "192.0.2.1"}), True)
    assert "service.pop.plaintextmincipher is 0 and POP3 listens beyond this host" in found


def test_certificates_are_named_by_their_option(tmp_path: Path) -> None:
    """S14."""
    files = ensure_self_signed(tmp_path, ["localhost"])
    cert, key = str(files.certificate), str(files.key)
    assert load_tls(settings()) is None
    assert load_tls(settings(tls__certificate=cert, tls__key=key)) is not None
    for options, place, option in [
        ({"tls__certificate": str(tmp_path / "x"), "tls__key": key}, tmp_path / "x", "certificate"),
        ({"tls__certificate": cert, "tls__key": cert}, files.certificate, "key"),
        # one file for both: then it is the only option to look at
        ({"tls__certificate": cert}, files.certificate, "certificate"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            load_tls(settings(**options))
        [problem] = caught.value.problems
        assert (problem.place, problem.option) == (str(place), f"tls.{option}")
    assert problem.reason == "no valid PEM private key in it, and tls.key is not set"


def test_listeners_say_what_is_wrong(tmp_path: Path) -> None:
    first = TcpListener("imap", "127.0.0.1", 0, "service.imap.port")
    first.bind()
    second = TcpListener("imap", "127.0.0.1", first.port, "service.imap.port")
    expected = (
        rf"cannot listen on 127\.0\.0\.1 port {first.port} \(service\.imap\.port\): another program"
    )
    with pytest.raises(StartFault, match=expected):
        second.bind()
    first.stop()
    second.bind()
    assert second.port
    second.stop()
    assert second.port == 0
    with pytest.raises(StartFault, match="Cannot assign requested address"):
        TcpListener("imap", "192.0.2.1", 0, "x").bind()


def test_a_unix_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory

    unix = UnixListener("lmtp", tmp_path / "missing" / "s", 0o600, "service.lmtp.unixsocket")
    unix.bind()
    with pytest.raises(StartFault, match=r"s \(service\.lmtp\.unixsocket\): No such file"):
        unix.start(reactor, Factory())
    unix.stop()


@pytest.mark.parametrize("text", ["service.imap.port", "=1"])
def test_an_option_on_the_command_line_needs_a_value(text: str) -> None:
    options = Options()
    with pytest.raises(UsageError, match="NAME=VALUE"):
        options.opt_option(text)


def test_options_on_the_command_line_win() -> None:
    """SUN-6."""
    options = Options()
    options["config"] = None
    options.opt_option("service.IMAP.port=1143")
    assert options.reader()()[o.imap.PORT] == 1143


def test_the_log_keeps_to_its_level() -> None:
    """`log.level`, also after a reload."""
    events: list[str] = []
    observer = filtered(lambda event: events.append(event["log_format"]))
    log = Logger("test", observer=observer)
    for level in ("warn", "debug", "info"):
        set_levels(level)
        log.debug("debug " + level)
        log.info("info " + level)
        log.error("error " + level)
    assert events == [
        "error warn", "debug debug", "info debug", "error debug", "info info", "error info"
    ]  # fmt: skip


def test_ipv6_listeners_leave_ipv4_alone() -> None:
    """Both wildcards can be listened on at one port."""
    if "::" not in everywhere():
        pytest.skip("no IPv6 here")
    four = TcpListener("imap", "0.0.0.0", 0, "x")
    four.bind()
    six = TcpListener("imap", "::", four.port, "x")
    six.bind()
    four.stop()
    six.stop()


def coroutine(function: Any) -> Any:
    """A test that is a coroutine."""
    return lambda self: Deferred.fromCoroutine(function(self))


class Life(TestCase):
    """A server in this process, on this reactor."""

    def server(self, **options: str) -> Server:
        from twisted.internet import reactor

        data = self.mktemp()
        return Server(
            settings(
                local__datadirectory=data,
                service__imap__address="127.0.0.1",
                service__imap__port="0",
                service__pop__address="127.0.0.1",
                service__pop__port="0",
                service__lmtp__port="0",
                **options,
            ),
            reactor,
        )

    @coroutine
    async def test_start_and_stop(self) -> None:
        """R18: the ports are free afterwards, and the data are closed."""
        server = self.server()
        server.privilegedStartService()
        bound = server.ports()
        self.assertEqual(set(bound), {"imap", "pop3", "lmtp"})
        self.assertIsNone(server.installation)  # nothing is opened with privileges
        server.startService()
        self.assertEqual(server.ports(), bound)
        self.assertIsNotNone(server.installation)
        await server.stopService()
        self.assertIsNone(server.installation)
        for number in bound.values():
            again = TcpListener("imap", "127.0.0.1", number, "x")
            again.bind()
            await again.stop()

    @coroutine
    async def test_a_start_that_fails_leaves_nothing(self) -> None:
        taken = TcpListener("lmtp", "127.0.0.1", 0, "x")
        taken.bind()
        server = self.server()
        server.serving.settings = settings(
            service__imap__address="127.0.0.1",
            service__imap__port="0",
            service__pop__address="127.0.0.1",
            service__pop__port="0",
            service__lmtp__port=str(taken.port),
        )
        with self.assertRaises(StartFault):
            server.bind()
        self.assertEqual(server.ports(), {})
        await taken.stop()

    @coroutine
    async def test_one_server_and_any_number_of_commands(self) -> None:
        """SUN-50: commands open the same data beside the server; a second server cannot."""
        from twisted.internet import reactor

        server = self.server()
        server.startService()
        data = server.serving.settings.data
        with self.assertRaises(MailError):
            await Installation.open(InstallationSettings(data), reactor, Role.SERVER)
        command = await Installation.open(InstallationSettings(data), reactor)
        self.assertEqual(await command.directory.accounts(), [])
        await command.stop()
        await server.stopService()

    @coroutine
    async def test_reload(self) -> None:
        """What a reload can change acts on new connections; the rest is named."""
        server = self.server()
        server.startService()
        events: list[dict[str, Any]] = []
        server.log = type(server.log)(observer=events.append)  # type: ignore[arg-type]
        data = str(server.serving.settings.data)
        fresh = {
            "local__datadirectory": data,
            "service__imap__address": "127.0.0.1",
            "service__imap__port": "1143",
            "service__pop__address": "127.0.0.1",
            "service__pop__port": "0",
            "service__lmtp__port": "0",
            "service__imap__banner": "changed",
            "service__pop__banner": "changed too",
            "service__defaultdomain": "example.org",
            "service__lmtp__maxrecipients": "100",
        }
        server._reread = lambda: settings(**fresh)
        server.reload_configuration()
        installation = server.installation
        assert installation is not None
        self.assertEqual(installation.directory.default_domain, "example.org")
        self.assertEqual(server.serving._factories["imap"].services.settings.banner, "changed")
        self.assertEqual(server.serving._factories["pop3"].services.settings.banner, "changed too")
        self.assertEqual(server.serving._factories["lmtp"].settings.max_recipients, 100)
        [named] = [event["options"] for event in events if "options" in event]
        self.assertEqual(named, o.imap.PORT.name)

        # TLS where there was none is a new listener, which a reload does not bring.
        files = ensure_self_signed(Path(data) / "tls", ["localhost"])
        fresh["tls__certificate"] = str(files.certificate)
        fresh["tls__key"] = str(files.key)
        server.reload_configuration()
        waiting = f"{o.imap.PORT.name}, {o.tls.CERTIFICATE.name}"
        self.assertEqual(events[-2]["options"], waiting)

        def broken() -> Settings:
            return settings(service__imap__banner="bad\nbanner")

        server._reread = broken
        server.reload_configuration()
        self.assertEqual(server.serving._factories["imap"].services.settings.banner, "changed")
        server._reread = None
        await server.stopService()
