"""POP3 over Twisted: maildrop, session, connection (RFC 1939)."""
