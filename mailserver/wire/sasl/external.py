"""EXTERNAL: the connection shows who the client is (RFC 4422 Appendix A)."""

from __future__ import annotations

from mailserver.wire.sasl.exchange import Challenge, External, Step, text_of


class ServerExternal:
    """One message: whom to act as, empty for oneself (RFC 4422 Appendix A.1)."""

    def start(self, initial: bytes | None) -> Step:
        """Take the message at once, or ask for it with an empty challenge."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        return External(text_of(response))
