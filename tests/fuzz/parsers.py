"""Every parser there is, by name."""

from __future__ import annotations

from tests.fuzz.target import Target
from tests.fuzz.targets import files, imap, lmtp, mime, names, pop3, proxy, sasl, sources

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (imap, lmtp, pop3, proxy, sasl, sources, mime, names, files)
    for target in module.TARGETS
}
"""Name to target."""
