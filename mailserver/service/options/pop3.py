"""The POP3 service."""

from __future__ import annotations

from mailserver.server.pop3.languages import TAGS
from mailserver.service.kinds import (
    ADDRESSES,
    BOOLEAN,
    choice,
    choices,
    duration,
    port,
    size,
)
from mailserver.service.options.option import RELOAD
from mailserver.service.options.service import ServiceRows

OPTIONS = ServiceRows("pop")

ENABLE = OPTIONS.row("service.pop.enable", BOOLEAN, True, "Offer POP3")
ADDRESS = OPTIONS.row(
    "service.pop.address", ADDRESSES, (), "Addresses to listen on; none: all of this host"
)
PORT = OPTIONS.row("service.pop.port", port(), 110, "Port without TLS, with STLS")
ENABLE_SSL_PORT = OPTIONS.enable_ssl_port(True)
SSL_PORT = OPTIONS.row("service.pop.sslport", port(), 995, "TLS port")
BANNER = OPTIONS.banner()
PLAINTEXT_MIN_CIPHER = OPTIONS.plaintext_min_cipher()
MAX_SESSIONS = OPTIONS.max_sessions(600)
NUM_PROCESSES = OPTIONS.num_processes()
IDLE_TIMEOUT = OPTIONS.row(
    "service.pop.idletimeout",
    duration(600, why="RFC 1939 §3 lets a client be silent for 10 minutes"),
    600.0,
    "Silence after which a session is ended and nothing deleted",
    RELOAD,
)
LOGIN_TIMEOUT = OPTIONS.login_timeout()
WRITE_TIMEOUT = OPTIONS.write_timeout()
MAX_LINE = OPTIONS.row(
    "service.pop.maxline", size(512), 8 * 1024, "A command line (RFC 2449 §4: 255)", RELOAD
)
MAX_AUTH_RESPONSE = OPTIONS.max_auth_response("AUTH")
MAX_BAD_BEFORE_LOGIN = OPTIONS.max_bad_before_login()
MAX_BAD = OPTIONS.max_bad()
INPUT_BUFFER = OPTIONS.input_buffer()
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
