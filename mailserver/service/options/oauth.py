"""Bearer tokens of an OAuth server: OAUTHBEARER and XOAUTH2."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mailserver.auth.tokens.verifier import ALGORITHMS
from mailserver.service.kinds import PATH, TEXT, Kind, duration, words
from mailserver.service.options.option import RELOAD, Rows

OPTIONS = Rows()


def _url(value: object, _: Path) -> str:
    text = str(value).strip()
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        is_whole = bool(host) and parts.port != 0 and not parts.fragment and "@" not in parts.netloc
    except ValueError:
        is_whole = False
    if not is_whole or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("takes a URL such as https://id.example.org/keys")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("takes a URL with https; http is good for this host's own addresses only")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


URL: Final = Kind("URL with https, empty for none", "", _url, str)


def _algorithm(word: str) -> str:
    found = {name.lower(): name for name in ALGORITHMS}.get(word.lower())
    if found is None:
        raise ValueError(f"{word!r} is none of: {', '.join(ALGORITHMS)}")
    return found


KEYS_FILE = OPTIONS.row(
    "auth.oauth.jwksfile", PATH, None, "File of the keys that sign tokens (JWKS)", RELOAD
)
KEYS_URL = OPTIONS.row(
    "auth.oauth.jwksurl", URL, "", "Where the keys that sign tokens are fetched (JWKS)", RELOAD
)
KEYS_KEPT = OPTIONS.row(
    "auth.oauth.jwksage", duration(60), 3600.0, "When fetched keys are fetched anew", RELOAD
)
INTROSPECTION_URL = OPTIONS.row(
    "auth.oauth.introspectionurl", URL, "", "Where tokens are asked about (RFC 7662)", RELOAD
)
CLIENT_ID = OPTIONS.row(
    "auth.oauth.clientid", TEXT, "", "Who we are where tokens are asked about", RELOAD
)
CLIENT_SECRET = OPTIONS.row(
    "auth.oauth.clientsecret", TEXT, "", "The password that goes with it", RELOAD, is_secret=True
)
REMEMBERED_FOR = OPTIONS.row(
    "auth.oauth.rememberedfor",
    duration(0, 3600),
    60.0,
    "How long what was said of a good token is kept",
    RELOAD,
)
ISSUER = OPTIONS.row("auth.oauth.issuer", TEXT, "", "Issuer that tokens must name", RELOAD)
AUDIENCE = OPTIONS.row(
    "auth.oauth.audience",
    words("audiences", str),
    (),
    "Audiences of which a token must name one",
    RELOAD,
)
SCOPE = OPTIONS.row("auth.oauth.scope", TEXT, "", "Scope that a token must have", RELOAD)
CLAIM = OPTIONS.row(
    "auth.oauth.claim", TEXT, "email", "Claim of a token that names the account", RELOAD
)
TOKEN_ALGORITHMS = OPTIONS.row(
    "auth.oauth.algorithms",
    words("algorithms such as RS256", _algorithm),
    ("RS256", "ES256"),
    "Algorithms with which tokens may be signed",
    RELOAD,
)
LEEWAY = OPTIONS.row(
    "auth.oauth.leeway", duration(0, 600), 60.0, "By how much clocks may differ", RELOAD
)
TIMEOUT = OPTIONS.row(
    "auth.oauth.timeout", duration(0.1, 60), 5.0, "Time for an answer of the OAuth server", RELOAD
)
AUTHORITIES = OPTIONS.row(
    "auth.oauth.cafile",
    PATH,
    None,
    "Authorities that may vouch for the OAuth server; empty: the system's",
    RELOAD,
)
CONFIGURATION_URL = OPTIONS.row(
    "auth.oauth.configurationurl",
    URL,
    "",
    "OpenID configuration that refused clients are told of",
    RELOAD,
)
