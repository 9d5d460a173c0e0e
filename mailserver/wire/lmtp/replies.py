"""LMTP replies: a code, an enhanced status code and text, as octets (RFC 5321 §4.2, RFC 2034).

A reply never carries a control character or an octet over 126: whoever wrote its text,
it cannot forge a second reply, and RFC 6531 §3.7.4 allows no UTF-8 here.
"""

from __future__ import annotations

import attrs

# RFC 5321 §4.5.3.1.5: 512 octets with code, enhanced code and CRLF.
_MAX_TEXT = 490
_CONTROLS = dict.fromkeys((*range(32), 127), "?")


@attrs.frozen
class Reply:
    """One reply.

    Attributes:
        code: three digits.
        status: enhanced status code such as `5.1.1`; empty where RFC 2034 §4 wants none:
            in the greeting, the answer to LHLO and 3xx replies.
        text: for people, one line.
        more: further lines of a multi-line reply.
    """

    code: int
    status: str
    text: str
    more: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """A positive completion reply (RFC 5321 §4.2.1)."""
        return self.code // 100 == 2

    def octets(self) -> bytes:
        """Write it, with its last CRLF; each line has the status code (RFC 2034 §4)."""
        status = f"{self.status} " if self.status else ""
        *before, last = (self.text, *self.more)
        lines = [f"{self.code}-{status}{_clean(line)}\r\n" for line in before]
        lines.append(f"{self.code} {status}{_clean(last)}\r\n")
        return "".join(lines).encode("ascii")


def _clean(text: str) -> str:
    text = text[:_MAX_TEXT]
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_CONTROLS).encode("ascii", "replace").decode("ascii")
