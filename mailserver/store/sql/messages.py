"""Statements about messages, their octets and their places in mailboxes."""

MESSAGE_COLUMNS = (
    "thread",
    "places",
    "size",
    "header_size",
    "prefix_size",
    "crc",
    "digest",
    "format",
    "sent_seconds",
    "sent_day",
    "has_attachment",
    "has_media",
    "base_subject",
    "from_mailbox",
    "to_mailbox",
    "cc_mailbox",
    "from_display",
    "to_display",
    "envelope",
    "body",
    "body_structure",
    "sections",
    "header_index",
    "preview",
    "message_id",
    "ancestors",
    "header",
)
INSERT_MESSAGE = (
    f"INSERT INTO message ({', '.join(MESSAGE_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(MESSAGE_COLUMNS))})"
)
COPY_MESSAGE = f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM message WHERE id = ?"
INSERT_OCTETS = "INSERT INTO octets (message, rest) VALUES (?, ?)"
SAY_WITHOUT_NUL = "INSERT INTO without_nul (message) VALUES (?)"
IS_WITHOUT_NUL = "SELECT 1 FROM without_nul WHERE message = ?"
REST = "SELECT rest FROM octets WHERE message = ?"

PLACE_COLUMNS = (
    "mailbox, uid, message, modseq, system, keywords, size, internal_seconds, internal_zone,"
    " internal_day, saved"
)
INSERT_PLACE = f"INSERT INTO place ({PLACE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

PLACES_IN = (
    "SELECT uid, message, system, keywords, size, internal_seconds, internal_zone, internal_day"
    " FROM place WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid"
)
FLAGS_IN = (
    "SELECT uid, system, keywords, size, modseq FROM place"
    " WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid"
)
SET_FLAGS = (
    "UPDATE place SET system = ?, keywords = ?, modseq = ?"
    " WHERE mailbox = ? AND uid BETWEEN ? AND ?"
)
DELETED_IN = (
    "SELECT uid, message, system, size FROM place"
    " WHERE mailbox = ? AND uid BETWEEN ? AND ? AND system & 4 ORDER BY uid"
)
IS_THERE = "SELECT 1 FROM place WHERE mailbox = ? AND uid = ?"
REMOVE_PLACE = "DELETE FROM place WHERE mailbox = ? AND uid = ?"
MESSAGES_OF = "SELECT message, count(*) FROM place WHERE mailbox = ? GROUP BY message"

MORE_PLACES = "UPDATE message SET places = places + ? WHERE id = ?"
UNPLACED = "SELECT id, places, digest FROM message WHERE id IN (SELECT value FROM json_each(?))"
REMOVE_MESSAGE = "DELETE FROM message WHERE id = ?"
REMOVE_OCTETS = "DELETE FROM octets WHERE message = ?"
REMOVE_WITHOUT_NUL = "DELETE FROM without_nul WHERE message = ?"

BURY = "INSERT INTO tombstone (mailbox, modseq, low, high) VALUES (?, ?, ?, ?)"
TOMBSTONE_COUNT = "SELECT count(*) FROM tombstone WHERE mailbox = ?"
OLDEST_TOMBSTONE_KEPT = (
    "SELECT modseq FROM tombstone WHERE mailbox = ? ORDER BY modseq DESC, low DESC LIMIT 1 OFFSET ?"
)
PRUNE = "DELETE FROM tombstone WHERE mailbox = ? AND modseq <= ?"
PRUNED = "UPDATE mailbox SET pruned_modseq = max(pruned_modseq, ?) WHERE number = ?"

THREAD_OF = "SELECT number FROM thread WHERE digest = ?"
JOIN_THREAD = "INSERT INTO thread (digest, number) VALUES (?, ?) ON CONFLICT DO NOTHING"
NEXT_THREAD = "SELECT coalesce(max(id), 0) + 1 FROM message"

IMPORTED = "SELECT 1 FROM import WHERE key = ?"
IMPORT = "INSERT INTO import (key) VALUES (?)"

NAME_UNIQUELY = "INSERT OR IGNORE INTO unique_id (mailbox, uid, name) VALUES (?, ?, ?)"
ANY_UNIQUE_ID = "SELECT 1 FROM unique_id WHERE mailbox = ? LIMIT 1"
UNIQUE_IDS = (
    "SELECT uid, name FROM unique_id WHERE mailbox = ? AND uid IN (SELECT value FROM json_each(?))"
)

# -- what an image is made of --------------------------------------------------

IMAGE_SLICE = (
    "SELECT uid, system, keywords, modseq FROM place WHERE mailbox = ? AND uid > ?"
    " ORDER BY uid LIMIT ?"
)
IMAGE_CHANGES = (
    "SELECT uid, system, keywords, modseq FROM place WHERE mailbox = ?"
    " AND (modseq, uid) > (?, ?) ORDER BY modseq, uid LIMIT ?"
)
IMAGE_EXPUNGES = "SELECT low, high FROM tombstone WHERE mailbox = ? AND modseq > ?"

# -- what texts are made of ----------------------------------------------------

OCTETS_OR_FILE = (
    "SELECT header, prefix_size, digest, rest FROM message LEFT JOIN octets ON message = id"
    " WHERE id = ?"
)
HEADERS = "SELECT id, header, header_size FROM message WHERE id IN (SELECT value FROM json_each(?))"
NEXT_MESSAGES = "SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?"
ALL_MESSAGES = "SELECT id FROM message"
