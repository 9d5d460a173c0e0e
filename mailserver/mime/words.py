"""Encoded words (RFC 2047) and extended parameter values (RFC 2231), decoded for people.

Linear: an encoded word's charset is at most 64 octets, its text is looked at once.
"""

from __future__ import annotations

import re
from binascii import a2b_qp, b2a_base64
from urllib.parse import unquote_to_bytes

from mailserver.mime.charsets import decode
from mailserver.mime.decode import Encoding, decode_leniently

# encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="
# Spaces inside the text are a common error of senders and do no harm here.
_WORD = re.compile(r"=\?([!-)+->@-~]{1,64}+)(?:\*[!->@-~]{0,64}+)?\?([bBqQ])\?([^?\r\n]*+)\?=")
_BREAKS = re.compile(r"[ \t]*+[\r\n\0]++[ \t]*+")


def raw_text(octets: bytes) -> str:
    """A header's octets as text: UTF-8 where they are (RFC 6532), else windows-1252."""
    return octets.decode("ascii") if octets.isascii() else decode(octets, "us-ascii")


def unfolded(text: str) -> str:
    """`text` on one line, trimmed; a line break with the blanks around it is one space."""
    text = text.strip(" \t\r\n\0")
    if "\n" in text or "\r" in text or "\0" in text:
        text = _BREAKS.sub(" ", text)
    return text


def decode_words(value: bytes) -> str:
    """A header value as people read it: unfolded, its encoded words decoded.

    Args:
        value: raw; linear in its length. Never raises: an unknown charset or a damaged
            word gives replacement characters or the octets as they are.
    """
    text = raw_text(value)
    if "=?" in text:
        text = _decode_words(text)
    return unfolded(text)


def _decode_words(text: str) -> str:
    pieces: list[str] = []
    pending: list[bytes] = []  # neighbours in one charset: a letter may span two words
    charset = ""
    at = 0
    for word in _WORD.finditer(text):
        gap = text[at : word.start()]
        separate = not pending or bool(gap.strip(" \t\r\n"))
        if pending and (separate or word[1] != charset):
            pieces.append(decode(b"".join(pending), charset))
            pending = []
        if separate:
            pieces.append(gap)
        charset = word[1]
        pending.append(_word_octets(word[2], word[3]))
        at = word.end()
    if pending:
        pieces.append(decode(b"".join(pending), charset))
    pieces.append(text[at:])
    return "".join(pieces)


def _word_octets(encoding: str, text: str) -> bytes:
    octets = text.encode("utf-8", "surrogateescape")
    if encoding in "bB":
        return decode_leniently(octets, Encoding.BASE64)
    return a2b_qp(octets, header=True)


def decode_parameter(name: bytes, value: bytes) -> str:
    """A parameter's value as people read it (RFC 2231 §4, §5).

    Args:
        name: as in the body structure; with a final `*` the value is
            `charset'language'percent-encoded`.
        value: joined from its continuations. Encoded words in it are decoded too, which
            RFC 2047 §5 forbids and many senders do.
    """
    if name.endswith(b"*"):
        charset, quote, rest = value.partition(b"'")
        _language, second, text = rest.partition(b"'")
        if quote and second:
            decoded = decode(unquote_to_bytes(text), charset.decode("ascii", "replace"))
            return unfolded(decoded)
        return unfolded(raw_text(unquote_to_bytes(value)))
    return decode_words(value)


def encode_words(octets: bytes) -> bytes:
    """A header value as 7-bit octets, its 8-bit parts as UTF-8 encoded words (RFC 7103 §7.7).

    Args:
        octets: one line. What is not UTF-8 is taken for windows-1252.
    """
    if octets.isascii():
        return octets
    pieces: list[bytes] = []
    run: list[str] = []  # 8-bit words and the blanks between them
    blank = ""
    for piece in re.split(r"([ \t]+)", raw_text(octets)):
        if piece[:1] in (" ", "\t"):
            blank = piece
        elif piece.isascii():
            if run:
                pieces.append(words_of("".join(run)))
                run = []
            pieces.append((blank + piece).encode("ascii"))
            blank = ""
        elif run:
            run += [blank, piece]
            blank = ""
        else:
            pieces.append(blank.encode("ascii"))
            run = [piece]
            blank = ""
    if run:
        pieces.append(words_of("".join(run)))
    pieces.append(blank.encode("ascii"))
    return b"".join(pieces)


_CHARACTERS_A_WORD = 11  # at most 44 octets of UTF-8, 60 of base64, 72 of the 75 allowed


def words_of(text: str) -> bytes:
    """A text as UTF-8 encoded words with a space between them, each at most 75 octets."""
    return b" ".join(
        b"=?utf-8?b?%b?="
        % b2a_base64(text[at : at + _CHARACTERS_A_WORD].encode("utf-8", "replace"), newline=False)
        for at in range(0, len(text), _CHARACTERS_A_WORD)
    )
