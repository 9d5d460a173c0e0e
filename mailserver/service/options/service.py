"""Rows that every service has, or every service in which people log in."""

from __future__ import annotations

from typing import Final

from mailserver.service.kinds import BOOLEAN, TEXT, duration, integer, size
from mailserver.service.options.option import COUNT, RELOAD, Option, Rows

MOST_PROCESSES: Final = 64
"""Processes that may serve one service."""


class ServiceRows(Rows):
    """The options of a service; each method makes a row and puts it at the end.

    Args:
        service: as names of options have it: `imap`, `pop`, `lmtp`.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._prefix = f"service.{service}."

    def enable_ssl_port(self, default: bool) -> Option[bool]:
        """Whether the TLS port is listened on (SUN-2)."""
        return self.row(f"{self._prefix}enablesslport", BOOLEAN, default, "Listen on the TLS port")

    def banner(self) -> Option[str]:
        """What the greeting says."""
        help = "Text of the greeting; empty: product and version"
        return self.row(f"{self._prefix}banner", TEXT, "", help, RELOAD)

    def plaintext_min_cipher(self) -> Option[int]:
        """Whether passwords may be sent without TLS (SUN-11)."""
        help = "0: passwords also without TLS; above 0: only with TLS; -1: no passwords"
        return self.row(f"{self._prefix}plaintextmincipher", integer(-1, 256), 0, help, RELOAD)

    def max_sessions(self, default: int) -> Option[int]:
        """How many connections there may be (SUN-30)."""
        name = f"{self._prefix}maxsessions"
        return self.row(name, COUNT, default, "Connections per process", RELOAD)

    def num_processes(self) -> Option[int]:
        """How many processes serve it (SUN-31)."""
        help = "Processes that serve it, each on one processor core; 0: one for each core"
        return self.row(f"{self._prefix}numprocesses", integer(0, MOST_PROCESSES), 1, help)

    def login_timeout(self) -> Option[float]:
        """How long a client has to log in (S3)."""
        name = f"{self._prefix}logintimeout"
        return self.row(name, duration(1), 60.0, "Time from connect to login", RELOAD)

    def write_timeout(self) -> Option[float]:
        """How long a client may take nothing of our output (T52)."""
        help = "A client that takes no output is cut"
        return self.row(f"{self._prefix}writetimeout", duration(1), 300.0, help, RELOAD)

    def max_auth_response(self, command: str) -> Option[int]:
        """How long a response of a SASL exchange may be.

        Args:
            command: that begins an exchange.
        """
        name = f"{self._prefix}maxauthresponse"
        return self.row(name, size(1024), 64 * 1024, f"A line in {command}", RELOAD)

    def max_bad_before_login(self) -> Option[int]:
        """How many bad commands end a connection before login (S3)."""
        help = "Bad commands in a row before login"
        return self.row(f"{self._prefix}maxbadbeforelogin", COUNT, 3, help, RELOAD)

    def max_bad(self) -> Option[int]:
        """How many bad commands end a session (S3)."""
        return self.row(f"{self._prefix}maxbad", COUNT, 20, "Bad commands in a row", RELOAD)

    def input_buffer(self) -> Option[int]:
        """How many octets are read ahead (T52)."""
        help = "What may wait behind a command"
        return self.row(f"{self._prefix}inputbuffer", size(4096), 64 * 1024, help, RELOAD)
