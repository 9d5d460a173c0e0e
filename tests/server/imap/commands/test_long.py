"""Commands that take long say that they still work (T53)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.server.rig import MAIL, rig


@pytest.mark.parametrize(
    ("call", "command"),
    [
        ("search", "SEARCH TEXT x"),
        ("copy", "COPY 1 Archive"),
        ("move", "MOVE 1 Archive"),
        ("store_flags", "STORE 1 +FLAGS (\\Seen)"),
        ("expunge", "EXPUNGE"),
    ],
)
def test_still_working(
    call: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T53: and what comes meanwhile waits for its turn (T16)."""
    with rig(tmp_path) as server:
        server.append(MAIL)
        client = server.client(mailbox="INBOX")
        started: Deferred[None] = Deferred()
        real = getattr(server.store, call)

        async def slow(*arguments: Any) -> Any:
            await started
            return await real(*arguments)

        monkeypatch.setattr(server.store, call, slow)
        client.take()
        client.send(b"a %b\r\nb NOOP\r\n" % command.encode())
        server.loop.advance(29)
        assert client.take() == b""
        for _ in range(2):
            server.loop.advance(31)
            assert client.take() == b"* OK Still working\r\n"
        started.callback(None)
        answers = []
        while not answers or not answers[-1].startswith(b"b OK"):
            answers.append(client.read_response())
        assert any(answer.startswith(b"a OK") for answer in answers)
        server.loop.advance(300)
        assert client.take() == b""
