"""Mail access server: IMAP with IDLE and LMTP over one store of mailboxes."""

__version__ = "0.1.0"
