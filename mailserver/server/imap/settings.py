"""What an operator can set about the IMAP server."""

from __future__ import annotations

import attrs

from mailserver import __version__


@attrs.frozen
class Limits:
    """How much one client may ask for in one command (S3).

    Attributes:
        line: octets of a line.
        command: octets of a command with its literals, those of APPEND's messages not
            counted.
        literal: octets of one literal, those of APPEND's messages not counted.
        literals: number of literals of a command.
        nesting: depth of parentheses, NOT and OR.
        bad_commands: that many in a row are answered with BYE (T51).
    """

    line: int
    command: int
    literal: int
    literals: int
    nesting: int
    bad_commands: int


BEFORE_LOGIN = Limits(line=8192, command=16384, literal=4096, literals=4, nesting=4, bad_commands=3)
AFTER_LOGIN = Limits(
    line=65536, command=262144, literal=262144, literals=1000, nesting=32, bad_commands=20
)


@attrs.frozen
class ImapSettings:
    """Settings of one IMAP listener; the wiring fills them from the options.

    Attributes:
        banner: text of the greeting (SUN-5).
        plaintext_min_cipher: `plaintextmincipher` (SUN-11): 0 allows passwords without
            TLS, more than 0 only with it, -1 never.
        before_login, after_login: limits of what is read (S3).
        login_timeout: seconds from connect to login, whatever is sent meanwhile (S3).
        idle_timeout: seconds without a command until logout, at least 1800
            (RFC 3501 §5.4, T34).
        write_timeout: seconds that a client may leave our output untaken (T52).
        idle_notify_interval: seconds between `* OK Still here` in IDLE; 0 for none (DOV-2).
        working_interval: seconds after which a running command says so; 0 for never (T53).
        auth_response: octets of one line in AUTHENTICATE, base64 (S3).
        input_buffer: octets that may wait behind a running command before the transport is
            paused.
    """

    banner: str = f"mailserver {__version__} ready"
    plaintext_min_cipher: int = 0
    before_login: Limits = BEFORE_LOGIN
    after_login: Limits = AFTER_LOGIN
    login_timeout: float = 60.0
    idle_timeout: float = 1860.0
    write_timeout: float = 300.0
    idle_notify_interval: float = 120.0
    working_interval: float = 30.0
    auth_response: int = 65536
    input_buffer: int = 65536
