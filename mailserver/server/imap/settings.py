"""What an operator can set about the IMAP server."""

from __future__ import annotations

import attrs

from mailserver import __version__
from mailserver.wire.imap.reader import AFTER_LOGIN, BEFORE_LOGIN, Limits
from mailserver.wire.sasl import DEFAULT

DELAY_NEWMAIL = "delay-newmail"
"""Workaround: EXISTS and EXPUNGE only at NOOP, CHECK, IDLE; some clients lose them."""
TB_LSUB_FLAGS = "tb-lsub-flags"
r"""Workaround: LSUB marks names that cannot be selected with `\Noselect`."""
TB_EXTRA_MAILBOX_SEP = "tb-extra-mailbox-sep"
"""Workaround: a delimiter at the end of a name is dropped; always so here."""

WORKAROUNDS = frozenset({DELAY_NEWMAIL, TB_LSUB_FLAGS, TB_EXTRA_MAILBOX_SEP})
"""All that can be switched on (T55)."""


@attrs.frozen
class ImapSettings:
    """Settings of one IMAP listener; the wiring fills them from the options.

    Attributes:
        banner: text of the greeting (SUN-5).
        plaintext_min_cipher, mechanisms, hostname: as of `LoginSettings`.
        before_login, after_login: how much one command may be (S3).
        nesting_before_login, nesting_after_login: depth of parentheses, NOT and OR (S3).
        bad_before_login, bad_after_login: that many commands in a row answered BAD end
            the connection (S3, T51).
        login_timeout: seconds from connect to login, whatever is sent meanwhile (S3).
        idle_timeout: seconds without a command until logout, at least 1800
            (RFC 3501 §5.4, T34).
        write_timeout: seconds that a client may leave our output untaken (T52).
        idle_notify_interval: seconds between `* OK Still here` in IDLE; 0 for none (DOV-2).
        working_interval: seconds after which a running command says so; 0 for never (T53).
        auth_response: octets of one line in AUTHENTICATE, base64 (S3).
        disabled_capabilities: not offered to anybody, upper case.
        workarounds: for weak clients, of `WORKAROUNDS`; none by default (T55).
        trace: log every command, without passwords (CGP-1).
        input_buffer: octets that may wait behind a running command before the transport is
            paused.
    """

    banner: str = f"mailserver {__version__} ready"
    plaintext_min_cipher: int = 0
    mechanisms: tuple[bytes, ...] = DEFAULT
    hostname: str = "localhost"
    before_login: Limits = BEFORE_LOGIN
    after_login: Limits = AFTER_LOGIN
    nesting_before_login: int = 4
    nesting_after_login: int = 32
    bad_before_login: int = 3
    bad_after_login: int = 20
    login_timeout: float = 60.0
    idle_timeout: float = 1860.0
    write_timeout: float = 300.0
    idle_notify_interval: float = 120.0
    working_interval: float = 30.0
    auth_response: int = 65536
    input_buffer: int = 65536
    workarounds: tuple[str, ...] = ()
    trace: bool = False
    disabled_capabilities: frozenset[bytes] = frozenset()
