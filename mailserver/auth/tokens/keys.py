"""The public keys that an OAuth server signs tokens with (RFC 7517)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from jwt.types import JWKDict
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mailserver.auth.tokens.http import JsonSource
from mailserver.errors import ErrorKind, MailError

MAX_KEYS = 100
"""Keys of a set that are looked at."""

STALE_AFTER = 86400.0
"""Seconds for which keys are used that cannot be fetched anew."""


@attrs.frozen
class Key:
    """One key.

    Attributes:
        id: its `kid`, empty if it has none.
        type: `RSA`, `EC` or `OKP`.
        algorithm: the only one that it is for; empty for any of its type.
        public: what `jwt` verifies with.
    """

    id: str
    type: str
    algorithm: str
    public: Any = attrs.field(repr=False)


def read_keys(document: Any) -> tuple[Key, ...]:
    """Read a set of keys (RFC 7517 §5).

    Members that cannot be used are left out: keys for encryption, shared secrets, types
    that are not known.

    Raises:
        ValueError: it is no such set, or holds no key that can be used.
    """
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("not a set of keys: a JSON object with the member keys")
    keys = [key for one in members[:MAX_KEYS] if (key := _key(one)) is not None]
    if not keys:
        raise ValueError("no key in it with which signatures can be checked")
    return tuple(keys)


def _key(member: Any) -> Key | None:
    if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if member.get("use", "sig") != "sig":
        return None
    texts = {name: member.get(name, "") for name in ("kid", "alg")}
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    # Only the public half, whatever is written there.
    public: JWKDict = {name: value for name, value in member.items() if name not in _PRIVATE}
    try:
        made = PyJWK(public)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    return Key(texts["kid"], member["kty"], texts["alg"], made.key)


_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_TYPES: Mapping[str, str] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""First letters of an algorithm's name → type of its keys."""


class FixedKeys:
    """Keys of a file, read once."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def load(cls, file: Path) -> FixedKeys:
        """Read a file.

        Raises:
            OSError: it cannot be read.
            ValueError: with the reason.
        """
        return cls(read_keys(json.loads(file.read_bytes())))

    async def find(self, id: str, algorithm: str) -> Sequence[Key]:
        """See `FetchedKeys.find`."""
        return matching(self._keys, id, algorithm)


def matching(keys: Sequence[Key], id: str, algorithm: str) -> list[Key]:
    """Those of the keys that may have signed a token."""
    type = _TYPES[algorithm[:2]]
    return [
        key
        for key in keys
        if key.type == type
        and (not id or key.id == id)
        and (not key.algorithm or key.algorithm == algorithm)
    ]


class FetchedKeys:
    """Keys of a URL: fetched when they are first needed, again when they are old, and when a
    token names one that is not among them, at most once in a while.

    Keys that cannot be fetched anew are used for a day.

    Args:
        source: fetches.
        url: of the set.
        clock: for their age.
        kept_for: seconds until they are old.
        pause: seconds between two attempts, at least.
    """

    _log = Logger()

    def __init__(
        self,
        source: JsonSource,
        url: str,
        clock: IReactorTime,
        *,
        kept_for: float = 3600.0,
        pause: float = 30.0,
    ) -> None:
        self._source = source
        self._url = url
        self._clock = clock
        self._kept_for = kept_for
        self._pause = pause
        self._keys: tuple[Key, ...] = ()
        self._fetched_at = -STALE_AFTER
        self._tried_at: float | None = None
        self._fault = ""
        self._waiting: list[Deferred[None]] | None = None  # while a fetch is under way

    async def find(self, id: str, algorithm: str) -> Sequence[Key]:
        """The keys that may have signed a token, none if there is no such key.

        Args:
            id: `kid` of the token, empty if it has none.
            algorithm: `alg` of the token, one of `verifier.ALGORITHMS`.

        Raises:
            MailError: UNAVAILABLE if there are no keys at all.
        """
        age = self._clock.seconds() - self._fetched_at
        if age > self._kept_for:
            await self._refresh()
        found = matching(self._keys, id, algorithm)
        if not found and await self._refresh():
            found = matching(self._keys, id, algorithm)
        if not self._keys or self._clock.seconds() - self._fetched_at > STALE_AFTER:
            raise MailError(ErrorKind.UNAVAILABLE, f"no keys to check tokens with: {self._fault}")
        return found

    async def _refresh(self) -> bool:
        """Fetch, unless that was tried a moment ago. False if nothing was done."""
        if self._waiting is not None:  # whoever comes meanwhile waits for the same
            waits: Deferred[None] = Deferred()
            self._waiting.append(waits)
            await waits
            return True
        now = self._clock.seconds()
        if self._tried_at is not None and now - self._tried_at < self._pause:
            return False
        self._tried_at = now
        self._waiting = []
        try:
            self._keys = read_keys(await self._source.get(self._url))
            self._fetched_at = self._clock.seconds()
        except MailError as error:
            self._failed(error.text)
        except ValueError as error:
            self._failed(f"{self._url}: {error}")
        finally:
            waiting, self._waiting = self._waiting, None
            for one in waiting:
                one.callback(None)
        return True

    def _failed(self, reason: str) -> None:
        self._fault = reason
        self._log.warn("keys of tokens could not be fetched: {reason}", reason=reason)
