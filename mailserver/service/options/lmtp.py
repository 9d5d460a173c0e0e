"""The LMTP service."""

from __future__ import annotations

from mailserver.service.kinds import (
    ADDRESSES,
    BOOLEAN,
    PATH,
    choice,
    choices,
    duration,
    integer,
    port,
    size,
)
from mailserver.service.options.option import COUNT, RELOAD
from mailserver.service.options.service import ServiceRows

OPTIONS = ServiceRows("lmtp")

_NEVER_25 = {25: "LMTP must not be spoken on the SMTP port (RFC 2033 §1)"}

ENABLE = OPTIONS.row("service.lmtp.enable", BOOLEAN, True, "Take mail by LMTP")
ADDRESS = OPTIONS.row(
    "service.lmtp.address",
    ADDRESSES,
    ("127.0.0.1",),
    "Addresses to listen on; anybody who can connect can deliver",
)
PORT = OPTIONS.row("service.lmtp.port", port(_NEVER_25), 24, "TCP port")
ENABLE_TCP = OPTIONS.row("service.lmtp.enabletcp", BOOLEAN, True, "Listen on the TCP port")
ENABLE_SSL_PORT = OPTIONS.enable_ssl_port(False)
SSL_PORT = OPTIONS.row(
    "service.lmtp.sslport", port(_NEVER_25), 2424, "TLS port; none is registered for LMTP"
)
UNIX_SOCKET = OPTIONS.row("service.lmtp.unixsocket", PATH, None, "Also listen on a Unix socket")
UNIX_MODE = OPTIONS.row(
    "service.lmtp.unixmode", choice("0600", "0660", "0666"), "0660", "Mode of the Unix socket"
)
BANNER = OPTIONS.banner()
MAX_SESSIONS = OPTIONS.max_sessions(1000)
NUM_PROCESSES = OPTIONS.num_processes()
MAX_RECIPIENTS = OPTIONS.row(
    "service.lmtp.maxrecipients",
    integer(100, 1_000_000),
    1000,
    "Recipients of one message (RFC 5321 §4.5.3.1.8: at least 100)",
    RELOAD,
)
MAX_LINE = OPTIONS.row("service.lmtp.maxline", size(1000), 8 * 1024, "A command line", RELOAD)
MAX_BAD = OPTIONS.row("service.lmtp.maxbad", COUNT, 20, "Bad commands", RELOAD)
LHLO_TIMEOUT = OPTIONS.row(
    "service.lmtp.lhlotimeout", duration(1), 60.0, "Time from connect to LHLO", RELOAD
)
IDLE_TIMEOUT = OPTIONS.row(
    "service.lmtp.idletimeout",
    duration(300, why="RFC 5321 §4.5.3.2.7"),
    300.0,
    "Silence after which a connection is closed",
    RELOAD,
)
MESSAGE_TIMEOUT = OPTIONS.row(
    "service.lmtp.messagetimeout", duration(60), 3600.0, "Time for one message to come in", RELOAD
)
WRITE_TIMEOUT = OPTIONS.write_timeout()
OVER_QUOTA = OPTIONS.row(
    "service.lmtp.overquota",
    choice("temporary", "permanent"),
    "temporary",
    "Over quota: 452, the MTA tries again, or 552, it bounces",
    RELOAD,
)
WORKAROUNDS = OPTIONS.row(
    "service.lmtp.workarounds",
    choices("whitespace-before-path", "mailbox-for-path"),
    (),
    "Leniencies for certain clients",
    RELOAD,
)
