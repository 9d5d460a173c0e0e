"""The one table of options: names as the Sun server spells them where it has them.

    from mailserver.service import options
    settings[options.IMAP_PORT]        # an int

A new option is a row here: it parses, documents and shows itself. Names compare without
regard to case (SUN-6).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from mailserver.service.kinds import (
    ACCOUNTS,
    ADDRESSES,
    BOOLEAN,
    CAPABILITIES,
    DIRECTORY,
    DOMAIN,
    NETWORKS,
    PATH,
    TEXT,
    Kind,
    choice,
    choices,
    duration,
    integer,
    port,
    size,
)

T = TypeVar("T")

MASK = "********"
"""Shown in place of a secret that is set."""


class Applies(Enum):
    """What makes a changed option act."""

    RELOAD = "reload"  # SIGHUP
    RESTART = "restart"


@attrs.frozen(eq=False)
class Option(Generic[T]):
    """One option.

    Attributes:
        name: as written in documentation; compare `key`.
        kind: how values are read and shown.
        default: where nobody says otherwise.
        help: one line.
        applies: what makes a change act.
        per_host: may be given a host name as suffix, `name.host`, for that host only.
        is_secret: never shown.
        overridable: `configutil` may set it.
    """

    name: str
    kind: Kind[T]
    default: T
    help: str
    applies: Applies = Applies.RESTART
    per_host: bool = False
    is_secret: bool = False
    overridable: bool = True

    @property
    def key(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    def shown(self, value: T) -> str:
        """The value for people; a secret is masked."""
        text = self.kind.show(value)
        return MASK if self.is_secret and text else text


class OptionTable:
    """Options by name."""

    def __init__(self, options: Iterable[Option[Any]]) -> None:
        self.options = tuple(options)
        self._by_key = {option.key: option for option in self.options}
        if len(self._by_key) != len(self.options):
            raise ValueError("two options have one name")

    def find(self, name: str) -> tuple[Option[Any], str] | None:
        """Find an option and the host in its suffix, which is empty for none.

        Args:
            name: in any case.
        """
        key = name.lower()
        option = self._by_key.get(key)
        if option is not None:
            return option, ""
        head, dot, tail = key.rpartition(".")
        host = tail
        while dot:
            option = self._by_key.get(head)
            if option is not None:
                return (option, host) if option.per_host and host else None
            head, dot, tail = head.rpartition(".")
            host = f"{tail}.{host}"
        return None

    def has_below(self, prefix: str) -> bool:
        """Say whether any option's name goes on after this prefix and a dot."""
        return any(key.startswith(f"{prefix.lower()}.") for key in self._by_key)

    def nearest(self, name: str) -> str:
        """The option whose name looks most like this one; empty if none does."""
        found = difflib.get_close_matches(name.lower(), self._by_key, 1, 0.7)
        return self._by_key[found[0]].name if found else ""


_ROWS: list[Option[Any]] = []


def _row(
    name: str,
    kind: Kind[T],
    default: T,
    help: str,
    applies: Applies = Applies.RESTART,
    *,
    overridable: bool = True,
) -> Option[T]:
    option = Option(name, kind, default, help, applies, overridable=overridable)
    _ROWS.append(option)
    return option


_RELOAD = Applies.RELOAD
_COUNT = integer(1, 10**9)
_COUNT_OR_NONE = integer(0, 10**9)
_NEVER_25 = {25: "LMTP must not be spoken on the SMTP port (RFC 2033 §1)"}

# -- the installation -----------------------------------------------------------

CONFIG_VERSION = _row(
    "config.version", integer(1, 1), 1, "Version of the configuration's form", overridable=False
)
DATA_DIRECTORY = _row(
    "local.datadirectory",
    DIRECTORY,
    Path("var"),
    "Where everything is kept; relative to the configuration file",
    overridable=False,
)
HOSTNAME = _row(
    "local.hostname", DOMAIN, "", "Name of this server in greetings; empty: the system's"
)
SHUTDOWN_TIMEOUT = _row(
    "local.shutdowntimeout", duration(0, 60), 8.0, "How long a stop waits for running commands"
)
LOG_LEVEL = _row(
    "log.level",
    choice("debug", "info", "warn", "error"),
    "info",
    "The least important events that are logged",
    _RELOAD,
)
TLS_CERTIFICATE = _row(
    "tls.certificate",
    PATH,
    None,
    "PEM file of the certificate with its chain; without one there is no TLS",
    _RELOAD,
)
TLS_KEY = _row(
    "tls.key", PATH, None, "PEM file of the private key; empty: in the certificate's file", _RELOAD
)
TLS_MINIMUM_VERSION = _row(
    "tls.minimumversion", choice("1.2", "1.3"), "1.2", "Oldest version of TLS that is spoken"
)

# -- names and logins -------------------------------------------------------------

DEFAULT_DOMAIN = _row(
    "service.defaultdomain", DOMAIN, "", "Domain of login names and addresses without one", _RELOAD
)
LOGIN_SEPARATOR = _row(
    "service.loginseparator", TEXT, "@+", "Characters that may stand for @ in a login name", _RELOAD
)
STORE_ADMINS = _row(
    "store.admins", ACCOUNTS, (), "Accounts that may act as any other (SASL authzid)", _RELOAD
)
TRUSTED_HOSTS = _row(
    "service.trustedhosts",
    NETWORKS,
    (),
    "Proxies and webmail hosts: limits per address do not hold for them",
    _RELOAD,
)
MAX_SESSIONS_PER_USER = _row(
    "service.maxsessionsperuser",
    _COUNT_OR_NONE,
    50,
    "Sessions of one account from one address; 0 for no limit",
    _RELOAD,
)
MAX_SESSIONS_PER_ADDRESS = _row(
    "service.maxsessionsperaddress",
    _COUNT_OR_NONE,
    100,
    "Connections from one address that have not logged in; 0 for no limit",
    _RELOAD,
)
AUTH_THREADS = _row("auth.threads", integer(1, 64), 2, "Passwords that are checked at once")
AUTH_QUEUE = _row("auth.queue", _COUNT, 1000, "Password checks that may wait")
AUTH_QUEUE_PER_ADDRESS = _row(
    "auth.queueperaddress", _COUNT, 50, "Password checks from one address that may wait"
)
AUTH_REMEMBERED = _row(
    "auth.remembered", _COUNT_OR_NONE, 10_000, "Verified passwords kept as a digest; 0 for none"
)
AUTH_REMEMBERED_FOR = _row(
    "auth.rememberedfor", duration(1), 3600.0, "How long a verified password is kept"
)
ARGON2_TIME = _row("auth.argon2.time", integer(1, 100), 2, "Passes of argon2id over the memory")
ARGON2_MEMORY = _row(
    "auth.argon2.memory", size(64 * 1024, 2**32), 19 * 2**20, "Memory of one argon2id computation"
)
ARGON2_PARALLELISM = _row("auth.argon2.parallelism", integer(1, 16), 1, "Lanes of argon2id")
SCRAM_ITERATIONS = _row(
    "auth.scram.iterations",
    integer(4096, 10_000_000),
    10_000,
    "Iterations of a new password's SCRAM keys (RFC 7677)",
)
SCRAM_SHA1 = _row("auth.scram.sha1", BOOLEAN, False, "Also make SCRAM-SHA-1 keys")
THROTTLE_FIRST_DELAY = _row(
    "auth.throttle.firstdelay", duration(0, 60), 2.0, "Wait after a failed login; doubles"
)
THROTTLE_MAX_DELAY = _row(
    "auth.throttle.maxdelay", duration(0, 300), 15.0, "What that wait grows to"
)
THROTTLE_WINDOW = _row("auth.throttle.window", duration(1), 600.0, "How long a failure counts")
THROTTLE_MAX_WAIT = _row(
    "auth.throttle.maxwait", duration(0, 600), 30.0, "Tries that would wait longer are refused"
)
THROTTLE_ENTRIES = _row(
    "auth.throttle.entries", _COUNT, 10_000, "Addresses and names whose failures are remembered"
)

# -- IMAP -------------------------------------------------------------------------

IMAP_ENABLE = _row("service.imap.enable", BOOLEAN, True, "Offer IMAP")
IMAP_ADDRESS = _row(
    "service.imap.address", ADDRESSES, (), "Addresses to listen on; none: all of this host"
)
IMAP_PORT = _row("service.imap.port", port(), 143, "Port without TLS, with STARTTLS")
IMAP_ENABLE_SSL_PORT = _row("service.imap.enablesslport", BOOLEAN, True, "Listen on the TLS port")
IMAP_SSL_PORT = _row("service.imap.sslport", port(), 993, "TLS port")
IMAP_BANNER = _row(
    "service.imap.banner", TEXT, "", "Text of the greeting; empty: product and version", _RELOAD
)
IMAP_PLAINTEXT_MIN_CIPHER = _row(
    "service.imap.plaintextmincipher",
    integer(-1, 256),
    0,
    "0: passwords also without TLS; above 0: only with TLS; -1: no passwords",
    _RELOAD,
)
IMAP_MAX_SESSIONS = _row(
    "service.imap.maxsessions", _COUNT, 4000, "Connections per process", _RELOAD
)
IMAP_MAX_THREADS = _row(
    "service.imap.maxthreads",
    _COUNT,
    250,
    "What the threads of the store and for passwords may add up to",
)
IMAP_NUM_PROCESSES = _row(
    "service.imap.numprocesses",
    integer(1, 64, refusals=dict.fromkeys(range(2, 65), "this version runs one process")),
    1,
    "Processes on one port",
)
IMAP_IDLE_TIMEOUT = _row(
    "service.imap.idletimeout",
    duration(1800, why="RFC 3501 §5.4 lets a client be silent for 30 minutes"),
    1800.0,
    "Silence after which a session is ended",
    _RELOAD,
)
IMAP_IDLE_NOTIFY_INTERVAL = _row(
    "imap_idle_notify_interval",
    duration(0, 1740),
    120.0,
    "Sign of life in IDLE; 0 for none",
    _RELOAD,
)
IMAP_LOGIN_TIMEOUT = _row(
    "service.imap.logintimeout", duration(1), 60.0, "Time from connect to login", _RELOAD
)
IMAP_WRITE_TIMEOUT = _row(
    "service.imap.writetimeout", duration(1), 300.0, "A client that takes no output is cut", _RELOAD
)
IMAP_WORKING_INTERVAL = _row(
    "service.imap.workinginterval",
    duration(0, 1740),
    30.0,
    "Sign of life in long commands; 0 for none",
    _RELOAD,
)
IMAP_MAX_LINE_BEFORE_LOGIN = _row(
    "service.imap.maxlinebeforelogin", size(512), 8 * 1024, "One line before login", _RELOAD
)
IMAP_MAX_LITERAL_BEFORE_LOGIN = _row(
    "service.imap.maxliteralbeforelogin", size(64), 4 * 1024, "One literal before login", _RELOAD
)
IMAP_MAX_COMMAND_BEFORE_LOGIN = _row(
    "service.imap.maxcommandbeforelogin", size(512), 16 * 1024, "One command before login", _RELOAD
)
IMAP_MAX_LITERALS_BEFORE_LOGIN = _row(
    "service.imap.maxliteralsbeforelogin", _COUNT, 8, "Literals of a command before login", _RELOAD
)
IMAP_MAX_NESTING_BEFORE_LOGIN = _row(
    "service.imap.maxnestingbeforelogin", integer(1, 100), 4, "Nesting before login", _RELOAD
)
IMAP_MAX_BAD_BEFORE_LOGIN = _row(
    "service.imap.maxbadbeforelogin", _COUNT, 3, "Bad commands in a row before login", _RELOAD
)
IMAP_MAX_LINE = _row("service.imap.maxline", size(8000), 64 * 1024, "One line", _RELOAD)
IMAP_MAX_LITERAL = _row(
    "service.imap.maxliteral", size(4096), 256 * 1024, "One literal, but a message", _RELOAD
)
IMAP_MAX_COMMAND = _row(
    "service.imap.maxcommand", size(8000), 256 * 1024, "One command without messages", _RELOAD
)
IMAP_MAX_LITERALS = _row("service.imap.maxliterals", _COUNT, 1000, "Literals of a command", _RELOAD)
IMAP_MAX_NESTING = _row(
    "service.imap.maxnesting", integer(1, 100), 32, "Nesting of parentheses, NOT and OR", _RELOAD
)
IMAP_MAX_BAD = _row("service.imap.maxbad", _COUNT, 20, "Bad commands in a row", _RELOAD)
IMAP_MAX_AUTH_RESPONSE = _row(
    "service.imap.maxauthresponse", size(1024), 64 * 1024, "A line in AUTHENTICATE", _RELOAD
)
IMAP_INPUT_BUFFER = _row(
    "service.imap.inputbuffer", size(4096), 64 * 1024, "What may wait behind a command", _RELOAD
)
IMAP_DISABLED_CAPABILITIES = _row(
    "service.imap.disabledcapabilities", CAPABILITIES, (), "Extensions not offered", _RELOAD
)
IMAP_WORKAROUNDS = _row(
    "service.imap.workarounds",
    choices("delay-newmail", "tb-extra-mailbox-sep", "tb-lsub-flags"),
    (),
    "Leniencies for certain clients",
    _RELOAD,
)
IMAP_TRACE = _row(
    "service.imap.trace", BOOLEAN, False, "Log every command, without passwords", _RELOAD
)

# -- POP3 -------------------------------------------------------------------------

POP_ENABLE = _row("service.pop.enable", BOOLEAN, True, "Offer POP3")
POP_ADDRESS = _row(
    "service.pop.address", ADDRESSES, (), "Addresses to listen on; none: all of this host"
)
POP_PORT = _row("service.pop.port", port(), 110, "Port without TLS, with STLS")
POP_ENABLE_SSL_PORT = _row("service.pop.enablesslport", BOOLEAN, True, "Listen on the TLS port")
POP_SSL_PORT = _row("service.pop.sslport", port(), 995, "TLS port")
POP_BANNER = _row(
    "service.pop.banner", TEXT, "", "Text of the greeting; empty: product and version", _RELOAD
)
POP_PLAINTEXT_MIN_CIPHER = _row(
    "service.pop.plaintextmincipher",
    integer(-1, 256),
    0,
    "0: passwords also without TLS; above 0: only with TLS; -1: no passwords",
    _RELOAD,
)
POP_MAX_SESSIONS = _row("service.pop.maxsessions", _COUNT, 600, "Connections per process", _RELOAD)
POP_IDLE_TIMEOUT = _row(
    "service.pop.idletimeout",
    duration(600, why="RFC 1939 §3 lets a client be silent for 10 minutes"),
    600.0,
    "Silence after which a session is ended and nothing deleted",
    _RELOAD,
)
POP_LOGIN_TIMEOUT = _row(
    "service.pop.logintimeout", duration(1), 60.0, "Time from connect to login", _RELOAD
)
POP_WRITE_TIMEOUT = _row(
    "service.pop.writetimeout", duration(1), 300.0, "A client that takes no output is cut", _RELOAD
)
POP_MAX_LINE = _row(
    "service.pop.maxline", size(512), 8 * 1024, "A command line (RFC 2449 §4: 255)", _RELOAD
)
POP_MAX_AUTH_RESPONSE = _row(
    "service.pop.maxauthresponse", size(1024), 64 * 1024, "A line in AUTH", _RELOAD
)
POP_MAX_BAD_BEFORE_LOGIN = _row(
    "service.pop.maxbadbeforelogin", _COUNT, 3, "Bad commands in a row before login", _RELOAD
)
POP_MAX_BAD = _row("service.pop.maxbad", _COUNT, 20, "Bad commands in a row", _RELOAD)
POP_INPUT_BUFFER = _row(
    "service.pop.inputbuffer", size(4096), 64 * 1024, "What may wait behind a command", _RELOAD
)
POP_SET_SEEN = _row(
    "service.pop.setseen",
    BOOLEAN,
    False,
    "QUIT marks what was retrieved as seen for IMAP clients",
    _RELOAD,
)
POP_WORKAROUNDS = _row(
    "service.pop.workarounds",
    choices("outlook-no-nuls", "oe-ns-eoh"),
    (),
    "Leniencies for certain clients",
    _RELOAD,
)

# -- LMTP -------------------------------------------------------------------------

LMTP_ENABLE = _row("service.lmtp.enable", BOOLEAN, True, "Take mail by LMTP")
LMTP_ADDRESS = _row(
    "service.lmtp.address",
    ADDRESSES,
    ("127.0.0.1",),
    "Addresses to listen on; anybody who can connect can deliver",
)
LMTP_PORT = _row("service.lmtp.port", port(_NEVER_25), 24, "TCP port")
LMTP_ENABLE_TCP = _row("service.lmtp.enabletcp", BOOLEAN, True, "Listen on the TCP port")
LMTP_UNIX_SOCKET = _row("service.lmtp.unixsocket", PATH, None, "Also listen on a Unix socket")
LMTP_UNIX_MODE = _row(
    "service.lmtp.unixmode", choice("0600", "0660", "0666"), "0660", "Mode of the Unix socket"
)
LMTP_BANNER = _row(
    "service.lmtp.banner", TEXT, "", "Text of the greeting; empty: product and version", _RELOAD
)
LMTP_MAX_SESSIONS = _row(
    "service.lmtp.maxsessions", _COUNT, 1000, "Connections per process", _RELOAD
)
LMTP_MAX_RECIPIENTS = _row(
    "service.lmtp.maxrecipients",
    integer(100, 1_000_000),
    1000,
    "Recipients of one message (RFC 5321 §4.5.3.1.8: at least 100)",
    _RELOAD,
)
LMTP_MAX_LINE = _row("service.lmtp.maxline", size(1000), 8 * 1024, "A command line", _RELOAD)
LMTP_MAX_BAD = _row("service.lmtp.maxbad", _COUNT, 20, "Bad commands", _RELOAD)
LMTP_LHLO_TIMEOUT = _row(
    "service.lmtp.lhlotimeout", duration(1), 60.0, "Time from connect to LHLO", _RELOAD
)
LMTP_IDLE_TIMEOUT = _row(
    "service.lmtp.idletimeout",
    duration(300, why="RFC 5321 §4.5.3.2.7"),
    300.0,
    "Silence after which a connection is closed",
    _RELOAD,
)
LMTP_MESSAGE_TIMEOUT = _row(
    "service.lmtp.messagetimeout", duration(60), 3600.0, "Time for one message to come in", _RELOAD
)
LMTP_WRITE_TIMEOUT = _row(
    "service.lmtp.writetimeout", duration(1), 300.0, "A client that takes no output is cut", _RELOAD
)
LMTP_OVER_QUOTA = _row(
    "service.lmtp.overquota",
    choice("temporary", "permanent"),
    "temporary",
    "Over quota: 452, the MTA tries again, or 552, it bounces",
    _RELOAD,
)
LMTP_WORKAROUNDS = _row(
    "service.lmtp.workarounds",
    choices("whitespace-before-path", "mailbox-for-path"),
    (),
    "Leniencies for certain clients",
    _RELOAD,
)

# -- the store --------------------------------------------------------------------

MAX_MESSAGE_SIZE = _row("store.maxmessagesize", size(64 * 1024), 64 * 2**20, "One message")
WRITER_THREADS = _row(
    "store.writerthreads", integer(1, 16), 4, "Threads that write; more for slow disks"
)
MAX_MAILBOXES = _row("store.maxmailboxes", _COUNT, 10_000, "Mailboxes of an account")
MAX_SUBSCRIPTIONS = _row("store.maxsubscriptions", _COUNT, 20_000, "Subscriptions of an account")
MAX_KEYWORDS = _row("store.maxkeywords", _COUNT, 2_000, "Different keywords of a mailbox")
MAX_TOMBSTONES = _row(
    "store.maxtombstones", _COUNT, 10_000, "Ranges of expunged UIDs remembered per mailbox"
)
MAX_APPENDED = _row("store.maxappended", _COUNT, 1_000, "Messages of one APPEND")

# -- events -----------------------------------------------------------------------

NOTIFY_PLUGIN = _row(
    "local.store.notifyplugin", TEXT, "libibiff", "Who publishes events; empty: none, no IDLE"
)
NOTIFY_NONE_INBOX = _row(
    "local.store.notifyplugin.noneinbox.enable",
    BOOLEAN,
    True,
    "Events for all mailboxes, not INBOX only; IDLE needs it",
)
NOTIFY_ENS_HOST = _row(
    "local.store.notifyplugin.enshost", TEXT, "127.0.0.1", "Taken for compatibility, not used"
)
NOTIFY_ENS_PORT = _row(
    "local.store.notifyplugin.ensport", port(), 7997, "Taken for compatibility, not used"
)
NOTIFY_ENS_EVENT_KEY = _row(
    "local.store.notifyplugin.enseventkey",
    TEXT,
    "enp://127.0.0.1/store/%M",
    "Name of events; must end in %M, the mailbox, or there is no IDLE",
)

TABLE = OptionTable(_ROWS)
"""Every option of the program."""
