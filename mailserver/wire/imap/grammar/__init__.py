"""One module per family of IMAP commands: arguments to frozen commands.

A parser takes a `Scanner` that stands behind the command's name, reads the arguments with
the space before them, checks that nothing is left, and returns the command. It raises
`SyntaxFault`; parsers of SEARCH also `UnknownCharset`.

`PARSERS` has every command this program can read; which of them a session may use is the
server's business.
"""

from __future__ import annotations

from mailserver.wire.imap.grammar.append import parse_append
from mailserver.wire.imap.grammar.bare import (
    Parser,
    parse_capability,
    parse_check,
    parse_close,
    parse_idle,
    parse_logout,
    parse_namespace,
    parse_noop,
    parse_starttls,
    parse_unselect,
)
from mailserver.wire.imap.grammar.fetch import parse_fetch
from mailserver.wire.imap.grammar.list import parse_list, parse_lsub, parse_status
from mailserver.wire.imap.grammar.login import (
    parse_authenticate,
    parse_enable,
    parse_id,
    parse_login,
    parse_proxyauth,
)
from mailserver.wire.imap.grammar.mailbox import (
    parse_create,
    parse_delete,
    parse_examine,
    parse_rename,
    parse_select,
    parse_subscribe,
    parse_unsubscribe,
)
from mailserver.wire.imap.grammar.message import (
    parse_copy,
    parse_expunge,
    parse_move,
    parse_store,
    parse_uid_expunge,
)
from mailserver.wire.imap.grammar.search import parse_search

PARSERS: dict[bytes, Parser] = {
    b"CAPABILITY": parse_capability,
    b"NOOP": parse_noop,
    b"LOGOUT": parse_logout,
    b"ID": parse_id,
    b"STARTTLS": parse_starttls,
    b"AUTHENTICATE": parse_authenticate,
    b"LOGIN": parse_login,
    b"PROXYAUTH": parse_proxyauth,
    b"ENABLE": parse_enable,
    b"SELECT": parse_select,
    b"EXAMINE": parse_examine,
    b"CREATE": parse_create,
    b"DELETE": parse_delete,
    b"RENAME": parse_rename,
    b"SUBSCRIBE": parse_subscribe,
    b"UNSUBSCRIBE": parse_unsubscribe,
    b"LIST": parse_list,
    b"LSUB": parse_lsub,
    b"STATUS": parse_status,
    b"NAMESPACE": parse_namespace,
    b"APPEND": parse_append,
    b"IDLE": parse_idle,
    b"CHECK": parse_check,
    b"CLOSE": parse_close,
    b"UNSELECT": parse_unselect,
    b"EXPUNGE": parse_expunge,
    b"UID EXPUNGE": parse_uid_expunge,
    b"SEARCH": parse_search,
    b"UID SEARCH": parse_search,
    b"FETCH": parse_fetch,
    b"UID FETCH": parse_fetch,
    b"STORE": parse_store,
    b"UID STORE": parse_store,
    b"COPY": parse_copy,
    b"UID COPY": parse_copy,
    b"MOVE": parse_move,
    b"UID MOVE": parse_move,
}
"""Name in upper case, `UID FETCH` for UID variants → parser of its arguments."""
