"""SASLprep (RFC 4013): the one form of a password, whatever keyboard it was typed on."""

from __future__ import annotations

import stringprep
from unicodedata import category, ucd_3_2_0

_PROHIBITED = (  # RFC 4013 §2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """Prepare a stored string (RFC 5802 §2.2).

    Code points that Unicode assigned after 3.2, emoji among them, are kept as they are:
    people use them, and clients, which prepare queries, send them (RFC 3454 §7).

    Raises:
        ValueError: with the reason, which does not quote the text.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(  # RFC 4013 §2.1
        " " if stringprep.in_table_c12(letter) else letter
        for letter in text
        if not stringprep.in_table_b1(letter)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)  # RFC 4013 §2.2
    for letter in prepared:
        if any(prohibited(letter) for prohibited in _PROHIBITED):
            raise ValueError("it holds a control character or another that is not allowed")
        if stringprep.in_table_a1(letter) and category(letter) == "Cn":  # RFC 4013 §2.5
            raise ValueError("it holds a character that Unicode does not know")
    _check_directions(prepared)
    return prepared


def _check_directions(text: str) -> None:
    """Refuse mixed directions (RFC 3454 §6, by RFC 4013 §2.4)."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)) or not (
        stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    ):
        raise ValueError("it mixes letters written from the left and from the right")
