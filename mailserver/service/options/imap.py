"""The IMAP service."""

from __future__ import annotations

from mailserver.service.kinds import (
    ADDRESSES,
    BOOLEAN,
    CAPABILITIES,
    choices,
    duration,
    integer,
    port,
    size,
)
from mailserver.service.options.option import COUNT, RELOAD
from mailserver.service.options.service import ServiceRows

OPTIONS = ServiceRows("imap")

ENABLE = OPTIONS.row("service.imap.enable", BOOLEAN, True, "Offer IMAP")
ADDRESS = OPTIONS.row(
    "service.imap.address", ADDRESSES, (), "Addresses to listen on; none: all of this host"
)
PORT = OPTIONS.row("service.imap.port", port(), 143, "Port without TLS, with STARTTLS")
ENABLE_SSL_PORT = OPTIONS.enable_ssl_port(True)
SSL_PORT = OPTIONS.row("service.imap.sslport", port(), 993, "TLS port")
BANNER = OPTIONS.banner()
PLAINTEXT_MIN_CIPHER = OPTIONS.plaintext_min_cipher()
MAX_SESSIONS = OPTIONS.max_sessions(4000)
MAX_THREADS = OPTIONS.row(
    "service.imap.maxthreads",
    COUNT,
    250,
    "What the threads of the store and for passwords may add up to",
)
NUM_PROCESSES = OPTIONS.num_processes()
IDLE_TIMEOUT = OPTIONS.row(
    "service.imap.idletimeout",
    duration(1800, why="RFC 3501 §5.4 lets a client be silent for 30 minutes"),
    1800.0,
    "Silence after which a session is ended",
    RELOAD,
)
IDLE_NOTIFY_INTERVAL = OPTIONS.row(
    "imap_idle_notify_interval",
    duration(0, 1740),
    120.0,
    "Sign of life in IDLE; 0 for none",
    RELOAD,
)
LOGIN_TIMEOUT = OPTIONS.login_timeout()
WRITE_TIMEOUT = OPTIONS.write_timeout()
WORKING_INTERVAL = OPTIONS.row(
    "service.imap.workinginterval",
    duration(0, 1740),
    30.0,
    "Sign of life in long commands; 0 for none",
    RELOAD,
)
MAX_LINE_BEFORE_LOGIN = OPTIONS.row(
    "service.imap.maxlinebeforelogin", size(512), 8 * 1024, "One line before login", RELOAD
)
MAX_LITERAL_BEFORE_LOGIN = OPTIONS.row(
    "service.imap.maxliteralbeforelogin", size(64), 4 * 1024, "One literal before login", RELOAD
)
MAX_COMMAND_BEFORE_LOGIN = OPTIONS.row(
    "service.imap.maxcommandbeforelogin", size(512), 16 * 1024, "One command before login", RELOAD
)
MAX_LITERALS_BEFORE_LOGIN = OPTIONS.row(
    "service.imap.maxliteralsbeforelogin", COUNT, 8, "Literals of a command before login", RELOAD
)
MAX_NESTING_BEFORE_LOGIN = OPTIONS.row(
    "service.imap.maxnestingbeforelogin", integer(1, 100), 4, "Nesting before login", RELOAD
)
MAX_BAD_BEFORE_LOGIN = OPTIONS.max_bad_before_login()
MAX_LINE = OPTIONS.row("service.imap.maxline", size(8000), 64 * 1024, "One line", RELOAD)
MAX_LITERAL = OPTIONS.row(
    "service.imap.maxliteral", size(4096), 256 * 1024, "One literal, but a message", RELOAD
)
MAX_COMMAND = OPTIONS.row(
    "service.imap.maxcommand", size(8000), 256 * 1024, "One command without messages", RELOAD
)
MAX_LITERALS = OPTIONS.row("service.imap.maxliterals", COUNT, 1000, "Literals of a command", RELOAD)
MAX_NESTING = OPTIONS.row(
    "service.imap.maxnesting", integer(1, 100), 32, "Nesting of parentheses, NOT and OR", RELOAD
)
MAX_BAD = OPTIONS.max_bad()
MAX_AUTH_RESPONSE = OPTIONS.max_auth_response("AUTHENTICATE")
INPUT_BUFFER = OPTIONS.input_buffer()
DISABLED_CAPABILITIES = OPTIONS.row(
    "service.imap.disabledcapabilities", CAPABILITIES, (), "Extensions not offered", RELOAD
)
WORKAROUNDS = OPTIONS.row(
    "service.imap.workarounds",
    choices("delay-newmail", "tb-extra-mailbox-sep", "tb-lsub-flags"),
    (),
    "Leniencies for certain clients",
    RELOAD,
)
TRACE = OPTIONS.row(
    "service.imap.trace", BOOLEAN, False, "Log every command, without passwords", RELOAD
)
