"""The POP3 service."""

from __future__ import annotations

from mailserver.server.pop3.languages import TAGS
from mailserver.service.kinds import (
    ADDRESSES,
    BOOLEAN,
    TEXT,
    choice,
    choices,
    duration,
    integer,
    port,
    size,
)
from mailserver.service.options.option import COUNT, RELOAD, Rows

OPTIONS = Rows()

ENABLE = OPTIONS.row("service.pop.enable", BOOLEAN, True, "Offer POP3")
ADDRESS = OPTIONS.row(
    "service.pop.address", ADDRESSES, (), "Addresses to listen on; none: all of this host"
)
PORT = OPTIONS.row("service.pop.port", port(), 110, "Port without TLS, with STLS")
ENABLE_SSL_PORT = OPTIONS.row("service.pop.enablesslport", BOOLEAN, True, "Listen on the TLS port")
SSL_PORT = OPTIONS.row("service.pop.sslport", port(), 995, "TLS port")
BANNER = OPTIONS.row(
    "service.pop.banner", TEXT, "", "Text of the greeting; empty: product and version", RELOAD
)
PLAINTEXT_MIN_CIPHER = OPTIONS.row(
    "service.pop.plaintextmincipher",
    integer(-1, 256),
    0,
    "0: passwords also without TLS; above 0: only with TLS; -1: no passwords",
    RELOAD,
)
MAX_SESSIONS = OPTIONS.row("service.pop.maxsessions", COUNT, 600, "Connections per process", RELOAD)
IDLE_TIMEOUT = OPTIONS.row(
    "service.pop.idletimeout",
    duration(600, why="RFC 1939 §3 lets a client be silent for 10 minutes"),
    600.0,
    "Silence after which a session is ended and nothing deleted",
    RELOAD,
)
LOGIN_TIMEOUT = OPTIONS.row(
    "service.pop.logintimeout", duration(1), 60.0, "Time from connect to login", RELOAD
)
WRITE_TIMEOUT = OPTIONS.row(
    "service.pop.writetimeout", duration(1), 300.0, "A client that takes no output is cut", RELOAD
)
MAX_LINE = OPTIONS.row(
    "service.pop.maxline", size(512), 8 * 1024, "A command line (RFC 2449 §4: 255)", RELOAD
)
MAX_AUTH_RESPONSE = OPTIONS.row(
    "service.pop.maxauthresponse", size(1024), 64 * 1024, "A line in AUTH", RELOAD
)
MAX_BAD_BEFORE_LOGIN = OPTIONS.row(
    "service.pop.maxbadbeforelogin", COUNT, 3, "Bad commands in a row before login", RELOAD
)
MAX_BAD = OPTIONS.row("service.pop.maxbad", COUNT, 20, "Bad commands in a row", RELOAD)
INPUT_BUFFER = OPTIONS.row(
    "service.pop.inputbuffer", size(4096), 64 * 1024, "What may wait behind a command", RELOAD
)
APOP = OPTIONS.row(
    "service.pop.apop",
    BOOLEAN,
    False,
    "Offer APOP where every source of accounts keeps passwords in clear; MD5 is weak",
    RELOAD,
)
CHANNEL_BINDING = OPTIONS.row(
    "service.pop.channelbinding",
    BOOLEAN,
    False,
    "Offer SCRAM with channel binding (-PLUS); mutt with GNU SASL takes it and cannot do it",
    RELOAD,
)
EXCLUSIVE = OPTIONS.row(
    "service.pop.exclusive",
    BOOLEAN,
    False,
    "One POP3 session at a time for each account; others are told IN-USE",
    RELOAD,
)
LOGIN_DELAY = OPTIONS.row(
    "service.pop.logindelay",
    duration(0),
    0.0,
    "Time that has to lie between two logins of an account (LOGIN-DELAY)",
    RELOAD,
)
LANGUAGE = OPTIONS.row(
    "service.pop.language",
    choice(*TAGS),
    "i-default",
    "What LANG * gives; until a client asks for a language, it is told things in English",
    RELOAD,
)
SET_SEEN = OPTIONS.row(
    "service.pop.setseen",
    BOOLEAN,
    False,
    "QUIT marks what was retrieved as seen for IMAP clients",
    RELOAD,
)
WORKAROUNDS = OPTIONS.row(
    "service.pop.workarounds",
    choices("outlook-no-nuls", "oe-ns-eoh"),
    (),
    "Leniencies for certain clients",
    RELOAD,
)
