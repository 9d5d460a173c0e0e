"""The words of IMAP's grammar, read from one `bytes` (RFC 3501 §9).

A `Scanner` is the octets of one command and an offset. Each method reads one thing at the
offset and moves it, or raises `SyntaxFault` saying what it wanted and where. Everything is
a compiled regular expression matched at the offset: nothing is sliced that is not
returned, and no expression can backtrack over more than a few octets (S5).

Literals stand in the octets as they came: `{5}` CRLF and five octets. A message of APPEND
is the exception: it goes elsewhere, so only its `{310}` CRLF stands there.

Leniencies (T54): several spaces count as one, a space may follow `(` and stand before `)`
or at the end. Hand-written clients and some phones send them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import NoReturn, TypeVar

import attrs

from mailserver.model.flags import MAX_KEYWORD_LENGTH, Flags
from mailserver.model.ids import MAX_MODSEQ, MAX_UID
from mailserver.model.message import EPOCH_DAY, InternalDate
from mailserver.model.numset import STAR, SequenceSet
from mailserver.wire.imap import mutf7
from mailserver.wire.imap.faults import LiteralPending, SyntaxFault

_T = TypeVar("_T")

# ATOM-CHAR = any CHAR except atom-specials; ASTRING-CHAR adds "]", list-char "%" and "*"
_ATOM_CHAR = rb"!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~"
_ATOM = re.compile(rb"[" + _ATOM_CHAR + rb"]++")
_ASTRING_ATOM = re.compile(rb"[\]" + _ATOM_CHAR + rb"]++")
_LIST_ATOM = re.compile(rb"[\]%*" + _ATOM_CHAR + rb"]++")
# tag = 1*<any ASTRING-CHAR except "+">; the name of a command is an atom
_HEAD = re.compile(
    rb" *+([\]" + _ATOM_CHAR.replace(b"+", b"") + rb"]++)(?= |\Z)"
    rb"(?: ++(?:([Uu][Ii][Dd]) ++(?=[" + _ATOM_CHAR + rb"]))?+([" + _ATOM_CHAR + rb"]++))?+"
)
# quoted = DQUOTE *QUOTED-CHAR DQUOTE; 8-bit octets are looked at afterwards
_QUOTED = re.compile(rb'"([^"\\\r\n\0]*+(?:\\["\\][^"\\\r\n\0]*+)*+)"')
_ESCAPED = re.compile(rb"\\(.)")
# literal = "{" number ["+"] "}" CRLF *CHAR8, literal8 = "~" literal
_LITERAL = re.compile(rb"(~?)\{([0-9]{1,19})(\+?)\}\r?\n")
_NIL = re.compile(rb"[Nn][Ii][Ll](?![" + _ATOM_CHAR + rb"])")
_NUMBER = re.compile(rb"0*+([0-9]*+)")
_NZ_NUMBER = re.compile(rb"[1-9][0-9]*+")
# sequence-set; nz-number has no leading zero (S3)
_RANGE = rb"(?:[1-9][0-9]{0,9}+|\*)(?::(?:[1-9][0-9]{0,9}+|\*))?+"
_SEQUENCE_SET = re.compile(_RANGE + rb"(?:," + _RANGE + rb")*+(?![0-9:,*])")
_SPACE = re.compile(rb" ++")
_END = re.compile(rb" *+\Z")
_OPEN = re.compile(rb"\( *+")
_CLOSE = re.compile(rb" *+\)")
_SEPARATOR = re.compile(rb" *+\)| ++")  # between the items of a list, or at its end
_FLAG = re.compile(rb"\\?[" + _ATOM_CHAR + rb"]++")
_FLAG_LIST = re.compile(rb"\( *+((?:\\?[" + _ATOM_CHAR + rb"]++(?=[ )]) *+)*+)\)")
_MONTHS = {
    name: number
    for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
# date = date-text / DQUOTE date-text DQUOTE
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
# date-time; a day without its leading space is tolerated
_DATE_TIME = re.compile(
    rb'"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) '
    rb'([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)


def decode_utf8(octets: bytes, charset: str) -> str:
    """Decode search text in US-ASCII or UTF-8, the charsets that need no tables.

    Raises:
        LookupError: another charset.
        UnicodeDecodeError: octets that are not in it.
    """
    if charset.upper() in ("UTF-8", "US-ASCII"):
        return octets.decode("utf-8" if charset.upper() == "UTF-8" else "ascii")
    raise LookupError(charset)


@attrs.frozen
class Dialect:
    """What a session lets its client write.

    Attributes:
        utf8: UTF-8 in quoted strings and mailbox names (RFC 6855, enabled by ENABLE).
        max_nesting: levels of parentheses, NOT and OR in a search programme (S3).
        response: the octets are a response: 8-bit octets, NUL and literal8 may stand where
            a command must not have them, for foreign servers send them.
        decode: turns octets of a charset into text, as `decode_utf8` does; raises
            LookupError and UnicodeDecodeError.
    """

    utf8: bool = False
    max_nesting: int = 32
    response: bool = False
    decode: Callable[[bytes, str], str] = decode_utf8


DEFAULT_DIALECT = Dialect()


class Scanner:
    """Reads one command's octets from the front to the back.

    Attributes:
        octets: the command without the CRLF that ends it.
        at: offset of what is read next.
        dialect: what is allowed.
        by_uid: the command is a UID variant; set by `head`.
    """

    __slots__ = ("at", "by_uid", "dialect", "octets")

    def __init__(self, octets: bytes, dialect: Dialect = DEFAULT_DIALECT) -> None:
        self.octets = octets
        self.at = 0
        self.dialect = dialect
        self.by_uid = False

    # -- faults, spaces, parentheses -----------------------------------------------------

    def fail(self, text: str, at: int | None = None) -> NoReturn:
        """Raise a fault at the offset, or at `at`."""
        raise SyntaxFault(text, self.at if at is None else at)

    def peek(self) -> int:
        """Return the octet at the offset, -1 at the end."""
        return self.octets[self.at] if self.at < len(self.octets) else -1

    def space(self) -> None:
        """Read one or more spaces."""
        match = _SPACE.match(self.octets, self.at)
        if match is None:
            self.fail("expected a space" if self.at < len(self.octets) else "expected more")
        self.at = match.end()

    def end(self) -> None:
        """Check that nothing but spaces is left."""
        if not self.at_end():
            self.fail("expected the end of the command")

    def at_end(self) -> bool:
        """Say whether nothing but spaces is left."""
        return self.at == len(self.octets) or _END.match(self.octets, self.at) is not None

    def opens(self) -> bool:
        """Read `(` if it is next, and say so."""
        match = _OPEN.match(self.octets, self.at)
        if match is None:
            return False
        self.at = match.end()
        return True

    def open(self) -> None:
        """Read `(`."""
        if not self.opens():
            self.fail("expected (")

    def closes(self) -> bool:
        """Read `)` if it is next, and say so."""
        match = _CLOSE.match(self.octets, self.at)
        if match is None:
            return False
        self.at = match.end()
        return True

    def items(self, read: Callable[[Scanner], _T]) -> list[_T]:
        """Read what is left of a list after its `(`: zero or more items and `)`."""
        out: list[_T] = []
        if self.closes():
            return out
        while True:
            out.append(read(self))
            match = _SEPARATOR.match(self.octets, self.at)
            if match is None:
                self.fail("expected a space or )")
            self.at = match.end()
            if self.octets[self.at - 1] == 0x29:
                return out

    def list_of(self, read: Callable[[Scanner], _T], what: str) -> list[_T]:
        """Read a list in parentheses of one or more items; `what` is named in the fault."""
        self.open()
        start = self.at
        out = self.items(read)
        if not out:
            self.fail(f"expected {what}", start)
        return out

    # -- words and strings ---------------------------------------------------------------

    def head(self) -> tuple[bytes, bytes]:
        """Read tag and command name.

        Returns:
            The tag, and the name in upper case, `UID FETCH` for UID variants; the name is
            empty if there is none.

        Raises:
            SyntaxFault: there is no tag to answer to.
        """
        match = _HEAD.match(self.octets)
        if match is None:
            self.fail("expected a tag")
        self.at = match.end()
        name = (match[3] or b"").upper()
        if match[2] is None:
            return match[1], name
        self.by_uid = True
        return match[1], b"UID " + name

    def atom(self, what: str = "an atom") -> bytes:
        """Read an atom; `what` is named in the fault."""
        match = _ATOM.match(self.octets, self.at)
        if match is None:
            self.fail(f"expected {what}")
        self.at = match.end()
        return match[0]

    def keyword(self, what: str) -> bytes:
        """Read an atom that is a word of the protocol, and return it in upper case."""
        return self.atom(what).upper()

    def word_follows(self, word: bytes) -> bool:
        """Read the protocol word with the spaces after it if they are next, and say so."""
        match = _ATOM.match(self.octets, self.at)
        if match is None or match[0].upper() != word:
            return False
        self.at = match.end()
        self.space()
        return True

    def astring(self, what: str = "a string") -> bytes:
        """Read an atom, a quoted string or a literal; `NIL` is a word like others (T20)."""
        match = _ASTRING_ATOM.match(self.octets, self.at)
        if match is None:
            return self.string(what)
        self.at = match.end()
        return match[0]

    def string(self, what: str = "a string") -> bytes:
        """Read a quoted string or a literal."""
        match = _QUOTED.match(self.octets, self.at)
        if match is None:
            return self._literal(what)
        out: bytes = match[1]
        if not out.isascii() and not (self.dialect.utf8 or self.dialect.response):
            self.fail("expected a literal for a string that is not US-ASCII")  # T20
        self.at = match.end()
        return _ESCAPED.sub(rb"\1", out) if b"\\" in out else out

    def nstring(self) -> bytes | None:
        """Read a string, or NIL as None."""
        match = _NIL.match(self.octets, self.at)
        if match is None:
            return self.string("a string or NIL")
        self.at = match.end()
        return None

    def _literal(self, what: str) -> bytes:
        match = _LITERAL.match(self.octets, self.at)
        if match is None:
            if self.peek() == 0x22:
                self.fail("this quoted string has no end, or holds a CR, NUL or bad backslash")
            self.fail(f"expected {what}")
        start = match.end()
        end = start + int(match[2])
        if end > len(self.octets):
            raise LiteralPending("expected the octets of the literal", self.at)
        out = self.octets[start:end]
        if not self.dialect.response:
            if match[1]:
                self.fail("a binary literal is allowed in APPEND only")
            if b"\0" in out:
                self.fail("a NUL in a literal", start + out.index(b"\0"))
        self.at = end
        return out

    def literal_header(self) -> tuple[int, bool, bool]:
        """Read the announcement of a literal whose octets go elsewhere, the last of the
        octets.

        Returns:
            The size in octets, whether it is a literal8, whether the client waits.
        """
        match = _LITERAL.match(self.octets, self.at)
        if match is None or match.end() != len(self.octets) or int(match[2]) > MAX_MODSEQ:
            self.fail("expected a literal with the message")
        self.at = match.end()
        return int(match[2]), match[1] == b"~", match[3] == b""

    def text(self, what: str = "a string") -> str:
        """Read an astring as text in UTF-8."""
        start = self.at
        octets = self.astring(what)
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("expected text in UTF-8", start)

    def charset_text(self, charset: str) -> str:
        """Read an astring as text in a charset that the dialect decodes.

        Raises:
            LookupError: the dialect does not know the charset.
        """
        start = self.at
        octets = self.astring()
        try:
            return self.dialect.decode(octets, charset)
        except UnicodeDecodeError:
            self.fail("this text is not in its charset", start)

    def mailbox(self) -> str:
        """Read a mailbox name as text, not yet canonical (T21).

        In a response, what is no modified UTF-7 is taken for UTF-8: such a mailbox can be
        shown but not named back.
        """
        start = self.at
        return self._mailbox_text(self.astring("a mailbox name"), start)

    def list_mailbox(self) -> str:
        """Read a mailbox name with the wildcards of LIST as text."""
        start = self.at
        match = _LIST_ATOM.match(self.octets, start)
        if match is None:
            return self._mailbox_text(self.string("a mailbox name or pattern"), start)
        self.at = match.end()
        return self._mailbox_text(match[0], start)

    def _mailbox_text(self, octets: bytes, start: int) -> str:
        if self.dialect.utf8:
            try:
                return octets.decode("utf-8")
            except UnicodeDecodeError:
                self.fail("expected a mailbox name in UTF-8", start)
        try:
            return mutf7.decode(octets)
        except ValueError as error:
            if self.dialect.response:
                return octets.decode("utf-8", "replace")
            self.fail(f"this mailbox name is {error}", start)

    # -- numbers and sets ----------------------------------------------------------------

    def number(self, largest: int = MAX_MODSEQ) -> int:
        """Read a number of up to 63 bits; leading zeros are allowed (S3)."""
        match = _NUMBER.match(self.octets, self.at)
        if match is None or match.end() == self.at:
            self.fail("expected a number")
        digits = match[1]
        if len(digits) > 19 or int(digits or b"0") > largest:
            self.fail(f"expected a number up to {largest}")
        self.at = match.end()
        return int(digits or b"0")

    def nz_number(self, largest: int = MAX_UID) -> int:
        """Read a number above 0 without leading zeros, of up to 32 bits."""
        match = _NZ_NUMBER.match(self.octets, self.at)
        if match is None:
            self.fail("expected a number above 0")
        if len(match[0]) > 19 or int(match[0]) > largest:
            self.fail(f"expected a number up to {largest}")
        self.at = match.end()
        return int(match[0])

    def sequence_set(self) -> SequenceSet:
        """Read a sequence set."""
        match = _SEQUENCE_SET.match(self.octets, self.at)
        if match is None:
            self.fail("expected a sequence set")
        ranges: list[tuple[int, int]] = []
        for item in match[0].split(b","):
            first, colon, second = item.partition(b":")
            low = STAR if first == b"*" else int(first)
            high = low if not colon else STAR if second == b"*" else int(second)
            if low > MAX_UID or high > MAX_UID:
                self.fail(f"expected numbers up to {MAX_UID} in this sequence set")
            ranges.append((low, high))
        self.at = match.end()
        return SequenceSet(tuple(ranges))

    # -- flags, dates --------------------------------------------------------------------

    def flag(self) -> str:
        """Read a flag or keyword, of which `Flags.of` says whether it can be stored."""
        match = _FLAG.match(self.octets, self.at)
        if match is None:
            self.fail("expected a flag")
        if match.end() - self.at > MAX_KEYWORD_LENGTH:
            self.fail(f"expected a keyword of at most {MAX_KEYWORD_LENGTH} characters")
        self.at = match.end()
        return match[0].decode("ascii")

    def flag_list(self) -> Flags:
        """Read flags in parentheses, perhaps none."""
        start = self.at
        match = _FLAG_LIST.match(self.octets, start)
        if match is None or len(match[0]) > MAX_KEYWORD_LENGTH:  # find out why
            self.open()
            return self.make_flags(self.items(Scanner.flag), start)
        self.at = match.end()
        return self.make_flags(match[1].decode("ascii").split(), start)

    def make_flags(self, names: list[str], start: int) -> Flags:
        r"""Make `Flags` of names; `\Recent` and unknown `\Xyz` are faults (T9, T11)."""
        try:
            return Flags.of(*names)
        except ValueError as error:
            self.fail(str(error), start)

    def date(self) -> int:
        """Read a date and return its proleptic Gregorian ordinal."""
        match = _DATE.match(self.octets, self.at)
        if match is None:
            self.fail("expected a date like 1-Feb-1994")
        out = self._ordinal(match[2], match[3], match[4])
        self.at = match.end()
        return out

    def date_time(self) -> InternalDate:
        """Read a date with time and zone in quotes; a leap second becomes the one before."""
        match = _DATE_TIME.match(self.octets, self.at)
        if match is None:
            self.fail('expected a date and time like "01-Feb-1994 21:52:25 -0800"')
        hour, minute, second = int(match[4]), int(match[5]), int(match[6])
        zone_hour, zone_minute = int(match[8]), int(match[9])
        if hour > 23 or minute > 59 or second > 60 or zone_hour > 23 or zone_minute > 59:
            self.fail("expected a time of 24 hours and a zone within a day")
        zone = zone_hour * 60 + zone_minute
        if match[7] == b"-":
            zone = -zone
        day = self._ordinal(match[1], match[2], match[3]) - EPOCH_DAY
        self.at = match.end()
        return InternalDate(((day * 24 + hour) * 60 + minute - zone) * 60 + min(second, 59), zone)

    def _ordinal(self, day: bytes, month: bytes, year: bytes) -> int:
        try:
            return date(int(year), _MONTHS[month.lower()], int(day)).toordinal()
        except (KeyError, ValueError):
            self.fail("expected a day that exists")
