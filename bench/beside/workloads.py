"""What is measured: each workload is a row of `WORKLOADS` and gives one figure.

`prepare` makes the mail that they work on: mailboxes of 1,000, 10,000 and 100,000 messages of
2 to 12 KB (1,000 different ones, copied), and one of 2,000 of which some have attachments, 23 KB
in the mean as mail is; the same octets in both servers.
"""

from __future__ import annotations

import base64
import itertools
import random
import selectors
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial

from bench.beside.client import Imap, Lmtp, Pop3
from bench.beside.servers import Peer, memory
from tests.mailgen import message

SIZES = (1_000, 10_000, 100_000)
DIFFERENT = 1_000
ATTACHED = 500
COLD = 500
"""Messages of the mailbox that nobody has looked at before."""

BIG = b"n10000"
NEW = b"bench"
"""Mailbox that is made anew for what is brought to it."""
ENVELOPE = b"(ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE FLAGS)"
FIELDS = b"(BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT TO CC MESSAGE-ID REFERENCES)])"
CLIENTS = {1: 500, 4: 250, 16: 100}
"""Clients that bring mail at the same time -> messages of each."""

Figures = dict[str, float]
"""Name of a row -> its figure, in the row's unit."""

Workload = Callable[[Peer], Figures]


def text_of(number: int, size: int = 8192) -> bytes:
    """A message of one text, of at most so many octets."""
    header = (
        b"From: Pat <pat@example.org>\r\nTo: lee@example.org\r\nSubject: figures, part %d\r\n"
        b"Message-ID: <%d.%d@example.org>\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ) % (number, number, time.time_ns())
    line = b"These are the figures of last week; those of this week come on Friday.\r\n"
    return header + line * ((size - len(header)) // len(line))


def with_attachment(seed: int) -> bytes:
    """A message; every sixth has an attachment of 100 KB in the mean, few of them far more."""
    plain = message(seed)
    if seed % 6:
        return plain
    chance = random.Random(seed)
    attached = base64.encodebytes(chance.randbytes(int(chance.lognormvariate(10.6, 1.2))))
    return (
        b"From: Pat <pat@example.org>\r\nTo: lee@example.org\r\nSubject: scan %d\r\n"
        b"Message-ID: <scan%d@example.org>\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=next\r\n\r\n"
        b"--next\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n"
        b"--next\r\nContent-Type: application/pdf; name=scan.pdf\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n%b\r\n--next--\r\n"
    ) % (seed, seed, attached.replace(b"\n", b"\r\n"))


def prepare(peer: Peer, log: Callable[[str], None]) -> None:
    """Fill account 0."""
    client = Imap(peer)
    for name in (b"copied", b"empty", b"attached", *(b"n%d" % size for size in SIZES)):
        client.run(b"CREATE " + name)
    start = time.perf_counter()
    for seed in range(DIFFERENT):
        client.append(b"n1000", message(seed))
    log(f"{DIFFERENT} messages appended in {time.perf_counter() - start:.1f} s")
    for smaller, larger in itertools.pairwise(SIZES):
        client.run(b"SELECT n%d" % smaller)
        for _each in range(larger // smaller):
            client.run(b"COPY 1:* n%d" % larger)
    for seed in range(ATTACHED):
        client.append(b"attached", with_attachment(seed))
    client.run(b"SELECT attached")
    for _each in range(3):
        client.run(b"COPY 1:%d attached" % ATTACHED)
    for size in SIZES:
        client.run(b"SELECT n%d" % size)
        client.run(b"STORE 1:%d +FLAGS.SILENT (\\Seen)" % (size // 2))
        client.run(b"SEARCH BODY xyzzy")  # whatever a server keeps of texts, it has now
    client.close()
    log(f"mailboxes of {SIZES} made in {time.perf_counter() - start:.1f} s")


def timed(work: Callable[[], object], times: int = 1) -> float:
    """Milliseconds of one of so many calls, the median."""
    taken = []
    for _each in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def per_second(work: Callable[[int], Callable[[int], object]], clients: int, each: int) -> float:
    """Calls in a second by clients at the same time.

    Args:
        work: connects the client of a number and gives its call; each call of all clients gets
            a number of its own.
        each: calls of each client.
    """
    calls = [work(number) for number in range(clients)]

    def run(client: int) -> None:
        for number in range(client, clients * each, clients):
            calls[client](number)

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * each / (time.perf_counter() - start)


# -- the workloads -------------------------------------------------------------------------


def connections(peer: Peer) -> Figures:
    def log_in(client: int) -> Callable[[int], object]:
        Imap(peer, client).close()  # passwords that were right once are remembered
        return lambda _number: Imap(peer, client).close()

    return {
        "login and logout, 1 client": per_second(log_in, 1, 100),
        "login and logout, 10 clients": per_second(log_in, 10, 20),
    }


def selecting(peer: Peer) -> Figures:
    client = Imap(peer)

    def again() -> float:
        client.run(b"SELECT empty")
        return timed(lambda: client.run(b"SELECT " + BIG))

    def anew() -> float:
        fresh = Imap(peer)
        taken = timed(lambda: fresh.run(b"SELECT " + BIG))
        fresh.close()
        return taken

    client.run(b"SELECT " + BIG)
    noop = timed(lambda: client.run(b"NOOP"), 1000)
    status = timed(lambda: client.run(b"STATUS n100000 (MESSAGES UNSEEN UIDNEXT)"), 200)
    figures = {
        "NOOP": noop,
        "SELECT, 10,000 messages": statistics.median(again() for _each in range(20)),
        "SELECT on a new connection": statistics.median(anew() for _each in range(20)),
        "STATUS, 100,000 messages": status,
    }
    client.close()
    return figures


def fetching(peer: Peer) -> Figures:
    client = Imap(peer)
    client.run(b"DELETE cold", may_fail=True)
    client.run(b"CREATE cold")
    for seed in range(COLD):
        client.append(b"cold", message(seed + 5000))
    client.run(b"SELECT cold")
    cold = timed(lambda: client.run(b"FETCH 1:* " + ENVELOPE))
    client.run(b"SELECT " + BIG)

    def fetch(items: bytes, numbers: bytes = b"1:*", times: int = 3) -> float:
        return timed(lambda: client.run(b"FETCH %b %b" % (numbers, items)), times)

    chance = random.Random(4)
    figures = {
        "FETCH flags, 10,000": fetch(b"(UID FLAGS)", times=7),
        "FETCH envelopes, 500, cold": cold,
        "FETCH envelopes, 10,000, warm": fetch(ENVELOPE),
        "FETCH header fields, 10,000, warm": fetch(FIELDS),
        "FETCH of a page of 50": _pages(client, 10_000),
        "FETCH 2,000 bodies": fetch(b"(BODY.PEEK[])", b"1:2000"),
        "FETCH one body": timed(
            lambda: client.run(b"FETCH %d (BODY.PEEK[])" % chance.randint(1, 10_000)), 500
        ),
    }
    client.run(b"SELECT attached")
    figures |= {
        "FETCH 2,000 bodies, some with attachments": fetch(b"(BODY.PEEK[])"),
        "FETCH one body, some with attachments": timed(
            lambda: client.run(b"FETCH %d (BODY.PEEK[])" % chance.randint(1, 2_000)), 500
        ),
    }
    client.close()
    return figures


def _pages(client: Imap, size: int) -> float:
    chance = random.Random(3)

    def page() -> None:
        first = chance.randint(1, size - 50)
        client.run(b"FETCH %d:%d (UID FLAGS ENVELOPE RFC822.SIZE)" % (first, first + 49))

    return timed(page, 100)


def searching(peer: Peer) -> Figures:
    client = Imap(peer)
    client.run(b"SELECT " + BIG)

    def search(programme: bytes) -> float:
        return timed(lambda: client.run(b"UID SEARCH " + programme), 2)

    figures = {
        "SEARCH UNSEEN SENTSINCE": search(b"UNSEEN SENTSINCE 1-Jan-2021"),
        "SEARCH SUBJECT FROM": search(b'SUBJECT "board meeting" FROM "berg"'),
        "SEARCH BODY, no hit": search(b'BODY "xyzzyplugh"'),
        "SEARCH TEXT": search(b'TEXT "schedule"'),
    }
    client.close()
    return figures


def changing(peer: Peer) -> Figures:
    client = Imap(peer)
    client.run(b"SELECT " + BIG)
    signs = [b"+", b"-"] * 2

    def store_all() -> None:
        client.run(b"STORE 1:* %bFLAGS (\\Flagged)" % signs.pop())

    numbers = iter(range(1, 1000))
    figures = {
        "STORE, 10,000": timed(store_all, 4),
        "STORE, one": timed(
            lambda: client.run(b"STORE %d FLAGS (\\Answered)" % next(numbers)), 300
        ),
    }
    for mailbox in (b"copied", b"moved"):
        client.run(b"DELETE " + mailbox, may_fail=True)
        client.run(b"CREATE " + mailbox)
    figures["COPY, 1,000"] = timed(lambda: client.run(b"COPY 1:1000 copied"))
    client.run(b"SELECT copied")
    figures["MOVE, 1,000"] = timed(lambda: client.run(b"MOVE 1:* moved"))
    client.run(b"SELECT moved")
    client.run(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    figures["EXPUNGE, 1,000"] = timed(lambda: client.run(b"EXPUNGE"))
    client.close()
    return figures


def delivering(peer: Peer) -> Figures:
    messages = [text_of(number) for number in range(64)]

    def append(mailbox: bytes, user: int) -> Callable[[int], object]:
        client = Imap(peer, 100 + user)
        if mailbox == NEW:
            client.run(b"DELETE " + NEW, may_fail=True)
            client.run(b"CREATE " + NEW)
        return lambda number: client.append(mailbox, messages[number % 64])

    def deliver(_client: int) -> Callable[[int], object]:
        client = Lmtp(peer)
        return lambda number: client.deliver([200 + number % 50], messages[number % 64])

    figures: Figures = {}
    for mailbox, what in ((NEW, "a new mailbox"), (b"INBOX", "INBOX")):
        for clients, each in CLIENTS.items():
            row = f"APPEND 8 KB to {what}, {_connections(clients)}"
            figures[row] = per_second(partial(append, mailbox), clients, each)
    for clients, each in CLIENTS.items():
        figures[f"LMTP 8 KB, {_connections(clients)}"] = per_second(deliver, clients, each)
    many = Lmtp(peer)
    recipients = list(range(200, 250))
    many.deliver(recipients, messages[0])  # makes what a first delivery makes
    figures["LMTP, one message to 50"] = timed(lambda: many.deliver(recipients, messages[1]), 10)
    many.close()
    return figures


def _connections(number: int) -> str:
    return "1 connection" if number == 1 else f"{number} connections"


MAILDROP = 990
"""Number of the account whose INBOX POP3 reads."""


def taking(peer: Peer) -> Figures:
    """POP3 on an INBOX of 1,000 messages, as a client that leaves them there works."""
    client = Imap(peer, MAILDROP)
    there = client.run(b"SELECT INBOX").count(b"* 1000 EXISTS")
    for seed in range(0 if there else DIFFERENT):
        client.append(b"INBOX", message(seed))
    client.close()
    Pop3(peer, MAILDROP).close()  # what a first look at new mail costs is not a login's

    def look() -> None:
        pop3 = Pop3(peer, MAILDROP)
        pop3.run(b"STAT")
        pop3.lines(b"UIDL", b"LIST")
        pop3.close()

    numbers = range(1, DIFFERENT + 1)
    pop3 = Pop3(peer, MAILDROP)
    figures = {
        "POP3 login, STAT, UIDL, LIST, QUIT; 1,000": timed(look, 30),
        "POP3 RETR of 1,000, one by one": timed(
            lambda: [pop3.lines(b"RETR %d" % number) for number in numbers], 3
        ),
        "POP3 RETR of 1,000, pipelined": timed(
            lambda: pop3.lines(*(b"RETR %d" % number for number in numbers)), 3
        ),
        "POP3 TOP of 1,000, one by one": timed(
            lambda: [pop3.lines(b"TOP %d 0" % number) for number in numbers], 3
        ),
    }
    pop3.close()
    client = Imap(peer, MAILDROP + 1)
    for seed in range(200):
        client.append(b"INBOX", message(seed))
    client.close()
    pop3 = Pop3(peer, MAILDROP + 1)
    for number in range(1, 201):
        pop3.run(b"DELE %d" % number)
    figures["POP3 QUIT that removes 200"] = timed(pop3.close)
    return figures


def idling(peer: Peer) -> Figures:
    """Idlers, each on an INBOX of its own; deliveries to some, one after the other.

    The weight is what each of the last 40 % adds: before that, what each process keeps of
    accounts and not of connections (open databases) fills up. Only the first time counts: a
    process keeps what it once had.
    """
    idlers: list[Imap] = []
    first = peer.idlers * 6 // 10
    before = 0
    for number in range(peer.idlers):
        if number == first:
            time.sleep(1)
            before = memory(peer.pid)
        client = Imap(peer, number)
        client.run(b"SELECT INBOX")
        client.idle()
        idlers.append(client)
    time.sleep(1)
    weight = (memory(peer.pid) - before) / (peer.idlers - first)
    heard: dict[int, float] = {}
    arrived = threading.Event()
    stop = False
    selector = selectors.DefaultSelector()
    for number, client in enumerate(idlers):
        selector.register(client.socket, selectors.EVENT_READ, number)

    def listen() -> None:
        while not stop:
            for key, _mask in selector.select(0.2):
                if b" EXISTS" in key.fileobj.recv(4096):  # type: ignore[union-attr]
                    heard.setdefault(key.data, time.perf_counter())
                    arrived.set()

    listener = threading.Thread(target=listen)
    listener.start()
    delivery = Lmtp(peer)
    chance = random.Random(5)
    delays = []
    for number in chance.sample(range(peer.idlers), min(200, peer.idlers // 2)):
        arrived.clear()
        heard.clear()
        delivery.deliver([number], text_of(number, 2000))
        done = time.perf_counter()
        assert arrived.wait(10), "a push was lost"
        delays.append(max(0.0, heard[number] - done) * 1000)
    stop = True
    listener.join()
    delivery.close()
    for client in idlers:
        client.socket.close()
    selector.close()
    delays.sort()
    figures = {
        "IDLE push after the delivery's 250, p50": statistics.median(delays),
        "IDLE push after the delivery's 250, p99": delays[int(len(delays) * 0.99) - 1],
    }
    if peer.pid not in _weighed:
        _weighed.add(peer.pid)
        figures["memory of an idle connection"] = weight
    return figures


_weighed: set[int] = set()
"""Servers whose idle connections have been weighed."""


def growing(peer: Peer) -> Figures:
    """The same on mailboxes of each size."""
    figures: Figures = {}
    client = Imap(peer)
    for size in SIZES:
        mailbox = b"n%d" % size

        def select(mailbox: bytes = mailbox) -> float:
            client.run(b"SELECT empty")
            return timed(lambda: client.run(b"SELECT " + mailbox))

        figures[f"growth: SELECT, {size:,}"] = statistics.median(select() for _each in range(7))
        figures[f"growth: page of 50, {size:,}"] = _pages(client, size)
        figures[f"growth: NOOP, {size:,}"] = timed(lambda: client.run(b"NOOP"), 1000)
        figures[f"growth: FETCH flags, {size:,}"] = timed(
            lambda: client.run(b"FETCH 1:* (UID FLAGS)"), 3
        )
        figures[f"growth: SEARCH UNSEEN, {size:,}"] = timed(
            lambda: client.run(b"UID SEARCH UNSEEN"), 5
        )
    client.close()
    return figures


WORKLOADS: tuple[Workload, ...] = (
    idling, connections, selecting, fetching, searching, changing, delivering, taking, growing,
)  # fmt: skip

ALONE = (selecting, fetching, searching, changing, taking, growing)
"""Workloads of one client that waits for each answer; see `servers.apart`."""

MANY = (connections, delivering)
"""Workloads of many clients at once: this server runs them with a single process as well."""

PER_SECOND = ("login", "APPEND", "LMTP 8 KB")
"""What rows begin with whose figure is a rate; memory is in KiB, all else milliseconds."""


def unit(row: str) -> str:
    """The unit of a row's figure."""
    if row.startswith(PER_SECOND):
        return "/s"
    return "KiB" if row.startswith("memory") else "ms"
