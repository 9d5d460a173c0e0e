"""Mail in files, as other programs keep it: mbox, Maildir, directories of .eml.

Each module reads with `read(path, into)` and writes with a `Writer`; `FORMATS` names them.
Readers give one `ArchivedMessage` at a time and never hold more than one in memory.
"""
