"""What can be wrong with a command's octets; the session answers each of these with BAD or NO."""

from __future__ import annotations


class SyntaxFault(Exception):
    """The octets are not what the grammar wants.

    Args:
        text: what was expected or wrong, one sentence part without a full stop, safe to
            send: printable US-ASCII, it never repeats what the client wrote unchecked.
        position: 0-based offset in the command's octets.
    """

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text, position)
        self.text = text
        self.position = position

    def __str__(self) -> str:
        """The text with the column, 1-based, for the BAD response."""
        return f"{self.text} at column {self.position + 1}"


class LiteralPending(SyntaxFault):
    """The octets end where a literal was announced whose octets are not there yet."""


class UnknownCharset(Exception):
    """SEARCH names a charset that cannot be decoded: NO [BADCHARSET] (T33).

    Args:
        charset: as written.
    """

    def __init__(self, charset: str) -> None:
        super().__init__(charset)
        self.charset = charset
