"""Where accounts and their passwords come from."""

from __future__ import annotations

from mailserver.auth.schemes import SCHEMES
from mailserver.service.kinds import BOOLEAN, PATH, TEXT, choice, choices, duration, integer, words
from mailserver.service.options.option import Rows

OPTIONS = Rows()


def _uri(word: str) -> str:
    if not word.startswith(("ldap://", "ldaps://", "ldapi://")):
        raise ValueError(f"{word!r} does not begin with ldap://, ldaps:// or ldapi://")
    return word


def _pair(word: str) -> str:
    ours, equals, _ = word.partition("=")
    if not ours or not equals:
        raise ValueError(f"{word!r} is not of the form ours=theirs")
    return word


SOURCES = OPTIONS.row(
    "auth.sources",
    choices("directory", "passwd-file", "ldap", "pam"),
    ("directory",),
    "Where accounts and passwords come from, in the order in which they are asked",
)
FRESH_FOR = OPTIONS.row(
    "auth.sourcefreshfor",
    duration(0, 86400),
    60.0,
    "How long what another source said of an account is not asked again",
)
PASSWD_FILE = OPTIONS.row(
    "auth.passwdfile.path",
    PATH,
    None,
    "A passwd-file as Dovecot has it; read again when it changes",
)
PASSWD_FILE_SCHEME = OPTIONS.row(
    "auth.passwdfile.defaultscheme",
    choice(*(name.lower() for name in SCHEMES)),
    "crypt",
    "Scheme of its passwords that name none",
)
LDAP_URIS = OPTIONS.row(
    "auth.ldap.uri",
    words("URIs such as ldaps://ldap.example.org", _uri),
    (),
    "LDAP servers with the same content, tried in order",
)
LDAP_BASE = OPTIONS.row("auth.ldap.base", TEXT, "", "Where searches begin: dc=example,dc=org")
LDAP_SCOPE = OPTIONS.row(
    "auth.ldap.scope", choice("subtree", "onelevel", "base"), "subtree", "How far they go"
)
LDAP_FILTER = OPTIONS.row(
    "auth.ldap.filter",
    TEXT,
    "(|(mail=%u)(mailAlternateAddress=%u)(uid=%u))",
    "What is searched for: %u is the name, %n and %d its parts before and after @",
)
LDAP_METHOD = OPTIONS.row(
    "auth.ldap.method",
    choice("bind", "compare"),
    "bind",
    "bind: the server checks passwords; compare: they are read and checked here",
)
LDAP_BIND_DN = OPTIONS.row(
    "auth.ldap.binddn", TEXT, "", "Name under which to search; empty for none"
)
LDAP_BIND_PASSWORD = OPTIONS.row("auth.ldap.bindpassword", TEXT, "", "Its password", is_secret=True)
LDAP_BIND_PASSWORD_FILE = OPTIONS.row(
    "auth.ldap.bindpasswordfile", PATH, None, "A file whose first line is its password"
)
LDAP_STARTTLS = OPTIONS.row(
    "auth.ldap.starttls", BOOLEAN, False, "Begin TLS on ldap:// before anything is sent"
)
LDAP_CA_FILE = OPTIONS.row(
    "auth.ldap.cafile", PATH, None, "PEM certificates to trust; empty for the system's"
)
LDAP_TIMEOUT = OPTIONS.row(
    "auth.ldap.timeout", duration(0.1, 60), 5.0, "How long a connection or an answer may take"
)
LDAP_CONNECTIONS = OPTIONS.row(
    "auth.ldap.connections", integer(1, 64), 4, "Searches, and binds, at the same time"
)
LDAP_RETRY = OPTIONS.row(
    "auth.ldap.retry", duration(0, 3600), 5.0, "Pause after a server could not be asked"
)
LDAP_ATTRIBUTES = OPTIONS.row(
    "auth.ldap.attributes",
    words("pairs such as mailQuota=quotaBytes", _pair),
    (),
    "Names of attributes where they are not the Sun schema's; mailHost= leaves one out",
)
LDAP_PASSWORD_ATTRIBUTE = OPTIONS.row(
    "auth.ldap.passwordattribute", TEXT, "userPassword", "What is read to compare"
)
PAM_SERVICE = OPTIONS.row("auth.pam.service", TEXT, "mailserver", "Name of a file in /etc/pam.d")
PAM_NAMES = OPTIONS.row(
    "auth.pam.names",
    choice("local", "full"),
    "local",
    "What PAM gets: joe for joe@ the default domain, or joe@example.org",
)
PAM_SYSTEM_USERS = OPTIONS.row(
    "auth.pam.systemusers",
    BOOLEAN,
    True,
    "PAM's users are the system's; if not, an account is there from its first login on",
)
PAM_FIRST_UID = OPTIONS.row(
    "auth.pam.firstuid", integer(0, 2**32 - 2), 1000, "System users with lower numbers have none"
)
PAM_THREADS = OPTIONS.row("auth.pam.threads", integer(1, 64), 4, "PAM checks at the same time")
