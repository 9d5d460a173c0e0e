"""IMAP server: connection, session, mailbox view, command handlers."""
