"""Charset names and decoding (RFC 2045 §5, RFC 2978), safe for names chosen by strangers.

Python's codec registry also holds codecs that are not charsets (`zlib`, `hex`, `idna`,
`unicode_escape`, …), some of them slow or able to grow a few octets into gigabytes. Only
names that lead to a codec in `_CODECS` are looked up; the rest are unknown.
"""

from __future__ import annotations

import re
from encodings.aliases import aliases
from functools import lru_cache

_CODECS = frozenset(
    """
    ascii utf_8 utf_7 utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le
    iso8859_1 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8
    iso8859_9 iso8859_10 iso8859_11 iso8859_13 iso8859_14 iso8859_15 iso8859_16
    cp037 cp273 cp424 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858
    cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869 cp874 cp875 cp932 cp949 cp950
    cp1006 cp1026 cp1125 cp1140
    cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258
    koi8_r koi8_t koi8_u kz1048 ptcp154 tis_620 hp_roman8
    mac_cyrillic mac_greek mac_iceland mac_latin2 mac_roman mac_turkish
    big5 big5hkscs euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hz johab
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext
    iso2022_kr shift_jis shift_jis_2004 shift_jisx0213
    """.split()
)

# What mail says, and what is meant by it. Superset codecs are taken where senders are
# known to use the larger set under the smaller name (WHATWG Encoding §4.2 does the same).
_MEANT = {
    "iso_8859_1": "cp1252",
    "iso8859_1": "cp1252",
    "latin1": "cp1252",
    "latin_1": "cp1252",
    "l1": "cp1252",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_6_e": "iso8859_6",
    "iso_8859_9": "cp1254",
    "iso_8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gb_2312_80": "gb18030",
    "gbk": "gb18030",
    "x_gbk": "gb18030",
    "euc_cn": "gb18030",
    "iso_2022_cn": "gb18030",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "euc_kr": "cp949",
    "x_windows_949": "cp949",
    "shift_jis": "cp932",
    "shiftjis": "cp932",
    "sjis": "cp932",
    "x_sjis": "cp932",
    "ms_kanji": "cp932",
    "windows_31j": "cp932",
    "cp943": "cp932",
    "big5": "big5hkscs",
    "x_euc_jp": "euc_jp",
    "iso_2022_jp_ms": "iso2022_jp_ext",
    "cp50220": "iso2022_jp_ext",
    "cp50221": "iso2022_jp_ext",
    "iso_2022_jp": "iso2022_jp_ext",
    "unicode_1_1_utf_7": "utf_7",
    "x_unicode_2_0_utf_7": "utf_7",
    "unicode_1_1_utf_8": "utf_8",
    "utf8mb4": "utf_8",
    "x_utf_8": "utf_8",
    "cp65001": "utf_8",
    "windows_874": "cp874",
    "dos_874": "cp874",
    "x_cp1252": "cp1252",
    "x_mac_roman": "mac_roman",
    "macintosh": "mac_roman",
    "x_mac_cyrillic": "mac_cyrillic",
    "koi8_ru": "koi8_u",
    "koi8": "koi8_r",
    "visual": "iso8859_8",
}

# Codecs in which octets below 128 may be other than ASCII.
_NOT_ASCII = frozenset(
    """
    utf_7 utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le hz cp037 cp273 cp424 cp500
    cp875 cp1026 cp1140 iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3
    iso2022_jp_ext iso2022_kr
    """.split()
)

_LONGEST_NAME = 64
_NUMBERED = re.compile(r"(?:x_)?(?:windows|win|ibm|cp|dos)_?(\d{3,4})\Z")
_ISO_8859 = re.compile(r"iso_?8859_?(\d{1,2})(?:_\d{4})?\Z")


@lru_cache(maxsize=512)
def _codec(charset: str) -> str | None:
    """The Python codec for a name found in mail, or None."""
    name = re.sub(r"[\s_:-]+", "_", charset.strip(" \t\"'").lower()).strip("_")
    if meant := _MEANT.get(name):
        return meant
    if numbered := _NUMBERED.match(name):
        name = "cp" + numbered[1].lstrip("0")
        name = "cp037" if name == "cp37" else name
    elif (iso := _ISO_8859.match(name)) is not None:
        short = "iso_8859_" + iso[1]
        if short in _MEANT:
            return _MEANT[short]
        name = "iso8859_" + iso[1]
    name = aliases.get(name.replace(".", "_"), name)
    name = {"latin_1": "iso8859_1", "roman8": "hp_roman8"}.get(name, name)
    name = _MEANT.get(name, name)
    return name if name in _CODECS else None


def is_known_charset(name: str) -> bool:
    """Whether text in this charset can be decoded (T33: else `BADCHARSET`)."""
    return len(name) <= _LONGEST_NAME and _codec(name) is not None


def decode(octets: bytes, charset: str) -> str:
    """`octets` as text; what cannot be decoded becomes U+FFFD. Never raises.

    Args:
        octets: in `charset`; linear in their number.
        charset: as written in the mail. If it is unknown, or claims ASCII although octets
            above 127 occur, UTF-8 is tried, then windows-1252 (RFC 7103 §7.6).
    """
    codec = _codec(charset) if len(charset) <= _LONGEST_NAME else None
    if codec not in _NOT_ASCII and octets.isascii():
        return octets.decode("ascii")
    if codec is None or codec == "ascii":
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            codec = "cp1252"
    text = octets.decode(codec, "replace")
    if codec == "utf_7":  # the one codec that lets half a surrogate pair through
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
