"""Base subject (RFC 5256 §2.1) and the collation that sort keys are kept in.

Every step works by moving two offsets inward over one string, so the whole is linear in
the subject's length, however many prefixes are piled up.
"""

from __future__ import annotations

import re
import unicodedata

_SPACES = re.compile(r"[ \t\r\n]+")
_REFWD = re.compile(r"(?:re|fwd?)[ \t]*(?:\[[^\[\]]*\][ \t]*)?:", re.IGNORECASE)
_BLOB = re.compile(r"\[[^\[\]]*\][ \t]*")


def casemap(text: str) -> str:
    """`text` by `i;unicode-casemap` (RFC 5051): title case, then decomposed.

    Two strings are the same to a client exactly if their casemaps are; SORT compares
    the casemaps' UTF-8 octets.
    """
    if text.isascii():
        return text.upper()
    titled = "".join([_titlecase(char) for char in text])
    return unicodedata.normalize("NFKD", titled)


def _titlecase(char: str) -> str:
    """The simple title-case mapping, which never changes the number of characters."""
    titled = char.title()
    return titled if len(titled) == 1 else char


def base_subject(subject: str) -> str:
    """The part of a decoded subject that is common to a conversation, in its own case.

    Args:
        subject: with its encoded words decoded; line ends and tabs may be in it.
    """
    text = _SPACES.sub(" ", subject)
    start, end = 0, len(text)
    while True:
        end = _trim_trailers(text, start, end)
        start = _skip_leaders(text, start, end)
        # Step 6: "[fwd: …]" around the whole.
        if text[start : start + 5].lower() == "[fwd:" and end - start > 5 and text[end - 1] == "]":
            start, end = start + 5, end - 1
            continue
        return text[start:end]


def _trim_trailers(text: str, start: int, end: int) -> int:
    """Step 2: the end without "(fwd)" and blanks."""
    while end > start:
        if text[end - 1] == " ":
            end -= 1
        elif end - start >= 5 and text[end - 5 : end].lower() == "(fwd)":
            end -= 5
        else:
            break
    return end


def _skip_leaders(text: str, start: int, end: int) -> int:
    """Steps 3 to 5: the start behind all of "Re:", "Fw [x]:", "[blob] Re:" and blobs.

    A blob stays if nothing would be left behind it. Blobs before a "Re:" are leaders
    anyway (`subj-leader = *subj-blob subj-refwd`), so blob by blob gives the same.
    """
    while start < end:
        if text[start] == " ":
            start += 1
            continue
        found = _REFWD.match(text, start, end)
        if found is None:
            found = _BLOB.match(text, start, end)
            if found is None or found.end() == end:
                break
        start = found.end()
    return start
