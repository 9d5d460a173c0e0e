"""IMAP commands as frozen values: what `grammar` makes and command handlers take.

Protocol words (mechanisms, capability names) are `bytes` in upper case, as they are
compared; names and texts of people are `str`, already decoded. `by_uid` tells the `UID`
variant of a command. Sequence sets stay as the client wrote them (RFC 3501 §9).
"""

from __future__ import annotations

from enum import Enum

import attrs

from mailserver.model.flags import FlagOp, Flags
from mailserver.model.message import InternalDate
from mailserver.model.numset import SequenceSet
from mailserver.model.search import SearchKey

# -- any state (RFC 3501 §6.1, RFC 2971) -------------------------------------------------


@attrs.frozen
class Capability:
    """CAPABILITY (RFC 3501 §6.1.1)."""


@attrs.frozen
class Noop:
    """NOOP (RFC 3501 §6.1.2)."""


@attrs.frozen
class Logout:
    """LOGOUT (RFC 3501 §6.1.3)."""


@attrs.frozen
class Id:
    """ID (RFC 2971 §3.1).

    Attributes:
        fields: at most 30 pairs in the order written, names as written; None for NIL.
    """

    fields: tuple[tuple[str, str | None], ...] | None


# -- not authenticated (RFC 3501 §6.2) ---------------------------------------------------


@attrs.frozen
class StartTls:
    """STARTTLS (RFC 3501 §6.2.1)."""


@attrs.frozen
class Authenticate:
    """AUTHENTICATE (RFC 3501 §6.2.2, RFC 4959).

    Attributes:
        mechanism: name in upper case, whether known or not.
        initial: the initial response still as base64 (`=` for an empty one), to be given
            to `sasl.decode_initial`; None if there is none. Kept out of `repr` (S13).
    """

    mechanism: bytes
    initial: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Login:
    """LOGIN (RFC 3501 §6.2.3). The password is kept out of `repr` (S13)."""

    user: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class ProxyAuth:
    """PROXYAUTH: act as another from here on (SUN-14)."""

    user: str


# -- authenticated (RFC 3501 §6.3) -------------------------------------------------------


@attrs.frozen
class Enable:
    """ENABLE (RFC 5161 §3.1): the names in upper case, in the order written."""

    names: tuple[bytes, ...]


@attrs.frozen
class Parameter:
    """A parameter or modifier of RFC 4466, one of those that the grammar has a row for.

    Attributes:
        name: in upper case.
        value: whatever its row makes of it; None for a bare name.
    """

    name: bytes
    value: object = None


@attrs.frozen
class Select:
    """SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2).

    Attributes:
        mailbox: name as text, not yet in canonical form.
        read_only: it was EXAMINE.
        parameters: RFC 4466 §2.4; none is known yet.
    """

    mailbox: str
    read_only: bool = False
    parameters: tuple[Parameter, ...] = ()


@attrs.frozen
class Create:
    r"""CREATE (RFC 3501 §6.3.3).

    Attributes:
        mailbox: name as text, perhaps with a delimiter at its end.
        special_uses: attributes of USE as written, such as `\Drafts` (RFC 6154 §3); they
            need not be known ones.
    """

    mailbox: str
    special_uses: tuple[str, ...] = ()


@attrs.frozen
class Delete:
    """DELETE (RFC 3501 §6.3.4)."""

    mailbox: str


@attrs.frozen
class Rename:
    """RENAME (RFC 3501 §6.3.5)."""

    old: str
    new: str


@attrs.frozen
class Subscribe:
    """SUBSCRIBE (RFC 3501 §6.3.6)."""

    mailbox: str


@attrs.frozen
class Unsubscribe:
    """UNSUBSCRIBE (RFC 3501 §6.3.7)."""

    mailbox: str


class StatusAtt(Enum):
    """What STATUS can tell; the value is its name on the wire."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    SIZE = b"SIZE"  # RFC 8438
    APPENDLIMIT = b"APPENDLIMIT"  # RFC 7889 §3.1


@attrs.frozen
class Status:
    """STATUS (RFC 3501 §6.3.10): the attributes in the order asked, no doubles."""

    mailbox: str
    attributes: tuple[StatusAtt, ...]


class ListSelect(Enum):
    """Selection options of LIST (RFC 5258 §3.1)."""

    SUBSCRIBED = b"SUBSCRIBED"
    REMOTE = b"REMOTE"
    RECURSIVEMATCH = b"RECURSIVEMATCH"
    SPECIAL_USE = b"SPECIAL-USE"  # RFC 6154 §2


class ListReturn(Enum):
    """Return options of LIST (RFC 5258 §3.2), but STATUS, which is `List.status`."""

    SUBSCRIBED = b"SUBSCRIBED"
    CHILDREN = b"CHILDREN"
    SPECIAL_USE = b"SPECIAL-USE"  # RFC 6154 §2


@attrs.frozen
class List:
    """LIST (RFC 3501 §6.3.8, RFC 5258, RFC 5819).

    Attributes:
        reference: as text; to be joined with each pattern by `ListPattern.joined`.
        patterns: one or more, as text, with `*` and `%`.
        select: selection options; RECURSIVEMATCH never stands alone or with REMOTE only.
        returns: return options.
        status: attributes of RETURN (STATUS (...)); empty if not asked.
        extended: the client used any form of RFC 5258 (then only `LIST "" ""` asks for
            the delimiter and RFC 5258 attributes may be sent, T37).
    """

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[ListSelect] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusAtt, ...] = ()
    extended: bool = False


@attrs.frozen
class Lsub:
    """LSUB (RFC 3501 §6.3.9)."""

    reference: str
    pattern: str


@attrs.frozen
class Namespace:
    """NAMESPACE (RFC 2342 §5)."""


@attrs.frozen
class AppendMessage:
    """What stands before the octets of one message in APPEND.

    Attributes:
        flags: to be set.
        date: INTERNALDATE to be given, None for now.
        size: octets announced, 0 .. 2^63-1.
        binary: it is a `literal8`, which may hold NUL (RFC 3516 §4.4).
        synchronizing: the client waits for `+` before it sends them.
    """

    flags: Flags
    date: InternalDate | None
    size: int
    binary: bool = False
    synchronizing: bool = True


@attrs.frozen
class Append:
    """APPEND up to the octets of its first message (RFC 3501 §6.3.11).

    What follows a message's octets is read with `parse_append_next` (RFC 3502).
    """

    mailbox: str
    first: AppendMessage


@attrs.frozen
class Idle:
    """IDLE (RFC 2177 §3)."""


# -- selected (RFC 3501 §6.4) ------------------------------------------------------------


@attrs.frozen
class Check:
    """CHECK (RFC 3501 §6.4.1)."""


@attrs.frozen
class Close:
    """CLOSE (RFC 3501 §6.4.2)."""


@attrs.frozen
class Unselect:
    """UNSELECT (RFC 3691 §2)."""


@attrs.frozen
class Expunge:
    """EXPUNGE (RFC 3501 §6.4.3), or UID EXPUNGE with the `uids` given (RFC 4315 §2.1)."""

    uids: SequenceSet | None = None

    @property
    def by_uid(self) -> bool:
        """Whether it was UID EXPUNGE."""
        return self.uids is not None


class SearchReturn(Enum):
    """Result options of SEARCH (RFC 4731 §3.1)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"


@attrs.frozen
class Search:
    """SEARCH (RFC 3501 §6.4.4, RFC 4731).

    Attributes:
        key: the programme; its texts are decoded, its `Sequence`, `UidSequence` and
            `IsRecent` not yet resolved.
        charset: as written, None if not given.
        returns: result options, `RETURN ()` being ALL; None if there was no RETURN, then
            the answer is `* SEARCH` (T37).
        by_uid: the answer holds UIDs.
    """

    key: SearchKey
    charset: str | None = None
    returns: frozenset[SearchReturn] | None = None
    by_uid: bool = False


class FetchAtt(Enum):
    """Plain data items of FETCH; the value is the name on the wire (RFC 3501 §6.4.5)."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    RFC822_SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"  # structure without extension data
    BODYSTRUCTURE = b"BODYSTRUCTURE"


class SectionText(Enum):
    """Which text of a part a section names (RFC 3501 §6.4.5)."""

    ALL = b""  # the part itself, the message for the empty path
    HEADER = b"HEADER"
    HEADER_FIELDS = b"HEADER.FIELDS"
    HEADER_FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@attrs.frozen(cache_hash=True)
class BodySection:
    """`BODY[...]`, `BODY.PEEK[...]`, or one of the old names RFC822, RFC822.HEADER and
    RFC822.TEXT (RFC 3501 §6.4.5).

    Attributes:
        path: part numbers, 1-based; empty for the message.
        text: which text of it; MIME only with a path.
        fields: header field names as written, for the two HEADER_FIELDS texts.
        partial: (first octet, 0-based; number of octets, > 0) or None.
        peek: do not set `\\Seen`; RFC822.HEADER does not either.
        old_name: `RFC822`, `RFC822.HEADER` or `RFC822.TEXT` if asked so, else empty.
    """

    path: tuple[int, ...] = ()
    text: SectionText = SectionText.ALL
    fields: tuple[str, ...] = ()
    partial: tuple[int, int] | None = None
    peek: bool = False
    old_name: bytes = b""


@attrs.frozen
class BinarySection:
    """`BINARY[...]` and `BINARY.PEEK[...]` (RFC 3516 §4.2); members as in `BodySection`."""

    path: tuple[int, ...] = ()
    partial: tuple[int, int] | None = None
    peek: bool = False


@attrs.frozen
class BinarySize:
    """`BINARY.SIZE[...]` (RFC 3516 §4.2)."""

    path: tuple[int, ...] = ()


FetchItem = FetchAtt | BodySection | BinarySection | BinarySize

MACROS: dict[bytes, tuple[FetchAtt, ...]] = {
    b"FAST": (FetchAtt.FLAGS, FetchAtt.INTERNALDATE, FetchAtt.RFC822_SIZE),
    b"ALL": (
        FetchAtt.FLAGS,
        FetchAtt.INTERNALDATE,
        FetchAtt.RFC822_SIZE,
        FetchAtt.ENVELOPE,
    ),
    b"FULL": (
        FetchAtt.FLAGS,
        FetchAtt.INTERNALDATE,
        FetchAtt.RFC822_SIZE,
        FetchAtt.ENVELOPE,
        FetchAtt.BODY,
    ),
}
"""The macros of FETCH; the parser has already put their items in their place."""


@attrs.frozen
class Fetch:
    """FETCH (RFC 3501 §6.4.5).

    Attributes:
        numbers: sequence numbers, or UIDs with `by_uid`.
        items: in the order asked, no doubles, macros resolved; UID is not added for UID
            FETCH (T15 is the handler's).
        modifiers: RFC 4466 §2.5; none is known yet.
    """

    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    by_uid: bool = False
    modifiers: tuple[Parameter, ...] = ()


@attrs.frozen
class Store:
    """STORE (RFC 3501 §6.4.6).

    Attributes:
        numbers: sequence numbers, or UIDs with `by_uid`.
        operation: replace, add or remove.
        flags: system flags and keywords (T9, T11: `\\Recent` and unknown ones are faults).
        silent: `.SILENT` was given (T8).
        modifiers: RFC 4466 §2.5; none is known yet.
    """

    numbers: SequenceSet
    operation: FlagOp
    flags: Flags
    silent: bool = False
    by_uid: bool = False
    modifiers: tuple[Parameter, ...] = ()


@attrs.frozen
class Copy:
    """COPY (RFC 3501 §6.4.7)."""

    numbers: SequenceSet
    mailbox: str
    by_uid: bool = False


@attrs.frozen
class Move:
    """MOVE (RFC 6851 §3.1)."""

    numbers: SequenceSet
    mailbox: str
    by_uid: bool = False


Command = (
    Capability
    | Noop
    | Logout
    | Id
    | StartTls
    | Authenticate
    | Login
    | ProxyAuth
    | Enable
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | Unsubscribe
    | Status
    | List
    | Lsub
    | Namespace
    | Append
    | Idle
    | Check
    | Close
    | Unselect
    | Expunge
    | Search
    | Fetch
    | Store
    | Copy
    | Move
)
