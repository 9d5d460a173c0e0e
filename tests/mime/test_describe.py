"""ENVELOPE, BODY and BODYSTRUCTURE as IMAP wants them, whatever came in (T30)."""

from __future__ import annotations

import email
import email.message
import email.policy
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.errors import ErrorKind, MailError
from mailserver.mime.describe import describe, prefixed
from mailserver.mime.sections import SectionIndex, SectionKind, select_fields
from mailserver.mime.text import search_text
from tests.mailgen import SORTS, message, thread
from tests.mime.values import crlf, read, walk

# RFC 3501 §7.4.2 and §8 show this message's envelope
TERRY = crlf("""\
Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev1 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

Here.
""")


def envelope_of(header: str | bytes) -> list[Any]:
    head = header.encode() if isinstance(header, str) else header
    return read(describe(crlf(head + b"\n\nbody\n")).envelope)


def structure_of(octets: str | bytes) -> Any:
    description = describe(crlf(octets))
    structure = read(description.body_structure)
    assert without_extension(structure) == read(description.body)
    return structure


def without_extension(body: Any) -> Any:
    """BODY from BODYSTRUCTURE."""
    if isinstance(body[0], list):
        count = next(n for n, each in enumerate(body) if not isinstance(each, list))
        return [*map(without_extension, body[:count]), body[count]]
    if body[0].lower() == b"text":
        return body[:8]
    if (body[0].lower(), body[1].lower()) == (b"message", b"rfc822"):
        return [*body[:8], without_extension(body[8]), body[9]]
    return body[:7]


def test_the_envelope_of_the_rfc() -> None:
    assert describe(TERRY).envelope == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)"'
        b' "IMAP4rev1 WG mtg summary and minutes"'
        b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
        b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
        b' (("Terry Gray" NIL "gray" "cac.washington.edu"))'
        b' ((NIL NIL "imap" "cac.washington.edu"))'
        b' ((NIL NIL "minutes" "CNRI.Reston.VA.US")'
        b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL'
        b' "<B27397-0100000@cac.washington.edu>")'
    )


def test_the_body_of_the_rfc() -> None:
    assert describe(TERRY).body == (b'("TEXT" "PLAIN" ("charset" "US-ASCII") NIL NIL "7bit" 7 1)')


ANNA = [[None, None, b"anna", b"x"]]
BEN = [[None, None, b"ben", b"x"]]
ENVELOPES = [
    ("From: anna@x", [None, None, ANNA, ANNA, ANNA, None, None, None, None, None]),
    ("From: anna@x\nSender: ben@x", [None, None, ANNA, BEN, ANNA, None, None, None, None, None]),
    ("From: anna@x\nReply-To: ben@x", [None, None, ANNA, ANNA, BEN, None, None, None, None, None]),
    # present but empty
    (
        "From: anna@x\nSender:\nReply-To: ,\nTo: \nSubject:\nDate: \nMessage-ID:\nIn-Reply-To:",
        [b"", b"", ANNA, ANNA, ANNA, None, None, None, b"", b""],
    ),
    ("Sender: ben@x", [None, None, None, BEN, None, None, None, None, None, None]),
    (
        "Bcc: friends: anna@x, ben@x;",
        [None] * 7
        + [[[None, None, b"friends", None], *ANNA, *BEN, [None, None, None, None]], None, None],
    ),
    # a field that occurs again: lists are one list (RFC 7103 §7.5.1), of others the last counts
    (
        "From: anna@x\nFrom: ben@x\nSubject: a\nSubject: b",
        [None, b"b", ANNA + BEN, ANNA + BEN, ANNA + BEN, None, None, None, None, None],
    ),
    ('Subject: a "quoted" \\ word', [None, b'a "quoted" \\ word'] + [None] * 8),
    ("Subject: folded\n and  blanks", [None, b"folded and blanks"] + [None] * 8),
    ("Subject: a\0b\rc", [None, b"ab c"] + [None] * 8),
    ("Subject: Grüße", [None, b"=?utf-8?b?R3LDvMOfZQ==?="] + [None] * 8),
    ("From: Jörg <jörg@köln>", None),
]


@pytest.mark.parametrize(("header", "envelope"), ENVELOPES)
def test_envelopes(header: str, envelope: list[Any] | None) -> None:
    found = envelope_of(header)
    if envelope is not None:
        assert found == envelope
    else:
        assert found[2] == [[
            b"=?utf-8?b?SsO2cmc=?=", None, b"=?utf-8?b?asO2cmc=?=", b"=?utf-8?b?a8O2bG4=?=",
        ]]  # fmt: skip


PLAIN = [b"text", b"plain", [b"charset", b"us-ascii"], None, None, b"7bit"]
REST = [None, None, None, None]
STRUCTURES: list[tuple[str, Any]] = [
    ("\nhi\n", [*PLAIN, 4, 1, *REST]),
    ("\nhi", [*PLAIN, 2, 0, *REST]),
    ("\n", [*PLAIN, 0, 0, *REST]),
    ("", [*PLAIN, 0, 0, *REST]),
    ("Content-Type: nonsense\n\nhi", [*PLAIN, 2, 0, *REST]),  # RFC 2045 §5.2
    ("Content-Type: text\n\nhi", [*PLAIN, 2, 0, *REST]),
    (
        "Content-Type: text/plain; format=flowed\n\nhi",
        [b"text", b"plain", [b"format", b"flowed", b"charset", b"us-ascii"], None, None, b"7bit",
         2, 0, *REST],
    ),
    (
        "Content-Type: image/png\nContent-Transfer-Encoding: (c) Base64\nContent-ID: <a@b>\n"
        "Content-Description: a\n picture\nContent-MD5: Q2hlY2s=\n"
        "Content-Disposition: INLINE; filename=x.png\nContent-Language: en, de\n"
        "Content-Location: http://example.com/x.png\n\nAAAA\n",
        [b"image", b"png", None, b"<a@b>", b"a picture", b"Base64", 6, b"Q2hlY2s=",
         [b"INLINE", [b"filename", b"x.png"]], [b"en", b"de"], b"http://example.com/x.png"],
    ),
    ("Content-Type: image/png\nContent-Transfer-Encoding:\n\nx",
     [b"image", b"png", None, None, None, b"7bit", 1, *REST]),
    ("Content-Type: image/png\nContent-Disposition: ;x\n\nx",
     [b"image", b"png", None, None, None, b"7bit", 1, *REST]),
    ('Content-Type: image/png; name="n\\"ö"\n\nx',
     [b"image", b"png", [b"name", b"=?utf-8?b?biLDtg==?="], None, None, b"7bit", 1, *REST]),
    (
        "Content-Type: multipart/mixed; boundary=b\nContent-Language: en\n\npreamble\n--b\n\none\n"
        "--b  \nContent-Type: text/html\n\n<p>\n\n--b--\nepilogue\n",
        [[*PLAIN, 3, 0, *REST],
         [b"text", b"html", [b"charset", b"us-ascii"], None, None, b"7bit", 5, 1, *REST],
         b"mixed", [b"boundary", b"b"], None, [b"en"], None],
    ),
    # never closed; nested, the inner boundary beginning like the outer, the inner not closed
    (
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: multipart/alternative; boundary=b.alt\n\n--b.alt\n\none\n"
        "--b\n\ntwo",
        [[[*PLAIN, 3, 0, *REST], b"alternative", [b"boundary", b"b.alt"], None, None, None],
         [*PLAIN, 3, 0, *REST], b"mixed", [b"boundary", b"b"], None, None, None],
    ),
    # no delimiter at all: text
    ("Content-Type: multipart/mixed; boundary=b\n\nhi\n", [*PLAIN, 4, 1, *REST]),
    ("Content-Type: multipart/mixed\n\n--\nhi\n", [*PLAIN, 8, 2, *REST]),
    # empty parts
    (
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b\n\n\n--b--",
        [[*PLAIN, 0, 0, *REST]] * 3 + [b"mixed", [b"boundary", b"b"], None, None, None],
    ),
    # RFC 2046 §5.1.5: in a digest the default is a message
    (
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--",
        [[b"message", b"rfc822", None, None, None, b"7bit", 16,
          [None, b"in", *[None] * 8], [*PLAIN, 1, 0, *REST], 2, *REST],
         b"digest", [b"boundary", b"b"], None, None, None],
    ),
    (
        "Content-Type: message/rfc822\n\nSubject: in\nContent-Type: message/rfc822\n\n"
        "Subject: inner\n\nx\n",
        [b"message", b"rfc822", None, None, None, b"7bit", 66, [None, b"in", *[None] * 8],
         [b"message", b"rfc822", None, None, None, b"7bit", 21, [None, b"inner", *[None] * 8],
          [*PLAIN, 3, 1, *REST], 3, *REST], 6, *REST],
    ),
    # of two the first counts
    ("Content-Type: image/png\nContent-Type: text/html\n\nx",
     [b"image", b"png", None, None, None, b"7bit", 1, *REST]),
    # for IMAP4rev1 only rfc822 is a message
    ("Content-Type: message/global\n\nSubject: in\n\nx",
     [b"message", b"global", None, None, None, b"7bit", 16, *REST]),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "structure"), STRUCTURES)
def test_structures(octets: str, structure: Any) -> None:
    assert structure_of(octets) == structure


@pytest.mark.parametrize("sort", SORTS)
def test_structures_agree_with_the_standard_library(sort: str) -> None:
    """CPython's parser is an oracle for well-formed mail."""
    for seed in range(6):
        mail = message(seed, sort)
        theirs = email.message_from_bytes(mail, policy=email.policy.compat32)
        compare(read(describe(mail).body_structure), theirs)


def compare(structure: Any, part: email.message.Message) -> None:
    if part.get_content_maintype() == "multipart":
        count = next(n for n, each in enumerate(structure) if not isinstance(each, list))
        assert structure[count].decode() == part.get_content_subtype()
        assert len(part.get_payload()) == count
        for ours, theirs in zip(structure, part.get_payload(), strict=False):
            compare(ours, theirs)
        return
    kind = f"{structure[0].decode()}/{structure[1].decode()}"
    assert kind == part.get_content_type()
    assert structure[5].decode() == part.get("Content-Transfer-Encoding", "7bit")
    if kind == "message/delivery-status":
        return  # the library takes it for messages
    if kind == "message/rfc822":
        (inner,) = part.get_payload()
        assert structure[7][1] is not None
        compare(structure[8], inner)
        return
    body = part._payload.encode("ascii", "surrogateescape")
    assert structure[6] == len(body)
    if kind.startswith("text/"):
        assert structure[7] == body.count(b"\n")


def test_what_lists_and_sorting_need() -> None:
    description = describe(
        crlf("""\
From: "Müller, Jörg" <Joerg.Mueller@example.com>
To: friends: a@b;
Cc: =?utf-8?q?=C3=A9?= <cc@x>
Subject: Re: [list] =?utf-8?q?Gr=C3=BC=C3=9Fe?= (fwd)
Date: Mon, 1 Jan 2024 00:30:00 +0100
Message-ID: <1@x>
In-Reply-To: <0@x> <other@x>

Text
""")
    )
    assert description.base_subject == "GRU\u0308ßE"
    assert description.from_mailbox == "JOERG.MUELLER"
    assert description.from_display == "MU\u0308LLER, JO\u0308RG"
    assert (description.to_mailbox, description.to_display) == ("FRIENDS", "FRIENDS")
    assert description.cc_mailbox == "CC"
    assert description.sent_day == 738886
    assert description.sent_seconds == 1704065400
    assert description.message_id == "<1@x>"
    assert description.references == ("<0@x>",)
    assert description.preview == "Text"


def test_references_go_before_in_reply_to() -> None:
    header = "References: <a@x>\n <b@x>\nIn-Reply-To: <c@x>\n\n"
    assert describe(crlf(header)).references == ("<a@x>", "<b@x>")


def test_a_conversation_holds_together() -> None:
    conversation = [describe(mail) for mail in thread(4, 12)]
    ids = [each.message_id for each in conversation]
    assert len(set(ids)) == 12
    assert len({each.base_subject for each in conversation}) == 1
    assert conversation[0].references == ()
    for number, each in enumerate(conversation[1:], 1):
        assert each.references[0] == ids[0]
        assert each.references[-1] in ids[:number]


def test_a_message_without_anything() -> None:
    description = describe(b"")
    assert (description.size, description.header_size) == (0, 0)
    assert description.sent_seconds is None and description.sent_day is None
    assert description.from_mailbox == description.message_id == description.preview == ""
    assert read(description.envelope) == [None] * 10


ATTACHMENTS = [
    ("plain", False), ("alternative", False), ("mixed", True), ("related", False),
    ("forwarded", True), ("calendar", False), ("dsn", False), ("signed", False),
    ("digest", False), ("newsletter", False),
]  # fmt: skip


@pytest.mark.parametrize(("sort", "has"), ATTACHMENTS)
def test_attachments_are_what_people_call_so(sort: str, has: bool) -> None:
    assert describe(message(3, sort)).has_attachment is has


@pytest.mark.parametrize(
    ("octets", "attachment", "media"),
    [
        ("Content-Type: application/pdf\n\n" + "x" * 999, True, False),
        ("Content-Type: audio/mpeg\n\n" + "x" * 999, True, True),
        ("Content-Type: text/plain; name=a.txt\n\nx", True, False),
        ("Content-Type: text/plain\nContent-Disposition: attachment\n\nx", True, False),
        ("Content-Type: image/png\n\nx", True, True),
        ("Content-Type: application/pkcs7-mime; name=smime.p7m\n\nx", False, False),
        (
            "Content-Type: multipart/encrypted; boundary=b\n\n--b\n"
            "Content-Type: application/pgp-encrypted\n\nVersion: 1\n--b\n"
            "Content-Type: application/octet-stream; name=encrypted.asc\n\nx\n--b--",
            False,
            False,
        ),
    ],
)
def test_single_parts(octets: str, attachment: bool, media: bool) -> None:
    description = describe(crlf(octets))
    assert (description.has_attachment, description.has_media) == (attachment, media)


# --- prefixed -----------------------------------------------------------------------

PREFIX = crlf("Return-Path: <a@b>\nDelivered-To: me@x\nReceived: from x\n\tby y\n")


@pytest.mark.parametrize("sort", SORTS)
def test_a_prefix_gives_what_describing_anew_gives(sort: str) -> None:
    mail = message(1, sort)
    assert prefixed(describe(mail), PREFIX) == describe(PREFIX + mail)


@pytest.mark.parametrize(
    "mail",
    [b"", b"\r\n", b"\r\nbody", b" continuation\r\nSubject: x\r\n\r\n", b"\t", b"junk\r\n\r\n",
     b"Subject: never ended", b"Subject: x\r\n"],
)  # fmt: skip
def test_a_prefix_before_odd_mail(mail: bytes) -> None:
    assert prefixed(describe(mail), PREFIX) == describe(PREFIX + mail)


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"Subject: x", b"From: a@b", b"Content-Type: multipart/mixed; boundary=b", b"\r\n",
            b"Content-Type: message/rfc822", b"--b", b"--b--", b" x", b"text", b"\r\n\r\n", b"\n",
            b"\0", b"\xe9", b":", b"Content-Transfer-Encoding: base64", b"\t",
            b"Content-Type: text/plain; charset=utf-7", b"+2D0-", b"Date: 1 Jan 2020",
        ]
    ),
    max_size=25,
).map(b"".join)  # fmt: skip


@given(FRAGMENTS, st.sampled_from([b"Received: x\r\n", b"A:\r\n b\r\nC: d\r\n", PREFIX, b""]))
@settings(max_examples=300)
def test_a_prefix_before_any_mail(mail: bytes, prefix: bytes) -> None:
    assert prefixed(describe(mail), prefix) == describe(prefix + mail)


@pytest.mark.parametrize(
    "prefix",
    [b"Subject: x\r\n", b"Content-Type: text/html\r\n", b"no field\r\n", b"A: b", b"A: b\n",
     b"A: b\r\n\r\n", b"A: b\r\n\r\nB: c\r\n", b" a\r\n", b"A: b\nC: d\r\n"],
)  # fmt: skip
def test_what_cannot_precede_a_message_is_refused(prefix: bytes) -> None:
    with pytest.raises(MailError) as refused:
        prefixed(describe(TERRY), prefix)
    assert refused.value.kind is ErrorKind.INVALID


# --- whatever comes in ----------------------------------------------------------------


def check(mail: bytes) -> None:
    """Everything that holds for every message."""
    description = describe(mail)
    assert description.size == len(mail)
    header = mail[: description.header_size]
    envelope = read(description.envelope)
    assert len(envelope) == 10
    structure = read(description.body_structure)
    assert without_extension(structure) == read(description.body)
    index = SectionIndex.unpack(description.sections)
    assert index.find((), SectionKind.WHOLE) == (0, len(mail))
    assert index.find((), SectionKind.HEADER) == (0, len(header))
    assert index.find((), SectionKind.TEXT) == (len(header), len(mail))
    # everything that the structure tells of can be fetched, and has the size told
    paths = walk(structure)
    assert [path for path, _body in paths] == index.paths()
    for path, body in paths:
        whole = index.find(path, SectionKind.WHOLE)
        mime = index.find(path, SectionKind.MIME)
        assert whole is not None and mime is not None
        assert 0 <= mime[0] <= mime[1] == whole[0] <= whole[1] <= len(mail)
        assert index.encoding(path) is not None
        inner_header = index.find(path, SectionKind.HEADER)
        if isinstance(body[0], list):
            assert inner_header is None
            continue
        assert body[6] == whole[1] - whole[0]
        if body[0].lower() == b"text":
            assert body[7] == mail.count(b"\n", *whole)
        if inner_header is not None:
            text = index.find(path, SectionKind.TEXT)
            assert text is not None
            assert (inner_header[0], inner_header[1], text[1]) == (whole[0], text[0], whole[1])
            assert body[9] == mail.count(b"\n", *whole)
    # all text can be kept and sent as UTF-8
    texts = [each for each in attrs.astuple(description) if isinstance(each, str)]
    texts += [*description.references, *attrs.astuple(search_text(mail))]
    "".join(texts).encode()  # raises for half a surrogate pair
    for negate in (False, True):
        nothing = select_fields(header, description.header_index, frozenset(), negate)
        assert len(nothing) <= len(header)
    assert nothing == header


@given(FRAGMENTS)
@settings(max_examples=500)
def test_any_octets_have_a_description(mail: bytes) -> None:
    check(mail)


@given(
    st.integers(0, 63),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=6)), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_damaged_mail_has_a_description(seed: int, damages: list[tuple[float, int, bytes]]) -> None:
    mail = message(seed)
    for where, lost, octets in damages:
        at = int(where * len(mail))
        mail = mail[:at] + octets + mail[at + lost :]
    check(mail)


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_of_mail(sort: str) -> None:
    for seed in range(8):
        check(message(seed, sort))
