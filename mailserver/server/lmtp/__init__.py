"""LMTP server: message data to the store, one reply per recipient."""
