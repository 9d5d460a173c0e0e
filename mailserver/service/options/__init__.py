"""The one table of options: names as the Sun server spells them where it has them.

    from mailserver.service import options
    settings[options.imap.PORT]        # an int

A new option is a row in the module of its topic: it parses, documents and shows itself.
"""

from __future__ import annotations

from mailserver.service.options import (
    access,
    events,
    imap,
    lmtp,
    local,
    login,
    oauth,
    pop3,
    proxy,
    sources,
    store,
    tls,
)
from mailserver.service.options.option import OptionTable

_TOPICS = (local, tls, proxy, login, oauth, sources, access, imap, pop3, lmtp, store, events)

TABLE = OptionTable(option for topic in _TOPICS for option in topic.OPTIONS)
"""Every option of the program."""
