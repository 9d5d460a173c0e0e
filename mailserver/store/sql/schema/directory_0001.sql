-- The directory database: accounts, domains, aliases, routes, password verifiers, and an
-- index of what is shared. Message data are not here; see the accounts' own databases.

CREATE TABLE domain (
    name TEXT PRIMARY KEY                   -- canonical: lower case, A-labels
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    id TEXT PRIMARY KEY,                    -- [0-9a-z]{26}, never used again
    name TEXT NOT NULL UNIQUE,              -- canonical local@domain; also a row of address
    status TEXT NOT NULL,                   -- AccountStatus
    display_name TEXT NOT NULL,
    storage_limit INTEGER,                  -- octets, NULL for no limit
    message_limit INTEGER,                  -- messages, NULL for no limit
    allowed_services TEXT NOT NULL,         -- mailAllowedServiceAccess as written
    mail_host TEXT NOT NULL,
    language TEXT NOT NULL,
    disabled_capabilities TEXT NOT NULL,    -- words, ascending, between single spaces
    created INTEGER NOT NULL                -- seconds since 1970 UTC
) STRICT, WITHOUT ROWID;

-- Every address that leads to an account, its own name among them: one table, so that a
-- name and an alias can never be the same.
CREATE TABLE address (
    address TEXT PRIMARY KEY,               -- canonical local@domain
    domain TEXT NOT NULL REFERENCES domain (name),
    account TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX address_account ON address (account);
CREATE INDEX address_domain ON address (domain);

CREATE TABLE verifier (
    account TEXT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    argon2id TEXT NOT NULL,                 -- PHC string
    scram_sha256 TEXT NOT NULL,             -- iterations:salt:stored_key:server_key
    scram_sha1 TEXT NOT NULL,
    changed INTEGER NOT NULL                -- seconds since 1970 UTC
) STRICT, WITHOUT ROWID;

-- What an account may administer beside its own mail (CGP-11).
CREATE TABLE administrator (
    account TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    domain TEXT NOT NULL REFERENCES domain (name) ON DELETE CASCADE,
    admin_right TEXT NOT NULL,              -- AdminRight
    PRIMARY KEY (account, domain, admin_right)
) STRICT, WITHOUT ROWID;
CREATE INDEX administrator_domain ON administrator (domain);

-- Where an account moved to (CGP-9, RFC 2221).
CREATE TABLE route (
    name TEXT PRIMARY KEY,                  -- canonical local@domain of ours
    target TEXT NOT NULL                    -- user@host as the referral names it
) STRICT, WITHOUT ROWID;

-- Hint for listing shared mailboxes without opening other accounts; the ACL in the owner's
-- account is the truth and can make these rows anew.
CREATE TABLE share (
    grantee TEXT NOT NULL,                  -- identifier as the ACL has it
    account TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    mailbox TEXT NOT NULL,                  -- MailboxId within the account
    PRIMARY KEY (grantee, account, mailbox)
) STRICT, WITHOUT ROWID;
CREATE INDEX share_account ON share (account, mailbox);
