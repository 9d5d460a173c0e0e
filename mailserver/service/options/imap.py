"""The IMAP service."""

from __future__ import annotations

from mailserver.service.kinds import (
    ADDRESSES,
    BOOLEAN,
    CAPABILITIES,
    TEXT,
    choices,
    duration,
    integer,
    port,
    size,
)
from mailserver.service.options.option import COUNT, RELOAD, Rows

OPTIONS = Rows()

ENABLE = OPTIONS.row("service.imap.enable", BOOLEAN, True, "Offer IMAP")
ADDRESS = OPTIONS.row(
    "service.imap.address", ADDRESSES, (), "Addresses to listen on; none: all of this host"
)
PORT = OPTIONS.row("service.imap.port", port(), 143, "Port without TLS, with STARTTLS")
ENABLE_SSL_PORT = OPTIONS.row("service.imap.enablesslport", BOOLEAN, True, "Listen on the TLS port")
SSL_PORT = OPTIONS.row("service.imap.sslport", port(), 993, "TLS port")
BANNER = OPTIONS.row(
    "service.imap.banner", TEXT, "", "Text of the greeting; empty: product and version", RELOAD
)
PLAINTEXT_MIN_CIPHER = OPTIONS.row(
    "service.imap.plaintextmincipher",
    integer(-1, 256),
    0,
    "0: passwords also without TLS; above 0: only with TLS; -1: no passwords",
    RELOAD,
)
MAX_SESSIONS = OPTIONS.row(
    "service.imap.maxsessions", COUNT, 4000, "Connections per process", RELOAD
)
MAX_THREADS = OPTIONS.row(
    "service.imap.maxthreads",
    COUNT,
    250,
    "What the threads of the store and for passwords may add up to",
)
NUM_PROCESSES = OPTIONS.row(
    "service.imap.numprocesses",
    integer(1, 64, refusals=dict.fromkeys(range(2, 65), "this version runs one process")),
    1,
    "Processes on one port",
)
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
LOGIN_TIMEOUT = OPTIONS.row(
    "service.imap.logintimeout", duration(1), 60.0, "Time from connect to login", RELOAD
)
WRITE_TIMEOUT = OPTIONS.row(
    "service.imap.writetimeout", duration(1), 300.0, "A client that takes no output is cut", RELOAD
)
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
MAX_BAD_BEFORE_LOGIN = OPTIONS.row(
    "service.imap.maxbadbeforelogin", COUNT, 3, "Bad commands in a row before login", RELOAD
)
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
MAX_BAD = OPTIONS.row("service.imap.maxbad", COUNT, 20, "Bad commands in a row", RELOAD)
MAX_AUTH_RESPONSE = OPTIONS.row(
    "service.imap.maxauthresponse", size(1024), 64 * 1024, "A line in AUTHENTICATE", RELOAD
)
INPUT_BUFFER = OPTIONS.row(
    "service.imap.inputbuffer", size(4096), 64 * 1024, "What may wait behind a command", RELOAD
)
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
