"""The directory of accounts: who there is, where addresses lead, who administers what.

directory = Directory.open(data / "directory.sqlite", reactor)
account = await directory.account("joe@example.org")
await directory.stop()
"""

from mailserver.store.directory.directory import Directory, Route
from mailserver.store.directory.edit import AccountChanges, NewAccount

__all__ = ["AccountChanges", "Directory", "NewAccount", "Route"]
