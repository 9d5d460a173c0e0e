"""The CAPABILITY list, computed (RFC 3501 §7.2.1).

One table says in which order the tokens come and in which state each is shown. Which of
them a server has is not written here: it offers what its command rows, its store and its
configuration really provide (SUN-51, T38).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum

import attrs


class Shown(Enum):
    """When a token is shown."""

    ALWAYS = "always"
    BEFORE_LOGIN = "before login"
    AFTER_LOGIN = "after login"


@attrs.frozen
class Row:
    """One capability: its token and when it is shown."""

    token: bytes
    shown: Shown = Shown.AFTER_LOGIN


IMAP4REV1 = b"IMAP4rev1"
STARTTLS = b"STARTTLS"
LOGINDISABLED = b"LOGINDISABLED"
SASL_IR = b"SASL-IR"
APPENDLIMIT = b"APPENDLIMIT"
LITERAL_PLUS = b"LITERAL+"
LITERAL_MINUS = b"LITERAL-"

ROWS: tuple[Row, ...] = (
    Row(IMAP4REV1, Shown.ALWAYS),
    Row(LITERAL_PLUS, Shown.ALWAYS),  # RFC 7888
    Row(LITERAL_MINUS, Shown.ALWAYS),
    Row(SASL_IR, Shown.BEFORE_LOGIN),  # RFC 4959
    Row(b"LOGIN-REFERRALS", Shown.BEFORE_LOGIN),  # RFC 2221
    Row(b"ID", Shown.ALWAYS),  # RFC 2971
    Row(b"ENABLE", Shown.ALWAYS),  # RFC 5161
    Row(b"IDLE", Shown.ALWAYS),  # RFC 2177
    Row(b"NAMESPACE"),  # RFC 2342
    Row(b"CHILDREN"),  # RFC 3348
    Row(b"UNSELECT"),  # RFC 3691
    Row(b"UIDPLUS"),  # RFC 4315
    Row(b"MOVE"),  # RFC 6851
    Row(b"LIST-EXTENDED"),  # RFC 5258
    Row(b"LIST-STATUS"),  # RFC 5819
    Row(b"SPECIAL-USE"),  # RFC 6154
    Row(b"CREATE-SPECIAL-USE"),  # RFC 6154
    Row(b"STATUS=SIZE"),  # RFC 8438
    Row(b"ESEARCH"),  # RFC 4731
    Row(b"MULTIAPPEND"),  # RFC 3502
    Row(APPENDLIMIT),  # RFC 7889
    Row(b"BINARY"),  # RFC 3516
)
"""Every capability with a place of its own; others follow after login, ascending."""


@attrs.frozen
class State:
    """What the list depends on beside what is offered.

    Attributes:
        authenticated: after login.
        tls: the connection is encrypted.
        starttls: STARTTLS could be done: a certificate is there (SUN-4).
        password_login: LOGIN is allowed now (SUN-11).
        mechanisms: SASL mechanisms allowed now, upper case, in the order to be shown.
        append_limit: octets of one message where all mailboxes have the same limit, else
            None (RFC 7889 §2).
        disabled: tokens that this account or installation has switched off, upper case.
    """

    authenticated: bool
    tls: bool
    starttls: bool
    password_login: bool
    mechanisms: Sequence[bytes] = ()
    append_limit: int | None = None
    disabled: frozenset[bytes] = frozenset()


def capability_tokens(offered: Collection[bytes], state: State) -> tuple[bytes, ...]:
    """Compute the tokens in order.

    Args:
        offered: capabilities that commands, store and configuration provide, in the
            spelling of `ROWS`; IMAP4rev1, STARTTLS, LOGINDISABLED and AUTH= come from
            `state` and need not be among them.

    Returns:
        Tokens without doubles. After login there is no STARTTLS, LOGINDISABLED or AUTH=
        (T38); STARTTLS is never shown under TLS (T2); of LITERAL+ and LITERAL- only
        LITERAL+ is shown where both are offered (T56).
    """
    wanted = {*offered, IMAP4REV1} - {LOGINDISABLED, STARTTLS}
    if LITERAL_PLUS in wanted and LITERAL_PLUS not in state.disabled:
        wanted.discard(LITERAL_MINUS)
    if not state.mechanisms:
        wanted.discard(SASL_IR)
    when = Shown.AFTER_LOGIN if state.authenticated else Shown.BEFORE_LOGIN
    tokens = [
        row.token for row in ROWS if row.token in wanted and row.shown in (Shown.ALWAYS, when)
    ]
    if state.authenticated:
        tokens += sorted(wanted - {row.token for row in ROWS})
    else:
        if state.starttls and not state.tls:
            tokens.append(STARTTLS)
        if not state.password_login:
            tokens.append(LOGINDISABLED)
        tokens += (b"AUTH=" + mechanism for mechanism in state.mechanisms)
    if state.append_limit is not None:
        limit = b"%b=%d" % (APPENDLIMIT, state.append_limit)
        tokens = [limit if token == APPENDLIMIT else token for token in tokens]
    return tuple(token for token in tokens if not _is_disabled(token, state.disabled))


def _is_disabled(token: bytes, disabled: frozenset[bytes]) -> bool:
    """Say whether a token is switched off, also by the name before its `=`.

    IMAP4rev1 cannot be, nor what keeps passwords safe.
    """
    if token in (IMAP4REV1, LOGINDISABLED, STARTTLS):
        return False
    name = token.upper()
    return name in disabled or (name.startswith(APPENDLIMIT) and APPENDLIMIT in disabled)
