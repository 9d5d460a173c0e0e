"""Services stopped and started again in the running process (SUN-7).

What is stopped keeps its address, so that it can be started without the privileges that
ports below 1024 need, and that nobody else takes it. It lasts until the process ends: the
next start serves what is enabled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IProtocolFactory

from mailserver.errors import ErrorKind, MailError
from mailserver.interfaces import ISessionMonitor
from mailserver.service.control import Command, Row
from mailserver.service.listeners import Listener, StartFault

SERVICES: Final = {"imap": ("imap", "imaps"), "pop": ("pop3", "pop3s"), "lmtp": ("lmtp", "lmtps")}
"""What an administrator calls a service -> its listeners' names."""

GOODBYE: Final = "this service is being stopped"


@attrs.define
class Entrance:
    """A listener, and what it hands connections to."""

    listener: Listener
    factory: IProtocolFactory
    is_open: bool = True


def switch_commands(
    entrances: Sequence[Entrance],
    monitor: ISessionMonitor,
    reactor: Any,
    log: Callable[[str, str], None],
    workers: Callable[..., None] = lambda *arguments: None,
) -> dict[str, Command]:
    """The commands `start` and `stop` of the control socket; each takes `service`.

    Args:
        log: is told the name of a service and what became of it.
        workers: has every worker do the same: `close` a service with a goodbye, `open` it.
    """

    def stop(request: Row) -> list[Row]:
        name, chosen = _chosen(entrances, request)
        for entrance in chosen:
            if entrance.is_open:
                entrance.is_open = False
                entrance.listener.pause()
        for session in list(monitor.sessions()):
            if session.service in SERVICES[name]:
                session.disconnect(GOODBYE)
        workers("close", name, GOODBYE)
        log(name, "stopped")
        return [_row(entrance) for entrance in chosen]

    def start(request: Row) -> list[Row]:
        name, chosen = _chosen(entrances, request)
        workers("open", name)
        for entrance in chosen:
            if not entrance.is_open:
                try:
                    entrance.listener.start(reactor, entrance.factory)
                except StartFault as fault:
                    raise MailError(ErrorKind.UNAVAILABLE, str(fault)) from fault
                entrance.is_open = True
        log(name, "started")
        return [_row(entrance) for entrance in chosen]

    return {"start": start, "stop": stop}


def _chosen(entrances: Sequence[Entrance], request: Row) -> tuple[str, list[Entrance]]:
    """The entrances of the service that a request names.

    Raises:
        MailError: INVALID.
    """
    name = request.get("service")
    if not isinstance(name, str) or name not in SERVICES:
        raise MailError(ErrorKind.INVALID, f"there are the services {', '.join(SERVICES)}")
    chosen = [each for each in entrances if each.listener.service in SERVICES[name]]
    if not chosen:
        raise MailError(
            ErrorKind.INVALID,
            f"{name} is not enabled; service.{name}.enable acts when the server starts",
        )
    return name, chosen


def _row(entrance: Entrance) -> Row:
    listener = entrance.listener
    return {
        "service": listener.service,
        "address": listener.address_text,
        "running": entrance.is_open,
    }
