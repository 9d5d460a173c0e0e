"""A message on its way to a client: dot-stuffed, no faster than it is taken (RFC 1939 §3, T52).

It is sent as it is kept, apart from what `Oddity` names and what weak clients need (T55).
"""

from __future__ import annotations

from typing import Final

import attrs

from mailserver.interfaces import IContent
from mailserver.mime.surrogate import ascii_header
from mailserver.server.pop3.channel import Channel
from mailserver.server.pop3.maildrop import Oddity
from mailserver.server.pop3.settings import OE_NS_EOH, OUTLOOK_NO_NULS
from mailserver.wire.pop3.stuffing import DotStuffer, first_lines

_PIECE: Final = 65536
"""Octets that are read and sent at once."""


@attrs.frozen(eq=False)
class Outgoing:
    """One message, to be sent once.

    Attributes:
        channel: to the client.
        content: its octets; whoever made this closes it.
        header_size: octets of its header with the empty line, as it is kept; used for TOP
            and for headers that are not sent as they are.
        oddity: what cannot be sent as it is kept.
        workarounds: that are switched on.
        utf8: the client takes headers in UTF-8 (RFC 6856 §2.1).
    """

    channel: Channel
    content: IContent
    header_size: int
    oddity: Oddity
    workarounds: tuple[str, ...]
    utf8: bool
    _stuffer: DotStuffer = attrs.field(init=False, factory=DotStuffer)

    async def send(self) -> None:
        """Send all of it, with a line end at its end (T43).

        Raises:
            MailError: CORRUPT.
            Disconnected: the client is gone.
        """
        await self._send_octets(await self._send_surrogate(), self.content.size)
        self._end_line()
        if OE_NS_EOH in self.workarounds and not self.oddity.has_blank_line:
            self.channel.send(b"\r\n")

    async def send_top(self, count: int) -> None:
        """Send the header, an empty line in any case (T44), and that many lines.

        Raises:
            MailError, Disconnected: as `send`.
        """
        await self._send_octets(await self._send_surrogate(), self.header_size)
        if not self.oddity.has_blank_line:
            self._end_line()
            self.channel.send(b"\r\n")
        for at in range(self.header_size, self.content.size, _PIECE):
            if not count:
                break
            piece, count = first_lines(self.content.read(at, at + _PIECE), count)
            await self._send(piece)
        self._end_line()

    async def _send_surrogate(self) -> int:
        """Send a header in UTF-8 to a client that takes only ASCII (T57); returns the octets
        of the message that this stood for."""
        if self.utf8 or self.oddity.growth is None:
            return 0
        await self._send(ascii_header(self.content.read(0, self.header_size)))
        return self.header_size

    async def _send_octets(self, start: int, end: int) -> None:
        for at in range(start, end, _PIECE):
            await self._send(self.content.read(at, min(at + _PIECE, end)))

    async def _send(self, octets: bytes) -> None:
        if OUTLOOK_NO_NULS in self.workarounds:
            octets = octets.replace(b"\0", b"\x80")
        self.channel.send(self._stuffer.stuff(octets))
        await self.channel.drained()
        await self.channel.turn()

    def _end_line(self) -> None:
        if not self._stuffer.is_at_line_start:
            self.channel.send(self._stuffer.stuff(b"\r\n"))
