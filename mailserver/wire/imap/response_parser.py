"""Responses of a server, read for the client: octets in, response values out (RFC 3501 §7).

`ResponseReader` cuts the stream, `parse_response` reads one response. What a server may
send in addition to what is known here is skipped, as RFC 3501 §7 wants: unknown responses
become `Unknown`, unknown items of FETCH, STATUS and LIST are left out. What is known has to
be right: a `SyntaxFault` means that the stream cannot be trusted any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mailserver.model.ids import MAX_MODSEQ, MAX_UID
from mailserver.model.numset import STAR, SequenceSet
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import (
    BinarySection,
    BinarySize,
    BodySection,
    FetchAtt,
    SectionText,
    StatusAtt,
)
from mailserver.wire.imap.faults import SyntaxFault
from mailserver.wire.imap.grammar.fetch import read_section
from mailserver.wire.imap.reader import (
    CommandReader,
    Limits,
    Line,
    LiteralPart,
    LiteralWanted,
    Signal,
    TooLong,
)
from mailserver.wire.imap.scanner import Dialect, Scanner

MEBI = 1024 * 1024

RESPONSE_LIMITS = Limits(line=16 * MEBI, literal=64 * MEBI, command=128 * MEBI, literals=100_000)
"""How much of one response is kept; larger bodies are fetched in parts."""

MAX_BODY_NESTING = 200
"""Parts within parts that a BODYSTRUCTURE may have."""

_DIALECT = Dialect(response=True)
_TEXT = re.compile(rb"\+|[^ \r\n]++ (?:OK|NO|BAD|BYE|PREAUTH)(?![^ \r\n])", re.IGNORECASE)
_TAG = re.compile(rb"[^ \r\n]++")
_WORD = re.compile(rb"[^\x00-\x20()\[\]{}\"\x7f-\xff]++")
_FLAG = re.compile(rb"[^\x00-\x20(){\"\x7f-\xff]++")
_CODE_TEXT = re.compile(rb" ([^\]]*+)")
_CODE_BLANKS = re.compile(rb" ++(?=\])")
_ITEM = re.compile(rb"[A-Za-z0-9.\-]++")
_NUMBERS = re.compile(rb"(?: [1-9][0-9]{0,8}+)*+ ?\Z")  # below the largest UID
_ORIGIN = re.compile(rb"<([0-9]{1,19})>")
_CONDITIONS = {condition.value: condition for condition in r.Condition}
_STATUS_ATTS = {att.value: att for att in StatusAtt}
_NUMBER_CODES = frozenset((b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN", b"HIGHESTMODSEQ"))
_PARENTHESIS = 0x28


class ResponseReader:
    """Gives the responses of one connection, client side.

    Any packet split gives the same responses.
    """

    def __init__(self, limits: Limits = RESPONSE_LIMITS) -> None:
        self._reader = CommandReader(limits)

    def feed(self, octets: bytes) -> None:
        """Take octets from the connection."""
        self._reader.feed(octets)

    @property
    def has_unread(self) -> bool:
        """Whether octets came that no response has covered: none may be when TLS starts
        (S1).
        """
        return self._reader.has_unread or bool(self._reader.command_so_far)

    def next_response(self) -> r.Response | None:
        """Give the next response; None until more octets come.

        Raises:
            SyntaxFault: it cannot be read, or is over the limits. The stream is of no use
                any more.
        """
        while True:
            event = self._reader.next_event()
            match event:
                case Signal():
                    return None
                case Line(octets):
                    return parse_response(octets)
                case LiteralWanted(first=True) if _TEXT.match(self._reader.command_so_far):
                    return parse_response(self._reader.take_as_text().octets)
                case LiteralWanted():
                    if not self._reader.keep():
                        raise SyntaxFault("a response over the limits", 0)
                case TooLong() | LiteralPart():
                    raise SyntaxFault("a response over the limits", 0)


def parse_response(octets: bytes) -> r.Response:
    """Read one response.

    Args:
        octets: without the final CRLF, literals in their places as `{5}` CRLF and octets.

    Raises:
        SyntaxFault: it cannot be read.
    """
    if octets.startswith(b"+"):
        return r.Continuation(octets[2:] if octets[1:2] == b" " else octets[1:])
    scanner = Scanner(octets, _DIALECT)
    match = _TAG.match(octets)
    if match is None:
        scanner.fail("expected a tag, * or +")
    tag = None if match[0] == b"*" else match[0]
    scanner.at = match.end()
    scanner.space()
    number: int | None = None
    if tag is None and 0x30 <= scanner.peek() <= 0x39:
        number = scanner.number()
        scanner.space()
    name = _word(scanner)
    if number is not None:
        read_numbered = _NUMBERED.get(name)
        if read_numbered is not None:
            return read_numbered(scanner, number)
    elif name in _CONDITIONS:
        return _status(scanner, _CONDITIONS[name], tag)
    elif tag is not None:
        scanner.fail("expected OK, NO or BAD")
    else:
        read = _UNTAGGED.get(name)
        if read is not None:
            return read(scanner)
    return r.Unknown(name, octets[match.end() :].lstrip(b" "))


def _word(scanner: Scanner) -> bytes:
    match = _WORD.match(scanner.octets, scanner.at)
    if match is None:
        scanner.fail("expected a word")
    scanner.at = match.end()
    return match[0].upper()


# -- status responses --------------------------------------------------------------------


def _status(scanner: Scanner, condition: r.Condition, tag: bytes | None) -> r.Status:
    # resp-text = ["[" resp-text-code "]" SP] text; servers leave the text out
    code: r.ResponseCode | None = None
    if scanner.octets[scanner.at : scanner.at + 2] == b" [":
        scanner.at += 2
        code = _code(scanner)
    text = scanner.octets[scanner.at :].strip(b" ").decode("utf-8", "replace")
    return r.Status(condition, text, code, tag)


def _code(scanner: Scanner) -> r.ResponseCode:
    name = _word(scanner)
    blanks = _CODE_BLANKS.match(scanner.octets, scanner.at)
    start = scanner.at = blanks.end() if blanks else scanner.at
    read = _CODES.get(name)
    if read is not None:
        try:
            code = read(scanner, name)
            _bracket(scanner)
            return code
        except SyntaxFault:
            scanner.at = start  # a code that is not what it should be is a text
    match = _CODE_TEXT.match(scanner.octets, scanner.at)
    text = b""
    if match is not None:
        text = match[1]
        scanner.at = match.end()
    _bracket(scanner)
    return r.Code(name, text)


def _bracket(scanner: Scanner) -> None:
    if scanner.peek() != 0x5D:
        scanner.fail("expected ]")
    scanner.at += 1


def _number_code(scanner: Scanner, name: bytes) -> r.ResponseCode:
    scanner.space()
    return r.NumberCode(name, scanner.number())


def _capability_code(scanner: Scanner, name: bytes) -> r.ResponseCode:
    return r.CapabilityCode(_words(scanner))


def _permanent_flags(scanner: Scanner, name: bytes) -> r.ResponseCode:
    scanner.space()
    return r.PermanentFlags(_flags(scanner))


def _bad_charset(scanner: Scanner, name: bytes) -> r.ResponseCode:
    if scanner.peek() == 0x5D:
        return r.BadCharset()
    scanner.space()
    return r.BadCharset(tuple(scanner.list_of(Scanner.text, "a charset")))


def _append_uid(scanner: Scanner, name: bytes) -> r.ResponseCode:
    scanner.space()
    validity = scanner.nz_number()
    scanner.space()
    return r.AppendUid(validity, _uid_set(scanner))


def _copy_uid(scanner: Scanner, name: bytes) -> r.ResponseCode:
    scanner.space()
    validity = scanner.nz_number()
    scanner.space()
    source = _uid_set(scanner)
    scanner.space()
    return r.CopyUid(validity, source, _uid_set(scanner))


def _uid_set(scanner: Scanner) -> SequenceSet:
    # uid-set of RFC 4315 §4: a sequence-set without "*"
    uids = scanner.sequence_set()
    if any(STAR in ends for ends in uids.ranges):
        scanner.fail("expected UIDs")
    return uids


_CODES: dict[bytes, Callable[[Scanner, bytes], r.ResponseCode]] = {
    **dict.fromkeys(_NUMBER_CODES, _number_code),
    b"CAPABILITY": _capability_code,
    b"PERMANENTFLAGS": _permanent_flags,
    b"BADCHARSET": _bad_charset,
    b"APPENDUID": _append_uid,
    b"COPYUID": _copy_uid,
}


# -- small pieces ------------------------------------------------------------------------


def _words(scanner: Scanner) -> tuple[bytes, ...]:
    words: list[bytes] = []
    while not scanner.at_end() and scanner.peek() != 0x5D:
        scanner.space()
        match = _WORD.match(scanner.octets, scanner.at)
        if match is None:
            scanner.fail("expected a word")
        scanner.at = match.end()
        words.append(match[0])
    return tuple(words)


def _flag(scanner: Scanner) -> str:
    match = _FLAG.match(scanner.octets, scanner.at)
    if match is None:
        scanner.fail("expected a flag")
    scanner.at = match.end()
    return match[0].decode("ascii")


def _flags(scanner: Scanner) -> tuple[str, ...]:
    scanner.open()
    return tuple(scanner.items(_flag))


def _string(scanner: Scanner) -> bytes:
    """Read a string; NIL, which some servers send where none may stand, is empty."""
    return scanner.nstring() or b""


def _text(scanner: Scanner) -> str:
    return _string(scanner).decode("utf-8", "replace")


def _skip_value(scanner: Scanner) -> None:
    """Pass a value that nobody here knows: atoms, numbers, strings, lists of them."""
    depth = 0
    while True:
        if scanner.opens():
            depth += 1
        else:
            match = _FLAG.match(scanner.octets, scanner.at)
            if match is not None:
                scanner.at = match.end()
            elif not (depth and scanner.peek() == 0x29):
                scanner.string("a value")
        while depth and scanner.closes():
            depth -= 1
        if not depth:
            return
        if scanner.peek() == 0x20:
            scanner.space()


# -- untagged data without a number ------------------------------------------------------


def _capability(scanner: Scanner) -> r.Response:
    return r.Capability(_words(scanner))


def _enabled(scanner: Scanner) -> r.Response:
    return r.Enabled(_words(scanner))


def _flags_list(scanner: Scanner) -> r.Response:
    scanner.space()
    return r.FlagsList(_flags(scanner))


def _id(scanner: Scanner) -> r.Response:
    scanner.space()
    if not scanner.opens():
        scanner.nstring()
        return r.Id(None)
    return r.Id(tuple(scanner.items(_id_field)))


def _id_field(scanner: Scanner) -> tuple[str, str | None]:
    name = _text(scanner)
    scanner.space()
    value = scanner.nstring()
    return name, None if value is None else value.decode("utf-8", "replace")


def _namespace(scanner: Scanner) -> r.Response:
    scanner.space()
    personal = _namespaces(scanner)
    scanner.space()
    other_users = _namespaces(scanner)
    scanner.space()
    return r.Namespace(personal, other_users, _namespaces(scanner))


def _namespaces(scanner: Scanner) -> tuple[r.NamespaceEntry, ...]:
    if not scanner.opens():
        if scanner.nstring() is not None:
            scanner.fail("expected NIL or a list of namespaces")
        return ()
    entries: list[r.NamespaceEntry] = []
    while not scanner.closes():
        scanner.open()
        prefix = scanner.mailbox()
        scanner.space()
        entries.append(r.NamespaceEntry(prefix, _delimiter(scanner)))
        while not scanner.closes():  # Namespace-Response-Extension
            scanner.space()
            _skip_value(scanner)
    return tuple(entries)


def _delimiter(scanner: Scanner) -> str | None:
    octets = scanner.nstring()
    return octets.decode("utf-8", "replace") if octets else None


def _list(scanner: Scanner) -> r.Response:
    return _mailbox_list(scanner, lsub=False)


def _lsub(scanner: Scanner) -> r.Response:
    return _mailbox_list(scanner, lsub=True)


def _mailbox_list(scanner: Scanner, lsub: bool) -> r.MailboxList:
    scanner.space()
    attributes = _flags(scanner)
    scanner.space()
    delimiter = _delimiter(scanner)
    scanner.space()
    mailbox = scanner.mailbox()
    child_info: tuple[str, ...] = ()
    if not scanner.at_end():
        scanner.space()
        scanner.open()
        for value in scanner.items(_list_extension):
            child_info += value
    return r.MailboxList(attributes, delimiter, mailbox, child_info, lsub)


def _list_extension(scanner: Scanner) -> tuple[str, ...]:
    name = scanner.astring().upper()
    scanner.space()
    if name == b"CHILDINFO":
        return tuple(scanner.list_of(Scanner.text, "a selection option"))
    _skip_value(scanner)
    return ()


def _mailbox_status(scanner: Scanner) -> r.Response:
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    scanner.open()
    items = scanner.items(_status_item)
    return r.MailboxStatus(mailbox, tuple(item for item in items if item is not None))


def _status_item(scanner: Scanner) -> tuple[StatusAtt, int | None] | None:
    att = _STATUS_ATTS.get(scanner.keyword("a STATUS attribute"))
    scanner.space()
    if att is None:
        _skip_value(scanner)
        return None
    if 0x30 <= scanner.peek() <= 0x39:
        return att, scanner.number()
    if scanner.nstring() is not None:
        scanner.fail("expected a number or NIL")
    return att, None


def _search(scanner: Scanner) -> r.Response:
    match = _NUMBERS.match(scanner.octets, scanner.at)
    if match is not None:
        return r.SearchResult(tuple(map(int, match[0].split())))
    numbers: list[int] = []
    while not scanner.at_end():
        scanner.space()
        if scanner.peek() == _PARENTHESIS:  # (MODSEQ n), RFC 7162
            _skip_value(scanner)
        else:
            numbers.append(scanner.nz_number())
    return r.SearchResult(tuple(numbers))


def _esearch(scanner: Scanner) -> r.Response:
    tag: bytes | None = None
    by_uid = False
    numbers: dict[bytes, int] = {}
    found: SequenceSet | None = None
    while not scanner.at_end():
        scanner.space()
        if scanner.opens():
            scanner.keyword("TAG")
            scanner.space()
            tag = scanner.astring()
            if not scanner.closes():
                scanner.fail("expected )")
            continue
        name = scanner.keyword("a result")
        if name == b"UID":
            by_uid = True
            continue
        scanner.space()
        if name in (b"MIN", b"MAX", b"COUNT"):
            numbers[name] = scanner.number(MAX_UID)
        elif name == b"ALL":
            found = scanner.sequence_set()
        else:
            _skip_value(scanner)
    return r.ExtendedSearchResult(
        tag, by_uid, numbers.get(b"MIN"), numbers.get(b"MAX"), numbers.get(b"COUNT"), found
    )


_UNTAGGED: dict[bytes, Callable[[Scanner], r.Response]] = {
    b"CAPABILITY": _capability,
    b"ENABLED": _enabled,
    b"ESEARCH": _esearch,
    b"FLAGS": _flags_list,
    b"ID": _id,
    b"LIST": _list,
    b"LSUB": _lsub,
    b"NAMESPACE": _namespace,
    b"SEARCH": _search,
    b"STATUS": _mailbox_status,
}


# -- untagged data with a number ---------------------------------------------------------


def _exists(scanner: Scanner, number: int) -> r.Response:
    return r.Exists(number)


def _recent(scanner: Scanner, number: int) -> r.Response:
    return r.Recent(number)


def _expunged(scanner: Scanner, number: int) -> r.Response:
    return r.Expunged(number)


def _fetch(scanner: Scanner, number: int) -> r.Response:
    scanner.space()
    scanner.open()
    items = scanner.items(_fetch_item)
    scanner.end()
    return r.FetchData(number, tuple(item for item in items if item is not None))


_NUMBERED: dict[bytes, Callable[[Scanner, int], r.Response]] = {
    b"EXISTS": _exists,
    b"RECENT": _recent,
    b"EXPUNGE": _expunged,
    b"FETCH": _fetch,
}


def _fetch_item(scanner: Scanner) -> r.FetchDatum | None:
    match = _ITEM.match(scanner.octets, scanner.at)
    if match is None:
        scanner.fail("expected an item of FETCH")
    scanner.at = match.end()
    name = match[0].upper()
    if scanner.peek() == 0x5B:
        return _section_item(scanner, name)
    scanner.space()
    read = _ITEMS.get(name)
    if read is None:
        _skip_value(scanner)
        return None
    return read(scanner)


def _section_item(scanner: Scanner, name: bytes) -> r.FetchDatum | None:
    path, text, fields = read_section(scanner)
    partial: tuple[int, int] | None = None
    match = _ORIGIN.match(scanner.octets, scanner.at)
    if match is not None:
        partial = (int(match[1]), 0)
        scanner.at = match.end()
    scanner.space()
    if name == b"BODY":
        return r.SectionItem(BodySection(path, text, fields, partial), scanner.nstring())
    if name == b"BINARY":
        return r.SectionItem(BinarySection(path, partial), scanner.nstring())
    if name == b"BINARY.SIZE":
        return r.BinarySizeItem(BinarySize(path), scanner.number())
    _skip_value(scanner)
    return None


def _flags_item(scanner: Scanner) -> r.FetchDatum:
    return r.FlagsItem(_flags(scanner))


def _uid_item(scanner: Scanner) -> r.FetchDatum:
    return r.UidItem(scanner.nz_number())


def _date_item(scanner: Scanner) -> r.FetchDatum:
    return r.InternalDateItem(scanner.date_time())


def _size_item(scanner: Scanner) -> r.FetchDatum:
    return r.SizeItem(scanner.number(MAX_MODSEQ))


def _envelope_item(scanner: Scanner) -> r.FetchDatum:
    return r.EnvelopeItem(_envelope(scanner))


def _body_item(scanner: Scanner) -> r.FetchDatum:
    return r.StructureItem(FetchAtt.BODY, _body(scanner, 1))


def _structure_item(scanner: Scanner) -> r.FetchDatum:
    return r.StructureItem(FetchAtt.BODYSTRUCTURE, _body(scanner, 1))


def _old_name(name: bytes, text: SectionText) -> Callable[[Scanner], r.FetchDatum]:
    section = BodySection(text=text, old_name=name)
    return lambda scanner: r.SectionItem(section, scanner.nstring())


_ITEMS: dict[bytes, Callable[[Scanner], r.FetchDatum]] = {
    b"FLAGS": _flags_item,
    b"UID": _uid_item,
    b"INTERNALDATE": _date_item,
    b"RFC822.SIZE": _size_item,
    b"ENVELOPE": _envelope_item,
    b"BODY": _body_item,
    b"BODYSTRUCTURE": _structure_item,
    b"RFC822": _old_name(b"RFC822", SectionText.ALL),
    b"RFC822.HEADER": _old_name(b"RFC822.HEADER", SectionText.HEADER),
    b"RFC822.TEXT": _old_name(b"RFC822.TEXT", SectionText.TEXT),
}


# -- ENVELOPE and BODYSTRUCTURE ----------------------------------------------------------


def _envelope(scanner: Scanner) -> r.Envelope:
    scanner.open()
    date = scanner.nstring()
    scanner.space()
    subject = scanner.nstring()
    from_, sender, reply_to, to, cc, bcc = (_spaced_addresses(scanner) for _ in range(6))
    scanner.space()
    in_reply_to = scanner.nstring()
    scanner.space()
    message_id = scanner.nstring()
    _close(scanner)
    return r.Envelope(date, subject, from_, sender, reply_to, to, cc, bcc, in_reply_to, message_id)


def _spaced_addresses(scanner: Scanner) -> tuple[r.Address, ...]:
    scanner.space()
    return _addresses(scanner)


def _addresses(scanner: Scanner) -> tuple[r.Address, ...]:
    if not scanner.opens():
        if scanner.nstring() is not None:
            scanner.fail("expected NIL or a list of addresses")
        return ()
    out: list[r.Address] = []
    while not scanner.closes():
        if scanner.peek() == 0x20:  # Exchange puts spaces between addresses
            scanner.space()
        scanner.open()
        name = scanner.nstring()
        scanner.space()
        route = scanner.nstring()
        scanner.space()
        mailbox = scanner.nstring()
        scanner.space()
        out.append(r.Address(name, route, mailbox, scanner.nstring()))
        _close(scanner)
    return tuple(out)


def _close(scanner: Scanner) -> None:
    if not scanner.closes():
        scanner.fail("expected )")


def _body(scanner: Scanner, depth: int) -> r.BodyStructure:
    if depth > MAX_BODY_NESTING:
        scanner.fail(f"parts nest deeper than {MAX_BODY_NESTING} levels")
    scanner.open()
    if scanner.peek() == _PARENTHESIS:
        return _multi_part(scanner, depth)
    return _single_part(scanner, depth)


def _multi_part(scanner: Scanner, depth: int) -> r.MultiPart:
    # body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]
    parts: list[r.BodyStructure] = []
    while scanner.peek() == _PARENTHESIS:
        parts.append(_body(scanner, depth + 1))
    scanner.space()
    subtype = _string(scanner)
    if scanner.closes():
        return r.MultiPart(tuple(parts), subtype)
    scanner.space()
    parameters = _parameters(scanner)
    return r.MultiPart(tuple(parts), subtype, parameters, _extension(scanner, None))


def _single_part(scanner: Scanner, depth: int) -> r.SinglePart:
    # body-fields = body-fld-param SP body-fld-id SP body-fld-desc SP body-fld-enc SP
    #               body-fld-octets
    media_type = _string(scanner)
    scanner.space()
    subtype = _string(scanner)
    scanner.space()
    parameters = _parameters(scanner)
    scanner.space()
    content_id = scanner.nstring()
    scanner.space()
    description = scanner.nstring()
    scanner.space()
    encoding = _string(scanner)
    scanner.space()
    size = scanner.number()
    lines: int | None = None
    envelope: r.Envelope | None = None
    body: r.BodyStructure | None = None
    if media_type.upper() == b"MESSAGE" and scanner.octets[scanner.at : scanner.at + 2] == b" (":
        scanner.space()
        envelope = _envelope(scanner)
        scanner.space()
        body = _body(scanner, depth + 1)
    if envelope is not None or media_type.upper() == b"TEXT":
        scanner.space()
        lines = scanner.number()
    extension: r.Extension | None = None
    if not scanner.closes():
        scanner.space()
        extension = _extension(scanner, scanner.nstring())
    return r.SinglePart(
        media_type,
        subtype,
        parameters,
        content_id,
        description,
        encoding,
        size,
        lines,
        envelope,
        body,
        extension,
    )


def _extension(scanner: Scanner, md5: bytes | None) -> r.Extension:
    # [SP body-fld-dsp [SP body-fld-lang [SP body-fld-loc *(SP body-extension)]]] ")"
    disposition: r.Disposition | None = None
    languages: tuple[bytes, ...] = ()
    location: bytes | None = None
    if not scanner.closes():
        scanner.space()
        disposition = _disposition(scanner)
        if not scanner.closes():
            scanner.space()
            languages = _languages(scanner)
            if not scanner.closes():
                scanner.space()
                location = scanner.nstring()
                while not scanner.closes():
                    scanner.space()
                    _skip_value(scanner)
    return r.Extension(md5, disposition, languages, location)


def _disposition(scanner: Scanner) -> r.Disposition | None:
    if not scanner.opens():
        kind = scanner.nstring()  # a bare string is wrong, but sent by some
        return None if kind is None else r.Disposition(kind)
    kind = _string(scanner)
    scanner.space()
    parameters = _parameters(scanner)
    _close(scanner)
    return r.Disposition(kind, parameters)


def _languages(scanner: Scanner) -> tuple[bytes, ...]:
    if scanner.opens():
        return tuple(scanner.items(_string))
    language = scanner.nstring()
    return () if language is None else (language,)


def _parameters(scanner: Scanner) -> tuple[tuple[bytes, bytes], ...]:
    if not scanner.opens():
        if scanner.nstring() is not None:
            scanner.fail("expected NIL or a list of parameters")
        return ()
    return tuple(scanner.items(_parameter))


def _parameter(scanner: Scanner) -> tuple[bytes, bytes]:
    name = _string(scanner)
    scanner.space()
    return name, _string(scanner)
