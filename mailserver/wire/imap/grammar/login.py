"""Who is there and what may be used: ID, AUTHENTICATE, LOGIN, PROXYAUTH, ENABLE."""

from __future__ import annotations

import re

from mailserver.wire.imap.commands import Authenticate, Enable, Id, Login, ProxyAuth
from mailserver.wire.imap.scanner import Scanner

_BASE64_WORD = re.compile(rb"[A-Za-z0-9+/=]++")

MAX_ID_FIELDS = 30
"""Pairs that ID may hold (RFC 2971 §3.3)."""

MAX_ID_VALUE = 1024
"""Octets that a value of ID may have (RFC 2971 §3.3)."""


def parse_id(scanner: Scanner) -> Id:
    """Read ID (RFC 2971 §3.1)."""
    # id_params_list = "(" #(string SPACE nstring) ")" / nil
    scanner.space()
    start = scanner.at
    if not scanner.opens():
        if scanner.astring("a list or NIL").upper() != b"NIL":
            scanner.fail("expected a list or NIL", start)
        scanner.end()
        return Id(None)
    fields = tuple(scanner.items(_id_field))
    if len(fields) > MAX_ID_FIELDS:
        scanner.fail(f"expected at most {MAX_ID_FIELDS} fields", start)
    scanner.end()
    return Id(fields)


def _id_field(scanner: Scanner) -> tuple[str, str | None]:
    name = scanner.text("the name of a field")
    scanner.space()
    start = scanner.at
    value = scanner.nstring()
    if value is None:
        return name, None
    if len(value) > MAX_ID_VALUE:
        scanner.fail(f"expected a value of at most {MAX_ID_VALUE} octets", start)
    try:
        return name, value.decode("utf-8")
    except UnicodeDecodeError:
        scanner.fail("expected text in UTF-8", start)


def parse_authenticate(scanner: Scanner) -> Authenticate:
    """Read AUTHENTICATE (RFC 3501 §6.2.2, RFC 4959 §3)."""
    # authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp]
    scanner.space()
    mechanism = scanner.keyword("the name of a SASL mechanism")
    if scanner.at_end():
        return Authenticate(mechanism)
    scanner.space()
    match = _BASE64_WORD.match(scanner.octets, scanner.at)
    if match is None:
        scanner.fail("expected an initial response in base64")
    scanner.at = match.end()
    scanner.end()
    return Authenticate(mechanism, match[0])


def parse_login(scanner: Scanner) -> Login:
    """Read LOGIN (RFC 3501 §6.2.3)."""
    # login = "LOGIN" SP userid SP password
    scanner.space()
    user = scanner.text("a user name")
    scanner.space()
    password = scanner.text("a password")
    scanner.end()
    return Login(user, password)


def parse_proxyauth(scanner: Scanner) -> ProxyAuth:
    """Read PROXYAUTH (SUN-14)."""
    # proxyauth = "PROXYAUTH" SP userid
    scanner.space()
    user = scanner.text("a user name")
    scanner.end()
    return ProxyAuth(user)


def parse_enable(scanner: Scanner) -> Enable:
    """Read ENABLE (RFC 5161 §3.1)."""
    # enable = "ENABLE" 1*(SP capability)
    names: list[bytes] = []
    while not names or not scanner.at_end():
        scanner.space()
        names.append(scanner.keyword("the name of a capability"))
    return Enable(tuple(names))
