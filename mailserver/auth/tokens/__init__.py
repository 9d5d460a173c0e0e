"""Bearer tokens of OAuth servers: whose they are, and that they are good (RFC 6750)."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import Interface

from mailserver.errors import ErrorKind, MailError


class TokenExpired(MailError):
    """A token that was good until some time ago."""

    def __init__(self) -> None:
        super().__init__(ErrorKind.AUTHENTICATION_FAILED, "the token has expired")


class ITokenVerifier(Interface):
    """Tells whose a token is."""

    async def login_name(token: str) -> str:
        """Verify a token and return the login name that it says.

        Raises:
            TokenExpired: it is too old.
            MailError: AUTHENTICATION_FAILED (with the reason, for the log),
                AUTHORIZATION_FAILED (it has not the scope that is needed), UNAVAILABLE
                (keys or OAuth server cannot be reached).
        """

    def advice() -> Mapping[str, str]:
        """What a client whose token is refused is told: `scope` and
        `openid-configuration`, where they are configured (RFC 7628 §3.2.2)."""
