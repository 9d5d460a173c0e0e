"""A second process on the data of a running server, with IMAP of its own.

The product starts one server per data directory; what works beside it (`mailctl`, workers)
opens the same installation and hears of changes through the hub. This is such a process,
made of the server's own parts: `python -m tests.concurrency.second CONFIG`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.python import log

from mailserver.events.hub import HubClient, HubServer
from mailserver.service import wiring
from mailserver.service.config import load
from mailserver.service.installation import HUB_SOCKET, Installation


class Listening(Installation):
    """An installation that hears what other processes change, and tells them its own."""

    def _open_hub(self, reactor: Any, serves: bool) -> HubServer | HubClient:
        return HubClient(self.settings.data / HUB_SOCKET, self.bus, reactor, listens=True)


def main(config: str) -> None:
    """Serve until SIGTERM."""
    os.umask(0o077)
    log.startLogging(sys.stdout, setStdout=False)
    wiring.Installation = Listening  # type: ignore[misc]
    server = wiring.Server(load(Path(config)), reactor)
    server.startService()
    the_reactor: Any = reactor
    the_reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    the_reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
