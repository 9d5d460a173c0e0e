"""SEARCH: a programme of keys as a `mailserver.model.search` value (RFC 3501 §6.4.4).

Keys are rows of one table, name → reader of its arguments; a row gets the programme, to read
further keys with. Nesting is bounded (S3), so recursion is too.
"""

from __future__ import annotations

from collections.abc import Callable

from mailserver.model.flags import System
from mailserver.model.ids import MAX_MODSEQ
from mailserver.model.search import (
    Addresses,
    All,
    And,
    Body,
    DateField,
    DateKey,
    DateRelation,
    HasFlag,
    HasKeyword,
    Header,
    IsRecent,
    Larger,
    Not,
    Or,
    SearchKey,
    Sequence,
    Smaller,
    Text,
    UidSequence,
)
from mailserver.wire.imap.commands import Search, SearchReturn
from mailserver.wire.imap.faults import UnknownCharset
from mailserver.wire.imap.scanner import Scanner

_RETURNS = {option.value: option for option in SearchReturn}
_DEFAULT_CHARSET = "UTF-8"  # RFC 9051 §6.4.4; US-ASCII, RFC 3501's, is part of it
_FIRST_OF_SET = frozenset(b"0123456789*")


def parse_search(scanner: Scanner) -> Search:
    """Read SEARCH (RFC 3501 §6.4.4, RFC 4731 §3.1).

    Raises:
        SyntaxFault: as every parser.
        UnknownCharset: the dialect cannot decode the charset (T33).
    """
    # search = "SEARCH" [search-return-opts] SP ["CHARSET" SP charset SP]
    #          search-key *(SP search-key)
    scanner.space()
    returns: frozenset[SearchReturn] | None = None
    if scanner.word_follows(b"RETURN"):
        scanner.open()
        returns = frozenset(scanner.items(_return_option)) or frozenset({SearchReturn.ALL})
        scanner.space()
    charset: str | None = None
    if scanner.word_follows(b"CHARSET"):
        charset = _charset(scanner)
        scanner.space()
    programme = _Programme(scanner, charset or _DEFAULT_CHARSET)
    keys = [programme.key()]
    while not scanner.at_end():
        scanner.space()
        keys.append(programme.key())
    key = keys[0] if len(keys) == 1 else And(tuple(keys))
    return Search(key, charset, returns, scanner.by_uid)


def _return_option(scanner: Scanner) -> SearchReturn:
    start = scanner.at
    option = _RETURNS.get(scanner.keyword("a result option of SEARCH"))
    if option is None:
        scanner.fail("expected a result option of SEARCH that is known here", start)
    return option


def _charset(scanner: Scanner) -> str:
    start = scanner.at
    octets = scanner.astring("the name of a charset")
    if not octets.isascii():
        scanner.fail("expected the name of a charset", start)
    charset = octets.decode("ascii")
    try:
        scanner.dialect.decode(b" ", charset)
    except LookupError:
        raise UnknownCharset(charset) from None
    except UnicodeDecodeError:
        pass  # one octet is too few for it, but it is known
    return charset


class _Programme:
    """Reads keys; `charset` is what its texts are in."""

    __slots__ = ("_depth", "charset", "scanner")

    def __init__(self, scanner: Scanner, charset: str) -> None:
        self.scanner = scanner
        self.charset = charset
        self._depth = 0

    def key(self) -> SearchKey:
        """Read one key."""
        self._depth += 1
        limit = self.scanner.dialect.max_nesting
        if self._depth > limit:
            self.scanner.fail(f"this search nests deeper than {limit} levels")
        key = self._key()
        self._depth -= 1
        return key

    def _key(self) -> SearchKey:
        scanner = self.scanner
        start = scanner.at
        if scanner.peek() in _FIRST_OF_SET:
            return Sequence(scanner.sequence_set())
        if scanner.opens():
            keys = scanner.items(self._inner_key)
            if not keys:
                scanner.fail("expected a search key", start + 1)
            return keys[0] if len(keys) == 1 else And(tuple(keys))
        read = _KEYS.get(scanner.keyword("a search key"))
        if read is None:
            scanner.fail("expected a search key that is known here", start)
        return read(self)

    def _inner_key(self, scanner: Scanner) -> SearchKey:
        return self.key()

    def text(self) -> str:
        """Read a space and a text."""
        self.scanner.space()
        return self.scanner.charset_text(self.charset)


_KeyReader = Callable[[_Programme], SearchKey]


def _fixed(key: SearchKey) -> _KeyReader:
    return lambda programme: key


def _subject(programme: _Programme) -> SearchKey:
    return Header("Subject", programme.text())


def _addresses(name: str) -> _KeyReader:
    return lambda programme: Addresses(name, programme.text())


def _date(field: DateField, relation: DateRelation) -> _KeyReader:
    def read(programme: _Programme) -> SearchKey:
        programme.scanner.space()
        return DateKey(field, relation, programme.scanner.date())

    return read


def _keyword(programme: _Programme) -> SearchKey:
    scanner = programme.scanner
    scanner.space()
    start = scanner.at
    name = scanner.flag()
    if name.startswith("\\"):
        scanner.fail("expected a keyword, which does not begin with a backslash", start)
    return HasKeyword(name)


def _header(programme: _Programme) -> SearchKey:
    programme.scanner.space()
    name = programme.scanner.text("a header field name")
    return Header(name, programme.text())


def _size(kind: type[Larger] | type[Smaller]) -> _KeyReader:
    def read(programme: _Programme) -> SearchKey:
        programme.scanner.space()
        return kind(programme.scanner.number(MAX_MODSEQ))

    return read


def _uid(programme: _Programme) -> SearchKey:
    programme.scanner.space()
    return UidSequence(programme.scanner.sequence_set())


def _not(programme: _Programme) -> SearchKey:
    programme.scanner.space()
    return Not(programme.key())


def _or(programme: _Programme) -> SearchKey:
    programme.scanner.space()
    first = programme.key()
    programme.scanner.space()
    return Or(first, programme.key())


def _unkeyword(programme: _Programme) -> SearchKey:
    return Not(_keyword(programme))


_KEYS: dict[bytes, _KeyReader] = {
    b"ALL": _fixed(All()),
    b"ANSWERED": _fixed(HasFlag(System.ANSWERED)),
    b"BCC": _addresses("bcc"),
    b"BEFORE": _date(DateField.INTERNAL, DateRelation.BEFORE),
    b"BODY": lambda programme: Body(programme.text()),
    b"CC": _addresses("cc"),
    b"DELETED": _fixed(HasFlag(System.DELETED)),
    b"DRAFT": _fixed(HasFlag(System.DRAFT)),
    b"FLAGGED": _fixed(HasFlag(System.FLAGGED)),
    b"FROM": _addresses("from"),
    b"HEADER": _header,
    b"KEYWORD": _keyword,
    b"LARGER": _size(Larger),
    b"NEW": _fixed(And((IsRecent(), Not(HasFlag(System.SEEN))))),
    b"NOT": _not,
    b"OLD": _fixed(Not(IsRecent())),
    b"ON": _date(DateField.INTERNAL, DateRelation.ON),
    b"OR": _or,
    b"RECENT": _fixed(IsRecent()),
    b"SEEN": _fixed(HasFlag(System.SEEN)),
    b"SENTBEFORE": _date(DateField.SENT, DateRelation.BEFORE),
    b"SENTON": _date(DateField.SENT, DateRelation.ON),
    b"SENTSINCE": _date(DateField.SENT, DateRelation.SINCE),
    b"SINCE": _date(DateField.INTERNAL, DateRelation.SINCE),
    b"SMALLER": _size(Smaller),
    b"SUBJECT": _subject,
    b"TEXT": lambda programme: Text(programme.text()),
    b"TO": _addresses("to"),
    b"UID": _uid,
    b"UNANSWERED": _fixed(Not(HasFlag(System.ANSWERED))),
    b"UNDELETED": _fixed(Not(HasFlag(System.DELETED))),
    b"UNDRAFT": _fixed(Not(HasFlag(System.DRAFT))),
    b"UNFLAGGED": _fixed(Not(HasFlag(System.FLAGGED))),
    b"UNKEYWORD": _unkeyword,
    b"UNSEEN": _fixed(Not(HasFlag(System.SEEN))),
}
"""Name of a search key → reader of what follows it (RFC 3501 §6.4.4)."""
