"""Configuration: from files, overrides and command line to settings, or all that is wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.service import config, options
from mailserver.service.config import (
    ConfigurationError,
    Settings,
    Source,
    find_config,
    load,
    packed,
    unpacked,
)
from mailserver.service.kinds import (
    BOOLEAN,
    TEXT,
    Kind,
    duration,
    integer,
    show_duration,
    show_size,
    size,
)
from mailserver.service.options import TABLE
from mailserver.service.options.option import MASK, Applies, Option, OptionTable
from mailserver.service.toml_lines import key_lines, line_of


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "mailserver.toml"
        file.write_text(dedent(text), "utf-8")
        return file

    return write


def problems(file: Path | None, command_line: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as refusal:
        load(file, command_line)
    base = f"{file}" if file is not None else ""
    return [str(one).replace(base, "FILE") if base else str(one) for one in refusal.value.problems]


# -- the table ------------------------------------------------------------------


def test_every_default_is_one_that_its_kind_takes() -> None:
    for option in TABLE.options:
        text = option.kind.show(option.default)
        again = option.kind.parse(text, Path("/"))
        assert option.kind.show(again).lstrip("/") == text, option.name


def test_every_option_says_what_it_is_in_one_line() -> None:
    for option in TABLE.options:
        assert 5 < len(option.help) <= 90 and "\n" not in option.help, option.name
        assert option.kind.label


@pytest.mark.parametrize(
    ("name", "default"),
    [  # the reference's names and defaults
        ("service.imap.enable", "yes"),  # SUN-1
        ("service.imap.port", "143"),  # SUN-2
        ("service.imap.enablesslport", "yes"),  # SUN-3
        ("service.imap.sslport", "993"),
        ("service.imap.plaintextmincipher", "0"),  # SUN-11
        ("service.pop.enable", "yes"),  # SUN-1
        ("service.pop.port", "110"),  # SUN-2
        ("service.pop.enablesslport", "yes"),  # SUN-3
        ("service.pop.sslport", "995"),
        ("service.pop.plaintextmincipher", "0"),  # SUN-11
        ("service.pop.maxsessions", "600"),  # SUN-30
        ("service.pop.idletimeout", "10min"),  # SUN-33
        ("service.loginseparator", "@+"),  # SUN-12
        ("service.defaultdomain", ""),  # SUN-13
        ("service.imap.maxsessions", "4000"),  # SUN-30
        ("service.imap.numprocesses", "1"),  # SUN-31
        ("service.imap.maxthreads", "250"),  # SUN-32
        ("service.imap.idletimeout", "30min"),  # SUN-33
        ("local.store.notifyplugin", "libibiff"),  # SUN-52
        ("local.store.notifyplugin.noneinbox.enable", "yes"),  # SUN-51
        ("local.store.notifyplugin.enshost", "127.0.0.1"),  # SUN-53
        ("local.store.notifyplugin.ensport", "7997"),
        ("local.store.notifyplugin.enseventkey", "enp://127.0.0.1/store/%M"),
        ("imap_idle_notify_interval", "2min"),  # DOV-2
        ("service.maxsessionsperuser", "50"),
    ],
)
def test_defaults(name: str, default: str) -> None:
    assert config.show(load(None), name) == default
    assert config.show(load(None), name.upper()) == default  # SUN-6


def test_two_options_of_one_name_are_a_mistake_of_ours() -> None:
    option = Option("a.b", TEXT, "", "one")
    with pytest.raises(ValueError, match="one name"):
        OptionTable([option, Option("A.B", TEXT, "", "two")])


# -- kinds ----------------------------------------------------------------------

KINDS: list[tuple[Kind[object], object, object]] = [
    *((BOOLEAN, text, True) for text in (True, 1, "1", "yes", "YES", "true")),
    *((BOOLEAN, text, False) for text in (False, 0, "0", "no", "No", "false")),
    (integer(1, 9), "7", 7),
    (integer(-1, 9), -1, -1),
    (size(1), 4096, 4096),
    (size(1), "64MiB", 64 * 2**20),
    (size(1), "5 mb", 5_000_000),
    (size(1), "1.5KiB", 1536),
    (size(1), "512 B", 512),
    (duration(0), 90, 90.0),
    (duration(0), 1.5, 1.5),
    (duration(0), "30min", 1800.0),
    (duration(0), "2 h", 7200.0),
    (duration(0), "500ms", 0.5),
    (duration(0), "1d", 86400.0),
    (options.imap.ADDRESS.kind, "127.0.0.1, ::1", ("127.0.0.1", "::1")),
    (options.imap.ADDRESS.kind, ["0:0:0:0:0:0:0:1"], ("::1",)),
    (options.imap.ADDRESS.kind, "", ()),
    (options.login.TRUSTED_HOSTS.kind, ["192.0.2.0/24"], ("192.0.2.0/24",)),
    (options.imap.DISABLED_CAPABILITIES.kind, "condstore", ("CONDSTORE",)),
    (options.lmtp.WORKAROUNDS.kind, ["Mailbox-For-Path"], ("mailbox-for-path",)),  # T55
    (options.login.STORE_ADMINS.kind, "Root@Example.ORG", ("root@example.org",)),  # SUN-14
    (options.login.DEFAULT_DOMAIN.kind, "B\u00fccher.Example", "xn--bcher-kva.example"),
    (options.local.LOG_LEVEL.kind, "WARN", "warn"),
    (options.tls.CLIENT_MAP.kind, "key.pem", Path("/base/key.pem")),
    (options.tls.CLIENT_MAP.kind, "/etc/key.pem", Path("/etc/key.pem")),
    (options.tls.CLIENT_MAP.kind, "", None),
    (options.tls.KEY.kind, "k.pem:/e/k.pem", (Path("/base/k.pem"), Path("/e/k.pem"))),
    (options.tls.KEY.kind, ["a key.pem"], (Path("/base/a key.pem"),)),
    (options.tls.KEY.kind, "", ()),
    (options.proxy.LISTENERS.kind, "IMAPS, pop3@::1", ("imaps", "pop3@::1")),
]


@pytest.mark.parametrize(("kind", "written", "value"), KINDS)
def test_what_kinds_take(kind: Kind[object], written: object, value: object) -> None:
    found = kind.parse(written, Path("/base"))
    assert (found, type(found)) == (value, type(value))
    assert kind.parse(kind.show(found), Path("/base")) == value


@pytest.mark.parametrize(
    ("kind", "written", "reason"),
    [
        (BOOLEAN, "maybe", "yes or no"),
        (BOOLEAN, 2, "yes or no"),
        (integer(1, 9), "10", "is 10, must be 1 to 9"),
        (integer(1, 9), "x", "whole number"),
        (integer(1, 9), 1.0, "whole number"),
        (integer(0, 9), True, "whole number"),
        (integer(0, 9), "9" * 5000, "whole number"),
        (options.imap.PORT.kind, 65536, "65535"),
        (options.lmtp.PORT.kind, 25, "RFC 2033"),  # T46
        (size(1), "-1", "octets"),
        (size(1), "1XiB", "octets"),
        (size(1024), 1023, "at least 1KiB"),
        (size(1, 2048), "3KiB", "at most 2KiB"),
        (size(1), "0.3", "whole number"),
        (size(1), True, "octets"),
        (duration(0), "soon", "30min"),
        (duration(0), False, "30min"),
        (duration(0, 60), "2min", "at most 1min"),
        (duration(0), "9" * 400, "at most 36500d"),
        (options.imap.IDLE_TIMEOUT.kind, "29min", "at least 30min"),  # SUN-33, T34
        (options.lmtp.IDLE_TIMEOUT.kind, "299", "at least 5min"),
        (options.lmtp.MAX_RECIPIENTS.kind, 99, "100"),
        (options.imap.BANNER.kind, "two\nlines", "one line"),
        (options.imap.BANNER.kind, "x" * 1001, "1000"),
        (options.imap.BANNER.kind, 5, "text"),
        (options.imap.ADDRESS.kind, ["localhost"], "not an IP address"),
        (options.imap.ADDRESS.kind, [5], "text"),
        (options.imap.ADDRESS.kind, 5, "list of IP addresses"),
        (options.login.TRUSTED_HOSTS.kind, "10.0.0.1/8", "host bits"),
        (options.lmtp.WORKAROUNDS.kind, "outlook", "none of: whitespace-before-path"),
        (options.login.STORE_ADMINS.kind, "root", "with its domain"),
        (options.imap.DISABLED_CAPABILITIES.kind, ["A B"], "not the name of a capability"),
        (options.imap.NUM_PROCESSES.kind, 65, "0 to 64"),  # SUN-31
        (options.login.DEFAULT_DOMAIN.kind, "a..b", "domain"),
        (options.lmtp.OVER_QUOTA.kind, "never", "temporary, permanent"),
        (options.local.DATA_DIRECTORY.kind, "", "directory"),
        (options.login.SCRAM_ITERATIONS.kind, 4095, "4096"),
    ],
)
def test_what_kinds_refuse_and_why(kind: Kind[object], written: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        kind.parse(written, Path("/base"))


@given(st.integers(1, 2**62))
def test_sizes_are_shown_so_that_they_read_the_same(octets: int) -> None:
    assert size(1).parse(show_size(octets), Path()) == octets


@given(st.integers(0, 10**10))
def test_durations_are_shown_so_that_they_read_the_same(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert duration(0).parse(show_duration(seconds), Path()) == seconds


# -- files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "service.imap.port = 1143",
        "[service.imap]\nport = 1143",
        "[service]\nimap = { port = 1143 }",
        '"service.imap.port" = "1143"',
        "[SERVICE.IMAP]\nPort = 1143",
        "\ufeffservice.imap.port = 1143",
    ],
)
def test_an_option_may_be_written_in_full_or_in_tables(
    write: Callable[[str], Path], text: str
) -> None:
    settings = load(write(text))
    assert settings[options.imap.PORT] == 1143
    assert settings.source(options.imap.PORT) is Source.FILE
    assert settings.source(options.imap.SSL_PORT) is Source.DEFAULT


def test_everything_wrong_is_told_at_once_with_line_and_nearest_name(
    write: Callable[[str], Path],
) -> None:
    file = write(
        """\
        # a comment
        "service.imap.prot" = 143
        nothing.like.it = 1

        [service.imap]
        idletimeout = "10min"
        banner = '''
        port = 1
        '''
        maxsessions = 0

        [service.lmtp]
        enable = "perhaps"
        workarounds = [
            "whitespace-before-path",
            "no-such",
        ]
        "over quota" = 1
        """
    )
    assert problems(file) == [
        "FILE:2: service.imap.prot: there is no such option; did you mean service.imap.port?",
        "FILE:3: nothing.like.it: there is no such option",
        "FILE:6: service.imap.idletimeout: '10min' is not possible: must be at least 30min"
        " (RFC 3501 §5.4 lets a client be silent for 30 minutes)",
        "FILE:7: service.imap.banner: 'port = 1\\n' is not possible: takes one line of at most"
        " 1000 printable characters",
        "FILE:10: service.imap.maxsessions: 0 is not possible: is 0, must be 1 to 1000000000",
        "FILE:13: service.lmtp.enable: 'perhaps' is not possible: takes yes or no"
        " (also true, false, 1, 0)",
        "FILE:14: service.lmtp.workarounds: ['whitespace-before-path', 'no-such'] is not"
        " possible: 'no-such' is none of: whitespace-before-path, mailbox-for-path",
        "FILE:18: service.lmtp.over quota: there is no such option; did you mean"
        " service.lmtp.overquota?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = \n", "FILE:1: is not valid TOML: Invalid value"),
        ("x = 1\ny = [1,\n", "FILE:3: is not valid TOML: Invalid value"),
        (
            "service.imap.port = 1\nservice.imap.port = 2\n",
            "FILE:2: is not valid TOML: Cannot over",
        ),
        (
            "service.imap.port = 1\nSERVICE.imap.PORT = 2\n",
            "FILE:2: SERVICE.imap.PORT: is given already on line 1",
        ),
        (
            '[service.imap]\nport = 1\n["service"."IMAP"]\nport = 2\n',
            "FILE:4: service.IMAP.port: is given already on line 2",
        ),
        (
            "[service.imapp]\n",
            "FILE:1: service.imapp: there is no such option; did you mean service.imap",
        ),
        ("config.version = 2\n", "FILE:1: config.version: 2 is not possible: is 2, must be 1 to 1"),
        (
            '[local.store]\nnotifyplugin = "libibiff"\nnotifyplugin.enshost = "x"\n',
            "FILE:3: is not valid TOML: ",
        ),
        (
            "service.imap.port = 993\n",
            "FILE: service.imap.sslport: port 993 is taken by service.imap.port",
        ),
        (
            "service.lmtp.port = 143\n",
            "FILE:1: service.lmtp.port: port 143 is taken by service.imap.port",
        ),
        (
            "service.pop.sslport = 993\n",
            "FILE:1: service.pop.sslport: port 993 is taken by service.imap.sslport",
        ),
        (
            "service.pop.idletimeout = '9min'\n",  # SUN-33
            "FILE:1: service.pop.idletimeout: '9min' is not possible: must be at least 10min",
        ),
        (
            "service.imap.maxthreads = 5\n",  # SUN-32
            "FILE:1: service.imap.maxthreads: store.writerthreads and auth.threads are 18 together",
        ),
        ('tls.key = "k"\n', "FILE:1: tls.key: is of no use without tls.certificate"),
        ('tls.clientca = "a"\n', "FILE:1: tls.clientca: is of no use without tls.certificate"),
        ('tls.clientmap = "m"\n', "FILE:1: tls.clientmap: is of no use without tls.clientca"),
        (
            'service.lmtp.clientcertificate = "required"\n',
            "FILE:1: service.lmtp.clientcertificate: cannot be required without tls.clientca",
        ),
        (
            'service.proxylisteners = "imaps"\n',
            "FILE:1: service.proxylisteners: is of no use without service.proxyhosts",
        ),
        ("auth.throttle.firstdelay = 20\n", "FILE:1: auth.throttle.firstdelay: must not be above"),
    ],
)
def test_one_thing_wrong(write: Callable[[str], Path], text: str, problem: str) -> None:
    [found] = problems(write(text))
    assert found.startswith(problem)


def test_names_that_begin_with_another_name_need_quotes_and_the_error_says_so(
    write: Callable[[str], Path],
) -> None:
    [found] = problems(
        write('local.store.notifyplugin = "libibiff"\nlocal.store.notifyplugin.ensport = 1\n')
    )
    assert '"local.store.notifyplugin.enshost" = …' in found
    settings = load(
        write(
            '"local.store.notifyplugin" = "libibiff"\n'
            '"local.store.notifyplugin.noneinbox.enable" = false\n'
        )
    )
    assert not settings[options.events.NOTIFY_NONE_INBOX]


def test_tables_that_are_only_headers_are_nothing(write: Callable[[str], Path]) -> None:
    assert load(write("[service]\n[service.imap]\n"))[options.imap.PORT] == 143


def test_one_port_on_two_addresses_is_no_contradiction(write: Callable[[str], Path]) -> None:
    load(
        write(
            """\
            service.imap.address = ["127.0.0.1"]
            service.lmtp.address = ["127.0.0.2"]
            service.lmtp.port = 143
            """
        )
    )
    load(write("service.imap.enable = false\nservice.lmtp.port = 143\n"))
    load(write("service.imap.port = 0\nservice.imap.sslport = 0\n"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "missing.toml") == ["FILE: No such file or directory"]
    assert problems(tmp_path)[0] == "FILE: Is a directory"
    file = tmp_path / "latin1.toml"
    file.write_bytes(b"# ok\nservice.imap.banner = '\xe9'\n")
    assert problems(file) == ["FILE:2: is not UTF-8"]


def test_paths_start_at_the_file_they_are_written_in(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = load(write('tls.certificate = "tls/cert.pem"\nlocal.datadirectory = "data"\n'))
    assert settings[options.tls.CERTIFICATE] == (tmp_path / "tls/cert.pem",)
    assert settings.data == tmp_path / "data"
    assert load(write("")).data == tmp_path / "var"


# -- order ----------------------------------------------------------------------


def test_command_line_then_overrides_then_file_then_default(  # SUN-6
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write('local.datadirectory = "."\nservice.imap.port = 1\nservice.imap.sslport = 1993\n')
    (tmp_path / "overrides.toml").write_text('"service.imap.port" = 2\n')
    assert load(file)[options.imap.PORT] == 2
    settings = load(file, {"SERVICE.imap.port": "3"})
    assert settings[options.imap.PORT] == 3
    assert settings.source(options.imap.PORT) is Source.COMMAND_LINE
    assert settings[options.imap.SSL_PORT] == 1993
    (tmp_path / "overrides.toml").unlink()
    assert load(file)[options.imap.PORT] == 1
    assert load(None)[options.imap.PORT] == 143


def test_the_data_directory_of_the_command_line_has_the_overrides_that_count(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "overrides.toml").write_text('"service.imap.port" = 9\n')
    settings = load(write('local.datadirectory = "here"\n'), {"local.datadirectory": str(other)})
    assert settings.data == other
    assert settings[options.imap.PORT] == 9


def test_errors_on_the_command_line_and_in_overrides_name_the_place(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    overrides = tmp_path / "overrides.toml"
    overrides.write_text('"service.imap.port" = 70000\n"local.datadirectory" = "x"\n')
    found = problems(write('local.datadirectory = "."\n'), {"service.imap.bogus": "1"})
    assert found == [
        "command line: service.imap.bogus: there is no such option; did you mean"
        " service.imap.port?",
        f"{overrides}:1: service.imap.port: 70000 is not possible: is 70000, must be 0 to 65535",
        f"{overrides}:2: local.datadirectory: can only be set in the configuration file",
    ]


def test_what_a_reload_changes_is_known(write: Callable[[str], Path]) -> None:
    before = load(write("service.imap.banner = 'a'\nservice.imap.port = 1\n"))
    after = load(write("service.imap.banner = 'b'\nservice.imap.port = 1\n"))
    assert before.changed(after) == [options.imap.BANNER]
    assert after.changed(after) == []


# -- configutil -----------------------------------------------------------------


def test_set_overrides_are_kept_apart_read_back_and_taken_away(tmp_path: Path) -> None:  # SUN-6
    file = tmp_path / "overrides.toml"
    line = {"local.datadirectory": str(tmp_path)}
    for name, text, shown in (
        ("SERVICE.imap.PORT", "1143", "1143"),
        ("service.imap.enable", "0", "no"),
        ("service.imap.idletimeout", "1h", "1h"),
        ("store.maxmessagesize", "5MB", "5000000"),
        ("store.admins", "root@example.org adm@example.org", "root@example.org, adm@example.org"),
        ("service.imap.banner", 'say "hi" \\ \u65e5\u672c', 'say "hi" \\ \u65e5\u672c'),
        ("local.store.notifyplugin", "", ""),
        ("tls.certificate", "cert.pem", str(Path.cwd() / "cert.pem")),
    ):
        option = config.set_override(tmp_path, name, text)
        assert option.key == name.lower()
        assert config.show(load(None, line), name) == shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # S14
    assert file.read_text("utf-8").count("\n") == 9
    settings = load(None, line)
    assert settings.source(options.imap.PORT) is Source.OVERRIDES
    assert settings[options.login.STORE_ADMINS] == ("root@example.org", "adm@example.org")
    config.set_override(tmp_path, "service.imap.port", None)
    config.set_override(tmp_path, "service.imap.port", None)
    assert load(None, line)[options.imap.PORT] == 143
    assert load(None, line)[options.imap.IDLE_TIMEOUT] == 3600


def test_a_wrong_override_changes_nothing(tmp_path: Path) -> None:
    config.set_override(tmp_path, "service.imap.port", "1143")
    before = (tmp_path / "overrides.toml").read_bytes()
    for name, text, reason in (
        ("service.imap.prot", "1", "did you mean service.imap.port?"),
        ("service.imap.prot", None, "did you mean service.imap.port?"),
        ("service.imap.port", "x", "whole number"),
        ("service.imap.idletimeout", "1min", "30min"),  # SUN-33
        ("local.datadirectory", "/x", "configuration file"),
        ("service.imap.port.mail.example.org", "1", "no such option"),
    ):
        with pytest.raises(ConfigurationError, match=reason.replace("?", r"\?")):
            config.set_override(tmp_path, name, text)
    assert (tmp_path / "overrides.toml").read_bytes() == before


def test_damaged_overrides_are_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "overrides.toml"
    file.write_text("service.imap.port = \n")
    with pytest.raises(ConfigurationError, match=r"overrides\.toml:1"):
        config.set_override(tmp_path, "service.imap.port", "1")
    assert file.read_text() == "service.imap.port = \n"


def test_a_write_is_synced_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "overrides.toml"
    steps: list[str] = []
    replace = os.replace

    def fsync(descriptor: int) -> None:
        steps.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    def replacing(old: Path, new: Path) -> None:
        steps.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "replace", replacing)
    config._replace(file, "text", fsync)
    assert steps == ["sync .overrides.toml.new", "replace", f"sync {tmp_path.name}"]
    assert file.read_text() == "text"


def test_what_a_crash_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".overrides.toml.new").write_text("half a")
    config.set_override(tmp_path, "service.imap.port", "1")
    assert [one.name for one in tmp_path.glob(".*")] == []


def test_processes_that_set_options_at_once_take_turns(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mailserver.service import config\n"
        "for n in range(20): config.set_override(Path(sys.argv[1]), sys.argv[2], str(n + 1))\n"
    )
    names = ["service.imap.port", "service.imap.maxsessions", "auth.threads"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), name], cwd=Path(__file__).parents[2]
        )
        for name in names
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    settings = load(None, {"local.datadirectory": str(tmp_path)})
    assert [config.show(settings, name) for name in names] == ["20", "20", "20"]


def test_the_listing_tells_everything_of_every_option(write: Callable[[str], Path]) -> None:
    rows = {row.name: row for row in config.listing(load(write("service.imap.port = 1\n")))}
    assert len(rows) == len(TABLE.options)
    row = rows["service.imap.port"]
    assert (row.value, row.default, row.source) == ("1", "143", Source.FILE)
    assert row.applies is Applies.RESTART
    assert rows["store.maxmessagesize"].unit == "octets"
    assert rows["service.imap.idletimeout"].unit == "seconds"


# -- hosts and secrets ------------------------------------------------------------

SECRET = Option("proxy.adminpass", TEXT, "", "a secret", per_host=True, is_secret=True)
PLAIN = Option("proxy.imapport", integer(1, 9), 1, "a number", per_host=True)
BARE = Option("bare.option", integer(1, 9), 1, "without hosts")
SMALL = OptionTable([SECRET, PLAIN, BARE, options.local.DATA_DIRECTORY])


def small(write: Callable[[str], Path], text: str) -> Settings:
    return load(write(text), table=SMALL)


def test_the_suffixed_name_wins_for_its_host(write: Callable[[str], Path]) -> None:  # SUN-6
    settings = small(
        write,
        'proxy.imapport = 2\n"PROXY.imapport.Mail.Example.org" = 3\n[proxy.adminpass]\nb = "x"\n',
    )
    assert settings[PLAIN] == 2
    assert settings.for_host(PLAIN, "mail.example.ORG") == 3
    assert settings.for_host(PLAIN, "other.example.org") == 2
    assert (settings[SECRET], settings.for_host(SECRET, "b")) == ("", "x")
    assert config.show(settings, "proxy.imapport.mail.example.org") == "3"
    names = [row.name for row in config.listing(settings)]
    assert names == [
        "proxy.adminpass",
        "proxy.adminpass.b",
        "proxy.imapport",
        "proxy.imapport.mail.example.org",
        "bare.option",
        "local.datadirectory",
    ]


def test_a_suffix_where_none_is_allowed_is_no_option(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"bare\.option\.host: there is no such option"):
        small(write, '"bare.option.host" = 1\n')


def test_secrets_are_never_shown(write: Callable[[str], Path], tmp_path: Path) -> None:
    settings = small(write, 'proxy.adminpass = "canary"\n')
    assert settings[SECRET] == "canary"
    assert config.show(settings, "proxy.adminpass") == MASK
    assert next(config.listing(settings)).value == MASK
    assert config.show(small(write, ""), "proxy.adminpass") == ""
    with pytest.raises(ConfigurationError) as refusal:
        small(write, 'proxy.adminpass = ["canary"]\n')
    assert "canary" not in str(refusal.value)


def test_lines_of_keys() -> None:
    lines = key_lines(
        'a = 1\n"b.c" . d = 2\n[ t . "u" ]\nx.y = """\nz = 3\n"""\n[[list]]\nq = 1\n'
        "Mixed = 1\nmixed = 2\n"
    )
    assert lines == {
        "a": [1],
        "b.c.d": [2],
        "t.u": [3],
        "t.u.x.y": [4],
        "list": [7],
        "list.q": [8],
        "list.mixed": [9, 10],
    }
    assert line_of(lines, "T.u.x.y.z") == 4
    assert line_of(lines, "nothing") is None
    assert line_of(lines, "list.Mixed", 1) == 10


@given(st.text(alphabet="ab.=[]\"'\n #{}", max_size=80))
def test_finding_lines_never_fails(text: str) -> None:
    for numbers in key_lines(text).values():
        assert numbers == sorted(numbers)


def test_without_a_file_on_the_command_line_known_places_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no configuration: neither .*--config"):
        find_config({"MAILSERVER_DATA": str(tmp_path)})
    (tmp_path / "mailserver.toml").touch()
    assert find_config({"MAILSERVER_DATA": str(tmp_path)}) == tmp_path / "mailserver.toml"
    assert find_config({"MAILSERVER_CONFIG": "x.toml"}) == Path("x.toml")


SOME = {
    options.imap.PORT.name: "1143",
    options.imap.ADDRESS.name: "127.0.0.1, ::1",
    options.imap.BANNER.name: 'a "banner", with = signs, and 100% of them',
    options.imap.ENABLE.name: "no",
    options.imap.LOGIN_TIMEOUT.name: "1500ms",
    options.imap.WORKAROUNDS.name: "tb-lsub-flags, delay-newmail",
    options.lmtp.UNIX_SOCKET.name: "run/lmtp socket",
    options.local.LOG_MODULES.name: "imap=trace, auth=debug",
    options.login.MECHANISMS.name: "PLAIN",
    options.login.TRUSTED_HOSTS.name: "192.0.2.0/24, 2001:db8::/32",
    options.oauth.ISSUER.name: "https://id.example.org",
    options.oauth.AUDIENCE.name: "mail, other",
    options.oauth.KEYS_FILE.name: "keys.json",
    options.store.MAX_MESSAGE_SIZE.name: "5MB",
    options.tls.CERTIFICATE.name: "one.pem, /other, with/comma.pem",
    "service.imap.domainallowed": "imap: ALL EXCEPT .example.net$imaps: LOCAL",
}


def test_settings_reach_another_process_as_they_are() -> None:
    """SUN-31: whatever their kind, relative paths too; nothing else counts there."""
    settings = load(None, SOME)
    again = unpacked(json.loads(json.dumps(packed(settings))))
    assert {key: one.value for key, one in again.given.items()} == {
        key: one.value for key, one in settings.given.items()
    }
    with pytest.raises(ConfigurationError, match="no such option"):
        unpacked({"service.imap.port": "1", "no.such": "1"})


@pytest.mark.parametrize("option", TABLE.options, ids=lambda option: option.name)
def test_every_option_reads_what_it_shows(option: Any) -> None:
    if option.default is not None:
        assert option.kind.parse(option.kind.show(option.default), Path()) == option.default


def test_what_a_reload_cannot_bring_stays_as_it_was() -> None:
    before = load(None, {"service.imap.port": "1143", "service.imap.banner": "a"})
    after = load(None, {"service.pop.port": "1110", "service.imap.banner": "b"})
    kept = after.keeping([options.imap.PORT, options.pop3.PORT], before)
    assert (kept[options.imap.PORT], kept[options.pop3.PORT], kept[options.imap.BANNER]) == (
        1143,
        110,
        "b",
    )
