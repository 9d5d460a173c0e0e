"""The IMAP client."""
