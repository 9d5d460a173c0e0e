"""Mail: structure, sections, decoded text, and the fields of a header."""

from __future__ import annotations

from unicodedata import combining

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.buffers import buffer_of
from mailserver.mime.charsets import decode, is_known_charset
from mailserver.mime.decode import Encoding, decode_leniently, decode_transfer
from mailserver.mime.describe import describe, prefixed
from mailserver.mime.headers import (
    MAX_FIELDS,
    parse_addresses,
    parse_date,
    parse_message_ids,
    parse_parameters,
    unfold,
    without_comments,
)
from mailserver.mime.newlines import Newlines, normalised
from mailserver.mime.sections import SectionIndex, SectionKind, index_header, select_fields
from mailserver.mime.structure import parse
from mailserver.mime.subjects import base_subject, casemap
from mailserver.mime.text import fold, html_text, part_text, search_text
from mailserver.mime.words import decode_parameter, decode_words, encode_words
from mailserver.model.message import Description
from mailserver.wire.imap import responses as r
from mailserver.wire.imap.response_parser import parse_response
from tests.fuzz.target import Target, choices, cut, is_clean
from tests.mailgen import SORTS, message
from tests.mime.values import read

# -- whole messages ----------------------------------------------------------------------


def check_describe(octets: bytes) -> None:
    describe(octets)  # as it never comes from the store
    mail = normalised(octets)
    description = describe(mail)
    assert description.size == len(mail)
    for value in (description.envelope, description.body, description.body_structure):
        read(value)
    check_client_reads(description)
    check_sections(mail, description)
    check_fields(mail, description)
    prefix = b"Return-Path: <a@b>\r\nReceived: from x\r\n\tby y\r\n"
    if mail.count(b"\n", 0, description.header_size) < MAX_FIELDS - 3:  # as `prefixed` says
        assert prefixed(description, prefix) == describe(prefix + mail)
    texts = (
        description.base_subject, description.from_mailbox, description.from_display,
        description.to_mailbox, description.to_display, description.cc_mailbox,
        description.preview, description.message_id, *description.references,
    )  # fmt: skip
    assert all(map(is_clean, texts))
    assert len(description.preview) <= 200


def check_client_reads(description: Description) -> None:
    """Our own client understands what is handed out."""
    response = parse_response(
        b"* 1 FETCH (ENVELOPE %b BODY %b BODYSTRUCTURE %b)"
        % (description.envelope, description.body, description.body_structure)
    )
    assert isinstance(response, r.FetchData)
    kinds = [type(item) for item in response.items]
    assert kinds == [r.EnvelopeItem, r.StructureItem, r.StructureItem]


def check_sections(mail: bytes, description: Description) -> None:
    index = SectionIndex.unpack(description.sections)
    paths = index.paths()
    assert len(set(paths)) == len(paths)
    # Finding a part among thousands takes 0.1 ms: some of them tell as much as all.
    some = paths if len(paths) < 50 else choices(mail).sample(paths, 50)
    for path in ((), *some):
        whole = index.find(path, SectionKind.WHOLE)
        assert whole is not None
        assert index.encoding(path) is not None
        start, end = whole
        assert 0 <= start <= end <= len(mail)
        for kind in (SectionKind.HEADER, SectionKind.TEXT):
            found = index.find(path, kind)
            assert found is None or start <= found[0] <= found[1] <= end
        mime = index.find(path, SectionKind.MIME)
        assert mime is None or 0 <= mime[0] <= mime[1] <= start
        header, text = (index.find(path, kind) for kind in (SectionKind.HEADER, SectionKind.TEXT))
        assert (header is None) == (text is None)
        if header is not None and text is not None:
            assert header[1] == text[0]
            inner = mail[slice(*header)]
            check_selection(inner, index_header(inner))
    assert index.find((9999,), SectionKind.WHOLE) is None


def check_fields(mail: bytes, description: Description) -> None:
    header = mail[: description.header_size]
    assert index_header(header) == description.header_index
    check_selection(header, description.header_index)


def check_selection(header: bytes, index: bytes) -> None:
    """Every field is either asked for or left out, and none is lost."""
    names = frozenset((b"subject", b"to", b"content-type", b"received"))
    chosen = select_fields(header, index, names, False)
    rest = select_fields(header, index, names, True)
    assert select_fields(header, index, frozenset(), True) == header
    ends = len(select_fields(header, index, frozenset(), False))
    assert len(chosen) + len(rest) == len(header) + ends


def check_text(octets: bytes) -> None:
    mail = normalised(octets)
    found = search_text(mail)
    assert all(is_clean(str(text)) for text in (found.header, found.body))
    for part in parse(buffer_of(mail)):
        assert is_clean(part.content.file_name)
        if part.content.is_text:
            assert is_clean(part_text(mail, part, 1 << 20))


def messages() -> list[bytes]:
    return [message(seed, sort)[:6000] for sort in SORTS for seed in (1, 2)] + SMALL


SMALL = [
    b"", b"\r\n", b"x", b"\r\n\r\n", b" x\r\n\r\ny", b"A: b", b"Subject: x\r\n\r\nbody\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n",
    b"Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nz\r\n",
    b"Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\nSubject: y\r\n\r\nz\r\n--a--",
    b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/x;"
    b" boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b--\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Content-Type: text/html; charset=utf-7\r\n\r\n<b>+2AA-</b>\r\n--a--\r\n",
    b"From: a@b\r\nSender: c <c@d>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0100\r\nMessage-ID: <x@y>\r\n"
    b"References: <1@2> <3@4>\r\nTo: g: a@b, c@d;\r\nCc: \"x\\\"y\" <@r:z@w>\r\n\r\n",
]  # fmt: skip

MIME_WORDS = (
    b"\r\n--b\r\n", b"--b--\r\n", b"Content-Type: ", b"multipart/mixed; boundary=b\r\n\r\n",
    b"message/rfc822\r\n\r\n", b"text/html; charset=", b"text/plain; charset=utf-16\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Disposition: attachment; filename*0*=utf-8''%e2%82; filename*1=x\r\n",
    b"=?utf-8?q?=c3=a9?=", b"=?iso-2022-jp?b?GyRCIUc=?=", b"=?", b"?=", b"Subject: ", b"From: ",
    b"To: ", b"Date: ", b"<!--", b"<script>", b"</", b"&#55296;", b"&amp", b"charset=utf-7",
    b"To: a@b, \"c\" <d@e>, g:x@y;\r\n",
)  # fmt: skip

# -- text --------------------------------------------------------------------------------


def check_words(octets: bytes) -> None:
    assert is_clean(decode_words(octets))
    line = unfold(octets)
    shown = decode_words(line)
    encoded = encode_words(line)
    assert encoded.isascii()
    if b"=?" not in line:
        assert decode_words(encoded).split() == shown.split(), encoded


def check_parameters(octets: bytes) -> None:
    value = parse_parameters(octets)
    names = [name for name, _ in value.parameters]
    assert len(set(names)) == len(names)
    for name, text in value.parameters:
        assert is_clean(decode_parameter(name, text))
    without_comments(unfold(octets))


def check_charsets(octets: bytes) -> None:
    """A name, a line end, and octets."""
    name, _, rest = octets.partition(b"\n")
    charset = name.decode("ascii", "replace")
    text = decode(rest, charset)
    assert is_clean(text)
    if not is_known_charset(charset):
        assert text == decode(rest, "us-ascii")


def check_transfer(octets: bytes) -> None:
    for encoding in Encoding:
        lenient = decode_leniently(octets, encoding)
        assert len(lenient) <= len(octets)
        try:
            assert decode_transfer(octets, encoding) == lenient
        except MailError as error:
            assert error.kind is ErrorKind.UNKNOWN_CTE


def check_newlines(octets: bytes) -> None:
    once = normalised(octets)
    assert normalised(once) == once
    assert once.count(b"\r") == once.count(b"\n") == once.count(b"\r\n")
    newlines = Newlines()
    assert b"".join(map(newlines.feed, cut(octets))) + newlines.close() == once


def check_html(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    assert is_clean(html_text(text))
    folded = fold(text)
    assert is_clean(folded)
    marks = "".join(["m" if combining(char) else " " for char in folded])
    if "m" * 30 not in marks:  # which are cut, not always at the same place
        assert fold(folded) == folded


def check_subjects(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    base = base_subject(text)
    assert base_subject(base) == base, base
    assert is_clean(casemap(text))


# -- fields ------------------------------------------------------------------------------


def check_addresses(octets: bytes) -> None:
    value = unfold(octets)
    limit = choices(octets).choice((1, 5, 1000))
    found = parse_addresses(value, limit)
    assert len(found) <= limit + 1
    check_client_reads(describe(b"From: %b\r\nTo: %b\r\n\r\n" % (value, value)))


def check_dates(octets: bytes) -> None:
    sent = parse_date(octets)
    if sent is not None:
        assert abs(sent.seconds) < 1 << 40
        assert 0 < sent.day < 4_000_000


def check_ids(octets: bytes) -> None:
    for one in parse_message_ids(octets):
        assert one and is_clean(one)
        assert one.startswith("<") and one.endswith(">")
        assert not set(" \t\r\n") & set(one)


TARGETS = (
    Target("mime_describe", check_describe, messages, MIME_WORDS),
    Target("mime_text", check_text, messages, MIME_WORDS),
    Target(
        "rfc2047",
        check_words,
        lambda: [
            b"=?utf-8?q?=c3=a9?= =?utf-8?b?w6k=?=", b"a =?iso-8859-1?Q?b?= c", "über uns".encode(),
            b"=?iso-2022-jp?B?GyRCIUc=?=", b"=?utf-8*de?q?x_y?=", b"x\r\n =?utf-8?b?8J+Y?=",
            b"=?utf-7?q?+2AA-?=", b"=?x-unknown?q?=ff?=", b"\xe9t\xe9",
        ],
        (b"=?", b"?=", b"?q?", b"?b?", b"=?utf-8?q?", b"=?utf-7?b?", b"_", b"=e9", b"\r\n "),
    ),
    Target(
        "rfc2231",
        check_parameters,
        lambda: [
            b"text/plain; charset=utf-8; name=\"a b\"", b"attachment; filename*=utf-8''%e2%82%ac",
            b"x/y; a*0=1; a*1=2; a*2*=%33", b"x/y; a*0*=utf-8'en'%c3; a*1*=%a9; a*1*=z; b",
            b'text/html (comment (nested)) ; x="\\"" ; y=(z)w', b"; a=b;;", b"name*=utf-7''+2AA-",
        ],
        (b";", b"*0*=", b"*1=", b"*=", b"utf-8''", b"%e9", b'"', b"\\", b"(", b")", b"/", b" a*"),
    ),
    Target(
        "charsets",
        check_charsets,
        lambda: [
            name + b"\n" + octets
            for name in (
                b"utf-8", b"us-ascii", b"iso-8859-1", b"iso-2022-jp", b"iso-2022-kr", b"shift_jis",
                b"euc-jp", b"gb18030", b"hz", b"big5", b"koi8-r", b"utf-7", b"utf-16", b"utf-16le",
                b"utf-32", b"windows-1252", b"x-unknown", b"idna", b"punycode", b"rot13", b"base64",
                b"unicode_escape", b"zlib", b"utf_8_sig", b"cp65001", b"mbcs",
            )
            for octets in (b"abc", b"\x1b$B!G\x1b(B", b"+2AA-", b"\xff\xfe\x00\xd8",
            b"~{<:~}\\ud800")
        ],
        (b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x0e", b"\x0f", b"~{", b"~}", b"+2AA-", b"\x00\xd8"),
    ),
    Target(
        "transfer_encodings",
        check_transfer,
        lambda: [b"=C3=A9=\r\n x  \r\n", b"YWJj\r\nZGU=\r\n", b"abc", b"= \r\n=3D=", b"YQ==YQ=="],
        (b"=", b"==", b"=\r\n", b"=E", b" \r\n", b"AAAA", b"-"),
    ),
    Target(
        "newlines", check_newlines, lambda: [b"a\r\nb\nc\rd\r\r\n\n\r"], (b"\r", b"\n", b"\r\n")
    ),
    Target(
        "html",
        check_html,
        lambda: [
            b"<html><style>x</style><p>a<b>b</b>&amp;&#x1F600;<!-- c --><br></html>",
            b"<script>a</script b>c<td>&lt;", "ﬃ ẞ ½ ﷺ ἄ́".encode(),
        ],
        (b"<", b">", b"<!--", b"-->", b"<script>", b"</script>", b"&", b"&#", b"&#xD800;", b";"),
    ),
    Target(
        "subjects",
        check_subjects,
        lambda: [b"Re: [list] Fwd: x (fwd)", b"[fwd: re[2]: y]", b"FW: z (fwd) (fwd)", b"[a][b]"],
        (b"Re: ", b"re[1]:", b"[fwd: ", b"]", b"(fwd)", b"[a]", b"Fw", b" ", "ǆß".encode()),
    ),
    Target(
        "address_lists",
        check_addresses,
        lambda: [
            b"a@b", b"Ann <ann@example.org>, \"B, C\" (x) <b@c>", b"g: a@b, c@d;, e@f",
            b"undisclosed:;",
            b"<@r1,@r2:a@[1.2.3.4]>", b"a . b @ c . d", b"Mary (a (nested) comment) <m@x>",
            b"=?utf-8?q?=c3=a9?= <e@f>", "Jörg <jörg@müller.example>".encode(), b"<>", b"a b c",
        ],
        (b"<", b">", b"@", b",", b";", b":", b'"', b"(", b")", b"\\", b".", b"[", b"]", b"a@b, "),
    ),
    Target(
        "header_dates",
        check_dates,
        lambda: [
            b"Mon, 1 Jan 2024 00:00:00 +0100", b"1 Jan 24 1:02 EST", b"Tue Jan  2 03:04:05 2024",
            b"31 Dec 9999 23:59:60 -9959", b"1 Jan 0001 00:00 +2359", b"(c) 29 Feb 1900 24:61:61 Z",
        ],
        (b"Jan", b"Feb", b":", b"+", b"-9999", b"(", b")", b"0000", b"99999", b"GMT"),
    ),
    Target(
        "message_ids",
        check_ids,
        lambda: [b"<a@b> <c@d>", b'<"a b"@c>', b"<a\r\n b@c>", b"< >", b"<a@b><c@d>x<e>"],
        (b"<", b">", b"@", b'"', b"\\", b" ", b"<a@b>"),
    ),
)  # fmt: skip
