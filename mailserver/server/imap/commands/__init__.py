"""One module per family of IMAP commands: a handler each and its table rows.

A module has `SPECS`, and `PROVIDES` for capabilities that bring no command of their own.
A new one is added to `MODULES`.
"""

from __future__ import annotations

from types import ModuleType

MODULES: tuple[ModuleType, ...] = ()
"""Every module of this package, in the order of the RFC."""
