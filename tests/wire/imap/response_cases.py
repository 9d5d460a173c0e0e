"""Responses as octets and as values: one table for the writer and the response parser.

Octets are without the final CRLF. RFC examples are those of RFC 3501 §7 where none other
is named.
"""

from __future__ import annotations

from mailserver.model.message import InternalDate
from mailserver.model.numset import SequenceSet
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.commands import (
    BinarySection,
    BinarySize,
    BodySection,
    FetchAtt,
    SectionText,
    StatusAtt,
)

OK, NO, BAD = r.Condition.OK, r.Condition.NO, r.Condition.BAD


def uids(*ranges: tuple[int, int] | int) -> SequenceSet:
    return SequenceSet(tuple((u, u) if isinstance(u, int) else u for u in ranges))


def fetch(number: int, *items: r.FetchDatum) -> r.FetchData:
    return r.FetchData(number, items)


STATUS: list[tuple[bytes, r.Response]] = [
    (b"* OK IMAP4rev1 server ready", r.Status(OK, "IMAP4rev1 server ready")),
    (b"a001 OK LOGIN completed", r.Status(OK, "LOGIN completed", tag=b"a001")),
    (b"* NO Disk is 98% full", r.Status(NO, "Disk is 98% full")),
    (b"* BAD Command line too long", r.Status(BAD, "Command line too long")),
    (b"* PREAUTH hello", r.Status(r.Condition.PREAUTH, "hello")),
    (b"* BYE Autologout", r.Status(r.Condition.BYE, "Autologout")),
    (b"A222 NO [TRYCREATE] no mailbox", r.Status(NO, "no mailbox", r.TRYCREATE, b"A222")),
    (b"* OK [ALERT] fire", r.Status(OK, "fire", r.ALERT)),
    (b"* OK [UNSEEN 12] x", r.Status(OK, "x", r.NumberCode(b"UNSEEN", 12))),
    (
        b"* OK [UIDVALIDITY 3857529045] x",
        r.Status(OK, "x", r.NumberCode(b"UIDVALIDITY", 3857529045)),
    ),
    (
        b"* OK [HIGHESTMODSEQ 9223372036854775807] x",
        r.Status(OK, "x", r.NumberCode(b"HIGHESTMODSEQ", 2**63 - 1)),
    ),
    (
        b"* OK [PERMANENTFLAGS (\\Deleted \\Seen \\*)] Limited",
        r.Status(OK, "Limited", r.PermanentFlags(("\\Deleted", "\\Seen", "\\*"))),
    ),
    (b"* OK [PERMANENTFLAGS ()] x", r.Status(OK, "x", r.PermanentFlags(()))),
    (
        b"* OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] hi",
        r.Status(OK, "hi", r.CapabilityCode((b"IMAP4rev1", b"LITERAL+", b"AUTH=PLAIN"))),
    ),
    (b"a NO [BADCHARSET] x", r.Status(NO, "x", r.BadCharset(), b"a")),
    (
        b"a NO [BADCHARSET (US-ASCII UTF-8)] x",
        r.Status(NO, "x", r.BadCharset(("US-ASCII", "UTF-8")), b"a"),
    ),
    # RFC 4315 §3
    (
        b"A003 OK [APPENDUID 38505 3955] done",
        r.Status(OK, "done", r.AppendUid(38505, uids(3955)), b"A003"),
    ),
    (
        b"A004 OK [COPYUID 38505 304,319:320 3956:3958] Done",
        r.Status(OK, "Done", r.CopyUid(38505, uids(304, (319, 320)), uids((3956, 3958))), b"A004"),
    ),
    (b"a NO [UNKNOWN-CTE] x", r.Status(NO, "x", r.UNKNOWN_CTE, b"a")),
    (b"a NO [AUTHENTICATIONFAILED] no", r.Status(NO, "no", r.AUTHENTICATIONFAILED, b"a")),
    (
        b"a NO [REFERRAL IMAP://John;AUTH=*@example.com/] moved",  # RFC 2221 §4.1
        r.Status(NO, "moved", r.Code(b"REFERRAL", b"IMAP://John;AUTH=*@example.com/"), b"a"),
    ),
    (b"+ ", r.Continuation()),
    (b"+ Ready for additional command text", r.Continuation(b"Ready for additional command text")),
    (b"+ YGgGCSqG", r.Continuation(b"YGgGCSqG")),
]  # fmt: skip

DATA: list[tuple[bytes, r.Response]] = [
    (
        b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=GSSAPI LOGINDISABLED",
        r.Capability((b"IMAP4rev1", b"STARTTLS", b"AUTH=GSSAPI", b"LOGINDISABLED")),
    ),
    (b"* ENABLED", r.Enabled(())),
    (b"* ENABLED X-GOOD-IDEA", r.Enabled((b"X-GOOD-IDEA",))),  # RFC 5161 §3.2
    (b"* ID NIL", r.Id(None)),
    (
        b'* ID ("name" "Cyrus" "vendor" NIL)',
        r.Id((("name", "Cyrus"), ("vendor", None))),
    ),
    (
        b'* NAMESPACE (("" "/")) (("~" "/")) NIL',  # RFC 2342 §5
        r.Namespace((r.NamespaceEntry("", "/"),), (r.NamespaceEntry("~", "/"),), ()),
    ),
    (
        b'* NAMESPACE (("" NIL)("#mh/" "/")) NIL (("&AOk-/" "/"))',
        r.Namespace(
            (r.NamespaceEntry("", None), r.NamespaceEntry("#mh/", "/")),
            (),
            (r.NamespaceEntry("é/", "/"),),
        ),
    ),
    (
        b'* LIST (\\Noselect) "/" ~/Mail/foo',
        r.MailboxList(("\\Noselect",), "/", "~/Mail/foo"),
    ),
    (b'* LIST () "/" "a b"', r.MailboxList((), "/", "a b")),
    (b'* LIST () NIL "NIL"', r.MailboxList((), None, "NIL")),  # T20
    (b'* LIST (\\HasChildren) "\\\\" INBOX', r.MailboxList(("\\HasChildren",), "\\", "INBOX")),
    (b'* LIST () "/" "R&-D \\"x\\""', r.MailboxList((), "/", 'R&D "x"')),
    (
        b'* LIST (\\HasChildren \\Sent) "/" &U,BTF2XlZyyKng- ("CHILDINFO" ("SUBSCRIBED"))',
        r.MailboxList(("\\HasChildren", "\\Sent"), "/", "台北日本語", ("SUBSCRIBED",)),
    ),
    (b'* LSUB () "." #news.comp', r.MailboxList((), ".", "#news.comp", lsub=True)),
    (
        b"* STATUS blurdybloop (MESSAGES 231 UIDNEXT 44292 SIZE 8589934592)",
        r.MailboxStatus(
            "blurdybloop",
            ((StatusAtt.MESSAGES, 231), (StatusAtt.UIDNEXT, 44292), (StatusAtt.SIZE, 2**33)),
        ),
    ),
    (
        b'* STATUS "" (APPENDLIMIT NIL UNSEEN 0)',
        r.MailboxStatus("", ((StatusAtt.APPENDLIMIT, None), (StatusAtt.UNSEEN, 0))),
    ),
    (b"* SEARCH", r.SearchResult(())),
    (b"* SEARCH 2 3 6", r.SearchResult((2, 3, 6))),
    # RFC 4731 §3.1
    (
        b'* ESEARCH (TAG "A282") MIN 2 COUNT 3',
        r.ExtendedSearchResult(b"A282", False, min=2, count=3),
    ),
    (
        b'* ESEARCH (TAG "A283") ALL 2,10:11',
        r.ExtendedSearchResult(b"A283", False, all=uids(2, (10, 11))),
    ),
    (
        b'* ESEARCH (TAG "A285") UID MIN 7 MAX 3800',
        r.ExtendedSearchResult(b"A285", True, min=7, max=3800),
    ),
    (b"* ESEARCH COUNT 0", r.ExtendedSearchResult(None, False, count=0)),
    (b"* FLAGS (\\Seen $Forwarded)", r.FlagsList(("\\Seen", "$Forwarded"))),
    (b"* FLAGS ()", r.FlagsList(())),
    (b"* 23 EXISTS", r.Exists(23)),
    (b"* 0 EXISTS", r.Exists(0)),
    (b"* 5 RECENT", r.Recent(5)),
    (b"* 44 EXPUNGE", r.Expunged(44)),
]  # fmt: skip

TERRY = r.Address(b"Terry Gray", None, b"gray", b"cac.washington.edu")
ENVELOPE = r.Envelope(
    date=b"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)",
    subject=b"IMAP4rev1 WG mtg summary and minutes",
    from_=(TERRY,),
    sender=(TERRY,),
    reply_to=(TERRY,),
    to=(r.Address(None, None, b"imap", b"cac.washington.edu"),),
    cc=(
        r.Address(None, None, b"minutes", b"CNRI.Reston.VA.US"),
        r.Address(b"John Klensin", None, b"KLENSIN", b"MIT.EDU"),
    ),
    bcc=(),
    in_reply_to=None,
    message_id=b"<B27397-0100000@cac.washington.edu>",
)
ENVELOPE_OCTETS = (  # RFC 3501 §8
    b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes"'
    b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
    b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
    b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
    b' ((NIL NIL "imap" "cac.washington.edu"))'
    b' ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU"))'
    b' NIL NIL "<B27397-0100000@cac.washington.edu>")'
)
CHARSET = ((b"CHARSET", b"US-ASCII"),)
PLAIN = r.SinglePart(b"TEXT", b"PLAIN", CHARSET, None, None, b"7BIT", 1152, 23)
ATTACHED = r.SinglePart(
    b"TEXT",
    b"PLAIN",
    (*CHARSET, (b"NAME", b"cc.diff")),
    b"<960723163407.20117h@cac.washington.edu>",
    b"Compiler diff",
    b"BASE64",
    4554,
    73,
)
PLAIN_OCTETS = b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1152 23)'
ATTACHED_OCTETS = (  # RFC 3501 §7.4.2
    b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII" "NAME" "cc.diff")'
    b' "<960723163407.20117h@cac.washington.edu>" "Compiler diff" "BASE64" 4554 73)'
)
IMAGE = r.SinglePart(b"IMAGE", b"PNG", (), None, None, b"BASE64", 12)
EXTENSION = r.Extension(
    md5=b"Q2hlY2sgSW50ZWdyaXR5IQ==",
    disposition=r.Disposition(b"attachment", ((b"filename", b'a "b".png'),)),
    languages=(b"en", b"ja"),
    location=b"http://example.com/x",
)


def structure(value: r.BodyStructure, att: FetchAtt = FetchAtt.BODY) -> r.FetchData:
    return fetch(1, r.StructureItem(att, value))


FETCH: list[tuple[bytes, r.Response]] = [
    (
        b"* 23 FETCH (FLAGS (\\Seen \\Recent) RFC822.SIZE 44827)",
        fetch(23, r.FlagsItem(("\\Seen", "\\Recent")), r.SizeItem(44827)),
    ),
    (b"* 1 FETCH (UID 4294967295 FLAGS ())", fetch(1, r.UidItem(2**32 - 1), r.FlagsItem(()))),
    (
        b'* 1 FETCH (INTERNALDATE "17-Jul-1996 02:44:25 -0700")',
        fetch(1, r.InternalDateItem(InternalDate(837596665, -420))),
    ),
    (
        b'* 1 FETCH (INTERNALDATE " 7-Feb-1994 21:52:25 +0545")',  # T32
        fetch(1, r.InternalDateItem(InternalDate(760637245, 345))),
    ),
    (b"* 12 FETCH (ENVELOPE " + ENVELOPE_OCTETS + b")", fetch(12, r.EnvelopeItem(ENVELOPE))),
    (
        b"* 1 FETCH (ENVELOPE (NIL {3}\r\nh\xc3\xa9 NIL NIL NIL NIL NIL NIL NIL NIL))",
        fetch(1, r.EnvelopeItem(r.Envelope(subject=b"h\xc3\xa9"))),
    ),
    (
        b'* 1 FETCH (ENVELOPE (NIL "" ((NIL NIL "group" NIL)(NIL NIL NIL NIL))'
        b" NIL NIL NIL NIL NIL NIL NIL))",
        fetch(
            1,
            r.EnvelopeItem(
                r.Envelope(
                    subject=b"",
                    from_=(
                        r.Address(None, None, b"group", None),
                        r.Address(None, None, None, None),
                    ),
                )
            ),
        ),
    ),
    (b"* 1 FETCH (BODY " + PLAIN_OCTETS + b")", structure(PLAIN)),
    (
        b"* 1 FETCH (BODY (" + PLAIN_OCTETS + ATTACHED_OCTETS + b' "MIXED"))',
        structure(r.MultiPart((PLAIN, ATTACHED), b"MIXED")),
    ),
    (
        b'* 1 FETCH (BODYSTRUCTURE ("IMAGE" "PNG" NIL NIL NIL "BASE64" 12'
        b' "Q2hlY2sgSW50ZWdyaXR5IQ==" ("attachment" ("filename" "a \\"b\\".png"))'
        b' ("en" "ja") "http://example.com/x"))',
        structure(
            r.SinglePart(
                b"IMAGE", b"PNG", (), None, None, b"BASE64", 12, extension=EXTENSION
            ),
            FetchAtt.BODYSTRUCTURE,
        ),
    ),
    (
        b"* 1 FETCH (BODYSTRUCTURE ((" + PLAIN_OCTETS + b' "ALTERNATIVE" ("boundary" "x")'
        b" NIL NIL NIL)" + ATTACHED_OCTETS + b' "MIXED" NIL ("inline" NIL) NIL NIL))',
        structure(
            r.MultiPart(
                (
                    r.MultiPart(
                        (PLAIN,), b"ALTERNATIVE", ((b"boundary", b"x"),), r.Extension()
                    ),
                    ATTACHED,
                ),
                b"MIXED",
                (),
                r.Extension(disposition=r.Disposition(b"inline")),
            ),
            FetchAtt.BODYSTRUCTURE,
        ),
    ),
    (
        b'* 1 FETCH (BODY ("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 9000 '
        + ENVELOPE_OCTETS + b" " + PLAIN_OCTETS + b" 99))",
        structure(
            r.SinglePart(
                b"MESSAGE", b"RFC822", (), None, None, b"7BIT", 9000, 99, ENVELOPE, PLAIN
            )
        ),
    ),
    (
        b"* 1 FETCH (BODY[] {7}\r\na\r\nb\r\n) BODY[]<1024> NIL)",
        fetch(
            1,
            r.SectionItem(BodySection(), b"a\r\nb\r\n)"),
            r.SectionItem(BodySection(partial=(1024, 0)), None),
        ),
    ),
    (
        b'* 1 FETCH (BODY[1.2.HEADER.FIELDS (Subject "X(y)")] "x\\\\y" BODY[1.MIME] "")',
        fetch(
            1,
            r.SectionItem(
                BodySection((1, 2), SectionText.HEADER_FIELDS, ("Subject", "X(y)")), b"x\\y"
            ),
            r.SectionItem(BodySection((1,), SectionText.MIME), b""),
        ),
    ),
    (
        b'* 1 FETCH (RFC822 "a" RFC822.HEADER "b" RFC822.TEXT NIL)',
        fetch(
            1,
            r.SectionItem(BodySection(old_name=b"RFC822"), b"a"),
            r.SectionItem(BodySection(text=SectionText.HEADER, old_name=b"RFC822.HEADER"), b"b"),
            r.SectionItem(BodySection(text=SectionText.TEXT, old_name=b"RFC822.TEXT"), None),
        ),
    ),
    (  # RFC 3516 §4.2
        b"* 1 FETCH (BINARY[1]<0> ~{3}\r\n\0\r\n BINARY.SIZE[1.2] 70000)",
        fetch(
            1,
            r.SectionItem(BinarySection((1,), (0, 0)), b"\0\r\n"),
            r.BinarySizeItem(BinarySize((1, 2)), 70000),
        ),
    ),
]  # fmt: skip

RESPONSES = [*STATUS, *DATA, *FETCH]
"""What the writer writes just so and the parser reads."""

TOLERATED: list[tuple[bytes, r.Response]] = [
    (b"a NO [BADCHARSET ] x", r.Status(r.Condition.NO, "x", r.BadCharset(), b"a")),
    (b"* OK [CAPABILITY  ] x", r.Status(r.Condition.OK, "x", r.CapabilityCode(()))),
    # what servers send but ours does not
    (b"* ok [alert]", r.Status(OK, "", r.ALERT)),
    (b"a OK", r.Status(OK, "", tag=b"a")),
    (b"+", r.Continuation()),
    (b"+idling", r.Continuation(b"idling")),
    (b"* OK Daten f\xfcr \xc3\xa9", r.Status(OK, "Daten f\ufffdr é")),
    (b"* OK [UIDNEXT none] x", r.Status(OK, "x", r.Code(b"UIDNEXT", b"none"))),
    (b"* OK [APPENDUID 1 *x] y", r.Status(OK, "y", r.Code(b"APPENDUID", b"1 *x"))),
    (b"* OK [APPENDUID 1 2:*] y", r.Status(OK, "y", r.Code(b"APPENDUID", b"1 2:*"))),
    (b"* OK [X-THING (a b)] y", r.Status(OK, "y", r.Code(b"X-THING", b"(a b)"))),
    (b"* OK literally {5}", r.Status(OK, "literally {5}")),
    (b"a9 NO braces {1+}", r.Status(NO, "braces {1+}", tag=b"a9")),
    (b"* SEARCH 2 3 ", r.SearchResult((2, 3))),
    (b"* SEARCH 2 (MODSEQ 917162500)", r.SearchResult((2,))),
    (b'* ESEARCH (TAG "a") ALL 2 MODSEQ 9', r.ExtendedSearchResult(b"a", False, all=uids(2))),
    (b'* STATUS x (MESSAGES 1 X-NEW (1 "a" (2)) UNSEEN 2 )', r.MailboxStatus(
        "x", ((StatusAtt.MESSAGES, 1), (StatusAtt.UNSEEN, 2)))),
    (b'* LIST (\\Marked) "/" x ("OLDNAME" ("y") "X" 5)', r.MailboxList(("\\Marked",), "/", "x")),
    (b'* LIST () "/" "caf\xc3\xa9 & co"', r.MailboxList((), "/", "café & co")),
    (b'* NAMESPACE (("" "/" "X-PARAM" ("F1" "F2"))) NIL NIL', r.Namespace(
        (r.NamespaceEntry("", "/"),), (), ())),
    (b'* 1 FETCH (X-GM-MSGID 1278455344230334865 UID 5 X-GM-LABELS ("\\\\Inbox" a (b {1}\r\n)))'
     b" MODSEQ (624140003) X[1] (x))",
     fetch(1, r.UidItem(5))),
    (b"* 1 FETCH (FLAGS (NonJunk [Odd] $x))", fetch(1, r.FlagsItem(("NonJunk", "[Odd]", "$x")))),
    (b'* 1 FETCH (ENVELOPE (NIL NIL ((NIL NIL "a" "b") (NIL NIL "c" "d")) NIL NIL NIL NIL NIL'
     b" NIL NIL))",
     fetch(1, r.EnvelopeItem(r.Envelope(from_=(
         r.Address(None, None, b"a", b"b"), r.Address(None, None, b"c", b"d")))))),
    (b'* 1 FETCH (BODY ("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 90))',
     structure(r.SinglePart(b"MESSAGE", b"RFC822", (), None, None, b"7BIT", 90))),
    (b'* 1 FETCH (BODYSTRUCTURE ("IMAGE" "PNG" NIL NIL NIL NIL 12 NIL "inline" "en" NIL (1 "x")))',
     structure(r.SinglePart(b"IMAGE", b"PNG", (), None, None, b"", 12, extension=r.Extension(
         None, r.Disposition(b"inline"), (b"en",))), FetchAtt.BODYSTRUCTURE)),
    (b'* 1 FETCH (BODYSTRUCTURE ("IMAGE" "PNG" NIL NIL NIL "7BIT" 12 NIL))',
     structure(r.SinglePart(b"IMAGE", b"PNG", (), None, None, b"7BIT", 12, extension=r.Extension()),
               FetchAtt.BODYSTRUCTURE)),
    (b"* VANISHED 1:5", r.Unknown(b"VANISHED", b"VANISHED 1:5")),
    (b'* 5 METADATA "" (/x NIL)', r.Unknown(b"METADATA", b'5 METADATA "" (/x NIL)')),
]  # fmt: skip
