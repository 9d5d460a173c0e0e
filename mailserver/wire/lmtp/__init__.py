"""LMTP on the wire: command lines, replies, message data (RFC 2033, RFC 5321)."""
