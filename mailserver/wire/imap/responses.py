"""IMAP responses as frozen values: what `writer` writes and `response_parser` reads.

The same values serve the server, the client and the tests. Protocol words (tags, code
names, capability names) are `bytes`; names and texts of people are `str`, decoded. What a
message's header says (ENVELOPE, BODYSTRUCTURE) stays `bytes`: decoding it is MIME's.
"""

from __future__ import annotations

from enum import Enum

import attrs

from mailserver.model.message import InternalDate
from mailserver.model.numset import SequenceSet
from mailserver.wire.imap.commands import (
    BinarySection,
    BinarySize,
    BodySection,
    FetchAtt,
    StatusAtt,
)

# -- response codes (RFC 3501 §7.1, RFC 5530 §3) -----------------------------------------


@attrs.frozen
class Code:
    """A code that is a name, perhaps with plain text after it.

    Attributes:
        name: in upper case.
        text: what follows the name, uninterpreted, without `]`, CR and LF; empty for none.
    """

    name: bytes
    text: bytes = b""


@attrs.frozen
class NumberCode:
    """A code with a number: UIDNEXT, UIDVALIDITY, UNSEEN, HIGHESTMODSEQ."""

    name: bytes
    number: int


@attrs.frozen
class CapabilityCode:
    """CAPABILITY within a greeting or a tagged OK (T38)."""

    tokens: tuple[bytes, ...]


@attrs.frozen
class PermanentFlags:
    r"""PERMANENTFLAGS; `\*` among the names if new keywords can be made (T10)."""

    names: tuple[str, ...]


@attrs.frozen
class BadCharset:
    """BADCHARSET with the charsets that work (T33)."""

    charsets: tuple[str, ...] = ()


@attrs.frozen
class AppendUid:
    """APPENDUID (RFC 4315 §3); the UIDs in the order of the messages appended."""

    uid_validity: int
    uids: SequenceSet


@attrs.frozen
class CopyUid:
    """COPYUID (RFC 4315 §3); the n-th UID of `source` became the n-th of `target`."""

    uid_validity: int
    source: SequenceSet
    target: SequenceSet


ResponseCode = (
    Code | NumberCode | CapabilityCode | PermanentFlags | BadCharset | AppendUid | CopyUid
)

ALERT = Code(b"ALERT")
CLOSED = Code(b"CLOSED")
PARSE = Code(b"PARSE")
READ_ONLY = Code(b"READ-ONLY")
READ_WRITE = Code(b"READ-WRITE")
TRYCREATE = Code(b"TRYCREATE")
UNKNOWN_CTE = Code(b"UNKNOWN-CTE")  # RFC 3516 §4.3
USEATTR = Code(b"USEATTR")  # RFC 6154 §6
TOOBIG = Code(b"TOOBIG")  # RFC 4469
HASCHILDREN = Code(b"HASCHILDREN")  # RFC 9051 §7.1
UNAVAILABLE = Code(b"UNAVAILABLE")
AUTHENTICATIONFAILED = Code(b"AUTHENTICATIONFAILED")
AUTHORIZATIONFAILED = Code(b"AUTHORIZATIONFAILED")
EXPIRED = Code(b"EXPIRED")
PRIVACYREQUIRED = Code(b"PRIVACYREQUIRED")
CONTACTADMIN = Code(b"CONTACTADMIN")
NOPERM = Code(b"NOPERM")
INUSE = Code(b"INUSE")
EXPUNGEISSUED = Code(b"EXPUNGEISSUED")
CORRUPTION = Code(b"CORRUPTION")
SERVERBUG = Code(b"SERVERBUG")
CLIENTBUG = Code(b"CLIENTBUG")
CANNOT = Code(b"CANNOT")
LIMIT = Code(b"LIMIT")
OVERQUOTA = Code(b"OVERQUOTA")
ALREADYEXISTS = Code(b"ALREADYEXISTS")
NONEXISTENT = Code(b"NONEXISTENT")


# -- status, continuation (RFC 3501 §7.1, §7.5) ------------------------------------------


class Condition(Enum):
    """The five status responses."""

    OK = b"OK"
    NO = b"NO"
    BAD = b"BAD"
    PREAUTH = b"PREAUTH"  # untagged only
    BYE = b"BYE"  # untagged only


@attrs.frozen
class Status:
    """A status response, tagged or untagged.

    Attributes:
        condition: which one.
        text: for people; the writer puts a word where it is empty (T19).
        code: response code, if any.
        tag: of the command that is over; None for an untagged one.
    """

    condition: Condition
    text: str
    code: ResponseCode | None = None
    tag: bytes | None = None


@attrs.frozen
class Continuation:
    """`+ text`: go on (RFC 3501 §7.5); `text` is a SASL challenge in base64, or words."""

    text: bytes = b""


# -- untagged data -----------------------------------------------------------------------


@attrs.frozen
class Capability:
    """CAPABILITY (RFC 3501 §7.2.1): the names as written."""

    tokens: tuple[bytes, ...]


@attrs.frozen
class Enabled:
    """ENABLED (RFC 5161 §3.2)."""

    names: tuple[bytes, ...]


@attrs.frozen
class Id:
    """ID (RFC 2971 §3.2); None for NIL."""

    fields: tuple[tuple[str, str | None], ...] | None


@attrs.frozen
class NamespaceEntry:
    """One namespace: its prefix as text, its delimiter or None (RFC 2342 §5)."""

    prefix: str
    delimiter: str | None


@attrs.frozen
class Namespace:
    """NAMESPACE (RFC 2342 §5); an empty tuple is NIL."""

    personal: tuple[NamespaceEntry, ...]
    other_users: tuple[NamespaceEntry, ...]
    shared: tuple[NamespaceEntry, ...]


@attrs.frozen
class MailboxList:
    r"""LIST, and LSUB with `lsub` (RFC 3501 §7.2.2, §7.2.3, RFC 5258).

    Attributes:
        attributes: such as `\HasChildren`, in the order written.
        delimiter: one character, None for a flat name.
        mailbox: name as text.
        child_info: selection options in CHILDINFO, such as `SUBSCRIBED` (RFC 5258 §3.5).
        lsub: it is LSUB.
    """

    attributes: tuple[str, ...]
    delimiter: str | None
    mailbox: str
    child_info: tuple[str, ...] = ()
    lsub: bool = False


@attrs.frozen
class MailboxStatus:
    """STATUS (RFC 3501 §7.2.4).

    Attributes:
        mailbox: name as text.
        items: (attribute, number) in the order written; the number is None for NIL
            (APPENDLIMIT only). What the reader does not know is left out.
    """

    mailbox: str
    items: tuple[tuple[StatusAtt, int | None], ...]


@attrs.frozen
class SearchResult:
    """SEARCH (RFC 3501 §7.2.5)."""

    numbers: tuple[int, ...]


@attrs.frozen
class ExtendedSearchResult:
    """ESEARCH (RFC 4731 §3.1); what was not asked or not found is None.

    Attributes:
        tag: of the SEARCH command; None where the server sent none.
        by_uid: numbers are UIDs.
        all: the numbers found, ascending ranges; None when there are none.
    """

    tag: bytes | None
    by_uid: bool
    min: int | None = None
    max: int | None = None
    count: int | None = None
    all: SequenceSet | None = None


@attrs.frozen
class FlagsList:
    """FLAGS: the flags and keywords of the mailbox (RFC 3501 §7.2.6)."""

    names: tuple[str, ...]


@attrs.frozen
class Exists:
    """EXISTS (RFC 3501 §7.3.1)."""

    number: int


@attrs.frozen
class Recent:
    """RECENT (RFC 3501 §7.3.2)."""

    number: int


@attrs.frozen
class Expunged:
    """EXPUNGE (RFC 3501 §7.4.1): the sequence number that is gone."""

    number: int


# -- FETCH (RFC 3501 §7.4.2) -------------------------------------------------------------


@attrs.frozen
class Address:
    """One address of an envelope.

    A group begins with `mailbox` its name and `host` None, and ends with both None.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


@attrs.frozen
class Envelope:
    """ENVELOPE: fields as they stand in the header, encoded words not decoded."""

    date: bytes | None = None
    subject: bytes | None = None
    from_: tuple[Address, ...] = ()
    sender: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    in_reply_to: bytes | None = None
    message_id: bytes | None = None


@attrs.frozen
class Disposition:
    """Content-Disposition of a part: its kind and parameters (name, value)."""

    kind: bytes
    parameters: tuple[tuple[bytes, bytes], ...] = ()


@attrs.frozen
class Extension:
    """Extension data of a part, BODYSTRUCTURE only.

    Attributes:
        md5: Content-MD5; always None for a multipart.
        disposition, languages, location: of the part.
    """

    md5: bytes | None = None
    disposition: Disposition | None = None
    languages: tuple[bytes, ...] = ()
    location: bytes | None = None


@attrs.frozen
class SinglePart:
    """A part that is not a multipart.

    Attributes:
        media_type, subtype: as written by the server.
        parameters: (name, value), names as written.
        content_id, description: None for NIL.
        encoding: transfer encoding.
        size: octets, encoded.
        lines: for text and message/rfc822, else None.
        envelope, body: of a message/rfc822, else None.
        extension: None where it was not sent (BODY).
    """

    media_type: bytes
    subtype: bytes
    parameters: tuple[tuple[bytes, bytes], ...]
    content_id: bytes | None
    description: bytes | None
    encoding: bytes
    size: int
    lines: int | None = None
    envelope: Envelope | None = None
    body: BodyStructure | None = None
    extension: Extension | None = None


@attrs.frozen
class MultiPart:
    """A multipart: its parts in order, and the rest as in `SinglePart`."""

    parts: tuple[BodyStructure, ...]
    subtype: bytes
    parameters: tuple[tuple[bytes, bytes], ...] = ()
    extension: Extension | None = None


BodyStructure = SinglePart | MultiPart


@attrs.frozen
class FlagsItem:
    r"""FLAGS of a message, `\Recent` among the names if it is."""

    names: tuple[str, ...]


@attrs.frozen
class UidItem:
    """UID of a message."""

    uid: int


@attrs.frozen
class InternalDateItem:
    """INTERNALDATE of a message."""

    date: InternalDate


@attrs.frozen
class SizeItem:
    """RFC822.SIZE of a message, octets."""

    size: int


@attrs.frozen
class EnvelopeItem:
    """ENVELOPE of a message."""

    envelope: Envelope


@attrs.frozen
class StructureItem:
    """BODY or BODYSTRUCTURE of a message; `att` tells which."""

    att: FetchAtt
    structure: BodyStructure


@attrs.frozen
class SectionItem:
    """Octets of a section.

    Attributes:
        section: which; `partial` is (origin, 0) as a response names only the origin,
            `peek` is always False.
        octets: None for NIL: no such section.
    """

    section: BodySection | BinarySection
    octets: bytes | None


@attrs.frozen
class BinarySizeItem:
    """BINARY.SIZE of a part, decoded octets."""

    section: BinarySize
    size: int


FetchDatum = (
    FlagsItem
    | UidItem
    | InternalDateItem
    | SizeItem
    | EnvelopeItem
    | StructureItem
    | SectionItem
    | BinarySizeItem
)


@attrs.frozen
class FetchData:
    """FETCH: data of one message; items that the reader does not know are left out.

    The server writes FETCH with the fast functions of `writer` instead.
    """

    number: int
    items: tuple[FetchDatum, ...]


@attrs.frozen
class Unknown:
    """An untagged response that this program has no value for; a client ignores it.

    Attributes:
        name: first word, upper case.
        octets: the whole response after `* `.
    """

    name: bytes
    octets: bytes


Response = (
    Status
    | Continuation
    | Capability
    | Enabled
    | Id
    | Namespace
    | MailboxList
    | MailboxStatus
    | SearchResult
    | ExtendedSearchResult
    | FlagsList
    | Exists
    | Recent
    | Expunged
    | FetchData
    | Unknown
)
