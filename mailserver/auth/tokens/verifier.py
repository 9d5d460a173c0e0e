"""What a bearer token has to say before it lets somebody in.

A JSON Web Token (RFC 7519) is checked here, with the keys of the OAuth server; any other
token is shown to that server (`introspection`). Either way it must be meant for this server
(audience), come from the issuer that is configured, have the scope that is needed, and say
whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
import jwt
from jwt import exceptions as fault
from zope.interface import implementer

from mailserver.auth.tokens import ITokenVerifier, TokenExpired
from mailserver.auth.tokens.introspection import Introspection
from mailserver.auth.tokens.keys import Key
from mailserver.errors import ErrorKind, MailError

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Those with a public key; with a shared secret whoever checks tokens could make them
(RFC 8725 §3.2)."""


@attrs.frozen
class TokenRules:
    """What a token has to say.

    Attributes:
        issuer: `iss`; empty: not looked at.
        audience: one of which must be in `aud`; empty: not looked at.
        claim: which one names the account.
        scope: that must be among those of the token; empty: none.
        algorithms: of signatures, out of `ALGORITHMS`.
        leeway: seconds by which clocks may differ.
        configuration: URL that refused clients are told (`openid-configuration`); may be
            empty.
    """

    issuer: str = ""
    audience: tuple[str, ...] = ()
    claim: str = "email"
    scope: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 60.0
    configuration: str = ""


class KeySet(Protocol):
    """Keys to check signatures with."""

    async def find(self, id: str, algorithm: str) -> Sequence[Key]:
        """See `FetchedKeys.find`."""


def refused(reason: str) -> MailError:
    """A token that is not good."""
    return MailError(ErrorKind.AUTHENTICATION_FAILED, f"token: {reason}")


@implementer(ITokenVerifier)
class TokenVerifier:
    """Checks tokens.

    Args:
        rules: for all of them.
        keys: for those that carry a signature; None: they are shown to the server too.
        introspection: shows the others to the server; None: they are refused.
    """

    def __init__(
        self, rules: TokenRules, keys: KeySet | None, introspection: Introspection | None
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._introspection = introspection

    async def login_name(self, token: str) -> str:
        """See `ITokenVerifier`."""
        if self._keys is not None and token.count(".") == 2:
            claims = await self._verified(token, self._keys)
        elif self._introspection is not None:
            claims = await self._introspection.claims(token)
            self._check_introspected(claims)
        else:
            raise refused("it is no JSON Web Token")
        return self._name_of(claims)

    def advice(self) -> Mapping[str, str]:
        """See `ITokenVerifier`."""
        values = {
            "scope": self._rules.scope,
            "openid-configuration": self._rules.configuration,
        }
        return {name: value for name, value in values.items() if value}

    async def _verified(self, token: str, keys: KeySet) -> Mapping[str, Any]:
        """The claims of a token whose signature is right (RFC 7519 §7.2)."""
        rules = self._rules
        try:
            header = jwt.get_unverified_header(token)
        except (fault.PyJWTError, RecursionError) as error:
            raise refused(str(error)) from error
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in rules.algorithms or not isinstance(key_id, str):
            raise refused("its algorithm is not allowed")  # RFC 8725 §3.1
        for key in await keys.find(key_id, algorithm):
            try:
                return jwt.decode(
                    token,
                    key.public,
                    algorithms=[algorithm],
                    audience=rules.audience or None,
                    issuer=rules.issuer or None,
                    leeway=rules.leeway,
                    options={"require": ["exp"], "verify_aud": bool(rules.audience)},
                )
            except fault.InvalidSignatureError:
                continue  # another key, where the token names none
            except fault.ExpiredSignatureError as error:
                raise TokenExpired from error
            except (fault.PyJWTError, ValueError, TypeError, RecursionError) as error:
                raise refused(str(error)) from error
        raise refused("no key that is trusted has signed it")

    def _check_introspected(self, claims: Mapping[str, Any]) -> None:
        """What the server says of a token must suit us too (RFC 7662 §2.2)."""
        rules = self._rules
        if rules.issuer and claims.get("iss", rules.issuer) != rules.issuer:
            raise refused("it is of another issuer")
        audience = claims.get("aud", ())
        meant_for = [audience] if isinstance(audience, str) else audience
        if rules.audience and not (
            isinstance(meant_for, Sequence) and set(rules.audience) & set(map(str, meant_for))
        ):
            raise refused("it is not meant for this server")

    def _name_of(self, claims: Mapping[str, Any]) -> str:
        rules = self._rules
        if rules.scope and rules.scope not in _scopes(claims):
            raise MailError(
                ErrorKind.AUTHORIZATION_FAILED, f"token: it has not the scope {rules.scope}"
            )
        name = claims.get(rules.claim)
        if not isinstance(name, str) or not name:
            raise refused(f"it has no claim {rules.claim}")
        if rules.claim == "email" and claims.get("email_verified", True) is not True:
            raise refused("its address has not been verified")  # anybody may have claimed it
        return name


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """`scope` is a text with spaces between (RFC 7662 §2.2); some servers write a list, and
    Microsoft's call it `scp`."""
    value = claims.get("scope", claims.get("scp", ""))
    return frozenset(value.split() if isinstance(value, str) else map(str, value or ()))
