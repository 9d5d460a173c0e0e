"""The header lines that a delivery adds (RFC 5321 §4.4, RFC 6531 §3.7.3)."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache

import attrs


@attrs.frozen
class Trace:
    """What a `Received` line tells.

    Attributes:
        client: name given with LHLO, empty if none was.
        address: the client's IP address, empty for a Unix socket.
        host: this server's name.
        protocol: `LMTP`, `LMTPS`, `UTF8LMTP` or `UTF8LMTPS` (RFC 6531 §4.3).
        tls: such as `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384`; empty without TLS.
        id: number of this transaction, the same in the log; an atom.
        recipient: the only recipient; empty when there are several, who need not know
            of each other (RFC 5321 §7.2).
        time: when, with a zone.
    """

    client: str
    address: str
    host: str
    protocol: str
    tls: str
    id: str
    recipient: str
    time: datetime


def received(trace: Trace) -> bytes:
    """Write the `Received` line, folded, with CRLF."""
    origin = f"[{trace.address}]" if ":" not in trace.address else f"[IPv6:{trace.address}]"
    if not trace.address:
        origin = "local socket"
    lines = [f"Received: from {trace.client or 'unknown'} ({origin})"]
    if trace.tls:
        lines.append(f"\t(using {trace.tls})")
    lines.append(f"\tby {trace.host} with {trace.protocol} id {trace.id}")
    if trace.recipient:
        lines.append(f"\tfor <{trace.recipient}>")
    lines[-1] += ";"
    lines.append(f"\t{_date(trace.time, trace.time.utcoffset())}")
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


@lru_cache(maxsize=1)  # many come in one second
def _date(time: datetime, offset: timedelta | None) -> str:
    """The date of RFC 5322; `offset` is the time's, since equal times may be of two zones."""
    return format_datetime(time)


def return_path(sender: str) -> bytes:
    """Write the `Return-Path` line; `<>` for the null sender."""
    return f"Return-Path: <{sender}>\r\n".encode()


def delivered_to(recipient: str) -> bytes:
    """Write the `Delivered-To` line; it makes loops visible."""
    return f"Delivered-To: {recipient}\r\n".encode()
