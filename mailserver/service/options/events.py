"""Events: who tells whom that a mailbox changed (SUN-50, SUN-51)."""

from __future__ import annotations

from mailserver.service.kinds import BOOLEAN, TEXT, port
from mailserver.service.options.option import Rows

OPTIONS = Rows()

NOTIFY_PLUGIN = OPTIONS.row(
    "local.store.notifyplugin", TEXT, "libibiff", "Who publishes events; empty: none, no IDLE"
)
NOTIFY_NONE_INBOX = OPTIONS.row(
    "local.store.notifyplugin.noneinbox.enable",
    BOOLEAN,
    True,
    "Events for all mailboxes, not INBOX only; IDLE needs it",
)
NOTIFY_ENS_HOST = OPTIONS.row(
    "local.store.notifyplugin.enshost", TEXT, "127.0.0.1", "Taken for compatibility, not used"
)
NOTIFY_ENS_PORT = OPTIONS.row(
    "local.store.notifyplugin.ensport", port(), 7997, "Taken for compatibility, not used"
)
NOTIFY_ENS_EVENT_KEY = OPTIONS.row(
    "local.store.notifyplugin.enseventkey",
    TEXT,
    "enp://127.0.0.1/store/%M",
    "Name of events; must end in %M, the mailbox, or there is no IDLE",
)
