"""The verifier of bearer tokens, as the options say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mailserver.auth.tokens.http import HttpClient
from mailserver.auth.tokens.introspection import Introspection, IntrospectionServer
from mailserver.auth.tokens.keys import FetchedKeys, FixedKeys
from mailserver.auth.tokens.verifier import KeySet, TokenRules, TokenVerifier
from mailserver.service import options as o
from mailserver.service.config import ConfigurationError, Problem, Settings
from mailserver.service.options.option import Option


def load_tokens(settings: Settings, reactor: Any) -> TokenVerifier | None:
    """Make the verifier; None where no tokens are taken.

    Nothing is fetched yet: an OAuth server that is down does not stop the start.

    Raises:
        ConfigurationError: naming option, file and reason.
    """
    keys_file, keys_url = settings[o.oauth.KEYS_FILE], settings[o.oauth.KEYS_URL]
    introspection_url = settings[o.oauth.INTROSPECTION_URL]
    if keys_file is None and not keys_url and not introspection_url:
        return None
    leeway = settings[o.oauth.LEEWAY]
    client = _client(settings, reactor)
    keys: KeySet | None = None
    if keys_file is not None:
        keys = _keys_of(keys_file)
    elif keys_url:
        keys = FetchedKeys(client, keys_url, reactor, kept_for=settings[o.oauth.KEYS_KEPT])
    introspection = None
    if introspection_url:
        server = IntrospectionServer(
            introspection_url,
            settings[o.oauth.CLIENT_ID],
            settings[o.oauth.CLIENT_SECRET],
            settings[o.oauth.REMEMBERED_FOR],
        )
        introspection = Introspection(client, server, reactor, time.time, leeway=leeway)
    rules = TokenRules(
        issuer=settings[o.oauth.ISSUER],
        audience=settings[o.oauth.AUDIENCE],
        claim=settings[o.oauth.CLAIM],
        scope=settings[o.oauth.SCOPE],
        algorithms=settings[o.oauth.TOKEN_ALGORITHMS],
        leeway=leeway,
        configuration=settings[o.oauth.CONFIGURATION_URL],
    )
    return TokenVerifier(rules, keys, introspection)


def _client(settings: Settings, reactor: Any) -> HttpClient:
    authorities = settings[o.oauth.AUTHORITIES]
    try:
        return HttpClient(reactor, settings[o.oauth.TIMEOUT], authorities)
    except (OSError, ValueError) as error:
        raise _wrong(authorities, o.oauth.AUTHORITIES, error) from error


def _keys_of(file: Path) -> FixedKeys:
    try:
        return FixedKeys.load(file)
    except (OSError, ValueError) as error:
        raise _wrong(file, o.oauth.KEYS_FILE, error) from error


def _wrong(
    file: Path | None, option: Option[Path | None], error: OSError | ValueError
) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ConfigurationError([Problem(str(file), None, option.name, reason or str(error))])
