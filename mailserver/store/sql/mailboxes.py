"""Statements about mailboxes, their names, keywords and rights."""

COLUMNS = (
    "number, id, name, selectable, special_use, quota_root, uid_validity, uid_next,"
    " highest_modseq, pruned_modseq, first_recent, keywords, messages, unseen, deleted, size,"
    " deleted_size, EXISTS (SELECT 1 FROM subscription WHERE subscription.name = mailbox.name)"
)

BY_ID = f"SELECT {COLUMNS} FROM mailbox WHERE id = ?"
BY_NAME = f"SELECT {COLUMNS} FROM mailbox WHERE name = ?"
ALL = f"SELECT {COLUMNS} FROM mailbox ORDER BY name"
# '0' is the character after the delimiter '/'.
INFERIORS = f"SELECT {COLUMNS} FROM mailbox WHERE name > ? || '/' AND name < ? || '0' ORDER BY name"
COUNT = "SELECT count(*) FROM mailbox"
USE_TAKEN = "SELECT name FROM mailbox WHERE special_use = ?"

INSERT = (
    "INSERT INTO mailbox (id, name, selectable, special_use, quota_root, uid_validity)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
MAKE_SELECTABLE = (
    "UPDATE mailbox SET selectable = 1, special_use = ?, uid_validity = ? WHERE number = ?"
)
RENAME = "UPDATE mailbox SET name = ?, uid_validity = ? WHERE number = ?"
DELETE = "DELETE FROM mailbox WHERE number = ?"
FORGET = tuple(
    f"DELETE FROM {table} WHERE mailbox = ?"
    for table in (
        "place", "tombstone", "keyword", "acl", "annotation", "seen", "snapshot", "unique_id",
    )
)  # fmt: skip
"""What goes with a mailbox; messages without another place are removed before."""

COUNTED = (
    "UPDATE mailbox SET uid_next = ?, highest_modseq = ?, messages = messages + ?,"
    " unseen = unseen + ?, deleted = deleted + ?, size = size + ?,"
    " deleted_size = deleted_size + ? WHERE number = ?"
)
COUNT_FROM = "SELECT count(*) FROM place WHERE mailbox = ? AND uid >= ?"
COUNT_BEFORE = "SELECT count(*) FROM place WHERE mailbox = ? AND uid < ?"
CLAIM_RECENT = "UPDATE mailbox SET first_recent = max(first_recent, ?) WHERE id = ?"

LAST_VALIDITY = "SELECT uid_validity FROM name_history WHERE name = ?"
KEEP_VALIDITY = (
    "INSERT INTO name_history (name, uid_validity) VALUES (?, ?) ON CONFLICT (name)"
    " DO UPDATE SET uid_validity = max(uid_validity, excluded.uid_validity)"
)

SUBSCRIPTIONS = "SELECT name FROM subscription ORDER BY name"
SUBSCRIPTION_COUNT = "SELECT count(*) FROM subscription"
SUBSCRIBE = "INSERT INTO subscription (name) VALUES (?) ON CONFLICT DO NOTHING"
UNSUBSCRIBE = "DELETE FROM subscription WHERE name = ?"

RIGHTS = "SELECT identifier, rights FROM acl WHERE mailbox = ? AND identifier IN (?, ?, ?, ?)"
ACL_ROWS = "SELECT identifier, rights FROM acl WHERE mailbox = ?"
COPY_ACL = "INSERT INTO acl SELECT ?, identifier, rights FROM acl WHERE mailbox = ?"

KEYWORDS = "SELECT word, folded FROM keyword WHERE mailbox = ? ORDER BY number"
ADD_KEYWORD = "INSERT INTO keyword (mailbox, number, word, folded) VALUES (?, ?, ?, ?)"
COUNT_KEYWORDS = "UPDATE mailbox SET keywords = ? WHERE number = ?"

SNAPSHOT = "SELECT octets FROM snapshot WHERE mailbox = ?"
KEEP_SNAPSHOT = (
    "INSERT INTO snapshot (mailbox, octets) SELECT number, ? FROM mailbox WHERE id = ?"
    " ON CONFLICT (mailbox) DO UPDATE SET octets = excluded.octets"
)
