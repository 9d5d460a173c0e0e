"""The store."""

from __future__ import annotations

from mailserver.service.kinds import choice, integer, size
from mailserver.service.options.option import COUNT, Rows

OPTIONS = Rows()

MAX_MESSAGE_SIZE = OPTIONS.row("store.maxmessagesize", size(64 * 1024), 64 * 2**20, "One message")
WRITER_THREADS = OPTIONS.row(
    "store.writerthreads",
    integer(1, 16),
    16,
    "Threads that write: as many commits of different accounts wait for the disk at once",
)
FLAGS_DURABILITY = OPTIONS.row(
    "store.flags_durability",
    choice("durable", "relaxed"),
    "durable",
    "Answers to STORE wait for the disk, or a power cut may take the newest flags back",
)
MAX_MAILBOXES = OPTIONS.row("store.maxmailboxes", COUNT, 10_000, "Mailboxes of an account")
MAX_SUBSCRIPTIONS = OPTIONS.row(
    "store.maxsubscriptions", COUNT, 20_000, "Subscriptions of an account"
)
MAX_KEYWORDS = OPTIONS.row("store.maxkeywords", COUNT, 2_000, "Different keywords of a mailbox")
MAX_TOMBSTONES = OPTIONS.row(
    "store.maxtombstones", COUNT, 10_000, "Ranges of expunged UIDs remembered per mailbox"
)
MAX_APPENDED = OPTIONS.row("store.maxappended", COUNT, 1_000, "Messages of one APPEND")
