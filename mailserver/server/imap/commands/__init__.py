"""One module per family of IMAP commands: a handler each and its table rows.

A module has `SPECS`, and `PROVIDES` for capabilities that bring no command of their own.
A new one is added to `MODULES`.
"""

from __future__ import annotations

from types import ModuleType

from mailserver.server.imap.commands import (
    always,
    append,
    close,
    copy,
    expunge,
    fetch,
    idle,
    list,
    login,
    mailbox,
    move,
    search,
    select,
    store,
)

MODULES: tuple[ModuleType, ...] = (
    always,
    login,
    select,
    mailbox,
    list,
    append,
    idle,
    close,
    expunge,
    search,
    fetch,
    store,
    copy,
    move,
)
"""Every module of this package with commands, about in the order of RFC 3501."""
