"""What other POP3 servers called messages is found in their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.cli.archives import maildir
from mailserver.cli.archives.unique_ids import (
    DOVECOT_DEFAULT,
    FormatError,
    check_format,
    of_header,
    of_maildir,
)

UIDLIST_3 = """\
3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1
25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394:2,
25017 W2481 :1276533073.M242911P3632.kurkku:2,F
25021 P00004e0f S1 G4e3a :1276533100.M1P1.kurkku
x :no number
25022
25023 Phas\x01control :1276533101.M1P1.kurkku
"""

UIDLIST_1 = "1 1275660208 4\n1 1276528487.host:2,S\n3 1276528489.host\n"

COURIER_3 = """\
/3 12 1275660208
1276528487.M1P1.host,S=20:2,S 40 9:1275660208:0
1276528488.M1P1.host 40 10:1275660208:1
1276528489.M1'P1 host:2, 40 0:0:0
wrong line
"""
COURIER_2 = "/2 12 1275660208\n1276528487.host:2,S 40 9:1275660208\n"
COURIER_1 = "/1 12\n1276528487.host 40 9\n"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "dovecot-uidlist",
            UIDLIST_3,
            {
                "1276528487.M364837P9451.kurkku,S=1355,W=1394": "000061ae4c0907b0",
                "1276533073.M242911P3632.kurkku": "000061b94c0907b0",
                "1276533100.M1P1.kurkku": "00004e0f",
            },
        ),
        (
            "dovecot-uidlist",
            UIDLIST_1,
            {"1276528487.host": "000000014c0907b0", "1276528489.host": "000000034c0907b0"},
        ),
        ("dovecot-uidlist", "", {}),
        ("dovecot-uidlist", "4 V1 N2\n1 :a\n", {}),
        ("dovecot-uidlist", "3 N2\n1 :a\n", {}),
        (
            "courierpop3dsizelist",
            COURIER_3,
            {
                "1276528487.M1P1.host,S=20": "UID9-1275660208",
                "1276528488.M1P1.host": "UID10-1275660208",
                "1276528489.M1'P1 host": "1276528489.M1+27P1+20host",
            },
        ),
        ("courierpop3dsizelist", COURIER_2, {"1276528487.host": "UID9-1275660208"}),
        ("courierpop3dsizelist", COURIER_1, {"1276528487.host": "UID9"}),
        ("courierpop3dsizelist", "", {}),
        ("courierpop3dsizelist", "1276528487.host 40\n", {}),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, found: dict[str, str]) -> None:
    (tmp_path / name).write_text(text)
    assert of_maildir(tmp_path) == found


@pytest.mark.parametrize(
    ("format_", "name"),
    [
        (DOVECOT_DEFAULT, "000000014c0907b0"),
        ("%v.%u", "1275660208.1"),
        ("%08Xv%08Xu", "4c0907b000000001"),
        ("UID%u-%v", "UID1-1275660208"),
        ("%f", "1276528487.host"),
        ("%Uf", "1276528487.HOST"),
        ("%g", "1276528487.host"),
        ("%4f%%", "1276%"),
    ],
)
def test_formats_of_dovecot(tmp_path: Path, format_: str, name: str) -> None:
    (tmp_path / "dovecot-uidlist").write_text(UIDLIST_1)
    assert of_maildir(tmp_path, check_format(format_))["1276528487.host"] == name


@pytest.mark.parametrize("format_", ["", "x", "%m", "%u%", "%{uid}", "%u %w"])
def test_formats_that_cannot_be_used(format_: str) -> None:
    with pytest.raises(FormatError, match="expected a format"):
        check_format(format_)


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"Subject: x\r\nX-UIDL: 1f2e3d4c\r\n\r\nText\r\n", "1f2e3d4c"),
        (b"x-uidl:1f2e\n\n", "1f2e"),
        (b"X-UIDL: two words\n\n", None),
        (b"X-UIDL: " + b"x" * 71 + b"\n\n", None),
        (b"Subject: x\n\nX-UIDL: in the text\n", None),
        (b"", None),
    ],
)
def test_header_field(octets: bytes, name: str | None) -> None:
    assert of_header(octets) == name


def test_only_inbox_has_unique_ids(tmp_path: Path) -> None:
    """POP3 shows no other mailbox."""
    for folder in (tmp_path, tmp_path / ".Work"):
        for part in ("cur", "new", "tmp"):
            (folder / part).mkdir(parents=True)
        (folder / "cur" / "1276528487.host:2,S").write_bytes(b"Subject: x\n\n")
        (folder / "dovecot-uidlist").write_text(UIDLIST_1)
    found = {one.mailbox: one.unique_id for one in maildir.read(tmp_path, "")}
    assert found == {"INBOX": "000000014c0907b0", "Work": None}
    assert [one.unique_id for one in maildir.read(tmp_path, "", None)] == [None, None]
