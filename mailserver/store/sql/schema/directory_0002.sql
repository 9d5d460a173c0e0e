-- Accounts that other sources know as well, and passwords for single devices.

-- What a source (a passwd-file, LDAP, PAM) said last of an account. Where it says something,
-- that wins over the account's own row; NULL where it says nothing.
CREATE TABLE sourced (
    account TEXT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    source TEXT NOT NULL,                   -- label of the source
    made INTEGER NOT NULL,                  -- 1: the account came to be because of the source
    status TEXT,                            -- AccountStatus
    display_name TEXT,
    storage_limit INTEGER,                  -- octets, -1 for no limit
    message_limit INTEGER,                  -- messages, -1 for no limit
    allowed_services TEXT,
    mail_host TEXT
) STRICT, WITHOUT ROWID;

-- Which of an account's addresses are of the source alone, to go when it no longer says them.
CREATE TABLE sourced_alias (
    address TEXT PRIMARY KEY REFERENCES address (address) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE app_password (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,                     -- for people
    services TEXT NOT NULL,                 -- words, ascending, between single spaces; '' for all
    digest BLOB NOT NULL,                   -- SHA-256 of the password
    scram_sha256 TEXT NOT NULL,             -- as in verifier; may be empty
    scram_sha1 TEXT NOT NULL,
    created INTEGER NOT NULL,               -- seconds since 1970 UTC
    last_used INTEGER,                      -- the same, to some minutes
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;
