"""One module per family of IMAP commands: arguments to frozen commands."""
