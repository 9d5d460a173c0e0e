"""The mail that is compared: generated, damaged, odd by hand, and CPython's own e-mail tests."""

# ruff: noqa: E501 - a message is easier to read on one line

from __future__ import annotations

import importlib
import random
from pathlib import Path

from tests import mailgen

GENERATED = 144
DAMAGED = 60

_PLAIN_FROM = b"From: Ann <ann@example.org>\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n"
FROM = _PLAIN_FROM + b"MIME-Version: 1.0\r\n"
"""What an odd message begins with where it is its body that is odd."""

_MIXED = FROM + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
_TEXT = b"Content-Type: text/plain\r\n\r\n"

ODDITIES: dict[str, bytes] = {
    # -- headers
    "only_body": b"\r\nno header at all\r\n",
    "only_header": b"From: a@example.org\r\nSubject: no empty line",
    "header_and_end": b"From: a@example.org\r\nSubject: header\r\n\r\n",
    "one_octet": b"x",
    "no_colon": b"From a@example.org\r\nSubject: first line is no field\r\n\r\nbody\r\n",
    "no_colon_between": b"From: a@example.org\r\nthis is no field\r\nSubject: s\r\n\r\nbody\r\n",
    "blank_before_colon": b"From : a@example.org\r\nSubject  : spaced\r\n\r\nbody\r\n",
    "empty_fields": b"From:\r\nTo: \r\nSubject:\r\nDate:\r\nMessage-ID:\r\n\r\nbody\r\n",
    "folded_subject": FROM + b"Subject: one\r\n two\r\n\tthree\r\n   four\r\n\r\nbody\r\n",
    "folded_blank_line": FROM + b"Subject: one\r\n \r\n two\r\n\r\nbody\r\n",
    "folded_message_id": FROM + b"Message-ID:\r\n <a.very.long@example.org>\r\n\r\nbody\r\n",
    "trailing_blanks": FROM + b"Subject: trailing   \t\r\nMessage-ID: <a@b>  \r\n\r\nbody\r\n",
    "inner_blanks": FROM + b"Subject: two  blanks\tand tab\r\n\r\nbody\r\n",
    "two_subjects": FROM + b"Subject: first\r\nSubject: second\r\n\r\nbody\r\n",
    "two_from": FROM + b"From: Bob <bob@example.org>\r\nSubject: two\r\n\r\nbody\r\n",
    "two_to": FROM + b"To: a@example.org\r\nTo: b@example.org\r\n\r\nbody\r\n",
    "quotes_in_subject": FROM + b'Subject: she said "no" \\ back\r\n\r\nbody\r\n',
    "eight_bit_subject": FROM + b"Subject: Gr\xfc\xdfe\r\n\r\nbody\r\n",
    "utf8_subject": FROM + "Subject: Grüße\r\n\r\nbody\r\n".encode(),
    "utf8_name": "From: Jörg <joerg@example.org>\r\nSubject: s\r\n\r\nbody\r\n".encode(),
    "encoded_words": FROM
    + b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?w6Q=?=\r\n\r\nbody\r\n",
    "long_subject": FROM + b"Subject: " + b"long " * 2000 + b"\r\n\r\nbody\r\n",
    "many_fields": FROM
    + b"".join(b"X-Field-%d: %d\r\n" % (n, n) for n in range(300))
    + b"\r\nb\r\n",
    "resent": FROM
    + b"Resent-From: r@example.org\r\nResent-Date: Tue, 3 Mar 2026 09:00 +0000\r\n\r\nb",
    "mbox_line": b"From ann Mon Mar  2 09:00:00 2026\r\n" + FROM + b"\r\nbody\r\n",
    "bare_lf": FROM.replace(b"\r\n", b"\n") + b"Subject: lf\n\nbody\nline\n",
    "mixed_ends": FROM + b"Subject: mixed\n\r\nbody\nline\r\nline\n",
    # -- addresses
    "group": b"From: a@example.org\r\nTo: Friends: b@example.org, Bo <c@example.org>;\r\n\r\nx\r\n",
    "empty_group": b"From: a@example.org\r\nTo: undisclosed-recipients:;\r\n\r\nx\r\n",
    "two_groups": b"From: a@example.org\r\nTo: A: x@y.org;, B: z@y.org;, c@y.org\r\n\r\nx\r\n",
    "route": b"From: <@relay.example.org,@two.example.org:a@example.org>\r\n\r\nx\r\n",
    "comments": b"From: a@example.org (Ann (the first) Berg)\r\nTo: (x) b@example.org\r\n\r\nx\r\n",
    "quoted_local": b'From: "a b"@example.org\r\nTo: "x\\"y"@example.org\r\n\r\nx\r\n',
    "quoted_name": b'From: "Berg, Ann \\"A\\"" <a@example.org>\r\n\r\nx\r\n',
    "dot_name": b"From: Dr. Ann B. Berg <a@example.org>\r\n\r\nx\r\n",
    "domain_literal": b"From: a@[192.0.2.1]\r\nTo: b@[IPv6:2001:db8::1]\r\n\r\nx\r\n",
    "no_domain": b"From: root\r\nTo: ann, bob\r\n\r\nx\r\n",
    "no_angle_end": b"From: Ann <a@example.org\r\nTo: b@example.org\r\n\r\nx\r\n",
    "empty_angles": b"From: <>\r\nTo: Ann <>\r\n\r\nx\r\n",
    "extra_commas": b"From: a@example.org,,\r\nTo: ,b@example.org, ,c@example.org,\r\n\r\nx\r\n",
    "semicolons": b"From: a@example.org\r\nTo: b@example.org; c@example.org\r\n\r\nx\r\n",
    "blanks_in_address": b"From: a @ example . org\r\n\r\nx\r\n",
    "sender_reply_to": FROM + b"Sender: s@example.org\r\nReply-To: r@example.org\r\n\r\nx\r\n",
    "empty_sender": FROM + b"Sender:\r\nReply-To: \r\n\r\nx\r\n",
    "many_addresses": FROM
    + b"To: "
    + b",\r\n ".join(b"Name %d <n%d@example.org>" % (n, n) for n in range(200))
    + b"\r\n\r\nx\r\n",
    # -- content types
    "no_version": _PLAIN_FROM + b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n",
    "bad_type": FROM + b"Content-Type: text\r\n\r\nx\r\n",
    "empty_type": FROM + b"Content-Type:\r\n\r\nx\r\n",
    "upper_case_type": FROM + b"CONTENT-TYPE: TEXT/HTML; CHARSET=US-ASCII\r\n\r\nx\r\n",
    "type_comment": FROM + b"Content-Type: text/plain (words); charset=utf-8 (too)\r\n\r\nx\r\n",
    "type_folded": FROM
    + b"Content-Type: text/plain;\r\n\tcharset=utf-8;\r\n name=x.txt\r\n\r\nx\r\n",
    "quoted_parameter": FROM + b'Content-Type: text/plain; name="a \\"b\\" c.txt"\r\n\r\nx\r\n',
    "rfc2231": FROM
    + b"Content-Type: text/plain; name*0*=utf-8''Gr%C3%BC; name*1=x.txt\r\n\r\nx\r\n",
    "rfc2231_plain": FROM + b"Content-Type: text/plain; name*0=one; name*1=two.txt\r\n\r\nx\r\n",
    "rfc2231_single": FROM
    + b"Content-Type: text/plain\r\nContent-Disposition: attachment; filename*=utf-8''%e2%82%ac\r\n\r\nx",
    "utf8_parameter": FROM + 'Content-Type: text/plain; name="Grüße.txt"\r\n\r\nx\r\n'.encode(),
    "unknown_type": FROM + b"Content-Type: strange/thing; x=1\r\n\r\nx\r\n",
    "encoding_case": FROM + b"Content-Transfer-Encoding: BASE64\r\n\r\neA==\r\n",
    "unknown_encoding": FROM + b"Content-Transfer-Encoding: x-unknown\r\n\r\nx\r\n",
    "encoding_words": FROM + b"Content-Transfer-Encoding: base64 or so\r\n\r\neA==\r\n",
    "unquoted_parameter": FROM + b"Content-Type: text/plain; name=a/b.txt\r\n\r\nx\r\n",
    "date_joined": b"From: a@example.org\r\nDate: 01 Jan 2001 00:01+0000\r\n\r\nx\r\n",
    "disposition": FROM + b'Content-Disposition: inline; filename="a.txt"; size=3\r\n\r\nx\r\n',
    "languages": FROM
    + b"Content-Language: de, en-GB, fr\r\nContent-Location: http://x/y\r\n\r\nx\r\n",
    "content_md5": FROM
    + b"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\nContent-ID: <c@x>\r\n\r\nx\r\n",
    "description": FROM
    + b"Content-Description: a  picture\r\nContent-Type: image/png\r\n\r\nx\r\n",
    # -- multiparts
    "multipart": _MIXED + b"--b\r\n" + _TEXT + b"one\r\n--b\r\n" + _TEXT + b"two\r\n--b--\r\n",
    "preamble": _MIXED + b"before\r\n--b\r\n\r\none\r\n--b--\r\nafter\r\n",
    "no_end": _MIXED + b"--b\r\n" + _TEXT + b"never closed\r\n",
    "no_parts": _MIXED + b"no boundary here\r\n",
    "only_end": _MIXED + b"--b--\r\nafter\r\n",
    "empty_parts": _MIXED + b"--b\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b--\r\n",
    "no_boundary": FROM + b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    "blank_after_boundary": _MIXED + b"--b  \t\r\n\r\none\r\n--b-- \r\n",
    "boundary_prefix": _MIXED + b"--bb\r\n\r\nno part\r\n--b\r\n\r\none\r\n--bx\r\n--b--\r\n",
    "quoted_boundary": FROM
    + b'Content-Type: multipart/mixed; boundary="a b:c"\r\n\r\n--a b:c\r\n\r\none\r\n--a b:c--\r\n',
    "same_boundary": _MIXED
    + b"--b\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n--b--\r\n",
    "longer_inner": _MIXED
    + b"--b\r\nContent-Type: multipart/alternative; boundary=b2\r\n\r\n--b2\r\n\r\none\r\n--b2--\r\n--b--\r\n",
    "inner_not_closed": _MIXED
    + b"--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
    "digest": FROM
    + b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n",
    "message": _MIXED
    + b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: i@example.org\r\nSubject: inner\r\n\r\ninner\r\n--b--\r\n",
    "message_multipart": _MIXED
    + b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/mixed;"
    b" boundary=c\r\n\r\n--c\r\n\r\none\r\n--c\r\n\r\ntwo\r\n--c--\r\n--b--\r\n",
    "message_alone": FROM + b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner\r\n",
    "message_in_message": FROM
    + b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: deep\r\n\r\nx\r\n",
    "message_encoded": FROM
    + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA0KDQp4\r\n",
    "message_partial": FROM
    + b"Content-Type: message/partial; id=x; number=1\r\n\r\nSubject: part\r\n\r\nx\r\n",
    "message_empty": FROM + b"Content-Type: message/rfc822\r\n\r\n",
    "delivery_status": FROM
    + b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nAction: failed\r\n",
    "deep": FROM
    + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(12)
    )
    + b"\r\ndeep\r\n",
    "many_parts": _MIXED
    + b"".join(b"--b\r\n\r\npart %d\r\n" % n for n in range(60))
    + b"--b--\r\n",
    "header_only_part": _MIXED + b"--b\r\nContent-Type: text/plain\r\n--b--\r\n",
    "part_field_folded": _MIXED + b"--b\r\nContent-Type:\r\n text/html\r\n\r\n<p>\r\n--b--\r\n",
    # -- bodies
    "long_line": FROM + b"\r\n" + b"x" * 20_000 + b"\r\n",
    "no_final_newline": FROM + b"\r\nno newline at the end",
    "dots": FROM + b"\r\n.\r\n..\r\n.x\r\n",
    "empty_lines": FROM + b"\r\n\r\n\r\n\r\n",
    "eight_bit_body": FROM + b"\r\n" + bytes(range(128, 256)) + b"\r\n",
    "control_octets": FROM
    + b"\r\n"
    + bytes(n for n in range(1, 32) if n not in (10, 13))
    + b"\r\n",
    "large": FROM + b"\r\n" + b"line of a large message\r\n" * 8000,
    "bare_cr": FROM + b"\r\none\rtwo\r\nthree\r\r\n",
    "nul": FROM + b"\r\na\0b\r\n",
}
"""Name -> octets of messages that break or stretch a rule."""


def damaged(seed: int) -> bytes:
    """A real-looking message that something went wrong with: cut, doubled, stirred."""
    chance = random.Random(seed)
    lines = mailgen.message(seed + 1000).split(b"\r\n")
    for _each in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[chance.randrange(len(lines))])
            case 2:
                lines = lines[: at + 1]
            case 3:
                lines.insert(at, b"")
            case 4:
                lines[at] = lines[at][: len(lines[at]) // 2]
            case 5:
                lines[at] = lines[at] + chance.choice([b'"', b";", b"(", b"<", b" =", b"--"])
            case _:
                lines.insert(
                    at, chance.choice([b"--", b"X: y", b" folded", b"Content-Type: text/x"])
                )
    return b"\r\n".join(lines) or b"x"


def of_cpython() -> dict[str, bytes]:
    """The messages of CPython's own e-mail tests; empty where they are not installed."""
    try:
        package = importlib.import_module("test.test_email.data")
    except ImportError:
        return {}
    files = sorted(Path(next(iter(package.__path__))).glob("*.txt"))
    return {f"cpython_{path.stem}": path.read_bytes() for path in files}


def corpus() -> dict[str, bytes]:
    """Every message, by a name that stays the same."""
    return {
        **ODDITIES,
        **of_cpython(),
        **{f"damaged_{seed}": damaged(seed) for seed in range(DAMAGED)},
        **{f"generated_{seed}": mailgen.message(seed) for seed in range(GENERATED)},
    }
