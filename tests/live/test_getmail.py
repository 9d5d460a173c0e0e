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

from tests.live.mails import MANY, check_same, fill, kept, mails
from tests.live.server import Server
from tests.live.test_imaplib import deliver
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


@pytest.mark.parametrize(
    "service",
    [
        "imaps",
        "pop3s",
        pytest.param("imap", marks=pytest.mark.long),
        pytest.param("pop3", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("count", MANY)
def test_mail_is_fetched_once_and_removed_when_asked(
    server: Server,
    new_account: Callable[[], tuple[str, str]],
    tmp_path: Path,
    service: str,
    count: int,
) -> None:
    """T42, T43, T44: it knows mail again by UIDVALIDITY and UID, or by its unique id."""
    account, target, sent = new_account(), new_account(), mails(count)
    fill(server, account, sent)
    before = kept(server, account)
    client = Getmail(server, service, account, target, tmp_path)
    client.run(read_all="false")
    check_same(brought(server, target), map(as_handed_over, sent))
    client.run(read_all="false")
    assert len(kept(server, target)) == count
    deliver(server, account[0], octets=b"Subject: one more\r\n\r\nHello\r\n")
    client.run(read_all="false")
    assert len(kept(server, target)) == count + 1
    assert brought(server, target)[-1].endswith(b"Subject: one more\r\n\r\nHello\r\n")

    client.run(delete="true", max_messages_per_session=count // 2)
    left = list(before)[count // 2 :]
    after = kept(server, account)
    assert {uid: after[uid] for uid in left} == {uid: before[uid] for uid in left}
    assert len(after) == len(left) + 1
    client.run(delete="true")
    assert kept(server, account) == {}
