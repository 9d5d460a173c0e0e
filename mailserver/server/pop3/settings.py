"""What an operator can set about the POP3 server."""

from __future__ import annotations

import attrs

from mailserver import __version__
from mailserver.wire.sasl import DEFAULT

OUTLOOK_NO_NULS = "outlook-no-nuls"
"""Workaround: NUL is sent as 0x80; Outlook hangs at one."""
OE_NS_EOH = "oe-ns-eoh"
"""Workaround: mail that ends within its header gets the empty line after it, without which
Outlook Express and Netscape wait for more."""

WORKAROUNDS = frozenset({OUTLOOK_NO_NULS, OE_NS_EOH})
"""All that can be switched on (T55)."""


@attrs.frozen
class Pop3Settings:
    """Settings of one POP3 listener; the wiring fills them from the options.

    Attributes:
        banner: text of the greeting (SUN-5).
        plaintext_min_cipher, mechanisms, hostname: as of `LoginSettings`.
        max_line: octets of a command; 255 at least (RFC 2449 §4).
        auth_response: octets of one line in AUTH, base64 (S3).
        bad_before_login, bad_after_login: that many bad commands in a row end the
            connection (S3).
        login_timeout: seconds from connect to login, whatever is sent meanwhile (S3).
        idle_timeout: seconds without a command until the connection is closed and nothing
            deleted; 600 at least (RFC 1939 §3).
        write_timeout: seconds that a client may leave our output untaken (T52).
        input_buffer: octets that may wait behind a running command before the transport is
            paused.
        apop: a digest by MD5 may take the place of the password, where all accounts keep
            what it needs.
        exclusive: one session at a time for each maildrop (RFC 1939 §4).
        login_delay: seconds that have to lie between two logins to a maildrop (RFC 2449
            §6.5), 0 for none.
        language: tag of that which LANG * gives.
        set_seen: QUIT sets `\\Seen` on messages that RETR has sent.
        workarounds: for weak clients, of `WORKAROUNDS`; none by default (T55).
        trace: log every command, without passwords (CGP-1).
    """

    banner: str = f"mailserver {__version__} POP3 ready"
    plaintext_min_cipher: int = 0
    mechanisms: tuple[bytes, ...] = DEFAULT
    hostname: str = "localhost"
    max_line: int = 8192
    auth_response: int = 65536
    bad_before_login: int = 3
    bad_after_login: int = 20
    login_timeout: float = 60.0
    idle_timeout: float = 600.0
    write_timeout: float = 300.0
    input_buffer: int = 65536
    apop: bool = False
    exclusive: bool = False
    login_delay: float = 0.0
    language: str = "i-default"
    set_seen: bool = False
    workarounds: tuple[str, ...] = ()
    trace: bool = False
