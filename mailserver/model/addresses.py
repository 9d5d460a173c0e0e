"""Account names and mail addresses: the one function that says what a name is (S8).

Everything that names an account passes `canonical_address` before it is looked up,
compared or kept:

- the local part is NFC and lower case, quoting removed: `"Joe"@…` is `joe@…`;
- the domain is lower case and in A-labels (RFC 5890 §2.3.2.1: `xn--…`), because a reply
  or a header with it needs no SMTPUTF8; `display_domain` shows it to people.

Syntax is that of RFC 5321 §4.1.2 with the letters that RFC 6531 §3.3 adds. What a *new*
account may be called is narrower: see `account_name`.
"""

from __future__ import annotations

import re
import unicodedata

import attrs
import idna

from mailserver.errors import ErrorKind, MailError

MAX_LOCAL_OCTETS = 64
"""Octets (UTF-8) of a local part, RFC 5321 §4.5.3.1.1."""

MAX_TEXT = 2000
"""Characters of an address or a domain as they are written: more than any that can be used
has, however quoted, escaped and decomposed. A longer one is not looked at, because to
compose a long text of combining marks takes quadratic time (S5)."""

MAX_DOMAIN_OCTETS = 255
"""Octets of a domain in A-labels, RFC 5321 §4.5.3.1.2."""

SUBADDRESS_SEPARATOR = "+"
"""Stands between user and detail in a local part (RFC 5233 §1)."""

# Dot-string = Atom *("." Atom), RFC 5321 §4.1.2; RFC 6531 §3.3 adds UTF8-non-ascii to atext.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
# Quoted-string = DQUOTE *(qtextSMTP / quoted-pairSMTP) DQUOTE, RFC 5321 §4.1.2.
_QUOTED_STRING = re.compile(r'"((?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# sub-domain = Let-dig [Ldh-str], RFC 5321 §4.1.2; a label has at most 63 octets (RFC 1035).
_ASCII_DOMAIN = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)

_NOT_IN_ACCOUNT_NAMES = frozenset('/%*"(),:;<>@[\\] ')
# `/` ends a user's name in `~user/folder`, `%` and `*` are LIST's wildcards, the others
# would have to be quoted wherever the address is written.
_NOT_FIRST = frozenset("~#$-.")
# `~` and `#` start namespaces and quota roots, `$` groups and `-` negative rights in ACLs
# (RFC 4314 §2).


@attrs.frozen
class Address:
    """An address taken apart.

    Attributes:
        local: local part without quoting, NFC, in the case in which it was written.
        domain: canonical domain; empty where none was written.
    """

    local: str
    domain: str

    @property
    def name(self) -> str:
        """The canonical form as one text: `local@domain`, or the local part alone."""
        local = fold(self.local)
        return f"{local}@{self.domain}" if self.domain else local


def fold(local: str) -> str:
    """Return the one spelling of a local part: NFC, lower case."""
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())


def canonical_domain(domain: str) -> str:
    """Return the one spelling of a domain: lower case, A-labels.

    Raises:
        MailError: INVALID with the reason.
    """
    if len(domain) > MAX_TEXT:
        raise _bad_domain(domain, f"it is longer than {MAX_DOMAIN_OCTETS} octets")
    text = domain.lower()
    if not text.isascii() or "xn--" in text:
        try:
            text = idna.encode(text, uts46=True, transitional=False).decode("ascii")
        except idna.IDNAError as error:
            raise _bad_domain(domain, str(error)) from None
    if len(text) > MAX_DOMAIN_OCTETS:
        raise _bad_domain(domain, f"it is longer than {MAX_DOMAIN_OCTETS} octets")
    if not _ASCII_DOMAIN.fullmatch(text):
        raise _bad_domain(domain, "labels are 1 to 63 letters, digits and inner hyphens")
    return text


def display_domain(domain: str) -> str:
    """Return a canonical domain with its A-labels as U-labels, for people."""
    if "xn--" not in domain:
        return domain
    try:
        return idna.decode(domain)
    except idna.IDNAError:
        return domain


def parse_address(text: str) -> Address:
    """Take an address apart (RFC 5321 §4.1.2 `Mailbox`, RFC 6531 §3.3).

    A local part alone is allowed; `@` inside quotes belongs to the local part.

    Raises:
        MailError: INVALID with the reason.
    """
    if len(text) > MAX_TEXT:
        raise _bad_address(text, f"it is longer than {MAX_TEXT} characters")
    local, at, domain = text.rpartition("@")
    if not at or (text.startswith('"') and _QUOTED_STRING.fullmatch(text)):
        local, at, domain = text, "", ""
    if local.startswith('"'):
        quoted = _QUOTED_STRING.fullmatch(local)
        if quoted is None:
            raise _bad_address(text, "the quoted local part is not well-formed")
        local = _QUOTED_PAIR.sub(r"\1", quoted[1])
    elif not _DOT_STRING.fullmatch(local):
        raise _bad_address(text, "the local part is empty, has a misplaced dot, or needs quoting")
    if not local.isascii():
        local = unicodedata.normalize("NFC", local)
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in local):
            raise _bad_address(text, "it holds a control character")
    if not local:
        raise _bad_address(text, "the local part is empty")
    if len(fold(local).encode("utf-8")) > MAX_LOCAL_OCTETS:
        raise _bad_address(text, f"the local part is longer than {MAX_LOCAL_OCTETS} octets")
    return Address(local, canonical_domain(domain) if at else "")


def canonical_address(text: str, default_domain: str = "") -> str:
    """Return the one spelling of an address: `local@domain` (S8).

    Args:
        default_domain: canonical domain for an address without one; may be empty.

    Raises:
        MailError: INVALID with the reason.
    """
    address = parse_address(text)
    if not address.domain and default_domain:
        address = attrs.evolve(address, domain=default_domain)
    return address.name


def account_name(text: str, default_domain: str = "") -> str:
    """Return the canonical name for a new account or alias, `local@domain`.

    Raises:
        MailError: INVALID with the reason: not an address, no domain, or characters that
            would be misread in mailbox names, ACL entries or LIST patterns.
    """
    name = canonical_address(text, default_domain)
    local, at, _ = name.rpartition("@")
    if not at:
        raise _bad_address(text, "an account's name is an address with its domain")
    for letter in local:
        if letter in _NOT_IN_ACCOUNT_NAMES:
            raise _bad_address(text, f"an account's name must not hold {letter!r}")
        if unicodedata.category(letter)[0] in "CZ":
            raise _bad_address(text, f"an account's name must not hold U+{ord(letter):04X}")
    if local[0] in _NOT_FIRST:
        raise _bad_address(text, f"an account's name must not start with {local[0]!r}")
    return name


def _bad_address(text: str, reason: str) -> MailError:
    return MailError(
        ErrorKind.INVALID, f"{text[:100]!r} is not a usable address: {reason}", subject=text
    )


def _bad_domain(domain: str, reason: str) -> MailError:
    return MailError(
        ErrorKind.INVALID, f"{domain[:100]!r} is not a domain: {reason}", subject=domain
    )
