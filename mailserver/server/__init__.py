"""Protocol servers over Twisted; they know `IMailStore`, never the store."""
