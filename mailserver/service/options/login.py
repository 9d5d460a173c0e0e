"""Names, logins and how often they may fail."""

from __future__ import annotations

from mailserver.service.kinds import (
    ACCOUNTS,
    BOOLEAN,
    DOMAIN,
    NETWORKS,
    TEXT,
    duration,
    integer,
    size,
    words,
)
from mailserver.service.options.option import COUNT, COUNT_OR_NONE, RELOAD, Rows
from mailserver.wire.sasl import DEFAULT
from mailserver.wire.sasl import MECHANISMS as KNOWN

OPTIONS = Rows()


def _mechanism(word: str) -> str:
    known = [name.decode("ascii") for name in KNOWN]
    if word.upper() not in known:
        raise ValueError(f"{word!r} is none of: {', '.join(known)}")
    return word.upper()


DEFAULT_DOMAIN = OPTIONS.row(
    "service.defaultdomain", DOMAIN, "", "Domain of login names and addresses without one", RELOAD
)
LOGIN_SEPARATOR = OPTIONS.row(
    "service.loginseparator", TEXT, "@+", "Characters that may stand for @ in a login name", RELOAD
)
STORE_ADMINS = OPTIONS.row(
    "store.admins", ACCOUNTS, (), "Accounts that may act as any other (SASL authzid)", RELOAD
)
MECHANISMS = OPTIONS.row(
    "auth.mechanisms",
    words("SASL mechanisms", _mechanism),
    tuple(name.decode("ascii") for name in DEFAULT),
    "SASL mechanisms that are offered where they can work",
    RELOAD,
)
TRUSTED_HOSTS = OPTIONS.row(
    "service.trustedhosts",
    NETWORKS,
    (),
    "Proxies and webmail hosts: limits per address do not hold for them",
    RELOAD,
)
MAX_SESSIONS_PER_USER = OPTIONS.row(
    "service.maxsessionsperuser",
    COUNT_OR_NONE,
    50,
    "Sessions of one account from one address; 0 for no limit",
    RELOAD,
)
MAX_SESSIONS_PER_ACCOUNT = OPTIONS.row(
    "service.maxsessionsperaccount",
    COUNT_OR_NONE,
    500,
    "Sessions of one account from everywhere; 0 for no limit",
    RELOAD,
)
MAX_SESSIONS_PER_ADDRESS = OPTIONS.row(
    "service.maxsessionsperaddress",
    COUNT_OR_NONE,
    100,
    "Connections from one address that have not logged in; 0 for no limit",
    RELOAD,
)
AUTH_THREADS = OPTIONS.row("auth.threads", integer(1, 64), 2, "Passwords that are checked at once")
AUTH_QUEUE = OPTIONS.row("auth.queue", COUNT, 1000, "Password checks that may wait")
AUTH_QUEUE_PER_ADDRESS = OPTIONS.row(
    "auth.queueperaddress", COUNT, 50, "Password checks from one address that may wait"
)
AUTH_REMEMBERED = OPTIONS.row(
    "auth.remembered", COUNT_OR_NONE, 10_000, "Verified passwords kept as a digest; 0 for none"
)
AUTH_REMEMBERED_FOR = OPTIONS.row(
    "auth.rememberedfor", duration(1), 3600.0, "How long a verified password is kept"
)
ARGON2_TIME = OPTIONS.row(
    "auth.argon2.time", integer(1, 100), 2, "Passes of argon2id over the memory"
)
ARGON2_MEMORY = OPTIONS.row(
    "auth.argon2.memory", size(64 * 1024, 2**32), 19 * 2**20, "Memory of one argon2id computation"
)
ARGON2_PARALLELISM = OPTIONS.row("auth.argon2.parallelism", integer(1, 16), 1, "Lanes of argon2id")
SCRAM_ITERATIONS = OPTIONS.row(
    "auth.scram.iterations",
    integer(4096, 10_000_000),
    10_000,
    "Iterations of a new password's SCRAM keys (RFC 7677)",
)
SCRAM_SHA1 = OPTIONS.row("auth.scram.sha1", BOOLEAN, False, "Also make SCRAM-SHA-1 keys")
THROTTLE_FIRST_DELAY = OPTIONS.row(
    "auth.throttle.firstdelay", duration(0, 60), 2.0, "Wait after a failed login; doubles"
)
THROTTLE_MAX_DELAY = OPTIONS.row(
    "auth.throttle.maxdelay", duration(0, 300), 15.0, "What that wait grows to"
)
THROTTLE_WINDOW = OPTIONS.row(
    "auth.throttle.window", duration(1), 600.0, "How long a failure counts"
)
THROTTLE_MAX_WAIT = OPTIONS.row(
    "auth.throttle.maxwait", duration(0, 600), 30.0, "Tries that would wait longer are refused"
)
THROTTLE_ENTRIES = OPTIONS.row(
    "auth.throttle.entries", COUNT, 10_000, "Addresses and names whose failures are remembered"
)
