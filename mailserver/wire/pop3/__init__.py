"""POP3 on the wire: command lines, replies, dot-stuffed messages (RFC 1939, RFC 2449)."""
