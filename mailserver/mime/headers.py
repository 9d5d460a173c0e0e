"""Header fields and what is in them: addresses, dates, message ids, parameters.

RFC 5322 with its obsolete forms, RFC 2045 §5.1 and RFC 2231 for parameters, and the
leniencies of RFC 7103 §7. Values stay octets; `words` makes text of them.

Every function is linear in its input: the regular expressions use possessive
repetition, so none of them backtracks, and a quotation mark or parenthesis that is
never closed is looked for once and then taken for an ordinary character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from itertools import islice
from typing import NamedTuple

# field = name *WSP ":" value *(CRLF WSP more) CRLF      RFC 5322 §2.2, §4.5.8
# A line that is no field is matched too, with its continuations and without a name
# (RFC 7103 §7.2), so that consecutive matches tile the header.
_FIELD = re.compile(
    rb"(?!\Z)(?:([!-9;-~]++)[ \t]*+:)?+([^\n]*+(?:\n[ \t][^\n]*+)*+)\n?+",
)


MAX_FIELDS = 10_000
"""Fields of one header that are read."""

Field = tuple[bytes, bytes, int]
"""One header field: its name in lower case, empty for a line that is no field; its value, raw,
with its folding; its offset in the header."""


def split_fields(header: bytes, limit: int) -> list[Field]:
    """The fields of a header, which ends without its empty line; at most `limit`.

    Each field reaches to the start of the next, the last to the end of the header.
    """
    return [
        ((found[1] or b"").lower(), found[2], found.start())
        for found in islice(_FIELD.finditer(header), limit)
    ]


def unfold(value: bytes) -> bytes:
    """A field's value on one line, trimmed, without NUL (RFC 5322 §2.2.3).

    A fold becomes one space, with the blanks that stood around it.
    """
    value = value.replace(b"\0", b"").strip(b" \t\r\n")
    if b"\n" in value or b"\r" in value:
        value = _FOLD.sub(b" ", value)
    return value


_FOLD = re.compile(rb"(?<![ \t\r\n])[ \t]*+[\r\n][ \t\r\n]*+")


# --- addresses ----------------------------------------------------------------------


class Address(NamedTuple):
    """One member of an address list, as ENVELOPE has it (RFC 9051 §7.5.2).

    Attributes:
        name: display name or None; encoded words are kept as they are.
        route: obsolete source route or None.
        mailbox: local part without quoting; the name of a group that begins here; None
            where a group ends.
        host: domain, or None for a group's beginning and end.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


MISSING_MAILBOX = b"MISSING_MAILBOX"
MISSING_DOMAIN = b"MISSING_DOMAIN"
"""Stand for what an unreadable address lacks. NIL would say that a group begins or ends;
the words are Dovecot's, which clients have learned to know."""

GROUP_END = Address(None, None, None, None)

# The forms that nearly all addresses have, ended by a comma or the end:
#   word@domain      Name <word@domain>      "Name" <word@domain>
_SIMPLE = re.compile(
    rb"[ \t]*+(?:(?:\"([^\"\\]*+)\"|([^\"(),:;<>@\[\]\\]*+))[ \t]*+<"
    rb"([^ \t\"(),:;<>@\[\]\\]++)@([^ \t\"(),:;<>@\[\]\\]++)>"
    rb"|([^ \t\"(),:;<>@\[\]\\]++)@([^ \t\"(),:;<>@\[\]\\]++))[ \t]*+(?:,|\Z)"
)

_TOKEN = re.compile(
    rb"[ \t]++|[^ \t\"(),:;<>@\[\\]++|\"((?:[^\"\\]++|\\.)*+)\"|\[[^\[\]\\]*+\]|.",
    re.DOTALL,
)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"[()]|\\.", re.DOTALL)


def parse_addresses(value: bytes, limit: int) -> list[Address]:
    """An address list (RFC 5322 §3.4 and §4.4), read as leniently as RFC 7103 §7.1 asks.

    Args:
        value: one line (`unfold`).
        limit: at most so many members, group markers included; the end of a group that
            is then open comes in addition.

    Returns:
        Addresses and group markers in their order. What cannot be read stands with
        `MISSING_MAILBOX` or `MISSING_DOMAIN`; nothing is raised.
    """
    addresses: list[Address] = []
    at = 0
    while at < len(value) and len(addresses) < limit:
        simple = _SIMPLE.match(value, at)
        if simple is None:
            slow = _AddressReader(value, at, limit - len(addresses))
            addresses += slow.read()
            break
        quoted, name, mailbox, host, bare_mailbox, bare_host = simple.groups()
        if bare_mailbox is not None:
            addresses.append(Address(None, None, bare_mailbox, bare_host))
        else:
            phrase = quoted if quoted is not None else b" ".join(name.split())
            addresses.append(Address(phrase or None, None, mailbox, host))
        at = simple.end()
    return addresses


# In a list of tokens, kept apart from the same character in a quoted string. Neither octet
# can stand in an unfolded value.
_GAP, _AT = b"\n", b"\r"

MAX_TOKENS = 100_000
"""Tokens of unusual addresses that are read in one field."""


class _AddressReader:
    """Reads a list token by token; takes over where an unusual address begins."""

    def __init__(self, value: bytes, at: int, limit: int) -> None:
        self._value = value
        self._at = at
        self._limit = limit
        self._addresses: list[Address] = []
        self._in_group = False
        self._is_over = False
        self._begin()

    def _begin(self) -> None:
        self._words: list[bytes] = []  # tokens of the phrase, or of an address without brackets
        self._spec: list[bytes] | None = None  # tokens inside angle brackets
        self._comment: bytes | None = None
        self._spaced = False  # a blank stands before the next token
        self._has_at = False  # among the words
        self._in_route = False  # in "<@host,@host:", whose commas separate no addresses
        self._follows = False  # no comma came since the last address

    def read(self) -> list[Address]:
        value, at = self._value, self._at
        open_quote = open_comment = True
        for _count in range(MAX_TOKENS):
            found = _TOKEN.match(value, at)
            if found is None or self._is_over or len(self._addresses) >= self._limit:
                break
            token = found[0]
            at = found.end()
            if token[0] in b" \t":
                self._spaced = True
            elif found[1] is not None:
                self._add(_PAIR.sub(rb"\1", found[1]))
            elif token == b'"':
                if open_quote:
                    # RFC 7103 §7.1.6. Once unclosed, no later one can be closed either, and
                    # looking for the end each time would be quadratic.
                    open_quote = False
                    value = value[:at] + value[at:].replace(b'"', b" ")
            elif token == b"(":
                stop = _comment_end(value, at) if open_comment else -1
                if stop < 0:
                    open_comment = False  # RFC 7103 §7.1.4
                else:
                    if self._words:  # as a name it stands behind, RFC 5322 §3.4
                        self._comment = _PAIR.sub(rb"\1", value[at : stop - 1]).strip(b" \t")
                    at = stop
            elif token in _HANDLERS:
                _HANDLERS[token](self)
            else:
                self._add(token)
        self._in_route = False
        self._comma()
        if self._in_group:
            self._addresses.append(GROUP_END)
        return self._addresses

    def _add(self, token: bytes) -> None:
        words = self._words
        if self._spec is not None:
            self._spec.append(token)
            return
        if self._spaced and words:
            before = words[-1]
            if self._has_at and token != _AT and not _is_joint(before, token):
                self._comma()  # "a@b c@d": the comma between them is missing
                self._follows = True
                words = self._words
            else:
                words.append(_GAP)
        words.append(token)
        self._spaced = False

    def _at_sign(self) -> None:
        if self._spec is not None:
            self._in_route = self._in_route or not self._spec
        self._add(_AT)
        self._has_at = self._spec is None

    def _open_angle(self) -> None:
        if self._spec is None:  # RFC 7103 §7.1.2: more than one
            self._spec = []

    def _close_angle(self) -> None:
        if self._spec is None:
            return  # RFC 7103 §7.1.3
        spec, route = self._spec, None
        if spec[:1] == [_AT] and b":" in spec:
            colon = spec.index(b":")
            route, spec = _plain(spec[:colon]), spec[colon + 1 :]
        self._append(_plain(self._words) or self._comment, route, spec)
        self._begin()
        self._follows = True

    def _comma(self) -> None:
        """A comma or the end came: what stands without brackets is complete."""
        if self._in_route and self._spec is not None:
            self._spec.append(b",")
            return
        if self._spec is not None:
            self._close_angle()  # RFC 7103 §7.1.3, §7.1.5
        words = self._words
        if self._has_at:
            first = _local_part(words)
            name = _plain(words[:first]).rstrip(b" ") or self._comment
            self._append(name, None, [word for word in words[first:] if word != _GAP])
        elif words and not self._follows:  # after an address it is no address of its own
            text = _plain(words)
            if _GAP in words:
                self._addresses.append(Address(text, None, MISSING_MAILBOX, MISSING_DOMAIN))
            else:
                self._append(self._comment, None, [text])
        self._begin()

    def _semicolon(self) -> None:
        if self._spec is not None:
            self._close_angle()
        self._comma()
        if self._in_group:
            self._addresses.append(GROUP_END)
        # Elsewhere it ends the list: RFC 5322 §3.4 has commas between addresses.
        self._is_over = not self._in_group
        self._in_group = False

    def _colon(self) -> None:
        if self._spec is not None or self._in_group or self._has_at:
            self._in_route = False
            self._add(b":")
            return
        name = _plain(self._words) or self._comment or b""
        self._addresses.append(Address(None, None, name, None))
        self._in_group = True
        self._begin()

    def _append(self, name: bytes | None, route: bytes | None, spec: list[bytes]) -> None:
        """Add the address that the tokens of an addr-spec make."""
        at = len(spec)
        if _AT in spec:
            at -= 1 + spec[::-1].index(_AT)
        self._addresses.append(
            Address(
                name or None,
                route,
                _plain(spec[:at]) or MISSING_MAILBOX,
                _plain(spec[at + 1 :]) or MISSING_DOMAIN,
            )
        )


_HANDLERS: dict[bytes, Callable[[_AddressReader], None]] = {
    b"@": _AddressReader._at_sign,
    b"<": _AddressReader._open_angle,
    b">": _AddressReader._close_angle,
    b",": _AddressReader._comma,
    b";": _AddressReader._semicolon,
    b":": _AddressReader._colon,
    b"\\": lambda _reader: None,
}


def _plain(tokens: list[bytes]) -> bytes:
    return b"".join(tokens).replace(_GAP, b" ").replace(_AT, b"@")


def _is_joint(before: bytes, after: bytes) -> bool:
    """Whether a blank between two tokens may be part of an address (RFC 5322 §4.4)."""
    return _AT in (before, after) or before[-1:] == b"." or after[:1] == b"."


def _local_part(words: list[bytes]) -> int:
    """Index of the first token of the local part; before it is a name without brackets."""
    first = words.index(_AT)
    while first > 0:
        joint = words[first] == _GAP or words[first - 1] != _GAP
        if not joint and (first < 2 or not _is_joint(words[first - 2], words[first])):
            break
        first -= 1
    return first


def _comment_end(value: bytes, at: int) -> int:
    """The offset behind the comment whose text begins at `at`, or -1 if it is not closed."""
    depth = 1
    for found in _COMMENT.finditer(value, at):
        if found[0] == b"(":
            depth += 1
        elif found[0] == b")":
            depth -= 1
            if not depth:
                return found.end()
    return -1


def without_comments(value: bytes) -> bytes:
    """`value` without RFC 5322 comments; quoted strings keep their parentheses."""
    if b"(" not in value:
        return value
    pieces: list[bytes] = []
    at = 0
    while True:
        opened = _QUOTED_OR_OPEN.search(value, at)
        if opened is None:
            break
        if opened[0] != b"(":
            pieces.append(value[at : opened.end()])
            at = opened.end()
            continue
        stop = _comment_end(value, opened.end())
        if stop < 0:
            break
        pieces += [value[at : opened.start()], b" "]
        at = stop
    pieces.append(value[at:])
    return b"".join(pieces)


_QUOTED_OR_OPEN = re.compile(rb"\"(?:[^\"\\]++|\\.)*+\"?|\(", re.DOTALL)


# --- dates --------------------------------------------------------------------------


class SentDate(NamedTuple):
    """A Date field: seconds since 1970 UTC, and the ordinal day as written (T32)."""

    seconds: int
    day: int


# [day-name ","] day month year hour ":" minute [":" second] [zone]     RFC 5322 §3.3, §4.3
# Also seen: "-" between the members, the year behind the time (asctime), no comma, ".".
_DATE = re.compile(
    rb"[ \t]*+(?:[A-Za-z]{2,12}+\.?,?[ \t]*+)?+(\d{1,2}+)[ \t-]*+([A-Za-z]{3})[A-Za-z]{0,6}+\.?"
    rb"[ \t,-]*+(\d{2,4}+),?"
    rb"(?:[ \t]++(\d{1,2}+)[:.](\d{2})(?:[:.](\d{2})(?:\.\d{1,9}+)?+)?+"
    rb"([ \t]*+)([+-]\d{4}(?!\d)|[A-Za-z]{1,5}+)?+)?+"
)
_ASCTIME = re.compile(
    rb"[ \t]*+[A-Za-z]{3,9}+,?[ \t]++([A-Za-z]{3})[A-Za-z]{0,6}+[ \t]++(\d{1,2}+),?[ \t]++"
    rb"(\d{1,2}+):(\d{2})(?::(\d{2}))?+[ \t]*+([A-Za-z]{1,5}+)?+[ \t]*+(\d{4})"
    rb"(?:[ \t]++([+-]\d{4}))?+"
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}
# RFC 5322 §4.3; letters of the military zones are said to mean nothing: "-0000".
_ZONES = {
    b"ut": 0, b"utc": 0, b"gmt": 0, b"z": 0,
    b"est": -300, b"edt": -240, b"cst": -360, b"cdt": -300,
    b"mst": -420, b"mdt": -360, b"pst": -480, b"pdt": -420,
    b"bst": 60, b"cet": 60, b"cest": 120, b"met": 60, b"mest": 120,
    b"eet": 120, b"eest": 180, b"msk": 180, b"jst": 540, b"kst": 540, b"hkt": 480,
}  # fmt: skip
_EPOCH_DAY = 719163


def parse_date(value: bytes) -> SentDate | None:
    """A Date field's value, read liberally; None where day, month or year cannot be read.

    A missing or impossible time counts as 00:00 in UTC (RFC 5256 §2.2); two-digit years are
    taken as RFC 5322 §4.3 says.
    """
    value = unfold(without_comments(value))
    found = _DATE.match(value)
    if found is not None:
        day, month, year, hour, minute, second, blank, zone = found.groups()
        if zone is not None and not blank and zone[:1] in b"+-":
            return None  # RFC 5322 §3.3 wants the blank, and "10:00-0100" may be two times
    else:
        found = _ASCTIME.match(value)
        if found is None:
            return None
        month, day, hour, minute, second, name, year, offset = found.groups()
        zone = offset or name
    ordinal = _ordinal(year, _MONTHS.get(month.lower(), 0), int(day))
    if ordinal is None:
        return None
    at = 0
    if hour is not None:
        hours, minutes, seconds = int(hour), int(minute), int(second or 0)
        if hours < 24 and minutes < 60 and seconds <= 60:
            at = (hours * 60 + minutes - _zone_minutes(zone)) * 60 + seconds
    return SentDate((ordinal - _EPOCH_DAY) * 86400 + at, ordinal)


def _zone_minutes(zone: bytes | None) -> int:
    if zone is None:
        return 0
    if zone[:1] in (b"+", b"-"):
        hours, minutes = divmod(int(zone[1:]), 100)
        if hours > 23 or minutes > 59:
            return 0
        return (hours * 60 + minutes) * (-1 if zone[:1] == b"-" else 1)
    return _ZONES.get(zone.lower(), 0)


def _ordinal(year_digits: bytes, month: int, day: int) -> int | None:
    """The proleptic Gregorian ordinal, or None for a day that does not exist."""
    year = int(year_digits)
    if len(year_digits) == 2:
        year += 2000 if year < 50 else 1900
    elif len(year_digits) == 3:
        year += 1900
    try:
        return date(year, month, day).toordinal()
    except ValueError:
        return None


# --- message ids --------------------------------------------------------------------

_MESSAGE_ID = re.compile(rb"<([^<>]*+)>")
MAX_REFERENCES = 256
"""Ids kept of a References field: the first, which names the thread, and the latest."""


def parse_message_ids(value: bytes) -> tuple[str, ...]:
    """The message ids of a References, In-Reply-To or Message-ID field, in their order.

    Each with its angle brackets, without blanks, its local part unquoted, so that equal
    ids are equal strings (RFC 5256 §3, REFERENCES). At most `MAX_REFERENCES`.
    """
    found = _MESSAGE_ID.findall(value)
    if len(found) > MAX_REFERENCES:
        found = found[:1] + found[1 - MAX_REFERENCES :]
    plain = [b"".join(each.split()) for each in found]
    return tuple([_normal_id(each) for each in plain if each])


def _normal_id(octets: bytes) -> str:
    if octets[:1] == b'"':
        local, quote, domain = octets[1:].rpartition(b'"@')
        if quote:
            octets = _PAIR.sub(rb"\1", local) + b"@" + domain
    return "<" + octets.decode("utf-8", "replace").replace("\0", "") + ">"


# --- parameters ---------------------------------------------------------------------

Parameters = list[tuple[bytes, bytes]]
"""Names in lower case and values without quoting, in their order."""

MAX_PARAMETERS = 128
"""Parameters kept of one field; more than a few dozen have no honest use."""

_TYPE = re.compile(rb"[ \t]*+([!#-'*+.0-9A-Z^-~-]++)[ \t]*+(?:/[ \t]*+([!#-'*+.0-9A-Z^-~-]++))?+")
# Leniencies: blanks around "=", values with blanks in them that should have been quoted,
# a quotation mark that is never closed.
_PARAMETER = re.compile(
    rb"[^;]*+;[ \t;]*+"
    rb"(?:([^ \t;=\"]++)[ \t]*+=[ \t]*+(?:\"((?:[^\"\\]++|\\.)*+)\"?+|([^;]*+)))?+",
    re.DOTALL,
)


class Valued(NamedTuple):
    """A field that is a word, perhaps with a second after a slash, and parameters."""

    kind: bytes
    subtype: bytes
    parameters: Parameters


def parse_parameters(value: bytes) -> Valued:
    """Content-Type or Content-Disposition (RFC 2045 §5.1, RFC 2183 §2).

    Continued parameters are joined (RFC 2231 §3, RFC 9051 §7.5.2): `name*0`, `name*1` to
    `name`; `name*0*`, `name*1` to `name*`, whose value keeps its charset and percent signs.
    Of two parameters with one name the first counts.

    Args:
        value: raw. `kind` and `subtype` come back as written, empty where missing.
    """
    value = without_comments(unfold(value))
    found = _TYPE.match(value)
    kind, subtype, at = b"", b"", 0
    if found is not None:
        kind, subtype, at = found[1], found[2] or b"", found.end()
    parameters: dict[bytes, bytes] = {}
    pieces: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    for _count in range(MAX_PARAMETERS):
        match = _PARAMETER.match(value, at)
        if match is None:
            break
        at = match.end()
        name, quoted, text = match.groups()
        if name is None:
            continue
        name = name.lower()
        if quoted is None:
            text = text.strip(b" \t")
        else:
            text = _PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        if b"*" in name:
            base, number, extended = _continuation(name)
            if number is not None:
                pieces.setdefault(base, {}).setdefault(number, (text, extended))
                continue
        parameters.setdefault(name, text)
    for base, numbered in pieces.items():
        joined, extended = _joined(numbered)
        parameters.setdefault(base + b"*" if extended else base, joined)
    return Valued(kind, subtype, list(parameters.items()))


def _continuation(name: bytes) -> tuple[bytes, int | None, bool]:
    """`name*1*` as (b"name", 1, True); the number is None for a plain `name*`."""
    base, _star, rest = name.partition(b"*")
    number = rest.removesuffix(b"*")
    if number.isdigit() and len(number) <= 4:
        return base, int(number), rest.endswith(b"*")
    return base, None, rest == b""


def _joined(numbered: dict[int, tuple[bytes, bool]]) -> tuple[bytes, bool]:
    """The pieces 0, 1, … up to the first gap, and whether the first is extended."""
    texts: list[bytes] = []
    while len(texts) in numbered:
        texts.append(numbered[len(texts)][0])
    return b"".join(texts), numbered.get(0, (b"", False))[1]
