"""Statements about quota roots."""

ADD = "INSERT INTO quota_root (name, storage_limit, message_limit) VALUES (?, ?, ?)"
ROOT = (
    "SELECT name, storage_limit, storage_used, message_limit, message_used FROM quota_root"
    " WHERE number = ?"
)
USE = (
    "UPDATE quota_root SET storage_used = storage_used + ?, message_used = message_used + ?"
    " WHERE number = ?"
)
USE_IF_FREE = (
    f"{USE} AND (storage_limit IS NULL OR storage_used + ? <= storage_limit)"
    " AND (message_limit IS NULL OR message_used + ? <= message_limit)"
)
SET_LIMITS = "UPDATE quota_root SET storage_limit = ?, message_limit = ? WHERE name = ?"
