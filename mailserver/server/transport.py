"""A TCP transport that sends at once what the kernel takes at once."""

from __future__ import annotations

from twisted.internet import tcp


class PromptServer(tcp.Server):
    """The server's end of a connection, without the detour over the reactor.

    Twisted's own write waits for the reactor to say that the socket takes octets: three
    system calls and a turn of the reactor for an answer that nearly always fits. What does
    not fit goes that way here too. `bench.imap_session` shows the difference.
    """

    def write(self, data: bytes) -> None:
        """Send `data`, after whatever still waits to be sent."""
        if not self.TLS and self.connected and data and not self._waits_to_be_sent:
            sent = self.writeSomeData(data)
            if isinstance(sent, int):  # else the connection is lost, as the reactor will find
                data = data[sent:]
        super().write(data)  # type: ignore[no-untyped-call]

    @property
    def _waits_to_be_sent(self) -> bool:
        return (
            self._tempDataLen > 0 or self.offset < len(self.dataBuffer) or self._writeDisconnected
        )
