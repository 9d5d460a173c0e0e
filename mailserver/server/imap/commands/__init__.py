"""One module per family of IMAP commands: a handler each and its table rows."""
