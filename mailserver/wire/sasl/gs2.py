"""What SCRAM and OAUTHBEARER share: the GS2 header (RFC 5801 §4, RFC 5802 §7)."""

from __future__ import annotations

import re

from mailserver.wire.sasl.exchange import SaslFault

# gs2-header     = gs2-cbind-flag "," [ authzid ] ","
# gs2-cbind-flag = ("p=" cb-name) / "n" / "y"
# authzid        = "a=" saslname
GS2_HEADER = re.compile(
    rb"(?:p=(?P<binding>[A-Za-z0-9.-]+)|(?P<flag>[ny])),(?:a=(?P<authzid>[^,\x00]+))?,"
)
"""Matches a header at the beginning. Groups: `binding`, the type of channel binding that
the client uses; `flag`, whether it could (`y`) or could not (`n`); `authzid`, a saslname."""

# saslname = 1*(value-safe-char / "=2C" / "=3D")
_SASLNAME = re.compile(rb"(?:[^=,\x00]|=2C|=3D)+\Z")


def read_saslname(octets: bytes) -> str:
    """Read a name: `=2C` is a comma, `=3D` an equals sign (RFC 5802 §5.1).

    Raises:
        SaslFault: another `=` in it, or not UTF-8.
    """
    if _SASLNAME.match(octets) is None:
        raise SaslFault("in a name only =2C and =3D may follow after =")
    try:
        return octets.replace(b"=2C", b",").replace(b"=3D", b"=").decode("utf-8")
    except UnicodeDecodeError:
        raise SaslFault("expected text in UTF-8") from None


def write_saslname(name: str) -> bytes:
    """Write a name.

    Raises:
        ValueError: it is empty or holds a NUL.
    """
    if not name or "\0" in name:
        raise ValueError("a name is not empty and has no NUL")
    return name.replace("=", "=3D").replace(",", "=2C").encode("utf-8")
