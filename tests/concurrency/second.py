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
from mailserver.service.installation import HUB_SOCKET, Installation, Role
from mailserver.service.wiring import Server


def hear_others(self: Installation, reactor: Any, role: Role) -> HubServer | HubClient:
    """Hear what other processes change, and tell them one's own."""
    return HubClient(self.settings.data / HUB_SOCKET, self.bus, reactor, listens=True)


def main(config: str) -> None:
    """Serve until SIGTERM."""
    os.umask(0o077)
    log.startLogging(sys.stdout, setStdout=False)  # type: ignore[no-untyped-call]
    Installation._open_hub = hear_others  # type: ignore[method-assign]
    wiring.CONTROL_SOCKET = "control-second.socket"  # type: ignore[attr-defined]
    the_reactor: Any = reactor
    server = Server(load(Path(config)), the_reactor)
    server.startService()
    the_reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    the_reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
