"""The differences from Dovecot that stay, each with its reason.

`docs/differences-from-dovecot.md` has a heading for every name in `REASONS` and the line of
the RFC that decides. Whatever no row explains fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from mailserver.mime.describe import describe
from mailserver.mime.words import decode_words
from mailserver.wire.imap import responses as r


@attrs.frozen
class Case:
    """One answer that differs.

    Attributes:
        message: its name in the corpus.
        octets: of the message, as they were handed in.
        item: what was asked.
        ours, theirs: the answers; None for an item that was not answered, or answered NIL.
    """

    message: str
    octets: bytes
    item: str
    ours: object
    theirs: object


def _named(*names: str) -> Callable[[Case], bool]:
    return lambda case: case.message in names


def _leaves(value: object, change: Callable[[bytes], object]) -> object:
    """A response value as nested tuples, every octet string in it changed."""
    if isinstance(value, bytes):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_leaves(each, change) for each in value)
    if attrs.has(type(value)):
        return tuple(_leaves(each, change) for each in attrs.astuple(value, recurse=False))
    return value


def _but_for(change: Callable[[bytes], object], *items: str) -> Callable[[Case], bool]:
    """Holds where the answers are the same once every octet string is changed so."""
    return lambda case: (
        case.item in items and _leaves(case.ours, change) == _leaves(case.theirs, change)
    )


def _text(octets: bytes) -> str:
    return " ".join(decode_words(octets).split())


def _has_no_empty_line(octets: bytes) -> bool:
    return re.search(rb"(?:\A|\n)\r?\n", octets) is None


def _has_syntax_error(case: Case) -> bool:
    return isinstance(case.theirs, r.Envelope) and b"SYNTAX_ERROR" in repr(case.theirs).encode()


def _is_missing_part(case: Case) -> bool:
    return case.item.startswith("BODY[") and case.ours is None and case.theirs == b""


DESCRIPTIONS = ("ENVELOPE", "BODYSTRUCTURE", "BODY")

FETCHES: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("no-such-part", _is_missing_part),
    ("trimmed-values", _but_for(bytes.strip, "ENVELOPE")),
    ("eight-bit-header", _but_for(_text, *DESCRIPTIONS)),
    ("unclosed-address", _has_syntax_error),
    ("empty-list-members", _named("extra_commas")),
    (
        "header-without-end",
        lambda case: "HEADER.FIELDS]" in case.item and _has_no_empty_line(case.octets),
    ),
    ("broken-type", _named("bad_type", "empty_type", "cpython_msg_14")),
    ("fields-without-version", _named("no_version")),
    ("broken-encoding", _named("encoding_words", "damaged_10", "damaged_12")),
    ("unquoted-parameter", _but_for(lambda octets: octets.partition(b"/")[0], *DESCRIPTIONS)),
    (
        "multipart-without-parts",
        _named(
            "no_parts", "only_end", "no_boundary", "cpython_msg_17", "cpython_msg_25",
            "cpython_msg_31", "cpython_msg_33", "cpython_msg_41", "cpython_msg_42",
        ),
    ),
    ("longer-boundary-line", _named("boundary_prefix")),
    ("same-boundary-inside", _named("same_boundary", "cpython_msg_15", "cpython_msg_39")),
    (
        "line-end-before-boundary",
        _named("longer_inner", "message_multipart", "cpython_msg_38"),
    ),
    ("bare-cr", _named("bare_cr")),
)  # fmt: skip
"""Why an answer to FETCH may differ, tried in order."""


@attrs.frozen
class Found:
    """One message that one server finds and the other does not.

    Attributes:
        message: its name in the corpus.
        octets: of the message.
        ours: it is ours that finds it.
    """

    message: str
    octets: bytes
    ours: bool


def _found(*names: str) -> Callable[[Found], bool]:
    return lambda found: found.message in names


def _no_date(found: Found) -> bool:
    return not found.ours and describe(found.octets).sent_day is None


SEARCHES: dict[str, tuple[str, Callable[[Found], bool]]] = {
    "SENTBEFORE 1-Jan-2001": ("no-readable-date", _no_date),
    "FROM example.org": ("unclosed-address", _found("no_angle_end")),
    "TO example": ("unclosed-address", _found("damaged_5")),
    'FROM "carter <sam"': ("name-beside-address", lambda found: found.ours),
    'BODY "archive please"': ("text-across-lines", lambda found: found.ours),
    "NOT BODY the": ("multipart-without-parts", _found("cpython_msg_17", "cpython_msg_25")),
    "NOT TEXT example": ("same-boundary-inside", _found("cpython_msg_39")),
    "UNDELETED NOT (SEEN ANSWERED)": ("not-both", _found("only_body")),
    "CHARSET UTF-8 BODY GR\u00dcSSE": ("sharp-s", lambda found: found.ours),
}
"""Programme -> why its result may differ, and for which messages."""

REASONS = frozenset(name for name, _holds in FETCHES) | {name for name, _ in SEARCHES.values()}
"""The names of all rows."""


def reason_for(case: Case) -> str | None:
    """The name of the first row that explains an answer."""
    return next((name for name, holds in FETCHES if holds(case)), None)


def reason_for_search(programme: str, found: Found) -> str | None:
    """The name of the row that explains what a search found."""
    name, holds = SEARCHES.get(programme, (None, None))
    return name if holds is not None and holds(found) else None
