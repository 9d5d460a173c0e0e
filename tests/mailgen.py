"""Real-looking mail, the same for the same seed: for tests, measurements and imports.

    message(0), message(1), …     16 sorts in turn (`SORTS`); a sort can be asked for
    thread(seed, n)               n messages that answer each other

Every message has CRLF line ends and a main header of 15 to 25 fields, as mail has that
came over a few hosts.
"""

from __future__ import annotations

import base64
import email.utils
import quopri
import random
from collections.abc import Callable

PEOPLE = (
    ("Anna Berg", "anna.berg"), ("Tomás Ruiz", "tomas"), ("Jörg Müller", "joerg.mueller"),
    ("Claire Dubois", "c.dubois"), ("佐藤 花子", "hanako.sato"), ("山田 太郎", "yamada"),
    ("Ivan Petrov", "i.petrov"), ("O'Neil, Pat", "pat"), ("Dr. Li Wei", "liwei"),
    ("Ольга Смирнова", "olga"), ("Sam Carter", "sam.carter"), ("build robot", "noreply"),
)  # fmt: skip
HOSTS = ("example.com", "example.org", "mail.example.net", "corp.example", "uni.example.edu")
TOPICS = (
    "Quarterly figures", "Lunch on Friday?", "Minutes of the board meeting", "Your order 4711",
    "Server maintenance", "Holiday plans", "Draft of chapter 3", "Invoice 2024-118",
    "Re-organisation of the archive", "Build failed: core #812", "Reise nach Köln",
    "Compte rendu de réunion", "Concert tickets",
)  # fmt: skip
WORDS = (
    "the archive meeting report we will send you tomorrow morning please check numbers before "
    "Friday because budget depends on them and nobody has looked since spring thanks for your "
    "quick answer about schedule attached file contains all details in section two see also "
    "mailbox server delivery letter station garden winter letter coffee ticket number train"
).split()
GERMAN = "Grüße aus Köln, wir freuen uns über die schöne Überraschung für morgen früh".split()
JAPANESE = (
    "お世話になっております。",
    "明日の会議は十時から第二会議室で行います。",
    "資料を添付しました。",
    "ご確認をお願いいたします。",
    "よろしくお願いいたします。",
    "来週の予定について相談したいです。",
)
SORTS = (
    "plain", "alternative", "mixed", "related", "forwarded", "calendar", "iso-2022-jp",
    "shift_jis", "utf-8", "list", "reply", "dsn", "newsletter", "latin-1", "signed", "digest",
)  # fmt: skip

Part = tuple[list[str], bytes]
"""Header lines and body."""


def message(seed: int, sort: str | None = None) -> bytes:
    """One message, CRLF, 1 to 12 KB; `sort` one of `SORTS`, by default in turn."""
    return _Writer(seed, sort or SORTS[seed % len(SORTS)]).message()


def thread(seed: int, length: int) -> list[bytes]:
    """Messages of which each answers one of those before it, oldest first."""
    rng = random.Random(seed)
    messages: list[bytes] = []
    ids: list[list[str]] = []  # of each message: its ancestors' ids and its own
    for number in range(length):
        writer = _Writer(seed * 1000 + number, "reply" if number else "plain", thread=seed)
        if number:
            writer.ancestors = rng.choice(ids)
        messages.append(writer.message())
        ids.append([*(writer.ancestors if number else []), writer.message_id])
    return messages


def encoded_word(text: str, charset: str = "utf-8") -> str:
    """`text` as RFC 2047 words where it needs them."""
    if text.isascii():
        return text
    pieces = [text[at : at + 10] for at in range(0, len(text), 10)]
    words = [base64.b64encode(piece.encode(charset)).decode() for piece in pieces]
    return "\r\n ".join(f"=?{charset}?B?{word}?=" for word in words)


class _Writer:
    def __init__(self, seed: int, sort: str, thread: int | None = None) -> None:
        self.rng = random.Random(f"{seed} {sort}")
        self.seed = seed
        self.sort = sort
        self.charset = sort if sort in ("iso-2022-jp", "shift_jis", "latin-1") else "utf-8"
        self.when = 1_600_000_000 + (seed * 7919) % 150_000_000
        self.sender = self.person()
        self.message_id = f"<{seed:x}.{self.rng.randrange(1 << 40):x}@{self.host()}>"
        self.topic = TOPICS[(seed if thread is None else thread) % len(TOPICS)]
        self.ancestors = [
            f"<{self.rng.randrange(1 << 48):x}@{self.host()}>"
            for _each in range(self.rng.randrange(1, 6))
        ]

    # --- what a message is made of

    def host(self) -> str:
        return self.rng.choice(HOSTS)

    def person(self) -> str:
        name, mailbox = self.rng.choice(PEOPLE)
        if "," in name or "." in name:
            name = f'"{name}"'
        charset = self.charset if "佐" in name or "山" in name else "utf-8"
        charset = "utf-8" if charset == "latin-1" else charset
        return f"{encoded_word(name, charset)} <{mailbox}@{self.host()}>"

    def date(self, offset: int = 0) -> str:
        zone = self.rng.choice((0, 3600, 7200, -18000, 32400, 19800))
        text = email.utils.formatdate(self.when + offset + zone)
        sign = "+" if zone >= 0 else "-"
        return text[:-5] + f"{sign}{abs(zone) // 3600:02}{abs(zone) % 3600 // 60:02}"

    def sentence(self) -> str:
        words = self.rng.choices(WORDS, k=self.rng.randrange(6, 16))
        return " ".join(words).capitalize() + "."

    def paragraphs(self, count: int) -> str:
        lines: list[str] = []
        for _each in range(count):
            text = " ".join(self.sentence() for _one in range(self.rng.randrange(2, 7)))
            while len(text) > 72:
                cut = text.rfind(" ", 0, 72)
                lines.append(text[:cut])
                text = text[cut + 1 :]
            lines += [text, ""]
        return "\r\n".join(lines) + "\r\n"

    def markup(self, paragraphs: int) -> str:
        rows = "".join(
            f'<tr><td style="padding:8px;font-family:Arial,sans-serif" class="c{each}">'
            f'<p>{self.sentence()} <b>{self.sentence()}</b> &amp; <a href="https://example.com/'
            f'?id={self.rng.randrange(1 << 30)}">{self.sentence()}</a></p></td></tr>\r\n'
            for each in range(paragraphs)
        )
        return (
            '<!DOCTYPE html>\r\n<html><head><meta charset="utf-8"><title>Mail</title>\r\n'
            "<style>body { font-family: Helvetica; color: #333 } .c1 { margin: 0 }</style>"
            f'</head>\r\n<body><!-- made for you -->\r\n<table width="100%">{rows}</table>\r\n'
            "</body></html>\r\n"
        )

    def boundary(self) -> str:
        return f"----=_Part_{self.rng.randrange(1 << 30)}_{self.rng.randrange(1 << 50)}"

    def text_part(self, text: str, subtype: str = "plain", encoding: str = "") -> Part:
        octets = text.encode(self.charset, "replace")
        encoding = encoding or ("quoted-printable" if not octets.isascii() else "7bit")
        charset = "us-ascii" if octets.isascii() and self.charset == "utf-8" else self.charset
        charset = {"latin-1": "iso-8859-1"}.get(charset, charset)
        header = [
            f"Content-Type: text/{subtype}; charset={charset}",
            f"Content-Transfer-Encoding: {encoding}",
        ]
        if encoding == "quoted-printable":
            lines = quopri.encodestring(octets.replace(b"\r\n", b"\n"))
            octets = lines.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        elif encoding == "base64":
            octets = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        return header, octets

    def file_part(self, name: str, kind: str, size: int, *more: str) -> Part:
        octets = base64.encodebytes(self.rng.randbytes(size)).replace(b"\n", b"\r\n")
        if name.isascii():
            named = f'filename="{name}"'
        else:
            named = "filename*=utf-8''" + "".join(f"%{octet:02X}" for octet in name.encode())
        return [
            f'Content-Type: {kind}; name="{encoded_word(name)}"',
            "Content-Transfer-Encoding: base64",
            f"Content-Disposition: {'inline' if more else 'attachment'};\r\n {named}",
            *more,
        ], octets

    def multipart(self, subtype: str, *parts: Part, extra: str = "") -> Part:
        boundary = self.boundary()
        pieces = [b"This is a multi-part message in MIME format.\r\n"]
        for header, body in parts:
            pieces.append(b"\r\n--" + boundary.encode() + b"\r\n")
            pieces.append("\r\n".join([*header, "", ""]).encode() + body)
        pieces.append(b"\r\n--" + boundary.encode() + b"--\r\n")
        header = [f'Content-Type: multipart/{subtype};\r\n\tboundary="{boundary}"{extra}']
        return header, b"".join(pieces)

    # --- the sorts

    def content(self) -> Part:
        rng = self.rng
        both = (
            self.text_part(self.paragraphs(3)),
            self.text_part(self.markup(8), "html", "quoted-printable"),
        )
        makers: dict[str, Callable[[], Part]] = {
            "plain": lambda: self.text_part(self.paragraphs(rng.randrange(2, 12))),
            "alternative": lambda: self.multipart("alternative", *both),
            "mixed": lambda: self.multipart(
                "mixed",
                self.multipart("alternative", *both),
                self.file_part("report.pdf", "application/pdf", rng.randrange(500, 4000)),
                self.file_part("Übersicht März.xlsx", "application/vnd.ms-excel", 900),
            ),
            "related": lambda: self.multipart(
                "alternative",
                both[0],
                self.multipart(
                    "related",
                    both[1],
                    self.file_part("logo.png", "image/png", 1500, "Content-ID: <logo@example>"),
                ),
            ),
            "forwarded": lambda: self.multipart(
                "mixed",
                both[0],
                (["Content-Type: message/rfc822"], message(self.seed + 1, "mixed")),
            ),
            "calendar": lambda: self.multipart("alternative", *both, self.invitation()),
            "iso-2022-jp": lambda: self.japanese("7bit"),
            "shift_jis": lambda: self.japanese("base64"),
            "utf-8": lambda: self.japanese("8bit"),
            "list": lambda: self.text_part(
                f"{self.paragraphs(3)}\r\n-- \r\nlist mailing list\r\nlist@lists.example.org\r\n"
            ),
            "reply": lambda: self.text_part(
                f"{self.sentence()}\r\n\r\nOn Monday, somebody wrote:\r\n> "
                + self.paragraphs(2).replace("\r\n", "\r\n> ")
                + "\r\n"
            ),
            "dsn": self.report,
            "newsletter": lambda: self.text_part(self.markup(20), "html", "quoted-printable"),
            "latin-1": lambda: self.text_part(
                " ".join(rng.choices(GERMAN, k=60)) + ".\r\n", encoding=rng.choice(("", "8bit"))
            ),
            "signed": lambda: self.multipart(
                "signed",
                self.multipart("mixed", both[0]),
                (["Content-Type: application/pgp-signature; name=signature.asc"], b"-----\r\n"),
                extra=";\r\n\tmicalg=pgp-sha256; protocol=application/pgp-signature",
            ),
            "digest": lambda: self.multipart(
                "mixed",
                both[0],
                self.multipart(
                    "digest", *(([], message(self.seed + each, "plain")) for each in range(3))
                ),
            ),
        }
        return makers[self.sort]()

    def japanese(self, encoding: str) -> Part:
        text = "\r\n".join(self.rng.choices(JAPANESE, k=self.rng.randrange(5, 30))) + "\r\n"
        return self.text_part(text, encoding=encoding)

    def invitation(self) -> Part:
        lines = (
            "BEGIN:VCALENDAR", "VERSION:2.0", "METHOD:REQUEST", "BEGIN:VEVENT",
            f"UID:{self.rng.randrange(1 << 60):x}", "DTSTART:20240301T090000Z",
            f"SUMMARY:{self.topic}", "END:VEVENT", "END:VCALENDAR", "",
        )  # fmt: skip
        header, octets = self.text_part("\r\n".join(lines), "calendar")
        return [header[0] + "; method=REQUEST", *header[1:]], octets

    def report(self) -> Part:
        status = (
            "Reporting-MTA: dns; mail.example.net\r\n\r\nFinal-Recipient: rfc822; gone@example.com"
            "\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        )
        original = b"Subject: original\r\nFrom: a@example.org\r\n\r\n"
        return self.multipart(
            "report",
            self.text_part("The message could not be delivered.\r\n"),
            (["Content-Type: message/delivery-status"], status.encode()),
            (["Content-Type: text/rfc822-headers"], original),
            extra="; report-type=delivery-status",
        )

    def subject(self) -> str:
        if self.sort in ("iso-2022-jp", "shift_jis", "utf-8"):
            return encoded_word(self.rng.choice(JAPANESE).rstrip("。"), self.charset)
        topic = encoded_word(self.topic)
        match self.sort:
            case "reply":
                return f"Re: {topic}"
            case "forwarded":
                return f"Fwd: {topic}"
            case "list":
                return f"[list] {topic}"
        return topic

    def message(self) -> bytes:
        content_header, body = self.content()
        hops = [
            f"Received: from {self.host()} ({self.host()} [192.0.2.{self.rng.randrange(255)}])\r\n"
            f"\tby {self.host()} with ESMTPS id {self.rng.randrange(1 << 40):X}\r\n"
            f"\tfor <me@example.com>; {self.date(-hop)}"
            for hop in range(self.rng.randrange(2, 5))
        ]
        others = ", ".join(self.person() for _each in range(self.rng.randrange(0, 4)))
        signature = base64.b64encode(self.rng.randbytes(192)).decode()
        lines = [
            f"Return-Path: <bounce-{self.seed}@{self.host()}>",
            *hops,
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=mail;\r\n"
            f" h=from:to:subject:date; bh={signature[:44]};\r\n b={signature[44:110]}\r\n"
            f"  {signature[110:180]}\r\n  {signature[180:]}",
            "Authentication-Results: mx.example.com; dkim=pass header.d=example.com;\r\n"
            "\tspf=pass smtp.mailfrom=example.com; dmarc=pass",
            f"Date: {self.date()}",
            f"From: {self.sender}",
            f"To: {self.person()}",
            *([f"Cc: {others}"] if others else []),
            f"Subject: {self.subject()}",
            f"Message-ID: {self.message_id}",
        ]
        if self.sort in ("reply", "list"):
            chain = "\r\n ".join(self.ancestors)
            lines += [f"In-Reply-To: {self.ancestors[-1]}", f"References: {chain}"]
        if self.sort in ("list", "newsletter"):
            lines += [
                "List-Id: Talk about it <list.lists.example.org>",
                "List-Post: <mailto:list@lists.example.org>",
                "List-Unsubscribe: <https://lists.example.org/unsubscribe?u=1>,\r\n"
                " <mailto:list-leave@lists.example.org>",
                "Precedence: list",
            ]
        lines += [
            "X-Mailer: Example Mailer 7.1",
            "X-Spam-Score: -1.2",
            f"X-Spam-Report: {self.sentence()}\r\n\t{self.sentence()}",
            "Accept-Language: en-GB, de-DE",
            "Content-Language: en-GB",
            "MIME-Version: 1.0",
            *content_header,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body
