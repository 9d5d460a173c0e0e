"""Proxies in front of the server that say who their clients are (PROXY protocol)."""

from __future__ import annotations

import re

from mailserver.service.kinds import NETWORKS, duration, words
from mailserver.service.options.option import RELOAD, Rows

OPTIONS = Rows()

_LISTENER = re.compile(r"(imaps?|pop3s?|lmtps?)(@[0-9a-f.:]+)?")


def _listener(word: str) -> str:
    if not _LISTENER.fullmatch(word.lower()):
        raise ValueError(f"{word!r} is not a listener such as imaps or imaps@192.0.2.1")
    return word.lower()


HOSTS = OPTIONS.row(
    "service.proxyhosts",
    NETWORKS,
    (),
    "Proxies that are believed who their clients are",
    RELOAD,
)
LISTENERS = OPTIONS.row(
    "service.proxylisteners",
    words("listeners such as imaps or imaps@192.0.2.1", _listener),
    (),
    "Where connections come from service.proxyhosts only and begin with a PROXY header",
)
TIMEOUT = OPTIONS.row(
    "service.proxytimeout", duration(3, 60), 5.0, "Time for the PROXY header to come", RELOAD
)
