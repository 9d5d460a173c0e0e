"""Care of the stored mail: verify, repair, backup, restore.

All of it works on files, without a reactor and without an engine, so that it runs when the
server cannot. `verify` and `backup` work beside a running server; `repair` and `restore`
take an account for themselves (`exclusive`).
"""
