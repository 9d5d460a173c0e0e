"""Mail as people read it: text for SEARCH (T33) and previews (RFC 8970).

Searched is what is seen. Header fields are decoded, bodies of text parts decoded through
transfer encoding and charset, and of HTML only what is shown: tags, attributes, comments,
style and script are left out, so that "font" does not find every message. Names of attached
files and the headers of embedded messages belong to the body.
"""

from __future__ import annotations

import html
import re
import unicodedata

import attrs

from mailserver.mime.addresses import MAX_ADDRESSES, address_values, is_plain, written
from mailserver.mime.buffers import Buffer, Octets, buffer_of
from mailserver.mime.charsets import decode
from mailserver.mime.decode import Encoding, decode_leniently
from mailserver.mime.headers import parse_addresses
from mailserver.mime.structure import Part, parse
from mailserver.mime.words import decode_words

MAX_TEXT = 2 << 20
"""Octets of text parts of one message that are decoded for search; the rest is not found."""

PREVIEW_LENGTH = 200
"""Characters; RFC 8970 §3.3 advises 200 and forbids more than 256."""

_PREVIEW_OCTETS = {b"plain": (2048, 16384), b"html": (4096, 32768)}
"""Octets of a part to make a preview of: first the few, more if they do not suffice."""


@attrs.frozen
class SearchText:
    r"""What SEARCH looks into, folded by `fold`.

    Attributes:
        header: one line `name: value\n` for each field of the main header, in their order,
            names in lower case; no other line end occurs in it.
        envelope: such lines for From, To, Cc and Bcc as the envelope has them; empty if that
            is how they are written.
        body: text of all text parts, names of attached files, headers of embedded messages.
    """

    header: str
    envelope: str
    body: str


# Normalising sorts combining marks, in time quadratic in the length of their run. As UAX 15
# D4 (stream-safe text) says, a joiner is put behind each 30. Looking at every 64th letter
# finds the runs that are long enough to matter at a 64th of the price.
_SAMPLED = 64
_NOT_LETTER = re.compile(r"[^\w\s\x00-\x7f]")
_LONG_RUN = re.compile(r"[^\w\s\x00-\x7f]{30}")


def fold(text: str) -> str:
    """The form in which needles and haystacks are compared: two texts match if one's fold
    is in the other's.

    Case is folded and compatibility variants (full width, half width, ligatures) are made
    one (Unicode NFKC_Casefold); accents stay. A run of white space counts as one space, so
    that words are found across a line end. Linear.
    """
    if text.isascii():
        text = text.lower()
    else:
        if _NOT_LETTER.search(text[::_SAMPLED]):
            text = _LONG_RUN.sub(_joined, text)
        normalize = unicodedata.normalize
        text = normalize("NFKC", normalize("NFKC", text.casefold()).casefold())
    words = " ".join(text.split())
    before = " " if text[:1].isspace() else ""
    after = " " if words and text[-1:].isspace() else ""
    return f"{before}{words}{after}"


def _joined(run: re.Match[str]) -> str:
    """`run` and a joiner, if all of it are combining marks; lines drawn with signs are none."""
    marks = all(map(unicodedata.combining, unicodedata.normalize("NFKD", run[0])))
    return f"{run[0]}\u034f" if marks else run[0]


def search_text(octets: Octets) -> SearchText:
    """Decoded, folded text of a whole message. Never raises.

    Args:
        octets: the message as it is stored; at most `MAX_TEXT` octets of text are used.
    """
    buffer = buffer_of(octets)
    parts = parse(buffer)
    body: list[str] = []
    left = MAX_TEXT
    for part in parts:
        if part.parent >= 0:
            body += header_lines(part)
            body += _file_names(part)
        if _is_readable(part) and left > 0:
            body.append(part_text(buffer, part, left))
            left -= part.end - part.body
    header = "".join([f"{fold(line)}\n" for line in header_lines(parts[0])])
    text = "\n".join(body)
    if text.count(_EXPANDING) > _EXPANDING_KEPT:
        text = text.replace(_EXPANDING, "")
    return SearchText(header, _envelope_lines(parts[0]), fold(text))


_EXPANDING = "\ufdfa"
"""The one letter that NFKC makes 18 of; no honest text has thousands of it."""

_EXPANDING_KEPT = 1000


_SEARCHED = (b"from", b"to", b"cc", b"bcc")


def _envelope_lines(message: Part) -> str:
    values = address_values(message)
    present = [name for name in _SEARCHED if name in values]
    if all(is_plain(values[name]) for name in present):
        return ""
    lines: list[str] = []
    differs = False
    for name in present:
        value = values[name]
        addresses = parse_addresses(value, MAX_ADDRESSES)
        as_written = fold(decode_words(value))
        folded = fold(written(addresses)) if len(addresses) < MAX_ADDRESSES else as_written
        differs = differs or folded != as_written.replace('"', "")
        lines.append(f"{name.decode('ascii')}: {folded}\n")
    return "".join(lines) if differs else ""


def header_lines(part: Part) -> list[str]:
    """Every field of a message's header as `name: value`, decoded; a line that is no field
    as it is: TEXT finds what is in the header (RFC 3501 §6.4.4)."""
    return [
        f"{name.decode('ascii')}: {decode_words(value)}" if name else decode_words(value)
        for name, value, _start in part.header
    ]


def _is_readable(part: Part) -> bool:
    """Text in an encoding that is known; in another it is mere octets (RFC 2045 §6.4)."""
    content = part.content
    return content.is_text and content.encoding is not Encoding.UNKNOWN


def _file_names(part: Part) -> list[str]:
    """Name and description that people see of an attachment."""
    names = [name] if (name := part.content.file_name) else []
    if description := part.content.fields.get(b"content-description"):
        names.append(decode_words(description))
    return names


def part_text(buffer: Buffer, part: Part, limit: int) -> str:
    """A text part as it is read: decoded, HTML without its markup.

    Args:
        limit: octets of the part, as sent, that are used at most.
    """
    octets = buffer[part.body : min(part.end, part.body + limit)]
    content = part.content
    text = decode(decode_leniently(octets, content.encoding), content.charset)
    if content.minor != b"html":
        return text
    return html_text(text, is_cut=part.end > part.body + limit)


_HIDES = re.compile(r"<!(--)|<(script|style|template|title)\b", re.IGNORECASE)
_SHOWS = {
    "--": re.compile("-->"),
    **{
        name: re.compile(rf"</{name}\b[^<>]*+>?+", re.IGNORECASE)
        for name in ("script", "style", "template", "title")
    },
}
# `<[^<>]*` also ends at the next "<", so that "<<<<" stays linear.
# Both cases are spelled out: ignoring case would make this three times slower.
_INLINE = re.compile(
    r"</?(?:[abiqsuABIQSU]|s(?:pan|trong|mall|ub|up|trike)|S(?:PAN|TRONG|MALL|UB|UP|TRIKE)"
    r"|font|FONT|em|EM|wbr|WBR|big|BIG|code|CODE|mark|ins|del|cite|abbr|tt|TT|o:p)"
    r"(?=[\s/>])[^<>]*+>?+"
)
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*+>?+")


def html_text(text: str, *, is_cut: bool = False) -> str:
    """What a person sees of HTML: no markup, entities decoded. Linear.

    Tags that begin a line or a cell become a line end, so that the words on both sides
    stay two; those inside a line (`b`, `span`, `a`, …) leave nothing. For finding and
    previews only: it is not a sanitiser.

    Args:
        is_cut: it is the beginning of a longer text, so a style that is not closed may be so
            behind the end. In a whole text it hides nothing: it is the tag that is damaged,
            and what follows is to be found.
    """
    shown = _TAG.sub("\n", _INLINE.sub("", _without_hidden(text, is_cut)))
    return html.unescape(shown) if "&" in shown else shown


def _without_hidden(text: str, is_cut: bool) -> str:
    pieces: list[str] = []
    at = 0
    unclosed: set[str] = set()
    for opened in _HIDES.finditer(text):
        kind = (opened[1] or opened[2]).lower()
        if opened.start() < at or kind in unclosed:
            continue
        closed = _SHOWS[kind].search(text, opened.end())
        if closed is None and not is_cut:
            unclosed.add(kind)
            continue
        pieces += (text[at : opened.start()], "\n")
        at = closed.end() if closed else len(text)
    return "".join([*pieces, text[at:]]) if pieces else text


def preview(buffer: Buffer, parts: list[Part]) -> str:
    """At most `PREVIEW_LENGTH` characters of readable text on one line (RFC 8970 §3).

    The first plain text part that is no attachment and has text, else the first HTML part.
    Quoted lines are left out if anything else is there. Empty where there is no text.
    """
    for subtype, limits in _PREVIEW_OCTETS.items():
        for part in parts[:100]:
            content = part.content
            if (
                not _is_readable(part)
                or content.minor != subtype
                or content.is_attached
                or part.end == part.body
            ):
                continue
            text = ""
            for limit in limits:
                text = _digest(part_text(buffer, part, limit))
                if len(text) > PREVIEW_LENGTH // 2 or part.end - part.body <= limit:
                    break
            if text:
                return text
    return ""


# Soft hyphens, joiners, direction marks, controls: newsletters pad their previews with them.
_INVISIBLE = re.compile(
    "[\\0-\\x08\\x0e-\\x1f\\xad\u034f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+"
)


def _digest(text: str) -> str:
    """The beginning of a text on one line, unquoted lines first."""
    if not text.isascii() or "\0" in text:
        text = _INVISIBLE.sub("", text)
    own: list[str] = []
    quoted: list[str] = []
    length = 0
    for line in text.splitlines():
        words = " ".join(line.split())
        if words.startswith(">"):
            quoted.append(words)
        elif words:
            if words == "--":  # RFC 3676 §4.3: a signature follows
                break
            own.append(words)
            length += len(words) + 1
            if length > PREVIEW_LENGTH:
                break
    return " ".join(own or quoted)[:PREVIEW_LENGTH].rstrip()
