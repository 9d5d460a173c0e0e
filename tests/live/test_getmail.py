"""getmail 6 over IMAP and POP3; it has no STARTTLS, so on the TLS ports, or in clear."""

from __future__ import annotations

import email
import email.generator
import io
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.live.mails import MANY, kept, mails
from tests.live.retrieval import check_retrieval, services
from tests.live.server import Server
from tests.requires import require_program

_RETRIEVERS = {
    "imap": "SimpleIMAPRetriever",
    "imaps": "SimpleIMAPSSLRetriever",
    "pop3": "SimplePOP3Retriever",
    "pop3s": "SimplePOP3SSLRetriever",
}


@attrs.define
class Getmail:
    """getmail that brings one account's mail to another by LMTP, the one of its ways to deliver
    in which it does not wait for a child by a signal that it may miss (6.18)."""

    server: Server
    service: str
    account: tuple[str, str]
    target: tuple[str, str]
    home: Path

    def run(self, **options: object) -> None:
        """Ask for mail once."""
        lines = [f"{name} = {value}" for name, value in options.items()]
        if self.service.endswith("s"):
            trust = f"ca_certs = {self.server.ca_file}\nssl_cert_hostname = localhost"
        else:
            trust = ""
        (self.home / "getmailrc").write_text(
            f"""
[retriever]
type = {_RETRIEVERS[self.service]}
server = localhost
port = {self.server.port(self.service)}
username = {self.account[0]}
password = {self.account[1]}
{trust}
[destination]
type = MDA_lmtp
host = {self.server.host}
port = {self.server.port("lmtp")}
override = {self.target[0]}
[options]
verbose = 0
delivered_to = false
received = false
"""
            + "\n".join(lines)
        )
        done = subprocess.run(
            [require_program("getmail"), f"--getmaildir={self.home}"],
            env={**os.environ, "HOME": str(self.home), "LANG": "C.UTF-8"},
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert not done.stderr, done.stderr


_TRACE = re.compile(
    rb"Return-Path: .*\r\nDelivered-To: .*\r\nReceived: .*\r\n(?:\t.*\r\n)*(?=Return-Path)"
)


_SOURCE = b"X-getmail-retrieved-from-mailbox: INBOX\r\n"


def brought(server: Server, target: tuple[str, str]) -> list[bytes]:
    """What getmail has brought, without the header lines that it and the delivery add."""
    found = kept(server, target).values()
    return [_TRACE.sub(b"", octets, count=1).replace(_SOURCE, b"", 1) for octets in found]


def as_handed_over(octets: bytes) -> bytes:
    """getmail takes a message through Python's email package, which folds some fields anew."""
    out = io.BytesIO()
    email.generator.BytesGenerator(out).flatten(email.message_from_bytes(octets), linesep="\r\n")
    return out.getvalue()


@pytest.mark.parametrize("service", services({"imaps", "pop3s"}))
@pytest.mark.parametrize("count", MANY)
def test_mail_is_fetched_once_and_removed_when_asked(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    service: str,
    count: int,
) -> None:
    """T42, T43, T44: it knows mail again by UIDVALIDITY and UID, or by its unique id."""
    account, target = new_account(), new_account()
    client = Getmail(server, service, account, target, tmp_path)
    seen = 0

    def fetch() -> list[bytes]:
        nonlocal seen
        client.run(read_all="false")
        found = brought(server, target)
        new, seen = found[seen:], len(found)
        return new

    def remove(most: int) -> None:
        client.run(delete="true", max_messages_per_session=most)

    check_retrieval(
        server, account, mails(count), fetch=fetch, remove=remove, expected=as_handed_over
    )
