"""Responses as octets (RFC 3501 §7, §9).

`write` makes one response of its value. The functions before it make pieces; FETCH, which
writes thousands of them, uses those directly and joins.

Nothing that came from outside can break out of its place (W13): strings with CR, LF or
8-bit octets become literals counted in octets, NUL is refused, words that have to be atoms
are checked. What is refused is a `ValueError`: an error of the caller, not of the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache

from mailserver.model.flags import Flags
from mailserver.model.message import EPOCH_DAY, InternalDate
from mailserver.model.numset import STAR, NumSet, SequenceSet
from mailserver.wire.imap import mutf7
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import (
    BinarySection,
    BinarySize,
    BodySection,
    SectionText,
)

MAX_QUOTED = 1000
"""Octets from which a string is sent as a literal: small clients have small line buffers."""

_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_FLAG = re.compile(rb"\\(?:\*|[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+)")
_FLAGS = re.compile(rb"(?:\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]++(?: |\Z))*+")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_TO_ESCAPE = re.compile(rb'["\\]')
_CODE_TEXT = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x5c\x5e-\x7f]*")
_UNPRINTABLE = re.compile("[^\x20-\x7e]")
_MONTHS = (b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()

# -- strings -----------------------------------------------------------------------------


def literal(octets: bytes) -> bytes:
    """Write a literal.

    Raises:
        ValueError: a NUL; what may hold NUL is sent by `literal8`, or cleaned first (T31).
    """
    if b"\0" in octets:
        raise ValueError("a NUL cannot be sent in a literal")
    return b"{%d}\r\n%b" % (len(octets), octets)


def literal8(octets: bytes) -> bytes:
    """Write a literal that may hold any octet (RFC 3516 §4.2)."""
    return b"~{%d}\r\n%b" % (len(octets), octets)


def is_quotable(octets: bytes) -> bool:
    """Say whether a string can and should be sent quoted (T20)."""
    return len(octets) <= MAX_QUOTED and _QUOTABLE.fullmatch(octets) is not None


def quoted_or_literal(octets: bytes) -> bytes:
    """Write a string: quoted where that is possible, else as a literal (T20).

    Raises:
        ValueError: a NUL.
    """
    if not is_quotable(octets):
        return literal(octets)
    if b'"' in octets or b"\\" in octets:
        octets = _TO_ESCAPE.sub(rb"\\\g<0>", octets)
    return b'"%b"' % octets


def nstring(octets: bytes | None) -> bytes:
    """Write a string, or NIL for None."""
    return b"NIL" if octets is None else quoted_or_literal(octets)


def is_astring_atom(octets: bytes) -> bool:
    """Say whether a string can be sent as an atom; NIL is better quoted (T20)."""
    return _ASTRING_ATOM.fullmatch(octets) is not None and octets.upper() != b"NIL"


def astring(octets: bytes) -> bytes:
    """Write a string as an atom where that is possible.

    Raises:
        ValueError: a NUL.
    """
    return octets if is_astring_atom(octets) else quoted_or_literal(octets)


def astring_mailbox(name: str) -> bytes:
    """Write a mailbox name in modified UTF-7 (T21).

    Raises:
        ValueError: a lone surrogate.
    """
    return astring(mutf7.encode(name))


def is_atom(word: bytes) -> bool:
    """Say whether a word is an atom (RFC 3501 §9)."""
    return _ATOM.fullmatch(word) is not None


def atom(word: bytes) -> bytes:
    """Check that a word is an atom, and return it.

    Raises:
        ValueError: it is not.
    """
    if not is_atom(word):
        raise ValueError(f"{word!r} is not an atom")
    return word


# -- flags, dates, sets ------------------------------------------------------------------


def flag_name(name: str) -> bytes:
    r"""Check a flag, keyword, attribute or `\*`, and return it as octets.

    Raises:
        ValueError: it is none of these.
    """
    octets = name.encode("ascii")
    if _ATOM.fullmatch(octets) is None and _FLAG.fullmatch(octets) is None:
        raise ValueError(f"{name!r} is not a flag")
    return octets


def flag_names(names: Iterable[str]) -> bytes:
    """Write names of flags in parentheses, perhaps none.

    Raises:
        ValueError: one of them is no flag.
    """
    words = list(names)
    octets = " ".join(words).encode("ascii")
    if _FLAGS.fullmatch(octets) is None or octets.count(b" ") != max(0, len(words) - 1):
        octets = b" ".join(map(flag_name, words))  # says which
    return b"(%b)" % octets


def flag_list(flags: Flags, recent: bool = False) -> bytes:
    r"""Write the flags of a message in parentheses, with `\Recent` if asked (T9)."""
    names = flags.names()
    if recent:
        names.append("\\Recent")
    return flag_names(names)


def internal_date(when: InternalDate) -> bytes:
    """Write a date-time in its own zone with its quotes: 26 characters between them, the
    day padded with a space (T32).

    Raises:
        ValueError, OverflowError: not within the years 1 to 9999.
    """
    day, second = divmod(when.seconds + when.zone * 60, 86400)
    return b'"%b %02d:%02d:%02d %b"' % (
        _day(day),
        second // 3600,
        second // 60 % 60,
        second % 60,
        _zone(when.zone),
    )


@lru_cache(maxsize=4096)
def _day(day: int) -> bytes:
    """A day since 1970; a mailbox has many messages of each."""
    on = date.fromordinal(day + EPOCH_DAY)
    return b"%2d-%b-%04d" % (on.day, _MONTHS[on.month - 1], on.year)


@lru_cache(maxsize=256)
def _zone(zone: int) -> bytes:
    sign, minutes = (b"-", -zone) if zone < 0 else (b"+", zone)
    return b"%b%02d%02d" % (sign, minutes // 60, minutes % 60)


def number_set(numbers: NumSet | SequenceSet) -> bytes:
    """Write a set of numbers.

    Raises:
        ValueError: it is empty; the wire has no form for that.
    """
    if not numbers.ranges:
        raise ValueError("an empty set cannot be sent")
    return b",".join(
        _number(low) if low == high else b"%b:%b" % (_number(low), _number(high))
        for low, high in numbers.ranges
    )


def _number(number: int) -> bytes:
    return b"*" if number == STAR else b"%d" % number


# -- FETCH -------------------------------------------------------------------------------


def section_label(section: BodySection | BinarySection | BinarySize) -> bytes:
    """Write the name under which FETCH answers a section: `BODY[1.TEXT]<0>` (T28)."""
    if isinstance(section, BinarySize):
        return binary_label(b"BINARY.SIZE", section.path)
    if isinstance(section, BodySection):
        label = section.old_name or b"BODY[%b]" % section_spec(section)
    else:
        label = binary_label(b"BINARY", section.path)
    if section.partial is not None:
        label += b"<%d>" % section.partial[0]
    return label


def binary_label(name: bytes, path: tuple[int, ...]) -> bytes:
    """Write an item that takes a part number only (RFC 3516 §4.2)."""
    return b"%b[%b]" % (name, _path(path))


def _path(path: tuple[int, ...]) -> bytes:
    return b".".join(b"%d" % number for number in path)


def section_spec(section: BodySection) -> bytes:
    """Write what stands between the brackets of a section."""
    spec = _path(section.path)
    if section.text is not SectionText.ALL:
        spec += b"." * bool(spec) + section.text.value
    if section.fields:
        names = b" ".join(astring(name.encode("ascii")) for name in section.fields)
        spec += b" (%b)" % names
    return spec


def envelope(value: r.Envelope) -> bytes:
    """Write an ENVELOPE (T30)."""
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(value.date),
        nstring(value.subject),
        _addresses(value.from_),
        _addresses(value.sender),
        _addresses(value.reply_to),
        _addresses(value.to),
        _addresses(value.cc),
        _addresses(value.bcc),
        nstring(value.in_reply_to),
        nstring(value.message_id),
    )


def _addresses(addresses: tuple[r.Address, ...]) -> bytes:
    # "(" 1*address ")" / nil: no space between them
    if not addresses:
        return b"NIL"
    return b"(%b)" % b"".join(
        b"(%b %b %b %b)" % (nstring(a.name), nstring(a.route), nstring(a.mailbox), nstring(a.host))
        for a in addresses
    )


def body_structure(value: r.BodyStructure) -> bytes:
    """Write a BODY or BODYSTRUCTURE; extension data where the value has it (T30)."""
    if isinstance(value, r.MultiPart):
        words = [b"".join(map(body_structure, value.parts)), quoted_or_literal(value.subtype)]
        if value.extension is not None:
            words.append(_parameters(value.parameters))
            words += _extension(value.extension)
        return b"(%b)" % b" ".join(words)
    words = [
        quoted_or_literal(value.media_type),
        quoted_or_literal(value.subtype),
        _parameters(value.parameters),
        nstring(value.content_id),
        nstring(value.description),
        quoted_or_literal(value.encoding),
        b"%d" % value.size,
    ]
    if value.envelope is not None and value.body is not None:
        words += (envelope(value.envelope), body_structure(value.body))
    if value.lines is not None:
        words.append(b"%d" % value.lines)
    if value.extension is not None:
        words.append(nstring(value.extension.md5))
        words += _extension(value.extension)
    return b"(%b)" % b" ".join(words)


def _extension(value: r.Extension) -> list[bytes]:
    disposition = b"NIL"
    if value.disposition is not None:
        disposition = b"(%b %b)" % (
            quoted_or_literal(value.disposition.kind),
            _parameters(value.disposition.parameters),
        )
    languages = b"NIL"
    if value.languages:
        languages = b"(%b)" % b" ".join(map(quoted_or_literal, value.languages))
    return [disposition, languages, nstring(value.location)]


def _parameters(parameters: tuple[tuple[bytes, bytes], ...]) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join(
        b"%b %b" % (quoted_or_literal(name), quoted_or_literal(value)) for name, value in parameters
    )


def _fetch_datum(item: r.FetchDatum) -> bytes:
    match item:
        case r.FlagsItem(names):
            return b"FLAGS " + flag_names(names)
        case r.UidItem(uid):
            return b"UID %d" % uid
        case r.InternalDateItem(when):
            return b"INTERNALDATE " + internal_date(when)
        case r.SizeItem(size):
            return b"RFC822.SIZE %d" % size
        case r.EnvelopeItem(value):
            return b"ENVELOPE " + envelope(value)
        case r.StructureItem(att, structure):
            return b"%b %b" % (att.value, body_structure(structure))
        case r.BinarySizeItem(section, size):
            return b"%b %d" % (section_label(section), size)
        case r.SectionItem(section, octets):
            if octets is not None and b"\0" in octets and isinstance(section, BinarySection):
                return b"%b %b" % (section_label(section), literal8(octets))
            return b"%b %b" % (section_label(section), nstring(octets))


# -- whole responses ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def response_text(text: str) -> bytes:
    """Make text for people fit to stand in a response: one line, printable US-ASCII, not
    empty (T19), not to be taken for a code or for the announcement of a literal.
    """
    line = _UNPRINTABLE.sub("?", text).strip() or "-"
    if line[0] == "[":
        line = "(" + line[1:]
    if line[-1] == "}":
        line += "."
    return line.encode("ascii")


def response_code(code: r.ResponseCode) -> bytes:
    """Write a response code without its brackets.

    Raises:
        ValueError: its text could not stand there.
    """
    match code:
        case r.Code(name, text):
            return _plain_code(name, text)
        case r.NumberCode(name, number):
            return b"%b %d" % (atom(name), number)
        case r.CapabilityCode(tokens):
            return b" ".join((b"CAPABILITY", *map(atom, tokens)))
        case r.PermanentFlags(names):
            return b"PERMANENTFLAGS " + flag_names(names)
        case r.BadCharset(charsets):
            if not charsets:
                return b"BADCHARSET"
            words = b" ".join(astring(name.encode("ascii")) for name in charsets)
            return b"BADCHARSET (%b)" % words
        case r.AppendUid(validity, uids):
            return b"APPENDUID %d %b" % (validity, number_set(uids))
        case r.CopyUid(validity, source, target):
            return b"COPYUID %d %b %b" % (validity, number_set(source), number_set(target))


@lru_cache(maxsize=256)
def _plain_code(name: bytes, text: bytes) -> bytes:
    if _CODE_TEXT.fullmatch(text) is None:
        raise ValueError(f"{text!r} cannot stand in a response code")
    return b"%b %b" % (atom(name), text) if text else atom(name)


def status(
    condition: r.Condition,
    text: str,
    code: r.ResponseCode | None = None,
    tag: bytes | None = None,
) -> bytes:
    """Write a status response, untagged without a tag."""
    bracketed = b"" if code is None else b"[%b] " % response_code(code)
    return b"%b %b %b%b\r\n" % (
        b"*" if tag is None else tag,
        condition.value,
        bracketed,
        response_text(text),
    )


def continuation(text: bytes = b"") -> bytes:
    """Write `+ text`; the space stands there also without text (T18).

    Raises:
        ValueError: text with CR or LF.
    """
    if b"\r" in text or b"\n" in text:
        raise ValueError("a continuation is one line")
    return b"+ %b\r\n" % text


def _status_response(value: r.Status) -> bytes:
    return status(value.condition, value.text, value.code, value.tag)


def _words(name: bytes, words: tuple[bytes, ...]) -> bytes:
    return b"* %b\r\n" % b" ".join((name, *map(atom, words)))


def _id(value: r.Id) -> bytes:
    if value.fields is None:
        return b"* ID NIL\r\n"
    pairs = b" ".join(
        b"%b %b"
        % (
            quoted_or_literal(name.encode("utf-8")),
            nstring(None if text is None else text.encode("utf-8")),
        )
        for name, text in value.fields
    )
    return b"* ID (%b)\r\n" % pairs


def _namespace(value: r.Namespace) -> bytes:
    return b"* NAMESPACE %b %b %b\r\n" % tuple(
        map(_namespace_entries, (value.personal, value.other_users, value.shared))
    )


def _namespace_entries(entries: tuple[r.NamespaceEntry, ...]) -> bytes:
    if not entries:
        return b"NIL"
    return b"(%b)" % b"".join(
        b"(%b %b)" % (quoted_or_literal(mutf7.encode(entry.prefix)), _delimiter(entry.delimiter))
        for entry in entries
    )


def _delimiter(delimiter: str | None) -> bytes:
    return b"NIL" if delimiter is None else quoted_or_literal(delimiter.encode("ascii"))


def _mailbox_list(value: r.MailboxList) -> bytes:
    extended = b""
    if value.child_info:
        options = b" ".join(b'"%b"' % atom(o.encode("ascii")) for o in value.child_info)
        extended = b' ("CHILDINFO" (%b))' % options
    return b"* %b %b %b %b%b\r\n" % (
        b"LSUB" if value.lsub else b"LIST",
        flag_names(value.attributes),
        _delimiter(value.delimiter),
        astring_mailbox(value.mailbox),
        extended,
    )


def _mailbox_status(value: r.MailboxStatus) -> bytes:
    items = b" ".join(
        b"%b %b" % (att.value, b"NIL" if number is None else b"%d" % number)
        for att, number in value.items
    )
    return b"* STATUS %b (%b)\r\n" % (astring_mailbox(value.mailbox), items)


def search_result(numbers: Iterable[int]) -> bytes:
    """Write a SEARCH response, also for no numbers at all (T33)."""
    return " ".join(("* SEARCH", *map(str, numbers))).encode("ascii") + b"\r\n"


def _extended_search_result(value: r.ExtendedSearchResult) -> bytes:
    words = [b"* ESEARCH"]
    if value.tag is not None:
        words.append(b"(TAG %b)" % quoted_or_literal(value.tag))
    if value.by_uid:
        words.append(b"UID")
    for name, number in ((b"MIN", value.min), (b"MAX", value.max), (b"COUNT", value.count)):
        if number is not None:
            words.append(b"%b %d" % (name, number))
    if value.all is not None:
        words.append(b"ALL " + number_set(value.all))
    return b" ".join(words) + b"\r\n"


def _fetch_data(value: r.FetchData) -> bytes:
    items = b" ".join(map(_fetch_datum, value.items))
    return b"* %d FETCH (%b)\r\n" % (value.number, items)


def _unknown(value: r.Unknown) -> bytes:
    raise ValueError("an unknown response cannot be written")


_WRITERS: dict[type, Callable[..., bytes]] = {
    r.Status: _status_response,
    r.Continuation: lambda value: continuation(value.text),
    r.Capability: lambda value: _words(b"CAPABILITY", value.tokens),
    r.Enabled: lambda value: _words(b"ENABLED", value.names),
    r.Id: _id,
    r.Namespace: _namespace,
    r.MailboxList: _mailbox_list,
    r.MailboxStatus: _mailbox_status,
    r.SearchResult: lambda value: search_result(value.numbers),
    r.ExtendedSearchResult: _extended_search_result,
    r.FlagsList: lambda value: b"* FLAGS %b\r\n" % flag_names(value.names),
    r.Exists: lambda value: b"* %d EXISTS\r\n" % value.number,
    r.Recent: lambda value: b"* %d RECENT\r\n" % value.number,
    r.Expunged: lambda value: b"* %d EXPUNGE\r\n" % value.number,
    r.FetchData: _fetch_data,
    r.Unknown: _unknown,
}


def write(response: r.Response) -> bytes:
    """Write a response with its CRLF.

    Raises:
        ValueError: a part of it has no form on the wire.
    """
    return _WRITERS[type(response)](response)
