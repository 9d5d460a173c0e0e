"""IMAP on the wire: framing, commands, responses (RFC 3501, RFC 9051)."""
