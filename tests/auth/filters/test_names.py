"""Clients' names, asked of a real name server over the network (SUN-21)."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.names import dns
from twisted.names.error import DomainError
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import TestCase

from mailserver.auth.filters.access import Access
from mailserver.auth.filters.grammar import parse_filters
from mailserver.auth.filters.names import ClientNames, system_servers
from mailserver.auth.filters.rules import Lookup, Name
from mailserver.model.account import Account
from mailserver.model.ids import AccountId

reactor: Any = installed

RECORDS: dict[tuple[str, int], list[Any]] = {
    ("7.2.0.192.in-addr.arpa", dns.PTR): [dns.Record_PTR("Server1.Example.COM")],
    ("server1.example.com", dns.A): [dns.Record_A("192.0.2.7"), dns.Record_A("192.0.2.8")],
    # says that it is server1, which does not agree
    ("9.2.0.192.in-addr.arpa", dns.PTR): [dns.Record_PTR("server1.example.com")],
    # says that it is somebody who is not there
    ("10.2.0.192.in-addr.arpa", dns.PTR): [dns.Record_PTR("gone.example.com")],
    ("11.2.0.192.in-addr.arpa", dns.PTR): [dns.Record_PTR("a b\nc.example.com")],
    # a name delegated by CNAME (RFC 2317), and a second name that agrees
    ("12.2.0.192.in-addr.arpa", dns.PTR): [
        dns.Record_CNAME("12.0-15.2.0.192.in-addr.arpa"),
        dns.Record_PTR("gone.example.com"),
        dns.Record_PTR("server2.example.com"),
    ],
    ("server2.example.com", dns.A): [dns.Record_A("192.0.2.12")],
    (ip_address("2001:db8::7").reverse_pointer, dns.PTR): [dns.Record_PTR("six.example.com")],
    ("six.example.com", dns.AAAA): [dns.Record_AAAA("2001:db8::7")],
    # nothing there, though the name is
    ("13.2.0.192.in-addr.arpa", dns.PTR): [],
}
BROKEN = "14.2.0.192.in-addr.arpa"


class Zone:
    """Answers from a table, and counts the questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def query(self, query: Any, timeout: Any = None) -> Deferred[Any]:
        name = query.name.name.decode("ascii").lower()
        self.asked.append(name)
        records = RECORDS.get((name, query.type))
        if name == BROKEN:
            return maybeDeferred(_raise, RuntimeError())
        if records is None:
            return maybeDeferred(_raise, DomainError())
        rows = [dns.RRHeader(name, one.TYPE, dns.IN, 60, one) for one in records]
        return succeed((rows, [], []))


def _raise(error: Exception) -> None:
    raise error


class Silence(DatagramProtocol):
    """A name server that takes questions and never answers."""


class Names(TestCase):
    """192.0.2.7 is server1.example.com; the addresses after it are not right."""

    async def setUp(self) -> None:
        self.zone = Zone()
        factory: Any = DNSServerFactory(clients=[self.zone])
        factory.noisy = False
        protocol: Any = dns.DNSDatagramProtocol(factory)
        port = reactor.listenUDP(0, protocol, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.hosts = Path(mkdtemp()) / "hosts"
        self.names = ClientNames(reactor, [("127.0.0.1", port.getHost().port)], self.hosts)

    async def name(self, address: str) -> Name:
        return await self.names.name_of(ip_address(address))

    async def test_a_name_counts_when_both_directions_agree(self) -> None:
        self.assertEqual(await self.name("192.0.2.7"), "server1.example.com")
        self.assertEqual(await self.name("2001:db8::7"), "six.example.com")
        self.assertEqual(await self.name("192.0.2.12"), "server2.example.com")

    async def test_whoever_claims_a_foreign_name_is_a_spoofer(self) -> None:
        for address in ("192.0.2.9", "192.0.2.10", "192.0.2.11"):
            self.assertIs(await self.name(address), Lookup.SPOOFED, address)

    async def test_there_may_be_no_name(self) -> None:
        for address in ("192.0.2.13", "198.51.100.1"):
            self.assertIs(await self.name(address), Lookup.NONE, address)

    async def test_a_failure_of_the_server_is_no_answer(self) -> None:
        self.assertIs(await self.name("192.0.2.14"), Lookup.FAILED)
        self.assertTrue(self.flushLoggedErrors(RuntimeError))  # the server's own

    async def test_questions_are_asked_once(self) -> None:
        both = [Deferred.fromCoroutine(self.name("192.0.2.7")) for _ in range(20)]
        self.assertEqual(set(await gatherResults(both)), {"server1.example.com"})
        self.assertEqual(await self.name("192.0.2.7"), "server1.example.com")
        self.assertEqual(len(self.zone.asked), 2)

    async def test_the_hosts_file_is_believed(self) -> None:
        self.hosts.write_text("# 192.0.2.7 no\n192.0.2.1\tRouter router.example.com # ours\n")
        self.assertEqual(await self.name("192.0.2.1"), "router")
        self.assertEqual(self.zone.asked, [])

    async def test_a_server_that_is_silent_costs_the_deadline_and_lets_nobody_in(self) -> None:
        port = reactor.listenUDP(0, Silence(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        at = [("127.0.0.1", port.getHost().port)]
        await deferLater(reactor, 0)  # trial begins to watch the time
        timers = len(reactor.getDelayedCalls())
        names = ClientNames(reactor, at, self.hosts, deadline=0.05, tries=(0.1,))
        began = reactor.seconds()
        self.assertIs(await names.name_of(ip_address("192.0.2.7")), Lookup.FAILED)
        self.assertLess(reactor.seconds() - began, 2.0)
        for text, allows in ((".example.com", True), (".evil.example", False)):
            rules = parse_filters(f"imap: {text}", "option", allows=allows)
            decision = await Access(names, {"imap": rules}).at_connect("imap", "192.0.2.7")
            self.assertFalse(decision.granted)
            self.assertFalse(decision.open)
            self.assertIn("the lookup failed", decision.reason)
        while len(reactor.getDelayedCalls()) > timers:  # the query has not given up yet
            await deferLater(reactor, 0.01)

    async def test_no_name_server_at_all(self) -> None:
        names = ClientNames(reactor, [], self.hosts)
        self.assertIs(await names.name_of(ip_address("192.0.2.7")), Lookup.FAILED)

    async def test_names_are_asked_for_only_where_they_matter(self) -> None:
        rules = parse_filters("imap: 192.0.2.0/24 $ imap: .example.com", "option", allows=True)
        access = Access(self.names, {"imap": rules})
        self.assertTrue((await access.at_connect("imap", "192.0.2.9")).granted)
        self.assertTrue((await access.at_connect("pop3", "198.51.100.1")).granted)
        self.assertEqual(self.zone.asked, [])
        decision = await access.at_connect("imaps", "192.0.2.7")
        self.assertFalse(decision.granted)  # the filters are about imap alone
        self.assertFalse((await access.at_connect("imap", "198.51.100.1")).granted)
        self.assertEqual(self.zone.asked, ["1.100.51.198.in-addr.arpa"])

    async def test_a_rule_with_a_user_waits_for_the_login(self) -> None:
        rules = parse_filters("imap: ann@example.org@192.0.2.7", "option", allows=True)
        access = Access(self.names, {"imap": rules})
        ann = Account(AccountId("a"), "ann@example.org")
        bob = Account(AccountId("b"), "bob@example.org")
        at_connect = await access.at_connect("imap", "192.0.2.7")
        self.assertTrue(at_connect.open)
        self.assertFalse((await access.at_connect("imap", "192.0.2.8")).open)
        self.assertTrue((await access.at_login("imap", "192.0.2.7", ann)).granted)
        decision = await access.at_login("imap", "192.0.2.7", bob)
        self.assertFalse(decision.granted)
        self.assertEqual(decision.deciding.question, "filters of imap")

    async def test_both_the_service_and_the_account_must_agree(self) -> None:
        rules = parse_filters("ALL: ALL", "option", allows=True)
        access = Access(self.names, {"pop": rules})
        ann = Account(AccountId("a"), "ann@example.org", allowed_services="-pop:.example.com")
        decision = await access.at_login("pop3", "192.0.2.7", ann)
        self.assertFalse(decision.granted)
        self.assertEqual(decision.name, "server1.example.com")
        self.assertEqual([step.granted for step in decision.steps], [True, False])
        self.assertEqual(decision.deciding.rule, "-pop:.example.com")
        self.assertTrue((await access.at_login("pop3s", "192.0.2.7", ann)).granted)


def test_servers_of_the_system(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nnameserver 192.0.2.1\nsearch a.b\nnameserver 2001:db8::1\nnameserver\n")
    assert system_servers(file) == [("192.0.2.1", 53), ("2001:db8::1", 53)]
    assert system_servers(tmp_path / "none") == []
