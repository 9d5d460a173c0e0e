"""Header lines that a delivery adds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs

from mailserver.wire.lmtp.trace import Trace, delivered_to, received, return_path

TRACE = Trace(
    client="mta.example.org",
    address="192.0.2.1",
    host="mail.example.org",
    protocol="LMTPS",
    tls="TLSv1.3 with cipher TLS_AES_256_GCM_SHA384",
    id="5f3a.7",
    recipient="pat@example.org",
    time=datetime(2026, 3, 1, 12, 0, 5, tzinfo=timezone(timedelta(hours=9))),
)


def test_received_has_every_clause() -> None:
    """RFC 5321 §4.4: from, by, with, id, for, date with an explicit offset."""
    assert received(TRACE) == (
        b"Received: from mta.example.org ([192.0.2.1])\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby mail.example.org with LMTPS id 5f3a.7\r\n"
        b"\tfor <pat@example.org>;\r\n"
        b"\tSun, 01 Mar 2026 12:00:05 +0900\r\n"
    )


def test_received_over_a_unix_socket_for_many() -> None:
    """Several recipients do not learn of each other, RFC 5321 §7.2."""
    trace = attrs.evolve(TRACE, address="", tls="", protocol="LMTP", recipient="", client="")
    assert received(trace) == (
        b"Received: from unknown (local socket)\r\n"
        b"\tby mail.example.org with LMTP id 5f3a.7;\r\n"
        b"\tSun, 01 Mar 2026 12:00:05 +0900\r\n"
    )


def test_received_names_ipv6_as_such() -> None:
    assert b"([IPv6:::1])" in received(attrs.evolve(TRACE, address="::1"))


def test_lines_for_one_recipient() -> None:
    assert return_path("") == b"Return-Path: <>\r\n"
    assert return_path("太郎@example.jp") == "Return-Path: <太郎@example.jp>\r\n".encode()
    assert delivered_to("pat+x@example.org") == b"Delivered-To: pat+x@example.org\r\n"
