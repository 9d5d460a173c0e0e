"""Deliveries by LMTP into the real store, in one process: what each recipient gets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.model.ids import Principal
from mailserver.service.accounts import create_accounts
from mailserver.service.config import load
from mailserver.service.installation import Installation
from mailserver.service.wiring import Server
from mailserver.store.directory.edit import NewAccount

QUOTA = 20_000
OPTIONS = {
    "service.imap.enable": "no",
    "service.pop.enable": "no",
    "service.lmtp.port": "0",
    "local.hostname": "mail.example.org",
    "store.maxmessagesize": "100KiB",
}


def coroutine(function: Any) -> Any:
    """A test that is a coroutine."""
    return lambda self: Deferred.fromCoroutine(function(self))


class Client:
    """LMTP by hand, because `smtplib` reads one reply where there are several."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.file = self.socket.makefile("rb")
        assert self.reply().startswith("220 ")
        assert self.say(b"LHLO client.example.org").startswith("250 ")

    def reply(self) -> str:
        """The last line of the next reply."""
        while (line := self.file.readline().decode())[3:4] == "-":
            pass
        return line.rstrip("\r\n")

    def say(self, line: bytes) -> str:
        self.socket.sendall(line + b"\r\n")
        return self.reply()

    def deliver(self, message: bytes, *recipients: str) -> list[str]:
        """The replies to each RCPT, then those to the data."""
        assert self.say(b"MAIL FROM:<s@example.org>").startswith("250 ")
        answers = [self.say(f"RCPT TO:<{one}>".encode()) for one in recipients]
        accepted = sum(answer.startswith("250 ") for answer in answers)
        if not accepted:
            assert self.say(b"DATA").startswith("503 ")
            assert self.say(b"RSET").startswith("250 ")
            return answers
        assert self.say(b"DATA").startswith("354 ")
        self.socket.sendall(message + b"\r\n.\r\n")
        return answers + [self.reply() for _ in range(accepted)]

    def close(self) -> None:
        self.say(b"QUIT")
        self.file.close()
        self.socket.close()


class Delivery(TestCase):
    async def site(self, *accounts: NewAccount) -> Installation:
        self.data = Path(self.mktemp())
        settings = load(None, {**OPTIONS, "local.datadirectory": str(self.data)})
        server = Server(settings, reactor)
        server.bind()
        server.open()
        self.addCleanup(server.stopService)
        assert server.installation is not None
        self.port = server.ports()["lmtp"]
        self.installation = server.installation
        await create_accounts(
            self.installation.directory, self.installation.store, accounts, add_domains=True
        )
        return self.installation

    async def with_client(self, work: Callable[[Client], Any]) -> Any:
        def run() -> Any:
            client = Client(self.port)
            try:
                return work(client)
            finally:
                client.close()

        return await deferToThread(run)

    async def messages(self, name: str, mailbox: str = "INBOX") -> list[bytes]:
        """The octets of every message of a mailbox."""
        account = await self.installation.directory.account(name)
        assert account is not None
        who = Principal(account.id, account.name, account.name)
        store = self.installation.store
        image = await store.open(who, (await store.find(who, mailbox)).ref)
        try:
            found = []
            for uid in list(image.uids):
                content = await store.content(who, image, uid)
                assert content is not None
                found.append(content.read(0, content.size))
                content.close()
            return found
        finally:
            store.close(image)

    @coroutine
    async def test_subaddress(self) -> None:
        """`user+folder` goes to the folder if there is one, else to INBOX."""
        await self.site(NewAccount("pat@example.org"))

        def work(client: Client) -> None:
            for to in ("pat+Archive@example.org", "pat+nowhere@example.org", "PAT@example.org"):
                self.assertRegex(client.deliver(b"Subject: x\r\n", to)[-1], "^250 2.1.5 ")

        await self.with_client(work)
        [archived] = await self.messages("pat@example.org", "Archive")
        self.assertIn(b"\r\nDelivered-To: pat+Archive@example.org\r\n", archived)
        self.assertEqual(len(await self.messages("pat@example.org")), 2)

    @coroutine
    async def test_many_recipients(self) -> None:
        """T46, T48: independent results in order; the octets are equal but for the lines
        of each recipient, also of a message that lies in files of its own."""
        names = [f"user{number}@example.org" for number in range(50)]
        await self.site(*map(NewAccount, names))
        asked = [*names[:25], "nobody@example.org", *names[25:]]
        for body in (b"small", (b"x" * 998 + b"\r\n") * 90):
            replies = await self.with_client(
                lambda client, body=body: client.deliver(b"Subject: x\r\n\r\n" + body, *asked)
            )
            self.assertEqual(replies[25][:9], "550 5.1.1")
            self.assertEqual({reply[:9] for reply in replies[51:]}, {"250 2.1.5"})
            self.assertEqual(len(replies), 51 + 50)
            bodies = set()
            for name in names:
                octets = (await self.messages(name))[-1]
                lines = octets.split(b"\r\n", 2)
                self.assertEqual(lines[0], b"Return-Path: <s@example.org>")
                self.assertEqual(lines[1], b"Delivered-To: " + name.encode())
                bodies.add(lines[2])
            self.assertEqual(len(bodies), 1)
            self.assertTrue(bodies.pop().endswith(body + b"\r\n"))
        self.assertEqual(list((self.data / "spool").iterdir()), [])

    @coroutine
    async def test_over_quota(self) -> None:
        """T47: the same reply at RCPT, once it is known, and after DATA; others get theirs."""
        await self.site(
            NewAccount("full@example.org", storage_limit=QUOTA), NewAccount("pat@example.org")
        )
        message = b"Subject: x\r\n\r\n" + b"x" * 900 + (b"\r\n" + b"x" * 900) * 14

        def work(client: Client) -> None:
            both = ("full@example.org", "pat@example.org")
            self.assertEqual(
                [reply[:9] for reply in client.deliver(message, *both)], ["250 2.1.5"] * 4
            )
            self.assertEqual(
                [reply[:9] for reply in client.deliver(message, *both)],
                ["250 2.1.5", "250 2.1.5", "452 4.2.2", "250 2.1.5"],
            )
            client.say(b"MAIL FROM:<> SIZE=15000")
            self.assertEqual(client.say(b"RCPT TO:<full@example.org>")[:9], "452 4.2.2")
            self.assertEqual(client.say(b"RCPT TO:<pat@example.org>")[:9], "250 2.1.5")

        await self.with_client(work)
        self.assertEqual(len(await self.messages("full@example.org")), 1)
        self.assertEqual(len(await self.messages("pat@example.org")), 2)

    @coroutine
    async def test_what_size_promises_is_kept(self) -> None:
        """RFC 1870 §6.3: a message of just the announced size is taken, one that is far
        larger refused after all of it was read, and nothing of it stays."""
        installation = await self.site(NewAccount("pat@example.org"))
        announced = installation.store.max_message_size - 4096

        def work(client: Client) -> None:
            exact = (b"x" * 98 + b"\r\n") * (announced // 100)
            exact += b"x" * (announced - len(exact) - 2)
            self.assertEqual(client.deliver(exact, "pat@example.org")[-1][:9], "250 2.1.5")
            reply = client.deliver(exact * 3, "pat@example.org", "pat@example.org")
            self.assertEqual([line[:9] for line in reply[-2:]], ["552 5.3.4"] * 2)

        await self.with_client(work)
        self.assertEqual(len(await self.messages("pat@example.org")), 1)
        self.assertEqual(list((self.data / "spool").iterdir()), [])

    @coroutine
    async def test_bare_line_ends_are_mended_without_splitting(self) -> None:
        """S10, T31, T47: the smuggled commands are text of the one message."""
        await self.site(NewAccount("pat@example.org"), NewAccount("victim@example.org"))
        attack = b"Subject: x\r\n\r\na\n.\r\nMAIL FROM:<evil@example.org>\r\n"
        attack += b"RCPT TO:<victim@example.org>\r\nDATA\r\nevil\r\r\n.\rx\r\n"

        def work(client: Client) -> None:
            self.assertEqual(client.deliver(attack, "pat@example.org")[-1][:9], "250 2.1.5")
            self.assertEqual(client.say(b"NOOP")[:9], "250 2.0.0")

        await self.with_client(work)
        [message] = await self.messages("pat@example.org")
        self.assertIn(b"\r\na\r\n.\r\nMAIL FROM:<evil@example.org>\r\n", message)
        self.assertEqual(message.count(b"\n"), message.count(b"\r\n"))
        self.assertEqual(await self.messages("victim@example.org"), [])
