-- One account's mail. Times are seconds since 1970 UTC, sizes are octets.

CREATE TABLE schema (
    version INTEGER PRIMARY KEY,
    applied INTEGER NOT NULL
) STRICT;

-- One row: whose data this file is. Checked at every opening, so that a file that was put
-- in another account's place is refused and not shown (R6).
CREATE TABLE account (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL,          -- when the account was made; the directory knows it better
    made INTEGER NOT NULL
) STRICT;

CREATE TABLE quota_root (
    number        INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    storage_limit INTEGER,                       -- null: none
    storage_used  INTEGER NOT NULL DEFAULT 0,
    message_limit INTEGER,
    message_used  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE mailbox (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,      -- what the world calls it (RFC 8474)
    name           TEXT    NOT NULL UNIQUE,
    selectable     INTEGER NOT NULL,             -- 0: only a level of hierarchy
    special_use    TEXT    UNIQUE,
    quota_root     INTEGER NOT NULL REFERENCES quota_root (number),
    uid_validity   INTEGER NOT NULL,
    uid_next       INTEGER NOT NULL DEFAULT 1,
    highest_modseq INTEGER NOT NULL DEFAULT 1,
    pruned_modseq  INTEGER NOT NULL DEFAULT 0,   -- tombstones up to here may be missing
    first_recent   INTEGER NOT NULL DEFAULT 1,   -- UIDs from here on no session was told of
    keywords       INTEGER NOT NULL DEFAULT 0,   -- number of rows in keyword
    messages       INTEGER NOT NULL DEFAULT 0,
    unseen         INTEGER NOT NULL DEFAULT 0,
    deleted        INTEGER NOT NULL DEFAULT 0,
    size           INTEGER NOT NULL DEFAULT 0,
    deleted_size   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The highest UIDVALIDITY that a name ever had, kept when its mailbox is gone (T58).
CREATE TABLE name_history (
    name         TEXT PRIMARY KEY,
    uid_validity INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE subscription (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Local names that stand for mailboxes of other accounts (CGP-6).
CREATE TABLE alias (
    name    TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    mailbox TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The owner has all rights and no row. identifier: account name, `anyone`, `-…` (RFC 4314 §2).
CREATE TABLE acl (
    mailbox    INTEGER NOT NULL,
    identifier TEXT    NOT NULL,
    rights     TEXT    NOT NULL,
    PRIMARY KEY (mailbox, identifier)
) STRICT, WITHOUT ROWID;

CREATE TABLE annotation (
    mailbox INTEGER NOT NULL,                    -- 0: of the account
    entry   TEXT    NOT NULL,
    owner   TEXT    NOT NULL,                    -- account name; '' for shared values
    value   BLOB    NOT NULL,
    PRIMARY KEY (mailbox, entry, owner)
) STRICT, WITHOUT ROWID;

-- Keywords in the spelling and order of their first use.
CREATE TABLE keyword (
    mailbox INTEGER NOT NULL,
    number  INTEGER NOT NULL,                    -- 0, 1, …
    word    TEXT    NOT NULL,
    folded  TEXT    NOT NULL,                    -- lower case; what compares (T11)
    PRIMARY KEY (mailbox, number),
    UNIQUE (mailbox, folded)
) STRICT, WITHOUT ROWID;

-- What was received, once, however many mailboxes show it. What lists need stands before
-- what is long, so that reading it touches few pages.
CREATE TABLE message (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,   -- EMAILID; never used again
    thread         INTEGER NOT NULL,
    places         INTEGER NOT NULL,             -- rows in place that show it
    size           INTEGER NOT NULL,
    header_size    INTEGER NOT NULL,
    prefix_size    INTEGER NOT NULL,             -- octets of header that this recipient alone has
    crc            INTEGER NOT NULL,             -- CRC-32 of all octets, 0 when kept in a file
    digest         TEXT,                         -- SHA-256 of the file with the octets, or null
    format         INTEGER NOT NULL,             -- layout of the packed columns
    sent_seconds   INTEGER,
    sent_day       INTEGER,
    has_attachment INTEGER NOT NULL,
    has_media      INTEGER NOT NULL,
    base_subject   TEXT NOT NULL,
    from_mailbox   TEXT NOT NULL,
    to_mailbox     TEXT NOT NULL,
    cc_mailbox     TEXT NOT NULL,
    from_display   TEXT NOT NULL,
    to_display     TEXT NOT NULL,
    envelope       BLOB NOT NULL,
    body           BLOB NOT NULL,
    body_structure BLOB NOT NULL,
    sections       BLOB NOT NULL,
    header_index   BLOB NOT NULL,
    preview        TEXT NOT NULL,
    message_id     TEXT NOT NULL,
    ancestors      TEXT NOT NULL,                -- message ids, oldest first, between spaces
    header         BLOB                          -- with its empty line; null when very long
) STRICT;
CREATE INDEX message_by_digest ON message (digest) WHERE digest IS NOT NULL;

-- The octets after the header, of messages that are kept in the database.
CREATE TABLE octets (
    message INTEGER PRIMARY KEY,
    rest    BLOB NOT NULL
) STRICT;

-- A message in a mailbox.
CREATE TABLE place (
    mailbox          INTEGER NOT NULL,
    uid              INTEGER NOT NULL,
    message          INTEGER NOT NULL,
    modseq           INTEGER NOT NULL,
    system           INTEGER NOT NULL,           -- bits of mailserver.model.flags.System
    keywords         TEXT    NOT NULL,           -- words between spaces, sorted by lower case
    size             INTEGER NOT NULL,           -- as in message
    internal_seconds INTEGER NOT NULL,
    internal_zone    INTEGER NOT NULL,           -- minutes east
    internal_day     INTEGER NOT NULL,           -- ordinal, in that zone (T32)
    saved            INTEGER NOT NULL,           -- when it came into this mailbox (RFC 8514)
    PRIMARY KEY (mailbox, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX place_by_modseq ON place (mailbox, modseq, uid);

-- Ranges of UIDs that an expunge removed at a mod-sequence.
CREATE TABLE tombstone (
    mailbox INTEGER NOT NULL,
    modseq  INTEGER NOT NULL,
    low     INTEGER NOT NULL,
    high    INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, low)
) STRICT, WITHOUT ROWID;

-- \Seen of users who are not the owner.
CREATE TABLE seen (
    account TEXT    NOT NULL,
    mailbox INTEGER NOT NULL,
    uid     INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox, uid)
) STRICT, WITHOUT ROWID;

-- Which conversation a Message-ID belongs to, by a 64-bit digest of it.
CREATE TABLE thread (
    digest INTEGER PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;

-- What imports took in already, so that they can be repeated.
CREATE TABLE import (
    key TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Packed image of a mailbox as it was at a mod-sequence; only to load it faster.
CREATE TABLE snapshot (
    mailbox INTEGER PRIMARY KEY,
    octets  BLOB NOT NULL
) STRICT;
