"""Who may connect to which service (SUN-20), and how clients' names are found (SUN-21)."""

from __future__ import annotations

from typing import Final

from mailserver.service.kinds import FILTERS as FILTERS_KIND
from mailserver.service.kinds import duration
from mailserver.service.options.option import RELOAD, Option, Rows

OPTIONS = Rows()

_ALLOWED = "Clients that may connect, as SERVICES: CLIENTS; asked first; see docs/operations.md"
_NOT_ALLOWED = "Clients that may not connect, as SERVICES: CLIENTS; asked second"


def _pair(service: str) -> tuple[Option[str], Option[str]]:
    return (
        OPTIONS.row(f"service.{service}.domainallowed", FILTERS_KIND, "", _ALLOWED, RELOAD),
        OPTIONS.row(f"service.{service}.domainnotallowed", FILTERS_KIND, "", _NOT_ALLOWED, RELOAD),
    )


FILTERS: Final = {service: _pair(service) for service in ("imap", "pop", "lmtp")}
"""Service, as filters call it, -> the options that allow and deny."""

NAME_TIMEOUT = OPTIONS.row(
    "service.nametimeout",
    duration(0.1, 30),
    5.0,
    "Time to find the name of a client that a filter asks for",
)
