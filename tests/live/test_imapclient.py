"""IMAPClient, the library that many programs use, through a day's work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import imapclient
import pytest
from imapclient.exceptions import IMAPClientError

from tests.live.server import Server

MESSAGE = b"From: a@example.org\r\nDate: Tue, 5 Mar 2024 10:11:12 +0900\r\nSubject: %d\r\n\r\nx\r\n"


@pytest.fixture
def account(new_account: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    return new_account()


@pytest.fixture
def client(server: Server, account: tuple[str, str]) -> imapclient.IMAPClient:
    opened = imapclient.IMAPClient(
        server.host, server.port("imaps"), ssl_context=server.tls(), timeout=30
    )
    opened.login(*account)
    return opened


def test_folders(client: imapclient.IMAPClient) -> None:
    names = {name: flags for flags, _, name in client.list_folders()}
    assert set(names) == {"INBOX", "Drafts", "Sent", "Archive", "Junk", "Trash"}
    assert b"\\Sent" in names["Sent"]
    assert client.find_special_folder(b"\\Trash") == "Trash"
    client.create_folder("Entwürfe/日本 & mehr")
    client.subscribe_folder("Entwürfe/日本 & mehr")
    assert "Entwürfe/日本 & mehr" in {name for _, _, name in client.list_folders("", "Entw*")}
    assert "Entwürfe/日本 & mehr" in {name for _, _, name in client.list_sub_folders()}
    client.rename_folder("Entwürfe", "Alt")
    assert client.folder_exists("Alt/日本 & mehr")
    client.delete_folder("Alt/日本 & mehr")
    assert not client.folder_exists("Alt/日本 & mehr")
    with pytest.raises(IMAPClientError, match=r"NONEXISTENT"):
        client.select_folder("Alt/日本 & mehr")
    client.logout()


def test_messages(client: imapclient.IMAPClient) -> None:
    when = datetime(2024, 2, 29, 23, 30, tzinfo=UTC)
    for number in range(20):
        client.append("INBOX", MESSAGE % number, [b"\\Seen"] if number % 2 else [], when)
    chosen = client.select_folder("INBOX")
    assert chosen[b"EXISTS"] == 20
    assert len(client.search("UNSEEN")) == 10
    assert client.search(["SUBJECT", "7", "SINCE", date(2024, 2, 28)]) == [8, 18]
    rows = client.fetch([1, 2], ["ENVELOPE", "INTERNALDATE", "BODYSTRUCTURE", "RFC822.SIZE"])
    assert rows[1][b"ENVELOPE"].subject == b"0"
    assert rows[2][b"RFC822.SIZE"] == len(MESSAGE % 1)
    client.add_flags([1, 3], [imapclient.FLAGGED, "$Work"])
    assert client.search("FLAGGED") == [1, 3]
    assert set(client.get_flags([1])[1]) - {imapclient.RECENT} == {b"\\Flagged", b"$Work"}
    client.copy([1], "Archive")
    client.move([3], "Trash")
    assert client.folder_status("Archive", ["MESSAGES"])[b"MESSAGES"] == 1
    assert client.folder_status("INBOX")[b"MESSAGES"] == 19
    client.delete_messages([2])
    client.expunge()
    assert 2 not in client.search()
    assert len(client.search()) == 18
    client.close_folder()
    client.logout()


def test_idle(client: imapclient.IMAPClient, server: Server, account: tuple[str, str]) -> None:
    """DOV-1 … DOV-3 with a client's own IDLE."""
    client.select_folder("INBOX")
    client.idle()
    assert client.idle_check(timeout=0.1) == []
    other = imapclient.IMAPClient(
        server.host, server.port("imaps"), ssl_context=server.tls(), timeout=30
    )
    other.login(*account)
    other.append("INBOX", MESSAGE % 1)
    assert (1, b"EXISTS") in client.idle_check(timeout=5)
    other.select_folder("INBOX")
    other.add_flags([1], [imapclient.SEEN])
    seen = client.idle_check(timeout=5)
    assert any(b"\\Seen" in str(entry).encode() for entry in seen), seen
    other.delete_messages([1])
    other.expunge([1])
    assert (1, b"EXPUNGE") in client.idle_check(timeout=5) + client.idle_check(timeout=1)
    client.idle_done()
    client.logout()
    other.logout()
