"""What a POP3 session may do with its connection; `protocol.py` has the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Channel(Protocol):
    """What a session may do with its connection.

    Attributes:
        address, service, status: as in `ISession`.
        secure: TLS is on.
    """

    address: str
    service: str
    status: str
    secure: bool

    @property
    def label(self) -> str:
        """The session's name in the log."""

    def peer_account(self) -> str:
        """See `server.login.Peer`."""

    def channel_bindings(self) -> Mapping[bytes, bytes]:
        """See `server.login.Peer`."""

    def login_began(self) -> None:
        """See `server.login.Peer`."""

    def check_began(self) -> None:
        """See `server.login.Peer`."""

    def check_ended(self) -> None:
        """See `server.login.Peer`."""

    def send(self, octets: bytes) -> None:
        """Queue octets; they go out joined, at the latest when a wait begins."""

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent (T52)."""

    async def turn(self) -> None:
        """Let the reactor do other work if this connection has kept it for long."""

    async def read_line(self, limit: int) -> bytes | None:
        """Wait for the next line; None for one of more octets, which has been passed."""

    def logged_in(self, account: str) -> bool:
        """Count the session for the account; False if it is one too many.

        Raises:
            Disconnected: the client has left meanwhile.
        """

    def begin_tls(self, reply: bytes) -> None:
        """Send the reply and begin the handshake.

        Raises:
            Disconnected: octets came after STLS; the client has been told, and none of
                them is ever run (S1, T1).
        """

    def close(self) -> None:
        """Close after what is queued was sent."""

    def abort(self) -> None:
        """Close at once."""

    def note(self, text: str, **values: object) -> None:
        """Log a line about this session; values are escaped and cut (S13)."""
