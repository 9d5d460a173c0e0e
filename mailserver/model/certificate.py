"""What is known of a client by its certificate."""

from __future__ import annotations

import attrs


@attrs.frozen
class ClientCertificate:
    """A certificate whose key the client has proved to hold, and which an authority that
    is trusted for clients has issued (SUN-10).

    Attributes:
        subject: its subject as RFC 4514 writes it, for the log.
        fingerprint: SHA-256 of the whole certificate, 64 lower-case hexadecimal digits.
        account: login name that it stands for, as configured or as it says; empty if it
            stands for none. Whether there is such an account has not been looked up.
    """

    subject: str
    fingerprint: str
    account: str = ""
