"""Commands as octets and as values: one table for the grammar and the command writer.

Octets are without tag and final CRLF. Several spellings may have one value.
"""

from __future__ import annotations

from datetime import date

from mailserver.model import search as s
from mailserver.model.flags import FlagOp, Flags
from mailserver.model.flags import System as F
from mailserver.model.ids import MAX_MODSEQ
from mailserver.model.numset import SequenceSet
from mailserver.wire.imap import commands as c
from mailserver.wire.imap.commands import FetchAtt as A
from mailserver.wire.imap.commands import SectionText as T


def seqs(*ranges: tuple[int, int] | int) -> SequenceSet:
    """A sequence set; 0 is `*`."""
    return SequenceSet(tuple((r, r) if isinstance(r, int) else r for r in ranges))


def day(year: int, month: int, of_month: int) -> int:
    return date(year, month, of_month).toordinal()


SEEN, DELETED, FLAGGED = (s.HasFlag(flag) for flag in (F.SEEN, F.DELETED, F.FLAGGED))
MESSAGES, UNSEEN = c.StatusAtt.MESSAGES, c.StatusAtt.UNSEEN
SUBSCRIBED, CHILDREN = c.ListReturn.SUBSCRIBED, c.ListReturn.CHILDREN


def body(*path: int, **rest: object) -> c.BodySection:
    return c.BodySection(path, **rest)  # type: ignore[arg-type]


def fetch(numbers: SequenceSet, *items: c.FetchItem, by_uid: bool = False) -> c.Fetch:
    return c.Fetch(numbers, items, by_uid)


def search(key: s.SearchKey, **rest: object) -> c.Search:
    return c.Search(key, **rest)  # type: ignore[arg-type]


def internal(relation: s.DateRelation, when: int) -> s.DateKey:
    return s.DateKey(s.DateField.INTERNAL, relation, when)


BARE: list[tuple[bytes, c.Command]] = [
    (b"CAPABILITY", c.Capability()),
    (b"NOOP", c.Noop()),
    (b"LOGOUT", c.Logout()),
    (b"STARTTLS", c.StartTls()),
    (b"NAMESPACE", c.Namespace()),
    (b"IDLE", c.Idle()),
    (b"CHECK", c.Check()),
    (b"CLOSE", c.Close()),
    (b"UNSELECT", c.Unselect()),
    (b"EXPUNGE", c.Expunge()),
    (b"eXpUnGe  ", c.Expunge()),  # T54
]

LOGIN: list[tuple[bytes, c.Command]] = [
    # RFC 2971 §3.1, RFC 3501 §6.2, RFC 4959 §4, RFC 5161 §3.1
    (
        b'ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")',
        c.Id((("name", "sodr"), ("version", "19.34"), ("vendor", "Pink Floyd Music Limited"))),
    ),
    (b"ID NIL", c.Id(None)),
    (b"id ()", c.Id(())),
    (b'ID ("os" nil)', c.Id((("os", None),))),
    (b"LOGIN SMITH SESAME", c.Login("SMITH", "SESAME")),
    (b"LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man", c.Login("FRED FOOBAR", "fat man")),
    (b"LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man", c.Login("FRED FOOBAR", "fat man")),
    (rb'login "a \"b\" \\c" ""', c.Login('a "b" \\c', "")),
    (b"LOGIN nil NIL", c.Login("nil", "NIL")),  # T20
    (b"LOGIN {7}\r\nj\xc3\xbcrgen {2}\r\n\r\n", c.Login("jürgen", "\r\n")),
    (b"LOGIN a]b x", c.Login("a]b", "x")),
    (b"PROXYAUTH ann@example.org", c.ProxyAuth("ann@example.org")),
    (b"proxyauth {3}\r\na b", c.ProxyAuth("a b")),
    (b"AUTHENTICATE GSSAPI", c.Authenticate(b"GSSAPI")),
    (b"authenticate plain dGVzdAB0ZXN0AHRlc3Q=", c.Authenticate(b"PLAIN", b"dGVzdAB0ZXN0AHRlc3Q=")),
    (b"AUTHENTICATE EXTERNAL =", c.Authenticate(b"EXTERNAL", b"=")),  # T41
    (b"ENABLE CONDSTORE X-GOOD-IDEA", c.Enable((b"CONDSTORE", b"X-GOOD-IDEA"))),
    (b"ENABLE utf8=accept", c.Enable((b"UTF8=ACCEPT",))),
]

MAILBOX: list[tuple[bytes, c.Command]] = [
    (b"SELECT INBOX", c.Select("INBOX")),
    (b'SELECT "inbox"', c.Select("inbox")),
    (b"SELECT NIL", c.Select("NIL")),  # T20
    (b"EXAMINE blurdybloop", c.Select("blurdybloop", read_only=True)),
    (b"SELECT {5}\r\nINBOX", c.Select("INBOX")),
    (b"SELECT ~peter/mail/&U,BTFw-/&ZeVnLIqe-", c.Select("~peter/mail/台北/日本語")),  # T21
    (b'SELECT "R&-D"', c.Select("R&D")),
    (b"CREATE owatagusiam/", c.Create("owatagusiam/")),
    (b"CREATE owatagusiam/blurdybloop", c.Create("owatagusiam/blurdybloop")),
    (b"CREATE MySpecial (USE (\\Drafts \\Sent))", c.Create("MySpecial", ("\\Drafts", "\\Sent"))),
    (b"CREATE x (USE ())", c.Create("x")),
    (b"DELETE blurdybloop", c.Delete("blurdybloop")),
    (b"RENAME blurdybloop sarasoop", c.Rename("blurdybloop", "sarasoop")),
    (b'RENAME "a b" {3}\r\nc d', c.Rename("a b", "c d")),
    (b"SUBSCRIBE #news.comp.mail.mime", c.Subscribe("#news.comp.mail.mime")),
    (b"UNSUBSCRIBE #news.comp.mail.mime", c.Unsubscribe("#news.comp.mail.mime")),
]

LIST: list[tuple[bytes, c.Command]] = [
    (b'LIST "" ""', c.List("", ("",))),
    (b'LIST "" *', c.List("", ("*",))),
    (b'LIST #news.comp.mail.misc ""', c.List("#news.comp.mail.misc", ("",))),
    (b'LIST "~/Mail/" "%"', c.List("~/Mail/", ("%",))),
    (b'LIST "" {2}\r\n&-', c.List("", ("&",))),
    (b'LIST "" &AOk-%]', c.List("", ("é%]",))),
    (b'LSUB "#news." "comp.mail.*"', c.Lsub("#news.", "comp.mail.*")),
    # RFC 5258 §5
    (
        b'LIST (SUBSCRIBED) "" "*"',
        c.List("", ("*",), select=frozenset({c.ListSelect.SUBSCRIBED}), extended=True),
    ),
    (
        b'LIST "" "%" RETURN (CHILDREN)',
        c.List("", ("%",), returns=frozenset({CHILDREN}), extended=True),
    ),
    (
        b'LIST (REMOTE) "" "%" RETURN (CHILDREN)',
        c.List(
            "",
            ("%",),
            frozenset({c.ListSelect.REMOTE}),
            frozenset({CHILDREN}),
            extended=True,
        ),
    ),
    (
        b'LIST (REMOTE SUBSCRIBED RECURSIVEMATCH) "" "*" RETURN (subscribed CHILDREN)',
        c.List(
            "",
            ("*",),
            frozenset(c.ListSelect) - {c.ListSelect.SPECIAL_USE},
            frozenset({SUBSCRIBED, CHILDREN}),
            extended=True,
        ),
    ),
    (
        b'LIST "" ("INBOX" "Drafts" "Sent/%")',
        c.List("", ("INBOX", "Drafts", "Sent/%"), extended=True),
    ),
    (
        b'LIST (SPECIAL-USE) "" "*" RETURN (SPECIAL-USE)',  # RFC 6154 §2
        c.List(
            "",
            ("*",),
            frozenset({c.ListSelect.SPECIAL_USE}),
            frozenset({c.ListReturn.SPECIAL_USE}),
            extended=True,
        ),
    ),
    (
        b'LIST "" % RETURN (STATUS (MESSAGES UNSEEN))',  # RFC 5819 §3
        c.List("", ("%",), status=(MESSAGES, UNSEEN), extended=True),
    ),
    (
        b'LIST "" % RETURN ( CHILDREN STATUS ( MESSAGES ) )',  # T54
        c.List("", ("%",), returns=frozenset({CHILDREN}), status=(MESSAGES,), extended=True),
    ),
    (
        b"STATUS blurdybloop (UIDNEXT MESSAGES)",
        c.Status("blurdybloop", (c.StatusAtt.UIDNEXT, MESSAGES)),
    ),
    (
        b"STATUS x (MESSAGES recent UIDNEXT UIDVALIDITY UNSEEN SIZE APPENDLIMIT MESSAGES)",
        c.Status("x", tuple(c.StatusAtt)),
    ),
]  # fmt: skip

LIST_BARE: list[tuple[bytes, c.Command]] = [
    (b'LIST () "" "*"', c.List("", ("*",), extended=True)),
    (b'LIST "" "*" RETURN ()', c.List("", ("*",), extended=True)),
    (b'LIST "" ("*")', c.List("", ("*",), extended=True)),
]
"""What says no more than that the client knows RFC 5258."""

MESSAGE: list[tuple[bytes, c.Command]] = [
    (b"UID EXPUNGE 3000:3002", c.Expunge(seqs((3000, 3002)))),  # RFC 4315 §2.1
    (b"COPY 2:4 MEETING", c.Copy(seqs((2, 4)), "MEETING")),
    (b"UID COPY 4827313:* x", c.Copy(seqs((4827313, 0)), "x", by_uid=True)),
    (b"MOVE 42:69 foo", c.Move(seqs((42, 69)), "foo")),  # RFC 6851 §3.1
    (b"uid move *:42,7 foo", c.Move(seqs((0, 42), 7), "foo", by_uid=True)),
    (b"STORE 2:4 +FLAGS (\\Deleted)", c.Store(seqs((2, 4)), FlagOp.ADD, Flags(F.DELETED))),
    (b"STORE 1 FLAGS ()", c.Store(seqs(1), FlagOp.REPLACE, Flags())),
    (
        b"UID STORE 1,3 -flags.silent (\\seen $Forwarded \\DELETED $forwarded)",  # T11
        c.Store(
            seqs(1, 3),
            FlagOp.REMOVE,
            Flags(F.SEEN | F.DELETED, ("$Forwarded",)),
            silent=True,
            by_uid=True,
        ),
    ),
    (
        b"STORE 1 FLAGS \\Seen \\Draft x",
        c.Store(seqs(1), FlagOp.REPLACE, Flags(F.SEEN | F.DRAFT, ("x",))),
    ),
    (b"STORE  5  FLAGS  ( \\Seen  )  ", c.Store(seqs(5), FlagOp.REPLACE, Flags(F.SEEN))),  # T54
]  # fmt: skip

FETCH: list[tuple[bytes, c.Command]] = [
    (
        b"FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
        fetch(seqs((2, 4)), A.FLAGS, body(text=T.HEADER_FIELDS, fields=("DATE", "FROM"))),
    ),
    (b"FETCH 1 FAST", fetch(seqs(1), A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE)),
    (b"FETCH 1 all", fetch(seqs(1), A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE, A.ENVELOPE)),
    (b"FETCH 1 FULL", fetch(seqs(1), A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE, A.ENVELOPE, A.BODY)),
    (b"UID FETCH 1 FLAGS", fetch(seqs(1), A.FLAGS, by_uid=True)),  # T54
    (b"UID FETCH 4827313:4828442 FLAGS", fetch(seqs((4827313, 4828442)), A.FLAGS, by_uid=True)),
    (b"FETCH 1 (UID)", fetch(seqs(1), A.UID)),
    (b"FETCH 1 (BODY BODYSTRUCTURE)", fetch(seqs(1), A.BODY, A.BODYSTRUCTURE)),
    (b"FETCH 1 (FLAGS UID FLAGS uid)", fetch(seqs(1), A.FLAGS, A.UID)),
    (b"FETCH 1 BODY[]", fetch(seqs(1), body())),
    (b"FETCH 1 body.peek[]", fetch(seqs(1), body(peek=True))),
    (b"FETCH 1 BODY[]<0.2048>", fetch(seqs(1), body(partial=(0, 2048)))),
    (b"FETCH 1 BODY[1]", fetch(seqs(1), body(1))),
    (b"FETCH 1 BODY[4.2.2.1]", fetch(seqs(1), body(4, 2, 2, 1))),
    (b"FETCH 1 BODY[HEADER]", fetch(seqs(1), body(text=T.HEADER))),
    (b"FETCH 1 BODY[text]", fetch(seqs(1), body(text=T.TEXT))),
    (b"FETCH 1 BODY[4.1.MIME]", fetch(seqs(1), body(4, 1, text=T.MIME))),
    (b"FETCH 1 BODY[4.2.HEADER]", fetch(seqs(1), body(4, 2, text=T.HEADER))),
    (
        b"FETCH 1 BODY.PEEK[3.HEADER.FIELDS.NOT (Received)]<10.20>",
        fetch(
            seqs(1),
            body(3, text=T.HEADER_FIELDS_NOT, fields=("Received",), partial=(10, 20), peek=True),
        ),
    ),
    (
        b'FETCH 1 BODY[HEADER.FIELDS ("X(y)" {2}\r\nTo)]',
        fetch(seqs(1), body(text=T.HEADER_FIELDS, fields=("X(y)", "To"))),
    ),
    (
        b"FETCH 1 (BODY[TEXT] BODY[TEXT] BODY.PEEK[TEXT])",
        fetch(seqs(1), body(text=T.TEXT), body(text=T.TEXT, peek=True)),
    ),
    (b"FETCH 1 RFC822", fetch(seqs(1), body(old_name=b"RFC822"))),
    (
        b"FETCH 1 (rfc822.header RFC822.TEXT RFC822.SIZE)",
        fetch(
            seqs(1),
            body(text=T.HEADER, peek=True, old_name=b"RFC822.HEADER"),
            body(text=T.TEXT, old_name=b"RFC822.TEXT"),
            A.RFC822_SIZE,
        ),
    ),
    # RFC 3516 §4.2
    (b"FETCH 1 BINARY[1]", fetch(seqs(1), c.BinarySection((1,)))),
    (b"FETCH 1 BINARY.PEEK[]<0.5>", fetch(seqs(1), c.BinarySection((), (0, 5), True))),
    (b"FETCH 1 (BINARY.SIZE[2.1])", fetch(seqs(1), c.BinarySize((2, 1)))),
    (
        b"UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE"
        b" BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT)])",
        fetch(
            seqs((1, 0)),
            A.UID,
            A.FLAGS,
            A.INTERNALDATE,
            A.RFC822_SIZE,
            A.ENVELOPE,
            A.BODYSTRUCTURE,
            body(text=T.HEADER_FIELDS, fields=("DATE", "FROM", "SUBJECT"), peek=True),
            by_uid=True,
        ),
    ),
]

SEARCH: list[tuple[bytes, c.Command]] = [
    (
        b'SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"',
        search(
            s.And(
                (
                    FLAGGED,
                    internal(s.DateRelation.SINCE, day(1994, 2, 1)),
                    s.Not(s.Addresses("from", "Smith")),
                )
            )
        ),
    ),
    (b'SEARCH TEXT "string not in mailbox"', search(s.Text("string not in mailbox"))),
    (
        b"SEARCH CHARSET UTF-8 TEXT {6}\r\n\xe2\x98\xbaabc",
        search(s.Text("☺abc"), charset="UTF-8"),
    ),
    (b"SEARCH ALL", search(s.All())),
    (b"UID SEARCH 1:5", search(s.Sequence(seqs((1, 5))), by_uid=True)),  # T33: still numbers
    (b"SEARCH UID 1:*,3", search(s.UidSequence(seqs((1, 0), 3)))),
    (b"SEARCH *", search(s.Sequence(seqs(0)))),
    (b"SEARCH (SEEN)", search(SEEN)),
    (b"SEARCH ( SEEN ( DELETED FLAGGED ) )", search(s.And((SEEN, s.And((DELETED, FLAGGED)))))),
    (b"SEARCH OR SEEN NOT DELETED", search(s.Or(SEEN, s.Not(DELETED)))),
    (b"SEARCH OR (SEEN FLAGGED) 5", search(s.Or(s.And((SEEN, FLAGGED)), s.Sequence(seqs(5))))),
    (b"SEARCH RECENT", search(s.IsRecent())),
    (b"SEARCH OLD", search(s.Not(s.IsRecent()))),
    (
        b"SEARCH (RECENT UNSEEN) UNSEEN",
        search(s.And((s.And((s.IsRecent(), s.Not(SEEN))), s.Not(SEEN)))),
    ),
    (
        b"SEARCH KEYWORD $MDN UNKEYWORD x",
        search(s.And((s.HasKeyword("$MDN"), s.Not(s.HasKeyword("x"))))),
    ),
    (b"SEARCH LARGER 4294967296 SMALLER 0010", search(s.And((s.Larger(2**32), s.Smaller(10))))),
    (b'SEARCH HEADER x-priority ""', search(s.Header("x-priority", ""))),  # T33
    (b'SEARCH BCC a CC b TO c SUBJECT "d e" BODY nil', search(s.And((
        s.Addresses("bcc", "a"),
        s.Addresses("cc", "b"),
        s.Addresses("to", "c"),
        s.Header("Subject", "d e"),
        s.Body("nil"),
    )))),
    (b'SEARCH BEFORE "1-jan-2000" ON 29-Feb-2024', search(s.And((
        internal(s.DateRelation.BEFORE, day(2000, 1, 1)),
        internal(s.DateRelation.ON, day(2024, 2, 29)),
    )))),
    (b"SEARCH SENTBEFORE 01-Jan-0001 SENTON 31-Dec-9999 SENTSINCE 2-Mar-1999", search(s.And((
        s.DateKey(s.DateField.SENT, s.DateRelation.BEFORE, 1),
        s.DateKey(s.DateField.SENT, s.DateRelation.ON, day(9999, 12, 31)),
        s.DateKey(s.DateField.SENT, s.DateRelation.SINCE, day(1999, 3, 2)),
    )))),
    (b"SEARCH ANSWERED DRAFT UNANSWERED UNDRAFT UNDELETED UNFLAGGED", search(s.And((
        s.HasFlag(F.ANSWERED),
        s.HasFlag(F.DRAFT),
        s.Not(s.HasFlag(F.ANSWERED)),
        s.Not(s.HasFlag(F.DRAFT)),
        s.Not(DELETED),
        s.Not(FLAGGED),
    )))),
    # RFC 4731 §3.1
    (
        b'SEARCH RETURN (MIN COUNT) FLAGGED',
        search(FLAGGED, returns=frozenset({c.SearchReturn.MIN, c.SearchReturn.COUNT})),
    ),
    (b"SEARCH RETURN () SEEN", search(SEEN, returns=frozenset({c.SearchReturn.ALL}))),
    (
        b"UID SEARCH RETURN (MIN MAX ALL COUNT) CHARSET us-ascii SUBJECT x",
        search(
            s.Header("Subject", "x"),
            charset="us-ascii",
            returns=frozenset(c.SearchReturn),
            by_uid=True,
        ),
    ),
    (b"SEARCH TEXT {2+}\r\n\xc3\xa9", search(s.Text("é"))),  # UTF-8 without CHARSET
]  # fmt: skip

SEARCH_SHORTHAND: list[tuple[bytes, c.Command]] = [
    (b"SEARCH NEW", search(s.And((s.IsRecent(), s.Not(SEEN))))),
]
"""Programmes that the writer spells out."""

COMMANDS = [*BARE, *LOGIN, *MAILBOX, *LIST, *MESSAGE, *FETCH, *SEARCH]

BAD_QUOTED = "this quoted string has no end, or holds a CR, NUL or bad backslash"

FAULTS: list[tuple[bytes, str]] = [
    # command -> what is said, with the column counted from the tag `a `
    (b"NOOP x", "expected the end of the command at column 7"),
    (b"SELECT", "expected more at column 9"),
    (b"SELECT ", "expected a mailbox name at column 10"),
    (b"SELECT (", "expected a mailbox name at column 10"),
    (b"SELECT x y", "expected ( at column 12"),
    (b"SELECT x (CONDSTORE)", "expected a SELECT parameter that is known here at column 13"),
    (b'SELECT "x', BAD_QUOTED + " at column 10"),
    (b'SELECT "x\\n"', BAD_QUOTED + " at column 10"),
    (b'SELECT "x\0"', BAD_QUOTED + " at column 10"),
    (b'SELECT "x\r"', BAD_QUOTED + " at column 10"),
    (b"SELECT {1}\r\n\0", "a NUL in a literal at column 15"),
    (b"SELECT ~{1}\r\nx", "expected a space at column 11"),
    (b'ID ("a" ~{1}\r\nx)', "a binary literal is allowed in APPEND only at column 11"),
    (b'SELECT "caf\xc3\xa9"', "expected a literal for a string that is not US-ASCII at column 10"),
    (b"SELECT caf\xc3\xa9", "expected a space at column 13"),
    (
        b"SELECT {5}\r\ncaf\xc3\xa9",
        "this mailbox name is not modified UTF-7: an octet is not printable US-ASCII at column 10",
    ),
    (b"SELECT a&b", "this mailbox name is not modified UTF-7 in its canonical form at column 10"),
    (b"CREATE x (USE \\Drafts)", "expected ( at column 17"),
    (b"CREATE x (USE (Drafts))", "expected a special use such as \\Drafts at column 18"),
    (b"CREATE x (USE (\\Drafts) USE (\\Sent))", "a CREATE parameter was given twice at column 27"),
    (b"CREATE x (USE)", "expected a space at column 16"),
    (b"CREATE x ()", "expected a CREATE parameter at column 13"),
    (b"LOGIN a", "expected more at column 10"),
    (b'LOGIN a "b"c', "expected the end of the command at column 14"),
    (b"LOGIN {1}\r\n\xff b", "expected text in UTF-8 at column 9"),
    (b"LOGIN a {3}\r\nxy", "expected the octets of the literal at column 11"),
    (b"AUTHENTICATE PLAIN a b", "expected the end of the command at column 23"),
    (b"AUTHENTICATE PLAIN (", "expected an initial response in base64 at column 22"),
    (b"ENABLE", "expected more at column 9"),
    (b"ENABLE (x)", "expected the name of a capability at column 10"),
    (b"ID", "expected more at column 5"),
    (b"ID x", "expected a list or NIL at column 6"),
    (b'ID ("a" b)', "expected a string or NIL at column 11"),
    (b'ID ("a" {1}\r\n\xff)', "expected text in UTF-8 at column 11"),
    (b'ID ("a")', "expected a space at column 10"),
    (b"ID (" + b'"a" NIL ' * 31 + b")", "expected at most 30 fields at column 6"),
    (b'ID ("a" "' + b"x" * 1025 + b'")', "expected a value of at most 1024 octets at column 11"),
    (b'LIST ""', "expected more at column 10"),
    (b'LIST "" ()', "expected a mailbox name or pattern at column 13"),
    (b'LIST (FOO) "" *', "expected a selection option of LIST that is known here at column 9"),
    (
        b'LIST (RECURSIVEMATCH) "" *',
        "RECURSIVEMATCH needs another selection option beside it at column 8",
    ),
    (
        b'LIST (REMOTE RECURSIVEMATCH) "" *',
        "RECURSIVEMATCH needs another selection option beside it at column 8",
    ),
    (b'LIST "" * CHILDREN', "expected RETURN or the end of the command at column 13"),
    (b'LIST "" * RETURN (X)', "expected a return option of LIST that is known here at column 21"),
    (b'LIST "" * RETURN (STATUS)', "expected a space at column 27"),
    (b'LIST "" * RETURN (STATUS ())', "expected a STATUS attribute at column 29"),
    (b"STATUS x ()", "expected a STATUS attribute at column 13"),
    (b"STATUS x (BOGUS)", "expected a STATUS attribute that is known here at column 13"),
    (b"STATUS x MESSAGES", "expected ( at column 12"),
    (b"COPY 0 x", "expected a sequence set at column 8"),
    (b"COPY 01 x", "expected a sequence set at column 8"),
    (b"COPY 1: x", "expected a sequence set at column 8"),
    (b"COPY 1,,2 x", "expected a sequence set at column 8"),
    (b"COPY 1:2:3 x", "expected a sequence set at column 8"),
    (b"COPY -1 x", "expected a sequence set at column 8"),
    (b"COPY 1 x y", "expected the end of the command at column 11"),
    (b"COPY 4294967296 x", "expected numbers up to 4294967295 in this sequence set at column 8"),
    (b"COPY 99999999999 x", "expected a sequence set at column 8"),
    (b"COPY 1x y", "expected a space at column 9"),
    (b"UID EXPUNGE", "expected more at column 14"),
    (b"EXPUNGE 1", "expected the end of the command at column 10"),
    (b"STORE 1 FLAGS", "expected more at column 16"),
    (b"STORE 1 FLAG (x)", "expected FLAGS, +FLAGS or -FLAGS, perhaps with .SILENT at column 11"),
    (b"STORE 1 +FLAGS (\\Recent)", "\\Recent is not a flag that can be stored at column 18"),  # T9
    (b"STORE 1 +FLAGS \\Xyz", "\\Xyz is not a flag that can be stored at column 18"),  # T11
    (b"STORE 1 +FLAGS (\\*)", "expected a flag at column 19"),
    (b"STORE 1 +FLAGS (x", "expected a space or ) at column 20"),
    (b"STORE 1 +FLAGS " + b"x" * 256, "expected a keyword of at most 255 characters at column 18"),
    (
        b"STORE 1 (UNCHANGEDSINCE 5) FLAGS x",
        "expected a STORE modifier that is known here at column 12",
    ),
    (b"FETCH 1 ()", "expected an item of FETCH at column 12"),
    (b"FETCH 1 BOGUS", "expected an item of FETCH that is known here at column 11"),
    (b"FETCH 1 (FLAGS BOGUS)", "expected an item of FETCH that is known here at column 18"),
    (b"FETCH 1 (ALL)", "expected an item of FETCH that is known here at column 12"),
    (b"FETCH 1 FLAGS UID", "expected ( at column 17"),
    (b"FETCH 1 FLAGS (SINCE 1)", "expected a FETCH modifier that is known here at column 18"),
    (b"FETCH 1 BODY[", "expected ] at column 16"),
    (b"FETCH 1 BODY[x]", "expected a section such as 1.2 or HEADER at column 16"),
    (b"FETCH 1 BODY[0]", "expected part numbers above 0 with a dot between them at column 16"),
    (b"FETCH 1 BODY[1.]", "expected part numbers above 0 with a dot between them at column 16"),
    (b"FETCH 1 BODY[1..2]", "expected part numbers above 0 with a dot between them at column 16"),
    (b"FETCH 1 BODY[1HEADER]", "expected . between part number and text of a section at column 16"),
    (b"FETCH 1 BODY[MIME]", "MIME needs a part number before it at column 16"),
    (b"FETCH 1 BODY[HEADER.FIELDS]", "expected a space at column 29"),
    (b"FETCH 1 BODY[HEADER.FIELDS ()]", "expected a header field name at column 31"),
    (b'FETCH 1 BODY[HEADER.FIELDS ("a b")]', "expected a header field name at column 31"),
    (b'FETCH 1 BODY[HEADER.FIELDS ("a:")]', "expected a header field name at column 31"),
    (b"FETCH 1 BODY[HEADER.FIELDS ({4}\r\na\r\nb)]", "expected a header field name at column 31"),
    (b"FETCH 1 BODY[]<0.0>", "expected a range of octets such as <0.2048> at column 17"),
    (b"FETCH 1 BODY[]<0>", "expected a range of octets such as <0.2048> at column 17"),
    (
        b"FETCH 1 BODY[]<9999999999999999999.1>",
        "expected a range of octets such as <0.2048> at column 17",
    ),
    (b"FETCH 1 BINARY[1.MIME]", "expected a part number only at column 18"),
    (b"FETCH 1 BINARY.SIZE[1]<0.1>", "expected a space at column 25"),
    (b"FETCH 1 FLAGS[1]", "expected an item of FETCH that is known here at column 11"),
    (b"SEARCH", "expected more at column 9"),
    (b"SEARCH BOGUS", "expected a search key that is known here at column 10"),
    (b"SEARCH ()", "expected a search key at column 11"),
    (b"SEARCH SEEN,DELETED", "expected a search key that is known here at column 10"),
    (b"SEARCH OR SEEN", "expected more at column 17"),
    (b"SEARCH ON 30-Feb-2000", "expected a day that exists at column 13"),
    (b"SEARCH ON 1-Foo-2000", "expected a day that exists at column 13"),
    (b"SEARCH ON 1-Jan-0000", "expected a day that exists at column 13"),
    (b'SEARCH ON "1-Jan-2000', "expected a date like 1-Feb-1994 at column 13"),
    (b"SEARCH LARGER 9223372036854775808", f"expected a number up to {MAX_MODSEQ} at column 17"),
    (b"SEARCH LARGER +1", "expected a number at column 17"),
    (b"SEARCH LARGER " + b"9" * 5000, f"expected a number up to {MAX_MODSEQ} at column 17"),
    (
        b"SEARCH KEYWORD \\Seen",
        "expected a keyword, which does not begin with a backslash at column 18",
    ),
    (b"SEARCH TEXT {1}\r\n\xff", "this text is not in its charset at column 15"),
    (b"SEARCH CHARSET US-ASCII TEXT {1}\r\n\xe9", "this text is not in its charset at column 32"),
    (
        b"SEARCH RETURN (SAVE) ALL",
        "expected a result option of SEARCH that is known here at column 18",
    ),
    (b"SEARCH CHARSET {1}\r\n\xe9 ALL", "expected the name of a charset at column 18"),
    (b"SEARCH CHARSET", "expected more at column 17"),
    (b"SEARCH RETURN MIN ALL", "expected ( at column 17"),
    (b"APPEND INBOX", "expected more at column 15"),
    (b"APPEND INBOX foo", "expected a literal with the message at column 16"),
    (b"APPEND INBOX (\\Seen)", "expected more at column 23"),
    (b"APPEND INBOX (\\Recent) {3}\r\n", "\\Recent is not a flag that can be stored at column 16"),
    (
        b'APPEND INBOX "1994-02-07" {3}\r\n',
        'expected a date and time like "01-Feb-1994 21:52:25 -0800" at column 16',
    ),
    (b'APPEND x "32-Feb-1994 21:52:25 -0800" {3}\r\n', "expected a day that exists at column 12"),
    (
        b'APPEND x "01-Feb-1994 24:52:25 -0800" {3}\r\n',
        "expected a time of 24 hours and a zone within a day at column 12",
    ),
    (b"APPEND x {3}\r\nabc", "expected a literal with the message at column 12"),
    (b"APPEND x {9223372036854775808}\r\n", "expected a literal with the message at column 12"),
]  # fmt: skip
