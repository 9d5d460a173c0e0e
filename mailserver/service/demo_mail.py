"""Messages for a first look: every kind of mail that a client has to show.

The same octets at every call: dates, ids and boundaries are given, nothing is drawn by lot.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

import attrs

from mailserver.model.flags import Flags
from mailserver.model.message import InternalDate

DOMAIN: Final = "example.com"
AIKO: Final = Address("Aiko Tanaka", "aiko", DOMAIN)
BEN: Final = Address("Ben Carter", "ben", DOMAIN)

ACCOUNTS: Final = tuple((person.addr_spec, person.display_name) for person in (AIKO, BEN))
"""Canonical name and display name of the demo's accounts."""

_SHOP: Final = Address("Kamome Books", "orders", "kamome.example")
_LIST: Final = Address("Hikers", "hikers", "lists.example.org")
_ANNA: Final = Address("Anna Müller", "anna", "example.net")
_SATO: Final = Address("佐藤 健", "sato", "example.jp")

_ZONES: Final = {AIKO.username: timezone(timedelta(hours=9)), BEN.username: timezone(timedelta(0))}
_FIRST: Final = datetime(2026, 3, 2, 9, 4, tzinfo=_ZONES[AIKO.username])


@attrs.frozen
class DemoMessage:
    """A message and where it lies.

    Attributes:
        key: unique within its account; keeps a second start from adding it again.
        account: canonical name of the account.
        mailbox: name of the mailbox.
        octets: the message, lines end in CRLF.
        flags: its flags.
        date: when it arrived.
    """

    key: str
    account: str
    mailbox: str
    octets: bytes
    flags: Flags
    date: InternalDate


@attrs.frozen
class _Placed:
    owner: Address
    mailbox: str
    flags: str
    message: EmailMessage


def messages() -> Iterator[DemoMessage]:
    """Every message of the demo, in the order of arrival."""
    for number, placed in enumerate(_placed()):
        zone = _ZONES[placed.owner.username]
        date = (_FIRST + number * timedelta(hours=5, minutes=17)).astimezone(zone)
        message = placed.message
        if "Date" not in message:
            message["Date"] = format_datetime(date)
        for depth, part in enumerate(part for part in message.walk() if part.is_multipart()):
            if part.get_content_maintype() == "multipart":
                part.set_boundary(f"=_demo_{number}_{depth}")
        offset = zone.utcoffset(None)
        assert offset is not None
        yield DemoMessage(
            key=f"demo-{number}",
            account=placed.owner.addr_spec,
            mailbox=placed.mailbox,
            octets=message.as_bytes(),
            flags=Flags.of(*placed.flags.split()),
            date=InternalDate(int(date.timestamp()) + 40, int(offset.total_seconds()) // 60),
        )


# -- parts of messages --------------------------------------------------------


def _letter(
    sender: Address | str, to: Address | str, subject: str, text: str, id: str = "", reply: str = ""
) -> EmailMessage:
    """A message with plain text.

    Args:
        id: left part of its Message-ID.
        reply: left parts of the ids of the messages before it in the thread, oldest first.
    """
    message = EmailMessage(policy=SMTP.clone(max_line_length=100))
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    if id:
        message["Message-ID"] = f"<{id}@demo.{DOMAIN}>"
    if reply:
        ids = [f"<{ancestor}@demo.{DOMAIN}>" for ancestor in reply.split()]
        message["In-Reply-To"] = ids[-1]
        message["References"] = " ".join(ids)
    message.set_content(text)
    return message


def _raw(octets: bytes) -> EmailMessage:
    """A message as it came, for what the builder above would never write."""
    message = message_from_bytes(octets.replace(b"\n", b"\r\n"), policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def _png(width: int, height: int) -> bytes:
    """A picture: a sky that grows lighter downwards over a dark sea."""
    rows = bytearray()
    for y in range(height):
        sea = y > height * 2 // 3
        colour = (20, 60, 90) if sea else (90 + 120 * y // height, 150 + 80 * y // height, 230)
        rows += b"\0" + bytes(colour) * width
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _pdf(text: str) -> bytes:
    """A page with one line of text."""
    drawing = f"BT /F1 18 Tf 72 720 Td ({text}) Tj ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        " /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    octets, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(octets))
        octets += f"{number} 0 obj\n{content}\nendobj\n".encode("ascii")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    octets += (
        f"xref\n0 6\n0000000000 65535 f \n{table}trailer\n<< /Size 6 /Root 1 0 R >>\n"
        f"startxref\n{len(octets)}\n%%EOF\n"
    ).encode("ascii")
    return octets


def _noise(size: int) -> bytes:
    """Octets that do not compress, always the same."""
    blocks: list[bytes] = []
    state = 1
    while len(blocks) * 4 < size:
        state = state * 1103515245 + 12345 & 0xFFFFFFFF
        blocks.append(struct.pack(">I", state))
    return b"".join(blocks)[:size]


# -- the mail -----------------------------------------------------------------


def _placed() -> Iterator[_Placed]:
    yield from _welcome()
    yield from _thread()
    yield from _japanese()
    yield from _attachments()
    yield from _html()
    yield from _scripts()
    yield from _machines()
    yield from _mailing_list()
    yield from _other_folders()


def _welcome() -> Iterator[_Placed]:
    text = (
        "Welcome to your mailbox.\n\n"
        "Leave this client open and deliver a message by LMTP: it appears at once, because\n"
        "the server pushes new mail to every connection that waits in IDLE.\n"
    )
    for owner in (AIKO, BEN):
        postmaster = Address("Postmaster", "postmaster", DOMAIN)
        message = _letter(postmaster, owner, "Welcome", text, f"welcome-{owner.username}")
        yield _Placed(owner, "INBOX", "", message)


def _thread() -> Iterator[_Placed]:
    """A conversation that both hold: what one sent is what the other received."""
    talk = (
        (BEN, "Weekend in Kamakura?", "The weather looks good for Saturday. Shall we go?"),
        (AIKO, "Re: Weekend in Kamakura?", "Yes! The early train, before the crowds?"),
        (BEN, "Re: Weekend in Kamakura?", "7:40 from Tokyo station. I bring the sandwiches."),
        (AIKO, "Re: Weekend in Kamakura?", "And I the tea. 楽しみ！"),
        (BEN, "RE: Weekend in Kamakura?", "See you on the platform, car 4."),
        (AIKO, "Re: [trip] Re: Weekend in Kamakura?", "The photos are in the shared folder now."),
    )
    ids = ""
    for number, (sender, subject, text) in enumerate(talk):
        receiver = BEN if sender is AIKO else AIKO
        for owner, mailbox, flags in (
            (sender, "Sent", r"\Seen"),
            (receiver, "INBOX", r"\Seen \Answered" if number < len(talk) - 1 else r"\Flagged"),
        ):
            message = _letter(sender, receiver, subject, f"{text}\n", f"kamakura-{number}", ids)
            yield _Placed(owner, mailbox, flags, message)
        ids = f"{ids} kamakura-{number}".strip()


def _japanese() -> Iterator[_Placed]:
    text = "田中様\n\nお世話になっております。佐藤です。\n来週の打ち合わせの資料をお送りします。\n"
    utf8 = _letter(_SATO, AIKO, "来週の打ち合わせについて", text, "meeting")
    utf8.add_attachment(
        "議題,担当,時間\n予算,佐藤,30\n採用,田中,20\n".encode("shift_jis"),
        maintype="text",
        subtype="csv",
        filename="打ち合わせ資料（三月）.csv",
        params={"charset": "shift_jis"},
    )
    yield _Placed(AIKO, "INBOX", "", utf8)

    # As mail was written in Japan for thirty years: 7 bits, and a subject to match.
    body = "相子さん\n\n桜が咲きました。今年は少し早いですね。\n\n祖母より\n".encode("iso-2022-jp")
    yield _Placed(
        AIKO,
        "INBOX",
        r"\Seen",
        _raw(
            b"From: =?ISO-2022-JP?B?GyRCQURKbBsoQiAbJEIyVhsoQg==?= <hana@example.jp>\n"
            b"To: aiko@example.com\n"
            b"Subject: =?ISO-2022-JP?B?GyRCOnkkTkpYJGobKEI=?=\n"
            b"Message-ID: <sakura@example.jp>\n"
            b"MIME-Version: 1.0\n"
            b"Content-Type: text/plain; charset=ISO-2022-JP\n"
            b"Content-Transfer-Encoding: 7bit\n\n" + body
        ),
    )
    for owner in (AIKO, BEN):
        message = _letter(
            _SATO, owner, "🌸 花見のお誘い 🍡", "上野公園で十二時に。雨天中止。\n", "hanami"
        )
        yield _Placed(owner, "INBOX", "$Important", message)


def _attachments() -> Iterator[_Placed]:
    invoice = _letter(
        _SHOP, AIKO, "Your invoice 2026-0312", "Thank you for your order.\n", "invoice"
    )
    invoice.add_attachment(
        _pdf("Invoice 2026-0312: three books, 48.20 EUR"),
        maintype="application",
        subtype="pdf",
        filename="invoice-2026-0312.pdf",
    )
    yield _Placed(AIKO, "INBOX", r"\Flagged", invoice)

    photos = _letter(BEN, AIKO, "Photos from the beach", "Two of many.\n", "photos")
    for name, size in (("sea-morning.png", (320, 200)), ("sea-noon.png", (200, 320))):
        photos.add_attachment(_png(*size), maintype="image", subtype="png", filename=name)
    yield _Placed(AIKO, "INBOX", "", photos)

    large = _letter(_ANNA, BEN, "Field recording", "The sound file that you asked for.\n", "large")
    large.add_attachment(
        _noise(200_000), maintype="audio", subtype="x-wav", filename="größe & länge.wav"
    )
    yield _Placed(BEN, "INBOX", "$Media", large)

    forwarded = _letter(BEN, AIKO, "Fwd: Field recording", "Do you hear the owl?\n", "forwarded")
    inner = _letter(
        _ANNA, BEN, "About the recording", "Recorded at four in the morning.\n", "inner"
    )
    inner["Date"] = "Fri, 6 Mar 2026 04:12:00 +0100"
    forwarded.add_attachment(inner)
    yield _Placed(AIKO, "INBOX", r"\Seen", forwarded)

    invitation = _letter(_SATO, BEN, "招待: Budget review", "Friday at ten, room 3.\n", "budget")
    invitation.add_alternative(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//example//demo//EN\r\nMETHOD:REQUEST\r\n"
        "BEGIN:VEVENT\r\nUID:budget@example.jp\r\nDTSTAMP:20260305T000000Z\r\n"
        "DTSTART:20260313T010000Z\r\nDTEND:20260313T020000Z\r\nSUMMARY:Budget review\r\n"
        "ORGANIZER:mailto:sato@example.jp\r\nATTENDEE:mailto:ben@example.com\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n",
        subtype="calendar",
        params={"method": "REQUEST"},
    )
    yield _Placed(BEN, "INBOX", "", invitation)


def _html() -> Iterator[_Placed]:
    newsletter = _letter(
        _SHOP, AIKO, "New in March: walks by the sea", "Three new books on walking.\n", "march"
    )
    newsletter.add_alternative(
        "<html><head><style>h1 { color: #145a8d }</style></head><body>"
        "<h1>New in March</h1><p>Three new books on <b>walking</b>: see "
        '<a href="https://kamome.example/march?a=1&amp;b=2">all of them</a>.</p>'
        '<table border="1"><tr><th>Title</th><th>Price</th></tr>'
        "<tr><td>海辺の道</td><td>¥1,800</td></tr><tr><td>Cliffs &amp; Coves</td><td>£12</td></tr>"
        "</table></body></html>\n",
        subtype="html",
    )
    newsletter["List-Unsubscribe"] = "<mailto:leave@kamome.example>"
    yield _Placed(AIKO, "INBOX", r"\Seen", newsletter)

    card = _letter(
        _ANNA, BEN, "A card from the coast", "A card, if your client shows it.\n", "card"
    )
    card.add_alternative(
        '<p>Greetings from the coast!</p><img src="cid:card@demo" alt="The sea" width="320">\n',
        subtype="html",
    )
    alternatives = card.get_payload()
    assert isinstance(alternatives, list)
    picture = alternatives[1]
    assert isinstance(picture, EmailMessage)
    picture.add_related(_png(320, 180), maintype="image", subtype="png", cid="<card@demo>")
    yield _Placed(BEN, "INBOX", "", card)

    # Nothing in it may run, load or leave its frame when it is shown.
    hostile = _letter("prize@lottery.example", AIKO, "YOU WON!!!", "")
    hostile.set_content(
        "<p onclick=\"alert('x')\">Click <a href='javascript:alert(1)'>here</a></p>"
        "<script>alert('x')</script><img src='http://tracker.example/pixel.gif'>"
        "<div style='position:fixed;top:0'>Your session has ended, sign in again</div>\n",
        subtype="html",
    )
    yield _Placed(AIKO, "Junk", "$Junk", hostile)
    yield _Placed(
        BEN,
        "Junk",
        r"\Seen $Junk",
        _letter("deals@cheap.example", BEN, "Re: your account", "Cheap watches, today only.\n"),
    )


def _scripts() -> Iterator[_Placed]:
    french = _letter(
        _ANNA,
        BEN,
        "Déjà vu à l’été",
        "Où êtes-vous ? L’œuvre est prête, le café aussi.\n" + "Très longue ligne. " * 60 + "\n",
        "french",
    )
    yield _Placed(BEN, "INBOX", r"\Seen", french)
    for subject, text, charset in (
        ("Привет из Казани", "Как дела? Пиши, когда будет время.\n", "koi8-r"),
        ("春节快乐", "祝你新年快乐，身体健康。\n", "gb18030"),
        ("שלום מתל אביב", "מה שלומך? נתראה בקיץ.\n", "utf-8"),
        ("تحية من القاهرة", "كيف حالك؟ إلى اللقاء.\n", "utf-8"),
        ("안녕하세요", "서울에서 보냅니다. 곧 만나요.\n", "euc-kr"),
    ):
        message = _letter(Address("Traveller", "traveller", "example.org"), BEN, subject, "")
        message.set_content(text, charset=charset)
        yield _Placed(BEN, "INBOX", "", message)


def _machines() -> Iterator[_Placed]:
    """Mail that programs write, and mail that is broken."""
    yield _Placed(
        AIKO,
        "INBOX",
        "",
        _raw(
            b"From: MAILER-DAEMON@mx.example.net\n"
            b"To: aiko@example.com\n"
            b"Subject: Undelivered Mail Returned to Sender\n"
            b"Auto-Submitted: auto-replied\n"
            b"MIME-Version: 1.0\n"
            b'Content-Type: multipart/report; report-type=delivery-status; boundary="r"\n\n'
            b"--r\nContent-Type: text/plain\n\nYour message to nobody@example.net came back.\n"
            b"--r\nContent-Type: message/delivery-status\n\n"
            b"Reporting-MTA: dns; mx.example.net\n\n"
            b"Final-Recipient: rfc822; nobody@example.net\nAction: failed\nStatus: 5.1.1\n\n"
            b"--r\nContent-Type: message/rfc822\n\n"
            b"From: aiko@example.com\nTo: nobody@example.net\nSubject: Are you there?\n\nHello?\n"
            b"--r--\n"
        ),
    )
    report = "".join(f"backup of /home/{n:02d}  {n * 37 % 900:4d} MB  ok\n" for n in range(40))
    for owner in (AIKO, BEN):
        yield _Placed(owner, "INBOX", r"\Seen", _letter("root@example.com", owner, "", report))
    yield _Placed(
        BEN,
        "INBOX",
        "",
        _raw(
            b"From: Broken <broken@example.org>\n"
            b"To: undisclosed-recipients:;\n"
            b"Subject: =?utf-8?Q?a_word_that_never_ends\n"
            b"Date: Sunday, soon\n"
            b"Content-Type: multipart/mixed; boundary=never\n\n"
            b"The boundary that the header names never comes.\n"
        ),
    )


def _mailing_list() -> Iterator[_Placed]:
    ids = ""
    for number, (name, text) in enumerate(
        (
            ("Mia", "Who has walked the ridge path since the storm?"),
            (
                "Tom",
                "> Who has walked the ridge path since the storm?\n\nIt is closed at the bridge.",
            ),
            ("Lee", "The detour through the woods takes forty minutes more."),
            ("Mia", "Thanks! Then the woods it is."),
        )
    ):
        sender = Address(name, name.lower(), "hikers.example")
        subject = "[hikers] Ridge path" if not number else "Re: [hikers] Ridge path"
        message = _letter(sender, _LIST, subject, f"{text}\n", f"ridge-{number}", ids)
        message["List-Id"] = "Hikers <hikers.lists.example.org>"
        message["List-Post"] = f"<mailto:{_LIST.addr_spec}>"
        yield _Placed(BEN, "Lists/Hikers", r"\Seen" if number < 2 else "", message)
        ids = f"{ids} ridge-{number}".strip()


def _other_folders() -> Iterator[_Placed]:
    yield _Placed(
        AIKO,
        "Drafts",
        r"\Draft \Seen",
        _letter(
            AIKO,
            _SATO,
            "Re: 来週の打ち合わせについて",
            "佐藤様\n\n（書きかけ）\n",
            "draft",
            "meeting",
        ),
    )
    yield _Placed(
        AIKO,
        "旅行/鎌倉",
        r"\Seen",
        _letter(_SHOP, AIKO, "ご予約の確認", "鎌倉駅 10時、二名様。\n", "booking"),
    )
    for year in (2024, 2025):
        message = _letter(_SHOP, AIKO, f"Your receipts of {year}", "Attached is nothing.\n")
        message["Date"] = f"2 Jan {year + 1} 10:00:00 +0900"
        yield _Placed(AIKO, f"Archive/{year}", r"\Seen", message)
    yield _Placed(
        BEN, "Trash", r"\Seen", _letter("noreply@social.example", BEN, "3 new followers", "...\n")
    )
