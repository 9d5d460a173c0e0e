"""Asking the OAuth server what it knows of a token (RFC 7662)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import attrs
from twisted.internet.interfaces import IReactorTime

from mailserver.auth.tokens import TokenExpired
from mailserver.auth.tokens.http import JsonSource
from mailserver.errors import ErrorKind, MailError

MAX_REMEMBERED = 10_000
"""Tokens whose answers are kept."""


@attrs.frozen
class IntrospectionServer:
    """Whom to ask.

    Attributes:
        url: the endpoint.
        client_id, client_secret: who we are there; no header is sent if the id is empty.
        remembered_for: seconds for which a good answer is kept: a client opens several
            connections at once.
    """

    url: str
    client_id: str = ""
    client_secret: str = attrs.field(default="", repr=False)
    remembered_for: float = 60.0

    @property
    def authorization(self) -> str:
        """Value of the header; both parts are quoted first (RFC 6749 §2.3.1)."""
        if not self.client_id:
            return ""
        pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
        return f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"


class Introspection:
    """Asks, and remembers good answers under a keyed digest of the token.

    Args:
        source: asks.
        server: whom.
        clock: monotonic, for what is remembered.
        now: seconds since 1970 UTC, for what a token says of its end.
        leeway: seconds by which clocks may differ.
        random: gives that many random octets.
    """

    def __init__(
        self,
        source: JsonSource,
        server: IntrospectionServer,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        leeway: float = 60.0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._source = source
        self._server = server
        self._clock = clock
        self._now = now
        self._leeway = leeway
        self._key = random(32)
        self._remembered: OrderedDict[bytes, tuple[float, Mapping[str, Any]]] = OrderedDict()

    async def claims(self, token: str) -> Mapping[str, Any]:
        """What the server says of a token that is good.

        Raises:
            TokenExpired: it was good.
            MailError: AUTHENTICATION_FAILED if it is not, UNAVAILABLE if the server gives
                no answer.
        """
        digest = hashlib.blake2b(token.encode("ascii"), key=self._key, digest_size=32).digest()
        until, claims = self._remembered.get(digest, (0.0, {}))
        if until <= self._clock.seconds():
            claims = await self._ask(token)
            self._remembered[digest] = self._clock.seconds() + self._server.remembered_for, claims
            self._remembered.move_to_end(digest)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        ends = claims.get("exp")
        if isinstance(ends, int | float) and ends + self._leeway <= self._now():
            raise TokenExpired
        return claims

    async def _ask(self, token: str) -> Mapping[str, Any]:
        form = {"token": token, "token_type_hint": "access_token"}
        answer = await self._source.post(self._server.url, form, self._server.authorization)
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            reason = "the answer does not say whether the token is active"
            raise MailError(ErrorKind.UNAVAILABLE, f"{self._server.url}: {reason}")
        if not answer["active"]:
            raise MailError(
                ErrorKind.AUTHENTICATION_FAILED, "token: its server says that it is not active"
            )
        return answer
